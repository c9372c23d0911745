"""How the chunks of a film share its bits: by equal slope, and anew as chunks are finished.

A probe encode tells of chunk c its headers H_c, which no quantizer can save, the bits V0_c
above them, and the error of its n_c frames, D0_c = sum of MSE. Quality grows by s dB with every
octave of bits (`Recipe.db_per_octave`), so that with V bits

    D_c(V) = D0_c (V / V0_c)^-a,    a = s / (10 log10 2)

Both means that encoders are compared by are made best together, with equal weight: PSNR avg, the
mean of frames' PSNR, and PSNR overall, that of the mean error. One more bit gains, up to a
constant, in chunk c

    (n_c / N + D_c / D) / V_c = lambda   for all c,    sum(H_c + V_c) = target

with N frames in the film and D = sum(D_c). The first term is PSNR avg's, by which every frame
counts alike, the second PSNR overall's, by which the worst count most. Ours, not the paper's.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from muzero_rc.env.codec.backend import ClipShape
from muzero_rc.env.codec.statistics import column, finite
from muzero_rc.env.control.probe_record import ProbeRecord
from muzero_rc.env.control.rate.probe import ProbeRateController
from muzero_rc.env.control.rate.two_pass import empty_frame
from muzero_rc.env.control.recipe import DEFAULT_RECIPE, Recipe
from muzero_rc.types import PEAK, EncodeLog

__all__ = [
    "MOST_PROBES",
    "Curve",
    "FilmBudget",
    "Whole",
    "bits_for_psnr",
    "curve_of",
    "first_shares",
    "is_far",
    "mean_psnr",
    "shares",
    "whole_of",
]

MOST_PROBES = 3
"""Probe encodes of a clip or chunk until its plan is near the bitrate that they lead to."""

# Octaves from the plan's bitrate at which a curve tells little, and libvpx's plan is another
# one; as far as the plan itself is often off. Set by hand.
FAR_OCTAVES = 1.0
# Numerical: how exactly the equations are solved, far below what an encode can keep to.
_HALVINGS = 60  # of an interval in log lambda, far below a bit
_MOST_ROUNDS = 60  # each at least halves what is left to go; some 30 are enough
_NEAR = 1e-9  # of a chunk's bits


@dataclass(frozen=True, slots=True)
class Curve:
    """What a chunk's bits buy.

    Attributes:
      fixed: bits of headers.
      bits: above those, in the probe encode.
      error: sum over shown frames of the mean squared error, there.
      least: fewest bits above headers that the quantizer's range allows.
      most: most of them.
      frames: shown ones.
      psnr: PSNR avg of the probe encode, dB.
      seconds: CPU time of libvpx there; 0 if it is not known.
    """

    fixed: float
    bits: float
    error: float
    least: float
    most: float
    frames: int
    psnr: float
    seconds: float = field(default=0.0, compare=False)


def curve_of(
    log: EncodeLog,
    clip: ClipShape,
    frame_budget: float,
    *,
    last: bool = False,
    recipe: Recipe = DEFAULT_RECIPE,
) -> Curve:
    """The curve through a probe encode.

    Args:
      log: of the probe encode.
      clip: the chunk.
      frame_budget: target bits per shown frame of the film.
      last: it is a last pass instead: frames need not be cheaper in another encode.
      recipe: the constants.
    """
    pixels = clip.width * clip.height
    floor = empty_frame(frame_budget, pixels, recipe=recipe)
    results = log.results
    fixed = log.superframe_index_bits + sum(min(float(r.bits), floor) for r in results)
    most_psnr = recipe.gop.max_psnr
    error = sum(PEAK**2 * 10.0 ** (-min(r.psnr, most_psnr) / 10.0) for r in results if r.shown)
    record = replace(ProbeRecord.of(log), refined=last)
    rate = ProbeRateController(frame_budget, record, clip.num_frames, pixels, recipe=recipe)
    least, most = (bits - fixed for bits in rate.range_of_bits())
    # A chunk of nothing but headers has no curve: a bit keeps the arithmetic going.
    bits = max(8.0 * log.size_bytes - fixed, 1.0)
    shown = [r.psnr for r in results if r.shown]
    return Curve(
        fixed, bits, max(error, 1e-9), max(least, 0.0), max(most, least, 1.0),
        frames=len(shown), psnr=statistics.fmean(shown),
        seconds=sum(r.cpu_seconds for r in results),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Whole:
    """What a chunk's frames and error are a part of.

    Attributes:
      frames: of the film.
      error: sum over its shown frames of the mean squared error.
    """

    frames: int
    error: float


def whole_of(curves: Sequence[Curve], bits: float, *, recipe: Recipe = DEFAULT_RECIPE) -> Whole:
    """The film with so many bits, shared by equal slope.

    Args:
      curves: of all its chunks.
      bits: of them all, above 0.
      recipe: the constants.
    """
    found = shares(curves, bits, recipe=recipe)
    steepness = _steepness(recipe)
    error = sum(
        curve.error * (max(share - curve.fixed, 1.0) / curve.bits) ** -steepness
        for curve, share in zip(curves, found.tolist(), strict=True)
    )
    return Whole(sum(curve.frames for curve in curves), error)


def shares(
    curves: Sequence[Curve],
    bits: float,
    *,
    whole: Whole | None = None,
    recipe: Recipe = DEFAULT_RECIPE,
) -> npt.NDArray[np.float64]:
    """Bits of each chunk by equal slope. [chunks].

    They add up to `bits`, also where that is more or less than the quantizer's range allows.

    Args:
      curves: of the chunks.
      bits: of them all, above 0.
      whole: the film that they are a part of; None if they are all of it.
      recipe: the constants.
    """
    fixed, probed, error, least, most, frames = (
        np.array([float(getattr(curve, name)) for curve in curves])
        for name in ("fixed", "bits", "error", "least", "most", "frames")
    )
    evenly = frames / (frames.sum() if whole is None else whole.frames)
    steepness = _steepness(recipe)
    level = np.log(error) + steepness * np.log(probed)  # log of D_c at V = 1
    free = np.clip(evenly * bits, np.maximum(least, 1.0), most)
    for _ in range(_MOST_ROUNDS):
        each = level - steepness * np.log(free)
        together = np.logaddexp.reduce(each) if whole is None else math.log(whole.error)
        worth = evenly + np.exp(each - together)
        found = _spent(worth, bits - float(fixed.sum()), least, most)
        # Half way, in octaves: the whole way would swing about what is sought.
        halfway = np.sqrt(free * np.maximum(found, 1.0))
        moved = float(np.abs(np.log(halfway / free)).max())
        free = halfway
        if moved < _NEAR:
            break
    total = fixed + found
    return np.asarray(total * (bits / total.sum()))


def _spent(
    worth: npt.NDArray[np.float64],
    bits: float,
    least: npt.NDArray[np.float64],
    most: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Bits in proportion to what they are worth, each in its range, in all as near as can be."""
    low = math.log(worth.min() / most.max()) - 1.0
    high = math.log(worth.max() / max(least.min(), 1e-3)) + 1.0
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        much = float(np.clip(worth * math.exp(-middle), least, most).sum()) > bits
        low, high = (middle, high) if much else (low, middle)
    return np.asarray(np.clip(worth * math.exp(-0.5 * (low + high)), least, most))


