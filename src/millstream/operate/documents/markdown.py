"""The catalogue as Markdown: every topic, class and field, who sends and who receives."""

from collections.abc import Iterator

from millstream.operate.documents.model import ClassTold, FieldTold, SystemTold, TopicTold


def markdown(told: SystemTold) -> str:
    """The text, the same for the same declaration."""
    return "\n".join(_page(told)) + "\n"


def _page(told: SystemTold) -> Iterator[str]:
    yield f"# {told.name}: topics and events"
    yield ""
    yield "Derived from the code by `millstream docs`; do not edit."
    yield ""
    yield "| topic | carries | sent by | received by | kept |"
    yield "|---|---|---|---|---|"
    for topic in told.topics:
        carries = ", ".join(f"[{m.told.title}](#{_anchor(m.told.name)})" for m in topic.messages)
        cells = (f"`{topic.topic.name}`", carries, ", ".join(topic.senders), ", ".join(topic.receivers))
        yield _row(*cells, topic.retention)
    for topic in told.topics:
        yield from _topic(topic)
    if told.values:
        yield ""
        yield "## Values"
    for value in told.values:
        yield from _class(value, "###")


def _topic(topic: TopicTold) -> Iterator[str]:
    yield ""
    yield f"## `{topic.topic.name}`"
    yield ""
    kept = f"kept {topic.retention}, as {topic.topic.format}"
    yield f"{topic.topic.partitions} partitions, keyed by `{topic.key}`, {kept}."
    yield f"What cannot be handled goes to `{topic.topic.dead_letters}`."
    for message in topic.messages:
        yield from _class(message.told, "###")
        yield ""
        yield f"- {message.kind}, sent by {_names(message.producers)}"
        yield f"- received by {_names(message.consumers)}"


def _class(told: ClassTold, level: str) -> Iterator[str]:
    yield ""
    yield f'<a id="{_anchor(told.name)}"></a>'
    yield ""
    yield f"{level} {told.title}"
    if told.doc:
        yield ""
        yield told.doc
    if told.fields:
        yield ""
        yield "| field | type | default | meaning |"
        yield "|---|---|---|---|"
        for field in told.fields:
            yield _row(f"`{field.name}`", field.type, field.default or "", meaning(field))


def meaning(field: FieldTold) -> str:
    """Return the description of a field, in one line."""
    parts = ["personal" if field.personal else "", field.doc]
    parts.append(f"deprecated: {field.deprecated}" if field.deprecated is not None else "")
    return "; ".join(part for part in parts if part)


def _names(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "nobody here"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _anchor(name: str) -> str:
    return name.lower().replace(".", "-")
