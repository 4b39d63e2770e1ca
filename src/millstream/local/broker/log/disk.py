"""The calls that change a disk, one method each."""

import os
from pathlib import Path


class Disk:
    """Whatever the broker writes goes through here, and nothing else does: a test puts another disk in its place that
    records every call, or refuses one. All methods raise OSError as the system does.
    """

    def create(self, path: Path) -> int:
        """A descriptor of `path`, for reading and appending; the file is made if it is missing."""
        return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def write(self, fd: int, data: bytes | bytearray | memoryview) -> int:
        return os.write(fd, data)

    def truncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def sync(self, fd: int) -> None:
        os.fdatasync(fd)

    def sync_folder(self, folder: Path) -> None:
        """What was made, renamed or removed in `folder` stays so."""
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def rename(self, source: Path, target: Path) -> None:
        source.replace(target)

    def unlink(self, path: Path) -> None:
        path.unlink()

    def make_folder(self, folder: Path) -> None:
        folder.mkdir()

    def remove_folder(self, folder: Path) -> None:
        folder.rmdir()
