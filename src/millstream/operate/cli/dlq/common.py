"""Parts that the commands for dead letters share: options, the connection to the cluster, a progress bar."""

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any

import typer

from millstream.operate.cli.common import cluster, tool_settings

if TYPE_CHECKING:
    from millstream.operate.dlq.context import DlqContext
    from millstream.operate.dlq.dead_letter import State
    from millstream.operate.dlq.filters import Filter
    from millstream.settings import Settings

RevealOption = Annotated[bool, typer.Option("--reveal", help="Show personal data, too.")]
AsOption = Annotated[
    str | None, typer.Option("--as", metavar="NAME", help="The name in the audit; default: user@host.")
]
CommentOption = Annotated[str | None, typer.Option("--comment", metavar="TEXT", help="Why, for the audit.")]
DryOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and write nothing.")]


@dataclass(frozen=True)
class Selection:
    """The options that select dead letters; all must match."""

    topic: Annotated[
        str | None, typer.Option("--topic", metavar="TOPIC", help="Only of this topic, such as orders.events.")
    ] = None
    error: Annotated[
        str | None, typer.Option("--error", metavar="CLASS", help="The class of the error; * and ? are wild.")
    ] = None
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="CODE", help="The short code; * and ? are wild.")
    ] = None
    key: Annotated[str | None, typer.Option("--key", metavar="KEY", help="The event's key.")] = None
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Failed since: 2026-03-01T12:00 (UTC), or 2h ago.")
    ] = None
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="Failed before.")] = None
    type: Annotated[
        str | None, typer.Option("--type", metavar="CLASS", help="The event's class; * and ? are wild.")
    ] = None
    schema: Annotated[
        int | None, typer.Option("--schema", metavar="ID", help="The schema id in front of its bytes.")
    ] = None
    service: Annotated[str | None, typer.Option("--service", metavar="NAME", help="The service that failed.")] = None

    def filter(self, states: "tuple[State, ...] | None") -> "Filter":
        """Return the filter of these options, without the topic. Raises `ConfigurationError`."""
        from millstream.errors import ConfigurationError
        from millstream.operate.dlq.audit import now
        from millstream.operate.dlq.filters import Filter, moment

        since = None if self.since is None else moment(self.since, now())
        until = None if self.until is None else moment(self.until, now())
        if since is not None and until is not None and since >= until:
            raise ConfigurationError(
                f"--since {self.since} is not before --until {self.until}: nothing is between them"
            )
        return Filter(
            error=self.error,
            reason=self.reason,
            key=self.key,
            since=since,
            until=until,
            type=self.type,
            schema=self.schema,
            service=self.service,
            states=states,
        )


def selecting(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `Selection` in place of its parameter `selection`."""
    options = inspect.signature(Selection).parameters

    @wraps(command)
    def run(**arguments: Any) -> None:
        command(selection=Selection(**{name: arguments.pop(name) for name in options}), **arguments)

    own = inspect.signature(command).parameters
    parameters = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, given in own.items()
        for parameter in (options.values() if name == "selection" else [given])
    ]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__dict__["__signature__"] = inspect.Signature(parameters)  # what typer reads options from
    return run


@contextmanager
def dlq_context(
    system: str | None, topic: str | None, service: str | None
) -> "Iterator[tuple[DlqContext, list[str], Settings]]":
    """Connect to the cluster; yields the context, the names of the dead letter topics, the settings. Writes nothing.

    - `topic`: only its dead letters.

    Raises `ConfigurationError` for a topic or service that does not exist, `Unavailable` without a broker.
    """
    from millstream.operate.dlq.audit import Audit
    from millstream.operate.dlq.context import DlqContext, Origins
    from millstream.operate.place import load_system

    origins = Origins(load_system(system))
    origins.check_service(service)
    settings, _ = tool_settings()
    with cluster(settings, "millstream-dlq") as (kafka, admin, existing):
        topics = origins.select(topic, existing)
        audit = Audit(kafka, admin, frozenset(topics))
        audit.refresh(settled=False)
        partitions = {name: found.partitions for name, found in existing.items()}
        yield DlqContext(kafka, admin, origins, audit, partitions), topics, settings


@contextmanager
def progress(total: Callable[[], int], *, streaming: bool) -> Iterator[Callable[[int], None] | None]:
    """Show a progress bar on standard error, if that is a terminal.

    - `streaming`: results are printed meanwhile; a terminal that shows them needs no bar.
    """
    if not sys.stderr.isatty() or (streaming and sys.stdout.isatty()):
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    # rich would redirect standard output to its own console, and so away from a pipe.
    with Progress(console=Console(stderr=True), transient=True, redirect_stdout=False) as bar:
        task = bar.add_task("Reading", total=total())
        yield lambda count: bar.advance(task, count)


def json_line(value: dict[str, Any]) -> None:
    """Write one JSON object on one line of standard output."""
    import json

    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()
