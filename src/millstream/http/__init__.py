"""Publishing from web handlers: group commit, idempotency keys, problem details, progress streams.

A web factory needs `Web` and what is exported here; `Web` makes the publisher and the keys.
"""

from millstream.http.problem import Problem, json_pointer, unavailable
from millstream.http.problems import install_problems
from millstream.http.progress import Progress, Update
from millstream.http.reservation import Conflict, Fresh, Repeat, Reservation, body_hash
from millstream.http.web import Web

__all__ = [
    "Conflict",
    "Fresh",
    "Problem",
    "Progress",
    "Repeat",
    "Reservation",
    "Update",
    "Web",
    "body_hash",
    "install_problems",
    "json_pointer",
    "unavailable",
]
