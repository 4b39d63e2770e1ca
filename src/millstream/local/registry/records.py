"""The records of the `_schemas` topic, in the JSON that Confluent's registry writes and reads.

The topic is compacted: a key names a state, and its last value is that state.
"""

import hashlib
import json
import uuid
from typing import Any

import msgspec

TOPIC = "_schemas"
Record = tuple[bytes, bytes | None]


class Reference(msgspec.Struct, frozen=True, omit_defaults=True):
    """Types that a schema borrows from a version of a subject."""

    name: str
    subject: str
    version: int


class Metadata(msgspec.Struct, frozen=True, omit_defaults=True):
    """What users say of a schema; two schemas that differ in it are two."""

    tags: dict[str, list[str]] | None = None
    properties: dict[str, str] | None = None
    sensitive: list[str] | None = None


class SchemaRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One version of one subject."""

    subject: str
    version: int
    id: int
    schema: str
    deleted: bool = False
    schemaType: str = "AVRO"  # noqa: N815 (Confluent's name)
    references: tuple[Reference, ...] = ()
    metadata: Metadata | None = None

    @property
    def guid(self) -> str:
        return fingerprint(self.schema, self.references, self.metadata)


class Config(msgspec.Struct, frozen=True, omit_defaults=True, rename={"level": "compatibilityLevel"}):
    """How new versions are judged, for one subject or for all; None where nothing was set."""

    alias: str | None = None
    normalize: bool | None = None
    level: str | None = None
    compatibilityGroup: str | None = None  # noqa: N815


def fingerprint(schema: str, references: tuple[Reference, ...], metadata: Metadata | None) -> str:
    """The GUID of a schema: the same in every registry that knows it."""
    md5 = hashlib.md5(schema.encode(errors="surrogatepass"), usedforsecurity=False)
    for reference in references:
        md5.update(reference.name.encode() + reference.subject.encode() + reference.version.to_bytes(4, signed=True))
    if metadata is not None:
        md5.update(b"\x01")
        for key, values in sorted((metadata.tags or {}).items()):
            md5.update(key.encode() + "".join(sorted(set(values))).encode())
        for key, value in sorted((metadata.properties or {}).items()):
            md5.update(key.encode() + value.encode())
        md5.update("".join(sorted(set(metadata.sensitive or ()))).encode())
    return str(uuid.UUID(bytes=md5.digest()))


def schema_record(entry: SchemaRecord) -> Record:
    value: dict[str, Any] = {"subject": entry.subject, "version": entry.version, "id": entry.id}
    if entry.schemaType != "AVRO":
        value["schemaType"] = entry.schemaType
    if entry.references:
        value["references"] = entry.references
    if entry.metadata is not None:
        value["metadata"] = entry.metadata
    return _schema_key(entry.subject, entry.version), _json(value | {"schema": entry.schema, "deleted": entry.deleted})


def schema_tombstone(subject: str, version: int) -> Record:
    return _schema_key(subject, version), None


def delete_subject_record(subject: str, last_version: int) -> Record:
    return _key("DELETE_SUBJECT", subject), _json({"subject": subject, "version": last_version})


def delete_subject_tombstone(subject: str) -> Record:
    return _key("DELETE_SUBJECT", subject), None


def config_record(subject: str | None, config: Config | None) -> Record:
    """The settings of `subject`, or of all when it is None; a config of None takes them back."""
    if config is None:
        return _key("CONFIG", subject), None
    own = {} if subject is None else {"subject": subject}
    return _key("CONFIG", subject), _json(own | msgspec.to_builtins(config))


def mode_record(subject: str | None, mode: str | None) -> Record:
    if mode is None:
        return _key("MODE", subject), None
    own = {} if subject is None else {"subject": subject}
    return _key("MODE", subject), _json(own | {"mode": mode})


def highest_id_record(highest: int) -> Record:
    """Keeps the highest id that was ever given, once compaction has removed the schema that had it.

    Confluent's registry passes over the value of a NOOP.
    """
    return _json({"keytype": "NOOP", "magic": 0}), _json({"highestId": highest})


def parse(key: bytes, value: bytes | None) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Key and value as dictionaries; ValueError for what is not JSON of that form."""
    parsed_key = json.loads(key)
    parsed_value = json.loads(value) if value else None
    if not isinstance(parsed_key, dict) or not isinstance(parsed_value, dict | None):
        raise ValueError("a record of the schemas topic is a JSON object with a JSON object as key")
    return parsed_key, parsed_value


def _schema_key(subject: str, version: int) -> bytes:
    return _json({"keytype": "SCHEMA", "subject": subject, "version": version, "magic": 1})


def _key(kind: str, subject: str | None) -> bytes:
    return _json({"keytype": kind, "subject": subject, "magic": 0})


def _json(value: dict[str, Any]) -> bytes:
    return msgspec.json.encode(value)
