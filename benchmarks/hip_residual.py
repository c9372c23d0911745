"""The Perceiver residual with a token of each frame's block map, for bench_residual.py --blocks.

The encoder half of a Hierarchical Perceiver, as in `agents/representation/hip.py`: bands of
blocks are groups with few latents, the bands of a frame are one group of the next level, and its
latent joins the frame's features. All else is the residual's own. It is here and not in the
package, as it is a trial.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from muzero_rc.agents.perceiver.hip import HiPBlock, HiPBlockConfig, regroup
from muzero_rc.agents.world_model.features import NUM_FEATURES
from muzero_rc.agents.world_model.frames import EncodeFrames
from muzero_rc.agents.world_model.linear import LinearModel, Response
from muzero_rc.agents.world_model.normal_equations import NormalEquations, Ridge
from muzero_rc.agents.world_model.residual.arrays import Scale
from muzero_rc.agents.world_model.residual.config import NetworkConfig
from muzero_rc.agents.world_model.residual.network import corrections
from muzero_rc.agents.world_model.residual.train import (
    TrainSettings,
    to_learn_from,
    train_residual,
)
from muzero_rc.agents.world_model.study import Study
from muzero_rc.env.codec.block_stats import BLOCK_FEATURES

_BAND = 3  # rows of blocks in a group; by hand, as smaller groups take longer
_BLOCK_WIDTH = 16  # as agents/representation/hip.py
_GROUP_LATENTS = 2  # likewise

_Array = npt.NDArray[np.generic]


class BandedMaps(NamedTuple):
    """Block maps of the N coded frames of B studies, in G bands of M blocks each.

    Attributes:
      values: [B, N, G, M, BLOCK_FEATURES] float16, 0 in padding.
      places: [B, G, M, 2] float32, down and right in the picture, -1..1.
      there: [B, G, M] bool, False in padding.
    """

    values: _Array
    places: _Array
    there: _Array


def banded(
    maps: npt.NDArray[np.float16] | None,
    shown: npt.NDArray[np.int64],
    frames: int,
    grid: tuple[int, int],
) -> BandedMaps:
    """The maps of one study, without the axis B.

    Args:
      maps: [T, rows, columns, BLOCK_FEATURES]; None for a study without maps.
      shown: [n] place in display order of each coded frame; one after the last map takes that.
      frames: N.
      grid: rows and columns that there is room for, rows in whole bands.
    """
    values = np.zeros((frames, *grid, BLOCK_FEATURES), np.float16)
    places = np.zeros((*grid, 2), np.float32)
    there = np.zeros(grid, np.bool_)
    if maps is not None:
        _, rows, columns, _ = maps.shape
        values[: len(shown), :rows, :columns] = maps[np.minimum(shown, len(maps) - 1)]
        places[:rows, :columns, 0] = np.linspace(-1.0, 1.0, rows)[:, None]
        places[:rows, :columns, 1] = np.linspace(-1.0, 1.0, columns)
        there[:rows, :columns] = True
    bands = grid[0] // _BAND, _BAND * grid[1]
    return BandedMaps(
        values.reshape(frames, *bands, BLOCK_FEATURES),
        places.reshape(*bands, 2),
        there.reshape(bands),
    )


def bands_of(
    studies: Sequence[Study], maps: Sequence[npt.NDArray[np.float16] | None], frames: int
) -> BandedMaps:
    """The maps of studies, padded to `frames` frames."""
    most = np.max([own.shape[1:3] for own in maps if own is not None], axis=0)
    grid = -(-int(most[0]) // _BAND) * _BAND, int(most[1])
    rows = [
        banded(own, study.base.show_index, frames, grid)
        for study, own in zip(studies, maps, strict=True)
    ]
    return BandedMaps(*(np.stack(parts) for parts in zip(*rows, strict=True)))


def network_of_maps(config: NetworkConfig) -> hk.Transformed:
    """As `residual.network`, with the arrays of `BandedMaps` after its arguments."""

    def forward(
        tokens: jax.Array,
        frames: jax.Array,
        training: bool,
        values: jax.Array,
        places: jax.Array,
        there: jax.Array,
    ) -> jax.Array:
        batch, count, groups, size, _ = values.shape
        # What does not change with the frame is embedded once.
        small = hk.Linear(_BLOCK_WIDTH, name="blocks")(values.astype(jnp.float32))
        small += hk.Linear(_BLOCK_WIDTH, with_bias=False, name="places")(places)[:, None]
        seen = jnp.broadcast_to(there[:, None], (batch, count, groups, size))
        level = HiPBlockConfig(
            count * groups, _GROUP_LATENTS, _BLOCK_WIDTH, 0, cross_widening=2, shared=True
        )
        small = HiPBlock(level, name="group_block")(
            small.reshape(batch, -1, size, _BLOCK_WIDTH), seen.reshape(batch, -1, size)
        )
        wide = regroup(hk.Linear(config.channels, name="groups")(small), count)
        level = HiPBlockConfig(count, 1, config.channels, 0, cross_widening=2, shared=True)
        seen = jnp.repeat(seen.any(axis=-1), _GROUP_LATENTS, axis=-1)
        found = HiPBlock(level, name="frame_block")(wide, seen)[:, :, 0]
        return corrections(jnp.concatenate([tokens, found], axis=-1), frames, training, config)

    return hk.transform(forward)


@dataclass(frozen=True, eq=False)
class MapModel:
    """The linear model of one study, corrected by networks that also see its maps.

    Attributes:
      linear: the skip path.
      members: parameters of each network.
      apply: the network, jitted: parameters, tokens, frames, maps.
      scale: of the features.
      maps: of this study, with the axis B.
    """

    linear: LinearModel
    members: Sequence[hk.Params]
    apply: Callable[..., jax.Array]
    scale: Scale
    maps: BandedMaps

    def response(self, base: EncodeFrames, features: npt.NDArray[np.float64]) -> Response:
        """How the frames of the clip answer, as `LinearModel.response`."""
        known = self.linear.response(base, features)
        tokens = np.zeros((1, self.maps.values.shape[1], NUM_FEATURES), np.float32)
        tokens[0, : len(base)] = self.scale.tokens(features)
        real = (np.arange(tokens.shape[1]) < len(base))[None].astype(np.float32)
        added = np.mean([self.apply(own, tokens, real, *self.maps) for own in self.members], axis=0)
        return Response(base, np.stack([known.bits, known.sse]) + added[0, :, : len(base)])


def fit_with_maps(
    studies: Sequence[Study],
    maps: BandedMaps,
    sums: Mapping[str, NormalEquations],
    ridge: Ridge,
    settings: TrainSettings,
    seeds: Sequence[int],
) -> Callable[[LinearModel, BandedMaps], MapModel]:
    """As `fit_residual`; gives what corrects a linear model on a study with these maps."""
    net = network_of_maps(settings.network)
    scale, arrays = to_learn_from(studies, sums, ridge)
    beside = tuple(maps._replace(values=maps.values[:, : arrays.clip.frames.shape[1]]))
    members = [train_residual(arrays, settings, seed, net, beside) for seed in seeds]

    @jax.jit
    def apply(
        params: hk.Params, tokens: jax.Array, frames: jax.Array, *maps: jax.Array
    ) -> jax.Array:
        return net.apply(params, None, tokens, frames, False, *maps)

    return lambda linear, own: MapModel(linear, members, apply, scale, own)


def of_another_source(studies: Sequence[Study], seed: int) -> list[int]:
    """For each study the place of one of another source, drawn."""
    random = np.random.default_rng(seed)
    sources = np.array([study.source for study in studies])
    return [int(random.choice(np.flatnonzero(sources != own))) for own in sources]
