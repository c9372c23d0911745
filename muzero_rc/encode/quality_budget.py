"""Levels of constant quality with which the chunks of a film meet its bits.

A chunk's bits are expected from an encode in real time (`encode.realtime_probe`). What all chunks
take more or less than that is learned from those that are finished. Shares are by equal slope, as
with other probe encodes (`encode.share`), and lead to a level: the qindex from which libvpx
derives those of all frames in its constant quality.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from muzero_rc.encode.realtime_probe import ChunkForecast
from muzero_rc.encode.share import Curve, shares, whole_of
from muzero_rc.env.control.rate.probe import qindex_octaves
from muzero_rc.env.control.recipe import DEFAULT_RECIPE, Recipe
from muzero_rc.types import NUM_QINDEX

__all__ = ["QualityBudget", "common_level", "first_levels"]

_HALVINGS = 40  # numerical: of the range of levels, far below what an encode can keep to


class QualityBudget:
    """Tells each chunk its level, knowing what chunks before it took.

    As with `FilmBudget`, a level depends on the order of chunks alone, neither on the number of
    workers nor on who finishes first. Of n chunks sqrt(n) may be in work at a time: what is known
    of one less well than with a whole probe encode has to be learned from others in time.
    """

    def __init__(
        self,
        forecasts: Sequence[ChunkForecast],
        bits: float,
        own_to_common: float,
        *,
        recipe: Recipe = DEFAULT_RECIPE,
    ) -> None:
        """Takes what is expected of all chunks, the bits of the film, and the constants.

        Args:
          forecasts: of the chunks.
          bits: of the film, its target.
          own_to_common: see `RealtimeModel`.
          recipe: the constants.
        """
        self._forecasts = forecasts
        self._bits = bits
        self._own_to_common = own_to_common
        self._recipe = recipe
        self._lag = math.isqrt(max(len(forecasts) - 1, 0)) + 1

    def known_before(self, index: int) -> range:
        """The chunks that must be finished before a chunk gets its level."""
        return range(max(index - self._lag + 1, 0))

    def level(self, index: int, levels: Mapping[int, float], found: Mapping[int, Curve]) -> float:
        """The level of a chunk, 0 to 255.

        Args:
          index: of the chunk.
          levels: of all chunks before it.
          found: what those in `known_before` took; more are not looked at.
        """
        known = self.known_before(index)
        dearer, worse = self._off(known, levels, found)
        spent = sum(found[i].fixed + found[i].bits for i in known)
        spent += sum(
            self._forecasts[i].fixed + self._forecasts[i].bits_at(levels[i], dearer=dearer)
            for i in range(len(known), index)
        )
        ahead = self._forecasts[index:]
        least = sum(f.fixed + f.bits_at(NUM_QINDEX - 1.0, dearer=dearer) for f in ahead)
        left = max(self._bits - spent, least)
        level = common_level(ahead, left, dearer)
        curves = [f.curve(level, dearer=dearer, worse=worse) for f in self._forecasts]
        for i in known:
            curves[i] = found[i]
        whole = whole_of(curves, self._bits, recipe=self._recipe)
        mine = float(shares(curves[index:], left, whole=whole, recipe=self._recipe)[0])
        own = self._forecasts[index]
        return own.level_for(mine - own.fixed, dearer=dearer)

    def _off(
        self, known: range, levels: Mapping[int, float], found: Mapping[int, Curve]
    ) -> tuple[float, float]:
        """Octaves of bits and of error that chunks take more than expected, shrunk to 0."""
        if not known:
            return 0.0, 0.0
        expected = [self._forecasts[i].curve(levels[i]) for i in known]
        trust = len(known) / (len(known) + self._own_to_common)
        bits, error = (
            math.log2(
                sum(getattr(found[i], name) for i in known)
                / sum(getattr(curve, name) for curve in expected)
            )
            for name in ("bits", "error")
        )
        return trust * bits, trust * error


def common_level(forecasts: Sequence[ChunkForecast], bits: float, dearer: float = 0.0) -> float:
    """The one level of all chunks with which they take so many bits.

    Args:
      forecasts: of the chunks.
      bits: of them all.
      dearer: octaves of bits that all take more than expected.
    """
    fixed = sum(f.fixed for f in forecasts)
    # At once: this is asked for each of the thousand chunks of a long film.
    at_zero, each = np.array([f.bits for f in forecasts]).T
    samples = np.array([float(f.frames * f.pixels) for f in forecasts])
    low, high = 0.0, NUM_QINDEX - 1.0
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        octaves = at_zero + dearer + each * float(qindex_octaves(middle))
        much = fixed + float(samples @ 2.0**octaves) > bits
        low, high = (middle, high) if much else (low, middle)
    return 0.5 * (low + high)


def first_levels(
    forecasts: Sequence[ChunkForecast], bits: float, *, recipe: Recipe = DEFAULT_RECIPE
) -> list[float]:
    """The levels of all chunks before any is encoded.

    Args:
      forecasts: of the chunks.
      bits: of them all.
      recipe: the constants.
    """
    level = common_level(forecasts, bits)
    curves = [forecast.curve(level) for forecast in forecasts]
    whole = whole_of(curves, bits, recipe=recipe)
    found = shares(curves, bits, whole=whole, recipe=recipe)
    return [
        forecast.level_for(float(share) - forecast.fixed)
        for forecast, share in zip(forecasts, found, strict=True)
    ]
