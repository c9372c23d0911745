"""Actors: who plays self-play's episodes, in this process or in others.

`Inline` plays when it is asked, which makes a run repeat itself to the bit. `Actors` are
workers that play on while the learner learns; each searches for all its encodes in one
batch. A worker that ends, by an exception or by the death of native code, is started
again and counted.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import jax

from muzero_rc.agents.config import AgentConfig
from muzero_rc.agents.muzero.networks import Params
from muzero_rc.agents.policy import AgentPolicy
from muzero_rc.compute import (
    ActorContext,
    ActorGroup,
    Compute,
    Crash,
    CrashLimitError,
    ProcessScheduler,
)
from muzero_rc.errors import MuzeroRcError
from muzero_rc.training.player import Finished, SelfPlay
from muzero_rc.training.tasks import Task

__all__ = ["Actors", "Inline", "Players", "make_player"]

_CRASHES_IN_A_ROW = 5
_SEED_STEP = 7919
# One thread for each actor's arithmetic: its encoders need the other cores.
_ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
# A GPU is the learner's, which takes most of its memory at once, unless it is asked for.
_PLATFORMS = {
    "cpu": {"JAX_PLATFORMS": "cpu"},
    "gpu": {"JAX_PLATFORMS": "cuda,cpu", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
}


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
        self,
        tasks: Sequence[Task],
        config: AgentConfig,
        params: Params,
        sessions: int,
        seed: int,
        repeats: int = 1,
    ) -> None:
        """Takes what `SelfPlay` does."""
        policy = make_player(config, params, sessions, seed)
        self._newest: tuple[Params, int] | None = None
        play = SelfPlay(tasks, policy, sessions, seed, self._renew, in_step=True, repeats=repeats)
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


@dataclass(frozen=True)
class _Play:
    """What an actor does; picklable.

    Published values are pairs of parameters and version.
    """

    tasks: tuple[Task, ...]
    config: AgentConfig
    sessions: int
    seed: int
    repeats: int

    def __call__(self, context: ActorContext) -> Iterator[Finished]:
        """Plays on; looks for newer parameters before each episode."""
        first: tuple[Params, int] | None = context.newest()
        assert first is not None
        seed = self.seed + _SEED_STEP * context.number
        policy = make_player(self.config, first[0], self.sessions, seed)

        def renew() -> tuple[Params, int] | None:
            # The player's first episode takes the first parameters with their version.
            nonlocal first
            newest = context.newest() or first
            first = None
            return newest

        play = SelfPlay(self.tasks, policy, self.sessions, seed, renew, repeats=self.repeats)
        return play.episodes(lambda: False)


class Actors:
    """Workers that play and send what they have played.

    An actor looks for newer parameters before each episode.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        config: AgentConfig,
        params: Params,
        sessions: int,
        seed: int,
        repeats: int = 1,
        *,
        actors: int,
        platform: str = "cpu",
        folder: Path,
        say: Callable[[str], None] = lambda line: None,
        compute: Compute | None = None,
    ) -> None:
        """Starts nothing yet.

        Args:
          tasks: drawn from uniformly.
          config: the agent's.
          params: to begin with.
          sessions: encodes side by side in each actor.
          seed: of search and draws; each actor, and each that follows a crash, has its own.
          repeats: encodes of a task in a row.
          actors: workers.
          platform: where they search, cpu or gpu.
          folder: of the run; processes of this machine keep the parameters in a file there
            while they play, which is written over after a kill, so that kills leave no
            litter.
          say: told why an actor was started again, in one line.
          compute: where actors run; processes of this machine if not given. Its workers
            must reach the clips.
        """
        self._play = _Play(tuple(tasks), config, sessions, seed, repeats)
        self._count = actors
        self._platform = _PLATFORMS[platform]
        self._say = say
        self._scheduler = (compute or functools.partial(ProcessScheduler, folder=folder))(actors)
        self._newest = (jax.device_get(params), 0)
        self._group: ActorGroup | None = None

    @property
    def crashes(self) -> int:
        """Actors that had to be started again."""
        return 0 if self._group is None else self._group.crashes

    def __enter__(self) -> Actors:
        self._group = self._scheduler.start_actors(
            self._play,
            self._count,
            initial=self._newest,
            # The user's flags, if there are any.
            environment={
                "XLA_FLAGS": os.environ.get("XLA_FLAGS", _ONE_THREAD),
                **self._platform,
            },
            most_crashes=_CRASHES_IN_A_ROW,
            on_restart=self._tell,
        )
        return self

    def __exit__(self, *error: object) -> None:
        self._scheduler.close()

    def _tell(self, crash: Crash) -> None:
        self._say(f"an actor was started again: {crash.why} (exit status {crash.status})")

    def publish(self, params: Params, version: int) -> None:
        """Taken up by each actor's next episode."""
        self._newest = (jax.device_get(params), version)
        if self._group is not None:
            self._group.publish(self._newest)

    def poll(self, wait_s: float) -> list[Finished]:
        """Episodes that have arrived.

        Raises:
          MuzeroRcError: actors crash again and again without an episode in between.
        """
        assert self._group is not None
        try:
            return self._group.receive(wait_s)
        except CrashLimitError as error:
            raise MuzeroRcError(
                f"actors crashed {error.count} times without an episode in between "
                f"(exit status {error.crash.status}): {error.crash.why}"
            ) from error
