"""Python classes from the schemas of others: Avro, Protobuf and JSON Schema files."""

from pathlib import Path

from millstream.errors import ConfigurationError, DeclarationError
from millstream.operate.schemas.imports.module import Module, Refused

READERS = {".avsc": "avro", ".proto": "protobuf", ".json": "json_schema"}


def import_file(path: Path, *, nearest: bool = False, key: str | None = None) -> str:
    """The source of a module with the classes of a schema file, so that their schema means the same as the file.

    - `nearest`: take the nearest type where there is none that means the same, such as a longer number.
    - `key`: the field that makes an event of the main class.

    Raises `DeclarationError` naming the file and the construct that no class can express, `ConfigurationError` for a
    file that is not there or of another kind.
    """
    language = READERS.get(path.suffix)
    if language is None:
        raise ConfigurationError(f"{path}: is it Avro, Protobuf or JSON Schema? Name it .avsc, .proto or .json")
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: {error}") from None
    try:
        return import_text(language, text, path.stem, nearest=nearest, key=key, origin=path.name)
    except Refused as refused:
        raise DeclarationError(f"{path}: {refused}") from None


def import_text(
    language: str, text: str, name: str, *, nearest: bool = False, key: str | None = None, origin: str = "a schema"
) -> str:
    """As `import_file`, from text. `name` is that of the main class where the schema gives none. Raises `Refused`."""
    from millstream.operate.schemas.imports.verify import verify

    module = Module(origin, nearest=nearest, key=key)
    if language == "avro":
        from millstream.operate.schemas.imports.avro import read_avro

        read_avro(text, module)
    elif language == "protobuf":
        from millstream.operate.schemas.imports.protobuf import read_protobuf

        read_protobuf(text, module)
    else:
        from millstream.operate.schemas.imports.json_schema import read_json_schema

        read_json_schema(text, name, module)
    source = module.source()
    verify(language, text, source, module)
    return source
