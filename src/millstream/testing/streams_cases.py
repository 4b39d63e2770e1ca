"""Runs cases of streams: what goes in, record by record, and what has to come out.

    python -m millstream.testing.streams_cases FILE [--show NAME]

A file has `{"cases": [{"name", "spec", "inputs", "outputs", "emit_interval_ms", "flaw"}]}`: a spec says which topology
it is, and the functions are always the same. Outputs are compared in their order, key by key. A case with a `flaw` says
what another library does wrong, and is left out.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from millstream.streams.api import Cogrouped, Grouped, Stream, Table, Topology
from millstream.streams.records import Windowed
from millstream.streams.windows import Window, hopping, session, sliding, tumbling
from millstream.testing.topology import Produced, TopologyDriver

Output = tuple[str, Any, list[int] | None, Any, int]
"""Topic, key, window, value and time."""


def topology_of(case: Mapping[str, Any]) -> Topology:
    """Return the topology that the spec of a case describes. Raises `KeyError` for an unknown operator."""
    topology = Topology()
    _TOPOLOGIES[case["spec"]["op"]](topology, case)
    return topology


def run(case: Mapping[str, Any]) -> tuple[list[list[Output]], int]:
    """Return what each input of a case brings out, and how many records were dropped."""
    driver = TopologyDriver(topology_of(case), emit_interval=case.get("emit_interval_ms", 0))
    outputs: list[list[Output]] = []
    for given in case["inputs"]:
        if "topic" in given:
            produced = driver.send(given["topic"], given["key"], given["value"], time=given["ts"])
        else:
            produced = driver.advance_wall_clock(given["advance_wall_clock_ms"])
        outputs.append([_output(one) for one in produced])
    return outputs, sum(driver.dropped.values())


def expected(case: Mapping[str, Any]) -> list[list[Output]]:
    """Return what each input of a case has to bring out."""
    outputs: list[list[Output]] = [[] for _ in case["inputs"]]
    for one in case["outputs"]:
        outputs[one["after"]].append((one["topic"], one["key"], one.get("window"), one["value"], one["ts"]))
    return outputs


def by_key(outputs: list[list[Output]]) -> dict[tuple[str, Any], list[Output]]:
    """Return the outputs of each topic and key, in order."""
    found: defaultdict[tuple[str, Any], list[Output]] = defaultdict(list)
    for one in (one for some in outputs for one in some):
        found[one[:2]].append(one)
    return dict(found)


def _output(produced: Produced) -> Output:
    key, window = produced.key, None
    if isinstance(key, Windowed):
        key, window = key.key, [key.start, key.end]
    value = produced.value
    return produced.topic, key, window, None if value is None else str(value), produced.time


# The functions of all cases


def _joined(left: str | None, right: str | None) -> str:
    return f"{'null' if left is None else left}+{'null' if right is None else right}"


def _concat(_: Any, value: str | None, before: str | None) -> str:
    return f"{before},{value}" if before else str(value)


def _concat_sessions(_: Any, one: str, two: str) -> str:
    return f"{one},{two}"


def _reduced(one: str, two: str) -> str | None:
    return None if two == "reset" else one + two


def _ms(milliseconds: float) -> timedelta:
    return timedelta(milliseconds=milliseconds)


def _window(spec: Mapping[str, Any]) -> Window:
    grace = _ms(spec.get("grace", 0))
    match spec["window"]:
        case "tumbling":
            return tumbling(_ms(spec["size"]), grace=grace)
        case "hopping":
            return hopping(_ms(spec["size"]), _ms(spec["advance"]), grace=grace)
        case "sliding":
            return sliding(_ms(spec["difference"]), grace=grace)
        case _:
            return session(_ms(spec["gap"]), grace=grace)


def _aggregated(grouped: Grouped[Any, Any], spec: Mapping[str, Any]) -> Table[Any, Any]:
    on_close = spec.get("emit") == "close"
    if "window" not in spec:
        return {"count": grouped.count, "reduce": lambda: grouped.reduce(_reduced)}[spec["agg"]]()
    windowed = grouped.window(_window(spec))
    match spec["agg"]:
        case "count":
            return windowed.count(on_close=on_close)
        case "reduce":
            return windowed.reduce(_reduced, on_close=on_close)
        case _:
            return windowed.aggregate(_concat, merge=_concat_sessions, on_close=on_close)


# Topologies by the name of their operator


def _out(result: Stream[Any, Any] | Table[Any, Any], topic: str = "out") -> None:
    (result.to_stream() if isinstance(result, Table) else result).to(topic)


def _table(topology: Topology, topic: str, spec: Mapping[str, Any]) -> Table[Any, Any]:
    return topology.table(topic, history=_ms(spec.get("history", 60_000)) if spec.get("versioned") else None)


def _flat_map(topology: Topology, _: Mapping[str, Any]) -> None:
    def split(key: str, value: str) -> list[tuple[str, str]]:
        return [(f"{key}{at}", part) for at, part in enumerate(value.split(",")) if value]

    _out(topology.stream("a").flat_map(split))


def _branch(topology: Topology, _: Mapping[str, Any]) -> None:
    streams = topology.stream("a").branch(
        lambda _, value: value is not None and value.startswith("a"),
        lambda _, value: value is not None and len(value) > 2,
    )
    for stream, topic in zip(streams, ("out-a", "out-long", "out-rest"), strict=True):
        stream.to(topic)


def _group_by(topology: Topology, case: Mapping[str, Any]) -> None:
    grouped = topology.stream("a").group_by(lambda _, value: None if value in (None, "none") else value)
    _out(_aggregated(grouped, case["spec"]))


def _inputs(topology: Topology, case: Mapping[str, Any]) -> Stream[Any, Any]:
    """The stream of an aggregate: topic a, or two topics merged, without what is to be skipped."""
    topics = {given["topic"] for given in case["inputs"] if "topic" in given}
    stream = topology.stream("left").merge(topology.stream("right")) if topics - {"a"} else topology.stream("a")
    return stream.filter(lambda _, value: value != "skip") if "filter(" in case.get("topology", "") else stream


def _aggregate(topology: Topology, case: Mapping[str, Any]) -> None:
    _out(_aggregated(_inputs(topology, case).group_by_key(), case["spec"]))


def _cogroup(topology: Topology, case: Mapping[str, Any]) -> None:
    cogrouped: Cogrouped[Any, str] = (
        topology.stream("left").group_by_key().cogroup(lambda _, value, before: f"{before or ''}l{value}")
    )
    cogrouped = cogrouped.cogroup(
        topology.stream("right").group_by_key(), lambda _, value, before: f"{before or ''}r{value}"
    )
    spec = case["spec"]
    window = _window(spec) if "window" in spec else None
    _out(cogrouped.aggregate() if window is None else cogrouped.window(window))  # type: ignore[arg-type] # no sessions


def _suppress(topology: Topology, case: Mapping[str, Any]) -> None:
    spec = case["spec"]
    if spec["until"] == "window_close":
        aggregated = topology.stream("a").group_by_key().window(_window(spec))
        _out(aggregated.aggregate(_concat, merge=_concat_sessions).suppress_until_close())
    else:
        _out(topology.table("a").suppress(_ms(spec["limit"]), max_records=spec.get("max_records")))


def _stream_join(topology: Topology, case: Mapping[str, Any]) -> None:
    spec = case["spec"]
    left = topology.stream("a" if spec.get("self") else "left")
    right = left if spec.get("self") else topology.stream("right")
    join = {"inner": left.join, "left": left.left_join, "outer": left.outer_join}[spec["kind"]]
    _out(join(right, _joined, before=_ms(spec["before"]), after=_ms(spec["after"]), grace=_ms(spec["grace"])))


def _table_lookup(topology: Topology, case: Mapping[str, Any]) -> None:
    spec = case["spec"]
    stream, table = topology.stream("left"), _table(topology, "right", spec)
    join = {"inner": stream.join_table, "left": stream.left_join_table}[spec["kind"]]
    _out(join(table, _joined, grace=_ms(spec.get("grace", 0))))


def _global_table(topology: Topology, case: Mapping[str, Any]) -> None:
    _out(
        topology.stream("left").left_join_row(
            topology.table("right"), lambda _, value: None if value == "none" else value, _joined
        )
    )


def _table_filter(topology: Topology, _: Mapping[str, Any]) -> None:
    _out(topology.table("a").filter(lambda _, value: value != "x"))


def _table_join(topology: Topology, case: Mapping[str, Any]) -> None:
    spec = case["spec"]
    left, right = (_table(topology, topic, spec) for topic in ("left", "right"))
    join = {"inner": left.join, "left": left.left_join, "outer": left.outer_join}[spec["kind"]]
    _out(join(right, _joined))


def _table_groups(topology: Topology, case: Mapping[str, Any]) -> None:
    functions: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
        "sum": (lambda _, n, before: (before or 0) + int(n), lambda _, n, before: before - int(n)),
        "count": (lambda _, __, before: (before or 0) + 1, lambda _, __, before: before - 1),
        "trace": (lambda _, n, before: f"{before or ''}+{n}", lambda _, n, before: f"{before}-{n}"),
    }

    def group(_: str, value: str) -> tuple[str | None, str]:
        name, number = value.split(":")
        return name or None, number

    spec = case["spec"]
    _out(_table(topology, "a", spec).aggregate_by(group, *functions[spec["agg"]]))


def _foreign_keys(topology: Topology, case: Mapping[str, Any]) -> None:
    left, right = topology.table("left"), topology.table("right")
    join = left.left_join_by if case["spec"]["kind"] == "left" else left.join_by
    _out(join(right, lambda value: value.split(":")[0] or None, _joined))


def _punctuate(topology: Topology, case: Mapping[str, Any]) -> None:
    spec, stream = case["spec"], topology.stream("a")
    if spec["time"] == "stream":
        _out(stream.tick_in_event_time(_ms(spec["interval"]), lambda now: [("tick", str(now))]))
    else:
        _out(stream.tick_by_wall_clock(_ms(spec["interval"]), lambda _: [("tick", "tick")]))


_TOPOLOGIES: dict[str, Callable[[Topology, Mapping[str, Any]], None]] = {
    "map_values": lambda topology, _: _out(
        topology.stream("a").map_values(lambda value: f"V={'null' if value is None else value}")
    ),
    "flat_map": _flat_map,
    "branch": _branch,
    "merge": lambda topology, _: _out(topology.stream("left").merge(topology.stream("right"))),
    "group_by": _group_by,
    "aggregate": _aggregate,
    "window": _aggregate,
    "cogroup": _cogroup,
    "suppress": _suppress,
    "stream_stream_join": _stream_join,
    "stream_table_join": _table_lookup,
    "stream_global_table_join": _global_table,
    "table": lambda topology, case: _out(_table(topology, "a", case["spec"])),
    "table_filter": _table_filter,
    "table_table_join": _table_join,
    "table_group_by": _table_groups,
    "foreign_key_join": _foreign_keys,
    "punctuate": _punctuate,
}


def main(arguments: list[str] | None = None) -> int:
    """Run a file of cases; return 1 if one fails."""
    parser = argparse.ArgumentParser(
        prog="python -m millstream.testing.streams_cases", description="Run a file of cases."
    )
    parser.add_argument("file", type=Path, help="as streams-cases.json of Kafka Streams' answers")
    parser.add_argument("--show", metavar="NAME", help="print this case record by record, whatever its outcome")
    given = parser.parse_args(arguments)
    passed = failed = 0
    for case in json.loads(given.file.read_text())["cases"]:
        if given.show not in (None, case["name"]) or (case.get("flaw") and given.show is None):
            continue
        outputs: list[list[Output]]
        wanted = expected(case)
        try:
            outputs, _ = run(case)
        except Exception as error:
            outputs = [[("raised", repr(error), None, None, 0)]]
        right = by_key(outputs) == by_key(wanted)
        passed, failed = passed + right, failed + (not right)
        if not right or given.show:
            print(f"{'ok' if right else 'FAILED'} {case['name']}")
            for at, some in enumerate(outputs):
                wanted_here = wanted[at] if at < len(wanted) else []
                if some != wanted_here or given.show:
                    print(f"  after {at} {json.dumps(case['inputs'][at])}\n    got    {some}\n    wanted {wanted_here}")
    print(f"{passed} passed, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
