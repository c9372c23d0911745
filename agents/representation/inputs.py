"""What all representations do with their inputs."""

from __future__ import annotations

from collections.abc import Mapping

import haiku as hk
import jax
import jax.numpy as jnp

__all__ = ["decision_row", "embed", "limit"]

_INPUT_LIMIT = 8.0  # observations are normalised; this only stops absurd outliers


def limit(x: jax.Array) -> jax.Array:
    """Values within what a network can be expected to handle."""
    return jnp.clip(x, -_INPUT_LIMIT, _INPUT_LIMIT)


def embed(x: jax.Array, width: int, name: str) -> jax.Array:
    """[..., C] -> [..., width], a linear layer of that name."""
    return hk.Linear(width, name=name)(limit(x))


def decision_row(tokens: Mapping[str, jax.Array]) -> jax.Array:
    """What is known of the decision itself. [..., F + G + 3]."""
    return jnp.concatenate([tokens["frame"], tokens["globals"], tokens["scalars"]], axis=-1)
