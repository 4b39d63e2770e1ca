"""The comments of a .proto file, which its reader passes over: what stands before a declaration is about it."""

import re
from bisect import bisect_left

_COMMENT_OR_STRING = re.compile(
    r"""(?P<comment> //[^\n]* | /\*.*?\*/ ) | "(?: [^"\\\n] | \\. )*" | '(?: [^'\\\n] | \\. )*'""",
    re.VERBOSE | re.DOTALL,
)


class Comments:
    """Looks comments up by the offset of the declaration that they are about.

    >>> text = "string a = 1; // trailing\\n// as the customer\\n/* calls it */ string b = 2;"
    >>> Comments(text).before(text.index("string b"))
    'as the customer calls it'
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._found = [found.span() for found in _COMMENT_OR_STRING.finditer(text) if found["comment"]]

    def before(self, offset: int) -> str:
        """The words between the declaration at `offset` and the one before it, whose line they do not end."""
        text, begin = self._text, offset
        run: list[tuple[int, int]] = []
        for place in reversed(range(bisect_left(self._found, (offset, offset)))):
            first, end = self._found[place]
            if text[end:begin].strip():
                break
            run.insert(0, (first, end))
            begin = first
        trails = text[text.rfind("\n", 0, begin) + 1 : begin].strip()
        line_end = text.find("\n", begin, offset) if trails else -1
        return " ".join(_words(text[first:end]) for first, end in run if first > line_end).strip()


def _words(comment: str) -> str:
    lines = comment.removeprefix("/*").removesuffix("*/").splitlines()
    return " ".join(line.strip().lstrip("/*").strip() for line in lines).strip()
