"""The registry's refusals, with Confluent's codes: the first three digits are the HTTP status."""

from collections.abc import Iterable
from typing import NoReturn


class Refusal(Exception):
    """Answers one request with Confluent's error JSON: `{"error_code": 40401, "message": "…"}`."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def status(self) -> int:
        return int(str(self.code)[:3])


def subject_not_found(subject: str) -> NoReturn:
    raise Refusal(40401, f"Subject '{subject}' not found.")


def version_not_found(version: object) -> NoReturn:
    raise Refusal(40402, f"Version {version} not found.")


def schema_not_found(schema: object = None) -> NoReturn:
    raise Refusal(40403, "Schema not found" if schema is None else f"Schema {schema} not found")


def subject_soft_deleted(subject: str) -> NoReturn:
    raise Refusal(40404, f"Subject '{subject}' was soft deleted. Set permanent=true to delete permanently")


def subject_not_soft_deleted(subject: str) -> NoReturn:
    raise Refusal(40405, f"Subject '{subject}' was not deleted first before being permanently deleted")


def version_soft_deleted(subject: str, version: int) -> NoReturn:
    raise Refusal(
        40406, f"Subject '{subject}' Version {version} was soft deleted. Set permanent=true to delete permanently"
    )


def version_not_soft_deleted(subject: str, version: int) -> NoReturn:
    raise Refusal(
        40407, f"Subject '{subject}' Version {version} was not deleted first before being permanently deleted"
    )


def subject_without_config(subject: str) -> NoReturn:
    raise Refusal(40408, f"Subject '{subject}' does not have subject-level compatibility configured")


def subject_without_mode(subject: str) -> NoReturn:
    raise Refusal(40409, f"Subject '{subject}' does not have subject-level mode configured")


def incompatible_schema(subject: str, reasons: Iterable[str]) -> NoReturn:
    raise Refusal(
        40901,
        "Schema being registered is incompatible with an earlier schema for subject "
        f'"{subject}", details: [{", ".join(reasons)}]',
    )


def invalid_schema(reason: object) -> NoReturn:
    raise Refusal(42201, f"Invalid schema: {reason}")


def invalid_version(version: str) -> NoReturn:
    raise Refusal(
        42202,
        f"The specified version '{version}' is not a valid version id. "
        'Allowed values are between [1, 2^31-1] and the string "latest"',
    )


def invalid_level() -> NoReturn:
    raise Refusal(
        42203,
        "Invalid compatibility level. Valid values are none, backward, forward, full, "
        "backward_transitive, forward_transitive, and full_transitive",
    )


def invalid_mode(more: str = "") -> NoReturn:
    raise Refusal(42204, f"Invalid mode. Valid values are READWRITE, READONLY, READONLY_OVERRIDE, and IMPORT.{more}")


def not_permitted(why: str) -> NoReturn:
    raise Refusal(42205, why)


def reference_exists(subject: str, version: int) -> NoReturn:
    key = f"{{magic=1,keytype=SCHEMA,subject={subject},version={version}}}"
    raise Refusal(42206, f"One or more references exist to the schema {key}.")


def invalid_subject(subject: str, why: str = "") -> NoReturn:
    raise Refusal(42208, f"The specified subject '{subject}' is not a valid.{why}")


def schema_too_large(why: str) -> NoReturn:
    raise Refusal(42209, f"Register operation failed because schema is too large{why}")


def not_served(field: str, code: int = 422) -> NoReturn:
    """Refuse what would otherwise be a success that did nothing."""
    raise Refusal(code, f"'{field}' is not served by this registry; leave it out")


def store_failed(why: object) -> NoReturn:
    raise Refusal(50001, f"Error in the backend data store: {why}")
