"""Threads of this process, for work that leaves the GIL alone: encodes, ffmpeg, OpenCV.

Each task has a thread of its own. A thread cannot be ended from outside: it polls
`check_cancelled()`, an encode at every frame, and whoever cancels waits for that.
Nothing is pickled here, but callers that only run here are no callers of the protocol.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from muzero_rc.compute.actor_group import ActorGroupBase
from muzero_rc.compute.base import SchedulerBase, failure_of, machine
from muzero_rc.compute.cancel import Cancelled, CancelToken, current_token, task_scope
from muzero_rc.compute.scheduler import (
    ONE_CORE,
    ActorGroup,
    Crash,
    Factory,
    Handle,
    Resources,
    TaskFailure,
)

__all__ = ["ThreadScheduler"]

_PUT_S = 0.1


class ThreadScheduler(SchedulerBase):
    """Runs each task in a thread of this process.

    A scheduler within a task of another is cancelled with that task. What is no
    `Exception` (KeyboardInterrupt, SystemExit) goes on upwards in the caller's thread.
    """

    def __init__(self, jobs: int, *, memory_bytes: int | None = None, gpus: int = 0) -> None:
        """Takes what tasks may occupy.

        Args:
          jobs: cores.
          memory_bytes: main memory; the machine's if not given.
          gpus: whole GPUs.
        """
        super().__init__(machine(jobs, memory_bytes, gpus))
        self._outer = current_token()
        self._token = CancelToken(self._outer)
        self._threads: dict[Handle[Any, Any], threading.Thread] = {}
        self._news: queue.SimpleQueue[tuple[Handle[Any, Any], str, Any]] = queue.SimpleQueue()

    def _launch(self, handle: Callable[[Any], Any], work: Handle[Any, Any]) -> None:
        thread = threading.Thread(
            target=_run, args=(self._token, handle, work, self._news.put), name="compute"
        )
        self._threads[work] = thread
        thread.start()

    def _poll(self, timeout_s: float | None) -> None:
        try:
            self._take(*self._news.get(timeout=timeout_s))
        except queue.Empty:
            return

    def _take(self, work: Handle[Any, Any], kind: str, value: Any) -> None:
        if kind == "progress":
            self._progress(work, value)
            return
        self._threads.pop(work).join()
        if kind == "raise":
            self._running.pop(work, None)
            raise value
        self._finish(work, value)

    def _end_tasks(self) -> None:
        self._token.cancel()
        # Each thread's last word is in the queue when it has ended.
        for thread in list(self._threads.values()):
            if thread.ident is not None:
                thread.join()
        self._threads.clear()
        while not self._news.empty():
            work, kind, value = self._news.get()
            stopped = isinstance(value, TaskFailure) and value.kind == Cancelled.__name__
            if kind == "answer" and not stopped:
                self._finish(work, value)
        self._token = CancelToken(self._outer)

    def start_actors(
        self,
        factory: Factory,
        count: int,
        *,
        initial: Any,
        needs: Resources = ONE_CORE,
        environment: Mapping[str, str] | None = None,
        most_crashes: int = 5,
        on_restart: Callable[[Crash], None] = lambda crash: None,
    ) -> ActorGroup:
        """See `Scheduler.start_actors`; threads have the caller's environment."""
        token = CancelToken(self._outer)
        group = _ThreadGroup(token, factory, initial, count, needs, most_crashes, on_restart)
        self._add_group(group, needs * count)
        return group


def _run(
    token: CancelToken,
    handle: Callable[[Any], Any],
    work: Handle[Any, Any],
    send: Callable[[tuple[Handle[Any, Any], str, Any]], None],
) -> None:
    """The life of a task's thread."""
    with task_scope(token, lambda progress: send((work, "progress", progress))):
        try:
            token.check()
            answer = handle(work.task)
        except Exception as error:
            send((work, "answer", failure_of(error)))
        except BaseException as error:
            send((work, "raise", error))
        else:
            send((work, "answer", answer))


class _Member:
    """An actor's thread."""

    def __init__(self, group: _ThreadGroup, number: int) -> None:
        self.number = number
        self.token = CancelToken(group.token)
        self._group = group
        self._seen = -1
        self.thread = threading.Thread(target=self._run, name="actor")

    def newest(self) -> Any:
        """See `ActorContext.newest`."""
        self.token.check()
        version, value = self._group.published
        if version == self._seen:
            return None
        self._seen = version
        return value

    def _run(self) -> None:
        with task_scope(self.token):
            try:
                for result in self._group.factory(self):
                    self._send(result)
                why = "it came to an end"
            except Cancelled:
                return
            except BaseException as error:
                line = " ".join(str(error).split())
                why = f"{type(error).__name__}: {line}"
            try:
                self._send(Crash(why, None))
            except Cancelled:
                return

    def _send(self, news: Any) -> None:
        while True:
            self.token.check()
            try:
                self._group.news.put((self, news), timeout=_PUT_S)
                return
            except queue.Full:
                continue


class _ThreadGroup(ActorGroupBase[_Member]):
    """Actors as threads."""

    def __init__(
        self,
        token: CancelToken,
        factory: Factory,
        initial: Any,
        count: int,
        needs: Resources,
        most_crashes: int,
        on_restart: Callable[[Crash], None],
    ) -> None:
        super().__init__(count, needs, most_crashes, on_restart)
        self.token = token
        self.factory = factory
        self.published: tuple[int, Any] = (0, initial)
        # A caller that does not listen holds its actors up, as a full pipe would.
        self.news: queue.Queue[tuple[_Member, Any]] = queue.Queue(2 * count)

    def publish(self, value: Any) -> None:
        """See `ActorGroup.publish`."""
        self.published = (self.published[0] + 1, value)

    def _start(self, number: int) -> None:
        member = _Member(self, number)
        self._members.append(member)
        member.thread.start()

    def _news(self, wait_s: float) -> Sequence[tuple[_Member, Any]]:
        found: list[tuple[_Member, Any]] = []
        try:
            found.append(self.news.get(timeout=wait_s) if wait_s > 0 else self.news.get_nowait())
            while True:
                found.append(self.news.get_nowait())
        except queue.Empty:
            return found

    def _end(self, members: Sequence[_Member]) -> None:
        for member in members:
            member.token.cancel()
        for member in members:
            if member.thread.ident is not None:
                member.thread.join()
