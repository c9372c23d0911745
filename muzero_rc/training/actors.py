"""Actors: who plays self-play's episodes, in this process or in others.

`Inline` plays when it is asked, which makes a run repeat itself to the bit. `Actors` are
processes that play on while the learner learns; each searches for all its encodes in one
batch. A process that ends, by an exception or by the death of native code, is started
again and counted.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol

import jax

from muzero_rc.agents.config import AgentConfig
from muzero_rc.agents.muzero.networks import Params
from muzero_rc.agents.policy import AgentPolicy
from muzero_rc.checkpoint import read_arrays, write_arrays
from muzero_rc.errors import CheckpointError, MuzeroRcError
from muzero_rc.training.player import Finished, SelfPlay
from muzero_rc.training.tasks import Task

__all__ = ["Actors", "Inline", "Players", "make_player"]

_CRASHES_IN_A_ROW = 5
_GRACE_S = 2.0
# One thread for each actor's arithmetic: its encoders need the other cores.
_ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
# A GPU is the learner's, which takes most of its memory at once.
_PLATFORM = "cpu"


class Players(Protocol):
    """Whoever plays. A context manager; leaving it ends all encodes."""

    @property
    def crashes(self) -> int:
        """Players that had to be started again."""

    def publish(self, params: Params, version: int) -> None:
        """Gives newer parameters; `version` counts the updates behind them."""

    def poll(self, wait_s: float) -> list[Finished]:
        """Episodes that have ended; with `wait_s` 0 without waiting for one."""


def make_player(config: AgentConfig, params: Params, sessions: int, seed: int) -> AgentPolicy:
    """The searching agent for so many encodes side by side."""
    return AgentPolicy(
        params,
        config.network,
        simulations=config.search.simulations,
        search=config.search,
        temperature=0.0 if config.search.simulations else 1.0,
        batch_size=sessions,
        seed=seed,
    )


class Inline:
    """Plays in this process, one episode for each `poll` that may wait."""

    crashes = 0

    def __init__(
        self, tasks: Sequence[Task], config: AgentConfig, params: Params, sessions: int, seed: int
    ) -> None:
        """Takes what `SelfPlay` does."""
        policy = make_player(config, params, sessions, seed)
        self._newest: tuple[Params, int] | None = None
        play = SelfPlay(tasks, policy, sessions, seed, self._renew, in_step=True)
        self._episodes: Iterator[Finished] = play.episodes(lambda: False)

    def _renew(self) -> tuple[Params, int] | None:
        newest, self._newest = self._newest, None
        return newest

    def __enter__(self) -> Inline:
        return self

    def __exit__(self, *error: object) -> None:
        self._episodes.close()  # type: ignore[attr-defined]  # a generator

    def publish(self, params: Params, version: int) -> None:
        """Taken up by the next episode."""
        self._newest = (params, version)

    def poll(self, wait_s: float) -> list[Finished]:
        """One episode, or nothing if there is no time for it."""
        return [next(self._episodes)] if wait_s > 0 else []


@dataclass
class _Actor:
    process: BaseProcess
    connection: Connection
    number: int


@dataclass
class _Order:
    """What an actor's process needs, all of it picklable."""

    tasks: list[Task]
    config: AgentConfig
    params: Path
    sessions: int
    seed: int
    version: Any = field(repr=False)


