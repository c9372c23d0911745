"""Self-play: encodes by the searching agent, many side by side.

What comes out has no reward yet: rewards have a memory, and that is kept in one place,
whoever plays (`muzero_rc.training.scorer`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from muzero_rc.agents.muzero.networks import Params
from muzero_rc.agents.muzero.trajectory import Trajectory, TrajectoryRecorder
from muzero_rc.agents.policy import AgentPolicy
from muzero_rc.env.codec.session import EncoderSession, wait_any
from muzero_rc.env.passes.stepper import Stepper
from muzero_rc.training.tasks import Task, TaskClips
from muzero_rc.types import EpisodeScore, Observation

__all__ = ["Finished", "SelfPlay"]

Renew = Callable[[], tuple[Params, int] | None]


@dataclass(frozen=True)
class Finished:
    """A played episode.

    Attributes:
      task: number of what was played.
      trajectory: for the replay, without a reward: outcome, overshoot and gain are NaN.
      score: raw score.
      version: updates behind the parameters that the episode began with.
    """

    task: int
    trajectory: Trajectory
    score: EpisodeScore
    version: int


@dataclass(frozen=True)
class _Decision:
    """A decision whose frame is being coded."""

    observation: Observation
    qindex: int
    policy: npt.NDArray[np.float32]
    value: float


@dataclass
class _Slot:
    """A running encode."""

    task: Task
    version: int
    stepper: Stepper
    recorder: TrajectoryRecorder
    decision: _Decision | None = None


class SelfPlay:
    """Plays episodes: one search for all encodes that wait, while the others code.

    The encoders run in native threads; Python only hands observations to the agent and
    qindexes to the encoders.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        policy: AgentPolicy,
        sessions: int,
        seed: int,
        renew: Renew = lambda: None,
        in_step: bool = False,
        repeats: int = 1,
    ) -> None:
        """Takes what to play.

        Args:
          tasks: drawn from uniformly.
          policy: the searching agent.
          sessions: encodes side by side.
          seed: of the draws.
          renew: asked before each episode; gives newer parameters and the updates behind
            them, or None. Episodes under way go on with them, too.
          in_step: wait for all encoders before each search, so that which encodes share
            one does not depend on the machine; slower.
          repeats: encodes of a task in a row, which are compared with each other then.
        """
        self._tasks = list(tasks)
        self._repeats = repeats
        self._again: list[Task] = []
        self._policy = policy
        self._sessions = sessions
        self._rng = np.random.default_rng(seed)
        self._renew = renew
        self._in_step = in_step
        self._version = 0
        self._clips = TaskClips()

    def episodes(self, stopped: Callable[[], bool]) -> Iterator[Finished]:
        """Plays on and gives each episode as it ends, until `stopped()` or closed."""
        with contextlib.ExitStack() as stack:
            slots: list[_Slot] = []
            stack.callback(_close, slots)
            while not stopped():
                while len(slots) < self._sessions:
                    slots.append(self._start())
                self._decide(slots)
                for index in reversed(self._answered(slots)):
                    if self._collect(slots[index]):
                        yield self._finish(slots.pop(index))

    def _answered(self, slots: Sequence[_Slot]) -> list[int]:
        if self._in_step:
            return list(range(len(slots)))
        return wait_any([cast(EncoderSession, slot.stepper.session) for slot in slots])

    def _start(self) -> _Slot:
        newer = self._renew()
        if newer is not None:
            params, self._version = newer
            self._policy.set_params(params)
        if not self._again:
            drawn = self._tasks[int(self._rng.integers(len(self._tasks)))]
            self._again = [drawn] * self._repeats
        task = self._again.pop()
        config = self._policy.config
        recorder = TrajectoryRecorder(config.action_frame, blocks=config.block_columns > 0)
        return _Slot(task, self._version, self._clips.open(task), recorder)

    def _decide(self, slots: Sequence[_Slot]) -> None:
        waiting = [slot for slot in slots if slot.decision is None]
        if not waiting:
            return
        observations = [slot.stepper.observe() for slot in waiting]
        self._policy.qindexes(observations)
        thought = self._policy.last
        assert thought is not None
        for row, (slot, observation) in enumerate(zip(waiting, observations, strict=True)):
            qindex = int(thought.qindexes[row])
            slot.decision = _Decision(
                observation, qindex, thought.policies[row], float(thought.values[row])
            )
            slot.stepper.submit(qindex)

    def _collect(self, slot: _Slot) -> bool:
        """Takes the result of the frame in work; True at the end of the encode."""
        decision = slot.decision
        if decision is None:
            return False
        result = slot.stepper.collect()
        slot.recorder.step(
            decision.observation,
            decision.qindex,
            bits_per_pixel=result.bits / result.samples[0],
            psnr_db=result.psnr,
            policy=decision.policy,
            value=decision.value,
        )
        slot.decision = None
        return slot.stepper.info is None

    def _finish(self, slot: _Slot) -> Finished:
        slot.stepper.finish()
        score = slot.stepper.score()
        return Finished(slot.task.number, slot.recorder.finish(), score, slot.version)


def _close(slots: Sequence[_Slot]) -> None:
    for slot in slots:
        slot.stepper.close()
