"""Signals as exceptions that are not lost.

A handler's exception is raised wherever the main thread happens to be. In a `__del__`, a
callback of the garbage collector or of a weak reference Python prints such an exception and
goes on as if nothing had been asked for. Here it is sent again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

__all__ = ["Stopped", "answered", "noting", "raising_signals", "stopped_by"]

# Time for the interpreter to leave the place where nothing can be raised.
_AGAIN_S = 0.01


class Stopped(BaseException):
    """A signal that ends the process, as an exception, so that all is cleaned up.

    Attributes:
      number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def stopped_by(number: int) -> BaseException:
    """The exception of a signal: what Python makes of Ctrl-C, `Stopped` of all others."""
    return KeyboardInterrupt() if number == signal.SIGINT else Stopped(number)


@contextlib.contextmanager
def raising_signals(
    numbers: Sequence[int],
    make: Callable[[int], BaseException] = stopped_by,
    *,
    last: bool = False,
) -> Iterator[None]:
    """Raises an exception in the body for the first of some signals, once.

    Clean-up must not be cut off: those that come after it are ignored, until `answered` is
    called. Signals that are ignored from the start stay so: `nohup` asks for that.

    Where Python drops the exception, the signal is sent again; so it is with Ctrl-C, where its
    handler is Python's own. If something swallowed it, it is raised as the body ends. Outside
    of the main thread nothing is changed: signals are not handled there.

    Args:
      numbers: signals that raise, `SIGTERM` for example.
      make: the exception of a signal.
      last: the process ends after the body. If a signal came, they stay ignored.
    """
    global _arm
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    raised: list[BaseException] = []
    numbers = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]

    def arm() -> None:
        raised.clear()
        for number in numbers:
            signal.signal(number, stop)

    def stop(number: int, frame: FrameType | None) -> None:
        if raised:  # another one, before the first had come this far
            return
        raised.append(make(number))
        sent[id(raised[-1])] = number
        for other in numbers:
            signal.signal(other, signal.SIG_IGN)
        raise raised[-1]

    def dropped(unraisable: sys.UnraisableHookArgs) -> None:
        error = unraisable.exc_value
        while True:
            try:
                if not send_again(error):
                    hook_before(unraisable)
                return
            except (KeyboardInterrupt, Stopped, SystemExit) as next_one:
                # The machine is busy, and the signal is there again before this has ended.
                error = next_one

    def send_again(error: BaseException | None) -> bool:
        number = sent.get(id(error))
        if number is not None:
            arm()
        elif isinstance(error, KeyboardInterrupt):
            number = signal.SIGINT
        if number is not None:
            _send_again(number)
        return number is not None

    sent: dict[int, int] = {}
    hook_before, sys.unraisablehook = sys.unraisablehook, dropped
    before = {number: signal.getsignal(number) for number in numbers}
    arm_before, _arm = _arm, arm
    try:
        arm()
        yield
        if raised:
            raise raised[-1]
    finally:
        _arm = arm_before
        if not (last and raised):
            for number, handler in before.items():
                signal.signal(number, handler)
        sys.unraisablehook = hook_before


def answered() -> None:
    """Tells that the exception of a signal was answered: the next signal raises again."""
    _arm()


def _nothing() -> None:
    """Nobody has signals raised."""


_arm: Callable[[], None] = _nothing


@contextlib.contextmanager
def noting(text: str) -> Iterator[None]:
    """Notes on Ctrl-C and on `Stopped` how to go on; the command line tells it."""
    try:
        yield
    except (KeyboardInterrupt, Stopped) as stop:
        stop.add_note(text)
        raise


def _send_again(number: int) -> None:
    def send() -> None:
        time.sleep(_AGAIN_S)
        os.kill(os.getpid(), number)

    threading.Thread(target=send, name="signal-again", daemon=True).start()
