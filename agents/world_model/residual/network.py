"""Perceiver IO over all frames of a probe: what to add to each frame's coefficients.

Frames are the inputs and the queries; the last layer starts at zero, so that an untrained
network leaves the linear model as it is.
"""

from __future__ import annotations

import haiku as hk
import jax
import jax.numpy as jnp

from muzero_rc.agents.perceiver.attention import CrossAttention
from muzero_rc.agents.perceiver.io import PerceiverEncoder
from muzero_rc.agents.world_model.linear import NUM_OUTPUTS, NUM_TERMS
from muzero_rc.agents.world_model.residual.config import POSITION_BANDS, NetworkConfig

__all__ = ["corrections", "network"]


def network(config: NetworkConfig) -> hk.Transformed:
    """tokens [B, N, F], frames [B, N], training -> [B, NUM_OUTPUTS, N, NUM_TERMS]."""

    def forward(tokens: jax.Array, frames: jax.Array, training: bool) -> jax.Array:
        return corrections(tokens, frames, training, config)

    return hk.transform(forward)


def corrections(
    tokens: jax.Array, frames: jax.Array, training: bool, config: NetworkConfig
) -> jax.Array:
    """The network as a part of another, inside of `hk.transform`.

    Args:
      tokens: [B, N, F] what is told of each frame.
      frames: [B, N] 1 for frames, 0 for padding.
      training: whether inputs are dropped.
      config: sizes.

    Returns:
      [B, NUM_OUTPUTS, N, NUM_TERMS].
    """

    def drop(x: jax.Array) -> jax.Array:
        return hk.dropout(hk.next_rng_key(), config.dropout, x) if training else x

    place = jnp.cumsum(frames, axis=-1)
    angle = place[..., None] * 2.0 ** -jnp.arange(float(POSITION_BANDS)) * jnp.pi
    inputs = jnp.concatenate([tokens, jnp.sin(angle), jnp.cos(angle)], axis=-1)
    rows = jax.nn.gelu(hk.Linear(config.channels)(drop(inputs)))
    latents = PerceiverEncoder(
        latents=config.latents, channels=config.channels, self_attends=config.self_attends,
        cross_heads=config.heads, self_heads=config.heads,
    )(rows, frames > 0)  # fmt: skip
    seen = CrossAttention(config.heads, widening=2)(rows, latents)
    out = hk.Linear(NUM_OUTPUTS * NUM_TERMS, w_init=jnp.zeros)(drop(seen))
    out = out.reshape(*out.shape[:2], NUM_OUTPUTS, NUM_TERMS)
    return jnp.moveaxis(out, 2, 1)
