"""What goes wrong with the order system: each kind of fault strikes, and returns when its victim is ready again."""

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress

import httpx
from confluent_kafka.admin import AdminClient
from tests.end_to_end.running import Running, eventually

from millstream.testing.apache import ApacheKafka
from millstream.testing.postgresql import PostgreSQL
from orders.payment.gateway import ANSWER_WITHIN

SERVICES = ("order", "inventory", "payment", "shipping", "email", "read-model")
KILLED = (*SERVICES, "gateway", "mailbox")
READY_WITHIN = 40.0
LONGEST_STOP = 6.0
"""Seconds of SIGSTOP; a third of a transaction's time, so that some outlive theirs and some do not."""
LONG_PAUSE = 12.0
"""Seconds of SIGSTOP that outlast every call and time-out of an effect."""
SPELL = 1.5
"""Seconds that a gateway or a mail server misbehaves."""


class Faults:
    """The kinds of fault that there are here, by name; `strike` one and it answers once all is ready again.

    - `apache`: the cluster that the system runs on; without one it is the local broker, a process of the system.
    - `pauses`: whether every process is stopped for `LONG_PAUSE` in turn, too.
    """

    def __init__(
        self,
        running: Running,
        chance: random.Random,
        database: PostgreSQL,
        apache: ApacheKafka | None = None,
        *,
        pauses: bool = False,
    ) -> None:
        self._running = running
        self._chance = chance
        self._database = database
        self._apache = apache
        killed = (*KILLED, "platform") if apache is None else KILLED
        self._kinds: dict[str, Callable[[], None]] = {f"kill {name}": self._kills(name) for name in killed}
        self._kinds |= {
            "stop a service": self._stop_a_service,
            "kill PostgreSQL": self._kill_database,
            "charge and be silent": self._silence_the_gateway,
            "refuse mails": self._refuse_mails,
        }
        if pauses:
            self._kinds |= {f"pause {name}": self._pauses(name) for name in KILLED}
        if apache is not None:
            self._kinds |= {"kill a broker": self._kill_a_broker, "move leaders": self._move_leaders}

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(self._kinds)

    def strike(self, kind: str) -> None:
        self._kinds[kind]()

    def _kills(self, name: str) -> Callable[[], None]:
        def kill() -> None:
            self._await_pid(name)
            place = self._running.kill(name)
            self._running.await_event("ready", name, place, within=READY_WITHIN)

        return kill

    def _stop_a_service(self) -> None:
        """What a long pause of a virtual machine does: the process does not know that it was away."""
        self._stop(self._chance.choice(SERVICES), self._chance.uniform(0.5, LONGEST_STOP))

    def _pauses(self, name: str) -> Callable[[], None]:
        return lambda: self._stop(name, LONG_PAUSE)

    def _stop(self, name: str, seconds: float) -> None:
        pid = self._await_pid(name)
        os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(seconds)  # the fault is the time that it takes
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self._await_health(name)

    def _kill_database(self) -> None:
        self._database.kill()
        self._database.start()
        for name in ("order", "inventory"):
            self._await_health(name)

    def _silence_the_gateway(self) -> None:
        """Every charge is made, and nobody is told: the payment service has to ask."""
        silent = {"silent_ratio": 1, "silence": ANSWER_WITHIN + 1}
        self._spell("gateway", silent)

    def _refuse_mails(self) -> None:
        self._spell("mailbox", {"refuse_ratio": 0.7})

    def _spell(self, name: str, behaviour: dict[str, float]) -> None:
        url = f"{self._running.address(name)}/behaviour"
        try:
            httpx.post(url, json=behaviour, timeout=5).raise_for_status()
            time.sleep(SPELL)  # the fault is the time that it takes
        finally:
            httpx.post(url, json={}, timeout=5).raise_for_status()

    def _kill_a_broker(self) -> None:
        assert self._apache is not None
        node = self._chance.choice((1, 2, 3))
        self._apache.kill(node)
        self._apache.restart(node)

    def _move_leaders(self) -> None:
        """Give every partition back to the broker that ought to lead it; those of killed ones had moved."""
        assert self._apache is not None
        from confluent_kafka import ElectionType

        admin = AdminClient({"bootstrap.servers": self._apache.bootstrap})
        admin.elect_leaders(ElectionType.PREFERRED, None).result(20)

    def _await_pid(self, name: str) -> int:
        """One that ended by itself, as a fenced one does, is started again first."""
        return eventually(lambda: self._running.pids().get(name), within=READY_WITHIN)

    def _await_health(self, name: str) -> None:
        def healthy() -> bool:
            return httpx.get(f"{self._running.address(name)}/health", timeout=2).is_success

        eventually(healthy, within=READY_WITHIN)
