"""What a policy file is, what it saw, what it cost and where it ends, read from the file.

Nothing in a card is known from elsewhere but the limits that hold for every policy of this
package; what a file does not say is said to be missing.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from muzero_rc.agents.config import NetworkConfig
from muzero_rc.agents.policy import POLICY_VERSION, read_policy
from muzero_rc.env.control.settings import modern_settings
from muzero_rc.env.observation.builder import OBSERVATION_VERSION
from muzero_rc.errors import CheckpointError, InputError
from muzero_rc.training.command import train_command
from muzero_rc.training.config import TrainConfig
from muzero_rc.training.costs import COST_COLUMNS, StageCost, cost_rows, read_stages

__all__ = ["ModelCard", "read_card"]

_LIMITS = (
    "For files in two passes at an average bitrate. Not for live, one pass, constant bitrate, "
    "or a buffer model: nothing bounds the bitrate of a stretch of the clip.",
    "The target is aimed at, not guaranteed; a file can be over it.",
    "8-bit 4:2:0 at a constant frame rate; other input is converted to that.",
    "Learned by PSNR; what viewers or other metrics say was no part of training.",
    "Runs on the encoder that this package builds, with its patches, and on no other.",
)

_DATA = (
    ("sources", "sources"),
    ("clips", "clips"),
    ("clips_digest", "digest of the clips' names"),
    ("studies", "studies"),
    ("studied_encodes", "encodes in studies"),
    ("studied_frames", "frames in them, those that only show a buffer included"),
    ("imitation_updates", "updates of imitation"),
    ("self_play_episodes", "episodes of self-play"),
    ("self_play_frames", "coded frames of self-play"),
    ("updates", "updates in all"),
    ("stage", "last stage"),
)


@dataclass(frozen=True)
class ModelCard:
    """A policy file's card.

    Attributes:
      name: what the policy calls itself.
      file: name of the file, without its folder.
      file_bytes: its size.
      sha256: of its bytes.
      format_version: of policy files.
      network: configuration of the networks.
      parameters: number of weights in each part of the networks.
      observation_version: of the observations that it was trained on.
      env_id: environment that it was trained in.
      speed_profile: how its encodes distribute search speed, see `env.control.frame_speed`.
      head: how a decision is read from the policy head, `mode` or `mean`.
      training: the record of its training, without its configuration and costs.
      config: configuration of its training; None if the file has none.
      command: that trains with this configuration; None if it cannot be told.
      costs: of the stages of its training; None if they were not recorded.
      limits: of its use, a sentence each.
      results: where what it achieves is measured, in Markdown.
    """

    name: str
    file: str
    file_bytes: int
    sha256: str
    format_version: int
    network: NetworkConfig
    parameters: dict[str, int]
    observation_version: int
    env_id: str
    speed_profile: str
    head: str
    training: dict[str, Any]
    config: dict[str, Any] | None
    command: str | None
    costs: dict[str, StageCost] | None
    limits: list[str]
    results: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        costs = self.costs
        return asdict(self) | {
            "network": self.network.as_dict(),
            "costs": None if costs is None else {k: v.as_dict() for k, v in costs.items()},
        }

    def markdown(self) -> str:
        """The card as a page, a newline at its end."""
        return "\n\n".join(
            [
                f"# {self.name}",
                "A policy of muzero_rc. Before each coded frame of the last pass of libvpx's "
                "VP9 encoder it chooses the frame's qindex, 0 to 255, so that the clip meets its "
                "bitrate at the highest PSNR. This page is what `muzero-rc policy` prints.",
                _facts(self._identity()),
                f"## What decides, and what of it is MuZero\n\n{self._muzero()}",
                f"## Data\n\n{self._data()}",
                f"## Cost of training\n\n{self._costs()}",
                f"## Training\n\n{self._training()}",
                f"## Results\n\n{self.results}",
                "## Limits of use\n\n" + "\n".join(f"- {limit}" for limit in self.limits),
            ]
        ) + "\n"  # fmt: skip

    def _identity(self) -> dict[str, str]:
        parts = ", ".join(f"{part} {count:,}" for part, count in self.parameters.items())
        return {
            "file": f"`{self.file}`, {self.file_bytes:,} bytes, SHA-256 `{self.sha256}`",
            "networks": _architecture(self.network),
            "parameters": f"{sum(self.parameters.values()):,} ({parts})",
            "action": "a step from libvpx's own proposal for the frame"
            if self.network.action_frame == "proposal"
            else "a qindex",
            "observations": f"version {self.observation_version}, of {self.env_id}",
            "speed_profile": self.speed_profile,
            "encoder in training": str(self.training.get("libvpx", "not recorded")),
        }

    def _muzero(self) -> str:
        read = "the mean over valid actions" if self.head == "mean" else "the most probable action"
        lines = [
            f"The policy head decides alone, {read}. The networks are MuZero's: representation, "
            "dynamics, prediction. When it encodes, neither dynamics nor value are asked, and "
            "there is no search; `--simulations N` searches with all of them.",
            self._imitated(),
        ]
        episodes = self.training.get("self_play_episodes", 0)
        lines.append(
            f"After imitation it played {episodes:,} episodes against its own past, MuZero's "
            "self-competition."
            if episodes
            else "It has played no episode of self-competition: nothing in it was learned from "
            "a reward."
        )
        return "\n\n".join(lines)

    def _imitated(self) -> str:
        teacher = self.training.get("teacher")
        if not isinstance(teacher, Mapping):
            return (
                "The head was trained to imitate an additive model of measured corrections, which "
                "this program no longer has."
            )
        text = (
            f"The head imitates a planner, the linear response model of "
            f"{teacher.get('studies', 0):,} studies, at step strength "
            f"{teacher['plans']['step_strength']:g}. The planner sees a probe encode of the whole "
            "clip; the head sees what the environment shows."
        )
        if known := self.training.get("plans_explained"):
            text += (
                f" On sources that it was not trained on it explains {known['head']:.0%} of the "
                f"variance of the planned steps; the mean step of each level of the pyramid there "
                f"explains {known['levels']:.0%}. The steps have {known['rms']:.1f} qindexes rms."
            )
        return text

    def _data(self) -> str:
        known = {
            text: f"{value:,}" if isinstance(value, int) else str(value)
            for key, text in _DATA
            if (value := self.training.get(key)) is not None
        }
        if left_out := self.training.get("excluded"):
            known["sources left out"] = f"{len(left_out)}: {', '.join(left_out)}"
        if not known:
            return "The file does not say what it was trained on."
        return "\n\n".join(["The file holds counts of it, no pictures.", _facts(known)])

    def _costs(self) -> str:
        if self.costs is None:
            return "Not recorded in the file: its run did not measure its stages."
        lines = [
            "| " + " | ".join(COST_COLUMNS) + " |",
            "|---" + "|---:" * (len(COST_COLUMNS) - 1) + "|",
            *("| " + " | ".join(row) + " |" for row in cost_rows(self.costs)),
        ]
        studied = self.training.get("studied_encodes", 0)
        if isinstance(studied, int) and self.costs.get("collect", StageCost()).encodes < studied:
            lines += ["", "Studies of another run were used, too; what they cost is not in here."]
        return "\n".join(lines)

    def _training(self) -> str:
        if self.command is None:
            return "The file has no configuration that this program can read."
        what = "the data set" if self.training.get("dataset") else "a corpus of one's own"
        return (
            f"With the same settings, on {what} (`muzero-rc policy --format json` "
            f"has all of them):\n\n```sh\n{self.command}\n```"
        )


def read_card(path: str | os.PathLike[str], results: str = "") -> ModelCard:
    """Reads a policy file's card.

    Args:
      path: of the file.
      results: where what it achieves is measured, in Markdown; how to measure it if not
        given.

    Raises:
      CheckpointError: the file is missing, damaged, of another format or version, or its
        metadata are.
    """
    path = Path(path)
    params, network, meta = read_policy(path)
    data = path.read_bytes()
    parameters: Counter[str] = Counter()
    for module, leaves in params.items():
        part = module.partition("/")[0]
        parameters[part] += sum(int(np.size(leaf)) for leaf in leaves.values())
    try:
        training = dict(meta["training"])
        config = training.pop("config", None)
        costs = training.pop("costs", None)
        parsed = None if config is None else _config(config)
        return ModelCard(
            name=str(meta["name"]),
            file=path.name,
            file_bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            format_version=POLICY_VERSION,
            network=network,
            parameters=dict(sorted(parameters.items())),
            observation_version=int(meta["observation_version"]),
            env_id=str(meta["env_id"]),
            speed_profile=str(modern_settings(meta).get("speed_profile", "uniform")),
            head=str(meta.get("head", "mode")),
            training=training,
            config=config,
            command=None if parsed is None else _command(parsed, training),
            costs=None if costs is None else read_stages(costs),
            limits=[*_limits(meta, parsed), *_LIMITS],
            results=results
            or f"None in the file: `muzero-rc evaluate CLIPS --policy {path.name} --out results` "
            "measures BD-rate and landing against two-pass VBR.",
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CheckpointError(
            f"{path} has a damaged record of its training ({error}); give another file"
        ) from error


def _command(config: TrainConfig, training: Mapping[str, Any]) -> str:
    return train_command(config, dataset=bool(training.get("dataset")))


def _config(values: Mapping[str, Any]) -> TrainConfig | None:
    """The configuration; None if it is of another version of this program."""
    try:
        return TrainConfig.from_dict(values)
    except InputError:
        return None


def _limits(meta: Mapping[str, Any], config: TrainConfig | None) -> list[str]:
    """What follows from this policy's own training."""
    found = []
    version = meta["observation_version"]
    if version != OBSERVATION_VERSION:
        found.append(
            f"It cannot be used by this program: it was trained on observations of version "
            f"{version}, this program makes version {OBSERVATION_VERSION}."
        )
    seen = meta["training"].get("seen")
    if seen is None and config is not None:
        asked = config.collect
        seen = {
            "heights": sorted(set(asked.heights)),
            "frames": [asked.min_frames, asked.max_frames],
            "speeds": sorted(set(asked.speeds)),
            "psnr": asked.psnr_range,
        }
    if seen is not None:
        found.append(
            f"It has seen parts of {seen['frames'][0]} to {seen['frames'][1]} frames, scaled down "
            f"to {_listed(seen['heights'])} lines, at speed {_listed(seen['speeds'])} and targets "
            f"where VBR has {seen['psnr'][0]:g} to {seen['psnr'][1]:g} dB. Longer or larger "
            "clips, other speeds and other rates are guesses: try some of your own first."
        )
    return found


def _listed(numbers: Sequence[int]) -> str:
    *most, last = map(str, numbers)
    return f"{', '.join(most)} and {last}" if most else last


def _architecture(network: NetworkConfig) -> str:
    text = (
        f"MuZero with representation `{network.representation}`: width {network.width}, "
        f"state {network.state_width}, dynamics {network.dynamics_width}, "
        f"heads {network.head_width}, {network.value_bins} value bins"
    )
    if network.representation != "mlp":
        text += (
            f"; {network.latents} latents, {network.self_attends} self-attention blocks of "
            f"{network.heads} heads"
        )
    return text


def _facts(facts: Mapping[str, str]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {k} | {v} |" for k, v in facts.items())])
