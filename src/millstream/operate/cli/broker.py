"""`millstream broker`: the local broker is a program of its own, which stands apart from this one."""

import os
import sys
from typing import Never

from millstream.extras import require


def become_broker(arguments: list[str]) -> Never:
    """Turn this process into the broker, with options and help of its own and nothing of this command line in its
    memory."""
    require("local", "`millstream broker`")
    os.execv(sys.executable, [sys.executable, "-m", "millstream.local", *arguments])  # noqa: S606 (no shell is wanted)
