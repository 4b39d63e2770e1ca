"""Between clients and the broker: connections with a way that takes time, and that break."""

from collections import deque
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from millstream.local.broker import Broker
from millstream.local.broker.dispatch import Session
from millstream.testing.simulation.faults import Fate
from millstream.testing.simulation.lives import Life
from millstream.testing.simulation.tasks import Awaited

if TYPE_CHECKING:
    from millstream.testing.simulation.world import World

HOST, PORT = "simulated", 9092


class HungUp(Exception):
    """The connection is gone; what became of the requests on it nobody knows."""


class SimulatedBroker:
    """The local broker's core on its files, without sockets; it dies and comes back as the real one does.

    - `fate`: asked for each request by its API key, for tests that want one certain trouble; None: let chance decide.
    """

    def __init__(self, world: "World", folder: Path) -> None:
        self.world = world
        self.fate: Callable[[int], Fate | None] = lambda api_key: None
        self.held: list[bytes] = []
        self.address = f"{HOST}:{PORT}"
        self.numbers = count()
        self._folder = folder
        self._core: Broker | None = None
        self._cut = False
        self._links: dict[int, Link] = {}
        self._answers: list[tuple[int, Link, bytes]] = []
        self._alarm: int | None = None
        self.restart()

    @property
    def reachable(self) -> bool:
        """Whether a connection to it can be made."""
        return self._core is not None and not self._cut

    def cut(self) -> None:
        """Break all connections, and let nobody make one until `heal()`; the broker itself goes on."""
        self._cut = True
        for link in list(self._links.values()):
            link.hang_up()

    def heal(self) -> None:
        """Let clients in again."""
        self._cut = False

    def kill(self) -> None:
        """End it as kill -9 does: its files stay as they are."""
        if self._core is not None:
            self.world.tell("broker", "is killed")
            core, self._core = self._core, None
            # Not close(): a crash writes nothing any more.
            core._files.close()
            for link in list(self._links.values()):
                link.hang_up()

    def restart(self) -> None:
        """Start it on its files, if it is down."""
        if self._core is None:
            self.world.tell("broker", "starts")
            self._alarm = None
            self._core = Broker(self._folder, lambda: self.world.wall_clock // 1000)
            self._core.host, self._core.port = HOST, PORT
            self._core.timers.on_earlier = self._set_alarm
            self._set_alarm()

    def accept(self, link: "Link") -> Session:
        """A session for a new connection."""
        assert self._core is not None
        self._links[link.number] = link
        return Session(self._core, link.life.name)

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

    def carry_out_late(self, frame: bytes, seconds: float) -> None:
        """A request whose connection is gone already arrives after all."""
        core = self._core

        def arrive() -> None:
            if core is not None and core is self._core:
                session = Session(core, "late")
                self.world.tell("network", "a late request arrives")
                self.step(lambda: session.handle(memoryview(bytearray(frame)), lambda answer: None))
                session.close()

        self.world.after(seconds, arrive, self.world.network)

    def release(self) -> None:
        """Let requests that were held arrive."""
        held, self.held = self.held, []
        for frame in held:
            self.carry_out_late(frame, 0)

    def _set_alarm(self) -> None:
        core = self._core
        at = None if core is None else core.timers.next_at()
        if core is None or at is None:
            return
        moment = at * 1000 - self.world.wall_clock + self.world.now
        if self._alarm is not None and self._alarm <= moment:
            return
        self._alarm = moment

        def ring() -> None:
            if core is self._core and self._alarm == moment:
                self._alarm = None
                self.step(core.timers.run_due)
                self._set_alarm()

        self.world.at(moment, ring, self.world.network)


class Link:
    """One connection while it lasts: requests arrive in their order and are carried out one at a time."""

    def __init__(self, broker: SimulatedBroker, life: Life) -> None:
        self.number = next(broker.numbers)
        self.life = life
        self.open = True
        self._broker = broker
        self._world = broker.world
        self._session = broker.accept(self)
        self._arrived: deque[tuple[bytes, bool]] = deque()
        self._asked: deque[Awaited[bytes]] = deque()
        self._busy = self._break_at_answer = False
        self._last_arrival = self._last_answer = 0

    def ask(self, frame: bytes, awaited: Awaited[bytes], *, lose_answer: bool) -> None:
        """Send a request; with `lose_answer` the link breaks where its answer would be."""
        self._asked.append(awaited)
        self._last_arrival = max(self._last_arrival, self._world.now + self._way())
        self._world.at(self._last_arrival, lambda: self._arrive(frame, lose_answer), self._world.network)

    def answered(self, frame: bytes) -> None:
        """The broker has carried out the oldest request."""
        if not self.open:
            return
        if self._break_at_answer:
            self.hang_up()
            return
        self._busy = False
        awaited = self._asked.popleft()
        self._last_answer = max(self._last_answer, self._world.now + self._way())
        self.life.after((self._last_answer - self._world.now) / 1_000_000, lambda: awaited.succeed(frame))
        self._work()

    def hang_up(self) -> None:
        """Both sides see the end of the connection."""
        if self.open:
            self.open = False
            self._broker.forget(self)
            self._session.close()
            self.life.after(self._way() / 1_000_000, self._tell_client)

    def _tell_client(self) -> None:
        for awaited in self._asked:
            awaited.fail(HungUp())

    def _way(self) -> int:
        return int(self._world.faults.way(self._world.random) * 1_000_000)

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


class Connection:
    """A client's way to the broker, made anew whenever it is asked and there is none."""

    def __init__(self, broker: SimulatedBroker, life: Life, client_id: str) -> None:
        self.client_id = client_id
        self._broker = broker
        self._life = life
        self._link: Link | None = None
        life.at_death.append(self.close)

    def ask(self, api_key: int, frame: bytes) -> Awaited[bytes]:
        """Send a request. Fails with `HungUp` where the connection breaks before the answer."""
        awaited: Awaited[bytes] = Awaited()
        world, broker = self._broker.world, self._broker
        if not broker.reachable:
            self._life.after(0.001, lambda: awaited.fail(HungUp()))
            return awaited
        if self._link is None or not self._link.open:
            self._link = Link(broker, self._life)
        link = self._link
        match broker.fate(api_key) or world.faults.fate(world.random):
            case "answered":
                link.ask(frame, awaited, lose_answer=False)
            case "answer lost":
                world.tell(self._life.name, "an answer is lost")
                link.ask(frame, awaited, lose_answer=True)
            case "lost":
                world.tell(self._life.name, "a connection breaks before a request")
                link.hang_up()
                self._life.after(world.faults.way(world.random), lambda: awaited.fail(HungUp()))
            case "late":
                world.tell(self._life.name, "a connection breaks; its request is on the way")
                link.hang_up()
                broker.carry_out_late(frame, world.random.uniform(0, world.faults.late))
                self._life.after(world.faults.way(world.random), lambda: awaited.fail(HungUp()))
            case "held":
                world.tell(self._life.name, "a connection breaks; its request is held")
                link.hang_up()
                broker.held.append(frame)
                self._life.after(world.faults.way(world.random), lambda: awaited.fail(HungUp()))
        return awaited

    def close(self) -> None:
        """Hang up."""
        if self._link is not None:
            self._link.hang_up()
