"""A lock on a folder: one at a time has it, and it ends with its process."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from muzero_rc.folder_lock import FolderLock

HOLD = """
import sys, muzero_rc.folder_lock as locks
lock = locks.FolderLock.take(sys.argv[1])
print("held" if lock else "taken", flush=True)
sys.stdin.read()
"""


def test_one_at_a_time(tmp_path: Path) -> None:
    first = FolderLock.take(tmp_path)
    assert first is not None and first.exclusive
    assert FolderLock.take(tmp_path) is None
    first.release()
    first.release()
    with FolderLock.take(tmp_path) as second:  # type: ignore[union-attr]
        assert second.exclusive
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("target", ["nowhere", "."])
def test_no_folder_behind_a_link(tmp_path: Path, target: str) -> None:
    link = tmp_path / "link"
    link.symlink_to(target)
    with pytest.raises(NotADirectoryError):
        FolderLock.make(link)


def test_it_ends_with_its_process(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        assert FolderLock.take(tmp_path) is None
        other.kill()
        other.wait()
        assert FolderLock.take(tmp_path) is not None


def test_a_process_that_is_just_ending_is_waited_for(tmp_path: Path) -> None:
    # As a child of a killed process may hold its lock for a moment.
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        ending = threading.Timer(0.3, other.kill)
        ending.start()
        assert FolderLock.take(tmp_path, 60.0) is not None
        ending.join()


def test_without_locks_nothing_is_known_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    lock = FolderLock.take(tmp_path)
    assert lock is not None and not lock.exclusive
    with pytest.raises(FileNotFoundError):
        FolderLock.take(tmp_path / "nothing")


def test_a_folder_that_is_cleared_away_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "new"
    opened, seen = os.open, []

    def late(path: str | os.PathLike[str], *flags: int) -> int:
        if os.fspath(path) == str(folder):
            seen.append(path)
            if len(seen) == 1:  # gone before it is opened
                folder.rmdir()
            found = opened(path, *flags)
            if len(seen) == 2:  # gone before it is locked
                folder.rmdir()
            return found
        return opened(path, *flags)

    monkeypatch.setattr(os, "open", late)
    with FolderLock.make(folder) as lock:  # type: ignore[union-attr]
        assert lock.exclusive and len(seen) == 3
        assert folder.stat().st_mode & 0o777 == 0o700
        assert FolderLock.take(folder) is None is FolderLock.make(folder)
    assert FolderLock.make(folder) is not None
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        FolderLock.make(tmp_path / "file")
    with pytest.raises(FileNotFoundError):
        FolderLock.make(tmp_path / "no" / "folder")
