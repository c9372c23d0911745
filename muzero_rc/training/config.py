"""How much of everything: what a training run is made of."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from muzero_rc.agents.config import (
    AgentConfig,
)
from muzero_rc.agents.world_model.planner import PlanSettings
from muzero_rc.env.control.settings import modern_settings
from muzero_rc.env.rewards import RewardConfig
from muzero_rc.errors import InputError
from muzero_rc.training.stages.collect import CollectConfig
from muzero_rc.video import check_height

__all__ = [
    "EvaluateConfig",
    "ImitateConfig",
    "SelfPlayConfig",
    "TrainConfig",
]


FITTED = "fit"
"""The teacher that is fitted to the run's own studies."""

NOBODY = "none"
"""In the place of a teacher."""


@dataclass(frozen=True)
class ImitateConfig:
    """What the policy head learns before self-play.

    Attributes:
      teacher: whose steps: the plan model that is fitted to the run's own studies, fit; a
        plan model by name or file; or nobody's, none.
      start: policy, by name or file, whose networks the run begins with; fresh ones if empty.
      step_strength: of the plans that it makes, see `PlanSettings`; that of `muzero-rc fit`.
      limit: qindexes that these plans move a frame by at most.
      head: how the trained policy reads its head: mode, the most probable action, or mean, the
        mean over valid actions.
    """

    teacher: str = FITTED
    start: str = ""
    step_strength: float = 3.0
    limit: int = 16
    head: Literal["mode", "mean"] = "mean"

    def __post_init__(self) -> None:
        """Checks every value.

        Raises:
          InputError: one is out of range, named.
        """
        if self.head not in ("mode", "mean"):
            raise InputError(f"imitate.head must be mode or mean, not {self.head!r}")
        if not self.teacher:
            raise InputError("imitate.teacher must be fit, none, a plan model's name or its file")
        self.plans()

    def plans(self) -> PlanSettings:
        """The settings of the teacher's plans."""
        return PlanSettings(step_strength=self.step_strength, limit=self.limit)


@dataclass(frozen=True)
class SelfPlayConfig:
    """Self-competition.

    Attributes:
      episodes: encodes in all.
      sessions: encodes that run side by side.
      repeats: encodes of a task in a row, for rewards that compare them.
      updates_per_episode: of the learner, after each finished episode.
      frames: coded frames in all, if that is reached before `episodes`; 0 for no limit.
      actors: processes that play while the learner learns; 0 plays in the learner's own,
        in turns, which makes a run repeat itself.
      platform: where players search: cpu, a core each, or gpu, beside the learner, which then
        pays with many encodes side by side.
      minutes: after which self-play ends, if it has not before; 0 for no limit.
      lessons_share: share of a batch drawn from the planned trajectories, so that what was
        learned by imitation is not forgotten while wins are few.
      teacher_weight: weight of the plans' choices in those; with 0 they teach the model
        and its values only, and the policy is free to leave the plans.
      checkpoint_every: most episodes between checkpoints.
      checkpoint_minutes: most minutes between checkpoints.
      policy_every: episodes between policies that are kept for a learning curve; 0 keeps the
        last alone.
    """

    episodes: int = 600
    sessions: int = 8
    repeats: int = 1
    updates_per_episode: float = 4.0
    frames: int = 0
    actors: int = 1
    platform: Literal["cpu", "gpu"] = "cpu"
    minutes: float = 0.0
    lessons_share: float = 0.5
    teacher_weight: float = 1.0
    checkpoint_every: int = 25
    checkpoint_minutes: float = 5.0
    policy_every: int = 0

    def __post_init__(self) -> None:
        """Checks every value.

        Raises:
          InputError: one is out of range, named.
        """
        for name, least, most in (
            ("episodes", 0, math.inf), ("sessions", 1, 4096), ("repeats", 1, 4096),
            ("updates_per_episode", 0, 1e6), ("frames", 0, math.inf), ("actors", 0, 4096),
            ("minutes", 0, math.inf),
            ("lessons_share", 0, 1),
            ("teacher_weight", 0, 1e3), ("checkpoint_every", 1, math.inf),
            ("policy_every", 0, math.inf),
            ("checkpoint_minutes", 0, math.inf),
        ):  # fmt: skip
            value = getattr(self, name)
            if not least <= value <= most:
                raise InputError(
                    f"self_play.{name} must be between {least} and {most}, not {value}"
                )
        if self.platform not in ("cpu", "gpu"):
            raise InputError(f"self_play.platform must be cpu or gpu, not {self.platform!r}")


@dataclass(frozen=True)
class EvaluateConfig:
    """What a finished run is measured on: as the headlines of the README.

    Attributes:
      clips: of the validation sources, one of each in turn.
      speeds: encoder speeds.
      height: lines that clips are scaled down to.
      frames: of each clip.
    """

    clips: int = 12
    speeds: tuple[int, ...] = (5, 2)
    height: int = 144
    frames: int = 48

    def __post_init__(self) -> None:
        """Checks every value.

        Raises:
          InputError: one is out of range, named.
        """
        for name in ("clips", "height", "frames"):
            if getattr(self, name) < 1:
                raise InputError(f"evaluate.{name} must be 1 or more, not {getattr(self, name)}")
        if not self.speeds:
            raise InputError("evaluate.speeds must name a speed")
        check_height(self.height, "evaluate.height")
        for speed in self.speeds:
            if not 0 <= speed <= 9:
                raise InputError(f"evaluate.speeds must be between 0 and 9, not {speed}")


@dataclass(frozen=True)
class TrainConfig:
    """A training run.

    Attributes:
      collect: what studies are made of.
      studies: how many to make.
      imitate: what the policy head imitates.
      imitation_updates: of the learner on the planned trajectories.
      self_play: self-competition.
      agent: networks, search, losses, optimizer, replay.
      reward: of self-play.
      evaluate: what the run is measured on, if it is.
      jobs: studies made side by side.
      seed: of everything.
    """

    agent: AgentConfig
    collect: CollectConfig = CollectConfig()
    studies: int = 200
    imitate: ImitateConfig = ImitateConfig()
    imitation_updates: int = 3000
    self_play: SelfPlayConfig = field(default_factory=SelfPlayConfig)
    reward: RewardConfig = RewardConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    jobs: int = 2
    seed: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Reads `as_dict` back.

        Raises:
          InputError: it is not of this version.
        """
        try:
            # Older runs call the section explore, and lack two choices of it: they have a
            # uniform speed profile and two passes. What they had and is gone is left out.
            collect: dict[str, Any] = {"speed_profile": "uniform", "passes": 2} | {
                k: tuple(v) if isinstance(v, list) else v
                for k, v in modern_settings(values.get("collect", values.get("explore"))).items()
                if k not in _GONE
            }
            # Older runs have neither imitate nor evaluate.
            evaluate: dict[str, Any] = {
                k: tuple(v) if isinstance(v, list) else v
                for k, v in values.get("evaluate", {}).items()
            }
            return cls(
                agent=AgentConfig.from_dict(values["agent"]),
                collect=CollectConfig(**collect),
                imitate=ImitateConfig(**values.get("imitate", {})),
                evaluate=EvaluateConfig(**evaluate),
                self_play=SelfPlayConfig(**values["self_play"]),
                reward=RewardConfig.from_dict(values["reward"]),
                **{k: values[k] for k in ("studies", "imitation_updates", "jobs", "seed")},
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"the run's configuration is of another version: {error}") from error


_GONE = ("single_layer_share", "scales")  # settings of the stage collect
