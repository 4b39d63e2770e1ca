"""Kafka's names for APIs and errors, as kio spells them."""

from difflib import get_close_matches

from kio.schema.errors import ErrorCode
from kio.schema.index import api_key_map

from millstream.local.faults.fault import BadFault

KEYS = {"".join(part.title() for part in name.split("_")): key for key, name in api_key_map.items()}
NAMES = {key: name for name, key in KEYS.items()}
ERRORS = {code.name.upper(): code for code in ErrorCode if code is not ErrorCode.none}


def key_of(api: str) -> int:
    """Raises BadFault.

    >>> key_of("EndTxn")
    26
    """
    if api not in KEYS:
        raise BadFault("api", f"Kafka has no {api!r}{_meant(api, list(KEYS))}")
    return KEYS[api]


def error_of(name: str) -> ErrorCode:
    """Raises BadFault.

    >>> error_of("NOT_ENOUGH_REPLICA")
    Traceback (most recent call last):
    millstream.local.faults.fault.BadFault: error: Kafka has no 'NOT_ENOUGH_REPLICA'; NOT_ENOUGH_REPLICAS?
    """
    if name not in ERRORS:
        raise BadFault("error", f"Kafka has no {name!r}{_meant(name, list(ERRORS))}")
    return ERRORS[name]


def _meant(name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return f"; {near[0]}?" if near else ""
