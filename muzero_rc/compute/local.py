"""Processes of this machine that survive what they run.

An encoder is native code: a task may end its whole process. The standard executor then
gives up all tasks without telling whose fault it was. This scheduler knows which task each
worker has, fails that one alone and starts another worker.
"""

from __future__ import annotations

import os
import pickle
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from muzero_rc.compute.actor_group import ActorGroupBase
from muzero_rc.compute.base import SchedulerBase, died, failure_of, machine, same_handler
from muzero_rc.compute.scheduler import (
    ONE_CORE,
    ActorGroup,
    Crash,
    Factory,
    Handle,
    Resources,
)
from muzero_rc.compute.worker import Child, Version, act, serve

__all__ = ["ProcessScheduler"]


@dataclass(slots=True, eq=False)
class _Worker:
    """A worker process, the handler that it has, and what it does."""

    child: Child
    handle: Callable[[Any], Any] | None = None
    work: Handle[Any, Any] | None = None


class ProcessScheduler(SchedulerBase):
    """Runs tasks in processes, each of which does one after the other.

    Workers start when they are first needed. Closing ends all of them at once, tasks or
    not. Workers ignore Ctrl-C: the parent gets it and closes.
    """

    def __init__(
        self,
        jobs: int,
        *,
        memory_bytes: int | None = None,
        gpus: int = 0,
        folder: Path | None = None,
    ) -> None:
        """Takes what tasks may occupy.

        Args:
          jobs: cores, that is most tasks of one core at a time.
          memory_bytes: main memory; the machine's if not given.
          gpus: whole GPUs.
          folder: for published values while actors run. A later run writes over what a
            kill left there. A temporary one if not given.
        """
        super().__init__(machine(jobs, memory_bytes, gpus))
        self._folder = folder
        self._workers: list[_Worker] = []

    def _launch(self, handle: Callable[[Any], Any], work: Handle[Any, Any]) -> None:
        idle = [w for w in self._workers if w.work is None]
        worker = next((w for w in idle if same_handler(w.handle, handle)), None)
        known = worker is not None
        order = pickle.dumps((None if known else handle, work.task))
        if worker is None and idle and len(self._workers) >= self.resources.cores:
            worker = idle[0]
        if worker is None:
            worker = _Worker(Child())
            self._workers.append(worker)
            worker.child.start(serve, ())
        worker.handle, worker.work = handle, work
        try:
            worker.child.connection.send_bytes(order)
        except OSError:
            # It died while idle; _poll sees that on the connection.
            pass

    def _poll(self, timeout_s: float | None) -> None:
        busy = {w.child.connection: w for w in self._workers if w.work is not None}
        for connection in wait(list(busy), timeout_s):
            self._read(busy[connection])  # type: ignore[index]

    def _read(self, worker: _Worker) -> None:
        work = worker.work
        assert work is not None
        try:
            message = worker.child.connection.recv_bytes()
        except (EOFError, OSError):
            self._workers.remove(worker)
            worker.child.end()
            kind, value = "answer", died(worker.child.status)
        else:
            kind, value = _unpacked(message)
        if kind == "progress":
            self._progress(work, value)
            return
        worker.work = None
        self._finish(work, value)

    def _end_tasks(self) -> None:
        busy = [w for w in self._workers if w.work is not None]
        for worker in busy:
            worker.child.terminate()
        for worker in busy:
            # An answer that was sent before the end counts.
            assert worker.work is not None
            for kind, value in map(_unpacked, worker.child.last_words()):
                if kind == "answer":
                    self._finish(worker.work, value)
            worker.child.end()
        self._workers = [w for w in self._workers if w not in busy]

    def _release(self) -> None:
        for worker in self._workers:
            worker.child.close_connection()
        for worker in self._workers:
            worker.child.end()
        self._workers.clear()

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
        """See `Scheduler.start_actors`."""
        group = _ProcessGroup(
            factory, environment, self._folder, count, needs, most_crashes, on_restart
        )
        group.publish(initial)
        self._add_group(group, needs * count)
        return group


def _unpacked(message: bytes) -> tuple[str, Any]:
    try:
        kind, value = pickle.loads(message)
    except Exception as error:
        return "answer", failure_of(error)
    return kind, value


class _ProcessGroup(ActorGroupBase[Child]):
    """Actors as processes.

    Published values travel through a file that is replaced whole, their version through
    shared memory.
    """

    def __init__(
        self,
        factory: Factory,
        environment: Mapping[str, str] | None,
        folder: Path | None,
        count: int,
        needs: Resources,
        most_crashes: int,
        on_restart: Callable[[Crash], None],
    ) -> None:
        super().__init__(count, needs, most_crashes, on_restart)
        self._factory = factory
        self._environment = dict(environment or {})
        self._temporary = None if folder else Path(tempfile.mkdtemp(prefix="muzero-rc-actors-"))
        self._path = (folder or self._temporary or Path()) / "published.pickle"
        self._version = Version()

    def publish(self, value: Any) -> None:
        """See `ActorGroup.publish`."""
        version = self._version.get() + 1
        new = self._path.with_suffix(".new")
        new.write_bytes(pickle.dumps((version, value)))
        os.replace(new, self._path)
        self._version.set(version)

    def _start(self, number: int) -> None:
        child = Child()
        self._members.append(child)
        order = (self._factory, number, self._path, self._version.shared)
        child.start(act, order, self._environment)

    def _news(self, wait_s: float) -> Sequence[tuple[Child, Any]]:
        members = {member.connection: member for member in self._members}
        found: list[tuple[Child, Any]] = []
        for connection in wait(list(members), wait_s):
            member = members[connection]  # type: ignore[index]
            try:
                kind, value = member.connection.recv()
            except (EOFError, OSError):
                kind, value = "end", "its process ended"
            if kind == "end":
                member.end()
                value = Crash(value, member.status)
            found.append((member, value))
        return found

    def _end(self, members: Sequence[Child]) -> None:
        for member in members:
            member.terminate()
        for member in members:
            member.end()

    def _release(self) -> None:
        self._path.unlink(missing_ok=True)
        self._path.with_suffix(".new").unlink(missing_ok=True)
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
