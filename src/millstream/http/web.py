"""The object that a service's web factory is given, and the server of its application."""

import hashlib
import logging
import socket
import threading
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import uvicorn

from millstream.declare import Service, Topic, home_of
from millstream.errors import DeclarationError
from millstream.http.progress import Progress
from millstream.http.tracing import Traced
from millstream.telemetry import Health, Observed, Tracer
from millstream.telemetry.listen import bound, url_of
from millstream.timeouts import GRACEFUL_TIMEOUT

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from millstream.contracts import Contracts
    from millstream.http.idempotency import IdempotencyKeys
    from millstream.http.outcomes import Outcomes
    from millstream.http.publisher import Publisher
    from millstream.kafka import Kafka, TopicSpec
    from millstream.runtime.worker import Worker
    from millstream.settings import Settings


class Web:
    """Given to the factory that `Service(web="module:function")` names; it answers an ASGI application.

    What the factory asks for is made, and runs with the service; what it does not ask for costs nothing.

        def app(web: Web) -> FastAPI:
            app = FastAPI(title="Orders")
            install_problems(app)
            publisher = web.publisher

            @app.post("/orders", status_code=202)
            async def place(order: NewOrder) -> Accepted: ...
    """

    def __init__(
        self,
        service: Service,
        settings: "Settings",
        contracts: "Contracts",
        kafka: "Kafka",
        *,
        engine: "Callable[[], Engine]",
        health: Health,
        tracer: Tracer,
    ) -> None:
        self.service = service
        self.settings = settings
        self.contracts = contracts
        self.health = health
        self.progress = Progress()
        self.workers: list[Worker] = []
        """The parts that were asked for and need a thread. They outlive the last request."""
        self.followed: tuple[TopicSpec, ...] = ()
        """The topics that are followed for outcomes."""
        self._kafka = kafka
        self.tracer = tracer
        self._engine = engine

    @cached_property
    def publisher(self) -> "Publisher":
        """Publishes events from request handlers; ask for it in the factory."""
        from millstream.http.publisher import Publisher

        publisher = Publisher(self.service, self.contracts, self._kafka, self.settings, tracer=self.tracer)
        self.health.check("publisher", publisher.probe)
        self.workers.append(publisher)
        return publisher

    def outcomes(self, *topics: Topic) -> "Outcomes":
        """Awaits what commands lead to on `topics`; ask for it in the factory, once, with all of them.

        It reads all that comes there, in each process, and makes topics that are missing when it starts.

        Raises `DeclarationError` for no topic, or a second time.
        """
        from millstream.http.outcomes import Outcomes

        if not topics or any(worker.name == Outcomes.name for worker in self.workers):
            raise DeclarationError(
                f"{self.service.name}: web.outcomes(...) follows the topics of events with one consumer: "
                "ask for it once, and name them all"
            )
        outcomes = Outcomes(self.service.name, topics, self.publisher, self.contracts, self._kafka, self.settings)
        self.health.check(outcomes.name, outcomes.probe)
        self.workers.append(outcomes)
        self.followed = outcomes.specs
        return outcomes

    @cached_property
    def idempotency(self) -> "IdempotencyKeys":
        """The idempotency keys of this service's requests, in its database; ask for it in the factory."""
        from millstream.http.idempotency import IdempotencyKeys

        keys = IdempotencyKeys(self.engine, published_to=self._published_to())
        self.workers.append(keys)
        return keys

    def _published_to(self) -> str:
        """A digest of the ids of the topics that the service's web handlers publish to."""
        homes = {home_of(contract).name for contract in self.service.publishes or self.service.produced()}
        admin = self._kafka.admin()
        try:
            ids = admin.topic_ids(sorted(homes))
        finally:
            admin.close()
        return hashlib.sha256(repr(sorted(ids.items())).encode()).hexdigest()[:16]

    @cached_property
    def engine(self) -> "Engine":
        """The service's own database."""
        return self._engine()


class WebServer:
    """The worker that serves an application, with `/metrics` and `/health` in front of it.

    It is bound from the moment it is made: `url` tells where. Raises `ConfigurationError` where the address is taken.
    """

    name = "web"

    def __init__(self, app: Any, web: Web) -> None:
        self._web = web
        self._socket = bound(*web.settings.listen)
        self.url = url_of(self._socket)
        self._server: _Server | None = None
        # That it starts and stops is told by others already.
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
        self._config = uvicorn.Config(
            Traced(Observed(app, web.health), web.tracer),
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACEFUL_TIMEOUT,
        )
        web.health.check("web", self._probe)

    def run(self, stop: threading.Event) -> None:
        """Serves until `stop` is set, then lets requests under way finish. Raises if the application cannot start."""
        self._server = _Server(self._config, stop, self._web.progress)
        try:
            self._server.run(sockets=[self._socket])
        except SystemExit:
            pass  # uvicorn's way to say that the application did not start
        finally:
            self._socket.close()
        if not stop.is_set():
            raise RuntimeError("the web application did not start, or its server ended by itself; see the log above")

    def _probe(self) -> str | None:
        return None if self._server is not None and self._server.started else "not started yet"


class _Server(uvicorn.Server):
    """Ends when `stop` is set: signals are the main thread's business."""

    def __init__(self, config: uvicorn.Config, stop: threading.Event, progress: Progress) -> None:
        super().__init__(config)
        self._stop = stop
        self._progress = progress

    async def on_tick(self, counter: int) -> bool:
        return self._stop.is_set() or await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Streams have no end of their own; their clients resume elsewhere.
        self._progress.close()
        await super().shutdown(sockets)