class Actors:
    """Processes that play and send what they have played.

    Parameters travel through a file that is replaced whole, their version through shared
    memory; an actor looks before each episode.

    Attributes:
      crashes: actors that had to be started again.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        config: AgentConfig,
        params: Params,
        sessions: int,
        seed: int,
        actors: int,
        folder: Path,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Starts nothing yet.

        Args:
          tasks: drawn from uniformly.
          config: the agent's.
          params: to begin with.
          sessions: encodes side by side in each actor.
          seed: of search and draws; each actor, and each that follows a crash, has its own.
          actors: processes.
          folder: of the run; the file of parameters lies there while actors play, and is
            written over after a kill, so that kills leave no litter.
          say: told why an actor was started again, in one line.
        """
        self.crashes = 0
        self._in_a_row = 0
        self._say = say
        # A forked child would inherit native threads' locks in an unknown state.
        self._context = multiprocessing.get_context("spawn")
        # Without a lock: an actor killed while it held one would stop `publish` for ever.
        version = self._context.Value("q", 0, lock=False)
        self._order = _Order(list(tasks), config, folder / "actors.npz", sessions, seed, version)
        self._count = actors
        self._started = 0
        self._actors: list[_Actor] = []
        self.publish(params, 0)

    def __enter__(self) -> Actors:
        try:
            for _ in range(self._count):
                self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        for actor in self._actors:
            actor.process.terminate()
        for actor in self._actors:
            actor.process.join(_GRACE_S)
            if actor.process.is_alive():
                actor.process.kill()
                actor.process.join()
            actor.connection.close()
        self._actors.clear()
        self._order.params.unlink(missing_ok=True)

    def _start(self) -> None:
        ours, theirs = self._context.Pipe(duplex=False)
        order = _Order(**{**vars(self._order), "seed": self._order.seed + 7919 * self._started})
        process = self._context.Process(target=_act, args=(theirs, order), daemon=True)
        flags = os.environ.get("XLA_FLAGS", _ONE_THREAD)  # the user's, if there are any
        with _environment(XLA_FLAGS=flags, JAX_PLATFORMS=_PLATFORM):
            process.start()
        theirs.close()  # so that the end of the process is the end of the pipe
        self._actors.append(_Actor(process, ours, self._started))
        self._started += 1

    def publish(self, params: Params, version: int) -> None:
        """Taken up by each actor's next episode."""
        write_arrays(self._order.params, {"params": jax.device_get(params)}, {"version": version})
        self._order.version.value = version

    def poll(self, wait_s: float) -> list[Finished]:
        """Episodes that have arrived.

        Raises:
          MuzeroRcError: actors crash again and again without an episode in between.
        """
        found: list[Finished] = []
        ready = wait([actor.connection for actor in self._actors], wait_s)
        for actor in list(self._actors):
            if actor.connection not in ready:
                continue
            why = "its process ended"
            try:
                message = actor.connection.recv()
            except (EOFError, OSError):
                message = why
            if isinstance(message, Finished):
                self._in_a_row = 0
                found.append(message)
                continue
            self._restart(actor, str(message))
        return found

    def _restart(self, actor: _Actor, why: str) -> None:
        self._actors.remove(actor)
        actor.process.join(_GRACE_S)
        if actor.process.is_alive():
            actor.process.kill()
            actor.process.join()
        actor.connection.close()
        self.crashes += 1
        self._in_a_row += 1
        code = actor.process.exitcode
        if self._in_a_row >= _CRASHES_IN_A_ROW:
            raise MuzeroRcError(
                f"actors crashed {self._in_a_row} times without an episode in between "
                f"(exit status {code}): {why}"
            )
        self._say(f"an actor was started again: {why} (exit status {code})")
        self._start()


def _act(connection: Connection, order: _Order) -> None:
    """The life of an actor's process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent has it, and ends us
    version = -1

    def renew() -> tuple[Params, int] | None:
        nonlocal version
        if order.version.value == version:
            return None
        tree, meta = read_arrays(order.params)
        version = int(meta["version"])
        return tree["params"], version

    try:
        first = renew()
        assert first is not None
        version = -1  # the player's first episode takes them with their version
        policy = make_player(order.config, first[0], order.sessions, order.seed)
        play = SelfPlay(order.tasks, policy, order.sessions, order.seed, renew)
        for finished in play.episodes(lambda: False):
            connection.send(finished)
    except BrokenPipeError:
        os._exit(0)  # nobody listens any more: the run was killed
    except CheckpointError:
        os._exit(0)  # the file of parameters went with the run
    except BaseException:
        text = traceback.format_exc().strip().splitlines()[-1]
        with contextlib.suppress(OSError):
            connection.send(text)
        os._exit(1)


@contextlib.contextmanager
def _environment(**variables: str) -> Iterator[None]:
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
