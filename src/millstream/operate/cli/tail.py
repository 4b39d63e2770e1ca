"""`millstream tail`."""

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from millstream.operate.cli.common import JsonOption, SystemOption, cluster, say_none, tool_settings

if TYPE_CHECKING:
    from millstream.contracts import Contracts
    from millstream.kafka import Kafka, Message
    from millstream.operate.masking import Masking

SHOWN_BYTES = 64
"""Bytes of an undecodable value that are shown, in hexadecimal."""
DEAD_LETTER = "millstream-dlq-"


def tail(
    topic: Annotated[str, typer.Argument(help="The topic, such as orders.events or orders.events.dlq.")],
    from_beginning: Annotated[bool, typer.Option("--from-beginning", help="Start with the oldest record.")] = False,
    most: Annotated[int | None, typer.Option("--max", min=1, metavar="N", help="Stop after N records.")] = None,
    follow: Annotated[bool, typer.Option(help="Wait for more at the end.")] = True,
    reveal: Annotated[bool, typer.Option("--reveal", help="Show personal data, too.")] = False,
    system: SystemOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the records of a topic, decoded, as they are committed. Ctrl-C ends it.

    What the system declares as Personal is masked. Where no system can be found, it is not known what is personal: then
    values are hidden.

    Examples:

      millstream tail orders.events

      millstream tail orders.events.dlq --from-beginning --no-follow

      millstream tail orders.events --max 10 --json

      millstream tail orders.events --reveal
    """
    from millstream.contracts import Contracts, Registry
    from millstream.errors import ConfigurationError, did_you_mean
    from millstream.operate.masking import masking_of

    masking = None if reveal else masking_of(system)
    settings, _ = tool_settings()
    contracts = Contracts(Registry(settings.registry_url))
    show = _as_json if as_json else _as_line
    with cluster(settings, "millstream-tail") as (kafka, _, there):
        if topic not in there:
            raise ConfigurationError(
                f"There is no topic {topic!r}{did_you_mean(topic, there)}; `millstream topics --all` lists all"
            )
        if follow:
            messages = _following(kafka, topic, from_beginning=from_beginning)
        else:
            messages = (message for batch in kafka.read_to_end(topic) for message in batch)
        number = 0
        try:
            for number, message in enumerate(messages, 1):
                sys.stdout.write(show(describe(message, contracts, masking)) + "\n")
                sys.stdout.flush()
                if number == most:
                    return
        except KeyboardInterrupt:  # how one ends it
            return
        if not number:
            say_none(f"{topic} has no records.")


def describe(message: "Message", contracts: "Contracts", masking: "Masking | None" = None) -> dict[str, Any]:
    """Return a record's metadata and decoded value, masked by `masking`. Never raises for what it holds."""
    from millstream.errors import DecodeError
    from millstream.kafka.unreadable import has_unreadable_headers, headers_of

    headers = {name: None if value is None else value.decode(errors="replace") for name, value in headers_of(message)}
    key, value = message.key(), message.value()
    told: dict[str, Any] = {
        "topic": message.topic(),
        "partition": message.partition(),
        "offset": message.offset(),
        "time": _time(message),
        "key": None if key is None else key.decode(errors="replace"),
        "type": headers.get("ce_type"),
        "id": headers.get("ce_id"),
        "correlation_id": headers.get("correlationid"),
    }
    told |= {name: text for name, text in headers.items() if name.startswith(DEAD_LETTER)}
    if has_unreadable_headers(message):
        told["headers_unreadable"] = True
    topic = message.topic().removesuffix(".dlq")
    if value is None:
        told["value"] = None
    else:
        try:
            told["value"] = contracts.decode_any(topic, value)
        except DecodeError as error:
            told |= {"undecodable": str(error), "bytes": len(value), "hex": value[:SHOWN_BYTES].hex()}
    return told if masking is None else masking.masked(topic, told)


def _following(kafka: "Kafka", topic: str, *, from_beginning: bool) -> Iterator["Message"]:
    from millstream.contracts import edge_id
    from millstream.kafka import BEGINNING, END

    start = BEGINNING if from_beginning else END
    # A group of its own that commits nothing: it reads every partition, and leaves no trace.
    consumer = kafka.consumer(f"millstream-tail-{edge_id()}")
    consumer.subscribe([topic], on_assigned=lambda partitions: dict.fromkeys(partitions, start))
    try:
        while True:
            yield from consumer.poll_batch(200, 0.2)
    finally:
        consumer.close()


def _time(message: "Message") -> str | None:
    kind, milliseconds = message.timestamp()
    if not kind or milliseconds < 0:
        return None
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):  # a time that no calendar has is shown as none
        return None


def _as_json(told: dict[str, Any]) -> str:
    return json.dumps(told, ensure_ascii=False, default=str)


def _as_line(told: dict[str, Any]) -> str:
    place = f"{told['topic']}[{told['partition']}]@{told['offset']}"
    if "undecodable" in told:
        content = f"{told['bytes']} bytes {told['hex']} ({told['undecodable']})"
    else:
        content = json.dumps(told["value"], ensure_ascii=False, default=str)
    reason = told.get(f"{DEAD_LETTER}reason")
    dead = f"dead letter of {told.get(f'{DEAD_LETTER}service')}: {reason}" if reason else None
    lost = "(headers unreadable)" if told.get("headers_unreadable") else None
    parts = (told["time"], place, told["key"], told["type"], dead, lost, content)
    return " ".join(str(part) for part in parts if part)
