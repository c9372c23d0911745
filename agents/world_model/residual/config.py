"""Sizes of the residual's networks; no JAX is imported with them."""

from __future__ import annotations

from dataclasses import dataclass

from muzero_rc.errors import InputError

__all__ = ["POSITION_BANDS", "NetworkConfig"]

POSITION_BANDS = 8
"""Sines and cosines of a frame's place, with periods of 2, 4, ... 256 frames."""


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """Sizes of a network, set by hand.

    Attributes:
      channels: of rows and latents; the heads divide them.
      latents: rows of the latent array.
      self_attends: self-attention layers.
      heads: of every attention.
      dropout: share of inputs, and of what the last layer sees, that is dropped in training.
    """

    channels: int = 64
    latents: int = 16
    self_attends: int = 2
    heads: int = 4
    dropout: float = 0.1

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
          InputError: one is out of range.
        """
        sizes = self.channels, self.latents, self.heads
        if min(sizes) < 1 or self.self_attends < 0 or self.channels % self.heads:
            raise InputError(f"sizes of a network are out of range: {self}")
        if not 0.0 <= self.dropout < 1.0:
            raise InputError(f"a share of {self.dropout} cannot be dropped")
