"""A scalar in [-1, 1] as a categorical distribution over evenly spaced atoms."""

from __future__ import annotations

import jax
import jax.numpy as jnp

__all__ = ["expectation", "support", "two_hot"]


def support(bins: int) -> jax.Array:
    """The atoms, -1 .. 1. [bins] float32."""
    return jnp.linspace(-1.0, 1.0, bins)


def two_hot(value: jax.Array, bins: int) -> jax.Array:
    """The two atoms around a value, weighted so that their mean is the value.

    MuZero (arXiv 1911.08265), appendix F, without its value transform: returns are
    already in [-1, 1].

    Args:
      value: [...] float, clipped to [-1, 1].
      bins: number of atoms.

    Returns:
      [..., bins] float32, sums to 1.
    """
    position = (jnp.clip(value, -1.0, 1.0) + 1.0) * (0.5 * (bins - 1))
    atoms = jnp.arange(bins, dtype=jnp.float32)
    return jnp.maximum(0.0, 1.0 - jnp.abs(position[..., None] - atoms))


def expectation(logits: jax.Array) -> jax.Array:
    """Mean of the distribution that the logits describe. [..., bins] -> [...]."""
    return jax.nn.softmax(logits, axis=-1) @ support(logits.shape[-1])
