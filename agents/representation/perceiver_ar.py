"""The representation by Perceiver AR: the encode so far as one sequence, read causally.

The sequence has a row per coded frame in coding order; before each stands the question
"and now?", a row that knows the frame to code and the clip around it, and that nobody
else sees. The answer to a question is the state of that decision. One pass answers the
questions of a whole unroll, over thousands of coded frames, since a question sees the
frames coded before it and no others.
"""

from __future__ import annotations

from collections.abc import Mapping

import haiku as hk
import jax
import jax.numpy as jnp

from muzero_rc.agents.config import NetworkConfig
from muzero_rc.agents.perceiver import PerceiverAR
from muzero_rc.agents.representation.inputs import decision_row, embed, limit

__all__ = ["PerceiverARRepresentation"]


class PerceiverARRepresentation(hk.Module):
    """Tokens of one decision, or of a run of them, -> hidden states."""

    def __init__(self, config: NetworkConfig) -> None:
        """Takes the sizes."""
        super().__init__(name="representation")
        self._config = config

    def __call__(self, tokens: Mapping[str, jax.Array]) -> jax.Array:
        """Tokens of B decisions -> [B, state_width]."""
        run = {n: x if n.startswith("sequence") else x[:, None] for n, x in tokens.items()}
        return self.steps(run)[:, 0]

    def steps(self, tokens: Mapping[str, jax.Array]) -> jax.Array:
        """Tokens of B runs of T decisions -> [B, T, state_width].

        The first state of a run is that of the decision alone. A later one may look back
        further, by as many coded frames and latents as it is decisions after the first;
        with at most `sequence_latents` frames coded all are the same as alone.
        """
        c = self._config
        now = decision_row(tokens)  # [B, T, ...]
        batch, steps = now.shape[:2]
        questions = embed(now, c.width, "question") + self._clip(tokens)
        coded = embed(tokens["sequence"], c.width, "coded")
        # Question n stands between the coded frames n - 1 and n.
        asked_at = 2 * tokens["query_position"]
        coded_at = 2 * tokens["sequence_position"] + 1
        # Only differences matter; small numbers keep the precision of their sines.
        positions = jnp.concatenate([coded_at, asked_at], axis=1) - asked_at[:, -1:]
        seen = jnp.concatenate(
            [tokens["sequence_mask"], jnp.ones((batch, steps), jnp.bool_)], axis=1
        )
        rows = jnp.concatenate([coded, questions], axis=1)
        asks = jnp.arange(rows.shape[1]) >= rows.shape[1] - steps
        states = PerceiverAR(
            # The questions, and before each as many coded frames as it would have alone.
            latents=steps + min(c.sequence_latents, c.sequence_rows) + steps - 1,
            self_attends=c.self_attends,
            heads=c.heads,
            cross_widening=c.widening,
            self_widening=c.widening,
        )(rows, seen, positions, jnp.broadcast_to(asks, rows.shape[:2]))
        answers = embed(states[:, -steps:], c.state_width, "state")
        direct = hk.nets.MLP([c.state_width, c.state_width], activation=jax.nn.gelu, name="direct")
        return answers + direct(limit(now))

    def _clip(self, tokens: Mapping[str, jax.Array]) -> jax.Array:
        """The clip as each question knows it: its window row by row, its stretches pooled."""
        c = self._config
        mask = tokens["window_mask"][..., None]
        window = jnp.concatenate([jnp.where(mask, tokens["window"], 0.0), mask], axis=-1)
        ahead = embed(window.reshape(*window.shape[:2], -1), c.width, "window")
        stretches = jnp.concatenate([tokens["segments"], tokens["segment_position"]], axis=-1)
        known = tokens["segment_mask"][..., None]
        hidden = jax.nn.gelu(embed(stretches, c.width, "segments"))
        count = jnp.maximum(known.sum(axis=-2), 1)
        pooled = jnp.where(known, hidden, 0.0).sum(axis=-2) / count
        return ahead + embed(pooled, c.width, "whole")
