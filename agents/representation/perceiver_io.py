"""The representation by Perceiver IO: all rows at once, decoded by the frame's query."""

from __future__ import annotations

from collections.abc import Mapping

import haiku as hk
import jax
import jax.numpy as jnp

from muzero_rc.agents.config import NetworkConfig
from muzero_rc.agents.perceiver import PerceiverDecoder, PerceiverEncoder, PositionTable
from muzero_rc.agents.representation.inputs import decision_row, embed, limit

__all__ = ["PerceiverIORepresentation", "read_state", "token_rows"]


def token_rows(
    tokens: Mapping[str, jax.Array], config: NetworkConfig
) -> tuple[jax.Array, jax.Array]:
    """The frame's own row, window, segments and history as one set of rows.

    Must be called inside a module: it makes the embeddings.

    Args:
      tokens: of B decisions.
      config: sizes.

    Returns:
      Rows [B, K, width], the frame's own first, and their mask [B, K].
    """
    c = config
    span = c.window_back + 1 + c.window_ahead
    # Window and history share positions, so that a coded frame finds its clip row.
    shown_at = PositionTable(span + 2, c.width, name="shown_at")()
    coded_at = PositionTable(c.history_rows, c.width, name="coded_at")()
    window = embed(tokens["window"], c.width, "window") + shown_at[:span]
    history = (
        embed(tokens["history"], c.width, "history")
        + coded_at
        + jnp.take(shown_at, tokens["history_position"], axis=0)
    )
    stretches = jnp.concatenate([tokens["segments"], tokens["segment_position"]], axis=-1)
    segments = embed(stretches, c.width, "segments")
    frame = embed(decision_row(tokens), c.width, "frame")[:, None]  # [B, 1, width]
    rows = jnp.concatenate([frame, window, segments, history], axis=1)
    mask = jnp.concatenate(
        [
            jnp.ones((frame.shape[0], 1), jnp.bool_),
            tokens["window_mask"],
            tokens["segment_mask"],
            tokens["history_mask"],
        ],
        axis=1,
    )
    return rows, mask


def read_state(
    frame: jax.Array, latents: jax.Array, tokens: Mapping[str, jax.Array], config: NetworkConfig
) -> jax.Array:
    """The frame's question to the latents, and the frame itself.

    Args:
      frame: [B, width], the frame's own row.
      latents: [B, L, C].
      tokens: of B decisions.
      config: sizes.

    Returns:
      [B, state_width].
    """
    c = config
    decoder = PerceiverDecoder(c.state_width, heads=c.heads, widening=c.widening)
    context = decoder(frame[:, None], latents)[:, 0]
    # The frame itself matters most; it also reaches the state without attention.
    direct = hk.nets.MLP([c.state_width, c.state_width], activation=jax.nn.gelu, name="direct")
    return context + direct(limit(decision_row(tokens)))


class PerceiverIORepresentation(hk.Module):
    """Tokens of a decision -> latent array -> hidden state, decoded by the frame's query."""

    def __init__(self, config: NetworkConfig) -> None:
        """Takes the sizes."""
        super().__init__(name="representation")
        self._config = config

    def __call__(self, tokens: Mapping[str, jax.Array]) -> jax.Array:
        """Tokens of B decisions -> [B, state_width]."""
        c = self._config
        rows, mask = token_rows(tokens, c)
        latents = PerceiverEncoder(
            latents=c.latents,
            channels=c.width,
            self_attends=c.self_attends,
            cross_heads=c.heads,
            self_heads=c.heads,
            cross_widening=c.widening,
            self_widening=c.widening,
        )(rows, mask)
        return read_state(rows[:, 0], latents, tokens, c)
