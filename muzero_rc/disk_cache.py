"""Folders of files that may go at any time: what was used longest ago goes first.

Files are written under another name and renamed, so that processes share a folder without
locks: what one of them removes is made again by whoever misses it. Ours instead of a
library's, because entries are plain files that numpy maps and people can look at; diskcache
(last release 2023) keeps them in an SQLite database, as pickles.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import platformdirs

__all__ = ["Usage", "cache_root", "clear", "trim", "usage"]


@dataclass(frozen=True, slots=True)
class Usage:
    """What a folder holds: number of files, and their size in bytes."""

    entries: int
    size: int


def cache_root() -> Path:
    """Where all caches are kept: $MUZERO_RC_CACHE or the user's cache folder."""
    return Path(os.environ.get("MUZERO_RC_CACHE") or platformdirs.user_cache_dir("muzero_rc"))


def usage(folder: Path) -> Usage:
    """Files of a folder and their size; none if it is not there."""
    sizes = [size for _, size, _ in _files(folder)]
    return Usage(len(sizes), sum(sizes))


def trim(folder: Path, limit_bytes: int, keep: Iterable[str] = ()) -> None:
    """Removes the files used longest ago until the rest is within a limit.

    Args:
      folder: with the files; its sub-folders are left alone.
      limit_bytes: of all files together.
      keep: stems of files that stay in any case.

    Raises:
      OSError: a file cannot be removed.
    """
    files = sorted(_files(folder), key=lambda entry: entry[0])
    total = sum(size for _, size, _ in files)
    kept = set(keep)
    for _, size, path in files:
        if total <= limit_bytes:
            return
        if path.stem not in kept:
            path.unlink(missing_ok=True)
            total -= size


def clear(folder: Path) -> Usage:
    """Removes all files of a folder and tells what they were.

    Raises:
      OSError: a file cannot be removed.
    """
    entries = total = 0
    for _, size, path in _files(folder):
        path.unlink(missing_ok=True)
        entries, total = entries + 1, total + size
    return Usage(entries, total)


def _files(folder: Path) -> Iterator[tuple[float, int, Path]]:
    """Last use, size and path of every file."""
    if not folder.is_dir():
        return
    for path in list(folder.iterdir()):
        try:
            stat = path.stat()
        except FileNotFoundError:  # another process trims too
            continue
        if path.is_file():
            # Ours are touched when used; XLA's are only read.
            yield max(stat.st_mtime, stat.st_atime), stat.st_size, path
