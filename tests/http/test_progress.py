"""Server-sent events over a real connection."""

import threading
from collections.abc import Callable, Iterator

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.types import ASGIApp

from millstream.http.problems import install_problems
from millstream.http.progress import Progress, Update


class Story:
    """The steps of one order, and a service that tells them."""

    def __init__(self, heartbeat: float = 15.0, limit: int = 10) -> None:
        self.steps = [Update(0, {"status": "created"})]
        self.progress = Progress(heartbeat=heartbeat, limit=limit)
        self.app = FastAPI()
        install_problems(self.app)

        @self.app.get("/orders/{order_id}/progress")
        async def follow(order_id: str, request: Request) -> Response:
            return await self.progress.stream(request, order_id, self.since)

    async def since(self, version: int) -> list[Update]:
        return [step for step in self.steps if step.version > version]

    def add(self, status: str, *, last: bool = False) -> None:
        self.steps.append(Update(len(self.steps), {"status": status}, last=last))
        self.progress.notify(["o-1", "unfollowed"])


def blocks(response: httpx.Response) -> Iterator[dict[str, str]]:
    block: dict[str, str] = {}
    for line in response.iter_lines():
        if line:
            name, _, value = line.partition(":")
            block[name] = value.strip()
        elif block:
            yield block
            block = {}


def updates(response: httpx.Response) -> Iterator[dict[str, str]]:
    return (block for block in blocks(response) if "id" in block)


@pytest.fixture
def follow(serve: Callable[[ASGIApp], str]):
    def at(story: Story, last: str | None = None):
        headers = {} if last is None else {"last-event-id": last}
        return httpx.stream("GET", serve(story.app) + "/orders/o-1/progress", headers=headers, timeout=5)

    return at


def test_news_from_another_thread_arrives_and_the_last_ends_the_stream(follow: Callable[..., httpx.Response]):
    story = Story()
    with follow(story) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        coming = updates(response)
        assert next(coming) == {"id": "0", "event": "update", "data": '{"status":"created"}'}
        thread = threading.Thread(target=story.add, args=("reserved",))
        thread.start()
        assert next(coming)["data"] == '{"status":"reserved"}'
        thread.join()
        story.add("completed", last=True)
        assert [update["id"] for update in coming] == ["2"]


def test_a_client_resumes_after_what_it_saw(follow: Callable[..., httpx.Response]):
    story = Story()
    story.add("reserved")
    story.add("completed", last=True)
    with follow(story, "0") as response:
        assert [update["id"] for update in updates(response)] == ["1", "2"]
    with follow(story, "2") as response:
        assert response.status_code == 204


def test_a_quiet_stream_is_kept_alive(follow: Callable[..., httpx.Response]):
    with follow(Story(heartbeat=0.05)) as response:
        coming = blocks(response)
        assert {"", "id"} <= {name for _ in range(3) for name in next(coming)}


def test_a_missed_notification_is_made_up_for(follow: Callable[..., httpx.Response]):
    story = Story(heartbeat=0.05)
    with follow(story) as response:
        coming = updates(response)
        next(coming)
        story.steps.append(Update(1, {"status": "completed"}, last=True))
        assert [update["id"] for update in coming] == ["1"]


@pytest.mark.parametrize("last", ["x", "-1", "9" * 30, "½"])
def test_an_id_that_is_not_ours_is_refused(follow: Callable[..., httpx.Response], last: str):
    with follow(Story(), last.encode()) as response:
        assert response.status_code == 400


def test_streams_are_bounded(follow: Callable[..., httpx.Response]):
    story = Story(limit=0)
    with follow(story) as response:
        assert response.status_code == 503


def test_close_ends_the_streams(serve: Callable[[ASGIApp], str]):
    story = Story()

    @story.app.post("/close")
    async def close() -> None:
        story.progress.close()

    url = serve(story.app)
    with httpx.stream("GET", f"{url}/orders/o-1/progress", timeout=5) as response:
        coming = updates(response)
        next(coming)
        httpx.post(f"{url}/close")
        assert list(coming) == []
