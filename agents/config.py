"""Configuration of networks, search, losses, optimizer and replay: plain frozen data.

Every class checks its values when made, and has `from_dict`/`as_dict` for JSON. A wrong
key or value raises an `InputError` that names it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from muzero_rc.errors import InputError

__all__ = [
    "ACTION_FRAMES",
    "REPRESENTATIONS",
    "AgentConfig",
    "LossConfig",
    "NetworkConfig",
    "OptimizerConfig",
    "ReplayConfig",
    "SearchConfig",
]

ACTION_FRAMES = ("proposal", "absolute")
"""Whether action a means qindex proposal + a - 128, or qindex a."""

REPRESENTATIONS = ("perceiver_io",)
"""Representation networks that can be chosen by name."""

_C = TypeVar("_C", bound="_Config")
_INF = math.inf


class _Config:
    """Shared checks; `_RANGES` gives inclusive bounds, `_CHOICES` allowed words."""

    _SECTION: ClassVar[str] = ""
    _RANGES: ClassVar[dict[str, tuple[float, float]]] = {}
    _CHOICES: ClassVar[dict[str, tuple[str, ...]]] = {}

    def __post_init__(self) -> None:
        """Checks every value."""
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            self._check(field.name, str(field.type), getattr(self, field.name))

    def _check(self, name: str, kind: str, value: Any) -> None:
        key = f"{self._SECTION}.{name}"
        if kind == "str":
            choices = self._CHOICES[name]
            if value not in choices:
                raise InputError(f"{key} must be one of {', '.join(choices)}, not {value!r}")
            return
        if kind == "bool":
            if not isinstance(value, bool):
                raise InputError(f"{key} must be true or false, not {value!r}")
            return
        if kind == "int":
            if isinstance(value, bool) or not isinstance(value, int):
                raise InputError(f"{key} must be a whole number, not {value!r}")
        else:
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise InputError(f"{key} must be a number, not {value!r}")
            value = float(value)
            object.__setattr__(self, name, value)
        low, high = self._RANGES[name]
        if not (low <= value <= high and math.isfinite(value)):
            bounds = f"at least {low:g}" if high == _INF else f"between {low:g} and {high:g}"
            raise InputError(f"{key} must be {bounds}, not {value}")

    @classmethod
    def from_dict(cls: type[_C], values: Mapping[str, Any]) -> _C:
        """Makes the configuration from plain values; absent keys take the defaults.

        Raises:
          InputError: an unknown or missing key, or a bad value, named in the message.
        """
        if not isinstance(values, Mapping):
            raise InputError(f"{cls._SECTION} must be a table of settings, not {values!r}")
        fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        for key in values:
            if key not in fields:
                raise InputError(
                    f"unknown setting {cls._SECTION}.{key}; known are {', '.join(fields)}"
                )
        for key, field in fields.items():
            if field.default is dataclasses.MISSING and key not in values:
                raise InputError(f"setting {cls._SECTION}.{key} is missing")
        return cls(**values)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return dataclasses.asdict(self)  # type: ignore[call-overload]

    def replace(self: _C, **changes: Any) -> _C:
        """A copy with some settings changed, checked again."""
        return self.from_dict({**self.as_dict(), **changes})


@dataclass(frozen=True, kw_only=True)
class NetworkConfig(_Config):
    """What the networks see and how large they are; stored in each policy file.

    Attributes:
      clip_features: columns of `Observation.clip`.
      history_features: columns of `Observation.history`.
      frame_features: columns of `Observation.frame`.
      global_features: columns of `Observation.globals`.
      representation: the representation network.
      action_frame: "proposal" (a means proposal + a - 128) or "absolute" (a is qindex).
      window_back: clip rows before the frame's own that are seen one by one.
      window_ahead: clip rows after it that are seen one by one.
      segments: pooled stretches through which the whole clip is seen.
      history_rows: most recent coded frames that are seen.
      history_position_scale: the last two columns of a history row are display and
        coding index over this; tokens make them relative to the present. 0 leaves the
        columns as they are.
      width: channels of tokens and latents.
      latents: rows of the latent array.
      self_attends: self-attention blocks over the latents.
      heads: attention heads.
      widening: hidden channels of an attention block's MLP over its channels.
      state_width: channels of the hidden state that the search walks through.
      dynamics_width: hidden channels of the dynamics network.
      head_width: hidden channels of the prediction heads.
      value_bins: atoms of the categorical value on [-1, 1].
      policy_sigma: standard deviation, in qindex steps, of the untrained policy around
        the proposal ("proposal" frame; the "absolute" frame starts uniform).
    """

    clip_features: int
    history_features: int
    frame_features: int
    global_features: int
    representation: str = "perceiver_io"
    action_frame: str = "proposal"
    window_back: int = 8
    window_ahead: int = 40
    segments: int = 24
    history_rows: int = 32
    history_position_scale: float = 256.0
    width: int = 64
    latents: int = 16
    self_attends: int = 2
    heads: int = 4
    widening: int = 2
    state_width: int = 128
    dynamics_width: int = 256
    head_width: int = 128
    value_bins: int = 41
    policy_sigma: float = 2.0

    _SECTION: ClassVar[str] = "network"
    _CHOICES: ClassVar[dict[str, tuple[str, ...]]] = {
        "representation": REPRESENTATIONS,
        "action_frame": ACTION_FRAMES,
    }
    _RANGES: ClassVar[dict[str, tuple[float, float]]] = {
        "clip_features": (1, 4096),
        "history_features": (1, 4096),
        "frame_features": (1, 4096),
        "global_features": (1, 4096),
        "window_back": (0, 1024),
        "window_ahead": (0, 1024),
        "segments": (1, 1024),
        "history_rows": (1, 1024),
        "history_position_scale": (0.0, 1e9),
        "width": (1, 2048),
        "latents": (1, 1024),
        "self_attends": (0, 64),
        "heads": (1, 64),
        "widening": (1, 16),
        "state_width": (1, 4096),
        "dynamics_width": (1, 8192),
        "head_width": (1, 8192),
        "value_bins": (2, 1001),
        "policy_sigma": (0.25, 256.0),
    }

    def __post_init__(self) -> None:
        """Checks every value."""
        super().__post_init__()
        if self.history_position_scale and self.history_features < 2:
            raise InputError(
                "network.history_features must be at least 2 for position columns, not "
                f"{self.history_features}; or set network.history_position_scale to 0"
            )
        if self.width % self.heads:
            raise InputError(
                f"network.width must be a multiple of network.heads, not {self.width} "
                f"and {self.heads}"
            )


@dataclass(frozen=True, kw_only=True)
class SearchConfig(_Config):
    """Gumbel MuZero's search.

    Attributes:
      simulations: network evaluations per decision below the root.
      max_considered: actions that sequential halving starts with.
      gumbel_scale: 1 explores, 0 plays the best action found.
      depth: largest depth of the search tree.
      value_scale: how strongly values move the improved policy (sigma's scale).
      maxvisit_init: the same, before visits (sigma's offset).
      rescale_values: stretch the values found to [0, 1]; off by default, as values are
        win margins with known bounds and stretching makes noise look like evidence.
    """

    simulations: int = 16
    max_considered: int = 16
    gumbel_scale: float = 1.0
    depth: int = 6
    value_scale: float = 0.1
    maxvisit_init: float = 50.0
    rescale_values: bool = False

    _SECTION: ClassVar[str] = "search"
    _RANGES: ClassVar[dict[str, tuple[float, float]]] = {
        "simulations": (1, 4096),
        "max_considered": (1, 256),
        "gumbel_scale": (0.0, 100.0),
        "depth": (1, 4096),
        "value_scale": (0.0, 1e6),
        "maxvisit_init": (0.0, 1e6),
    }


@dataclass(frozen=True, kw_only=True)
class LossConfig(_Config):
    """Weights of the loss terms, and the unroll.

    Attributes:
      unroll_steps: K, steps through the dynamics per sample.
      policy: weight of the policy's cross-entropy.
      value: weight of the value's cross-entropy.
      bits: weight of the error in log2 bits per pixel of the frame just coded.
      psnr: weight of the error in that frame's PSNR.
      final_overshoot: weight of the error in the episode's overshoot.
      final_psnr: weight of the error in the episode's PSNR gain over VBR.
      dynamics_gradient: share of the gradient passed back at each dynamics step.
      huber_delta: where the regression losses turn from square to linear.
    """

    unroll_steps: int = 5
    policy: float = 1.0
    value: float = 0.25
    bits: float = 0.25
    psnr: float = 0.25
    final_overshoot: float = 0.25
    final_psnr: float = 0.25
    dynamics_gradient: float = 0.5
    huber_delta: float = 1.0

    _SECTION: ClassVar[str] = "loss"
    _RANGES: ClassVar[dict[str, tuple[float, float]]] = {
        "unroll_steps": (1, 64),
        "policy": (0.0, 1e3),
        "value": (0.0, 1e3),
        "bits": (0.0, 1e3),
        "psnr": (0.0, 1e3),
        "final_overshoot": (0.0, 1e3),
        "final_psnr": (0.0, 1e3),
        "dynamics_gradient": (0.0, 1.0),
        "huber_delta": (1e-3, 1e3),
    }


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig(_Config):
    """AdamW behind clipping of the global gradient norm.

    Attributes:
      learning_rate: peak learning rate.
      warmup_steps: updates of linear rise to it.
      decay_steps: updates after which the cosine decay ends; 0 keeps the rate constant.
      final_rate: learning rate after the decay over the peak.
      weight_decay: on matrices only.
      clip_norm: largest global gradient norm.
    """

    learning_rate: float = 1e-3
    warmup_steps: int = 100
    decay_steps: int = 0
    final_rate: float = 0.05
    weight_decay: float = 1e-4
    clip_norm: float = 5.0

    _SECTION: ClassVar[str] = "optimizer"
    _RANGES: ClassVar[dict[str, tuple[float, float]]] = {
        "learning_rate": (1e-8, 1.0),
        "warmup_steps": (0, 10**9),
        "decay_steps": (0, 10**9),
        "final_rate": (0.0, 1.0),
        "weight_decay": (0.0, 10.0),
        "clip_norm": (1e-6, 1e6),
    }

    def __post_init__(self) -> None:
        """Checks every value."""
        super().__post_init__()
        if 0 < self.decay_steps <= self.warmup_steps:
            raise InputError("optimizer.decay_steps must be 0 or more than warmup_steps")


@dataclass(frozen=True, kw_only=True)
class ReplayConfig(_Config):
    """Replay of episodes.

    Attributes:
      capacity_bytes: memory for episodes; the oldest go first.
      batch_size: samples per update.
      priority: exponent on |root value - outcome| of a step's probability (alpha);
        0 samples uniformly.
      importance: exponent of the correction by sample weights (beta).
    """

    capacity_bytes: int = 512 * 2**20
    batch_size: int = 64
    priority: float = 0.0
    importance: float = 1.0

    _SECTION: ClassVar[str] = "replay"
    _RANGES: ClassVar[dict[str, tuple[float, float]]] = {
        "capacity_bytes": (1, 2**50),
        "batch_size": (1, 65536),
        "priority": (0.0, 4.0),
        "importance": (0.0, 1.0),
    }


@dataclass(frozen=True, kw_only=True)
class AgentConfig:
    """All of an agent's configuration in one, for training.

    Attributes:
      network: see `NetworkConfig`.
      search: see `SearchConfig`.
      loss: see `LossConfig`.
      optimizer: see `OptimizerConfig`.
      replay: see `ReplayConfig`.
    """

    network: NetworkConfig
    search: SearchConfig = SearchConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    replay: ReplayConfig = ReplayConfig()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> AgentConfig:
        """Makes the configuration from nested plain values.

        Raises:
          InputError: an unknown section or key, or a bad value, named in the message.
        """
        sections: dict[str, type[_Config]] = {
            "network": NetworkConfig,
            "search": SearchConfig,
            "loss": LossConfig,
            "optimizer": OptimizerConfig,
            "replay": ReplayConfig,
        }
        for key in values:
            if key not in sections:
                raise InputError(f"unknown section {key}; known are {', '.join(sections)}")
        if "network" not in values:
            raise InputError("section network is missing")
        made: dict[str, Any] = {
            key: sections[key].from_dict(value) for key, value in values.items()
        }
        return cls(**made)

    def as_dict(self) -> dict[str, Any]:
        """Nested plain values, for JSON."""
        return dataclasses.asdict(self)
