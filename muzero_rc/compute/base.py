"""What all backends have in common: room, look-ahead, order, and failures as values."""

from __future__ import annotations

import os
import pickle
import signal
import time
import traceback
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import MethodType
from typing import Any, Self, TypeVar

from muzero_rc.compute.actor_group import ActorGroupBase
from muzero_rc.compute.scheduler import ONE_CORE, Handle, Resources, TaskFailure
from muzero_rc.errors import InputError, MuzeroRcError

__all__ = [
    "SchedulerBase",
    "died",
    "failure_of",
    "machine",
    "portable_failure",
    "same_handler",
    "usable_cores",
]

TaskT = TypeVar("TaskT")
AnswerT = TypeVar("AnswerT")


def usable_cores() -> int:
    """Cores that this process may run on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return cores or 1


def machine(jobs: int, memory_bytes: int | None = None, gpus: int = 0) -> Resources:
    """So many cores, and this machine's memory if it is not given.

    Raises:
      InputError: no job could run.
    """
    if jobs < 1:
        raise InputError(f"jobs must be at least 1, not {jobs}")
    if memory_bytes is None:
        memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Resources(jobs, memory_bytes, gpus)


def failure_of(error: Exception) -> TaskFailure:
    """An exception that a task ended with, as a value."""
    line = " ".join(str(error).split()) or type(error).__name__
    known = isinstance(error, MuzeroRcError)
    trace = "" if known else "".join(traceback.format_exception(error))
    return TaskFailure(type(error).__name__, line, trace, error)


def portable_failure(error: Exception) -> TaskFailure:
    """The same, without the exception where it would not survive the way to the caller."""
    failure = failure_of(error)
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return TaskFailure(failure.kind, failure.message, failure.trace)
    return failure


def died(status: int | None) -> TaskFailure:
    """The failure of a task whose worker's process ended with this status."""
    how = f"exit code {status}"
    if status is not None and status < 0:
        how = f"signal {signal.Signals(-status).name}"
    return TaskFailure("WorkerDied", f"the worker process ended with {how}", "")


def same_handler(one: object, other: object) -> bool:
    """Whether a worker that has one handler needs not be sent the other."""
    if isinstance(one, MethodType) and isinstance(other, MethodType):
        return one.__self__ is other.__self__ and one.__func__ is other.__func__
    return one is other


