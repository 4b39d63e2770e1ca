"""`millstream schemas`: check, diff, lock, register, show."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from millstream.operate.cli.common import JsonOption, SystemOption, print_json, tool_settings
from millstream.operate.cli.imports import import_
from millstream.operate.cli.lint import lint

if TYPE_CHECKING:
    from millstream.declare import System
    from millstream.operate.schemas.gate import Report
    from millstream.operate.schemas.history import History

EXIT_CODES = "Exit codes: 0 fine, 1 something was found, 2 wrong usage or configuration."

schemas = typer.Typer(
    help="Hold the schemas of the code against those of the registry or of a lock file.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    epilog=EXIT_CODES,
)
schemas.command("import", epilog=EXIT_CODES)(import_)
schemas.command(epilog=EXIT_CODES)(lint)
RegistryOption = Annotated[str | None, typer.Option("--registry", metavar="URL", help="Compare with this registry.")]
LockOption = Annotated[Path | None, typer.Option("--lock", metavar="FILE", help="Compare with this lock file.")]


@schemas.command(epilog=EXIT_CODES)
def check(
    system: SystemOption = None,
    registry: RegistryOption = None,
    lock: LockOption = None,
    locked: Annotated[
        bool, typer.Option("--locked", help="Fail on safe changes, too, that are not recorded yet.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Find the changes that would break readers or a running system, and say what to do about each.

    That is schemas; and with a lock file keys of classes, names of services, groups and handlers, and stores, too.
    Compared is with --registry or --lock; else with the registry that MILLSTREAM_REGISTRY_URL names, else with
    schemas.lock.json here or further up, else with the registry of a running `millstream up`.

    Examples:

      millstream schemas check

      millstream schemas check --lock schemas.lock.json --locked

      millstream schemas check --registry https://registry:8081 --json
    """
    report = _compared(system, registry, lock)
    waiting = [verdict.declared.subject for verdict in report.unrecorded] if locked else []
    if locked and report.has_new_identities:
        waiting.append("keys, services, groups, handlers and stores")
    if as_json:
        print_json(_as_json(report))
    else:
        _print_findings(report)
        typer.echo(_summary(report))
        if waiting and not report.breaking:
            typer.echo("  → not recorded yet: " + ", ".join(waiting) + ". Run `millstream schemas lock` and commit it")
    raise typer.Exit(1 if report.breaking or waiting else 0)


