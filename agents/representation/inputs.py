"""What all representations do with their inputs."""

from __future__ import annotations

import jax
import jax.numpy as jnp

__all__ = ["limit"]

_INPUT_LIMIT = 8.0  # observations are normalised; this only stops absurd outliers


def limit(x: jax.Array) -> jax.Array:
    """Values within what a network can be expected to handle."""
    return jnp.clip(x, -_INPUT_LIMIT, _INPUT_LIMIT)
