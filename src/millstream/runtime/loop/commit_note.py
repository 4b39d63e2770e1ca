"""The metadata beside a committed offset: which topic of which cluster it is an offset of, and what is done beyond it.

Kafka stores up to 4,095 UTF-16 units beside an offset, and returns them unchanged. So do tools that copy offsets
between clusters, MirrorMaker 2 among them: they translate the offset and copy what is beside it word for word. And a
group's offsets may outlive their topic: a member that goes on committing while the topic is deleted and created again
commits offsets of the old one for the new one. So a note names what it belongs to, and is ignored for anything else.

The form is `ms1` and named parts, separated by spaces: `c` cluster, `t` topic id, `o` the offset itself, `s` the topics
that hold state, `d` what is done beyond the offset, `m` a mark of the transaction.
"""

import hashlib
from typing import NamedTuple

MAX_UNITS = 4_095
"""UTF-16 units that a broker stores beside an offset. A note has ASCII only."""

_FORM = "ms1"


class CommitNote(NamedTuple):
    """The metadata of one committed offset.

    - `cluster`, `state`: from `cluster_token` and `topic_token`.
    - `done`: what is finished beyond the offset, as `watermark` writes it.
    - `mark`: tells a transaction from all others.
    """

    cluster: str
    topic: str
    offset: int
    state: tuple[str, ...] = ()
    done: str = ""
    mark: str = ""

    def text(self) -> str:
        """Return it in the form that is committed.

        >>> CommitNote("c1", "t1", 75, done="1,3").text()
        'ms1 c=c1 t=t1 o=75 d=1,3'
        """
        parts = {"c": self.cluster, "t": self.topic, "o": str(self.offset), "s": ",".join(self.state)}
        parts |= {"d": self.done, "m": self.mark}
        return " ".join([_FORM, *(f"{name}={value}" for name, value in parts.items() if value)])


def read_note(metadata: str) -> CommitNote | None:
    """The note in a committed offset's metadata; None for what is none of ours.

    >>> read_note("ms1 c=c1 t=t1 o=75 d=1,3").done
    '1,3'
    >>> read_note("whatever another tool keeps there")
    """
    form, *words = metadata.split(" ")
    parts = dict(word.split("=", 1) for word in words if "=" in word)
    if form != _FORM or not parts.get("o", "").isdecimal():
        return None
    state = tuple(token for token in parts.get("s", "").split(",") if ":" in token)
    return CommitNote(
        parts.get("c", ""), parts.get("t", ""), int(parts["o"]), state, parts.get("d", ""), parts.get("m", "")
    )


def cluster_token(cluster_id: str) -> str:
    """A short name of a cluster."""
    return _short(cluster_id, 8)


def topic_token(topic: str, id: str) -> str:
    """A short name of one topic, and after a colon one of its id: a service may have hundreds of stores."""
    return f"{_short(topic, 6)}:{_short(id, 6) if id else ''}"


def _short(text: str, digits: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:digits]
