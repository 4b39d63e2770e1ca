"""The catalogue as one HTML page that needs nothing else: no script, no network."""

from collections.abc import Iterator
from html import escape

from millstream.operate.documents.markdown import meaning
from millstream.operate.documents.model import ClassTold, SystemTold, TopicTold

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 0 auto; padding: 1rem 1.5rem 4rem; }
h2 { margin-top: 3rem; border-bottom: 1px solid var(--line); }
h3 { margin: 2rem 0 .25rem; }
code { font: .9em ui-monospace, monospace; background: var(--soft); padding: .1em .3em; border-radius: .25em; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .3rem .75rem .3rem 0; border-bottom: 1px solid var(--line); }
.personal { border: 1px solid; border-radius: .25em; padding: 0 .3em; font-size: .8em; }
p.who { margin: .25rem 0; }
"""


def html(told: SystemTold) -> str:
    """The page, the same for the same declaration."""
    return "\n".join(_page(told)) + "\n"


def _page(told: SystemTold) -> Iterator[str]:
    title = f"{escape(told.name)}: topics and events"
    yield "<!doctype html>"
    yield '<html lang="en">'
    yield f'<head><meta charset="utf-8"><title>{title}</title>'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<style>{_STYLE}</style></head>"
    yield f"<body><h1>{title}</h1>"
    rows = [
        [
            f'<a href="#{escape(topic.topic.name)}"><code>{escape(topic.topic.name)}</code></a>',
            ", ".join(_link(message.told) for message in topic.messages),
            escape(", ".join(topic.senders)),
            escape(", ".join(topic.receivers)),
            escape(topic.retention),
        ]
        for topic in told.topics
    ]
    yield from _table(["topic", "carries", "sent by", "received by", "kept"], rows)
    for topic in told.topics:
        yield from _topic(topic)
    if told.values:
        yield "<h2>Values</h2>"
    for value in told.values:
        yield from _class(value)
    yield "</body></html>"


def _topic(told: TopicTold) -> Iterator[str]:
    topic = told.topic
    yield f'<h2 id="{escape(topic.name)}"><code>{escape(topic.name)}</code></h2>'
    yield (
        f"<p>{topic.partitions} partitions, keyed by <code>{escape(told.key)}</code>, kept {escape(told.retention)}, "
        f"as {topic.format}. What cannot be handled goes to <code>{escape(topic.dead_letters)}</code>.</p>"
    )
    for message in told.messages:
        yield from _class(message.told)
        yield f'<p class="who">{message.kind}, sent by {_names(message.producers)}</p>'
        yield f'<p class="who">received by {_names(message.consumers)}</p>'


def _class(told: ClassTold) -> Iterator[str]:
    yield f'<h3 id="{escape(told.name)}">{escape(told.title)}</h3>'
    if told.doc:
        yield f"<p>{escape(told.doc)}</p>"
    if told.fields:
        rows = [
            [
                f"<code>{escape(field.name)}</code>",
                escape(field.type),
                escape(field.default or ""),
                escape(meaning(field)).replace("personal", '<span class="personal">personal</span>', field.personal),
            ]
            for field in told.fields
        ]
        yield from _table(["field", "type", "default", "meaning"], rows)


def _table(head: list[str], rows: list[list[str]]) -> Iterator[str]:
    yield '<div class="wide"><table><thead><tr>' + "".join(f"<th>{cell}</th>" for cell in head) + "</tr></thead><tbody>"
    for row in rows:
        yield "<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>"
    yield "</tbody></table></div>"


def _link(told: ClassTold) -> str:
    return f'<a href="#{escape(told.name)}">{escape(told.title)}</a>'


def _names(names: list[str]) -> str:
    return ", ".join(f"<code>{escape(name)}</code>" for name in names) or "nobody here"
