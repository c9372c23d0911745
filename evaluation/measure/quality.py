"""Quality of an encoded clip from the quality of its frames."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction

import numpy as np

from muzero_rc.errors import InputError
from muzero_rc.types import FrameResult, psnr_db

__all__ = ["ClipQuality", "Spread", "clip_quality", "spread"]


@dataclass(frozen=True, slots=True)
class Spread:
    """A measure of quality over the shown frames of a clip, in the measure's unit.

    Attributes:
      mean: over frames.
      worst: the lowest frame.
      p5: 5th percentile, linear between frames.
      deviation: standard deviation (of all frames, not of a sample): flicker.
      last_second: mean of the last second; rate controls that run out of bits collapse there.
    """

    mean: float
    worst: float
    p5: float
    deviation: float
    last_second: float

    def as_dict(self) -> dict[str, float]:
        """Plain values, for JSON."""
        return asdict(self)


def spread(values: Sequence[float], fps: Fraction | float) -> Spread:
    """Aggregates a measure of quality over frames.

    Args:
      values: [T] one number per shown frame, in display order.
      fps: shown frames per second.

    Raises:
      InputError: there is no frame.
    """
    every = np.asarray(values, np.float64)
    if not every.size:
        raise InputError("no frame is shown, so there is no quality to measure")
    tail = min(every.size, max(1, math.ceil(fps)))
    return Spread(
        mean=float(every.mean()),
        worst=float(every.min()),
        p5=float(np.percentile(every, 5)),
        deviation=float(every.std()),
        last_second=float(every[-tail:].mean()),
    )


@dataclass(frozen=True, slots=True)
class ClipQuality:
    """PSNR of a clip, dB; frames are the shown ones.

    Attributes:
      avg: mean over frames of the frame's PSNR over Y+U+V.
      overall: PSNR of the clip's summed squared error over Y+U+V.
      y: mean over frames of the PSNR of luma.
      u: mean over frames of the PSNR of U.
      v: mean over frames of the PSNR of V.
      worst: lowest frame PSNR over Y+U+V.
      p5: 5th percentile of the frame PSNR over Y+U+V.
      deviation: standard deviation of the frame PSNR over Y+U+V.
      last_second: mean frame PSNR over Y+U+V of the last second: rate controls that run
        out of bits collapse there.
    """

    avg: float
    overall: float
    y: float
    u: float
    v: float
    worst: float
    p5: float
    deviation: float
    last_second: float


def clip_quality(frames: Iterable[FrameResult], fps: Fraction | float) -> ClipQuality:
    """Aggregates as `vpxenc --psnr` does: overall, avg, Y, U, V.

    Formulas as in libvpx's `vpxenc.c` (show_psnr) and `vpx_dsp/psnr.c`: `avg`, Y, U and V
    are means over frames of 10 log10(samples * 255^2 / sse), `overall` takes the same
    logarithm of the sums.

    Args:
      frames: results of all coded frames; hidden ones are left out.
      fps: shown frames per second.

    Raises:
      InputError: no frame is shown.
    """
    shown = sorted((f for f in frames if f.shown), key=lambda f: f.show_index)
    joint = spread([f.psnr for f in shown], fps)
    planes = [
        float(np.mean([psnr_db(f.sse[plane], f.samples[plane]) for f in shown]))
        for plane in range(3)
    ]
    return ClipQuality(
        avg=joint.mean,
        overall=psnr_db(sum(sum(f.sse) for f in shown), sum(sum(f.samples) for f in shown)),
        y=planes[0],
        u=planes[1],
        v=planes[2],
        worst=joint.worst,
        p5=joint.p5,
        deviation=joint.deviation,
        last_second=joint.last_second,
    )