class SchedulerBase(ABC):
    """A scheduler but for running; a backend adds `_launch`, `_poll`, `_end_tasks`, `_release`.

    Attributes:
      resources: what there is to run on.
    """

    def __init__(self, resources: Resources) -> None:
        """Takes what there is; workers start with the first tasks."""
        self.resources = resources
        self._running: dict[Handle[Any, Any], None] = {}
        self._finished: deque[Handle[Any, Any]] = deque()
        self._groups: list[ActorGroupBase[Any]] = []

    # ------------------------------------------------------------ for backends

    @abstractmethod
    def _launch(self, handle: Callable[[Any], Any], work: Handle[Any, Any]) -> None:
        """Starts a task."""

    @abstractmethod
    def _poll(self, timeout_s: float | None) -> None:
        """Waits for news of running tasks; calls `_progress` and `_finish`."""

    @abstractmethod
    def _end_tasks(self) -> None:
        """Ends all running tasks; calls `_finish` for those that had an answer by then."""

    def _release(self) -> None:  # noqa: B027  # threads have nothing to give back
        """Ends idle workers."""

    def _progress(self, work: Handle[Any, Any], progress: Any) -> None:
        if work.on_progress is not None:
            work.on_progress(work.task, progress)

    def _finish(self, work: Handle[Any, Any], answer: Any) -> None:
        if work in self._running:
            del self._running[work]
            work.done, work.answer = True, answer
            self._finished.append(work)

    def _add_group(self, group: ActorGroupBase[Any], needs: Resources) -> None:
        if not self.resources.covers(self._in_use() + needs):
            raise InputError(_too_much(needs, self.resources))
        self._groups.append(group)
        try:
            group.start()
        except BaseException:
            group.close()
            raise

    # ------------------------------------------------------------ the protocol

    @property
    def running(self) -> int:
        """Tasks that were submitted and are not done."""
        return len(self._running)

    def _in_use(self) -> Resources:
        used = Resources(0)
        for work in self._running:
            used += work.needs
        for group in self._groups:
            if not group.closed:
                used += group.needs
        return used

    def room_for(self, needs: Resources = ONE_CORE) -> bool:
        """See `Scheduler.room_for`."""
        if not self.resources.covers(needs):
            raise InputError(_too_much(needs, self.resources))
        return self.resources.covers(self._in_use() + needs)

    def submit(
        self,
        handle: Callable[[TaskT], AnswerT],
        task: TaskT,
        *,
        needs: Resources = ONE_CORE,
        on_progress: Callable[[TaskT, Any], None] | None = None,
    ) -> Handle[TaskT, AnswerT]:
        """See `Scheduler.submit`."""
        if not self.room_for(needs):
            raise RuntimeError("submit() while no worker is free")
        work: Handle[TaskT, AnswerT] = Handle(task, needs, on_progress)
        self._running[work] = None
        try:
            self._launch(handle, work)
        except BaseException:
            self._running.pop(work, None)
            raise
        return work

    def wait(self, timeout_s: float | None = None) -> list[Handle[Any, Any]]:
        """See `Scheduler.wait`."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._finished and self._running:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            self._poll(left)
            if left == 0.0:
                break
        found = list(self._finished)
        self._finished.clear()
        return found

    def map(
        self,
        handle: Callable[[TaskT], AnswerT],
        tasks: Iterable[TaskT],
        *,
        needs: Resources = ONE_CORE,
        look_ahead: int | None = None,
        on_progress: Callable[[TaskT, Any], None] | None = None,
    ) -> Iterator[tuple[TaskT, AnswerT | TaskFailure]]:
        """See `Scheduler.map`."""
        for work in self._as_finished(handle, tasks, needs, look_ahead, on_progress, []):
            yield work.task, work.answer

    def gather(
        self,
        handle: Callable[[TaskT], AnswerT],
        tasks: Iterable[TaskT],
        *,
        needs: Resources = ONE_CORE,
        on_progress: Callable[[TaskT, Any], None] | None = None,
    ) -> list[AnswerT]:
        """See `Scheduler.gather`."""
        submitted: list[Handle[TaskT, AnswerT]] = []
        for work in self._as_finished(handle, tasks, needs, None, on_progress, submitted):
            if work.failed:
                self.cancel()
                work.result()
        return [work.result() for work in submitted]

    def _as_finished(
        self,
        handle: Callable[[TaskT], AnswerT],
        tasks: Iterable[TaskT],
        needs: Resources,
        look_ahead: int | None,
        on_progress: Callable[[TaskT, Any], None] | None,
        submitted: list[Handle[TaskT, AnswerT]],
    ) -> Iterator[Handle[TaskT, AnswerT]]:
        if look_ahead is None:
            look_ahead = 2 * self._capacity(needs)
        waiting = iter(tasks)
        more = True
        ours: set[Handle[TaskT, AnswerT]] = set()
        while True:
            while more and len(ours) < look_ahead and self.room_for(needs):
                try:
                    task = next(waiting)
                except StopIteration:
                    more = False
                    break
                work = self.submit(handle, task, needs=needs, on_progress=on_progress)
                ours.add(work)
                submitted.append(work)
            if not ours:
                return
            while not any(work in ours for work in self._finished):
                self._poll(None)
            work = next(work for work in self._finished if work in ours)
            # What is not given yet stays with the scheduler: cancel() returns it.
            self._finished.remove(work)
            ours.discard(work)
            yield work

    def _capacity(self, needs: Resources) -> int:
        """How many such tasks can run at a time."""
        self.room_for(needs)
        count = 1
        while self.resources.covers(needs * (count + 1)) and count < self.resources.cores:
            count += 1
        return count

    def cancel(self) -> list[Handle[Any, Any]]:
        """See `Scheduler.cancel`."""
        self._end_tasks()
        self._running.clear()
        found = list(self._finished)
        self._finished.clear()
        return found

    def close(self) -> None:
        """See `Scheduler.close`."""
        try:
            self.cancel()
        finally:
            for group in self._groups:
                group.close()
            self._groups.clear()
            self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _too_much(needs: Resources, there: Resources) -> str:
    return (
        f"a task needs {needs.cores} cores, {needs.memory_bytes} bytes and {needs.gpus} GPUs; "
        f"there are {there.cores}, {there.memory_bytes} and {there.gpus}"
    )