def _steepness(recipe: Recipe) -> float:
    """a: how fast the error falls with bits."""
    return recipe.db_per_octave / (10.0 * math.log10(2.0))


def is_far(kbps: float, planned_kbps: float) -> bool:
    """Whether a bitrate is so far from the plan's that the probe encode is made again."""
    return abs(math.log2(kbps / planned_kbps)) > FAR_OCTAVES


def mean_psnr(curves: Sequence[Curve], bits: float, *, recipe: Recipe = DEFAULT_RECIPE) -> float:
    """PSNR avg, dB, that is expected of so many bits, by the probe encodes' curves.

    Args:
      curves: of the chunks.
      bits: of them all, above 0; each gets its share.
      recipe: the constants.
    """
    found = shares(curves, bits, recipe=recipe)
    total = 0.0
    for curve, share in zip(curves, found, strict=True):
        octaves = math.log2(max(share - curve.fixed, 1.0) / curve.bits)
        total += curve.frames * (curve.psnr + recipe.db_per_octave * octaves)
    return total / sum(curve.frames for curve in curves)


def bits_for_psnr(
    curves: Sequence[Curve], psnr: float, *, recipe: Recipe = DEFAULT_RECIPE
) -> float:
    """Bits of all chunks from which a PSNR avg is expected: `mean_psnr` solved for them.

    Args:
      curves: of the chunks.
      psnr: dB.
      recipe: the constants.
    """
    low = math.log(sum(curve.fixed + curve.least for curve in curves) + 1.0)
    high = math.log(sum(curve.fixed + curve.most for curve in curves) + 1.0)
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        much = mean_psnr(curves, math.exp(middle), recipe=recipe) > psnr
        low, high = (low, middle) if much else (middle, high)
    return math.exp(0.5 * (low + high))


