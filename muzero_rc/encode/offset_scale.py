"""By how much the QP offsets of a chunk of constant quality are scaled.

The recipe's offsets make key frames and first alternate references coarser than libvpx's constant
quality, and those between finer. That is right for what a camera sees, as noise is not inherited.
What was drawn is inherited without loss: there finer references are better, most of all at fine
levels.

A scale s of the offsets gains over 1, at equal bits, the sum of PSNR avg and overall, and takes
octaves of bits and of error more at the same level

    gain(s)  = (s - 1) a . z + (s - 1)^2 b . z
    bits(s)  = (s - 1) c . z + (s - 1)^2 d . z,  and likewise for error and PSNR avg

    z = (1, g, x, g x)
    g = log2 of the quantizer's step (`env.control.rate.probe.qindex_octaves`)

with x = (v, e, f) of an encode in real time: log2 of its bits above headers a pixel and frame, log2
of its mean squared error, and the share of its first frame in the bits. The coefficients are a
least squares fit (`benchmarks/make_offset_scale_model.py`) and lie in
`encode.offset_scale_model`. Ours, not the paper's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from muzero_rc.encode.realtime_probe import ChunkForecast, RealtimeProbe
from muzero_rc.env.control.rate.probe import qindex_octaves

__all__ = ["OffsetScaleModel", "Parabola", "terms"]

_Array = npt.NDArray[np.float64]


def terms(probe: RealtimeProbe, level: float) -> _Array:
    """What tells how the offsets of a chunk are to be scaled: z. [n].

    Args:
      probe: of the chunk in real time, at `START_LEVEL`.
      level: of its constant quality, a qindex.
    """
    x = np.array([probe.bits, probe.error, probe.first])
    octaves = float(qindex_octaves(level))
    return np.concatenate([[1.0, octaves], x, octaves * x])


class Parabola(NamedTuple):
    """Coefficients of (s - 1) and of (s - 1)^2, each times z.

    Attributes:
      linear: [n].
      square: [n].
    """

    linear: tuple[float, ...]
    square: tuple[float, ...]

    def at(self, z: _Array) -> tuple[float, float]:
        """Both for a chunk."""
        return float(z @ np.array(self.linear)), float(z @ np.array(self.square))

    def value(self, z: _Array, scale: float) -> float:
        """What a scale brings a chunk."""
        linear, square = self.at(z)
        return (scale - 1.0) * linear + (scale - 1.0) ** 2 * square


@dataclass(frozen=True)
class OffsetScaleModel:
    """The fits.

    Attributes:
      gain: dB of PSNR avg and overall together, at equal bits.
      bits: octaves at the same level.
      error: octaves of the mean squared error, likewise.
      psnr: dB of PSNR avg, likewise.
      scales: the least and the greatest scale that they were fitted to.
      levels: likewise of qindexes.
      least: gain, dB, up to which a scale is not believed, and stays 1; chosen by the fit, on
        sources left out.
      record: what they were fitted to, and what they gain.
    """

    gain: Parabola
    bits: Parabola
    error: Parabola
    psnr: Parabola
    scales: tuple[float, float]
    levels: tuple[float, float]
    least: float = 0.0
    record: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def scale(self, z: _Array) -> float:
        """The scale that gains most; 1 where that is not enough to be believed."""
        linear, square = self.gain.at(z)
        found = [*self.scales]
        if square < 0.0:
            found.append(min(max(1.0 - 0.5 * linear / square, self.scales[0]), self.scales[1]))
        best = max(found, key=lambda scale: self.gain.value(z, scale))
        return best if self.gain.value(z, best) > self.least else 1.0

    def scaled(self, known: ChunkForecast, probe: RealtimeProbe, level: float) -> ChunkForecast:
        """What is expected of a chunk with its offsets scaled as gains most at a level.

        Args:
          known: with the offsets as they are.
          probe: of the chunk in real time, at `START_LEVEL`.
          level: near which it is to be coded, a qindex.
        """
        z = terms(probe, float(np.clip(level, *self.levels)))
        scale = self.scale(z)
        bits, error, psnr = (each.value(z, scale) for each in (self.bits, self.error, self.psnr))
        known = known.corrected(bits, error)
        if known.psnr is not None:
            known = dataclasses.replace(known, psnr=(known.psnr[0] + psnr, known.psnr[1]))
        return dataclasses.replace(known, offset_scale=scale)
