"""Encodes an edited event: JSON that an operator wrote, checked against the class of its topic."""

import copy
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import msgspec

from millstream.contracts import Contracts, Headers
from millstream.contracts.cloudevents import structured
from millstream.contracts.json_forms import Unfit, from_json, to_json
from millstream.declare import Contract, Value, full_name
from millstream.declare.contract import key_of
from millstream.declare.personal import MASK, has_personal, masked
from millstream.declare.reading import shape_of
from millstream.errors import ConfigurationError, DecodeError, EncodeError, MillstreamError
from millstream.operate.dlq.context import Origins
from millstream.operate.dlq.dead_letter import DeadLetter


@dataclass(frozen=True, slots=True)
class Edited:
    """A new value that fits its class. `changed`: the paths that differ from before, or `"$"` for a whole new value."""

    value: bytes
    headers: Headers
    changed: tuple[str, ...]


class Draft:
    """A dead letter's event as JSON, to be edited. `present`: as it is; `None` where its bytes cannot be read.

    Personal fields are masked, unless `reveal`; a field that stays masked keeps its value.

    - `named`: the class, where headers and topic do not say it.

    Raises `ConfigurationError` where its class is not known, and for a deletion, which has no fields.
    """

    def __init__(
        self,
        dead_letter: DeadLetter,
        origins: Origins,
        contracts: Contracts,
        *,
        named: str | None = None,
        reveal: bool = False,
    ) -> None:
        self._dead_letter, self._contracts = dead_letter, contracts
        self.contract: type[Value] = origins.class_of(dead_letter, named)
        self._topic = origins.topics[dead_letter.at[0]]
        if dead_letter.value is None and self._topic.tombstones != "refuse":
            # A value would make an event of it, under the id of the deletion.
            raise ConfigurationError(
                f"{dead_letter.id} is a deletion: a record of {dead_letter.at[0]} with a key and no value, so it has "
                f"nothing to edit. Remove the cause, then `millstream dlq redrive {dead_letter.id}` has the key "
                f"deleted; if it is to stay, `millstream dlq discard {dead_letter.id}`. Nothing was written"
            )
        self._real: Any = None
        try:
            event = contracts.decoder([self._topic]).decode(dead_letter.value)
            if type(event) is self.contract:
                self._real = to_json(shape_of(self.contract), event)
        except DecodeError:  # it takes a whole new value
            pass
        self.present: Any = self._real if reveal else masked(self.contract, copy.deepcopy(self._real))

    def text(self) -> str:
        """Return the event as indented JSON, for an editor."""
        return json.dumps({} if self.present is None else self.present, indent=2, ensure_ascii=False) + "\n"

    def with_fields(self, assignments: Sequence[str]) -> Edited:
        """Return the event with `path=value` for each. Raises `ConfigurationError` for a path that it does not have."""
        if self._real is None:
            raise ConfigurationError(
                f"{self._dead_letter.id}: its bytes cannot be read, so no field of them can be set: give a whole "
                "new value with --value-file or $EDITOR"
            )
        value = copy.deepcopy(self._real)
        for assignment in assignments:
            path, equals, text = assignment.partition("=")
            if not equals:
                raise ConfigurationError(f"--set {assignment!r}: write FIELD=VALUE, such as --set lines.0.quantity=3")
            _assign(value, path, text)
        return self._checked(value)

    def with_text(self, text: str | bytes) -> Edited:
        """Return the event that the JSON describes. Raises `ConfigurationError` where it does not fit."""
        try:
            given = json.loads(text)
        except UnicodeDecodeError as error:
            raise ConfigurationError(
                f"{self._dead_letter.id}: the new value is no text in {error.encoding}: {error}. Save it in UTF-8"
            ) from None
        except ValueError as error:
            raise ConfigurationError(f"{self._dead_letter.id}: the new value is no JSON: {error}") from None
        return self._checked(_unmasked(given, self.present, self._real))

    def _checked(self, value: Any) -> Edited:
        name, shape = self.contract.__name__, shape_of(self.contract)
        try:
            event = from_json(shape, value, name)
            taken = to_json(shape, event)
        except Exception as error:  # also what a class's own __post_init__ raises
            if isinstance(error, Unfit) or (isinstance(error, ValueError) and not has_personal(self.contract)):
                detail = str(error)
            else:
                detail = f"{name}: {type(error).__name__}{'' if has_personal(self.contract) else f': {error}'}"
            raise self._does_not_fit(detail) from None
        if (unknown := next(_unknown(value, taken, name), None)) is not None:
            raise self._does_not_fit(f"{unknown}: there is no such field")
        if taken == self._real:
            raise ConfigurationError(
                f"{self._dead_letter.id}: nothing is changed; `millstream dlq redrive` takes it as it is"
            )
        key = key_of(cast(Contract, event)).encode()
        if self._dead_letter.key is not None and key != self._dead_letter.key:
            raise self._does_not_fit(
                f"{name}: its key is {key.decode()!r} now, and was {self._dead_letter.key.decode(errors='replace')!r}; "
                "an event of another key is another event"
            )
        try:
            data = self._contracts.encode(event)
        except EncodeError as error:
            raise self._does_not_fit(str(error)) from None
        except MillstreamError as error:
            raise ConfigurationError(f"{self._dead_letter.id}: {name} cannot be encoded: {error}") from error
        if self._topic.format == "cloudevents":
            data = self._cloudevent(data)
        changed = ("$",) if self._real is None else tuple(_changes(self._real, taken, "$"))
        return Edited(data, self._headers(), changed)

    def _headers(self) -> Headers:
        """Return the event's headers. It is the same event, so it keeps its id; only the class may have been wrong."""
        named = full_name(self.contract).encode()
        return [(name, named if name == "ce_type" else value) for name, value in self._dead_letter.headers]

    def _cloudevent(self, data: bytes) -> bytes:
        """Return the CloudEvent that it was, with other data."""
        named = {"type": full_name(self.contract), "datacontenttype": "application/json", "data": msgspec.Raw(data)}
        try:
            before = msgspec.json.decode(self._dead_letter.value or b"", type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError):  # its bytes were not readable
            before = {}
        if "id" in before:
            return msgspec.json.encode({name: part for name, part in before.items() if name != "data_base64"} | named)
        if "ce_id" in dict(self._dead_letter.headers):
            return structured(data, self._headers())
        raise ConfigurationError(
            f"{self._dead_letter.id}: neither its headers nor its bytes say the id of the CloudEvent, so it cannot be "
            "the same event again: publish a new one, and discard this dead letter"
        )

    def _does_not_fit(self, detail: str) -> ConfigurationError:
        return ConfigurationError(
            f"{self._dead_letter.id} does not fit {full_name(self.contract)}. {detail}. Nothing was written; "
            f"`millstream schemas show {self.contract.__name__}` shows what fits"
        )


