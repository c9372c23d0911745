"""What the networks see and how large they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from muzero_rc.agents.config.base import Config
from muzero_rc.errors import InputError

__all__ = ["ACTION_FRAMES", "REPRESENTATIONS", "NetworkConfig"]

ACTION_FRAMES = ("proposal", "absolute")
"""Whether action a means qindex proposal + a - 128, or qindex a."""

REPRESENTATIONS = ("perceiver_io", "perceiver_ar", "hip", "mlp")
"""Representation networks that can be chosen by name."""


@dataclass(frozen=True, kw_only=True)
class NetworkConfig(Config):
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
      reward: the model predicts the reward of each step, and the search adds it up;
        without it the value alone carries the outcome.
      projection_width: channels of the projection that the consistency loss compares;
        0 leaves the projection out.
      sequence_rows: coded frames that "perceiver_ar" looks back at.
      sequence_latents: last positions of the sequence that its self-attention works on.
      block_columns: columns of a block in `Observation.blocks`, read by "hip"; 0 for none.
      block_frames: shown frames of the look-ahead window whose blocks "hip" reads.
      block_rows: blocks of a frame that "hip" reads; larger frames are read in more
        groups, smaller ones are padded.
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
    reward: bool = False
    projection_width: int = 0
    sequence_rows: int = 256
    sequence_latents: int = 16
    block_columns: int = 0
    block_frames: int = 26
    block_rows: int = 256

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
        "projection_width": (0, 4096),
        "sequence_rows": (1, 2**20),
        "sequence_latents": (1, 4096),
        "block_columns": (0, 64),
        "block_frames": (1, 1024),
        "block_rows": (1, 2**20),
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
