"""The records of the `_schemas` topic, in the JSON that Confluent's registry writes and reads."""

import json
from typing import Any

import msgspec

TOPIC = "_schemas"
Record = tuple[bytes, bytes | None]


class SchemaRecord(msgspec.Struct, frozen=True):
    """One version of one subject."""

    subject: str
    version: int
    id: int
    schema: str
    deleted: bool = False


def schema_record(entry: SchemaRecord) -> Record:
    return _schema_key(entry.subject, entry.version), msgspec.json.encode(entry)


def schema_tombstone(subject: str, version: int) -> Record:
    return _schema_key(subject, version), None


def delete_subject_record(subject: str, last_version: int) -> Record:
    key = {"keytype": "DELETE_SUBJECT", "subject": subject, "magic": 0}
    return _json(key), _json({"subject": subject, "version": last_version})


def delete_subject_tombstone(subject: str) -> Record:
    return _json({"keytype": "DELETE_SUBJECT", "subject": subject, "magic": 0}), None


def config_record(subject: str | None, level: str | None) -> Record:
    """The compatibility level of `subject`, or of all when it is None; a level of None takes it back."""
    key = {"keytype": "CONFIG", "subject": subject, "magic": 0}
    return _json(key), None if level is None else _json({"compatibilityLevel": level})


def parse(key: bytes, value: bytes | None) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Key and value as dictionaries; ValueError for what is not JSON of that form."""
    parsed_key = json.loads(key)
    parsed_value = json.loads(value) if value else None
    if not isinstance(parsed_key, dict) or not isinstance(parsed_value, dict | None):
        raise ValueError("a record of the schemas topic is a JSON object with a JSON object as key")
    return parsed_key, parsed_value


def _schema_key(subject: str, version: int) -> bytes:
    return _json({"keytype": "SCHEMA", "subject": subject, "version": version, "magic": 1})


def _json(value: dict[str, Any]) -> bytes:
    return msgspec.json.encode(value)
