"""Threads, queues, pools and event loops in a world: as they are elsewhere, in virtual time."""

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from millstream.testing.simulation import World


def told(main: Callable[[Callable[[Any], None]], None], kill_after: float | None = None) -> list[tuple[float, Any]]:
    """What `main` tells in a process of a world, each with the second in which it does."""
    heard: list[tuple[float, Any]] = []
    with World(seed=1) as world:
        tell = lambda what: heard.append((round(time.monotonic(), 3), what))  # noqa: E731
        process = world.process("main", lambda: main(tell), restart=False)
        if kill_after is not None:
            world.sleep(kill_after)
            process.kill()
        world.until(lambda: not process.running, seconds=100)
        assert process.error is None, process.error
    return heard


def test_an_event_loop_sleeps_in_virtual_time():
    def main(tell: Callable[[Any], None]) -> None:
        async def nap(seconds: float) -> None:
            await asyncio.sleep(seconds)
            tell(seconds)

        async def naps() -> None:
            async with asyncio.TaskGroup() as group:
                for seconds in (3, 1, 2):
                    group.create_task(nap(seconds))
            try:
                async with asyncio.timeout(5):
                    await asyncio.Event().wait()
            except TimeoutError:
                tell("too late")

        asyncio.run(naps())

    assert told(main) == [(1.0, 1), (2.0, 2), (3.0, 3), (8.0, "too late")]


def test_threads_hand_work_to_a_loop_and_the_loop_to_a_pool():
    def main(tell: Callable[[Any], None]) -> None:
        ready: Future[asyncio.AbstractEventLoop] = Future()
        leave: list[Callable[[], None]] = []

        async def live() -> None:
            end = asyncio.Event()
            leave.append(end.set)
            ready.set_result(asyncio.get_running_loop())
            await end.wait()

        async def work() -> str:
            with ThreadPoolExecutor(1) as pool:
                await asyncio.get_running_loop().run_in_executor(pool, time.sleep, 2)
            await asyncio.to_thread(time.sleep, 1)
            return "worked"

        thread = threading.Thread(target=lambda: asyncio.run(live()), name="loop", daemon=True)
        thread.start()
        loop = ready.result(10)
        future = asyncio.run_coroutine_threadsafe(work(), loop)
        while not wait([future], timeout=0.4).done:
            tell("not yet")
        tell(future.result())
        assert thread.is_alive()
        loop.call_soon_threadsafe(leave[0])
        thread.join(5)
        assert not thread.is_alive()
        tell("left")

    words = told(main)
    assert [what for _, what in words] == ["not yet"] * 7 + ["worked", "left"]
    assert words[-1] == (3.0, "left")


def test_queues_wait_for_who_puts():
    def main(tell: Callable[[Any], None]) -> None:
        for kind in (queue.Queue, queue.SimpleQueue):
            items: Any = kind()
            threading.Timer(2, items.put, ["late"]).start()
            tell(items.get(timeout=5))
            try:
                items.get(timeout=1)
            except queue.Empty:
                tell("empty")

    assert told(main) == [(2.0, "late"), (3.0, "empty"), (5.0, "late"), (6.0, "empty")]


def test_a_killed_process_leaves_its_loops_and_pools_without_a_word():
    def main(tell: Callable[[Any], None]) -> None:
        async def live() -> None:
            pool = ThreadPoolExecutor(1)
            loop = asyncio.get_running_loop()
            try:
                tell("begins")
                async with asyncio.TaskGroup() as group:
                    group.create_task(asyncio.sleep(10))
                    await loop.run_in_executor(pool, time.sleep, 10)
            finally:
                await loop.run_in_executor(pool, time.sleep, 0.1)
                tell("last words")

        asyncio.run(live())

    assert told(main, kill_after=1) == [(0.0, "begins")]
