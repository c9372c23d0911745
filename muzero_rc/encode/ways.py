"""Ways to code a chunk: with constant quality, or with a lossless base layer in stretches of it.

What a lossless base layer in stretches changes is a linear fit to encodes of clips
(`benchmarks/make_stretch_model.py`). Of a chunk of T frames that takes v bits above headers a
pixel and frame with constant quality at a level l, with PSNR avg p, the frames of the stretches
take c_t bits a pixel without loss, and w a pixel and frame of the chunk. Then octaves of bits,
octaves of the mean squared error, and dB of PSNR avg change by

    a . x

    x = (q, h, q h, q g, h g, q h g, q p, h p, f, f h, f g)
    f = frames of the stretches over T
    q = sum over them of 1 / (1 + c_t / s), over T
    h = log2(1 + w / v)
    g = log2 of the quantizer's step (`env.control.rate.probe.qindex_octaves`)

q is the share of frames that stand still; at s bits a pixel one counts half.

The coefficients lie in `encode.stretch_model`. Ours, not the paper's.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from muzero_rc.encode.realtime_probe import ChunkForecast, RealtimeProbe
from muzero_rc.encode.share import Curve, Whole
from muzero_rc.encode.stretches import Stretches, mask_of, stretches, whole_chunk
from muzero_rc.env.control.rate.probe import qindex_octaves
from muzero_rc.types import MAX_PSNR_DB

__all__ = ["Stretched", "StretchModel", "Ways", "stretched", "terms"]

_Array = npt.NDArray[np.float64]
_STILL = 0.003  # s, bits a pixel; of 0.003, 0.01 and 0.03 best on sources left out
_LEAST_SLOPE = 0.05  # numerical: bits fall with the level, and a share leads to one


@dataclass(frozen=True, slots=True)
class Stretched:
    """Stretches of a chunk, and what they take.

    Attributes:
      stretches: first frame of each, and the one after its last.
      share: f, of the chunk's frames.
      still: q, of those that lie there and stand still.
      bits: w, without loss, a pixel and frame of the chunk.
    """

    stretches: Stretches
    share: float
    still: float
    bits: float


def stretched(some: Stretches, costs: npt.ArrayLike) -> Stretched:
    """What stretches of a chunk take.

    Args:
      some: the stretches.
      costs: [T] of frames coded without loss, bits a pixel.
    """
    each = np.asarray(costs, np.float64)
    mask = mask_of(some, len(each))
    pictures = sum(float(each[0]) for first, _ in some if first > 0)
    still = float((mask / (1.0 + each / _STILL)).mean())
    return Stretched(
        some, float(mask.mean()), still, (float(each[mask].sum()) + pictures) / len(each)
    )


def terms(found: Stretched, octaves: float, log_bits: float, psnr: float) -> _Array:
    """What tells what stretches change: x. [11].

    Args:
      found: the stretches.
      octaves: g, of the level.
      log_bits: log2 of v, of constant quality at the level.
      psnr: p, likewise.
    """
    f, q, g, p = found.share, found.still, octaves, psnr
    h = math.log2(1.0 + found.bits / 2.0**log_bits)
    return np.array([q, h, q * h, q * g, h * g, q * h * g, q * p, h * p, f, f * h, f * g])


@dataclass(frozen=True)
class StretchModel:
    """The fits.

    Attributes:
      bits: [11] of octaves of bits, of the terms x.
      error: [11] of octaves of the mean squared error, likewise.
      psnr: [11] of dB of PSNR avg, likewise.
      prices: at which stretches are looked for (`encode.stretches`), lowest first.
      levels: the finest and the coarsest qindex that was fitted to.
      start_price: a chunk of which an encode in real time with loss has stretches at this price
        may have some that are worth a lossless base layer.
      record: what it was fitted to, and how far it is off.
    """

    bits: tuple[float, ...]
    error: tuple[float, ...]
    psnr: tuple[float, ...]
    prices: tuple[float, ...]
    levels: tuple[float, float]
    start_price: float
    record: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def may_gain(self, start: RealtimeProbe, pixels: int) -> bool:
        """Whether a chunk is worth an encode in real time without loss.

        Args:
          start: the chunk at `START_LEVEL`.
          pixels: of a frame.
        """
        return bool(stretches(np.array(start.frame_bits) / pixels, self.start_price))

    def look(self, lossless: RealtimeProbe, pixels: int) -> list[Stretched]:
        """The stretches of all prices, and the whole chunk.

        Args:
          lossless: the chunk in real time at level 0.
          pixels: of a frame.
        """
        costs = np.array(lossless.frame_bits) / pixels
        some = {stretches(costs, price): None for price in self.prices}
        some[whole_chunk(len(costs))] = None
        return [stretched(each, costs) for each in some if each]

    def ways(self, constant: ChunkForecast, found: Sequence[Stretched]) -> Ways:
        """All ways to code a chunk.

        Args:
          constant: what is expected of it with constant quality.
          found: its stretches, of each price (`look`).
        """
        changed = tuple(self._changed(constant, each) for each in found)
        return Ways(constant, changed, self.levels[1])

    def _changed(self, constant: ChunkForecast, found: Stretched) -> ChunkForecast:
        """What is expected with a lossless base layer in stretches.

        The terms are no line in the octaves of the level, so it is drawn through both ends of the
        levels that were fitted to.
        """
        ends: list[tuple[float, _Array]] = []
        for level in self.levels:
            curve, octaves = constant.curve(level), float(qindex_octaves(level))
            log_bits = math.log2(curve.bits / (constant.frames * constant.pixels))
            log_error = math.log2(curve.error / constant.frames)
            x = terms(found, octaves, log_bits, curve.psnr)
            changes = np.array([self.bits, self.error, self.psnr]) @ x
            ends.append((octaves, np.array([log_bits, log_error, curve.psnr]) + changes))
        (first, low), (last, high) = ends
        slope = (high - low) / (last - first)
        slope[0] = min(slope[0], -_LEAST_SLOPE)
        bits, error, psnr = zip((low - slope * first).tolist(), slope.tolist(), strict=True)
        return dataclasses.replace(
            constant, bits=bits, error=error, psnr=psnr, stretches=found.stretches
        )


@dataclass(frozen=True, slots=True)
class Ways:
    """What is expected of a chunk, however it is coded.

    Attributes:
      constant: with constant quality.
      stretched: with a lossless base layer in stretches, those of the lowest price first.
      coarsest: qindex up to which anything is known of the latter.
    """

    constant: ChunkForecast
    stretched: tuple[ChunkForecast, ...]
    coarsest: float

    def way(self, some: Stretches) -> ChunkForecast:
        """What is expected with a lossless base layer in some of its stretches, or in none."""
        return next(each for each in (self.constant, *self.stretched) if each.stretches == some)

    def best(
        self, bits: float, whole: Whole, among: Sequence[ChunkForecast] | None = None
    ) -> ChunkForecast:
        """The way by which a film gains most.

        What stretches take hardly follows the level, so a share may be too small for them: then
        their level is beyond what is known, and they are no choice.

        Args:
          bits: of the chunk, its headers in them.
          whole: the film.
          among: ways to choose from, beside constant quality; None are all.
        """
        found, most = self.constant, 0.0
        for way in self.stretched if among is None else among:
            level = way.level_for(bits - way.fixed)
            gain = self.gain_of(way.curve(level), whole)
            if level <= 0.0 or (gain > most and level <= self.coarsest):
                found, most = way, gain
        return found

    def gain_of(self, mine: Curve, whole: Whole) -> float:
        """What a film gains over constant quality of this chunk, for the same bits, dB.

        Of PSNR avg and overall together, the sum that shares are made for (`encode.share`).

        Args:
          mine: what it takes and brings.
          whole: the film.
        """
        level = self.constant.level_for(mine.bits)
        other = self.constant.curve(level)
        psnr, error = (other.psnr, other.error) if level > 0.0 else (MAX_PSNR_DB, 0.0)
        avg = mine.frames / whole.frames * (mine.psnr - psnr)
        return avg + 10.0 / math.log(10.0) * (error - mine.error) / whole.error
