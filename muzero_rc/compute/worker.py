"""A worker process: how it is started and ended, and what it does in between."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from muzero_rc.compute.base import portable_failure
from muzero_rc.compute.cancel import CancelToken, task_scope
from muzero_rc.compute.scheduler import Factory

__all__ = ["Child", "Version", "act", "serve"]

_GRACE_S = 2.0
# A forked child would inherit native threads' locks in an unknown state.
_context = multiprocessing.get_context("spawn")


class Version:
    """A number in memory that is shared with child processes.

    It has no lock: a child killed while it held one would stop `set` for ever.

    Attributes:
      shared: what a child is given.
    """

    def __init__(self) -> None:
        """Begins with 0."""
        self.shared = _context.Value("q", 0, lock=False)

    def get(self) -> int:
        """The number."""
        return int(self.shared.value)

    def set(self, number: int) -> None:
        """Changes it for all."""
        self.shared.value = number


class Child:
    """A spawned process and the pipe to it; both may be gone."""

    def __init__(self) -> None:
        """Starts nothing yet, so that whoever starts it can keep it first."""
        self.connection, self._theirs = _context.Pipe()
        self._process: BaseProcess | None = None

    @property
    def status(self) -> int | None:
        """Exit status, the negative signal number after a signal; None while it lives."""
        return None if self._process is None else self._process.exitcode

    def start(
        self,
        target: Callable[..., None],
        arguments: tuple[Any, ...],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Starts `target(connection, *arguments)` with these variables set."""
        process = _context.Process(
            target=target,
            args=(self._theirs, *arguments),
            name="muzero-rc worker",
            daemon=True,
        )
        # Ctrl-C is the parent's matter; a worker would answer with a traceback, most of all
        # while it still imports. The tracker resets the mask when it is started on the way.
        resource_tracker.ensure_running()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            with _environment(environment or {}):
                process.start()
            self._process = process
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            # With the only other copy in the child, its end shows as end of file.
            self._theirs.close()

    def terminate(self) -> None:
        """Asks it to end at once."""
        if self._process is not None:
            self._process.terminate()

    def last_words(self) -> Iterator[bytes]:
        """What it had sent and nobody has read; ends it, once it was told to."""
        self._wait_or_kill()
        with contextlib.suppress(EOFError, OSError):
            while self.connection.poll():
                yield self.connection.recv_bytes()

    def close_connection(self) -> None:
        """Lets an idle worker end by itself."""
        self.connection.close()

    def end(self) -> None:
        """Waits a little for its end, then kills it."""
        self.close_connection()
        self._wait_or_kill()

    def _wait_or_kill(self) -> None:
        if self._process is None:
            return
        self._process.join(_GRACE_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def serve(connection: Connection) -> None:
    """The life of a worker: one task after the other, until nobody sends any."""
    _end_with_caller()
    handle: Callable[[Any], Any] | None = None
    # A task here is cancelled by the end of the process.
    with task_scope(CancelToken(), lambda progress: connection.send(("progress", progress))):
        while True:
            try:
                order = connection.recv_bytes()
            except (EOFError, OSError):
                return
            try:
                newer, task = pickle.loads(order)
                handle = newer or handle
                assert handle is not None
                message = pickle.dumps(("answer", handle(task)))
            except Exception as error:
                message = pickle.dumps(("answer", portable_failure(error)))
            try:
                connection.send_bytes(message)
            except OSError:
                return


class _Context:
    """An actor's view of its group."""

    def __init__(self, number: int, path: Path, version: Any) -> None:
        self.number = number
        self._path = path
        self._version = version
        self._seen = 0

    def newest(self) -> Any:
        """See `ActorContext.newest`."""
        if self._version.value == self._seen:
            return None
        try:
            self._seen, value = pickle.loads(self._path.read_bytes())
        except FileNotFoundError:
            os._exit(0)  # the file went with the group
        return value


def act(connection: Connection, factory: Factory, number: int, path: Path, version: Any) -> None:
    """The life of an actor's process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent has it, and ends us
    _end_with_caller()
    try:
        for result in factory(_Context(number, path, version)):
            connection.send(("result", result))
        connection.send(("end", "it came to an end"))
        os._exit(0)
    except BrokenPipeError:
        os._exit(0)  # nobody listens any more: the caller was killed
    except BaseException:
        text = traceback.format_exc().strip().splitlines()[-1]
        with contextlib.suppress(OSError):
            connection.send(("end", text))
        os._exit(1)


def _end_with_caller() -> None:
    """Ends this process as `terminate` does when its caller is gone, in the middle of a task too.

    A caller that was killed cannot do it, and nobody wants the answer any more.
    """
    caller = multiprocessing.parent_process()
    assert caller is not None

    def watch() -> None:
        caller.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_GRACE_S)
        os._exit(1)

    threading.Thread(target=watch, name="end-with-caller", daemon=True).start()


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Sets variables for what is started inside."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
