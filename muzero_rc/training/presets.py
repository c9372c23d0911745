"""Training runs by name, with settings changed by theirs."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from muzero_rc.agents.config import (
    AgentConfig,
    LossConfig,
    NetworkConfig,
    OptimizerConfig,
    ReplayConfig,
    SearchConfig,
)
from muzero_rc.env.codec.block_stats import BLOCK_FEATURES
from muzero_rc.env.observation.builder import (
    CLIP_FEATURES,
    FRAME_FEATURES,
    GLOBAL_FEATURES,
    HISTORY_FEATURES,
)
from muzero_rc.env.rewards import RewardConfig
from muzero_rc.errors import InputError
from muzero_rc.training.config import (
    NOBODY,
    EvaluateConfig,
    ImitateConfig,
    SelfPlayConfig,
    TrainConfig,
)
from muzero_rc.training.stages.collect import CollectConfig

__all__ = [
    "PRESETS",
    "PRESET_NEEDS",
    "apply_settings",
    "configure",
    "setting",
    "setting_names",
]


# What the environment shows, read by networks of plain size.
_NETWORK = NetworkConfig(
    clip_features=CLIP_FEATURES,
    history_features=HISTORY_FEATURES,
    frame_features=FRAME_FEATURES,
    global_features=GLOBAL_FEATURES,
)


def _agent(
    *,
    batch_size: int,
    simulations: int,
    action_frame: str = "proposal",
    learning_rate: float = 1e-3,
) -> AgentConfig:
    """The small agent."""
    return AgentConfig(
        network=_NETWORK.replace(action_frame=action_frame),
        search=SearchConfig(simulations=simulations, max_considered=8, depth=4),
        loss=LossConfig(unroll_steps=3),
        optimizer=OptimizerConfig(learning_rate=learning_rate, weight_decay=1e-2),
        replay=ReplayConfig(batch_size=batch_size),
    )


_WORKSTATION = TrainConfig(
    agent=AgentConfig(
        network=_NETWORK.replace(
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
_COMPARED = CollectConfig(heights=(144,), probe_patterns=0, probe_common=0, pairs=0)

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
        collect=dataclasses.replace(_COMPARED, speeds=(2, 5)),
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
            _COMPARED, speeds=(5,), base="vbr", speed_profile="uniform", passes=2
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
    if seed > _MOST_SEED:
        raise InputError(f"seed must be between 0 and {_MOST_SEED}, not {seed}")
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


_MOST_SEED = 2**63 - 1  # JAX takes 64 bits with a sign
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
            value: Any = json.loads(text, parse_constant=str)  # no number is NaN
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


def _alike(value: Any, now: Any) -> bool:
    """Whether a value has the type of another, and each in a list that of the other's first."""
    if isinstance(now, tuple):
        return isinstance(value, tuple) and all(_alike(one, now[0]) for one in value if now)
    wanted = (int, float) if isinstance(now, float) else type(now)
    return isinstance(value, wanted) and isinstance(value, bool) == isinstance(now, bool)


def _changed(section: Any, values: Mapping[str, Any], name: str) -> Any:
    """A section with values of the types that it has now."""
    fitting = {}
    for key, value in values.items():
        now = getattr(section, key)
        if isinstance(now, tuple) and not isinstance(value, (list, tuple)):
            value = [value]
        if isinstance(now, tuple):
            value = tuple(value)
        if not _alike(value, now):
            raise InputError(
                f"setting {name}.{key} must be like {json.dumps(now)}, not {json.dumps(value)}"
            )
        fitting[key] = value
    return dataclasses.replace(section, **fitting)
