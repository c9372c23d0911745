"""Cancellation: how a running task learns that nobody waits for it any more.

A task does not get a token as an argument, for an argument would have to travel to other
machines. It asks: `check_cancelled()` raises `Cancelled` once the task was cancelled. A
task that encodes asks at every frame. `report(...)` sends progress the other way.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["CancelToken", "Cancelled", "check_cancelled", "current_token", "report", "task_scope"]


class Cancelled(Exception):
    """A task was given up because it was asked to."""


class CancelToken:
    """A flag that is raised once. Raising it raises the flags of its children, too."""

    def __init__(self, parent: CancelToken | None = None) -> None:
        """Makes a token that is not cancelled, unless its parent is."""
        self._event = threading.Event()
        self._children: weakref.WeakSet[CancelToken] = weakref.WeakSet()
        self._lock = threading.Lock()
        if parent is not None:
            with parent._lock:
                parent._children.add(self)
            if parent.cancelled:
                self.cancel()

    @property
    def cancelled(self) -> bool:
        """Whether the flag is raised."""
        return self._event.is_set()

    def cancel(self) -> None:
        """Raises the flag."""
        self._event.set()
        with self._lock:
            children = list(self._children)
        for child in children:
            child.cancel()

    def check(self) -> None:
        """Does nothing while the flag is down.

        Raises:
          Cancelled: the flag is raised.
        """
        if self._event.is_set():
            raise Cancelled("the task was cancelled")

    def wait(self, timeout_s: float) -> bool:
        """Waits for the flag, so many seconds at most; whether it is raised."""
        return self._event.wait(timeout_s)


class _Scope(threading.local):
    """What surrounds the code of this thread."""

    token = CancelToken()
    report: Callable[[Any], None] | None = None


_scope = _Scope()


@contextlib.contextmanager
def task_scope(
    token: CancelToken, reporter: Callable[[Any], None] | None = None
) -> Iterator[CancelToken]:
    """Runs the body as a task of this token; for backends and tests.

    Args:
      token: what `current_token` gives inside.
      reporter: gets what `report` is called with inside, in this thread.
    """
    before = _scope.token, _scope.report
    _scope.token, _scope.report = token, reporter
    try:
        yield token
    finally:
        _scope.token, _scope.report = before


def current_token() -> CancelToken:
    """The token of the task that this thread runs; outside tasks one that nobody cancels."""
    return _scope.token


def check_cancelled() -> None:
    """Ends the task that this thread runs, if it was cancelled.

    Raises:
      Cancelled: it was.
    """
    _scope.token.check()


def report(progress: Any) -> None:
    """Sends progress to the caller, whose `on_progress` gets it in the caller's thread.

    Args:
      progress: a picklable value. Outside tasks nobody gets it.
    """
    if _scope.report is not None:
        _scope.report(progress)
