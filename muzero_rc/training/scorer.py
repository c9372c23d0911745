"""Scores finished episodes: the reward with its memory, and what a person wants to know."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from muzero_rc.agents.muzero.networks import Params
from muzero_rc.agents.muzero.trajectory import Trajectory
from muzero_rc.agents.policy import AgentPolicy
from muzero_rc.env.passes.pipeline import rollout
from muzero_rc.env.rewards import (
    EqualRateReward,
    GreedyOpponentReward,
    Reward,
    SelfCompetitionReward,
    psnr_gain_at_equal_rate,
    score_outcome,
)
from muzero_rc.training.player import Finished
from muzero_rc.training.tasks import Task, TaskClips
from muzero_rc.types import EpisodeScore

__all__ = ["Scorer", "ScoredEpisode"]

MakeGreedy = Callable[[Params], AgentPolicy]


@dataclass(frozen=True)
class ScoredEpisode:
    """A scored episode.

    Attributes:
      trajectory: for the replay.
      reward: of the configured kind, in [-1, 1].
      against_vbr: 1, 0 or -1 by the lexicographic rule against libvpx's VBR.
      overshoot: actual / target - 1.
      gain_db: PSNR over VBR's at equal rate.
      base_gain_db: PSNR over that of the policy that the task's study was made around, at
        equal rate.
      staleness: updates between the parameters it began with and its arrival.
    """

    trajectory: Trajectory
    reward: float
    against_vbr: int
    overshoot: float
    gain_db: float
    base_gain_db: float
    staleness: int


class Scorer:
    """Owns the reward; episodes come from anywhere, in any order.

    Attributes:
      reward: with its memory.
      opponent: parameters that greedy_opponent plays with; None before there are any.
    """

    def __init__(
        self,
        reward: Reward,
        tasks: Sequence[Task],
        make_greedy: MakeGreedy,
        on_encode: Callable[[int], None] = lambda frames: None,
    ) -> None:
        """Takes how to score.

        Args:
          reward: with its memory.
          tasks: by number.
          make_greedy: makes a greedy player of parameters.
          on_encode: told the coded frames of each encode that scoring takes.
        """
        self.reward = reward
        self.opponent: Params | None = None
        self._tasks = list(tasks)
        self._make_greedy = make_greedy
        self._on_encode = on_encode
        self._greedy: AgentPolicy | None = None
        self._clips: TaskClips | None = None

    def __call__(self, finished: Finished, params: Params, version: int) -> ScoredEpisode:
        """Scores an episode.

        Args:
          finished: what was played.
          params: the learner's now: the next opponent, if this win promotes them.
          version: updates behind them.
        """
        task, score = self._tasks[finished.task], finished.score
        vbr = task.vbr_score(score.clip)
        if isinstance(self.reward, GreedyOpponentReward):
            reward = self._against_greedy(self.reward, task, score, params)
        elif isinstance(self.reward, (SelfCompetitionReward, EqualRateReward)):
            # VBR is behind from the start: a first visit against it would say nothing.
            reward = self.reward(score, lambda rate=1.0: task.base_score(score.clip))
        else:
            reward = self.reward(score, lambda rate=1.0: task.vbr_score(score.clip, rate))
        trajectory = dataclasses.replace(
            finished.trajectory,
            outcome=reward,
            overshoot=score.overshoot,
            psnr_gain=score.psnr_avg - vbr.psnr_avg,
        )
        return ScoredEpisode(
            trajectory,
            reward,
            score_outcome(score, vbr),
            score.overshoot,
            psnr_gain_at_equal_rate(score, vbr),
            psnr_gain_at_equal_rate(score, task.base_score(score.clip)),
            version - finished.version,
        )

    def _against_greedy(
        self, reward: GreedyOpponentReward, task: Task, score: EpisodeScore, params: Params
    ) -> float:
        """Plays the frozen policy where it has not played yet: one more encode."""
        if reward.needs_opponent(score.clip, score.target_kbps) and self.opponent is not None:
            if self._greedy is None:
                self._greedy = self._make_greedy(self.opponent)
                self._clips = TaskClips()
            assert self._clips is not None
            clip, stats = self._clips.get(task)
            opposed = rollout(clip, task.settings, self._greedy, first_pass=stats).score
            self._on_encode(opposed.coded_frames)
            reward.set_opponent(opposed)
        generation = reward.generation
        outcome = reward(score, lambda rate=1.0: task.vbr_score(score.clip, rate))
        if reward.generation != generation:
            self.opponent = params
            self._greedy = None
        return outcome
