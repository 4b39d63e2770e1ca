"""Resources of effects, such as clients: opened before the first event, renewed where they do not recover."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from millstream.declare import Handler, Need, Service
from millstream.settings import Settings
from millstream.telemetry import get_logger, metrics
from millstream.timeouts import RESOURCE_TIMEOUT

log = get_logger(__name__)


Factory = Callable[[Settings], AsyncIterator[Any]]


class Resources:
    """The resources of a service's effects. On the worker's event loop.

    - `failed`: called with the error of a resource that ended by itself, after which the worker must stop.
    """

    def __init__(
        self,
        service: Service,
        handlers: tuple[Handler, ...],
        settings: Settings,
        failed: Callable[[BaseException], None],
    ) -> None:
        self._service = service
        self._settings = settings
        self._failed = failed
        self._wanted = {
            handler.name: tuple(parameter.of for parameter in handler.parameters if parameter.need is Need.RESOURCE)
            for handler in handlers
        }
        self._open: dict[type, _Opened] = {}
        self._former: set[_Opened] = set()

    async def open(self) -> None:
        """Open all resources that the handlers name, in their order. Raises what a factory raises."""
        for wanted in dict.fromkeys(of for all_of in self._wanted.values() for of in all_of):
            opened = self._open[wanted] = self._begin(wanted)
            await opened.ready

    async def close(self) -> None:
        """Close all resources, the last one first. Raises the first error of one that does not close."""
        outcomes = [await opened.close() for opened in (*self._former, *reversed(self._open.values()))]
        for error in filter(None, outcomes):
            raise error

    def needed_by(self, handler: str) -> tuple[type, ...]:
        """Return the resources that the signature of this handler names."""
        return self._wanted[handler]

    @contextmanager
    def lend(self, handler: Handler) -> Iterator[Mapping[type, Any]]:
        """Lend the resources of `handler` to an attempt; none is closed before the attempt has ended."""
        resources = {wanted: self._open[wanted] for wanted in self._wanted[handler.name]}
        for opened in resources.values():
            opened.users += 1
        try:
            yield {wanted: opened.value for wanted, opened in resources.items()}
        finally:
            for opened in resources.values():
                opened.give_back()

    async def renew(self, wanted: type) -> None:
        """Replace a resource for later attempts; the previous one closes when the last attempt with it has ended.

        Where the new one does not open, the previous one stays.
        """
        service, name = self._service.name, wanted.__name__
        opened = self._begin(wanted)
        try:
            async with asyncio.timeout(RESOURCE_TIMEOUT):
                await asyncio.shield(opened.ready)
        except Exception as error:
            self._former.discard(opened)
            opened.task.cancel()
            log.warning(
                "resource not renewed",
                code="resource_not_renewed",
                service=service,
                resource=name,
                error=type(error).__name__,
            )
            return
        former, self._open[wanted] = self._open[wanted], opened
        self._former.add(former)
        former.task.add_done_callback(lambda _: self._former.discard(former))
        former.retire()
        metrics.RESOURCES_RENEWED.labels(service, name).inc()
        log.warning("resource renewed", code="resource_renewed", service=service, resource=name)

    def _begin(self, wanted: type) -> "_Opened":
        return _Opened(self._service.providers[wanted], self._settings, wanted.__name__, self._failed)


class _Opened:
    """One resource from its opening to its end, on a task of its own: what opens a task group must close it, too."""

    def __init__(
        self, factory: Factory, settings: Settings, name: str, failed: Callable[[BaseException], None]
    ) -> None:
        self.value: Any = None
        self.users = 0
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # An opening that is no longer awaited may fail, too.
        self.ready.add_done_callback(lambda ready: ready.cancelled() or ready.exception())
        self._failed = failed
        self._name = name
        self._retired = False
        self._let_go = asyncio.Event()
        self.task = asyncio.create_task(self._live(asynccontextmanager(factory), settings))

    def give_back(self) -> None:
        """An attempt with it has ended."""
        self.users -= 1
        if self._retired and not self.users:
            self._let_go.set()

    def retire(self) -> None:
        """No attempt begins with it any more."""
        self._retired = True
        if not self.users:
            self._let_go.set()

    async def close(self) -> BaseException | None:
        """Close it now; answers what went wrong with that."""
        self._let_go.set()
        await asyncio.wait((self.task,))
        return None if self.task.cancelled() else self.task.exception()

    async def _live(self, factory: Callable[[Settings], Any], settings: Settings) -> None:
        try:
            async with factory(settings) as self.value:
                if not self.ready.done():
                    self.ready.set_result(None)
                await self._let_go.wait()
        except GeneratorExit:
            raise
        except BaseException as error:
            if not self.ready.done():
                self.ready.set_exception(error)
                return
            if not self._let_go.is_set():
                self._failed(
                    RuntimeError(f"The resource {self._name} ended by itself: {type(error).__name__}: {error}")
                )
                return
            if self._retired:
                log.warning(
                    "resource not closed", code="resource_not_closed", resource=self._name, error=type(error).__name__
                )
                return
            raise
