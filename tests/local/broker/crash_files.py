"""A disk that records what is done to it, and shows what may be left of that after a crash at any moment.

Two crashes. When the process dies, every call that was made has happened; of the last write perhaps a part. When the
machine dies, only what was synced is sure: of the rest of each file any writes may be there, torn or as holes, and of
the changes in each folder any first few. Within one folder changes keep their order, as journalling file systems do.
"""

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from millstream.local.broker.log.disk import Disk

Operation = tuple[Any, ...]
"""("write", inode, bytes), ("truncate", inode, size), ("sync", inode), ("make", folder, name, inode | folder),
("rename", folder, old, new), ("remove", folder, name), ("sync folder", folder), or ("said", fact)."""


class QuickDisk(Disk):
    """Syncs nothing: for what no machine's death will follow."""

    def sync(self, fd: int) -> None:
        pass

    def sync_folder(self, folder: Path) -> None:
        pass


class RecordingDisk(Disk):
    """Does what it is told in `root`, and appends it to `operations`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.operations: list[Operation] = []
        self._made = 0
        self._inodes: dict[int, int] = {}

    def say(self, fact: object) -> None:
        """Note that a client was told of `fact` at this point."""
        self.operations.append(("said", fact))

    def create(self, path: Path) -> int:
        assert not path.exists(), path
        fd = super().create(path)
        self._made += 1
        self._inodes[os.fstat(fd).st_ino] = self._made
        self.operations.append(("make", self._name(path.parent), path.name, self._made))
        return fd

    def write(self, fd: int, data: bytes | bytearray | memoryview) -> int:
        written = super().write(fd, data)
        self.operations.append(("write", self._inode(fd), bytes(data)[:written]))
        return written

    def truncate(self, fd: int, size: int) -> None:
        super().truncate(fd, size)
        self.operations.append(("truncate", self._inode(fd), size))

    def sync(self, fd: int) -> None:  # the real disk need not spin for this
        self.operations.append(("sync", self._inode(fd)))

    def sync_folder(self, folder: Path) -> None:
        self.operations.append(("sync folder", self._name(folder)))

    def rename(self, source: Path, target: Path) -> None:
        assert source.parent == target.parent
        super().rename(source, target)
        self.operations.append(("rename", self._name(source.parent), source.name, target.name))

    def unlink(self, path: Path) -> None:
        super().unlink(path)
        self.operations.append(("remove", self._name(path.parent), path.name))

    def make_folder(self, folder: Path) -> None:
        super().make_folder(folder)
        self.operations.append(("make", self._name(folder.parent), folder.name, self._name(folder)))

    def remove_folder(self, folder: Path) -> None:
        super().remove_folder(folder)
        self.operations.append(("remove", self._name(folder.parent), folder.name))

    def _name(self, folder: Path) -> str:
        return str(folder.relative_to(self.root))

    def _inode(self, fd: int) -> int:
        return self._inodes[os.fstat(fd).st_ino]


@dataclass
class File:
    safe: bytes = b""
    pending: list[Operation] = field(default_factory=list)
    size: int = 0

    def take(self, operation: Operation) -> None:
        match operation:
            case ("write", _, data):
                self.pending.append(("write", self.size, data))
                self.size += len(data)
            case ("truncate", _, size):
                self.pending.append(operation)
                self.size = size
            case ("sync", _):
                self.safe, self.pending = self.content(lambda _: 1.0), []

    def content(self, part: Any) -> bytes:
        """With of every pending write the part that `part(write)` says, from 0 to 1."""
        data = bytearray(self.safe)
        for operation in self.pending:
            share = part(operation)
            if operation[0] == "truncate":
                if share:
                    data[operation[2] :] = b""
            elif share:
                _, at, written = operation
                kept = written[: max(int(len(written) * share), 1)]
                data.extend(bytes(max(at - len(data), 0)))
                data[at : at + len(kept)] = kept
        return bytes(data)


@dataclass
class Folder:
    safe: dict[str, "int | Folder"] = field(default_factory=dict)
    pending: list[Operation] = field(default_factory=list)

    def entries(self, count: int) -> "dict[str, int | Folder]":
        """With the first `count` of the pending changes."""
        found = dict(self.safe)
        for operation in self.pending[:count]:
            match operation:
                case ("make", _, name, what):
                    found[name] = what
                case ("rename", _, old, new):
                    found[new] = found.pop(old)
                case ("remove", _, name):
                    del found[name]
        return found


class Model:
    """What a disk may hold after the operations it was given."""

    def __init__(self) -> None:
        self.facts: list[Any] = []
        self._files: dict[int, File] = {}
        self._root = Folder()
        self._folders: dict[str, Folder] = {".": self._root}
        self._last: Operation | None = None

    def take(self, operation: Operation) -> None:
        self._last = operation
        match operation:
            case ("said", fact):
                self.facts.append(fact)
            case ("write" | "truncate" | "sync", inode, *_):
                self._files[inode].take(operation)
            case ("sync folder", folder):
                known = self._folders[folder]
                known.safe, known.pending = known.entries(len(known.pending)), []
            case ("make", folder, name, str(made)):
                self._folders[made] = Folder()
                self._folders[folder].pending.append(("make", folder, name, self._folders[made]))
            case ("make", folder, _, inode):
                self._files[inode] = File()
                self._folders[folder].pending.append(operation)
            case (_, folder, *_):
                self._folders[folder].pending.append(operation)

    def after_process_death(self, target: Path, chance: random.Random) -> None:
        """Write to `target` what is there when the process dies amid the last operation."""
        torn = self._last if self._last and self._last[0] == "write" and chance.random() < 0.5 else None
        share = chance.random()

        def content(inode: int) -> bytes:
            file = self._files[inode]
            whole = file.content(lambda _: 1.0)
            if torn is None or torn[1] != inode:
                return whole
            return whole[: len(whole) - len(torn[2]) + int(len(torn[2]) * share)]

        self._write(target, self._root, content, lambda folder: len(folder.pending))

    def after_power_failure(self, target: Path, chance: random.Random) -> None:
        """Write to `target` one of the things that may be there when the machine dies now."""
        mood = chance.random()

        def share(_: Operation) -> float:
            if mood < 0.2:
                return 0.0
            if mood < 0.4:
                return 1.0
            return chance.choice((0.0, 1.0, chance.random()))

        def changes(folder: Folder) -> int:
            if mood < 0.2:
                return len(folder.pending)
            return chance.randint(0, len(folder.pending))

        self._write(target, self._root, lambda inode: self._files[inode].content(share), changes)

    def _write(self, target: Path, folder: Folder, content: Any, changes: Any) -> None:
        target.mkdir()
        for name, entry in folder.entries(changes(folder)).items():
            if isinstance(entry, Folder):
                self._write(target / name, entry, content, changes)
            else:
                (target / name).write_bytes(content(entry))


def moments(operations: list[Operation], chosen: set[int]) -> Iterator[tuple[int, Model]]:
    """The disk after the first n operations, for each chosen n."""
    model = Model()
    for number, operation in enumerate(operations):
        if number in chosen:
            yield number, model
        model.take(operation)
    yield len(operations), model
