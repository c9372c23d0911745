"""What the tests of schedulers run; picklable by import."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from muzero_rc.compute import ActorContext, check_cancelled, current_token, report
from muzero_rc.errors import InputError


class Odd(Exception):
    """An exception that cannot be unpickled."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"odd {one} {two}")


def square(task: int) -> int:
    """Squares; -1 is refused, 0 is a bug, 13 exits, 14 dies of a signal, 15 cannot travel."""
    if task == -1:
        raise InputError("-1 is negative")
    if task == 0:
        raise ZeroDivisionError("nothing\nto square")
    if task == 13:
        os._exit(3)
    if task == 14:
        os.kill(os.getpid(), signal.SIGKILL)
    if task == 15:
        raise Odd(1, 2)
    return task * task


def nothing(task: int) -> None:
    """Answers None."""


def unpicklable(task: int) -> Any:
    """Answers what cannot be sent."""
    return threading.Lock()


def counting(task: int) -> str:
    """Reports three steps of progress."""
    for step in range(3):
        report((task, step))
    return "done"


def reluctant(task: float) -> float:
    """The longer, the sooner it was submitted: answers arrive the other way round."""
    time.sleep(task)
    return task


def endless(folder: Path) -> None:
    """Notes its process, then works on until it is cancelled."""
    (folder / f"{os.getpid()}-{threading.get_native_id()}").touch()
    while True:
        check_cancelled()
        time.sleep(0.01)


def endless_or_refused(folder: Path | None) -> None:
    """Without a folder it is refused, with one it never ends."""
    if folder is None:
        raise InputError("-1 is negative")
    endless(folder)


def quick_or_endless(task: tuple[int, Path]) -> int:
    """Task 0 is done at once, others never."""
    number, folder = task
    if number:
        endless(folder)
    return number


def noted(task: tuple[Path, float]) -> tuple[float, float]:
    """Sleeps; when it began and ended, on the machine's clock."""
    _, nap_s = task
    begin = time.monotonic()
    time.sleep(nap_s)
    return begin, time.monotonic()


def waits_for_cancel(seconds: float) -> bool:
    """Whether its token was cancelled within a time."""
    return current_token().wait(seconds)


class Remembering:
    """A handler that keeps things between tasks."""

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, task: int) -> tuple[int, int]:
        self.seen += 1
        return os.getpid(), self.seen


def surroundings(task: int) -> tuple[str, int]:
    """Working folder and process."""
    return os.getcwd(), os.getpid()


def echo(context: ActorContext) -> Iterator[tuple[int, int, Any]]:
    """An actor: its number, its process and the newest value, again and again."""
    value: Any = None
    while True:
        newer = context.newest()
        value = value if newer is None else newer
        if value == "raise":
            raise ValueError("told to")
        if value == "end":
            return
        yield context.number, os.getpid(), value
        time.sleep(0.01)


def variables(context: ActorContext) -> Iterator[str | None]:
    """An actor: a variable of its environment."""
    while True:
        yield os.environ.get("MUZERO_RC_TEST")
        time.sleep(0.01)


def dies(context: ActorContext) -> Iterator[int]:
    """An actor that ends in native code at once."""
    sys.stderr.flush()
    os._exit(4)
    yield 0
