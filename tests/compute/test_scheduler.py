"""What callers may rely on, on every backend."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import handlers
import psutil
import pytest

from muzero_rc.compute import (
    Cancelled,
    CancelToken,
    ProcessScheduler,
    Resources,
    Scheduler,
    TaskError,
    TaskFailure,
    ThreadScheduler,
    check_cancelled,
    current_token,
    report,
)
from muzero_rc.compute.cancel import task_scope
from muzero_rc.errors import InputError

Backend = Callable[..., Scheduler]


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_every_task_is_answered_with_what_it_gave(backend: Backend) -> None:
    with backend(2) as scheduler:
        answers = dict(scheduler.map(handlers.square, [2, -1, 3, 0, 4, 15]))
        assert list(scheduler.map(handlers.nothing, [1, 2])) in (
            [(1, None), (2, None)],
            [(2, None), (1, None)],
        )
        assert scheduler.running == 0 and scheduler.wait() == []
    assert {task: answers[task] for task in (2, 3, 4)} == {2: 4, 3: 9, 4: 16}
    refused, bug, odd = answers[-1], answers[0], answers[15]
    assert refused == TaskFailure("InputError", "-1 is negative", "")
    assert isinstance(bug, TaskFailure)
    assert (bug.kind, bug.message) == ("ZeroDivisionError", "nothing to square")
    assert "in square" in bug.trace
    assert isinstance(refused, TaskFailure) and isinstance(refused.exception(), InputError)
    assert isinstance(odd, TaskFailure) and (odd.kind, odd.message) == ("Odd", "odd 1 2")


def test_an_exception_that_cannot_travel_is_told_in_words(apart: Backend) -> None:
    with apart(1) as scheduler:
        ((_, odd), *_) = scheduler.map(handlers.square, [15])
        ((_, lock), *_) = scheduler.map(handlers.unpicklable, [1])
        assert isinstance(odd, TaskFailure) and isinstance(lock, TaskFailure)
        with pytest.raises(TaskError, match="Odd: odd 1 2"):
            raise odd.exception()
        assert "pickle" in lock.message
        with pytest.raises(Exception, match="pickle"):
            scheduler.submit(lambda task: task, 1)
        assert scheduler.running == 0
        assert list(scheduler.map(handlers.square, [3])) == [(3, 9)], "it goes on"


def test_a_worker_that_dies_fails_its_task_alone(apart: Backend) -> None:
    with apart(2) as scheduler:
        answers = dict(scheduler.map(handlers.square, [2, 13, 3, 4]))
        died = TaskFailure("WorkerDied", "the worker process ended with exit code 3", "")
        assert answers == {2: 4, 3: 9, 4: 16, 13: died}
        killed = scheduler.submit(handlers.square, 14)
        while not killed.done:
            scheduler.wait()
        with pytest.raises(TaskError, match="WorkerDied: the worker process ended with"):
            killed.result()


def test_answers_in_the_order_of_tasks_whatever_order_they_come_in(backend: Backend) -> None:
    naps = [1.5, 0.3, 0.3, 0.0]
    with backend(2) as scheduler:
        assert [task for task, _ in scheduler.map(handlers.reluctant, naps)] != naps
        assert scheduler.gather(handlers.reluctant, naps) == naps


def test_the_first_failure_of_a_gather_is_raised_and_the_rest_ended(
    backend: Backend, tmp_path: Path
) -> None:
    with backend(2) as scheduler:
        begin = time.monotonic()
        with pytest.raises(InputError, match="-1 is negative"):
            scheduler.gather(handlers.endless_or_refused, [tmp_path, None])
        assert time.monotonic() - begin < 30
        assert scheduler.running == 0


@pytest.mark.parametrize("look_ahead", [1, 3])
def test_tasks_are_taken_as_there_is_room(backend: Backend, look_ahead: int) -> None:
    taken: list[int] = []
    given = 0

    def tasks() -> Iterator[int]:
        for number in range(2, 10):
            taken.append(number)
            yield number

    with backend(2) as scheduler:
        for _ in scheduler.map(handlers.square, tasks(), look_ahead=look_ahead):
            assert len(taken) - given <= look_ahead
            given += 1
        assert given == 8
    taken.clear()
    with ThreadScheduler(2) as scheduler:
        answers = scheduler.map(handlers.square, tasks())
        next(answers)
        time.sleep(0.1)
        assert len(taken) <= 4, "twice what runs at a time"


def test_no_more_runs_than_the_resources_allow(backend: Backend, tmp_path: Path) -> None:
    def most_at_a_time(scheduler: Scheduler, needs: Resources, tasks: int) -> int:
        spans = [
            span
            for _, span in scheduler.map(
                handlers.noted, [(tmp_path, 0.3)] * tasks, needs=needs, look_ahead=tasks
            )
        ]
        edges = sorted([(b, 1) for b, _ in spans] + [(e, -1) for _, e in spans])
        running = most = 0
        for _, change in edges:
            running += change
            most = max(most, running)
        return most

    with backend(5, memory_bytes=1000, gpus=1) as scheduler:
        assert scheduler.resources == Resources(5, 1000, 1)
        assert most_at_a_time(scheduler, Resources(2), 5) <= 2
        assert most_at_a_time(scheduler, Resources(1, memory_bytes=600), 2) == 1
        assert most_at_a_time(scheduler, Resources(1, gpus=1), 2) == 1
        while scheduler.room_for(Resources(2)):
            scheduler.submit(handlers.reluctant, 0.0, needs=Resources(2))
        assert scheduler.running == 2 and scheduler.room_for()
        while scheduler.running:
            scheduler.wait()
        for needs in (Resources(6), Resources(1, 1001), Resources(1, 0, 2)):
            with pytest.raises(InputError, match="there are 5, 1000 and 1"):
                scheduler.submit(handlers.square, 2, needs=needs)
        scheduler.submit(handlers.reluctant, 0.5, needs=Resources(5))
        assert not scheduler.room_for()
        with pytest.raises(RuntimeError, match="no worker is free"):
            scheduler.submit(handlers.square, 2)
    with pytest.raises(InputError, match="jobs must be at least 1"):
        backend(0)


def test_progress_arrives_in_the_callers_thread(backend: Backend) -> None:
    seen: list[tuple[int, object, int]] = []

    def on_progress(task: int, progress: object) -> None:
        seen.append((task, progress, threading.get_ident()))

    with backend(2) as scheduler:
        answers = scheduler.gather(handlers.counting, [7, 8], on_progress=on_progress)
    assert answers == ["done", "done"]
    for task in (7, 8):
        assert [p for t, p, _ in seen if t == task] == [(task, step) for step in range(3)]
    assert {thread for *_, thread in seen} == {threading.get_ident()}
    report("outside of tasks nobody listens")


def test_cancelling_ends_all_tasks_within_a_second(backend: Backend, tmp_path: Path) -> None:
    with backend(3) as scheduler:
        for number in range(3):
            scheduler.submit(handlers.quick_or_endless, (number, tmp_path))
        until(lambda: len(list(tmp_path.iterdir())) == 2)
        time.sleep(0.3)  # the answer of task 0 is on its way
        begin = time.monotonic()
        finished = scheduler.cancel()
        assert time.monotonic() - begin < 1.0
        assert [handle.task[0] for handle in finished] == [0], "what was finished counts"
        assert finished[0].result() == 0
        assert scheduler.running == 0 and scheduler.wait() == []
        assert list(scheduler.map(handlers.square, [5])) == [(5, 25)], "and it can go on"
    for note in tmp_path.iterdir():
        pid, thread = map(int, note.name.split("-"))
        assert not (_lives(pid) and (pid != os.getpid() or _runs(thread)))


def _lives(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def _runs(native_id: int) -> bool:
    return any(thread.native_id == native_id for thread in threading.enumerate())


def test_leaving_the_block_ends_what_runs(backend: Backend, tmp_path: Path) -> None:
    begin = 0.0
    with pytest.raises(KeyboardInterrupt), backend(2) as scheduler:
        scheduler.submit(handlers.endless, tmp_path)
        until(lambda: any(tmp_path.iterdir()))
        begin = time.monotonic()
        raise KeyboardInterrupt
    assert time.monotonic() - begin < 1.0 + (backend is not ThreadScheduler)


def test_a_timeout_of_wait_is_kept(backend: Backend, tmp_path: Path) -> None:
    with backend(1) as scheduler:
        assert scheduler.wait(5.0) == []
        scheduler.submit(handlers.endless, tmp_path)
        begin = time.monotonic()
        assert scheduler.wait(0.2) == []
        assert 0.2 <= time.monotonic() - begin < 5


def test_workers_share_nothing(apart: Backend) -> None:
    with apart(1) as scheduler:
        ((folder, pid),) = scheduler.gather(handlers.surroundings, [1])
    assert pid != os.getpid()
    assert (folder != os.getcwd()) == (apart is not ProcessScheduler)


def test_a_process_keeps_its_handler_and_takes_another() -> None:
    with ProcessScheduler(1) as scheduler:
        first = handlers.Remembering()
        ((pid, one),) = scheduler.gather(first, [1])
        assert scheduler.gather(first, [1, 1]) == [(pid, 2), (pid, 3)]
        assert scheduler.gather(handlers.Remembering(), [1]) == [(pid, 1)], "the same worker"
        assert one == 1 and first.seen == 0, "the caller's own is untouched"


def test_a_task_of_a_task_is_cancelled_with_it() -> None:
    def outer(task: int) -> None:
        with ThreadScheduler(1) as inner:
            inner.gather(handlers.waits_for_cancel, [20.0])
        check_cancelled()

    begin = time.monotonic()
    with ThreadScheduler(1) as scheduler:
        scheduler.submit(outer, 1)
        time.sleep(0.2)
        assert scheduler.cancel() == []
    assert time.monotonic() - begin < 5


def test_what_is_no_exception_goes_on_upwards() -> None:
    def stopped(task: int) -> None:
        raise KeyboardInterrupt

    with ThreadScheduler(1) as scheduler:
        scheduler.submit(stopped, 1)
        with pytest.raises(KeyboardInterrupt):
            scheduler.wait()
        assert scheduler.running == 0


def test_tokens() -> None:
    parent = CancelToken()
    child = CancelToken(parent)
    assert not child.cancelled and not child.wait(0.0)
    child.check()
    parent.cancel()
    assert child.cancelled and child.wait(60.0) and CancelToken(parent).cancelled
    with pytest.raises(Cancelled):
        child.check()
    outside = current_token()
    with task_scope(parent), pytest.raises(Cancelled):
        check_cancelled()
    assert current_token() is outside and not outside.cancelled
    check_cancelled()
