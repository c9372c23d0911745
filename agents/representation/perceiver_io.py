"""The representation by Perceiver IO: all rows at once, decoded by the frame's query."""

from __future__ import annotations

from collections.abc import Mapping

import haiku as hk
import jax
import jax.numpy as jnp

from muzero_rc.agents.config import NetworkConfig
from muzero_rc.agents.perceiver import PerceiverDecoder, PerceiverEncoder, PositionTable
from muzero_rc.agents.representation.inputs import limit

__all__ = ["PerceiverIORepresentation"]


class PerceiverIORepresentation(hk.Module):
    """Tokens of a decision -> latent array -> hidden state, decoded by the frame's query."""

    def __init__(self, config: NetworkConfig) -> None:
        """Takes the sizes."""
        super().__init__(name="representation")
        self._config = config

    def __call__(self, tokens: Mapping[str, jax.Array]) -> jax.Array:
        """Tokens of B decisions -> [B, state_width]."""
        c = self._config
        span = c.window_back + 1 + c.window_ahead

        def embed(x: jax.Array, name: str) -> jax.Array:
            return hk.Linear(c.width, name=name)(limit(x))

        # Window and history share positions, so that a coded frame finds its clip row.
        shown_at = PositionTable(span + 2, c.width, name="shown_at")()
        coded_at = PositionTable(c.history_rows, c.width, name="coded_at")()
        window = embed(tokens["window"], "window") + shown_at[:span]
        history = (
            embed(tokens["history"], "history")
            + coded_at
            + jnp.take(shown_at, tokens["history_position"], axis=0)
        )
        segments = embed(
            jnp.concatenate([tokens["segments"], tokens["segment_position"]], axis=-1), "segments"
        )
        now = jnp.concatenate([tokens["frame"], tokens["globals"], tokens["scalars"]], axis=-1)
        frame = embed(now, "frame")[:, None]  # [B, 1, width]

        batch = frame.shape[0]
        rows = jnp.concatenate([frame, window, segments, history], axis=1)
        mask = jnp.concatenate(
            [
                jnp.ones((batch, 1), jnp.bool_),
                tokens["window_mask"],
                tokens["segment_mask"],
                tokens["history_mask"],
            ],
            axis=1,
        )
        latents = PerceiverEncoder(
            latents=c.latents,
            channels=c.width,
            self_attends=c.self_attends,
            cross_heads=c.heads,
            self_heads=c.heads,
            cross_widening=c.widening,
            self_widening=c.widening,
        )(rows, mask)
        decoder = PerceiverDecoder(c.state_width, heads=c.heads, widening=c.widening)
        context = decoder(frame, latents)[:, 0]
        # The frame itself matters most; it also reaches the state without attention.
        direct = hk.nets.MLP([c.state_width, c.state_width], activation=jax.nn.gelu, name="direct")
        return context + direct(limit(now))
