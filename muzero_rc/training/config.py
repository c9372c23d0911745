"""How much of everything: what a training run is made of, and its presets."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from muzero_rc.agents.config import (
    AgentConfig,
    LossConfig,
    NetworkConfig,
    OptimizerConfig,
    ReplayConfig,
    SearchConfig,
)
from muzero_rc.agents.world_model.planner import PlanSettings
from muzero_rc.env.codec.block_stats import BLOCK_FEATURES
from muzero_rc.env.control.settings import modern_settings
from muzero_rc.env.observation.builder import (
    CLIP_FEATURES,
    FRAME_FEATURES,
    GLOBAL_FEATURES,
    HISTORY_FEATURES,
)
from muzero_rc.env.rewards import RewardConfig
from muzero_rc.errors import InputError
from muzero_rc.training.stages.collect import CollectConfig

__all__ = [
    "PRESETS",
    "PRESET_NEEDS",
    "EvaluateConfig",
    "ImitateConfig",
    "SelfPlayConfig",
    "TrainConfig",
    "apply_settings",
    "configure",
    "setting",
    "setting_names",
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


def _agent(
    *,
    batch_size: int,
    simulations: int,
    action_frame: str = "proposal",
    learning_rate: float = 1e-3,
) -> AgentConfig:
    """The small agent."""
    return AgentConfig(
        network=NetworkConfig(
            clip_features=CLIP_FEATURES,
            history_features=HISTORY_FEATURES,
            frame_features=FRAME_FEATURES,
            global_features=GLOBAL_FEATURES,
            action_frame=action_frame,
        ),
        search=SearchConfig(simulations=simulations, max_considered=8, depth=4),
        loss=LossConfig(unroll_steps=3),
        optimizer=OptimizerConfig(learning_rate=learning_rate, weight_decay=1e-2),
        replay=ReplayConfig(batch_size=batch_size),
    )


_WORKSTATION = TrainConfig(
    agent=AgentConfig(
        network=NetworkConfig(
            clip_features=CLIP_FEATURES,
            history_features=HISTORY_FEATURES,
            frame_features=FRAME_FEATURES,
            global_features=GLOBAL_FEATURES,
            window_back=16,
            window_ahead=48,
            segments=32,
            history_rows=48,
            width=128,
            latents=32,
            self_attends=3,
            heads=8,
            state_width=256,
            dynamics_width=512,
            head_width=256,
        ),
        search=SearchConfig(simulations=32, max_considered=16, depth=6),
        loss=LossConfig(unroll_steps=5),
        optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=1000, weight_decay=1e-2),
        replay=ReplayConfig(capacity_bytes=8 * 2**30, batch_size=512),
    ),
    collect=CollectConfig(heights=(144, 240, 360, 480), speeds=(1, 2, 3, 4, 5), max_frames=150),
    studies=3000,
    imitation_updates=20_000,
    self_play=SelfPlayConfig(
        episodes=40_000,
        sessions=4,
        updates_per_episode=2.0,
        actors=14,
        lessons_share=0.25,
        checkpoint_every=200,
        checkpoint_minutes=10.0,
    ),
    jobs=16,
)

# Encodes to compare with, and none to plan from.
_COMPARED = CollectConfig(probe_patterns=0, probe_common=0, pairs=0)

PRESETS: dict[str, TrainConfig] = {
    # Minutes: to see that everything works, and for tests.
    "tiny": TrainConfig(
        agent=_agent(batch_size=16, simulations=4),
        collect=CollectConfig(
            heights=(96,),
            min_frames=30,
            max_frames=40,
            speeds=(5,),
            psnr_range=(30.0, 44.0),
            pairs=2,
        ),
        studies=4,
        imitation_updates=60,
        self_play=SelfPlayConfig(
            episodes=8, sessions=2, updates_per_episode=2.0, checkpoint_every=4, actors=0
        ),
        evaluate=EvaluateConfig(clips=1, speeds=(5,), height=96, frames=20),
    ),
    # A night on two cores; the shipped policy is a shorter run of it.
    "laptop": TrainConfig(
        agent=_agent(batch_size=64, simulations=8),
        studies=400,
        imitation_updates=4000,
        self_play=SelfPlayConfig(episodes=1500),
    ),
    # The shipped head against itself: eight encodes of each of 200 trials.
    "competition": TrainConfig(
        agent=_agent(batch_size=64, simulations=8, learning_rate=1e-4),  # they are trained
        collect=dataclasses.replace(_COMPARED, heights=(144,), speeds=(2, 5)),
        studies=200,
        imitate=ImitateConfig(teacher=NOBODY, start="muzero"),
        imitation_updates=0,
        self_play=SelfPlayConfig(
            episodes=1600, repeats=8, updates_per_episode=2.0, lessons_share=0.0
        ),
        reward=RewardConfig(kind="equal_rate", size=8),
        jobs=16,
    ),
    # As the paper has it, as far as that is known: two passes, uniform speed, one of 256
    # qindexes for every coded frame, from nothing, by self-competition alone.
    "paper": TrainConfig(
        agent=_agent(batch_size=256, simulations=16, action_frame="absolute"),
        collect=dataclasses.replace(
            _COMPARED, heights=(144,), speeds=(5,), base="vbr", speed_profile="uniform", passes=2
        ),
        studies=400,
        imitate=ImitateConfig(teacher=NOBODY, head="mode"),
        imitation_updates=0,
        self_play=SelfPlayConfig(
            episodes=30_000,
            sessions=16,
            updates_per_episode=1.0,
            actors=14,
            lessons_share=0.0,
            checkpoint_every=500,
        ),
        jobs=16,
    ),
    "workstation": _WORKSTATION,
    # The same over all devices found; several machines have to wait for Ray.
    "cluster": dataclasses.replace(
        _WORKSTATION,
        agent=dataclasses.replace(
            _WORKSTATION.agent, optimizer=_WORKSTATION.agent.optimizer.replace(devices=0)
        ),
    ),
}
"""Runs by name, for `muzero-rc train --preset`, made for as many cores as they start
processes; `configure` starts fewer where there are fewer cores."""

PRESET_NEEDS = {
    "tiny": "any machine",
    "laptop": "two cores",
    "competition": "two cores",
    "paper": "16 cores and one GPU",
    "workstation": "16 cores, one GPU and 64 GB of memory",
    "cluster": "one machine with several GPUs alike, 16 cores or more and 64 GB of memory",
}
"""What each of `PRESETS` is made for, in a few words."""


def configure(
    preset: str,
    *,
    studies: int | None = None,
    imitation_updates: int | None = None,
    episodes: int | None = None,
    frames: int | None = None,
    settings: Sequence[str] = (),
    seed: int = 0,
    cores: int | None = None,
) -> TrainConfig:
    """A preset with some numbers changed, and no more processes than cores but as asked for.

    Args:
      preset: its name.
      studies: instead of its own.
      imitation_updates: instead of its own.
      episodes: instead of its own.
      frames: instead of its own.
      settings: any others, as "section.name=value", see `apply_settings`.
      seed: of every random choice.
      cores: of the machine; those that this process may use if not given.

    Raises:
      InputError: unknown preset or setting, or a number out of range.
    """
    if preset not in PRESETS:
        raise InputError(f"unknown preset {preset!r}; give {' or '.join(PRESETS)}")
    fitting = _fitted(PRESETS[preset], len(os.sched_getaffinity(0)) if cores is None else cores)
    config = apply_settings(fitting, settings)
    for name, value, least in (
        ("studies", studies, 2),
        ("updates", imitation_updates, 0),
        ("episodes", episodes, 0),
        ("frames", frames, 0),
        ("seed", seed, 0),
    ):
        if value is not None and value < least:
            raise InputError(f"{name} must be {least} or more, not {value}")
    play = config.self_play
    if episodes is not None:
        play = dataclasses.replace(play, episodes=episodes)
    if frames is not None:
        play = dataclasses.replace(play, frames=frames)
    updates = config.imitation_updates if imitation_updates is None else imitation_updates
    # The learning rate falls over the whole run, whatever its length.
    total = updates + math.floor(play.episodes * play.updates_per_episode)
    optimizer = config.agent.optimizer
    if total > optimizer.warmup_steps and not optimizer.decay_steps:
        optimizer = optimizer.replace(decay_steps=total)
    return dataclasses.replace(
        config,
        agent=dataclasses.replace(config.agent, optimizer=optimizer),
        studies=config.studies if studies is None else studies,
        imitation_updates=updates,
        self_play=play,
        seed=seed,
    )


def _fitted(config: TrainConfig, cores: int) -> TrainConfig:
    """With studies on all cores, and players on all but the learner's, at most."""
    play = config.self_play
    play = dataclasses.replace(play, actors=min(play.actors, max(1, cores - 1)))
    return dataclasses.replace(config, self_play=play, jobs=min(config.jobs, cores))