def first_shares(stats: npt.NDArray[np.float64], starts: Sequence[int]) -> npt.NDArray[np.float64]:
    """Shares of the bits before any probe encode, as libvpx would plan them. [chunks], sum 1.

    libvpx gives a frame bits with the square root of its coded error and weight, by its
    default bias of 50% between equal bits and equal quality.

    Args:
      stats: [T, 25] of the film's first pass.
      starts: first frame of each chunk.
    """
    sane = finite(stats)
    score = np.sqrt(np.maximum(sane[:, column("coded_error")] * sane[:, column("weight")], 1e-6))
    found = np.add.reduceat(score, np.asarray(starts))
    return np.asarray(found / found.sum())


class FilmBudget:
    """Tells each chunk its share, knowing what chunks before it took.

    A share depends on the order of chunks and on nothing else, neither on the number of
    workers nor on who finishes first: the first half of the film has its shares from the
    probes; each chunk of the second half knows what all took that are half a film or more
    before it. So half of all chunks may be in work at a time.
    """

    def __init__(
        self, curves: Sequence[Curve], bits: float, *, recipe: Recipe = DEFAULT_RECIPE
    ) -> None:
        """Takes the chunks' curves, the bits of the film, and the constants."""
        self._curves = curves
        self._bits = bits
        self._recipe = recipe
        self._whole = whole_of(curves, bits, recipe=recipe)
        self._lag = (len(curves) + 1) // 2

    @property
    def seconds(self) -> list[float]:
        """CPU time of the chunks' probe encodes; 0 where it is not known."""
        return [curve.seconds for curve in self._curves]

    def known_before(self, index: int) -> range:
        """The chunks that must be finished before a chunk gets its share."""
        return range(max(index - self._lag + 1, 0))

    @property
    def unsettled(self) -> range:
        """Chunks that no later one makes up for."""
        count = len(self._curves)
        return range(len(self.known_before(count - 1)), count)

    def first_shares(self) -> npt.NDArray[np.float64]:
        """Bits of all chunks before any of them is known. [chunks]."""
        return shares(self._curves, self._bits, whole=self._whole, recipe=self._recipe)

    def share(self, index: int, asked: Mapping[int, float], taken: Mapping[int, float]) -> float:
        """Bits that a chunk is asked to take.

        Args:
          index: of the chunk.
          asked: of all chunks before it.
          taken: bits of those in `known_before`; more are not looked at.
        """
        known = self.known_before(index)
        landing = statistics.median(taken[i] / asked[i] for i in known) if known else 1.0
        spent = sum(taken[i] for i in known)
        expected = landing * sum(asked[i] for i in range(len(known), index))
        ahead = self._curves[index:]
        # The last chunks cannot pay back more than there is above their headers.
        least = sum(curve.fixed + curve.least for curve in ahead)
        left = max(self._bits - spent - expected, least, float(len(ahead)))
        return float(shares(ahead, left, whole=self._whole, recipe=self._recipe)[0]) / landing
