"""Schemas without a registry beside the broker."""

import msgspec

from millstream.contracts.registry import Registry
from millstream.contracts.schema import Schema


class SimulatedRegistry(Registry):
    """Gives schemas their ids in the order in which they come, and refuses none. For all processes of a world."""

    def __init__(self) -> None:
        super().__init__("http://simulated")
        self._texts: list[str] = []

    def register(self, subject: str, schema: str) -> int:
        if schema not in self._texts:
            self._texts.append(schema)
        return self._texts.index(schema) + 1

    def schema(self, schema_id: int) -> Schema | None:
        return msgspec.json.decode(self._texts[schema_id - 1]) if 0 < schema_id <= len(self._texts) else None
