"""`millstream docs`."""

from pathlib import Path
from typing import Annotated

import typer

from millstream.operate.cli.common import JsonOption, SystemOption


def docs(
    system: SystemOption = None,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the documents go.")] = Path("docs/events"),
    version: Annotated[str, typer.Option(metavar="VERSION", help="Of the interface, for AsyncAPI.")] = "1.0.0",
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail where a document is out of date.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write what the code declares: AsyncAPI 3, and a catalogue of every topic, event and field.

    Written are asyncapi.yaml (with --json: asyncapi.json), catalogue.md and catalogue.html, the same for the same code.
    Personal fields are masked in examples.

    Examples:

      millstream docs

      millstream docs --out build/docs --json

      millstream docs --check
    """
    import json

    from millstream.operate.documents.asyncapi import asyncapi
    from millstream.operate.documents.html import html
    from millstream.operate.documents.markdown import markdown
    from millstream.operate.documents.model import tell
    from millstream.operate.documents.yaml import to_yaml
    from millstream.operate.place import load_system

    told = tell(load_system(system))
    document = asyncapi(told, version)
    name, text = "asyncapi.yaml", to_yaml(document)
    if as_json:
        name, text = "asyncapi.json", json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    files = {name: text, "catalogue.md": markdown(told), "catalogue.html": html(told)}
    if check:
        stale = [at for of, text in files.items() if not (at := out / of).is_file() or at.read_text() != text]
        for at in stale:
            typer.echo(f"{at} is out of date: run `millstream docs` and commit it")
        raise typer.Exit(1 if stale else 0)
    out.mkdir(parents=True, exist_ok=True)
    for of, text in files.items():
        (out / of).write_text(text)
        typer.echo(out / of)
