"""What a chunk is expected to take by an encode of it in real time.

libvpx's real-time encoder at a constant quantizer takes a fifteenth of the CPU of a probe encode.
It has one pass and no alternate references. Of a chunk it takes v' bits above headers, a pixel
and frame, at a qindex l', with the mean squared error d'. At the level l of constant quality

    log2 v(l) = log2 v' + a . (1, g(l) - g(l'), x)
    log2 d(l) = log2 d' + b . (1, g(l) - g(l'), x)

    g = log2 of the quantizer's step (`env.control.rate.probe.qindex_octaves`)
    x = log2 v', log2 d', the first frame's share, and what the first pass found (`features`)

The coefficients are a least squares fit to encodes of clips (`benchmarks/make_realtime_model.py`)
and lie in `encode.realtime_model`, with the error of the fit on sources that were left out. Ours,
not the paper's.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from muzero_rc.encode.level import nearest_level, quantizer_of
from muzero_rc.encode.share import Curve
from muzero_rc.encode.stretches import Stretches
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.realtime import RealtimeCosts, encode_in_realtime
from muzero_rc.env.codec.statistics import column, finite
from muzero_rc.env.control.probe_record import SATURATED_DB
from muzero_rc.env.control.rate.probe import qindex_octaves, qindex_of_octaves
from muzero_rc.env.control.rate.two_pass import empty_frame
from muzero_rc.env.control.recipe import DEFAULT_RECIPE, Recipe
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.types import NUM_QINDEX, PEAK

__all__ = [
    "START_LEVEL",
    "ChunkForecast",
    "RealtimeModel",
    "RealtimeProbe",
    "features",
    "probe_of",
    "realtime_probe",
]

_Array = npt.NDArray[np.float64]


START_LEVEL = 124.0
"""Qindex of a first encode in real time: libvpx's guides recommend its quantizer 31."""

_LEAST_SQUARED = 1e-4  # of a sample, 88 dB: a page may be lossless, and has no logarithm then
_FINEST = 1.0  # the finest qindex with loss
_NEAR = 1e-6  # numerical: a share that ends at the most that a chunk takes is that
_LEAST_ERROR = 1.0  # of a macroblock: what stands still has none, and no logarithm


@functools.lru_cache(maxsize=4096)
def _octaves(level: float) -> float:
    """Of a level; asked for each chunk of a film for each of its chunks."""
    return float(qindex_octaves(level))


@dataclass(frozen=True, slots=True)
class RealtimeProbe:
    """What an encode in real time told of a chunk.

    Attributes:
      level: qindex of its constant quality.
      frames: shown ones.
      bits: log2 of its bits above headers, a pixel and frame.
      error: log2 of its mean squared error of a sample.
      first: the share of its first frame in the bits.
      frame_bits: [frames] bits of each of its frames, headers in them.
    """

    level: float
    frames: int
    bits: float
    error: float
    first: float
    frame_bits: tuple[int, ...]


def realtime_probe(
    clip: Clip,
    settings: EncoderSettings,
    level: float,
    *,
    on_frames: Callable[[int], None] | None = None,
    recipe: Recipe = DEFAULT_RECIPE,
) -> RealtimeProbe:
    """Encodes a chunk in real time, with constant quality.

    Args:
      clip: the chunk, in memory.
      settings: of the encode that follows.
      level: qindex of the constant quality; libvpx's nearest quantizer is taken.
      on_frames: told now and then how many frames are done.
      recipe: the constants of control.

    Raises:
      EncoderError: the encoder failed.
    """
    told = encode_in_realtime(clip, settings, quantizer_of(level), on_frames=on_frames)
    return probe_of(told, clip, settings, level, recipe=recipe)


def probe_of(
    told: RealtimeCosts,
    clip: Clip,
    settings: EncoderSettings,
    level: float,
    *,
    recipe: Recipe = DEFAULT_RECIPE,
) -> RealtimeProbe:
    """What an encode in real time tells of a chunk.

    Args:
      told: what its frames took.
      clip: size and rate.
      settings: of the encode that follows.
      level: qindex of the constant quality.
      recipe: the constants of control.
    """
    pixels = clip.width * clip.height
    header = empty_frame(settings.frame_budget(clip.fps), pixels, recipe=recipe)
    bits = told.bits - np.minimum(told.bits, header)
    squared = np.maximum(told.squared_error / (1.5 * pixels), _LEAST_SQUARED)
    each = len(bits) * pixels
    return RealtimeProbe(
        nearest_level(level), len(bits),
        float(np.log2(max(float(bits.sum()), 1.0) / each)), float(np.log2(squared.mean())),
        float(bits[0] / max(float(bits.sum()), 1.0)), tuple(told.bits.tolist()),
    )  # fmt: skip


def features(probe: RealtimeProbe, stats: npt.ArrayLike) -> _Array:
    """What tells a chunk's bits and error at a level. [8].

    Args:
      probe: of the chunk.
      stats: [T, 25] of its first pass.
    """
    sane = finite(np.asarray(stats, np.float64))
    errors = [
        np.log2(np.maximum(sane[:, column(name)], _LEAST_ERROR)).mean()
        for name in ("coded_error", "sr_coded_error", "intra_error")
    ]
    shares = [sane[:, column(name)].mean() for name in ("pcnt_inter", "pcnt_motion")]
    return np.array([probe.bits, probe.error, probe.first, *errors, *shares])