_SECTIONS = ("network", "search", "loss", "optimizer", "replay", "reward", "collect", "imitate",
             "self_play", "evaluate")  # fmt: skip


def setting_names() -> list[str]:
    """Every setting that `apply_settings` knows, as "section.name"."""
    config = PRESETS["tiny"]
    return [
        f"{name}.{field.name}"
        for name in _SECTIONS
        for field in dataclasses.fields(_section(config, name))
    ]


def setting(config: TrainConfig, name: str) -> Any:
    """The value of a setting, "section.name", or of a field of the run itself."""
    section, dot, field_name = name.partition(".")
    return getattr(_section(config, section), field_name) if dot else getattr(config, name)


def apply_settings(config: TrainConfig, settings: Sequence[str]) -> TrainConfig:
    """A configuration with settings changed by name.

    Args:
      config: to begin with.
      settings: "section.name=value" each, such as "network.representation=hip"; values as
        in JSON, words without quotes.

    Raises:
      InputError: an unknown setting, with the nearest known one, or a bad value.
    """
    changes: dict[str, dict[str, Any]] = {}
    for word in settings:
        key, separator, text = word.partition("=")
        known = setting_names()
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]}?" if near else "see docs/guide/train.md for all"
            raise InputError(f"unknown setting {key}; {hint}")
        if not separator:
            raise InputError(f"setting {key} needs a value: {key}=VALUE")
        section, _, name = key.partition(".")
        try:
            value: Any = json.loads(text)
        except json.JSONDecodeError:
            value = text
        changes.setdefault(section, {})[name] = value
    agent_parts = {
        name: _changed(_section(config, name), values, name)
        for name, values in changes.items()
        if name in ("network", "search", "loss", "optimizer", "replay")
    }
    rest = {
        name: _changed(_section(config, name), values, name)
        for name, values in changes.items()
        if name not in agent_parts
    }
    network = agent_parts.get("network", config.agent.network)
    blocks = changes.get("network", {}).get("block_columns")
    if network.representation == "hip" and blocks is None:
        # Reading blocks is what it is for.
        agent_parts["network"] = network.replace(block_columns=BLOCK_FEATURES)
    return dataclasses.replace(
        config, agent=dataclasses.replace(config.agent, **agent_parts), **rest
    )


def _section(config: TrainConfig, name: str) -> Any:
    return getattr(config, name, None) or getattr(config.agent, name)


def _changed(section: Any, values: Mapping[str, Any], name: str) -> Any:
    """A section with values of the types that it has now."""
    fitting = {}
    for key, value in values.items():
        now = getattr(section, key)
        if isinstance(now, tuple) and not isinstance(value, (list, tuple)):
            value = [value]
        if isinstance(now, tuple):
            value = tuple(value)
        wanted = (int, float) if isinstance(now, float) else type(now)
        if not isinstance(value, wanted) or (isinstance(value, bool) != isinstance(now, bool)):
            raise InputError(
                f"setting {name}.{key} must be like {json.dumps(now)}, not {json.dumps(value)}"
            )
        fitting[key] = value
    return dataclasses.replace(section, **fitting)
