"""stdin, stdout and stderr as they were handed to the process: closed, full, or left by readers."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator

__all__ = ["standard_streams"]

_STDERR = 2


class _Log(io.RawIOBase):
    """A descriptor whose writes never fail: what it does not take is lost."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        return True

    def write(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]
        try:
            return os.write(self._descriptor, data)
        except OSError:
            return len(data)


@contextlib.contextmanager
def standard_streams() -> Iterator[None]:
    """Makes the streams safe to use in the body.

    - A descriptor that is closed leads to nothing: else the next file that is opened gets its
      number, and what a library says on stderr goes into that file. `sys.stdin` and
      `sys.stdout` stay None, so that whoever needs them can tell.
    - stderr is always there: `print(file=None)` would write to stdout.
    - stderr that takes no more, full or left by its reader, ends nothing.
    - Names are bytes, and those that are not UTF-8 are printed as they are.
    """
    for number in range(_STDERR + 1):
        _hold(number)
    before = sys.stderr
    # Somebody else's stream, of a test for example, is theirs.
    if before is None or before is sys.__stderr__:
        encoding = getattr(before, "encoding", None)
        sys.stderr = io.TextIOWrapper(
            io.BufferedWriter(_Log(_STDERR)), encoding=encoding, line_buffering=True
        )
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="surrogateescape")
    try:
        yield
    finally:
        sys.stderr.flush()
        sys.stderr = before


def _hold(number: int) -> None:
    """Opens a descriptor that is closed; lower ones are open."""
    try:
        os.fstat(number)
    except OSError:
        opened = os.open(os.devnull, os.O_RDWR)
        if opened != number:  # another thread was quicker, or a lower one was closed, too
            os.dup2(opened, number)
            os.close(opened)
        os.set_inheritable(number, True)
