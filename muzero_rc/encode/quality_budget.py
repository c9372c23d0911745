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

from muzero_rc.encode.level import Level
from muzero_rc.encode.realtime_probe import ChunkForecast
from muzero_rc.encode.share import Curve, shares, whole_of
from muzero_rc.encode.ways import Ways
from muzero_rc.env.control.rate.probe import qindex_octaves
from muzero_rc.env.control.recipe import DEFAULT_RECIPE, Recipe
from muzero_rc.types import NUM_QINDEX

__all__ = ["USUAL_MISS", "QualityBudget", "common_level", "first_levels", "with_stretches"]

USUAL_MISS = 0.15
"""What a chunk misses of what its level is to bring.

By it a film of 20 chunks has some made again as often as training films had
(docs/notes/2026-11-30-time-left-of-films.md).
"""

_KINDS = ((False, False), (True, False), (True, True))
_HALVINGS = 40  # numerical: of the range of levels, far below what an encode can keep to


class QualityBudget:
    """Tells each chunk its level, knowing what chunks before it took.

    As with `FilmBudget`, a level depends on the order of chunks alone, neither on the number of
    workers nor on who finishes first. Of n chunks sqrt(n) may be in work at a time: what is known
    of one less well than with a whole probe encode has to be learned from others in time.

    One chunk may close the film: it comes after all others and takes the bits that they leave, as
    long as it is no further from its fair share than a chunk usually is. The nearer the end, the
    more is known of others then.

    Attributes:
      closing: that chunk, None if there is none.
      goals: what each chunk that has a level is expected to take, bits.
    """

    def __init__(
        self,
        forecasts: Sequence[ChunkForecast],
        ways: Mapping[int, Ways],
        bits: float,
        own_to_common: float,
        *,
        closing: int | None = None,
        recipe: Recipe = DEFAULT_RECIPE,
    ) -> None:
        """Takes what is expected of all chunks, the bits of the film, and the constants.

        Args:
          forecasts: of the chunks, as they are to be coded.
          ways: to code those that may have a lossless base layer.
          bits: of the film, its target.
          own_to_common: see `RealtimeModel`.
          closing: the chunk that closes the film; of constant quality without stretches.
          recipe: the constants.
        """
        self.closing = closing
        self._order = [i for i in range(len(forecasts)) if i != closing]
        if closing is not None:
            self._order.append(closing)
        self._forecasts = forecasts
        self._ways = ways
        self._bits = bits
        self._own_to_common = own_to_common
        self._recipe = recipe
        self.goals: dict[int, float] = {}
        self._lag = math.isqrt(max(len(forecasts) - 1, 0)) + 1

    def known_before(self, index: int) -> Sequence[int]:
        """The chunks that must be finished before a chunk gets its level."""
        place = self._order.index(index)
        lag = self._lag
        if self.closing is not None:  # the fewer are left, the more must be known
            lag = min(lag, len(self._order) - place)
        return self._order[: max(place - lag + 1, 0)]

    @property
    def unsettled(self) -> Sequence[int]:
        """Chunks that no other one makes up for."""
        return self._order[len(self.known_before(self._order[-1])) :]

    def forecast(self, index: int, level: Level) -> ChunkForecast:
        """What is expected of a chunk that is coded in the way of a level."""
        if self._forecasts[index].stretches == level.lossless:
            return self._forecasts[index]
        return self._ways[index].way(level.lossless)

    def level(self, index: int, levels: Mapping[int, Level], found: Mapping[int, Curve]) -> Level:
        """The level of a chunk.

        Args:
          index: of the chunk.
          levels: of all chunks before it.
          found: what those in `known_before` took; more are not looked at.
        """
        known = self.known_before(index)
        place = self._order.index(index)
        off = self._off_by_kind(known, levels, found)
        spent = sum(found[i].fixed + found[i].bits for i in known)
        for i in self._order[len(known) : place]:
            other = self.forecast(i, levels[i])
            other = other.corrected(*off[_kind(other)])
            spent += other.fixed + other.bits_at(levels[i].qindex)
        forecasts = [f.corrected(*off[_kind(f)]) for f in self._forecasts]
        ahead = [forecasts[i] for i in self._order[place:]]
        least = sum(f.fixed + f.bits_at(NUM_QINDEX - 1.0) for f in ahead)
        left = max(self._bits - spent, least)
        level = common_level(ahead, left)
        curves = [found[i] for i in known]
        curves += [forecasts[i].curve(level) for i in self._order[len(known) :]]
        whole = whole_of(curves, self._bits, recipe=self._recipe)
        mine = float(shares(curves[place:], left, whole=whole, recipe=self._recipe)[0])
        own = forecasts[index]
        if index == self.closing:
            # What is left may be far from what is fair: then others are made again.
            fair = float(shares(curves, self._bits, whole=whole, recipe=self._recipe)[-1])
            mine = min(max(mine, fair / (1.0 + USUAL_MISS)), fair * (1.0 + USUAL_MISS))
        self.goals[index] = mine
        free = mine - own.fixed
        if index in self._ways and index != self.closing:
            # Its share may be another than when the film was planned.
            known_ways = self._ways[index]
            constant, *rest = (
                way.corrected(*off[_kind(way)])
                for way in (known_ways.constant, *known_ways.stretched)
            )
            own = Ways(constant, tuple(rest), known_ways.coarsest).best(mine, whole)
        return Level(own.level_for(free), own.stretches, own.offset_scale)

    def _off_by_kind(
        self, known: Sequence[int], levels: Mapping[int, Level], found: Mapping[int, Curve]
    ) -> dict[tuple[bool, bool], tuple[float, float]]:
        """Octaves of bits and of error that chunks take more than expected, shrunk to 0.

        Scenes, pages and those with a lossless base layer are off by themselves, as each kind
        has a fit of its own. What is coded without loss tells nothing.
        """
        sums = {kind: [0.0, 0.0, 0.0, 0.0, 0.0] for kind in _KINDS}
        for i in known:
            if levels[i].qindex > 0.0:
                forecast = self.forecast(i, levels[i])
                expected, each = forecast.curve(levels[i].qindex), sums[_kind(forecast)]
                new = (1.0, found[i].bits, expected.bits, found[i].error, expected.error)
                for place, value in enumerate(new):
                    each[place] += value
        off = {}
        for kind, (count, bits, expected_bits, error, expected_error) in sums.items():
            trust = count / (count + self._own_to_common)
            off[kind] = (
                (trust * math.log2(bits / expected_bits), trust * math.log2(error / expected_error))
                if count
                else (0.0, 0.0)
            )
        return off


