"""Target bitrates: given as a list, or chosen for a clip from what VBR reaches on it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from muzero_rc.errors import InputError

__all__ = ["AUTO_COUNT", "AutoTargets", "Probe", "auto_targets", "first_guess", "parse_targets"]

AUTO_COUNT = 5
LOW_DB = 30.0
HIGH_DB = 45.0
TOLERANCE_DB = 0.75
MAX_PROBES = 5
"""Most probes for one end of the range."""

_MAX_KBPS = 1_000_000
# Rule of thumb until two probes of the clip itself give a slope.
_DB_PER_DOUBLING = 4.0
# VBR misses by up to 17 % in the middle of its range; beyond this ratio it has hit the
# end of its quantizers.
_SATURATED = 1.3
_MARGIN = 1.05


@dataclass(frozen=True, slots=True)
class Probe:
    """A VBR encode: what was asked for and what came out."""

    target_kbps: int
    actual_kbps: float
    psnr_avg: float


@dataclass(frozen=True, slots=True)
class AutoTargets:
    """Targets chosen for a clip.

    Attributes:
      targets_kbps: rising, evenly spaced in log rate up to rounding.
      low_kbps: lower end of the range, an actual bitrate of VBR.
      high_kbps: upper end.
      low_db: PSNR avg of VBR at the lower end.
      high_db: PSNR avg of VBR at the upper end.
      widened: VBR's own range is too narrow for distinct targets, so they leave it.
      probes: all encodes made, rising in target.
    """

    targets_kbps: tuple[int, ...]
    low_kbps: float
    high_kbps: float
    low_db: float
    high_db: float
    widened: bool
    probes: tuple[Probe, ...]


def parse_targets(text: str) -> tuple[int, ...] | None:
    """Reads `auto` (None) or a list as `256,384,512`, in kbit/s; sorted, each once.

    Raises:
      InputError: an entry is not a whole number of at least 1.
    """
    if text.strip().lower() == "auto":
        return None
    values: set[int] = set()
    for part in text.split(","):
        entry = part.strip()
        if not (entry.isascii() and entry.isdigit()) or not 1 <= int(entry) <= _MAX_KBPS:
            raise InputError(
                f"target {entry!r} is not a bitrate: give whole kbit/s from 1 to {_MAX_KBPS}"
                " as in --targets 256,384,512, or --targets auto"
            )
        values.add(int(entry))
    return tuple(sorted(values))


def first_guess(width: int, height: int, fps: float) -> int:
    """A middling bitrate for a size: 0.05 bit per pixel."""
    return _clamp(0.05 * width * height * fps / 1000.0)


def auto_targets(
    probe: Callable[[int], Probe],
    start_kbps: int,
    *,
    count: int = AUTO_COUNT,
    low_db: float = LOW_DB,
    high_db: float = HIGH_DB,
    max_probes: int = MAX_PROBES,
) -> AutoTargets:
    """`count` targets, evenly spaced in log rate, where VBR gives about 30 to 45 dB.

    Each end is sought by interpolating PSNR over log2 target between the nearest
    probes on either side (or extrapolating until there are two sides) and is met
    within `TOLERANCE_DB`. Where VBR's quantizers end before the wanted quality, its
    last actual bitrate, moved 5 % inwards, is the end.

    Args:
      probe: encodes the clip by two-pass VBR at a target in kbit/s.
      start_kbps: first target to try (`first_guess`).
      count: number of targets, at least 2.
      low_db: PSNR avg wanted at the lower end.
      high_db: PSNR avg wanted at the upper end.
      max_probes: most encodes for each end.
    """
    if count < 2:
        raise InputError(f"auto targets need a count of at least 2, not {count}")
    seen: dict[int, Probe] = {}
    low, low_saturated = _seek(probe, seen, start_kbps, low_db, max_probes)
    high, high_saturated = _seek(probe, seen, start_kbps, high_db, max_probes)
    low_kbps = low.actual_kbps * (_MARGIN if low_saturated else 1.0)
    high_kbps = high.actual_kbps / (_MARGIN if high_saturated else 1.0)
    low_kbps = max(low_kbps, 1.0)
    narrowest = low_kbps * 1.1 ** (count - 1)
    widened = high_kbps < narrowest
    targets: list[int] = []
    for value in np.geomspace(low_kbps, max(high_kbps, narrowest), count):
        least = targets[-1] + 1 if targets else 1
        targets.append(max(_clamp(float(value)), least))
    return AutoTargets(
        targets_kbps=tuple(targets),
        low_kbps=low_kbps,
        high_kbps=high_kbps,
        low_db=low.psnr_avg,
        high_db=high.psnr_avg,
        widened=widened,
        probes=tuple(seen[k] for k in sorted(seen)),
    )


def _seek(
    probe: Callable[[int], Probe],
    seen: dict[int, Probe],
    start_kbps: int,
    goal_db: float,
    max_probes: int,
) -> tuple[Probe, bool]:
    """The probe nearest to a quality, and whether VBR ends before it."""
    for _ in range(max_probes):
        if seen:
            best = _nearest(seen, goal_db)
            if abs(best.psnr_avg - goal_db) <= TOLERANCE_DB or _is_end(best, goal_db):
                break
        kbps = _next_target(seen, start_kbps, goal_db)
        if kbps in seen:
            break
        seen[kbps] = probe(kbps)
    best = _nearest(seen, goal_db)
    return best, _is_end(best, goal_db)


def _nearest(seen: dict[int, Probe], goal_db: float) -> Probe:
    return min(seen.values(), key=lambda p: (abs(p.psnr_avg - goal_db), p.target_kbps))


def _is_end(found: Probe, goal_db: float) -> bool:
    if found.psnr_avg > goal_db:
        return found.actual_kbps > _SATURATED * found.target_kbps or found.target_kbps == 1
    return found.actual_kbps * _SATURATED < found.target_kbps or found.target_kbps == _MAX_KBPS


def _next_target(seen: dict[int, Probe], start_kbps: int, goal_db: float) -> int:
    if not seen:
        return start_kbps
    points = [(math.log2(p.target_kbps), p.psnr_avg) for _, p in sorted(seen.items())]
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if y0 <= goal_db <= y1 and y1 > y0:
            return _clamp(2.0 ** (x0 + (goal_db - y0) / (y1 - y0) * (x1 - x0)))
    x, y = min(points, key=lambda point: abs(point[1] - goal_db))
    slope = _DB_PER_DOUBLING
    if len(points) > 1:
        (x0, y0), (x1, y1) = points[:2] if goal_db < y else points[-2:]
        slope = min(max((y1 - y0) / (x1 - x0), 1.0), 8.0)
    step = min(max((goal_db - y) / slope, -5.0), 5.0)
    return _clamp(2.0 ** (x + step))


def _clamp(kbps: float) -> int:
    return int(min(max(round(kbps), 1), _MAX_KBPS))
