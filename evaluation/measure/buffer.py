"""Leaky bucket: what a decoder's buffer, filled at the target rate, makes of an encode.

The model is `muzero_rc.leaky_bucket`, which `encode --max-bitrate` keeps to. libvpx's two-pass
VBR promises nothing here; the numbers say what a player on a line of the target rate would
feel.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from fractions import Fraction
from typing import Any

import numpy as np

from muzero_rc.leaky_bucket import BufferRun, drain, needed_seconds
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
