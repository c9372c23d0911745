"""How much of everything: what a training run is made of, and its presets."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from muzero_rc.agents.config import (
    AgentConfig,
    LossConfig,
    NetworkConfig,
    OptimizerConfig,
    ReplayConfig,
    SearchConfig,
)
from muzero_rc.env.observation import (
    CLIP_FEATURES,
    FRAME_FEATURES,
    GLOBAL_FEATURES,
    HISTORY_FEATURES,
)
from muzero_rc.errors import InputError
from muzero_rc.training.explore import ExploreConfig

__all__ = ["PRESETS", "SelfPlayConfig", "TrainConfig", "configure"]


@dataclass(frozen=True)
class SelfPlayConfig:
    """Self-competition.

    Attributes:
      episodes: encodes in all.
      sessions: encodes that run side by side.
      updates_per_episode: of the learner, after each finished episode.
      lessons_share: share of a batch drawn from the teacher's lessons, so that what was
        learned by imitation is not forgotten while wins are few.
      checkpoint_every: episodes between checkpoints.
    """

    episodes: int = 600
    sessions: int = 4
    updates_per_episode: int = 4
    lessons_share: float = 0.5
    checkpoint_every: int = 25


@dataclass(frozen=True)
class TrainConfig:
    """A training run.

    Attributes:
      explore: what studies are made of.
      studies: how many to make.
      imitation_updates: of the learner on the teacher's lessons.
      self_play: self-competition.
      agent: networks, search, losses, optimizer, replay.
      jobs: studies made side by side.
      seed: of everything.
    """

    agent: AgentConfig
    explore: ExploreConfig = ExploreConfig()
    studies: int = 200
    imitation_updates: int = 3000
    self_play: SelfPlayConfig = field(default_factory=SelfPlayConfig)
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
            explore: dict[str, Any] = {
                k: tuple(v) if isinstance(v, list) else v for k, v in values["explore"].items()
            }
            return cls(
                agent=AgentConfig.from_dict(values["agent"]),
                explore=ExploreConfig(**explore),
                self_play=SelfPlayConfig(**values["self_play"]),
                **{k: values[k] for k in ("studies", "imitation_updates", "jobs", "seed")},
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"the run's configuration is of another version: {error}") from error


def _agent(*, batch_size: int, simulations: int) -> AgentConfig:
    return AgentConfig(
        network=NetworkConfig(
            clip_features=CLIP_FEATURES,
            history_features=HISTORY_FEATURES,
            frame_features=FRAME_FEATURES,
            global_features=GLOBAL_FEATURES,
        ),
        search=SearchConfig(simulations=simulations, max_considered=8, depth=4),
        loss=LossConfig(unroll_steps=3),
        optimizer=OptimizerConfig(learning_rate=1e-3, weight_decay=1e-2),
        replay=ReplayConfig(batch_size=batch_size),
    )


PRESETS: dict[str, TrainConfig] = {
    # Minutes: to see that everything works, and for tests.
    "tiny": TrainConfig(
        agent=_agent(batch_size=16, simulations=4),
        explore=ExploreConfig(
            heights=(96,),
            min_frames=30,
            max_frames=40,
            speeds=(5,),
            single_layer_share=0.0,
            pairs=2,
        ),
        studies=4,
        imitation_updates=60,
        self_play=SelfPlayConfig(episodes=8, sessions=2, updates_per_episode=2, checkpoint_every=4),
    ),
    # A night on two cores; the shipped policy is a shorter run of it.
    "laptop": TrainConfig(
        agent=_agent(batch_size=64, simulations=8),
        studies=400,
        imitation_updates=4000,
        self_play=SelfPlayConfig(episodes=1500),
    ),
}
"""Runs by name, for `muzero-rc train --preset`."""


def configure(
    preset: str,
    *,
    studies: int | None = None,
    imitation_updates: int | None = None,
    episodes: int | None = None,
    seed: int = 0,
) -> TrainConfig:
    """A preset with some numbers changed.

    Raises:
      InputError: unknown preset, or a number out of range.
    """
    if preset not in PRESETS:
        raise InputError(f"unknown preset {preset!r}; give {' or '.join(PRESETS)}")
    config = PRESETS[preset]
    for name, value, least in (
        ("studies", studies, 2),
        ("updates", imitation_updates, 0),
        ("episodes", episodes, 0),
        ("seed", seed, 0),
    ):
        if value is not None and value < least:
            raise InputError(f"{name} must be {least} or more, not {value}")
    play = config.self_play
    if episodes is not None:
        play = dataclasses.replace(play, episodes=episodes)
    updates = config.imitation_updates if imitation_updates is None else imitation_updates
    # The learning rate falls over the whole run, whatever its length.
    total = updates + play.episodes * play.updates_per_episode
    optimizer = config.agent.optimizer
    if total > optimizer.warmup_steps:
        optimizer = optimizer.replace(decay_steps=total)
    return dataclasses.replace(
        config,
        agent=dataclasses.replace(config.agent, optimizer=optimizer),
        studies=config.studies if studies is None else studies,
        imitation_updates=updates,
        self_play=play,
        seed=seed,
    )
