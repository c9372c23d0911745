"""Positions for attention: learned tables and Fourier features."""

from __future__ import annotations

import haiku as hk
import jax
import jax.numpy as jnp

__all__ = ["PositionTable", "fourier_features"]


def fourier_features(
    position: jax.Array, num_bands: int, max_resolution: float, *, concat_position: bool = True
) -> jax.Array:
    """Sines and cosines of positions, at frequencies evenly spaced up to Nyquist's.

    Perceiver (arXiv 2103.03206), section 3.2: [p, sin(pi f_k p), cos(pi f_k p)] with
    f_k = linspace(1, max_resolution / 2, num_bands), p in [-1, 1].

    Args:
      position: [..., D] in [-1, 1].
      num_bands: K.
      max_resolution: samples across [-1, 1].
      concat_position: begin with the position itself.

    Returns:
      [..., D (2 K + 1)], or [..., 2 D K] without the position.
    """
    frequencies = jnp.linspace(1.0, max_resolution / 2.0, num_bands)
    angles = jnp.pi * position[..., None] * frequencies
    angles = angles.reshape(*position.shape[:-1], -1)
    parts = [jnp.sin(angles), jnp.cos(angles)]
    if concat_position:
        parts.insert(0, position)
    return jnp.concatenate(parts, axis=-1)


class PositionTable(hk.Module):
    """A learned vector per position, truncated normal with deviation 0.02 at first."""

    def __init__(self, positions: int, channels: int, *, name: str | None = None) -> None:
        """Configures the table: how many positions, channels of each."""
        super().__init__(name=name)
        self._shape = (positions, channels)

    def __call__(self) -> jax.Array:
        """The table. [positions, channels]."""
        return hk.get_parameter(
            "table", self._shape, init=hk.initializers.TruncatedNormal(stddev=0.02)
        )
