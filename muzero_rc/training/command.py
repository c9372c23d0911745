"""The shortest `muzero-rc train` command that has a configuration."""

from __future__ import annotations

import json
import shlex
from typing import Any

from muzero_rc.training.config import TrainConfig
from muzero_rc.training.presets import PRESETS, configure, setting, setting_names

__all__ = ["train_command"]

# Options of the command line that are no settings; the field of each.
_OPTIONS = {
    "studies": "studies",
    "updates": "imitation_updates",
    "episodes": "self_play.episodes",
    "frames": "self_play.frames",
    "seed": "seed",
}
_CORPUS = ("--corpus", "CORPUS")
_DERIVED = "optimizer.decay_steps"  # from the updates of the whole run, if not given


def train_command(config: TrainConfig, *, dataset: bool = False) -> str:
    """The command, with CORPUS and RUN for the folders; quoted for a shell.

    Args:
      config: of the run.
      dataset: the run is one of a data set, DATASET, in the place of a corpus.

    Settings are told apart from the nearest preset's. How many studies are made side by side
    is left to the machine.
    """
    every = [[*_changes(preset, config)] for preset in PRESETS]
    nearest = min(range(len(every)), key=lambda index: len(every[index]))
    words = ["muzero-rc", "train", *(["--dataset", "DATASET"] if dataset else _CORPUS)]
    words += ["--out", "RUN"]
    words += ["--preset", list(PRESETS)[nearest], *every[nearest]]
    return shlex.join(words)


def _changes(preset: str, config: TrainConfig) -> list[str]:
    plain = PRESETS[preset]
    words = []
    for option, name in _OPTIONS.items():
        if setting(plain, name) != setting(config, name):
            words += [f"--{option}", _text(setting(config, name))]
    for name in setting_names():
        if name == _DERIVED or name in _OPTIONS.values():
            continue
        if setting(plain, name) != setting(config, name):
            words += [f"--{name}", _text(setting(config, name))]
    derived = configure(
        preset,
        imitation_updates=config.imitation_updates,
        episodes=config.self_play.episodes,
        settings=[f"self_play.updates_per_episode={config.self_play.updates_per_episode}"],
    )
    if setting(derived, _DERIVED) != setting(config, _DERIVED):
        words += [f"--{_DERIVED}", _text(setting(config, _DERIVED))]
    return words


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