@dataclass(frozen=True, slots=True)
class ChunkForecast:
    """Of one chunk.

    Attributes:
      frames: shown ones.
      pixels: of a frame.
      fixed: bits of headers, which no level can save.
      bits: [2] log2 of bits above headers, a frame and pixel: at g = 0, and for each g.
      error: [2] log2 of the mean squared error of a sample, likewise.
      lossless: bits above headers that it takes without loss, at level 0, if that is known.
      stretches: of it, whose base layer is coded without loss; its level is that of all other
        frames (`encode.ways`).
      psnr: [2] PSNR avg, dB, at g = 0, and for each g; None where it follows from the error.
      offset_scale: of `Level`.
    """

    frames: int
    pixels: int
    fixed: float
    bits: tuple[float, float]
    error: tuple[float, float]
    lossless: float | None = None
    stretches: Stretches = ()
    psnr: tuple[float, float] | None = None
    offset_scale: float = 1.0

    def with_lossless(self, bits: float) -> ChunkForecast:
        """The same with what it takes without loss.

        Args:
          bits: log2 of those above headers, a frame and pixel.
        """
        return dataclasses.replace(self, lossless=2.0**bits * self.frames * self.pixels)

    def corrected(self, dearer: float, worse: float) -> ChunkForecast:
        """The same with so many octaves of bits and of error more than the model says."""
        if not dearer and not worse:
            return self
        bits, error = self.bits, self.error
        return dataclasses.replace(
            self, bits=(bits[0] + dearer, bits[1]), error=(error[0] + worse, error[1])
        )

    def curve(self, level: float) -> Curve:
        """What is expected at a level, a qindex."""
        least, most = (self.bits_at(end) for end in (NUM_QINDEX - 1.0, 0.0))
        octaves = _octaves(level)
        error = max(2.0 ** (self.error[0] + self.error[1] * octaves), _LEAST_SQUARED)
        psnr = 10.0 * math.log10(PEAK**2 / error)
        if self.psnr is not None:
            psnr = self.psnr[0] + self.psnr[1] * octaves
        return Curve(
            fixed=self.fixed, bits=self.bits_at(level), error=self.frames * error, least=least,
            most=most, frames=self.frames, psnr=psnr,
        )  # fmt: skip

    def bits_at(self, level: float) -> float:
        """Bits of the chunk above headers at a level."""
        if level <= 0.0 and self.lossless is not None:
            return self.lossless
        each = 2.0 ** (self.bits[0] + self.bits[1] * _octaves(level))
        return self.frames * self.pixels * each

    def level_from(self, level: float, octaves: float) -> float:
        """The level at which a chunk takes so many octaves of bits more than at another one."""
        return qindex_of_octaves(float(qindex_octaves(level)) + octaves / self.bits[1])

    def level_for(self, bits: float) -> float:
        """The level at which the chunk is expected to take so many bits above headers.

        Without loss, if it may take what that costs.
        """
        if self.lossless is not None and bits >= (1.0 - _NEAR) * self.lossless:
            return 0.0
        each = float(np.log2(max(bits, 1.0) / (self.frames * self.pixels)))
        level = qindex_of_octaves((each - self.bits[0]) / self.bits[1])
        return level if self.lossless is None else max(level, _FINEST)


@dataclass(frozen=True)
class RealtimeModel:
    """The fitted coefficients.

    Attributes:
      bits: [2 + n] of 1, g and the features.
      error: [2 + n], likewise.
      own_to_common: variance of what a chunk is off by itself over that of what all chunks of
        a film are off together: so many chunks tell half of the latter.
      record: what they were fitted to, and how far they are off.
    """

    bits: tuple[float, ...]
    error: tuple[float, ...]
    own_to_common: float
    record: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def forecast(
        self, probe: RealtimeProbe, stats: npt.ArrayLike, pixels: int, header: float
    ) -> ChunkForecast:
        """What is expected of a chunk at full size.

        The bits of a chunk that is saturated at the probe's level are taken as they are: there
        the coefficients were fitted to nothing (`benchmarks/make_realtime_model.py`).

        Args:
          probe: of the chunk.
          stats: [T, 25] of its first pass.
          pixels: of a frame.
          header: bits of a frame's, see `env.control.rate.two_pass.empty_frame`.
        """
        known = features(probe, stats)
        there = float(qindex_octaves(probe.level))
        bits, error = (
            (float(base + c[0] - c[1] * there + np.array(c[2:]) @ known), float(c[1]))
            for base, c in ((probe.bits, self.bits), (probe.error, self.error))
        )
        found = ChunkForecast(probe.frames, pixels, header * probe.frames, bits, error)
        if found.curve(probe.level).psnr > SATURATED_DB:
            own = (probe.bits - self.bits[1] * there, self.bits[1])
            found = dataclasses.replace(found, bits=own)
        return found
