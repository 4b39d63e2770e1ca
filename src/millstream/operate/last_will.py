"""Children that do not outlive the process that started them."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def die_with(parent: int) -> Callable[[], None] | None:
    """A `preexec_fn`: the kernel kills the child when `parent` (this process) dies, however it dies. None off Linux.

    The kernel watches the thread that starts the child: start it from one that lives as long as the child shall. A
    program that changes its user is not watched any more.

    Example: `subprocess.Popen(["sleep", "60"], preexec_fn=die_with(os.getpid()))`
    """
    libc = _libc
    if libc is None:
        return None

    def ask_the_kernel() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)

    return ask_the_kernel