def _assign(value: Any, path: str, text: str) -> None:
    *above, last = path.split(".")
    parent = value
    for name in above:
        parent = _child(parent, name, path)
    before = _child(parent, last, path)
    parent[int(last) if isinstance(parent, list) else last] = _parsed(text, before)


def _child(parent: Any, name: str, path: str) -> Any:
    if isinstance(parent, dict):
        found = cast("dict[str, Any]", parent)
        if name in found:
            return found[name]
        known = ", ".join(found)
    elif isinstance(parent, list):
        items = cast("list[Any]", parent)
        if name.isdigit() and int(name) < len(items):
            return items[int(name)]
        known = f"{len(items)} items, numbered from 0"
    else:
        known = "nothing inside"
    raise ConfigurationError(f"--set {path}: there is no {name!r}; there is {known}")


def _parsed(text: str, before: Any) -> Any:
    """Return the text parsed as JSON if it is JSON; a text field stays text, though it looks like a number."""
    try:
        found = json.loads(text)
    except ValueError:  # plain text
        return text
    return text if isinstance(before, str) and not isinstance(found, str | None) else found


def _unmasked(given: Any, shown: Any, real: Any) -> Any:
    if given == MASK and shown == MASK:
        return real
    if isinstance(given, dict) and isinstance(shown, dict) and isinstance(real, dict):
        inside, before, was = cast("dict[str, Any]", given), cast("dict[str, Any]", shown), cast("dict[str, Any]", real)
        return {name: _unmasked(part, before.get(name), was.get(name)) for name, part in inside.items()}
    if isinstance(given, list) and isinstance(shown, list) and isinstance(real, list):
        items = cast("list[Any]", given)
        pairs = [*zip(cast("list[Any]", shown), cast("list[Any]", real), strict=True)]
        pairs += [(None, None)] * (len(items) - len(pairs))
        return [_unmasked(part, *pair) for part, pair in zip(items, pairs, strict=False)]
    return given


def _unknown(given: Any, taken: Any, path: str) -> Iterator[str]:
    """Yield the paths that were given and that no field took."""
    if isinstance(given, dict) and isinstance(taken, dict):
        inside, fields = cast("dict[str, Any]", given), cast("dict[str, Any]", taken)
        for name, part in inside.items():
            if name in fields:
                yield from _unknown(part, fields[name], f"{path}.{name}")
            else:
                yield f"{path}.{name}"
    elif isinstance(given, list) and isinstance(taken, list):
        for at, (part, other) in enumerate(zip(cast("list[Any]", given), cast("list[Any]", taken), strict=False)):
            yield from _unknown(part, other, f"{path}[{at}]")


def _changes(before: Any, after: Any, path: str) -> Iterator[str]:
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        was, is_ = cast("dict[str, Any]", before), cast("dict[str, Any]", after)
        for name in {**was, **is_}:
            yield from _changes(was.get(name), is_.get(name), f"{path}.{name}")
    else:
        yield path
