"""Worker processes that survive what they run.

An encoder is native code: a task may end its whole process. The standard executor then
gives up all tasks without telling whose fault it was; this pool knows which task each
worker has, fails that one alone and starts another worker.
"""

from __future__ import annotations

import multiprocessing
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Generic, TypeVar

from muzero_rc.errors import InputError, MuzeroRcError

__all__ = ["TaskFailure", "WorkerPool"]

TaskT = TypeVar("TaskT")
AnswerT = TypeVar("AnswerT")

_GRACE_S = 2.0


@dataclass(frozen=True, slots=True)
class TaskFailure:
    """Why a task has no answer.

    Attributes:
      kind: name of the exception's class; `WorkerDied` if the process ended.
      message: one line.
      trace: traceback text, empty for errors of this package's own family.
    """

    kind: str
    message: str
    trace: str


@dataclass(slots=True)
class _Worker:
    process: BaseProcess
    connection: Connection
    task: Any = None
    busy: bool = False


class WorkerPool(Generic[TaskT, AnswerT]):
    """Runs `handle(task)` in up to `jobs` processes; a context manager.

    Leaving the context ends all workers at once, tasks or not. Workers ignore Ctrl-C:
    the parent gets it and leaves.
    """

    def __init__(self, handle: Callable[[TaskT], AnswerT], jobs: int) -> None:
        """Prepares the pool; workers start with the first tasks.

        Args:
          handle: picklable; each worker has a copy of its own, which lives as long as
            the worker and may keep things between tasks.
          jobs: most tasks at a time.
        """
        if jobs < 1:
            raise InputError(f"jobs must be at least 1, not {jobs}")
        self._handle = handle
        self._jobs = jobs
        self._workers: list[_Worker] = []
        # A forked child would inherit native threads' locks in an unknown state.
        self._context = multiprocessing.get_context("spawn")

    def __enter__(self) -> WorkerPool[TaskT, AnswerT]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def free(self) -> int:
        """How many more tasks can be submitted now."""
        return self._jobs - self.running

    @property
    def running(self) -> int:
        """Tasks submitted and not yet returned by `wait`."""
        return sum(w.busy for w in self._workers)

    def submit(self, task: TaskT) -> None:
        """Starts a task; only while `free` is not 0."""
        idle = next((w for w in self._workers if not w.busy), None)
        if idle is None:
            if len(self._workers) >= self._jobs:
                raise RuntimeError("submit() while no worker is free")
            idle = self._start()
        idle.task, idle.busy = task, True
        try:
            idle.connection.send(task)
        except OSError:
            # It died while idle; wait() sees that on the connection.
            pass

    def wait(self) -> list[tuple[TaskT, AnswerT | TaskFailure]]:
        """Waits for at least one running task; none if nothing runs."""
        busy = {w.connection: w for w in self._workers if w.busy}
        finished: list[tuple[TaskT, AnswerT | TaskFailure]] = []
        if not busy:
            return finished
        for connection in wait(list(busy)):
            worker = busy[connection]  # type: ignore[index]
            try:
                answer = worker.connection.recv()
            except (EOFError, OSError):
                answer = self._bury(worker)
            finished.append((worker.task, answer))
            worker.task, worker.busy = None, False
        return finished

    def close(self) -> None:
        """Ends all workers within seconds, also in the middle of a task."""
        for worker in self._workers:
            worker.connection.close()
            if worker.busy:
                worker.process.terminate()
        for worker in self._workers:
            worker.process.join(_GRACE_S)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self._workers.clear()

    def _start(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_serve, args=(theirs, self._handle), name="muzero-rc worker", daemon=True
        )
        # Ctrl-C is the parent's matter; a worker would answer with a traceback, most of all
        # while it still imports. The tracker resets the mask when it is started on the way.
        resource_tracker.ensure_running()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        # With the only other copy in the worker, its end shows as end of file.
        theirs.close()
        worker = _Worker(process, ours)
        self._workers.append(worker)
        return worker

    def _bury(self, worker: _Worker) -> TaskFailure:
        self._workers.remove(worker)
        worker.connection.close()
        worker.process.join(_GRACE_S)
        code = worker.process.exitcode
        how = f"exit code {code}"
        if code is not None and code < 0:
            how = f"signal {signal.Signals(-code).name}"
        return TaskFailure("WorkerDied", f"the worker process ended with {how}", "")


def _serve(connection: Connection, handle: Callable[[Any], Any]) -> None:
    while True:
        try:
            task = connection.recv()
        except (EOFError, OSError):
            return
        try:
            answer = handle(task)
        except MuzeroRcError as error:
            answer = TaskFailure(type(error).__name__, _one_line(error), "")
        except Exception as error:
            answer = TaskFailure(type(error).__name__, _one_line(error), traceback.format_exc())
        try:
            connection.send(answer)
        except OSError:
            return


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
