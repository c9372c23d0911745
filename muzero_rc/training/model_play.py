"""The whole algorithm on the encoder model: self-play, rewards, learning, in one loop.

The model answers in microseconds, so that an agent learns from nothing in minutes; and the
best plan is known, so that it can be said how much of it was learned. For tests, for trying
a change, and the shortest place to read how the parts fit together.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from muzero_rc.agents.config import AgentConfig
from muzero_rc.agents.muzero.learner import Learner
from muzero_rc.agents.muzero.replay import Replay
from muzero_rc.agents.muzero.trajectory import Trajectory, TrajectoryRecorder
from muzero_rc.agents.policy import AgentPolicy
from muzero_rc.env.control.recipe import DEFAULT_RECIPE
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.passes.stepper import Stepper
from muzero_rc.env.rewards import GreedyOpponentReward, Reward
from muzero_rc.env.testing.encoder_model import (
    ModelBackend,
    ModelClip,
    Plan,
    best_constant,
    optimum,
)
from muzero_rc.types import EpisodeScore

__all__ = ["ModelTask", "ModelTraining"]

# The model's proposal meets the target by itself. Rate control is made for real clips: it would
# move the base of the later frames up to 28 qindexes away from it, with nothing to correct.
_WITHOUT_RATE_OFFSETS = dataclasses.replace(
    DEFAULT_RECIPE,
    two_pass=dataclasses.replace(DEFAULT_RECIPE.two_pass, max_offset=0, max_finer=0.0),
)


@dataclass(frozen=True)
class ModelTask:
    """A clip of the model at a target.

    Attributes:
      clip: the clip.
      target_kbps: the target.
      constant: the best single qindex.
      best: the optimum.
    """

    clip: ModelClip
    target_kbps: int
    constant: Plan
    best: Plan

    @classmethod
    def make(
        cls, backend: ModelBackend, clip: ModelClip, qindex: int, tolerance: float
    ) -> ModelTask:
        """The target that this qindex meets for all frames; both plans may use the tolerance."""
        tables = backend.tables(clip)
        bits, _ = tables.score([qindex] * len(tables.bits))
        target = max(1, round(bits / clip.duration_s / 1000.0))
        budget = backend.budget(clip, target) * (1.0 + tolerance)
        return cls(clip, target, best_constant(tables, budget), optimum(tables, budget))

    def share(self, score: EpisodeScore) -> float:
        """How much of the way from the constant qindex to the optimum an encode has gone."""
        gap = self.best.psnr_avg - self.constant.psnr_avg
        return (score.psnr_avg - self.constant.psnr_avg) / gap


class ModelTraining:
    """An agent that learns on tasks of the model.

    Attributes:
      learner: of the agent.
      episodes: played so far.
    """

    def __init__(
        self,
        config: AgentConfig,
        reward: Reward,
        tasks: Sequence[ModelTask],
        *,
        sessions: int = 64,
        updates: int = 8,
        seed: int = 0,
    ) -> None:
        """Makes a fresh agent.

        Args:
          config: of the agent.
          reward: of its episodes.
          tasks: drawn from uniformly.
          sessions: encodes that are played as one batch.
          updates: of the learner after each batch.
          seed: of everything.
        """
        self.learner = Learner(config, seed)
        self.episodes = 0
        self._config = config
        self._reward = reward
        self._tasks = list(tasks)
        self._sessions = sessions
        self._updates = updates
        self._backend = ModelBackend()
        self._rng = np.random.default_rng(seed)
        self._replay = Replay(config.network, config.replay, config.loss, seed)
        self._actor = AgentPolicy(
            self.learner.params, config.network, simulations=config.search.simulations,
            search=config.search, batch_size=sessions, seed=seed,
        )  # fmt: skip
        self._greedy = AgentPolicy(self.learner.params, config.network, batch_size=len(tasks))
        self._opponent = AgentPolicy(self.learner.params, config.network, batch_size=1)

    def run(self, seconds: float, enough: Callable[[], bool] = lambda: False) -> None:
        """Plays and learns until the time is up or `enough()`, looked at every 20 batches."""
        end = time.monotonic() + seconds
        batches = 0
        while time.monotonic() < end:
            self._actor.set_params(self.learner.params)
            picks = self._rng.integers(len(self._tasks), size=self._sessions)
            played = self._play(self._actor, [self._tasks[n] for n in picks])
            for pick, (trajectory, score) in zip(picks, played, strict=True):
                outcome = self._scorer(self._tasks[pick], score)
                self._replay.add(dataclasses.replace(trajectory, outcome=outcome))
            self.episodes += len(picks)
            for _ in range(self._updates):
                self.learner.update(self._replay.sample())
            batches += 1
            if batches % 20 == 0 and enough():
                return

    def greedy(self) -> list[tuple[ModelTask, EpisodeScore]]:
        """An encode of every task by the policy head, without search or noise."""
        self._greedy.set_params(self.learner.params)
        played = self._play(self._greedy, self._tasks)
        return [(task, score) for task, (_, score) in zip(self._tasks, played, strict=True)]

    def _scorer(self, task: ModelTask, score: EpisodeScore) -> float:
        reward = self._reward
        if not isinstance(reward, GreedyOpponentReward):
            return reward(score, lambda rate=1.0: self._constant(task, rate))
        if reward.needs_opponent(score.clip, score.target_kbps):
            reward.set_opponent(self._play(self._opponent, [task])[0][1])
        generation = reward.generation
        outcome = reward(score, lambda rate=1.0: self._constant(task, rate))
        if reward.generation != generation:
            self._opponent.set_params(self.learner.params)
        return outcome

    def _constant(self, task: ModelTask, rate: float) -> EpisodeScore:
        """The best constant qindex stands where libvpx's VBR stands for real clips."""
        tables = self._backend.tables(task.clip)
        plan = best_constant(tables, self._backend.budget(task.clip, task.target_kbps) * rate)
        kbps = plan.bits / task.clip.duration_s / 1000.0
        return EpisodeScore(
            clip=task.clip.sha256, target_kbps=task.target_kbps * rate, actual_kbps=kbps,
            bits=round(plan.bits), psnr_avg=plan.psnr_avg, psnr_overall=plan.psnr_avg,
            psnr_y=plan.psnr_avg, shown_frames=task.clip.num_frames,
            coded_frames=len(plan.qindexes),
        )  # fmt: skip

    def _play(
        self, policy: AgentPolicy, tasks: Sequence[ModelTask]
    ) -> list[tuple[Trajectory, EpisodeScore]]:
        """Encodes of all tasks side by side, one decision of each at a time."""
        episodes, recorders = [], []
        for task in tasks:
            settings = EncoderSettings(target_kbps=task.target_kbps)
            stats = self._backend.first_pass(task.clip, settings)
            episodes.append(
                Stepper.open(
                    self._backend, task.clip, settings, stats, recipe=_WITHOUT_RATE_OFFSETS
                )
            )
            recorders.append(TrajectoryRecorder(self._config.network.action_frame))
        live = list(range(len(tasks)))
        while live:
            observations = [episodes[n].observe() for n in live]
            policy.qindexes(observations)
            thought = policy.last
            assert thought is not None
            for row, n in enumerate(live):
                qindex = int(thought.qindexes[row])
                result = episodes[n].step(qindex)
                recorders[n].step(
                    observations[row], qindex,
                    bits_per_pixel=result.bits / result.samples[0], psnr_db=result.psnr,
                    policy=thought.policies[row], value=float(thought.values[row]),
                )  # fmt: skip
            live = [n for n in live if episodes[n].info is not None]
        found = []
        for task, episode, recorder in zip(tasks, episodes, recorders, strict=True):
            score = episode.score()
            gain = score.psnr_avg - task.constant.psnr_avg
            trajectory = recorder.finish(overshoot=score.overshoot, psnr_gain_db=gain)
            found.append((trajectory, score))
        return found
