"""Leaky bucket: what a decoder's buffer, filled at the target rate, makes of an encode.

The hypothetical reference decoder of one rate and one buffer size (Ribas-Corbera, Chou and
Regunathan, "A generalized hypothetical reference decoder for H.264/AVC", IEEE Trans. CSVT
13(7), 2003), in its variable-rate form: a full buffer takes no more bits. libvpx's two-pass
VBR promises nothing here; the numbers say what a player on a line of the target rate would
feel.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from muzero_rc.errors import InputError
from muzero_rc.types import FrameResult

__all__ = [
    "BUFFER_SIZES_S",
    "BufferRun",
    "buffer_report",
    "buffer_summary",
    "drain",
    "needed_seconds",
    "packet_bits",
]

BUFFER_SIZES_S = (0.5, 1.0, 2.0)
"""Sizes that are reported, in seconds at the target rate."""


@dataclass(frozen=True, slots=True)
class BufferRun:
    """One encode through one buffer.

    Attributes:
      underflows: shown frames whose bits were not all there in time.
      stall_s: how long playback waited for them, all together.
    """

    underflows: int
    stall_s: float


def packet_bits(frames: Iterable[FrameResult]) -> list[int]:
    """Bits that arrive for each shown frame; hidden ones come with the next shown one.

    Args:
      frames: results of all coded frames, in coding order.

    Returns:
      [T] bits, in display order. What binds hidden frames to shown ones (some bytes) is
      not in it.
    """
    packets = []
    waiting = 0
    for frame in frames:
        waiting += frame.bits
        if frame.shown:
            packets.append(waiting)
            waiting = 0
    return packets


def drain(packets: Sequence[int], kbps: float, fps: Fraction | float, size_s: float) -> BufferRun:
    """Plays an encode from a buffer that starts full.

    Each frame takes its bits at once; until the next one the buffer gains rate / fps, at
    most to its size. A frame whose bits are not all there waits for them; playback then goes
    on from an empty buffer.

    Args:
      packets: [T] bits of each shown frame.
      kbps: rate at which the buffer fills, kbit/s.
      fps: shown frames per second.
      size_s: size of the buffer in seconds at that rate.

    Raises:
      InputError: rate, frame rate or size is not positive.
    """
    rate = _check(kbps, fps)
    if not size_s > 0:
        raise InputError(f"a buffer needs a positive size, not {size_s:g} s")
    size = level = size_s * rate
    underflows, stall = 0, 0.0
    for bits in packets:
        if bits > level * (1 + 1e-12):  # an exact fit must not fail by a rounding error
            underflows += 1
            stall += (bits - level) / rate
        level = min(max(level - bits, 0.0) + rate / float(fps), size)
    return BufferRun(underflows, stall)


def needed_seconds(packets: Sequence[int], kbps: float, fps: Fraction | float) -> float:
    """Smallest buffer, in seconds at the target rate, that never underflows.

    The peak of the mirrored bucket on the encoder's side, which every frame fills with its
    bits and which leaks rate / fps between frames.

    Raises:
      InputError: rate or frame rate is not positive.
    """
    rate = _check(kbps, fps)
    level = peak = 0.0
    for bits in packets:
        level += bits
        peak = max(peak, level)
        level = max(level - rate / float(fps), 0.0)
    return peak / rate


def buffer_report(
    frames: Iterable[FrameResult], kbps: float, fps: Fraction | float
) -> dict[str, Any]:
    """`needed_s`, and for each of `BUFFER_SIZES_S` under `sizes` its `BufferRun`; for JSON."""
    packets = packet_bits(frames)
    return {
        "needed_s": needed_seconds(packets, kbps, fps),
        "sizes": {f"{s:g}": asdict(drain(packets, kbps, fps, s)) for s in BUFFER_SIZES_S},
    }


def buffer_summary(reports: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Over encodes: how many violate each size, and the buffer they need.

    Args:
      reports: `buffer_report` of each encode; empty ones (older files) are left out.

    Returns:
      `n`; `needed_s_median`, `needed_s_p95`, `needed_s_worst`; by size `share_violating`
      (encodes with an underflow), `underflows` and `stall_s` (means per encode). None for no
      report.
    """
    reports = [r for r in reports if r]
    if not reports:
        return None
    needed = [r["needed_s"] for r in reports]
    sizes = {}
    for size in reports[0]["sizes"]:
        runs = [r["sizes"][size] for r in reports if size in r["sizes"]]
        sizes[size] = {
            "share_violating": float(np.mean([run["underflows"] > 0 for run in runs])),
            "underflows": float(np.mean([run["underflows"] for run in runs])),
            "stall_s": float(np.mean([run["stall_s"] for run in runs])),
        }
    return {
        "n": len(reports),
        "needed_s_median": float(np.median(needed)),
        "needed_s_p95": float(np.percentile(needed, 95)),
        "needed_s_worst": float(max(needed)),
        "sizes": sizes,
    }


def _check(kbps: float, fps: Fraction | float) -> float:
    """Bits per second."""
    for name, value in (("rate", kbps), ("frame rate", fps)):
        if not (math.isfinite(value) and value > 0):
            raise InputError(f"a buffer needs a positive {name}, not {float(value):g}")
    return 1000.0 * kbps