@schemas.command(epilog=EXIT_CODES)
def diff(
    system: SystemOption = None,
    registry: RegistryOption = None,
    lock: LockOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what has changed since the newest version of each schema, field by field. Differences are no failure.

    Examples:

      millstream schemas diff

      millstream schemas diff --registry http://127.0.0.1:8081
    """
    from millstream.operate.schemas.difference import difference

    report = _compared(system, registry, lock)
    rows: list[dict[str, Any]] = []
    for verdict in report.unrecorded:
        declared, before = verdict.declared, verdict.latest
        comparable = before is not None and before.type == declared.type
        lines = difference(declared.type, before.text, declared.text) if before is not None and comparable else []
        row = {"topic": declared.topic, "class": declared.name, "state": verdict.state}
        rows.append(row | {"breaking": bool(verdict.findings), "changes": lines})
    rows += [{"subject": subject, "state": "gone", "breaking": True, "changes": []} for subject in report.gone]
    if as_json:
        print_json(rows)
        return
    for finding in report.breaking:
        if not finding.level:
            typer.echo(f"{finding.topic or finding.contract}  {finding.rule}, breaking\n  ~ {finding.problem}")
    for row in rows:
        place = row.get("subject") or f"{row['topic']}  {row['class']}"
        typer.echo(f"{place}  {row['state']}{', breaking' if row['breaking'] else ''}")
        for line in row["changes"]:
            typer.echo(f"  {line}")
    typer.echo(_summary(report))


@schemas.command(epilog=EXIT_CODES)
def lock(
    system: SystemOption = None,
    file: Annotated[Path | None, typer.Option("--lock", metavar="FILE", help="Write this file.")] = None,
    accept_breaking: Annotated[
        bool, typer.Option("--accept-breaking", help="Record breaking changes, too: no reader or record is left.")
    ] = False,
    compatibility: Annotated[
        str | None, typer.Option(metavar="LEVEL", help="The level for all, from now on; at first BACKWARD.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Record the schemas of the code in a lock file, to be committed. A breaking change is refused.

    Examples:

      millstream schemas lock

      millstream schemas lock --compatibility FULL_TRANSITIVE

      millstream schemas lock --accept-breaking
    """
    from millstream.operate.place import load_system
    from millstream.operate.schemas.gate import compare
    from millstream.operate.schemas.lock import LOCK_NAME, Lock

    found = load_system(system)
    path = file or _lock_file() or _project_folder() / LOCK_NAME
    kept = Lock.read(path) if path.exists() else Lock(path)
    if compatibility is not None:
        kept.set_level(compatibility)
    report = compare(found, kept)
    if report.breaking and not accept_breaking:
        if as_json:
            print_json(_as_json(report))
            raise typer.Exit(1)
        _print_findings(report)
        typer.echo(f"{path} is as it was: {_count(len(report.breaking), 'breaking change')}", err=True)
        raise typer.Exit(1)
    for verdict in report.unrecorded:
        kept.add(verdict.declared)
    for subject in report.gone:
        kept.forget(subject)
    kept.set_identities(report.identities)
    kept.write()
    if as_json:
        print_json(_as_json(report))
        return
    typer.echo(f"{path}: {len(kept.subjects())} schemas, {len(report.unrecorded)} recorded, {len(report.gone)} dropped")


@schemas.command(epilog=EXIT_CODES)
def register(system: SystemOption = None, registry: RegistryOption = None, as_json: JsonOption = False) -> None:
    """Register the schemas of the code. All or none: where one would break readers, none is registered.

    Examples:

      millstream schemas register

      millstream schemas register --registry https://user:password@registry:8081
    """
    from millstream.operate.place import load_system
    from millstream.operate.schemas.gate import compare
    from millstream.operate.schemas.history import RegistryHistory

    found = load_system(system)
    kept = RegistryHistory(registry or tool_settings()[0].registry_url)
    report = compare(found, kept)
    if report.breaking:
        if as_json:
            print_json(_as_json(report))
        else:
            _print_findings(report)
            typer.echo(f"Nothing was registered: {_count(len(report.breaking), 'breaking change')}", err=True)
        raise typer.Exit(1)
    ids = {
        verdict.declared.subject: kept.add(verdict.declared.subject, verdict.declared.type, verdict.declared.text)
        for verdict in report.verdicts
    }
    if as_json:
        print_json(ids)
    else:
        typer.echo(f"{kept}: {len(ids)} schemas, {len(report.unrecorded)} of them new")


@schemas.command(epilog=EXIT_CODES)
def show(
    name: Annotated[str, typer.Argument(metavar="CLASS", help="The class, such as OrderCreated.")],
    system: SystemOption = None,
    format: Annotated[
        str | None, typer.Option(metavar="FORMAT", help="avro, protobuf or json_schema; default: its topic's.")
    ] = None,
) -> None:
    """Print the schema of one class.

    Examples:

      millstream schemas show OrderCreated

      millstream schemas show OrderCreated --format avro
    """
    import json

    from millstream.operate.place import load_system
    from millstream.operate.schemas.declared import TYPES, find_class, schema_in

    contract, own = find_class(load_system(system), name)
    text = schema_in(format or (own if own in TYPES else "json_schema"), contract)
    try:
        text = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except ValueError:
        text = text.rstrip()
    typer.echo(text)


def _compared(place: str | None, registry: str | None, lock: Path | None) -> "Report":
    from millstream.errors import ConfigurationError
    from millstream.operate.place import load_system
    from millstream.operate.schemas.gate import compare
    from millstream.operate.schemas.lock import Lock

    if registry is not None and lock is not None:
        raise ConfigurationError("--registry and --lock are two histories; give one of them")
    found: System = load_system(place)
    history, beside = _history(registry, lock), _lock_file()
    return compare(found, history, None if beside is None else Lock.read(beside))


def _history(registry: str | None, lock: Path | None) -> "History":
    from millstream.errors import ConfigurationError
    from millstream.operate.schemas.history import RegistryHistory
    from millstream.operate.schemas.lock import Lock

    if registry is not None:
        return RegistryHistory(registry)
    if lock is not None:
        return Lock.read(lock)
    settings, sources = tool_settings()
    source = sources.get("MILLSTREAM_REGISTRY_URL")
    if source == "environment":
        return RegistryHistory(settings.registry_url)
    if (file := _lock_file()) is not None:
        return Lock.read(file)
    if source is not None:
        return RegistryHistory(settings.registry_url)
    raise ConfigurationError(
        "There is nothing to compare with. Record the schemas with `millstream schemas lock` and commit the file, or "
        "name a registry with --registry or MILLSTREAM_REGISTRY_URL."
    )


def _lock_file() -> Path | None:
    from millstream.operate.schemas.lock import LOCK_NAME

    folder = Path.cwd()
    return next((file for at in (folder, *folder.parents) if (file := at / LOCK_NAME).is_file()), None)


def _project_folder() -> Path:
    folder = Path.cwd()
    return next((at for at in (folder, *folder.parents) if (at / "pyproject.toml").is_file()), folder)


def _print_findings(report: "Report") -> None:
    for finding in report.breaking:
        typer.echo(f"{finding}\n")


def _summary(report: "Report") -> str:
    parts = [
        _count(len(report.breaking), "breaking change"),
        _count(len([v for v in report.verdicts if v.state == "changed" and not v.findings]), "safe change"),
        f"{len(report.of_state('new'))} new",
        f"{len(report.of_state('same'))} unchanged",
    ]
    told = f"Compared with {report.history}: {', '.join(parts)}"
    if report.recorded is None:
        told += (
            "\nKeys, services, groups, handlers and stores are recorded nowhere, so their changes were not looked for: "
            "`millstream schemas lock` records them"
        )
    return told


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _as_json(report: "Report") -> dict[str, Any]:
    return {
        "compared_with": str(report.history),
        "breaking": [finding.as_dict() for finding in report.breaking],
        "changed": report.of_state("changed"),
        "new": report.of_state("new"),
        "same": report.of_state("same"),
        "gone": list(report.gone),
        "identities": "unknown" if report.recorded is None else "changed" if report.has_new_identities else "same",
    }
