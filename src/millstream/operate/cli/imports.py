"""`millstream schemas import`."""

from pathlib import Path
from typing import Annotated

import typer


def import_(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE…", help="Schemas: .avsc, .proto or JSON Schema as .json.")
    ],
    key: Annotated[
        str | None, typer.Option(metavar="FIELD", help="Make the main class an event with this key.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write FILE.py for each into this folder; default: print.")
    ] = None,
    nearest: Annotated[
        bool, typer.Option("--nearest", help="Take the nearest type where none means the same, as int for int32.")
    ] = False,
) -> None:
    """Make Python classes of schema files, ready to commit. Their schemas mean the same as the files.

    Every result is run and its schema compared with the file; what no class can express is named, with a remedy.

    Examples:

      millstream schemas import order.avsc

      millstream schemas import order.avsc parcel.proto --key order_id --out shop/contracts

      millstream schemas import legacy.json --nearest
    """
    from millstream.operate.schemas.imports import import_file

    sources = {file: import_file(file, nearest=nearest, key=key) for file in files}
    for file, source in sources.items():
        if out is None:
            typer.echo(source, nl=False)
            continue
        out.mkdir(parents=True, exist_ok=True)
        written = out / f"{file.stem.replace('-', '_').replace('.', '_')}.py"
        written.write_text(source)
        typer.echo(written)
