"""Makes new bytes of an event: what a person wrote, checked against the class of its topic."""

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
from millstream.operate.dlq.letter import DeadLetter
from millstream.operate.dlq.system import Origins


@dataclass(frozen=True, slots=True)
class Edited:
    """A value that fits, and what is not as it was: paths, or `"$"` for a whole new value."""

    value: bytes
    headers: Headers
    changed: tuple[str, ...]


class Draft:
    """A letter's event as JSON, to be changed. `present`: as it is; `None` where its bytes cannot be read.

    Fields that are personal are masked, unless `reveal`; one that is left so keeps its value.

    - `named`: the class, where headers and topic do not say it.

    Raises `ConfigurationError` where nobody knows its class, and for a deletion, which has no fields.
    """

    def __init__(
        self,
        letter: DeadLetter,
        origins: Origins,
        contracts: Contracts,
        *,
        named: str | None = None,
        reveal: bool = False,
    ) -> None:
        self._letter, self._contracts = letter, contracts
        self.contract: type[Value] = origins.class_of(letter, named)
        self._topic = origins.topics[letter.at[0]]
        if letter.value is None and self._topic.tombstones != "refuse":
            # A value would make an event of it, under the id of the deletion.
            raise ConfigurationError(
                f"{letter.id} is a deletion: a record of {letter.at[0]} with a key and no value, so it has nothing to "
                f"edit. Mend the cause, then `millstream dlq redrive {letter.id}` has the key deleted; if it is to "
                f"stay, `millstream dlq discard {letter.id}`. Nothing was written"
            )
        self._real: Any = None
        try:
            event = contracts.decoder([self._topic]).decode(letter.value)
            if type(event) is self.contract:
                self._real = to_json(shape_of(self.contract), event)
        except DecodeError:  # then it is edited as it is
            pass
        self.present: Any = self._real if reveal else masked(self.contract, copy.deepcopy(self._real))

    def text(self) -> str:
        """For an editor."""
        return json.dumps({} if self.present is None else self.present, indent=2, ensure_ascii=False) + "\n"

    def with_fields(self, assignments: Sequence[str]) -> Edited:
        """The event with `path=value` for each. Raises `ConfigurationError` for a path that it does not have."""
        if self._real is None:
            raise ConfigurationError(
                f"{self._letter.id}: its bytes cannot be read, so no field of them can be set: give a whole new value "
                "with --value-file or $EDITOR"
            )
        value = copy.deepcopy(self._real)
        for assignment in assignments:
            path, equals, text = assignment.partition("=")
            if not equals:
                raise ConfigurationError(f"--set {assignment!r}: write FIELD=VALUE, such as --set lines.0.quantity=3")
            _assign(value, path, text)
        return self._checked(value)

    def with_text(self, text: str | bytes) -> Edited:
        """The event as JSON says it. Raises `ConfigurationError` where it does not fit."""
        try:
            given = json.loads(text)
        except UnicodeDecodeError as error:
            raise ConfigurationError(
                f"{self._letter.id}: the new value is no text in {error.encoding}: {error}. Save it in UTF-8"
            ) from None
        except ValueError as error:
            raise ConfigurationError(f"{self._letter.id}: the new value is no JSON: {error}") from None
        return self._checked(_unmasked(given, self.present, self._real))

    def _checked(self, value: Any) -> Edited:
        name, shape = self.contract.__name__, shape_of(self.contract)
        try:
            event = from_json(shape, value, name)
            kept = to_json(shape, event)
        except Exception as error:  # what a class's own __post_init__ raises, too
            if isinstance(error, Unfit) or (isinstance(error, ValueError) and not has_personal(self.contract)):
                detail = str(error)
            else:
                detail = f"{name}: {type(error).__name__}{'' if has_personal(self.contract) else f': {error}'}"
            raise self._misfit(detail) from None
        if (lost := next(_lost(value, kept, name), None)) is not None:
            raise self._misfit(f"{lost}: there is no such field")
        if kept == self._real:
            raise ConfigurationError(
                f"{self._letter.id}: nothing is changed; `millstream dlq redrive` takes it as it is"
            )
        key = key_of(cast(Contract, event)).encode()
        if self._letter.key is not None and key != self._letter.key:
            raise self._misfit(
                f"{name}: its key is {key.decode()!r} now, and was {self._letter.key.decode(errors='replace')!r}; "
                "an event of another key is another event"
            )
        try:
            data = self._contracts.encode(event)
        except EncodeError as error:
            raise self._misfit(str(error)) from None
        except MillstreamError as error:
            raise ConfigurationError(f"{self._letter.id}: {name} cannot be encoded: {error}") from error
        if self._topic.format == "cloudevents":
            data = self._whole(data)
        changed = ("$",) if self._real is None else tuple(_changes(self._real, kept, "$"))
        return Edited(data, self._headers(), changed)

    def _headers(self) -> Headers:
        """The event is the same one, so it keeps its id; only its class may have been wrong."""
        named = full_name(self.contract).encode()
        return [(name, named if name == "ce_type" else value) for name, value in self._letter.headers]

    def _whole(self, data: bytes) -> bytes:
        """The CloudEvent that it was, with other data."""
        named = {"type": full_name(self.contract), "datacontenttype": "application/json", "data": msgspec.Raw(data)}
        try:
            before = msgspec.json.decode(self._letter.value or b"", type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError):  # there was nothing readable before
            before = {}
        if "id" in before:
            return msgspec.json.encode({name: part for name, part in before.items() if name != "data_base64"} | named)
        if "ce_id" in dict(self._letter.headers):
            return structured(data, self._headers())
        raise ConfigurationError(
            f"{self._letter.id}: neither its headers nor its bytes say the id of the CloudEvent, so it cannot be "
            "the same event again: publish a new one, and discard this letter"
        )

    def _misfit(self, detail: str) -> ConfigurationError:
        return ConfigurationError(
            f"{self._letter.id} does not fit {full_name(self.contract)}. {detail}. Nothing was written; "
            f"`millstream schemas show {self.contract.__name__}` shows what fits"
        )


