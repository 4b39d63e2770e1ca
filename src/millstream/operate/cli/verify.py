"""`millstream verify`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from millstream.operate.cli.common import (
    JsonOption,
    SystemOption,
    cluster,
    plain_table,
    print_json,
    print_table,
    tool_settings,
)
from millstream.operate.cli.dlq.common import json_line, progress

if TYPE_CHECKING:
    from datetime import timedelta

    from millstream.declare import System
    from millstream.operate.verify import Report, Unjudged, Verification, Violation

    Known = dict[tuple[str, str, str, str], Violation | Unjudged]

EXIT_CODES = (
    "Exit codes: 0 every invariant holds, 1 there are violations, 2 an invariant is broken, so that nobody can say, or "
    "the log cannot be read, or wrong usage, 4 it hung (with --follow)."
)
EVERY = 1.0
"""Seconds between two looks with --follow."""
SILENT = 120.0
"""Seconds without a whole look after which the process is not healthy."""
FOLLOWING = 60.0
"""Seconds of grace with --follow, unless --grace says otherwise."""
SHOWN = 200
"""Violations that a person is shown; --json has them all."""


def verify(
    follow: Annotated[bool, typer.Option("--follow", help="Go on until SIGTERM or Ctrl-C, with /metrics.")] = False,
    grace: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="What had an event so lately may still go on. Default: 0, and 60 with --follow.",
        ),
    ] = None,
    system: SystemOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hold the log to the invariants of the system, and show each violation with the events that prove it.

    Every topic concerned is read from its beginning. With --follow each violation is a line when it appears and when it
    is gone; `GET /metrics` and `/health` are at MILLSTREAM_HTTP. `millstream help verify` says how
    invariants are declared.

    Examples:

      millstream verify

      millstream verify --grace 60 --json

      millstream verify --follow --grace 120
    """
    from datetime import timedelta

    from millstream.errors import MillstreamError
    from millstream.operate.place import load_system

    found = load_system(system)
    patience = timedelta(seconds=(FOLLOWING if follow else 0.0) if grace is None else grace)
    try:
        report = _follow(found, patience, as_json=as_json) if follow else _once(found, patience, as_json=as_json)
    except MillstreamError as error:  # 1 says that there are violations
        typer.echo(f"millstream: {error}", err=True)
        raise typer.Exit(2) from None
    if report is not None and (report.violations or report.unjudged):
        raise typer.Exit(1 if report.violations else 2)


@contextmanager
def _opened(system: "System") -> "Iterator[Verification]":
    from millstream.contracts import Contracts, Registry
    from millstream.operate.verify import Verification

    settings, _ = tool_settings()
    with cluster(settings, "millstream-verify") as (kafka, admin, there):
        yield Verification(system, kafka, admin, Contracts(Registry(settings.registry_url)), there)


def _once(system: "System", grace: "timedelta", *, as_json: bool) -> "Report":
    with _opened(system) as verification, progress(verification.size, streaming=False) as verification.on_read:
        report = verification.look(grace)
    if as_json:
        print_json(report.json())
    else:
        _print(report)
    return report


def _print(report: "Report") -> None:
    _print_findings(report.violations, "what is wrong", "proof")
    _print_findings(report.unjudged, "why it cannot be judged", "events")
    for place, why in list(report.unreadable.items())[:SHOWN]:
        typer.echo(f"cannot be read: {place}: {why}")
    for topic in report.missing:
        typer.echo(f"not there: {topic}", err=True)
    unreadable = sum(report.undecodable.values())
    counted = {"violations": len(report.violations), "cannot be judged": len(report.unjudged)}
    found = ", ".join(f"{number} {what}" for what, number in counted.items() if number) or "nothing to report"
    typer.echo(
        f"{found}: {report.events} events, {report.cases} cases, {report.under_way} of them under way, "
        f"{unreadable} records that cannot be read"
    )
    if report.waiting:
        typer.echo(
            f"Something is under way, so not judged: {', '.join(report.waiting)}. Run it again when all is quiet."
        )


def _print_findings(findings: "tuple[Violation | Unjudged, ...]", *columns: str) -> None:
    if not findings:
        return
    table = plain_table("invariant", "key", *columns)
    for finding in findings[:SHOWN]:
        table.add_row(*finding[:3], "\n".join(fact.place for fact in finding.evidence))
    print_table(table)
    if len(findings) > SHOWN:
        typer.echo(f"… and {len(findings) - SHOWN} more; --json shows all")


def _follow(system: "System", grace: "timedelta", *, as_json: bool) -> "Report | None":
    """Answers the last look. Passing troubles are logged and waited out, but for the first look."""
    from millstream.errors import MillstreamError
    from millstream.operate.watch import watched_tool
    from millstream.telemetry import Health, get_logger

    settings, _ = tool_settings()
    log, health = get_logger(__name__), Health()
    beat = health.heartbeat("looks", SILENT)
    report: Report | None = None
    with watched_tool("verify", settings, health) as stop, _opened(system) as verification:
        known: Known = {}
        while not stop.is_set():
            try:
                report = verification.look(grace)
                beat.beat()
            except MillstreamError as error:
                if not error.retriable:
                    raise
                log.warning("verifying is held up", code="verify_held_up", error=str(error), error_code=error.code)
            else:
                known = _tell_changes(known, report, as_json=as_json)
            stop.wait(EVERY)
    return report


def _tell_changes(known: "Known", report: "Report", *, as_json: bool) -> "Known":
    from millstream.operate.verify.verification import told

    found = {"violated": report.violations, "unjudged": report.unjudged}
    now: Known = {(what, *finding[:3]): finding for what, findings in found.items() for finding in findings}
    changes = [(name[0], now[name]) for name in now.keys() - known.keys()]
    changes += [("gone", known[name]) for name in known.keys() - now.keys()]
    for what, finding in sorted(changes, key=lambda change: change[1][:3]):
        if as_json:
            json_line({"event": what} | told(finding))
        else:
            proof = ", ".join(fact.place for fact in finding.evidence)
            typer.echo(f"{what:<8} {finding.invariant}: {finding.key}: {finding.sentence} ({proof})")
    return now
