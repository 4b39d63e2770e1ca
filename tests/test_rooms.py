"""The house: rooms import downwards only, no files import each other, and one room alone speaks to librdkafka."""

import ast
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "millstream"
ROOMS = (
    "operate",
    "http",
    "patterns",
    "runtime",
    "streams",
    "state",
    "kafka",
    "contracts",
    "schemas",
    "telemetry",
    "declare",
    "settings",
    "user_code",
    "timeouts",
    "extras",
    "errors",
)
APART = {"local", "testing"}
RUNTIME = SOURCE / "runtime"
RUNTIME_ROOMS = ({"kafka", "sql", "effect"}, {"loop"}, {"task"}, {"records"})
"""The rooms of the runtime, from above; those that stand beside each other import nothing of each other."""
FILES = sorted(SOURCE.rglob("*.py"))
Graph = Mapping[str, set[str]]
"""The modules that each module imports."""


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; name the room"
            yield node.module or ""


def rooms_imported(path: Path) -> set[str]:
    return {name.split(".")[1] for name in imports_of(path) if name.startswith("millstream.")}


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")


def modules_imported(path: Path, modules: set[str]) -> set[str]:
    """The modules of `modules` that a file names in its imports, wherever they stand and for whatever purpose.

    A name that a package only re-exports stands for the package.
    """
    named: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            submodules = {f"{node.module}.{alias.name}" for alias in node.names}
            named |= (submodules & modules) | ({str(node.module)} if submodules - modules else set())
    return named & modules


def import_circles(graph: Graph) -> list[list[str]]:
    """The strongly connected components of more than one module, and modules that import themselves."""
    reached = {module: reachable(graph, module) for module in graph}
    circles = {
        tuple(sorted(other for other in reached[module] if module in reached[other]))
        for module in graph
        if module in reached[module]
    }
    return [list(circle) for circle in sorted(circles)]


def reachable(graph: Graph, module: str) -> set[str]:
    """The modules that `module` imports, directly or through others."""
    found: set[str] = set()
    waiting = list(graph[module])
    while waiting:
        imported = waiting.pop()
        if imported not in found:
            found.add(imported)
            waiting += graph[imported]
    return found


def test_circles_of_imports_are_found():
    graph = {"a": {"b"}, "b": {"c", "d"}, "c": {"b"}, "d": set[str](), "e": {"e"}}
    assert import_circles(graph) == [["b", "c"], ["e"]]


def test_no_files_import_each_other_in_a_circle():
    modules = {module_of(path) for path in FILES}
    circles = import_circles({module_of(path): modules_imported(path, modules) for path in FILES})
    assert not circles, "no order to read or test these files in; move what they share into a file below them:\n" + (
        "\n".join(" ↔ ".join(circle) for circle in circles)
    )


def test_every_room_is_in_the_plan():
    rooms = {room_of(path) for path in FILES} - {"__init__"}
    assert rooms <= {*ROOMS, *APART}, "a new room: give it its place in ROOMS and in the documentation"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_room_imports_only_rooms_below_it(path: Path):
    room = room_of(path)
    imported = rooms_imported(path) - {room}
    if room == "__init__":
        assert imported <= {"declare", "errors"}, "`import millstream` stays light: declarations only"
    elif room in ROOMS:
        below = set(ROOMS[ROOMS.index(room) + 1 :])
        assert imported <= below, f"{room} may import {sorted(below)}"
    else:
        # They stand apart: what runs a service never needs them.
        assert room in APART


def runtime_room(parts: Sequence[str]) -> str | None:
    """The room within `runtime/` of a file or module; `None` for the files that all rooms use."""
    return parts[0] if any(parts[0] in level for level in RUNTIME_ROOMS) else None


def test_every_room_of_the_runtime_is_in_the_plan():
    rooms = {path.parent.name for path in RUNTIME.glob("*/__init__.py")}
    assert rooms == set[str]().union(*RUNTIME_ROOMS)


@pytest.mark.parametrize("path", sorted(RUNTIME.rglob("*.py")), ids=lambda path: str(path.relative_to(RUNTIME)))
def test_a_room_of_the_runtime_imports_only_rooms_below_it(path: Path):
    names = [name.split(".") for name in imports_of(path) if name.startswith("millstream.runtime.")]
    imported = {runtime_room(parts[2:]) for parts in names}
    room = runtime_room(path.relative_to(RUNTIME).parts)
    level = next((number for number, rooms in enumerate(RUNTIME_ROOMS) if room in rooms), len(RUNTIME_ROOMS))
    below = set[str | None]().union({room, None}, *RUNTIME_ROOMS[level + 1 :])
    assert imported <= below, f"{room or path.name} may import {sorted(filter(None, below))}"


def test_folders_of_the_runtime_have_at_most_fourteen_files():
    sizes = Counter(path.parent.name for path in RUNTIME.rglob("*.py"))
    assert max(sizes.values()) <= 14, f"a folder with more than a dozen files wants rooms: {sizes}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_only_the_kafka_room_imports_librdkafka(path: Path):
    if room_of(path) != "kafka":
        assert not [name for name in imports_of(path) if name.split(".")[0] == "confluent_kafka"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_files_have_one_subject(path: Path):
    assert len(path.read_text().splitlines()) <= 500, "past 500 lines there is a second subject in it"
