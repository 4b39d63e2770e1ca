"""The same application, served the same way, whose publisher publishes nothing: what a route costs by itself."""

import sys
from functools import cached_property
from typing import Any

from bench.web_server import main
from millstream.contracts import edge_id
from millstream.http.web import Web


class Nothing:
    """Stands where the publisher does."""

    async def publish(self, event: Any, *more: Any, id: str | None = None, correlation_id: str | None = None) -> str:
        return id or edge_id()


class WebWithoutPublishing(Web):
    @cached_property
    def publisher(self) -> Any:
        return Nothing()


if __name__ == "__main__":
    main(WebWithoutPublishing, *sys.argv[1:4])
