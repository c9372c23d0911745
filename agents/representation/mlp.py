"""The representation without attention: means and maxima of all rows through an MLP.

What the Perceivers are measured against.
"""

from __future__ import annotations

from collections.abc import Mapping

import haiku as hk
import jax
import jax.numpy as jnp

from muzero_rc.agents.config import NetworkConfig
from muzero_rc.agents.representation.inputs import decision_row, limit

__all__ = ["MLPRepresentation"]


class MLPRepresentation(hk.Module):
    """Pools each kind of token, then three layers."""

    def __init__(self, config: NetworkConfig) -> None:
        """Takes the sizes."""
        super().__init__(name="representation")
        self._config = config

    def __call__(self, tokens: Mapping[str, jax.Array]) -> jax.Array:
        """Tokens of B decisions -> [B, state_width]."""
        c = self._config
        history = tokens["history"]
        # Where a coded frame lies beside the frame to code is all that is left of order.
        place = tokens["history_position"].astype(jnp.float32)[..., None]
        place = place / (c.window_back + 2 + c.window_ahead)
        segments = jnp.concatenate([tokens["segments"], tokens["segment_position"]], axis=-1)
        pooled = [
            _pool(tokens["window"], tokens["window_mask"]),
            _pool(segments, tokens["segment_mask"]),
            _pool(jnp.concatenate([history, place], axis=-1), tokens["history_mask"]),
            history[:, 0],  # the newest one; zeros before the first
            decision_row(tokens),
        ]
        rows = limit(jnp.concatenate(pooled, axis=-1))
        widths = [2 * c.state_width, 2 * c.state_width, c.state_width]
        return hk.nets.MLP(widths, activation=jax.nn.gelu, name="layers")(rows)


def _pool(rows: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean and maximum over rows that are there. [B, K, C], [B, K] -> [B, 2 C]."""
    there = mask[..., None]
    count = jnp.maximum(there.sum(axis=1), 1)
    mean = jnp.where(there, rows, 0.0).sum(axis=1) / count
    largest = jnp.where(there, rows, -jnp.inf).max(axis=1)
    return jnp.concatenate([mean, jnp.where(jnp.isfinite(largest), largest, 0.0)], axis=-1)
