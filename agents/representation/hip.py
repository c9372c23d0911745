"""The representation by a Hierarchical Perceiver, which also reads every block of the window.

The first pass leaves four numbers for every 16x16 block of every frame; at 1080 lines and
26 frames that is 212,160 rows, too many for a decision to look at one by one. Here each
stretch of a frame's blocks is a group with few latents (`HiPBlock`), the groups of a frame
are one group of the next level, and the frames' latents join the other tokens in the middle: the
encoder half of HiP (arXiv 2202.10890); nothing is reconstructed when it decides.
"""

from __future__ import annotations

from collections.abc import Mapping

import haiku as hk
import jax
import jax.numpy as jnp

from muzero_rc.agents.config import NetworkConfig
from muzero_rc.agents.perceiver import PerceiverEncoder, PositionTable
from muzero_rc.agents.perceiver.hip import HiPBlock, HiPBlockConfig, regroup
from muzero_rc.agents.representation.inputs import embed
from muzero_rc.agents.representation.perceiver_io import read_state, token_rows

__all__ = ["HiPRepresentation"]

_BLOCK_WIDTH = 16  # channels of a block; there are many of them, and four numbers in each
_GROUP_LATENTS = 2
_FRAME_LATENTS = 2


class HiPRepresentation(hk.Module):
    """Blocks -> groups -> frames -> all tokens -> hidden state."""

    def __init__(self, config: NetworkConfig) -> None:
        """Takes the sizes."""
        super().__init__(name="representation")
        self._config = config

    def __call__(self, tokens: Mapping[str, jax.Array]) -> jax.Array:
        """Tokens of B decisions -> [B, state_width]."""
        c = self._config
        rows, mask = token_rows(tokens, c)
        if c.block_columns:
            frames, frames_mask = self._frames(tokens)
            everything = jnp.concatenate([rows, frames], axis=1)
            mask = jnp.concatenate([mask, frames_mask], axis=1)
        else:
            everything = rows
        latents = PerceiverEncoder(
            latents=c.latents,
            channels=c.width,
            self_attends=c.self_attends,
            cross_heads=c.heads,
            self_heads=c.heads,
            cross_widening=c.widening,
            self_widening=c.widening,
        )(everything, mask)
        return read_state(rows[:, 0], latents, tokens, c)

    def _frames(self, tokens: Mapping[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        """Latents of each frame's blocks [B, frames x latents, width], and their mask."""
        c = self._config
        blocks, mask = tokens["blocks"], tokens["block_mask"]
        batch, frames, groups, size, _ = blocks.shape
        small = embed(blocks, _BLOCK_WIDTH, "blocks").reshape(batch, -1, size, _BLOCK_WIDTH)
        # All groups share their latents: a policy must carry over to frames of any size.
        level = HiPBlockConfig(
            frames * groups, _GROUP_LATENTS, _BLOCK_WIDTH, 0, cross_widening=2, shared=True
        )
        small = HiPBlock(level, name="group_block")(small, mask.reshape(batch, -1, size))
        there = mask.any(axis=-1)  # [B, frames, groups]
        seen = jnp.repeat(there, _GROUP_LATENTS, axis=-1)
        level = HiPBlockConfig(frames, _FRAME_LATENTS, c.width, 0, cross_widening=2, shared=True)
        wide = regroup(embed(small, c.width, "groups"), frames)
        found = HiPBlock(level, name="frame_block")(wide, seen)
        found = found + PositionTable(frames, c.width, name="block_frame_at")()[:, None]
        present = jnp.repeat(there.any(axis=-1), _FRAME_LATENTS, axis=1)
        return found.reshape(batch, -1, c.width), present
