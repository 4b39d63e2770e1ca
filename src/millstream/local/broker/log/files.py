"""Open files, a bounded number of them: a thousand partitions must not need a thousand descriptors."""

import errno
import logging
import os
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

from millstream.local.broker.log.disk import Disk

log = logging.getLogger(__name__)


class Files:
    """Opens files for reading and appending on first use and closes the one not used for longest.

    With `durable`, what was written is remembered until `flush` has put it on the disk: one sync for each file,
    however often it was written. A file whose sync failed takes no more until the broker is started again, for nobody
    knows what of it the disk has: to try once more would succeed and prove nothing.
    """

    def __init__(self, limit: int = 512, *, durable: bool = False, disk: Disk | None = None) -> None:
        self.durable = durable
        self._disk = disk or Disk()
        self._limit = limit
        self._open: OrderedDict[Path, int] = OrderedDict()
        self._unsynced: dict[Path, None] = {}
        self._unsynced_folders: dict[Path, None] = {}
        self._failed: set[Path] = set()
        self._refusing = False
        self.unsynced_bytes = 0
        """How much was appended since the last `flush`."""
        self.sync_failures = 0
        """Counts up with every sync that failed."""

    @property
    def unsynced(self) -> bool:
        """Whether something was written that `flush` has to put on the disk."""
        return bool(self._unsynced) or bool(self._unsynced_folders)

    def get(self, path: Path, *, create: bool = False) -> int:
        """The descriptor of `path`, good until the next call. Raises OSError, also if it is missing and is not to be
        made."""
        fd = self._open.get(path)
        if fd is not None:
            self._open.move_to_end(path)
            return fd
        while len(self._open) >= self._limit:
            os.close(self._open.popitem(last=False)[1])
        try:
            fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except FileNotFoundError:
            if not create:
                raise
            fd = self._disk.create(path)
            self._entry_changed(path)
        self._open[path] = fd
        return fd

    def append(self, path: Path, data: bytes | bytearray | memoryview, *, cache: bool = False) -> None:
        """Append `data` to `path`, wholly or not at all; what is only a `cache` is not synced. Raises OSError."""
        self.check(path)
        written = 0
        fd = -1
        try:
            fd = self.get(path, create=True)
            written = self._disk.write(fd, data)
            while written < len(data):
                written += self._disk.write(fd, memoryview(data)[written:])
        except OSError as error:
            if written:
                self._take_back(path, fd, written)
            if not self._refusing:
                self._refusing = True
                log.error(
                    "cannot write in %s: %s; writes are refused until it can",
                    path.parent,
                    error.strerror,
                    extra={"code": "disk_refuses_writes"},
                )
            raise
        if self._refusing:
            self._refusing = False
            log.warning("%s can be written again", path.parent, extra={"code": "disk_writable_again"})
        if self.durable and not cache:
            self._unsynced[path] = None
            self.unsynced_bytes += len(data)

    def truncate(self, path: Path, size: int) -> None:
        """Cut `path` to `size` bytes. Raises OSError, and then it takes no more."""
        try:
            self._disk.truncate(self.get(path), size)
        except OSError:
            self._failed.add(path)
            raise
        self.note_unsynced(path)

    def replace(self, path: Path, data: bytes, *, durable: bool = False) -> None:
        """Put `data` in the place of `path`: a reader finds the old or the new content, never a part. Raises OSError,
        and then the old one stands.

        If these files are durable, or this one shall be, that holds also when the machine dies, and what was written
        before is on the disk before: the new content may speak of it.
        """
        draft = path.with_name(path.name + ".new")
        durable = durable or self.durable
        try:
            if durable:
                self.flush()
            with suppress(FileNotFoundError):  # there was no draft
                self._disk.unlink(draft)
            fd = self._disk.create(draft)
            try:
                written = 0
                while written < len(data):
                    written += self._disk.write(fd, memoryview(data)[written:])
                if durable:
                    self._disk.sync(fd)
            finally:
                os.close(fd)
            self.forget(path)
            self._disk.rename(draft, path)
        except OSError:
            with suppress(OSError):  # the error above is raised, and names the file
                self._disk.unlink(draft)
            raise
        if durable:
            self._disk.sync_folder(path.parent)

    def rename(self, source: Path, target: Path) -> None:
        """Let `target` be what `source` was. Raises OSError."""
        self.forget(target)
        self.forget(source)
        if source in self._unsynced:
            del self._unsynced[source]
            self._unsynced[target] = None
        self._disk.rename(source, target)
        self._entry_changed(target)

    def remove(self, path: Path) -> None:
        """Remove `path`; do nothing if there is none. Raises OSError."""
        self.forget(path)
        self._unsynced.pop(path, None)
        with suppress(FileNotFoundError):  # it is gone already
            self._disk.unlink(path)

    def make_folder(self, folder: Path) -> None:
        """Make `folder`; it is fine if it is there. Raises OSError."""
        if not folder.exists():
            self._disk.make_folder(folder)
            self._entry_changed(folder)

    def remove_folder(self, folder: Path) -> None:
        """Remove `folder` and the files in it; do nothing if there is none. Raises OSError."""
        self._unsynced_folders.pop(folder, None)
        with suppress(FileNotFoundError):  # it is gone already
            for name in sorted(os.listdir(folder)):
                self.remove(folder / name)
            self._disk.remove_folder(folder)

    def flush(self) -> None:
        """Put on the disk what was written since the last time. Raises OSError naming the first file that could not be;
        the others are."""
        failure: OSError | None = None
        self.unsynced_bytes = 0
        for waiting, sync in ((self._unsynced, self._sync_file), (self._unsynced_folders, self._disk.sync_folder)):
            while waiting:
                path = next(iter(waiting))
                try:
                    sync(path)
                except OSError as error:
                    failure = failure or self._note_failure(path, error)
                del waiting[path]
        if failure is not None:
            raise failure

    def sync(self, path: Path) -> None:
        """Put one file on the disk now, if it waits for that. Raises OSError."""
        if path in self._unsynced:
            try:
                self._sync_file(path)
            except OSError as error:
                raise self._note_failure(path, error) from error
            finally:
                del self._unsynced[path]

    def note_unsynced(self, path: Path) -> None:
        """`path` holds what may not have reached the disk: found there after a crash, or cut."""
        if self.durable:
            self._unsynced[path] = None

    @property
    def failed(self) -> bool:
        """Whether some file takes no more."""
        return bool(self._failed)

    def check(self, path: Path) -> None:
        """Raise OSError if `path` takes no more, because it could not be synced or put right."""
        if self._failed and (path in self._failed or path.parent in self._failed):
            raise OSError(errno.EIO, "an earlier write could not be made safe; see the log and restart the broker")

    def forget(self, path: Path) -> None:
        """Close `path` if it is open."""
        fd = self._open.pop(path, None)
        if fd is not None:
            os.close(fd)

    def forget_folder(self, folder: Path) -> None:
        for path in [path for path in self._open if path.parent == folder]:
            self.forget(path)

    def close(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1])

    def _note_failure(self, path: Path, error: OSError) -> OSError:
        self._failed.add(path)
        self.sync_failures += 1
        log.error(
            "cannot sync %s: %s; it takes no more until the next start",
            path,
            error.strerror,
            extra={"code": "sync_failed"},
        )
        return OSError(error.errno, f"cannot sync {path}: {error.strerror}")

    def _sync_file(self, path: Path) -> None:
        self._disk.sync(self.get(path))

    def _entry_changed(self, path: Path) -> None:
        if self.durable:
            self._unsynced_folders[path.parent] = None

    def _take_back(self, path: Path, fd: int, written: int) -> None:
        try:
            self._disk.truncate(fd, os.fstat(fd).st_size - written)
        except OSError:
            log.exception(
                "%s has a torn end that cannot be cut off; it takes no more until the next start",
                path,
                extra={"code": "torn_tail_not_cut"},
            )
            self._failed.add(path)
