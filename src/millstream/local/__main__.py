"""`python -m millstream.local`: what `millstream broker` runs."""

import millstream.local.lean  # noqa: F401, I001 (first: it keeps others from being imported)

import asyncio
import ctypes
import logging
import os
import resource
import signal
import sys

from millstream.local.options import parse

_PR_SET_PDEATHSIG = 1
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 16 << 20
FAILED, CANNOT, IN_USE = 1, 2, 3


def main() -> int:
    """Runs a broker until a signal ends it; the exit code, as `--help` explains it."""
    options = parse(sys.argv[1:])
    # Every line of ours has a code; those of libraries have none.
    line = logging.Formatter("%(asctime)s %(levelname)s %(code)s: %(message)s", defaults={"code": "library"})
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(line)
    logging.basicConfig(level=options.log_level, handlers=[handler])
    if options.exit_with_parent and not _follow_parent():
        return 0
    _allow_many_files()
    _keep_freed_memory()
    # Here, so that wrong usage is told without waiting for it.
    from millstream.local.broker.data_lock import DataLock
    from millstream.local.broker.errors import DataError, InUse
    from millstream.local.platform import CannotListen, serve

    if not options.listen.is_loopback:
        _say(f"warning: whoever reaches {options.listen} can read and write everything; there is no authentication")
    try:
        lock = DataLock(options.data)
        lock.__enter__()
    except InUse as error:
        return _say(str(error), IN_USE)
    except OSError as error:
        return _say(f"--data {options.data}: {error.strerror}; name a folder that this user may write", CANNOT)
    try:
        return asyncio.run(serve(options))
    except CannotListen as error:
        return _say(f"{error}; choose another address, or port 0 for a free one", CANNOT)
    except (DataError, OSError) as error:
        return _say(str(error), FAILED)


def _say(what: str, code: int = 0) -> int:
    print(f"millstream broker: {what}", file=sys.stderr)
    return code


def _follow_parent() -> bool:
    """Have the system send SIGTERM when the parent dies; False if it is dead already."""
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    return os.getppid() == parent


def _keep_freed_memory() -> None:
    """Let glibc keep what an answer of a megabyte has used for the next one; to fetch it anew, page by page, takes
    three times as long as all else that a reader costs."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 2 * _KEPT_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def _allow_many_files() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    sys.exit(main())
