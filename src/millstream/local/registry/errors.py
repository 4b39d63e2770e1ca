"""The registry's refusals, with Confluent's codes: the first three digits are the HTTP status."""

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


def schema_not_found(schema_id: int | None = None) -> NoReturn:
    raise Refusal(40403, "Schema not found" if schema_id is None else f"Schema {schema_id} not found")


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


def incompatible_schema(reasons: list[str]) -> NoReturn:
    detail = "; ".join(reasons)
    raise Refusal(409, f"Schema being registered is incompatible with an earlier schema; details: [{detail}]")


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