def _assign(value: Any, path: str, text: str) -> None:
    *above, last = path.split(".")
    place = value
    for step in above:
        place = _inside(place, step, path)
    before = _inside(place, last, path)
    place[int(last) if isinstance(place, list) else last] = _parsed(text, before)


def _inside(place: Any, step: str, path: str) -> Any:
    if isinstance(place, dict):
        found = cast("dict[str, Any]", place)
        if step in found:
            return found[step]
        known = ", ".join(found)
    elif isinstance(place, list):
        items = cast("list[Any]", place)
        if step.isdigit() and int(step) < len(items):
            return items[int(step)]
        known = f"{len(items)} items, numbered from 0"
    else:
        known = "nothing inside"
    raise ConfigurationError(f"--set {path}: there is no {step!r}; there is {known}")


def _parsed(text: str, before: Any) -> Any:
    """JSON where it is JSON; but what is text stays text, though it looks like a number."""
    try:
        found = json.loads(text)
    except ValueError:  # text is a value, too
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


def _lost(given: Any, kept: Any, path: str) -> Iterator[str]:
    """Paths that somebody gave and no field took."""
    if isinstance(given, dict) and isinstance(kept, dict):
        inside, taken = cast("dict[str, Any]", given), cast("dict[str, Any]", kept)
        for name, part in inside.items():
            if name in taken:
                yield from _lost(part, taken[name], f"{path}.{name}")
            else:
                yield f"{path}.{name}"
    elif isinstance(given, list) and isinstance(kept, list):
        for at, (part, other) in enumerate(zip(cast("list[Any]", given), cast("list[Any]", kept), strict=False)):
            yield from _lost(part, other, f"{path}[{at}]")


def _changes(before: Any, after: Any, path: str) -> Iterator[str]:
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        was, is_ = cast("dict[str, Any]", before), cast("dict[str, Any]", after)
        for name in {**was, **is_}:
            yield from _changes(was.get(name), is_.get(name), f"{path}.{name}")
    else:
        yield path
