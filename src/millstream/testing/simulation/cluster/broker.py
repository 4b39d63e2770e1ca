"""The broker at the other end of the network, and the links to it, which take time and break."""

from collections import deque
from collections.abc import Callable
from itertools import count
from pathlib import Path

from millstream.local.broker import Broker
from millstream.local.broker.dispatch import Session
from millstream.testing.simulation.cluster.faults import RequestOutcome
from millstream.testing.simulation.cluster.network import Network
from millstream.testing.simulation.scheduler.incarnation import Incarnation
from millstream.testing.simulation.scheduler.tasks import Awaited

HOST, PORT = "simulated", 9092


class ConnectionLost(Exception):
    """The connection broke; what became of the requests on it is unknown."""


class SimulatedBroker:
    """The local broker's core on its files, without sockets; it dies and comes back as the real one does.

    - `decide_outcome`: called for each request with its API key, for tests that want one certain fault; None: let
      chance decide.
    """

    def __init__(self, network: Network, folder: Path) -> None:
        self.network = network
        self.scheduler = network.scheduler
        self.decide_outcome: Callable[[int], RequestOutcome | None] = lambda api_key: None
        self.held: list[bytes] = []
        self.address = f"{HOST}:{PORT}"
        self.link_numbers = count()
        self._folder = folder
        self._core: Broker | None = None
        self._cut = False
        self._links: dict[int, Link] = {}
        self._answers: list[tuple[int, Link, bytes]] = []
        self._next_timer: int | None = None
        self.restart()

    @property
    def reachable(self) -> bool:
        """True while clients can connect."""
        return self._core is not None and not self._cut

    def cut(self) -> None:
        """Break all connections, and refuse new ones until `heal()`; the broker itself goes on."""
        self._cut = True
        for link in list(self._links.values()):
            link.close()

    def heal(self) -> None:
        """Accept connections again."""
        self._cut = False

    def kill(self) -> None:
        """End it as kill -9 does: its files stay as they are."""
        if self._core is not None:
            self.scheduler.record("broker", "is killed")
            core, self._core = self._core, None
            # Not close(): a crash writes nothing any more.
            core._files.close()
            for link in list(self._links.values()):
                link.close()

    def restart(self) -> None:
        """Start it on its files, if it is down."""
        if self._core is None:
            self.scheduler.record("broker", "starts")
            self._next_timer = None
            self._core = Broker(self._folder, lambda: self.scheduler.wall_clock // 1000)
            self._core.host, self._core.port = HOST, PORT
            self._core.timers.on_earlier = self._schedule_timers
            self._schedule_timers()

    def accept(self, link: "Link") -> Session:
        """A session for a new connection."""
        assert self._core is not None
        self._links[link.number] = link
        return Session(self._core, link.incarnation.name)

    def forget(self, link: "Link") -> None:
        self._links.pop(link.number, None)

    def answer(self, link: "Link", frame: bytes) -> None:
        """Keep an answer until the step is done: those of one step leave in the order of their connections."""
        self._answers.append((link.number, link, frame))

    def step(self, work: Callable[[], None]) -> None:
        """Let the core do something, and send the answers that come of it."""
        assert self._core is not None
        work()
        self._core.settle()
        answers, self._answers = self._answers, []
        for _, link, frame in sorted(answers, key=lambda answer: answer[0]):
            link.answered(frame)

    def deliver_late(self, frame: bytes, seconds: float) -> None:
        """Let a request arrive whose connection is gone already."""
        core = self._core

        def arrive() -> None:
            if core is not None and core is self._core:
                session = Session(core, "late")
                self.scheduler.record("network", "a late request arrives")
                self.step(lambda: session.handle(memoryview(bytearray(frame)), lambda answer: None))
                session.close()

        self.scheduler.after(seconds, arrive, self.scheduler.network)

    def release(self) -> None:
        """Let the requests arrive that were held."""
        held, self.held = self.held, []
        for frame in held:
            self.deliver_late(frame, 0)

    def _schedule_timers(self) -> None:
        core = self._core
        at = None if core is None else core.timers.next_at()
        if core is None or at is None:
            return
        moment = at * 1000 - self.scheduler.wall_clock + self.scheduler.now
        if self._next_timer is not None and self._next_timer <= moment:
            return
        self._next_timer = moment

        def run_due() -> None:
            if core is self._core and self._next_timer == moment:
                self._next_timer = None
                self.step(core.timers.run_due)
                self._schedule_timers()

        self.scheduler.at(moment, run_due, self.scheduler.network)


class Link:
    """One connection while it lasts: requests arrive in their order and are carried out one at a time."""

    def __init__(self, broker: SimulatedBroker, incarnation: Incarnation) -> None:
        self.number = next(broker.link_numbers)
        self.incarnation = incarnation
        self.open = True
        self._broker = broker
        self._scheduler = broker.scheduler
        self._session = broker.accept(self)
        self._arrived: deque[tuple[bytes, bool]] = deque()
        self._asked: deque[Awaited[bytes]] = deque()
        self._busy = False
        self._break_at_answer = False
        self._last_arrival = 0
        self._last_answer = 0

    def ask(self, frame: bytes, awaited: Awaited[bytes], *, lose_answer: bool) -> None:
        """Send a request; with `lose_answer` the link breaks where its answer would be."""
        self._asked.append(awaited)
        self._last_arrival = max(self._last_arrival, self._scheduler.now + self._delay())
        self._scheduler.at(self._last_arrival, lambda: self._arrive(frame, lose_answer), self._scheduler.network)

    def answered(self, frame: bytes) -> None:
        """Send the answer to the oldest request."""
        if not self.open:
            return
        if self._break_at_answer:
            self.close()
            return
        self._busy = False
        awaited = self._asked.popleft()
        self._last_answer = max(self._last_answer, self._scheduler.now + self._delay())
        self.incarnation.after((self._last_answer - self._scheduler.now) / 1_000_000, lambda: awaited.succeed(frame))
        self._work()

    def close(self) -> None:
        """Break the connection; both sides see it."""
        if self.open:
            self.open = False
            self._broker.forget(self)
            self._session.close()
            self.incarnation.after(self._delay() / 1_000_000, self._fail_requests)

    def _fail_requests(self) -> None:
        for awaited in self._asked:
            awaited.fail(ConnectionLost())

    def _delay(self) -> int:
        """Draw how many microseconds the next message takes."""
        return int(self._broker.network.message_delay() * 1_000_000)

    def _arrive(self, frame: bytes, lose_answer: bool) -> None:
        if self.open:
            self._arrived.append((frame, lose_answer))
            self._work()

    def _work(self) -> None:
        if self.open and self._arrived and not self._busy:
            self._busy = True
            frame, self._break_at_answer = self._arrived.popleft()
            self._broker.step(
                lambda: self._session.handle(
                    memoryview(bytearray(frame)), lambda answer: self._broker.answer(self, answer[4:])
                )
            )
