"""A topology as it is declared, and as it runs for one partition."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from millstream.errors import DeclarationError
from millstream.streams.operators.base import Operator, Sink, Task
from millstream.streams.operators.timers import WallTimer
from millstream.streams.records import Record

Make = Callable[[Task, Sequence[Any]], Operator]
"""Makes the operator of a node for a task, from the operators of the nodes that it depends on."""


@dataclass(eq=False, slots=True)
class Node:
    """One step of a topology.

    - `inputs`: the nodes whose records it takes, in order; `inlets` has one operator for each of them, where the node
      tells them apart.
    - `needs`: further nodes that it looks into.
    """

    make: Make
    inputs: tuple["Node", ...] = ()
    needs: tuple["Node", ...] = ()
    inlets: Callable[[Task, Any, int], Operator] | None = None


@dataclass(slots=True)
class Graph:
    """The nodes of a topology, each after those that it depends on."""

    nodes: list[Node] = field(default_factory=list)
    sources: dict[str, Node] = field(default_factory=dict)

    def add(self, node: Node) -> Node:
        """Add a node. Raises `DeclarationError` where it takes what belongs to another topology."""
        if not {*map(id, node.inputs), *map(id, node.needs)} <= set(map(id, self.nodes)):
            raise DeclarationError("streams and tables that meet belong to one topology: declare both with it")
        self.nodes.append(node)
        return node

    def source(self, topic: str) -> Node:
        """Return the entry of a topic, one for all who read it."""
        if topic not in self.sources:
            self.sources[topic] = self.add(Node(lambda task, _: Operator(task)))
        return self.sources[topic]

    def sink(self, node: Node, topic: str) -> None:
        self.add(Node(lambda task, _: Sink(task, topic), (node,)))

    def number(self) -> int:
        """Return a number for the name of a store."""
        return len(self.nodes)


class TopologyTask:
    """A topology at work on one partition.

    A record is processed to its end, or not at all: what it changed in stores is taken back where an operator raises.
    """

    def __init__(self, graph: Graph, task: Task) -> None:
        self.task = task
        made: dict[int, Operator] = {}
        for node in graph.nodes:
            operator = node.make(task, [made[id(other)] for other in (*node.inputs, *node.needs)])
            made[id(node)] = operator
            for side, other in enumerate(node.inputs):
                inlet = operator if node.inlets is None else node.inlets(task, operator, side)
                made[id(other)].children.append(inlet)
        self._sources = {topic: made[id(node)] for topic, node in graph.sources.items()}
        self._timers = [operator for operator in made.values() if isinstance(operator, WallTimer)]
        task.keep()

    def process(self, topic: str, record: Record) -> None:
        """Process one record. Raises `KeyError` for a topic that the topology does not read."""
        try:
            self._sources[topic].process(record)
        except BaseException:
            self.task.undo()
            raise
        self.task.keep()

    def advance_wall_clock(self, milliseconds: int) -> None:
        """Put the wall clock forward; timers that are due tick once."""
        self.task.wall_clock += milliseconds
        for timer in self._timers:
            timer.wake()
        self.task.keep()
