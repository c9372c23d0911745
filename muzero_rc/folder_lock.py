"""One kind of lock on a folder: it is free again when the process that holds it ends."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time

from muzero_rc.errors import InputError

__all__ = ["MOMENT_S", "FolderLock"]

MOMENT_S = 2.0
"""How long whoever begins work waits for a lock, seconds.

Of a process that was killed a child may be left that has not become another program yet, and
holds the lock until then. By hand: on a busy machine that is well below a second.
"""

_STEP_S = 0.05  # between two tries; by hand


class FolderLock:
    """A folder that this process has for itself. A context manager.

    Nothing is written: the lock is on the folder, and goes with it.

    Attributes:
      exclusive: false on a file system without locks, where nobody knows of others.
    """

    def __init__(self, descriptor: int, exclusive: bool) -> None:
        """Use `take`."""
        self._descriptor = descriptor
        self.exclusive = exclusive

    @classmethod
    def take(cls, folder: str | os.PathLike[str], wait_s: float = 0.0) -> FolderLock | None:
        """The lock of a folder; None if another has it.

        Args:
          folder: which one.
          wait_s: how long it may take another to end.

        Raises:
          OSError: there is no such folder, or no permission.
        """
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        until = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= until:
                    os.close(descriptor)
                    return None
                time.sleep(_STEP_S)
            except OSError:
                return cls(descriptor, exclusive=False)
            else:
                return cls(descriptor, exclusive=True)

    @classmethod
    def make(cls, folder: str | os.PathLike[str]) -> FolderLock | None:
        """Makes a folder, if it is not there, and takes its lock; None if another has it.

        Whoever clears folders away that nobody has locked may do so between the two: then it is
        made again. Only its owner may look into it.

        Raises:
          OSError: it cannot be made, or is a file or a symbolic link.
        """
        while True:
            if os.path.islink(folder):  # what it points to is not ours, or not there
                raise NotADirectoryError(errno.ENOTDIR, "it is a symbolic link", folder)
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, 0o700)
            with contextlib.suppress(FileNotFoundError):
                lock = cls.take(folder, MOMENT_S)
                if lock is None or lock._is_on(folder):
                    return lock
                lock.release()

    def _is_on(self, folder: str | os.PathLike[str]) -> bool:
        """Whether the folder of this name is still the one that is locked."""
        try:
            return os.path.samestat(os.fstat(self._descriptor), os.stat(folder))
        except FileNotFoundError:
            return False

    @classmethod
    def own(cls, folder: str | os.PathLike[str]) -> FolderLock:
        """The lock of a folder that nobody else may work in.

        Raises:
          InputError: another process works in it.
          OSError: there is no such folder, or no permission.
        """
        lock = cls.take(folder, MOMENT_S)
        if lock is None:
            raise InputError(
                f"{os.fspath(folder)} is in use by another process; wait for it, or stop it first"
            )
        return lock

    def release(self) -> None:
        """Gives it back; again does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()
