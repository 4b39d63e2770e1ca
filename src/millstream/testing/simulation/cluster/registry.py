"""A schema registry in memory."""

import msgspec

from millstream.contracts.meeting import Written
from millstream.contracts.registry import Registry


class SimulatedRegistry(Registry):
    """Numbers schemas in the order in which they are registered, and refuses none. For all processes of a world."""

    def __init__(self) -> None:
        super().__init__("http://simulated")
        self._texts: list[tuple[str, str]] = []

    def register(self, subject: str, schema: str, kind: str = "AVRO") -> int:
        if (kind, schema) not in self._texts:
            self._texts.append((kind, schema))
        return self._texts.index((kind, schema)) + 1

    def written(self, schema_id: int) -> Written | None:
        if not 0 < schema_id <= len(self._texts):
            return None
        kind, text = self._texts[schema_id - 1]
        return Written(kind, text if kind == "PROTOBUF" else msgspec.json.decode(text))
