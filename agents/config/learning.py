"""How the agent searches and learns: search, losses, optimizer, replay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from muzero_rc.agents.config.base import Config
from muzero_rc.errors import InputError

__all__ = ["LossConfig", "OptimizerConfig", "ReplayConfig", "SearchConfig"]


@dataclass(frozen=True, kw_only=True)
class SearchConfig(Config):
    """The search.

    Attributes:
      algorithm: "gumbel", Gumbel MuZero, or "puct", MuZero's own.
      simulations: network evaluations per decision below the root; 0 plays without search.
      max_considered: actions that sequential halving starts with.
      gumbel_scale: 1 explores, 0 plays the best action found.
      depth: largest depth of the search tree.
      value_scale: how strongly values move the improved policy (sigma's scale).
      maxvisit_init: the same, before visits (sigma's offset).
      rescale_values: stretch the values found to [0, 1]; off by default, as values are
        win margins with known bounds and stretching makes noise look like evidence.
      pb_c_init: PUCT's weight of the prior.
      pb_c_base: PUCT's visits at which that weight has grown by ln 2.
      dirichlet_fraction: PUCT's share of noise in the root's prior.
      dirichlet_alpha: PUCT's noise; small values pick out few actions.
      temperature: PUCT's exponent, 1 / temperature, on the visits that it acts by.
    """

    algorithm: str = "gumbel"
    simulations: int = 16
    max_considered: int = 16
    gumbel_scale: float = 1.0
    depth: int = 6
    value_scale: float = 0.1
    maxvisit_init: float = 50.0
    rescale_values: bool = False
    pb_c_init: float = 1.25
    pb_c_base: float = 19652.0
    dirichlet_fraction: float = 0.25
    dirichlet_alpha: float = 0.3
    temperature: float = 1.0

    _SECTION: ClassVar[str] = "search"
    _CHOICES: ClassVar[dict[str, tuple[str, ...]]] = {"algorithm": ("gumbel", "puct")}
    _RANGES: ClassVar[dict[str, tuple[float, float]]] = {
        "simulations": (0, 4096),
        "max_considered": (1, 256),
        "gumbel_scale": (0.0, 100.0),
        "depth": (1, 4096),
        "value_scale": (0.0, 1e6),
        "maxvisit_init": (0.0, 1e6),
        "pb_c_init": (0.0, 1e6),
        "pb_c_base": (1.0, 1e9),
        "dirichlet_fraction": (0.0, 1.0),
        "dirichlet_alpha": (1e-3, 1e3),
        "temperature": (0.0, 100.0),
    }


@dataclass(frozen=True, kw_only=True)
class LossConfig(Config):
    """Weights of the loss terms, and the unroll.

    Attributes:
      unroll_steps: K, steps through the dynamics per sample.
      policy: weight of the policy's cross-entropy.
      value: weight of the value's cross-entropy.
      reward: weight of the reward's cross-entropy; needs `NetworkConfig.reward`.
      consistency: weight of the distance between states that the dynamics reach and
        those of what was really seen; needs `NetworkConfig.projection_width`.
      n_step: steps after which the value's target takes a root value instead of the
        outcome; 0 goes to the end of the episode.
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
    reward: float = 0.0
    consistency: float = 0.0
    n_step: int = 0
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
        "reward": (0.0, 1e3),
        "consistency": (0.0, 1e3),
        "n_step": (0, 10**6),
        "bits": (0.0, 1e3),
        "psnr": (0.0, 1e3),
        "final_overshoot": (0.0, 1e3),
        "final_psnr": (0.0, 1e3),
        "dynamics_gradient": (0.0, 1.0),
        "huber_delta": (1e-3, 1e3),
    }


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig(Config):
    """AdamW behind clipping of the global gradient norm.

    Attributes:
      learning_rate: peak learning rate.
      warmup_steps: updates of linear rise to it.
      decay_steps: updates after which the cosine decay ends; 0 keeps the rate constant.
      final_rate: learning rate after the decay over the peak.
      weight_decay: on matrices only.
      clip_norm: largest global gradient norm.
      target_every: updates between copies of the parameters to the target network, which
        gives root values for n-step targets and reanalyse; 0 uses the newest.
      precision: "float32", or "bfloat16" for the networks' arithmetic (parameters,
        losses and optimizer stay float32).
      devices: devices that share each batch; 0 takes all that there are.
    """

    learning_rate: float = 1e-3
    warmup_steps: int = 100
    decay_steps: int = 0
    final_rate: float = 0.05
    weight_decay: float = 1e-4
    clip_norm: float = 5.0
    target_every: int = 0
    precision: str = "float32"
    devices: int = 1

    _SECTION: ClassVar[str] = "optimizer"
    _CHOICES: ClassVar[dict[str, tuple[str, ...]]] = {"precision": ("float32", "bfloat16")}
    _RANGES: ClassVar[dict[str, tuple[float, float]]] = {
        "learning_rate": (1e-8, 1.0),
        "warmup_steps": (0, 10**9),
        "decay_steps": (0, 10**9),
        "final_rate": (0.0, 1.0),
        "weight_decay": (0.0, 10.0),
        "clip_norm": (1e-6, 1e6),
        "target_every": (0, 10**9),
        "devices": (0, 4096),
    }

    def __post_init__(self) -> None:
        """Checks every value."""
        super().__post_init__()
        if 0 < self.decay_steps <= self.warmup_steps:
            raise InputError("optimizer.decay_steps must be 0 or more than warmup_steps")


@dataclass(frozen=True, kw_only=True)
class ReplayConfig(Config):
    """Replay of episodes.

    Attributes:
      capacity_bytes: memory for episodes; the oldest go first.
      batch_size: samples per update.
      priority: exponent on |root value - outcome| of a step's probability (alpha);
        0 samples uniformly.
      importance: exponent of the correction by sample weights (beta).
      reanalyse: share of the steps drawn whose policy and root value are searched for
        anew with recent parameters before they are learned from.
    """

    capacity_bytes: int = 512 * 2**20
    batch_size: int = 64
    priority: float = 0.0
    importance: float = 1.0
    reanalyse: float = 0.0

    _SECTION: ClassVar[str] = "replay"
    _RANGES: ClassVar[dict[str, tuple[float, float]]] = {
        "capacity_bytes": (1, 2**50),
        "batch_size": (1, 65536),
        "priority": (0.0, 4.0),
        "importance": (0.0, 1.0),
        "reanalyse": (0.0, 1.0),
    }
