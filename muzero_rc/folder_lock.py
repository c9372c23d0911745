"""One kind of lock on a folder: it is free again when the process that holds it ends."""

from __future__ import annotations

import fcntl
import os

from muzero_rc.errors import InputError

__all__ = ["FolderLock"]


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
    def take(cls, folder: str | os.PathLike[str]) -> FolderLock | None:
        """The lock of a folder; None if another has it.

        Raises:
          OSError: there is no such folder, or no permission.
        """
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError:
            return cls(descriptor, exclusive=False)
        return cls(descriptor, exclusive=True)

    @classmethod
    def own(cls, folder: str | os.PathLike[str]) -> FolderLock:
        """The lock of a folder that nobody else may work in.

        Raises:
          InputError: another process works in it.
          OSError: there is no such folder, or no permission.
        """
        lock = cls.take(folder)
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
