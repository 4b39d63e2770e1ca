"""Open files, a bounded number of them: a thousand partitions must not need a thousand descriptors."""

import os
from collections import OrderedDict
from pathlib import Path


class Files:
    """Opens files for reading and appending on first use and closes the one not used for longest."""

    def __init__(self, limit: int = 512, *, fsync: bool = False) -> None:
        self.fsync = fsync
        self._limit = limit
        self._open: OrderedDict[Path, int] = OrderedDict()

    def get(self, path: Path) -> int:
        """The descriptor of `path`, good until the next call."""
        fd = self._open.get(path)
        if fd is not None:
            self._open.move_to_end(path)
            return fd
        while len(self._open) >= self._limit:
            os.close(self._open.popitem(last=False)[1])
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._open[path] = fd
        return fd

    def append(self, path: Path, data: bytes | bytearray | memoryview) -> None:
        """Append `data` to `path`, wholly or not at all. Raises OSError."""
        fd = self.get(path)
        written = 0
        try:
            written = os.write(fd, data)
            while written < len(data):
                written += os.write(fd, memoryview(data)[written:])
            if self.fsync:
                os.fdatasync(fd)
        except OSError:
            os.ftruncate(fd, os.fstat(fd).st_size - written)
            raise

    def forget(self, path: Path) -> None:
        """Close `path` if it is open: it is about to be removed."""
        fd = self._open.pop(path, None)
        if fd is not None:
            os.close(fd)

    def forget_folder(self, folder: Path) -> None:
        for path in [path for path in self._open if path.parent == folder]:
            self.forget(path)

    def close(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1])


def replace_file(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Put `data` in the place of `path` so that a reader finds the old or the new content, never a part.

    Without `sync` that holds when the process dies, with it also when the machine does.
    """
    draft = path.with_name(path.name + ".new")
    with draft.open("wb") as file:
        file.write(data)
        if sync:
            file.flush()
            os.fdatasync(file.fileno())
    draft.replace(path)
