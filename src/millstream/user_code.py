"""Which lines of a traceback are the user's own code: no library's, not Python's, not ours."""

import os
from pathlib import Path
from traceback import FrameSummary, walk_tb

_OTHERS = (str(Path(os.__file__).parent), str(Path(__file__).parent), "<")


def is_user_code(file: str) -> bool:
    """Whether a file holds code of the user.

    >>> is_user_code("/srv/shop/packing.py"), is_user_code(os.__file__), is_user_code("<frozen importlib._bootstrap>")
    (True, False, False)
    """
    return not file.startswith(_OTHERS) and "site-packages" not in file and "dist-packages" not in file


def place_in_user_code(error: BaseException) -> FrameSummary | None:
    """The innermost line of the user's code that an error came through; None where there is none."""
    if isinstance(error, SyntaxError) and error.filename and is_user_code(error.filename):
        return FrameSummary(error.filename, error.lineno, "<module>", line=error.text)
    frames = [(frame.f_code, line) for frame, line in walk_tb(error.__traceback__)]
    own = [(code, line) for code, line in frames if is_user_code(code.co_filename)]
    return FrameSummary(own[-1][0].co_filename, own[-1][1], own[-1][0].co_name) if own else None