def _kind(forecast: ChunkForecast) -> tuple[bool, bool]:
    """Whether it has a PSNR avg of its own, and stretches with a lossless base layer."""
    return forecast.psnr is not None, bool(forecast.stretches)


def common_level(forecasts: Sequence[ChunkForecast], bits: float) -> float:
    """The one level of all chunks with which they take so many bits.

    Args:
      forecasts: of the chunks.
      bits: of them all.
    """
    fixed = sum(f.fixed for f in forecasts)
    # At once: this is asked for each of the thousand chunks of a long film.
    at_zero, each = np.array([f.bits for f in forecasts]).T
    samples = np.array([float(f.frames * f.pixels) for f in forecasts])
    low, high = 0.0, NUM_QINDEX - 1.0
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        octaves = at_zero + each * float(qindex_octaves(middle))
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


def with_stretches(
    constant: Sequence[ChunkForecast],
    ways: Mapping[int, Ways],
    bits: float,
    *,
    recipe: Recipe = DEFAULT_RECIPE,
) -> list[ChunkForecast]:
    """Forecasts of a film's chunks, some with a lossless base layer in stretches.

    Each is coded in the way by which the film is expected to gain most at the chunk's share of
    the bits (`Ways.best`). All begin with what takes most, and none goes back there.

    Args:
      constant: of all chunks, with constant quality.
      ways: of chunks that may have such stretches.
      bits: of the film.
      recipe: the constants.
    """
    left = {index: each.stretched for index, each in ways.items()}
    found = [left[i][-1] if left.get(i) else forecast for i, forecast in enumerate(constant)]
    while True:
        level = common_level(found, bits)
        whole = whole_of([f.curve(level) for f in found], bits, recipe=recipe)
        levels = first_levels(found, bits, recipe=recipe)
        moved = False
        for index, some in left.items():
            mine = found[index]
            if not mine.stretches:
                continue
            best = ways[index].best(mine.fixed + mine.bits_at(levels[index]), whole, some)
            if best is not mine:
                moved = True
                found[index] = best
                left[index] = some[: some.index(best) + 1] if best.stretches else ()
        if not moved:
            return found
