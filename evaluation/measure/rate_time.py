"""What bits cost in time: BD-rate against encoding time, for methods at several speeds."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from muzero_rc.errors import InputError
from muzero_rc.evaluation.measure.summary import ANCHOR, NOISE, bd_entry, encoding_seconds
from muzero_rc.evaluation.results import FRAME_METRICS, EncodeRecord, Results, metrics_of

__all__ = ["RateTimePoint", "below_the_curve", "rate_time", "without_speed"]

_SPEED = re.compile(r"(?<=[@,])speed=\d+,?")


@dataclass(frozen=True, slots=True)
class RateTimePoint:
    """A method at a speed.

    Attributes:
      method: its name without the speed.
      speed: libvpx's cpu-used; None for other encoders.
      percent: mean over clips of the BD-rate against the anchor; None if undefined on all.
      n: clips on which it is defined.
      n_undefined: clips on which it is not.
      seconds: mean of an encode, preparation included, first pass not.
      of_anchor: that time over the anchor's, on the (clip, target) pairs that both have.
      is_anchor: it is what the others are compared with.
    """

    method: str
    speed: int | None
    percent: float | None
    n: int
    n_undefined: int
    seconds: float
    of_anchor: float
    is_anchor: bool

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def rate_time(evaluations: Sequence[Results], metric: str = "psnr_avg") -> list[RateTimePoint]:
    """Every method at every speed of one or several evaluations of the same clips.

    The anchor is `vbr` of the first one, at its speed. Clips are told apart by their
    frames. A-A runs are left out. Of encodes that several evaluations have, the first's
    count.

    Args:
      evaluations: their encodes are put together.
      metric: that BD-rates are taken by.

    Returns:
      Points, by method in the order of appearance, then by speed.

    Raises:
      InputError: no anchor, a metric that nobody measured, or clips that no method shares
        with the anchor.
    """
    every = [e for results in evaluations for e in results.encodes]
    known = (*metrics_of(every), *FRAME_METRICS)
    if metric not in known:
        raise InputError(f"these results have no {metric}; give one of {', '.join(known)}")
    groups: dict[tuple[str, int | None], dict[tuple[str, int], EncodeRecord]] = {}
    for record in every:
        if record.method == NOISE:
            continue
        pair = (record.clip_sha256, record.target_kbps)
        groups.setdefault(without_speed(record), {}).setdefault(pair, record)
    first = next((e for e in every if e.method == ANCHOR), None)
    if first is None:
        raise InputError(f"these results have no encode by {ANCHOR}")
    base = without_speed(first)
    anchor = groups[base]
    order = list(dict.fromkeys(method for method, _ in groups))
    points = []
    for (method, speed), mine in groups.items():
        shared = [pair for pair in mine if pair in anchor]
        if not shared:
            raise InputError(
                f"{method} shares no clip and target with {ANCHOR}; evaluate the same"
                " clips at the same --targets"
            )
        clips = dict.fromkeys(clip for clip, _ in shared)
        percents = []
        for clip in clips:
            entry = bd_entry(clip, method, metric, _of(anchor, clip), _of(mine, clip))
            if entry.percent is not None:
                percents.append(entry.percent)
        is_anchor = (method, speed) == base
        points.append(
            RateTimePoint(
                method=method,
                speed=speed,
                percent=0.0 if is_anchor else sum(percents) / len(percents) if percents else None,
                n=len(clips) if is_anchor else len(percents),
                n_undefined=0 if is_anchor else len(clips) - len(percents),
                seconds=encoding_seconds(mine.values()) / len(mine),
                of_anchor=encoding_seconds(mine[p] for p in shared)
                / encoding_seconds(anchor[p] for p in shared),
                is_anchor=is_anchor,
            )
        )
    return sorted(points, key=lambda p: (order.index(p.method), p.speed or 0))


def below_the_curve(points: Sequence[RateTimePoint], point: RateTimePoint) -> float | None:
    """How far a point lies below the anchor's curve of BD-rate over log time, at its own time.

    The curve is straight between the anchor's speeds. Where a slower speed is no better than a
    faster one, the faster one takes its place: nobody would wait for less. A point that takes
    longer than the slowest of them is compared with it, one that takes less time than the
    fastest with that.

    Args:
      points: of `rate_time`; those of the anchor at its speeds make the curve.
      point: one of them.

    Returns:
      Points of BD-rate, positive where fewer bits are needed than the anchor needs in the same
      time. None where the point has no BD-rate, or fewer than two speeds make the curve.
    """
    curve = sorted(
        (p.of_anchor, p.percent) for p in points if p.method == ANCHOR and p.percent is not None
    )
    best: list[tuple[float, float]] = []
    for time, percent in curve:
        if not best or percent < best[-1][1]:
            best.append((time, percent))
    if point.percent is None or len(best) < 2:
        return None
    times = [math.log(time) for time, _ in best]
    rate = np.interp(math.log(point.of_anchor), times, [percent for _, percent in best])
    return float(rate) - point.percent


def without_speed(record: EncodeRecord) -> tuple[str, int | None]:
    """A method's name without its speed, and the speed; None where an encoder has none.

    So the points of `rate_time` are named.
    """
    name = _SPEED.sub("", record.method).rstrip("@,")
    speed = record.settings.get("speed")
    return name, speed if isinstance(speed, int) else None


def _of(group: dict[tuple[str, int], EncodeRecord], clip: str) -> list[EncodeRecord]:
    return [record for (of, _), record in group.items() if of == clip]
