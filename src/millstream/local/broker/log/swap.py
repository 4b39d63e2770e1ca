"""Putting rewritten segments in the place of others, so that a crash at any moment leaves the old ones or the new one.

The new segment and its index are written as `<base>.log.cleaned` and `<base>.index.cleaned`. The renaming of the
first to `<base>-<end>.swap` decides: from then on it stands for all segments from `base` up to `end`. They are
removed, and the new files get their names. What a crash leaves undone is done at the next start; what was not decided
is removed.
"""

import logging
import os
from pathlib import Path

from millstream.local.broker.log.files import Files

log = logging.getLogger(__name__)

CLEANED = ".cleaned"
SWAP = ".swap"


def swap_in(files: Files, folder: Path, base: int, end: int) -> None:
    """Let the cleaned segment at `base` stand for all up to `end`. Raises OSError; then it has not, or the next start
    will do it."""
    if files.durable:
        files.flush()
    swap = folder / f"{base:020}-{end:020}{SWAP}"
    files.rename(folder / f"{base:020}.log{CLEANED}", swap)
    if files.durable:
        files.flush()
    _finish(files, folder, swap, os.listdir(folder))


def finish_swaps(files: Files, folder: Path) -> dict[str, int]:
    """Finish or undo what a crash has interrupted; the files in `folder` then, and their sizes. Raises OSError."""
    sizes = _sizes(folder)
    unfinished = [name for name in sizes if name.endswith((CLEANED, SWAP, ".new"))]
    if not unfinished:
        return sizes
    for name in unfinished:
        if name.endswith(SWAP):
            log.warning(
                "finishing the compaction of %s, interrupted at %s", folder, name, extra={"code": "compaction_resumed"}
            )
            _finish(files, folder, folder / name, list(sizes))
    for name in os.listdir(folder):
        if name.endswith((CLEANED, ".new")):
            files.remove(folder / name)
    return _sizes(folder)


def _finish(files: Files, folder: Path, swap: Path, names: list[str]) -> None:
    base, end = (int(number) for number in swap.stem.split("-"))
    for name in names:
        stem, _, kind = name.partition(".")
        if kind in ("log", "index") and base <= int(stem) < end and (int(stem) > base or kind == "index"):
            files.remove(folder / name)
    index = folder / f"{base:020}.index{CLEANED}"
    if index.exists():
        files.rename(index, folder / f"{base:020}.index")
    files.rename(swap, folder / f"{base:020}.log")


def _sizes(folder: Path) -> dict[str, int]:
    with os.scandir(folder) as entries:
        return {entry.name: entry.stat().st_size for entry in entries}
