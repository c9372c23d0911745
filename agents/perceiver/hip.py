"""Hierarchical Perceiver: groups of rows are read apart, then together, then apart again.

Carreira et al. 2022, "HiP: Hierarchical Perceiver" (arXiv 2202.10890), section 3. A
block splits its rows into groups; in each, latents look at the rows, then at each other.
Groups become fewer towards the middle (the processor, one group) and more again behind
it, with skips between blocks of the same size. Its cost is linear in the input's rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from muzero_rc.agents.perceiver.attention import CrossAttention, SelfAttention, squared_relu

__all__ = ["HiP", "HiPBlock", "HiPBlockConfig", "HiPOutput", "regroup", "share_groups"]


@dataclass(frozen=True)
class HiPBlockConfig:
    """Sizes of one block.

    Attributes:
      groups: that its rows are split into.
      latents: of each group.
      channels: of the latents.
      self_attends: self-attention layers.
      self_heads: their heads.
      cross_heads: heads of the cross-attention; divides the input's channels.
      cross_widening: widening of the cross-attention's MLP.
      self_widening: widening of the self-attention's MLPs.
      shared: all groups have the same latents, so that parameters fit any number of groups.
    """

    groups: int
    latents: int
    channels: int
    self_attends: int
    self_heads: int = 1
    cross_heads: int = 1
    cross_widening: int = 1
    self_widening: int = 4
    shared: bool = False


class HiPOutput(NamedTuple):
    """What a HiP gives.

    Attributes:
      processor: [B, latents, channels] of the block in the middle, which has seen all.
      reconstruction: [B, N, C] for each input, from the last block.
    """

    processor: jax.Array
    reconstruction: dict[str, jax.Array]


def share_groups(groups: int, rows: Sequence[int]) -> list[int]:
    """How many groups each input gets: the one with the fullest groups gets the next.

    Args:
      groups: in all, at least one for each input.
      rows: of each input.

    Raises:
      ValueError: more inputs than groups; a group never holds rows of two inputs.
    """
    if len(rows) > groups:
        raise ValueError(f"{len(rows)} inputs need as many groups, there are {groups}")
    shares = [1] * len(rows)
    for _ in range(groups - len(rows)):
        fullest = int(np.argmax([n / share for n, share in zip(rows, shares, strict=True)]))
        shares[fullest] += 1
    return shares


def regroup(x: jax.Array, groups: int) -> jax.Array:
    """[B, G, N, C] -> [B, groups, G N / groups, C], neighbours stay together."""
    batch, before, rows, channels = x.shape
    if before * rows % groups:
        raise ValueError(f"{before} groups of {rows} rows do not divide into {groups} groups")
    return x.reshape(batch, groups, before * rows // groups, channels)


class HiPBlock(hk.Module):
    """In each group latents look at the rows, then at each other."""

    def __init__(self, config: HiPBlockConfig, *, name: str | None = None) -> None:
        """Takes the sizes."""
        super().__init__(name=name)
        self._config = config

    def __call__(
        self, x: jax.Array, mask: jax.Array | None = None, skip: jax.Array | None = None
    ) -> jax.Array:
        """Rows of each group -> latents of each group.

        Args:
          x: [B, G, M, C], G the configuration's groups.
          mask: [B, G, M] bool, False for padding; it does not influence the result, and a
            group without any row gives finite latents.
          skip: [B, G, latents, D] added to the latents before they look.

        Returns:
          [B, G, latents, channels].
        """
        c = self._config
        batch, groups, rows, channels = x.shape
        if groups != c.groups:
            raise ValueError(f"{groups} groups, the block is made for {c.groups}")
        own = 1 if c.shared else c.groups
        table = hk.get_parameter(
            "latents", (own * c.latents, c.channels), init=hk.initializers.VarianceScaling()
        )
        latents = jnp.broadcast_to(
            table.reshape(1, own, c.latents, c.channels), (batch, groups, c.latents, c.channels)
        )
        if skip is not None:
            if skip.shape[-1] != c.channels:
                skip = hk.Linear(c.channels, name="skip")(skip)
            latents = latents + skip
        # Groups never see each other, so they are a batch.
        latents = latents.reshape(batch * groups, c.latents, c.channels)
        inputs = x.reshape(batch * groups, rows, channels)
        pairs = None
        if mask is not None:
            flat = mask.reshape(batch * groups, 1, rows)
            pairs = jnp.broadcast_to(flat, (batch * groups, c.latents, rows))
        latents = CrossAttention(
            c.cross_heads,
            widening=c.cross_widening,
            qk_channels=channels,
            activation=squared_relu,
        )(latents, inputs, pairs)
        for _ in range(c.self_attends):
            latents = SelfAttention(
                c.self_heads, widening=c.self_widening, activation=squared_relu
            )(latents)
        return latents.reshape(batch, groups, c.latents, c.channels)


class _Grouping:
    """Where the rows of several inputs lie in groups of one size."""

    def __init__(self, groups: int, rows: Mapping[str, int]) -> None:
        self._rows = dict(rows)
        self._shares = share_groups(groups, list(rows.values()))
        self.size = max(
            -(-n // share) for n, share in zip(rows.values(), self._shares, strict=True)
        )

    def group(self, x: Mapping[str, jax.Array]) -> jax.Array:
        """[B, N, ...] by name -> [B, G, size, ...], padded with zeros."""
        parts = []
        for (name, rows), share in zip(self._rows.items(), self._shares, strict=True):
            each = -(-rows // share)
            tail = [(0, 0)] * (x[name].ndim - 2)
            padded = jnp.pad(x[name], [(0, 0), (0, share * each - rows), *tail])
            split = padded.reshape(padded.shape[0], share, each, *padded.shape[2:])
            parts.append(jnp.pad(split, [(0, 0), (0, 0), (0, self.size - each), *tail]))
        return jnp.concatenate(parts, axis=1)

    def ungroup(self, x: jax.Array) -> dict[str, jax.Array]:
        """The inverse of `group`."""
        out, first = {}, 0
        for (name, rows), share in zip(self._rows.items(), self._shares, strict=True):
            each = -(-rows // share)
            part = x[:, first : first + share, :each]
            out[name] = part.reshape(x.shape[0], share * each, *x.shape[3:])[:, :rows]
            first += share
        return out


class HiP(hk.Module):
    """All blocks, with learned positions at the input and a reconstruction at the end."""

    def __init__(
        self,
        blocks: Sequence[HiPBlockConfig],
        *,
        embedding: int,
        bottleneck_inputs: Sequence[str] = (),
        name: str | None = None,
    ) -> None:
        """Configures the network.

        Args:
          blocks: an odd number, the middle one with one group, latents and groups of the
            others in mirrored pairs, as the skips need them.
          embedding: channels that inputs are projected to; low, as positions are learned.
          bottleneck_inputs: names of inputs that enter and leave at the middle block (the
            paper's class labels).
          name: haiku's name.

        Raises:
          ValueError: blocks that do not fit together.
        """
        super().__init__(name=name)
        middle = len(blocks) // 2
        if len(blocks) < 3 or len(blocks) % 2 == 0:
            raise ValueError(f"{len(blocks)} blocks: an odd number of at least 3 is needed")
        if blocks[middle].groups != 1:
            raise ValueError(f"the middle block has {blocks[middle].groups} groups, not 1")
        for before, after in zip(blocks[:middle], reversed(blocks[middle + 1 :]), strict=True):
            if (before.groups, before.latents) != (after.groups, after.latents):
                raise ValueError(f"{after} does not mirror {before}: the skip does not fit")
        self._blocks = tuple(blocks)
        self._embedding = embedding
        self._bottleneck = tuple(bottleneck_inputs)

    def __call__(
        self,
        inputs: Mapping[str, jax.Array],
        masks: Mapping[str, jax.Array] | None = None,
    ) -> HiPOutput:
        """Reads the inputs and reconstructs them.

        Args:
          inputs: [B, N, C] by name; N and C may differ. Parameters belong to a name, so
            sets of inputs may share one network.
          masks: [B, N] bool by name, False for rows that are hidden or padding; names that
            are missing are seen whole.

        Returns:
          Latents of the middle block and a reconstruction of every row of every input.
        """
        masks = masks or {}
        outer = {n: x for n, x in inputs.items() if n not in self._bottleneck}
        inner = {n: x for n, x in inputs.items() if n in self._bottleneck}
        seen = {n: masks.get(n, jnp.ones(x.shape[:2], jnp.bool_)) for n, x in inputs.items()}

        rows, queries = self._embed(outer, self._embedding, project=True)
        grouping = _Grouping(self._blocks[0].groups, {n: x.shape[1] for n, x in outer.items()})
        x = grouping.group(rows)
        mask: jax.Array | None = grouping.group({n: seen[n] for n in outer})

        middle = len(self._blocks) // 2
        hidden: list[jax.Array] = []
        reconstruction: dict[str, jax.Array] = {}
        for number, config in enumerate(self._blocks):
            x = x if number == 0 else regroup(x, config.groups)
            skip = hidden[len(self._blocks) - 1 - number] if number > middle else None
            if number == middle and inner:
                channels = x.shape[-1]
                labels, asked = self._embed(inner, channels, project=False)
                found = jnp.ones(x.shape[:3], jnp.bool_)
                mask = jnp.concatenate([found, *(seen[n][:, None] for n in inner)], axis=2)
                x = jnp.concatenate([x, *(labels[n][:, None] for n in inner)], axis=2)
            x = HiPBlock(config, name=f"block_{number}")(x, mask, skip)
            mask = None
            hidden.append(x)
            if number == middle and inner:
                read = _Reader("read_bottleneck")
                for name, query in asked.items():
                    found = read(query[:, None], x)[:, 0]
                    reconstruction[name] = self._unembed(found, name, inner[name].shape[-1])
        decoded = grouping.ungroup(_Reader("read")(grouping.group(queries), x))
        for name, rows_found in decoded.items():
            reconstruction[name] = self._unembed(rows_found, name, outer[name].shape[-1])
        return HiPOutput(hidden[middle][:, 0], {name: reconstruction[name] for name in inputs})

    def _embed(
        self, inputs: Mapping[str, jax.Array], channels: int, *, project: bool
    ) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        """Rows with their positions added, and the positions alone as queries."""
        rows, queries = {}, {}
        for number, (name, x) in enumerate(inputs.items()):
            position = hk.get_parameter(
                f"position_{name}", (x.shape[1], channels), init=hk.initializers.VarianceScaling()
            )
            if project:
                # Shared between sets of inputs, so that positions speak one language.
                position = hk.Linear(channels, with_bias=False, name=f"position_{number}")(position)
            linear = hk.Linear(
                channels, w_init=hk.initializers.VarianceScaling(), name=f"embed_{name}"
            )
            rows[name] = linear(x) + position
            queries[name] = jnp.broadcast_to(position, (x.shape[0], *position.shape))
        return rows, queries

    def _unembed(self, x: jax.Array, name: str, channels: int) -> jax.Array:
        return hk.Linear(channels, w_init=jnp.zeros, name=f"unembed_{name}")(x)


class _Reader(hk.Module):
    """Queries of each group look at the latents of the same group."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name)

    def __call__(self, queries: jax.Array, latents: jax.Array) -> jax.Array:
        batch, groups, rows, channels = queries.shape
        inputs = latents.reshape(batch * groups, *latents.shape[2:])
        read = CrossAttention(
            1, qk_channels=latents.shape[-1], use_query_residual=False, activation=squared_relu
        )(queries.reshape(batch * groups, rows, channels), inputs)
        return read.reshape(batch, groups, rows, channels)
