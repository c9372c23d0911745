"""Positions for attention: learned tables, Fourier features, rotations."""

from __future__ import annotations

import haiku as hk
import jax
import jax.numpy as jnp

__all__ = ["PositionTable", "fourier_features", "rotate"]

_ROTARY_SHARE = 0.5  # of the channels, as in Perceiver AR
_ROTARY_BASE = 10_000.0


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


def rotate(x: jax.Array, positions: jax.Array) -> jax.Array:
    """Turns pairs of channels by angles that grow with the position.

    Rotary position embedding (Su et al. 2021, arXiv 2104.09864, equation 34): pair i of
    the first half of a head's channels turns by position * 10000^(-i / pairs), the other
    half stays. The product of a query and a key then depends on positions through their
    difference alone. Perceiver AR (arXiv 2202.07765), appendix, turns half the channels
    too.

    Args:
      x: [B, K, N, D] queries or keys, N heads.
      positions: [B, K], any numbers.

    Returns:
      [B, K, N, D].
    """
    pairs = int(x.shape[-1] * _ROTARY_SHARE) // 2
    if pairs == 0:
        raise ValueError(f"{x.shape[-1]} channels a head are too few to rotate; 4 are enough")
    frequencies = _ROTARY_BASE ** (-jnp.arange(pairs) / pairs)
    angles = positions[..., None, None].astype(jnp.float32) * frequencies
    sin, cos = jnp.sin(angles).astype(x.dtype), jnp.cos(angles).astype(x.dtype)
    first, second, rest = x[..., :pairs], x[..., pairs : 2 * pairs], x[..., 2 * pairs :]
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin, rest], axis=-1)


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
