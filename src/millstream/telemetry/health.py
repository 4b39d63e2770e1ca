"""Health: named checks, run when `/health` is asked."""

import time
from collections.abc import Callable
from threading import Lock
from typing import Any

Probe = Callable[[], str | None]


class Heartbeat:
    """A loop's sign of life: unhealthy when `beat()` was not called for `bound` seconds."""

    def __init__(self, bound: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.bound = bound
        self._clock = clock
        self._last = clock()

    def beat(self) -> None:
        """The loop has turned once more."""
        self._last = self._clock()

    def probe(self) -> str | None:
        """None while beats come in time, else what is wrong."""
        silent = self._clock() - self._last
        return None if silent <= self.bound else f"no sign of life for {silent:.1f} s (allowed: {self.bound:g} s)"


class Health:
    """The checks of a process's own state.

    >>> health = Health()
    >>> health.check("assigned", lambda: "waiting for partitions")
    >>> health.healthy
    False
    >>> health.status()
    {'status': 'unhealthy', 'checks': {'assigned': {'ok': False, 'detail': 'waiting for partitions'}}}
    """

    def __init__(self) -> None:
        self._probes: dict[str, Probe] = {}
        self._facts: dict[str, str | None] = {}
        self._codes: dict[str, str | None] = {}
        self._lock = Lock()

    def check(self, name: str, probe: Probe) -> None:
        """Ask `probe` from now on: None means well, a text says what is wrong. It is called from other threads."""
        with self._lock:
            self._probes[name] = probe

    def heartbeat(self, name: str, bound: float) -> Heartbeat:
        """A check that a loop turns at least every `bound` seconds."""
        beat = Heartbeat(bound)
        self.check(name, beat.probe)
        return beat

    def report(self, name: str, trouble: str | None, *, code: str | None = None) -> None:
        """Set a check's outcome: `health.report("fatal", str(error), code=error.code)`, or None where it is well."""
        self._facts[name], self._codes[name] = trouble, code
        self.check(name, lambda: self._facts[name])

    def forget(self, name: str) -> None:
        """Drop a check whose subject has ended in order."""
        with self._lock:
            self._probes.pop(name, None)

    @property
    def healthy(self) -> bool:
        """True where all checks are well."""
        return all(check["ok"] for check in self._ask().values())

    def status(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        checks = self._ask()
        well = all(check["ok"] for check in checks.values())
        return {"status": "healthy" if well else "unhealthy", "checks": checks}

    def _ask(self) -> dict[str, dict[str, Any]]:
        with self._lock:
            probes = sorted(self._probes.items())
        checks: dict[str, dict[str, Any]] = {}
        for name, probe in probes:
            try:
                detail = probe()
            except Exception as error:
                detail = f"the check itself failed: {type(error).__name__}: {error}"
            checks[name] = {"ok": True} if detail is None else {"ok": False, "detail": detail}
            if detail is not None and (code := self._codes.get(name)) is not None:
                checks[name]["code"] = code
        return checks
