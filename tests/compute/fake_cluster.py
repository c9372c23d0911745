"""A cluster of one machine: what it runs shares nothing with the caller but bytes.

Each task and each actor is a Python of its own, started by command line in another folder
with next to no environment, and reached over a socket. Handlers are sent with every task.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Client, Connection, Listener, wait
from pathlib import Path
from typing import Any

from muzero_rc.compute.actor_group import ActorGroupBase
from muzero_rc.compute.base import SchedulerBase, died, failure_of, machine, portable_failure
from muzero_rc.compute.cancel import CancelToken, task_scope
from muzero_rc.compute.scheduler import ONE_CORE, ActorGroup, Crash, Factory, Handle

_KEPT = ("PATH", "XDG_CACHE_HOME", "JAX_COMPILATION_CACHE_DIR", "JAX_PLATFORMS")


class Node:
    """A Python somewhere else, and the line to it."""

    def __init__(self, mode: str, environment: Mapping[str, str] | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="node-")
        key = os.urandom(16)
        listener = Listener(("127.0.0.1", 0), authkey=key)
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        self.process = subprocess.Popen(
            [
                sys.executable,
                str(Path(__file__).resolve()),
                mode,
                str(listener.address[1]),
                key.hex(),
            ],
            cwd=self._folder.name,
            env=kept | {"PYTHONPATH": os.pathsep.join(_test_folders())} | dict(environment or {}),
            start_new_session=True,
        )
        try:
            self.line: Connection = listener.accept()
        finally:
            listener.close()

    def end(self) -> int:
        self.process.kill()
        status = self.process.wait()
        self.line.close()
        self._folder.cleanup()
        return status


def _test_folders() -> list[str]:
    """Where the modules of handlers lie that tests have made: they are known to nodes, too."""
    return [path for path in sys.path if path.endswith("compute") or "tests" in path]


class FakeCluster(SchedulerBase):
    """A scheduler whose tasks run on nodes."""

    def __init__(self, jobs: int, *, memory_bytes: int | None = None, gpus: int = 0) -> None:
        super().__init__(machine(jobs, memory_bytes, gpus))
        self._nodes: dict[Handle[Any, Any], Node] = {}

    def _launch(self, handle: Callable[[Any], Any], work: Handle[Any, Any]) -> None:
        order = pickle.dumps((handle, work.task))
        self._nodes[work] = node = Node("task")
        node.line.send_bytes(order)

    def _poll(self, timeout_s: float | None) -> None:
        lines = {node.line: work for work, node in self._nodes.items()}
        for line in wait(list(lines), timeout_s):
            work = lines[line]  # type: ignore[index]
            try:
                kind, value = self._nodes[work].line.recv()
            except (EOFError, OSError):
                kind, value = "lost", None
            except Exception as error:
                kind, value = "answer", failure_of(error)
            if kind == "progress":
                self._progress(work, value)
                continue
            if kind == "lost":
                value = died(self._nodes[work].process.wait())
            self._nodes.pop(work).end()
            self._finish(work, value)

    def _end_tasks(self) -> None:
        for work, node in self._nodes.items():
            while node.line.poll():
                try:
                    kind, value = node.line.recv()
                except (EOFError, OSError):
                    break
                if kind == "answer":
                    self._finish(work, value)
            node.end()
        self._nodes.clear()

    def start_actors(
        self,
        factory: Factory,
        count: int,
        *,
        initial: Any,
        needs: Any = ONE_CORE,
        environment: Mapping[str, str] | None = None,
        most_crashes: int = 5,
        on_restart: Callable[[Crash], None] = lambda crash: None,
    ) -> ActorGroup:
        group = _Group(factory, environment, initial, count, needs, most_crashes, on_restart)
        self._add_group(group, needs * count)
        return group


class _Group(ActorGroupBase[Node]):
    """Actors on nodes; published values are sent when an actor asks for them."""

    def __init__(
        self,
        factory: Factory,
        environment: Mapping[str, str] | None,
        initial: Any,
        count: int,
        needs: Any,
        most_crashes: int,
        on_restart: Callable[[Crash], None],
    ) -> None:
        super().__init__(count, needs, most_crashes, on_restart)
        self._order = pickle.dumps(factory)
        self._environment = environment
        self._version = 1
        self._value = pickle.dumps(initial)

    def publish(self, value: Any) -> None:
        self._version += 1
        self._value = pickle.dumps(value)

    def _start(self, number: int) -> None:
        node = Node("actor", self._environment)
        self._members.append(node)
        node.line.send((self._order, number))

    def _news(self, wait_s: float) -> Sequence[tuple[Node, Any]]:
        found: list[tuple[Node, Any]] = []
        lines = {node.line: node for node in self._members}
        for line in wait(list(lines), wait_s):
            node = lines[line]  # type: ignore[index]
            try:
                kind, value = node.line.recv()
                if kind == "newest":
                    node.line.send((self._version, None if value == self._version else self._value))
                    continue
            except (EOFError, OSError):
                kind, value = "end", "its process ended"
            found.append((node, Crash(value, node.process.wait()) if kind == "end" else value))
        return found

    def _end(self, members: Sequence[Node]) -> None:
        for node in members:
            node.end()


# ---------------------------------------------------------------- on the node


class _Context:
    def __init__(self, line: Connection, number: int) -> None:
        self.number = number
        self._line = line
        self._seen = 0

    def newest(self) -> Any:
        self._line.send(("newest", self._seen))
        self._seen, value = self._line.recv()
        return None if value is None else pickle.loads(value)


def _work(line: Connection) -> None:
    with task_scope(CancelToken(), lambda progress: line.send(("progress", progress))):
        try:
            handle, task = pickle.loads(line.recv_bytes())
            answer = pickle.dumps(("answer", handle(task)))
        except Exception as error:
            answer = pickle.dumps(("answer", portable_failure(error)))
        line.send_bytes(answer)


def _act(line: Connection) -> None:
    order, number = line.recv()
    try:
        for result in pickle.loads(order)(_Context(line, number)):
            line.send(("result", result))
        line.send(("end", "it came to an end"))
    except Exception as error:
        line.send(("end", f"{type(error).__name__}: {error}"))
        sys.exit(1)


if __name__ == "__main__":
    mode, port, key = sys.argv[1:]
    line = Client(("127.0.0.1", int(port)), authkey=bytes.fromhex(key))
    {"task": _work, "actor": _act}[mode](line)
