"""Stretches of a chunk that stand nearly still, in which a lossless base layer is cheap.

An encode in real time without loss tells what each frame takes, c_t bits a pixel. What a stretch
is worth is told by a price t, bits a pixel that a frame in it may take: the stretches are those
for which the sum over their frames of

    t - c_t

is greatest, where one that begins after the first frame pays for its first picture, too, as much
as the chunk's first frame took. A low price finds pages that stand still for long, a high one all
that changes little, and in the end the whole chunk. Ours, not the paper's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["Stretches", "mask_of", "stretches", "whole_chunk"]

Stretches = tuple[tuple[int, int], ...]
"""First frame of each, and the one after its last."""


def stretches(costs: npt.ArrayLike, price: float) -> Stretches:
    """The stretches that are worth most at a price.

    Args:
      costs: [T] of frames coded without loss, bits a pixel.
      price: bits a pixel that a frame in a stretch may take.
    """
    each = np.asarray(costs, np.float64)
    worth = price - each
    picture = float(each[0])
    # The best sum up to each frame, inside a stretch and outside.
    inside, outside = float(worth[0]), 0.0
    came_inside, came_outside = [True], [False]
    for value in worth[1:].tolist():
        begun = outside - picture
        came_inside.append(inside >= begun)
        came_outside.append(inside > outside)
        inside, outside = max(inside, begun) + value, max(inside, outside)
    mask = np.zeros(len(each), bool)
    now = inside > outside
    for frame in range(len(each) - 1, -1, -1):
        mask[frame] = now
        now = came_inside[frame] if now else came_outside[frame]
    return _runs(mask)


def whole_chunk(frames: int) -> Stretches:
    """One stretch of all frames of a chunk."""
    return ((0, frames),)


def mask_of(some: Sequence[Sequence[int]], frames: int) -> npt.NDArray[np.bool_]:
    """Which frames lie in stretches. [T]."""
    mask = np.zeros(frames, bool)
    for first, end in some:
        mask[first:end] = True
    return mask


def _runs(mask: npt.NDArray[np.bool_]) -> Stretches:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return tuple(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
