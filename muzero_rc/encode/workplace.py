"""A hidden folder beside the output, for what is written before the file is done.

It goes when the encode ends. Its owner holds a lock on it, and locks end with their process. So
one encode at a time makes an output, and what a killed one left goes with the next.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from muzero_rc.errors import OutputError
from muzero_rc.folder_lock import FolderLock
from muzero_rc.output_files import WORKING_ENDING, create_like, working_start

__all__ = ["Workplace", "check_space", "keep_beside", "workplace"]

_MOST_OF_NAME = 255  # bytes that file systems take
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(frozen=True, slots=True)
class Workplace:
    """The folder and what is in it.

    Attributes:
      folder: only its owner may look into it.
      ivf: for the encoded stream.
      file: for the finished file, with the permissions of the output.
    """

    folder: Path
    ivf: Path
    file: Path


@contextlib.contextmanager
def workplace(out: Path) -> Iterator[Workplace]:
    """Makes the folder of an output; it is gone afterwards.

    Args:
      out: the output.

    Raises:
      OutputError: its folder takes no file, or ran full while they were written, or another
        encode makes the same output.
    """
    start = working_start(out)
    _remove_abandoned(out.parent, start)
    folder, lock = out.parent, None
    try:
        try:
            # Proves that the folder takes files; permission bits do not tell all.
            folder, lock = _make_folder(out, start)
            place = Workplace(folder, folder / "video.ivf", folder / f"output{out.suffix.lower()}")
            for path in (place.ivf, place.file):
                create_like(path, out)
        except OutputError:
            raise
        except OSError as error:
            raise OutputError(
                f"cannot write in {out.parent}: {error.strerror}; write elsewhere"
            ) from None
        yield place
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        full = OutputError(f"no space left in {out.parent}; free some or write elsewhere")
        full.__notes__ = getattr(error, "__notes__", [])
        raise full from None
    finally:
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            lock.release()


def _make_folder(out: Path, start: str) -> tuple[Path, FolderLock]:
    """An empty folder that is locked; its one name for an output keeps others out.

    Raises:
      OutputError: another encode has it.
      OSError: it cannot be made.
    """
    folder = out.with_name(f"{start}output{WORKING_ENDING}")
    while True:
        lock = FolderLock.make(folder)
        if lock is None:
            raise OutputError(f"another encode is writing {out}; wait for it, or write elsewhere")
        if lock.exclusive and not os.listdir(folder):
            return folder, lock
        with lock:
            if not lock.exclusive:
                break
            shutil.rmtree(folder)  # of a process that was killed
    with contextlib.suppress(OSError):
        folder.rmdir()
    while True:  # nobody knows of others here
        folder = out.with_name(f"{start}{secrets.token_hex(4)}{WORKING_ENDING}")
        lock = FolderLock.make(folder)
        if lock is not None:
            return folder, lock


def check_space(folder: Path, needed_bytes: float) -> None:
    """Refuses what the disk will not take.

    Raises:
      OutputError: so many bytes are not free where the folder is.
    """
    free = shutil.disk_usage(folder).free
    if needed_bytes > free:
        raise OutputError(
            f"{folder} has {free / 1e6:.3g} MB free, this encode needs about "
            f"{needed_bytes / 1e6:.3g} MB; free some or write elsewhere"
        )


def keep_beside(path: Path, out: Path) -> Path:
    """Moves a file of the folder beside the output, under a name that is free, and returns it.

    That has the output's stem and the file's ending, and is never the output's own name: what is
    there is what was asked for.

    Raises:
      OSError: it cannot be moved.
    """
    kept = out.with_suffix(path.suffix)
    number = 1
    if kept == out:
        number = 2
        kept = _numbered(out, number, path.suffix)
    while True:
        # A link, which fails where a rename would replace what is there.
        try:
            os.link(path, kept)
            break
        except FileExistsError:
            number += 1
            kept = _numbered(out, number, path.suffix)
        except OSError:  # a file system without links
            os.rename(path, kept)
            break
    return kept


def _numbered(out: Path, number: int, suffix: str) -> Path:
    """Another name for a file, not longer than file systems take."""
    end = os.fsencode(f"-{number}{suffix}")
    return out.with_name(os.fsdecode(os.fsencode(out.stem)[: _MOST_OF_NAME - len(end)] + end))


def _remove_abandoned(parent: Path, start: str) -> None:
    """Removes folders of this output whose owner is dead."""
    entries: list[os.DirEntry[str]] = []
    with contextlib.suppress(OSError):
        entries += os.scandir(parent)
    for entry in entries:
        if not (entry.name.startswith(start) and entry.name.endswith(WORKING_ENDING)):
            continue
        token = entry.name[len(start) : -len(WORKING_ENDING)]
        with contextlib.suppress(OSError):
            ours = len(token) == 8 and entry.is_dir(follow_symlinks=False)
            lock = FolderLock.take(entry.path) if ours else None
            if lock is not None:
                with lock:
                    if lock.exclusive:
                        shutil.rmtree(entry.path, ignore_errors=True)
