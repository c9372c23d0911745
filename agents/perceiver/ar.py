"""Perceiver AR: a long sequence -> states of its last positions, each blind to its future.

Hawthorne et al. 2022, "General-purpose, long-context autoregressive modeling with
Perceiver AR" (arXiv 2202.07765), section 3: the last N positions are the latents; they
look once, causally, at the whole sequence and then, causally, at each other. The cost is
linear in the sequence's length.
"""

from __future__ import annotations

import haiku as hk
import jax
import jax.numpy as jnp

from muzero_rc.agents.perceiver.attention import (
    Activation,
    CrossAttention,
    SelfAttention,
    squared_relu,
)

__all__ = ["PerceiverAR", "causal_mask"]


def causal_mask(
    query_positions: jax.Array,
    key_positions: jax.Array,
    key_mask: jax.Array | None = None,
    own_only: jax.Array | None = None,
) -> jax.Array:
    """Which keys each query may see: those at its position or before it.

    Args:
      query_positions: [B, Q] int.
      key_positions: [B, K] int.
      key_mask: [B, K] bool, False for padding.
      own_only: [B, K] bool, True for keys that no position but their own may see; nothing
        else should stand at that position.

    Returns:
      [B, Q, K] bool.
    """
    before = key_positions[:, None] <= query_positions[:, :, None]
    if key_mask is not None:
        before &= key_mask[:, None]
    if own_only is not None:
        before &= ~own_only[:, None] | (key_positions[:, None] == query_positions[:, :, None])
    return before


class PerceiverAR(hk.Module):
    """Causal cross-attention from a sequence to its last rows, then causal self-attention."""

    def __init__(
        self,
        *,
        latents: int,
        self_attends: int,
        heads: int,
        cross_widening: int = 4,
        self_widening: int = 4,
        cross_dropout: float = 0.0,
        activation: Activation = squared_relu,
        name: str | None = None,
    ) -> None:
        """Configures the network.

        Args:
          latents: N, rows at the end of the sequence that get a state.
          self_attends: self-attention layers over them.
          heads: attention heads of all layers.
          cross_widening: widening of the cross-attention's MLP.
          self_widening: widening of the self-attention's MLPs.
          cross_dropout: share of the sequence before the latents that a training pass does
            not see (section 3.2 of the paper); above 0 it needs haiku's
            random key. Give 0 where nothing is learned.
          activation: of the MLPs.
          name: haiku's name.
        """
        super().__init__(name=name)
        self._latents = latents
        self._cross_dropout = cross_dropout
        self._cross = CrossAttention(heads, widening=cross_widening, activation=activation)
        self._selves = [
            SelfAttention(heads, widening=self_widening, activation=activation)
            for _ in range(self_attends)
        ]

    def __call__(
        self,
        inputs: jax.Array,
        mask: jax.Array | None = None,
        positions: jax.Array | None = None,
        own_only: jax.Array | None = None,
    ) -> jax.Array:
        """States of the last N rows.

        Args:
          inputs: [B, K, C], K at least N, embedded.
          mask: [B, K] bool, False for padding, which does not influence the result.
          positions: [B, K] int, where each row stands; a row sees the rows at its position
            and before. Rows need not be in order. Default 0, 1, ..., K - 1.
          own_only: [B, K] bool, rows that no other position may see, such as questions put
            between the rows of a sequence.

        Returns:
          [B, N, C]; a row depends on no row behind it.
        """
        batch, rows = inputs.shape[:2]
        if rows < self._latents:
            raise ValueError(f"{rows} rows do not hold {self._latents} latents")
        if positions is None:
            positions = jnp.broadcast_to(jnp.arange(rows), (batch, rows))
        if mask is None:
            mask = jnp.ones((batch, rows), jnp.bool_)
        if own_only is None:
            own_only = jnp.zeros((batch, rows), jnp.bool_)
        tail = slice(rows - self._latents, rows)
        last = positions[:, tail]
        keys = mask
        if self._cross_dropout:
            kept = jax.random.bernoulli(hk.next_rng_key(), 1.0 - self._cross_dropout, mask.shape)
            keys = mask & kept.at[:, tail].set(True)
        latents = self._cross(
            inputs[:, tail], inputs, causal_mask(last, positions, keys, own_only), (last, positions)
        )
        among = causal_mask(last, last, mask[:, tail], own_only[:, tail])
        for layer in self._selves:
            latents = layer(latents, among, last)
        return latents
