"""A signal is never lost, wherever the interpreter happens to be."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable

import pytest

from muzero_rc import signals
from muzero_rc.signals import Stopped, answered, raising_signals

_WAIT_S = 5.0


def _kill(number: int) -> None:
    os.kill(os.getpid(), number)
    for _ in range(20):  # the handler runs at the next look of the interpreter, here
        pass


class _Dies:
    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        _kill(self.number)


def _in_del(number: int) -> None:
    _Dies(number)


def _in_gc_callback(number: int) -> None:
    def callback(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            gc.callbacks.remove(callback)
            _kill(number)

    gc.callbacks.append(callback)
    gc.collect(0)


def _in_weakref_callback(number: int) -> None:
    class Thing:
        pass

    thing = Thing()
    reference = weakref.ref(thing, lambda _: _kill(number))
    del thing
    assert reference() is None


def _swallowed(number: int) -> None:
    try:
        _kill(number)
    except BaseException:  # as some libraries do
        if number == signal.SIGINT:
            raise


def _wait_for_it() -> None:
    end = time.monotonic() + _WAIT_S
    while time.monotonic() < end:
        time.sleep(0.001)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("where", [_in_del, _in_gc_callback, _in_weakref_callback, _swallowed])
def test_none_of_25_is_lost(where: Callable[[int], None], number: int) -> None:
    hook = sys.unraisablehook
    handler = signal.getsignal(number)
    for _ in range(25):
        with (
            pytest.raises((Stopped, KeyboardInterrupt)) as caught,
            raising_signals((signal.SIGTERM,)),
        ):
            where(number)
            if where is not _swallowed:
                _wait_for_it()
        assert isinstance(caught.value, Stopped) == (number == signal.SIGTERM)
    assert sys.unraisablehook is hook
    assert signal.getsignal(number) is handler


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_none_is_lost_that_comes_again_at_once(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals, "_AGAIN_S", 0.0)
    for _ in range(25):
        with (
            pytest.raises((Stopped, KeyboardInterrupt)),
            raising_signals((signal.SIGTERM,)),
        ):
            _in_gc_callback(number)
            _wait_for_it()
            pytest.fail("it is lost")


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_the_second_one_does_not_cut_off_the_clean_up(first: int, second: int) -> None:
    cleaned = False
    kind = KeyboardInterrupt if first == signal.SIGINT else Stopped
    with pytest.raises(kind), raising_signals((signal.SIGINT, signal.SIGTERM)):
        try:
            _kill(first)
        finally:
            _kill(second)
            cleaned = True
    assert cleaned


def test_what_was_ignored_from_the_start_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    try:
        with raising_signals((signal.SIGHUP, signal.SIGTERM)):
            _kill(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_after_an_answer_the_next_one_counts() -> None:
    with pytest.raises(KeyboardInterrupt), raising_signals((signal.SIGINT,)):
        with pytest.raises(KeyboardInterrupt):
            _kill(signal.SIGINT)
        answered()
        _kill(signal.SIGINT)
        pytest.fail("the second Ctrl-C is lost")
    with raising_signals((signal.SIGINT,)):
        with pytest.raises(KeyboardInterrupt):
            _kill(signal.SIGINT)
        answered()  # and the body goes on to its end


def test_a_process_that_ends_is_not_stopped_again() -> None:
    before = signal.getsignal(signal.SIGINT)
    try:
        with raising_signals((signal.SIGINT,), last=True):
            pass
        assert signal.getsignal(signal.SIGINT) is before
        with pytest.raises(KeyboardInterrupt), raising_signals((signal.SIGINT,), last=True):
            _kill(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_errors_of_destructors_go_where_they_went(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fails:
        def __del__(self) -> None:
            raise ValueError("of a destructor")

    told: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: told.append(args.exc_value))
    with raising_signals((signal.SIGTERM,)):
        Fails()
    assert [str(error) for error in told] == ["of a destructor"]


def test_another_exception_is_made_and_other_threads_change_nothing() -> None:
    with (
        pytest.raises(SystemExit) as caught,
        raising_signals((signal.SIGTERM,), lambda number: SystemExit(128 + number)),
    ):
        _kill(signal.SIGTERM)
    assert caught.value.code == 143
    handlers: list[object] = []

    def body() -> None:
        with raising_signals((signal.SIGTERM,)):
            handlers.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGTERM)]
