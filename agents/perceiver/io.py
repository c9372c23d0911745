"""Perceiver IO: any number of input rows -> a small latent array -> rows asked for.

Jaegle et al. 2021, "Perceiver IO: A General Architecture for Structured Inputs &
Outputs" (arXiv 2107.14795), section 3. Its cost is linear in the input's rows.
"""

from __future__ import annotations

import haiku as hk
import jax
import jax.numpy as jnp

from muzero_rc.agents.perceiver.attention import CrossAttention, SelfAttention
from muzero_rc.agents.perceiver.position import PositionTable

__all__ = ["PerceiverDecoder", "PerceiverEncoder"]


class PerceiverEncoder(hk.Module):
    """Latents look once at the inputs, then at each other."""

    def __init__(
        self,
        *,
        latents: int,
        channels: int,
        self_attends: int,
        blocks: int = 1,
        cross_heads: int = 1,
        self_heads: int = 8,
        cross_widening: int = 1,
        self_widening: int = 1,
        cross_qk_channels: int | None = None,
        cross_v_channels: int | None = None,
        self_qk_channels: int | None = None,
        name: str | None = None,
    ) -> None:
        """Configures the encoder.

        Args:
          latents: rows of the latent array.
          channels: channels of the latent array.
          self_attends: self-attention layers of a block.
          blocks: how often the block is applied, with the same weights.
          cross_heads: heads of the cross-attention.
          self_heads: heads of the self-attention.
          cross_widening: widening of the cross-attention's MLP.
          self_widening: widening of the self-attention's MLPs.
          cross_qk_channels: channels of the cross-attention's queries, keys and values;
            default `channels`. The paper's image models take the inputs' channels.
          cross_v_channels: channels of its values; default as its queries and keys.
          self_qk_channels: channels of the self-attention's queries and keys; default
            `channels`.
          name: haiku's name.
        """
        super().__init__(name=name)
        self._latents = PositionTable(latents, channels, name="latents")
        self._cross = CrossAttention(
            cross_heads,
            widening=cross_widening,
            qk_channels=cross_qk_channels,
            v_channels=cross_v_channels,
        )
        self._selves = [
            SelfAttention(self_heads, widening=self_widening, qk_channels=self_qk_channels)
            for _ in range(self_attends)
        ]
        self._blocks = blocks

    def __call__(self, inputs: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        """Encodes rows.

        Args:
          inputs: [B, K, E].
          mask: [B, K] bool, False for padding; it does not influence the result.

        Returns:
          Latents. [B, latents, channels].
        """
        table = self._latents()
        latents = jnp.broadcast_to(table, (inputs.shape[0], *table.shape))
        pairs = None
        if mask is not None:
            pairs = jnp.broadcast_to(
                mask[:, None], (inputs.shape[0], table.shape[0], inputs.shape[1])
            )
        latents = self._cross(latents, inputs, pairs)
        for _ in range(self._blocks):
            for layer in self._selves:
                latents = layer(latents)
        return latents


class PerceiverDecoder(hk.Module):
    """Queries look once at the latents; a row comes out per query."""

    def __init__(
        self,
        output_channels: int,
        *,
        heads: int = 1,
        widening: int = 1,
        use_query_residual: bool = False,
        name: str | None = None,
    ) -> None:
        """Configures the decoder.

        Args:
          output_channels: channels of a row that comes out.
          heads: heads of the cross-attention.
          widening: widening of its MLP.
          use_query_residual: add the query itself before the final projection.
          name: haiku's name.
        """
        super().__init__(name=name)
        self._cross = CrossAttention(
            heads, widening=widening, use_query_residual=use_query_residual
        )
        self._output = hk.Linear(output_channels, name="output")

    def __call__(self, queries: jax.Array, latents: jax.Array) -> jax.Array:
        """[B, Q, C], [B, L, E] -> [B, Q, output_channels]."""
        return self._output(self._cross(queries, latents))
