"""Parts that the commands for dead letters share: options, the way to the cluster, progress on a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from millstream.operate.cli.common import cluster, tool_settings

if TYPE_CHECKING:
    from millstream.operate.dlq.filters import Filter
    from millstream.operate.dlq.letter import State
    from millstream.operate.dlq.office import Office
    from millstream.settings import Settings

TopicOption = Annotated[
    str | None, typer.Option("--topic", metavar="TOPIC", help="Only of this topic, such as orders.events.")
]
ErrorOption = Annotated[
    str | None, typer.Option("--error", metavar="CLASS", help="The class of the error; * and ? are wild.")
]
ReasonOption = Annotated[str | None, typer.Option("--reason", metavar="CODE", help="The short code; * and ? are wild.")]
KeyOption = Annotated[str | None, typer.Option("--key", metavar="KEY", help="The event's key.")]
SinceOption = Annotated[
    str | None, typer.Option("--since", metavar="TIME", help="Failed since: 2026-03-01T12:00 (UTC), or 2h ago.")
]
UntilOption = Annotated[str | None, typer.Option("--until", metavar="TIME", help="Failed before.")]
TypeOption = Annotated[str | None, typer.Option("--type", metavar="CLASS", help="The event's class; * and ? are wild.")]
SchemaOption = Annotated[
    int | None, typer.Option("--schema", metavar="ID", help="The schema id in front of its bytes.")
]
ServiceOption = Annotated[str | None, typer.Option("--service", metavar="NAME", help="The service that failed.")]
RevealOption = Annotated[bool, typer.Option("--reveal", help="Show personal data, too.")]
AsOption = Annotated[str | None, typer.Option("--as", metavar="NAME", help="Who does it; default: user@host.")]
CommentOption = Annotated[str | None, typer.Option("--comment", metavar="TEXT", help="Why, for the audit.")]
DryOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and write nothing.")]


def filter_of(
    *,
    error: str | None,
    reason: str | None,
    key: str | None,
    since: str | None,
    until: str | None,
    type: str | None,
    schema: int | None,
    service: str | None,
    states: "tuple[State, ...] | None",
) -> "Filter":
    """The filter that the options mean. Raises `ConfigurationError`."""
    from millstream.errors import ConfigurationError
    from millstream.operate.dlq.audit import now
    from millstream.operate.dlq.filters import Filter, moment

    begin = None if since is None else moment(since, now())
    end = None if until is None else moment(until, now())
    if begin is not None and end is not None and begin >= end:
        raise ConfigurationError(f"--since {since} is not before --until {until}: nothing is between them")
    return Filter(error, reason, key, begin, end, type, schema, service, states)


@contextmanager
def office(
    system: str | None, topic: str | None, service: str | None
) -> "Iterator[tuple[Office, list[str], Settings]]":
    """The cluster with all that is known of its dead letters, and their topics. Nothing is written.

    - `topic`: only its dead letters.

    Raises `ConfigurationError` for a topic or service that is not there, `Unavailable` without a broker.
    """
    from millstream.operate.dlq.audit import Audit
    from millstream.operate.dlq.office import Office
    from millstream.operate.dlq.system import Origins
    from millstream.operate.place import load_system

    origins = Origins(load_system(system))
    origins.check_service(service)
    settings, _ = tool_settings()
    with cluster(settings, "millstream-dlq") as (kafka, admin, there):
        topics = origins.chosen(topic, there)
        audit = Audit(kafka, admin, frozenset(topics))
        audit.refresh(settled=False)
        yield (
            Office(kafka, admin, origins, audit, {name: found.partitions for name, found in there.items()}),
            topics,
            settings,
        )


@contextmanager
def progress(total: Callable[[], int], *, streaming: bool) -> Iterator[Callable[[int], None] | None]:
    """A bar on standard error, where somebody looks at that.

    - `streaming`: lines come meanwhile, so that whoever sees those needs no bar.
    """
    if not sys.stderr.isatty() or (streaming and sys.stdout.isatty()):
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    # rich would write what goes to standard output to its own console, which is not where a pipe expects it.
    with Progress(console=Console(stderr=True), transient=True, redirect_stdout=False) as bar:
        task = bar.add_task("Reading", total=total())
        yield lambda count: bar.advance(task, count)


def json_line(value: dict[str, Any]) -> None:
    """One JSON object on one line of standard output."""
    import json

    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()
