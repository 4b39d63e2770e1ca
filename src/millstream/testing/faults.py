"""Orders to a local broker in another process: faults, the clock, waiting for a group. docs/faults.md shows them."""

import contextlib
import http.client
import json
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlencode

from millstream.local.faults.fault import BadFault, Fault, Faults

_PATIENCE_SECONDS = 30.0


class BrokerControl:
    """A broker that was started with `--control`, at `url`.

        broker = BrokerControl("http://127.0.0.1:9644")
        with broker.faults.error("Produce", "NOT_ENOUGH_REPLICAS", topic="orders", times=3) as refused:
            ...
            refused.wait(hits=3)

    Every call raises ConnectionError if the broker does not answer.
    """

    def __init__(self, url: str) -> None:
        self._host, _, port = url.removeprefix("http://").rpartition(":")
        self._port = int(port)
        self.faults = BrokerFaults(self)

    def advance(self, seconds: float) -> None:
        """Put the broker's clock forward. What falls due meanwhile is done when this returns: sessions end,
        transactions time out, waiting fetches are answered."""
        self.ask("POST", "/clock", {"advance": seconds})

    def wait_for_group(self, group: str, members: int | None = None, timeout: float = 10.0) -> list[dict[str, Any]]:
        """The members of a group once it is stable with `members` of them; 0 is a group that all have left.

        Raises TimeoutError saying how the group stands.
        """
        query = {"timeout": timeout} | ({} if members is None else {"members": members})
        found = self.ask("GET", f"/groups/{quote(group, safe='')}?{urlencode(query)}", patience=timeout)
        return found["members"]

    def compact(self, topic: str) -> None:
        """Leave only the last record of every key, now. Raises LookupError if there is no such topic."""
        self.ask("POST", "/compact", {"topic": topic})

    def expire(self) -> None:
        """Let retention take what is due by the broker's clock, now."""
        self.ask("POST", "/expire", {})

    def ask(self, method: str, path: str, body: Any = None, patience: float = 0.0) -> Any:
        """One request of the control's HTTP interface; what it answers."""
        connection = http.client.HTTPConnection(self._host, self._port, timeout=patience + _PATIENCE_SECONDS)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            status, content = answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise ConnectionError(
                f"the broker's control at {self._host}:{self._port} does not answer ({error!r}); does the broker run?"
            ) from error
        finally:
            connection.close()
        told = json.loads(content) if content else None
        if status >= 400:
            raise _as_error(status, told)
        return told


class BrokerRule:
    """A rule at work in a broker. It ends with `remove()`, or when left as a context manager, or with the broker."""

    def __init__(self, control: BrokerControl, told: dict[str, Any]) -> None:
        self._control = control
        self._path = f"/faults/{told['id']}"

    @property
    def hits(self) -> int:
        """How many requests it has struck; for `observe`, seen."""
        return self._told()["hits"]

    @property
    def requests(self) -> list[dict[str, Any]]:
        """The last thousand requests that it struck: api, version, client_id, topics, groups, transactional_ids."""
        return self._told()["requests"]

    def wait(self, hits: int = 1, timeout: float = 10.0) -> None:
        """Return once it has struck so often. Raises TimeoutError saying how often it has."""
        self._control.ask("GET", f"{self._path}?hits={hits}&timeout={timeout}", patience=timeout)

    def remove(self) -> None:
        """It strikes no more; nothing happens if it is gone, or its broker."""
        with contextlib.suppress(LookupError, ConnectionError):  # it is gone already, or its broker is
            self._control.ask("DELETE", self._path)

    def _told(self) -> dict[str, Any]:
        return self._control.ask("GET", self._path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()


class BrokerFaults(Faults[BrokerRule]):
    """The verbs of `Faults`, for a broker in another process."""

    def __init__(self, control: BrokerControl) -> None:
        self._control = control

    def add(self, fault: Fault) -> BrokerRule:
        return BrokerRule(self._control, self._control.ask("POST", "/faults", fault.to_json()))

    def clear(self) -> None:
        self._control.ask("DELETE", "/faults")


def _as_error(status: int, problem: Any) -> Exception:
    detail = str(problem["detail"])
    if status == 404:
        return LookupError(detail)
    if status == 504:
        return TimeoutError(detail)
    if status < 500:
        place = str(problem.get("place", "request"))
        return BadFault(place, detail.removeprefix(f"{place}: "))
    return RuntimeError(detail)
