"""Compatibility: the rules of Confluent's registry, which compares two schemas piece by piece.

https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/serdes-json.html
"""

from collections.abc import Callable

from millstream.schemas.formats import TooMuch
from millstream.schemas.json_schema import array_rules, matching, object_rules, value_rules
from millstream.schemas.json_schema.content import Patterns
from millstream.schemas.json_schema.differences import Difference, fits, kept
from millstream.schemas.json_schema.nodes import Node

MAX_STEPS = 300_000
"""Pairs of schemas that one comparison may look at; two hostile schemas of 1 MB could take hours."""

GLANCE = 0.2
"""The cost of a look at a pair that is known; schemas that hold each other do so all the time."""

CARRIED = 0.1
"""The cost of carrying one difference to the place where it is met again; a pair may have a hundred."""

MAX_NESTED = 60
"""The number of comparisons that may wait for each other; deeper ones are looked at afterwards: a stack ends."""

Pair = tuple[int, int]


def differences(reader: Node, writer: Node) -> list[Difference]:
    """List how `reader` differs from `writer`, harmless differences included; data fits if there are no others.

    Never more than `MAX_TOLD`. Raises `TooMuch`.
    """
    budget = _Budget()
    refuted: dict[Pair, list[Difference]] = {}
    while True:
        comparison = Comparison(budget, refuted)
        found = comparison.whole(writer, reader)
        known, refuted = refuted, refuted | comparison.misfits
        if not comparison.assumed or refuted.keys() == known.keys():
            return found


class _Budget:
    def __init__(self) -> None:
        self.left = MAX_STEPS
        self.patterns = Patterns()

    def spend(self, steps: float = GLANCE) -> None:
        self.left -= steps
        if self.left < 0:
            raise TooMuch(f"comparing the schemas takes more than {MAX_STEPS} steps")


class Comparison:
    """One way through a pair of schemas.

    While a pair is being compared, or too deep to be compared at once, it counts as fitting, unless a way before has
    `refuted` that: only so does a recursive schema come to an end, and only by going again is what was assumed of a
    pair never held to be known.
    """

    def __init__(self, budget: _Budget, refuted: dict[Pair, list[Difference]]) -> None:
        self.assumed = False
        self.misfits: dict[Pair, list[Difference]] = {}
        self.step: Callable[[], None] = budget.spend
        self._budget = budget
        self.patterns = budget.patterns
        self._refuted = refuted
        self._known: dict[Pair, list[Difference]] = {}
        self._under_way: set[Pair] = set()
        self._postponed: list[tuple[Node, Node]] = []

    def whole(self, writer: Node, reader: Node) -> list[Difference]:
        found = self.of(writer, reader, "")
        while self._postponed:
            self.of(*self._postponed.pop(), "")
        return found

    def of(self, writer: Node | None, reader: Node | None, path: str) -> list[Difference]:
        self.step()
        if writer is None or reader is None:
            if writer is reader:
                return []
            return [Difference("SCHEMA_ADDED" if writer is None else "SCHEMA_REMOVED", path)]
        writer, reader = writer.target, reader.target
        pair = (id(writer), id(reader))
        found = self._known.get(pair)
        if found is None and (pair in self._under_way or len(self._under_way) >= MAX_NESTED):
            self.assumed = self.assumed or pair not in self._refuted
            found = self._refuted.get(pair, [])
            if pair not in self._under_way:
                self._postponed.append((writer, reader))
        elif found is None:
            self._budget.spend(1)
            self._under_way.add(pair)
            self._known[pair] = found = kept(self._compare(writer, reader))
            self._under_way.remove(pair)
            if not fits(found):
                self.misfits[pair] = found
        return self._under(path, found)

    def _under(self, path: str, found: list[Difference]) -> list[Difference]:
        if not (path and found):
            return found
        self._budget.spend(CARRIED * len(found))
        return [difference.under(path) for difference in found]

    def _compare(self, writer: Node, reader: Node) -> list[Difference]:
        if (writer.kind == "combined") != (reader.kind == "combined"):
            found = self._one_combined(writer, reader)
            if found is not None:
                return found
        if writer.kind == reader.kind:
            return value_rules.annotations(writer, reader) + self._same_kind(writer, reader)
        if writer.kind == "false" or reader.kind == "empty":
            return []
        if writer.connect_type == reader.connect_type == "bytes":
            # Kafka Connect once wrote decimals as strings and later as numbers, and both are its bytes.
            return []
        return [Difference("TYPE_CHANGED", detail=f"reader: {reader.kind}, writer: {writer.kind}")]

    def _one_combined(self, writer: Node, reader: Node) -> list[Difference] | None:
        """The differences of the one part that is enough; None if there is none."""
        if reader.kind == "combined":
            choices = [(writer, part) for part in reader.parts]
            may_choose, by_choice = reader.criterion in ("anyOf", "oneOf"), "SUM_TYPE_EXTENDED"
        else:
            choices = [(part, reader) for part in writer.parts]
            may_choose, by_choice = writer.criterion == "allOf", "PRODUCT_TYPE_NARROWED"
        if len(choices) != 1 and not may_choose:
            return None
        for written, read in choices:
            found = self.of(written, read, "")
            if fits(found):
                return found if len(choices) == 1 else [*found, Difference(by_choice)]
        return None

    def _same_kind(self, writer: Node, reader: Node) -> list[Difference]:
        match writer.kind:
            case "string" | "number":
                return value_rules.limits(writer, reader)
            case "enum":
                return value_rules.enums(writer, reader)
            case "const":
                return value_rules.constants(writer, reader)
            case "not":
                # What must not be is compared the other way round.
                narrowed = fits(self.of(reader.held, writer.held, ""))
                return [Difference("NOT_TYPE_NARROWED" if narrowed else "NOT_TYPE_EXTENDED", "/not")]
            case "object":
                return object_rules.compare(self, writer, reader)
            case "array":
                return array_rules.compare(self, writer, reader)
            case "combined":
                return self._both_combined(writer, reader)
            case _:
                return []

    def _both_combined(self, writer: Node, reader: Node) -> list[Difference]:
        found = value_rules.criteria(writer, reader)
        if not fits(found):
            return found
        fitting: list[dict[int, list[Difference]]] = [{} for _ in writer.distinct]
        for i, written in enumerate(writer.distinct):
            for j, read in enumerate(reader.distinct):
                if fits(way := self.of(written, read, "")):
                    fitting[i][j] = way
        matched = matching.pairs([list(ways) for ways in fitting], self.step)
        for i, j in matched.items():
            found += self._under(f"/{writer.criterion}/{i}", fitting[i][j])
        if len(matched) < min(len(writer.distinct), len(reader.distinct)):
            found.append(Difference("COMBINED_TYPE_SUBSCHEMAS_CHANGED"))
        return found
