"""From encodes to BD-rates and to the few numbers a reader wants first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from muzero_rc.errors import InputError
from muzero_rc.evaluation.bd_rate import bd_psnr, bd_rate
from muzero_rc.evaluation.landing import landing, within_reach
from muzero_rc.evaluation.results import METRICS, BdEntry, EncodeRecord, TargetEntry
from muzero_rc.evaluation.statistics import bootstrap_mean

__all__ = ["ANCHOR", "CONTROL", "compare", "mark_targets", "summarize"]

ANCHOR = "vbr"
"""The method that BD-rates are measured against."""

CONTROL = "proposal"
"""libvpx's own proposals applied verbatim; stands in every table."""


def mark_targets(
    targets: Iterable[tuple[str, int]], encodes: Iterable[EncodeRecord]
) -> list[TargetEntry]:
    """Marks each (clip, target) with what VBR made of it."""
    anchors = {(e.clip, e.target_kbps): e.actual_kbps for e in encodes if e.method == ANCHOR}
    marked = []
    for clip, target_kbps in targets:
        actual = anchors.get((clip, target_kbps))
        reachable = actual is None or within_reach(target_kbps, actual)
        marked.append(
            TargetEntry(clip=clip, target_kbps=target_kbps, vbr_kbps=actual, reachable=reachable)
        )
    return marked


def compare(
    encodes: Sequence[EncodeRecord], clips: Sequence[str], methods: Sequence[str]
) -> list[BdEntry]:
    """BD-rate of each method but the anchor on each clip, for each metric.

    Every (clip, method, metric) has an entry, defined or not. Encodes with the same
    rate and quality (two targets that ended in the same stream) count as one point.
    """
    entries = []
    for clip in clips:
        for method in methods:
            if method == ANCHOR:
                continue
            for metric in METRICS:
                anchor, again = _points(encodes, clip, ANCHOR, metric)
                test, test_again = _points(encodes, clip, method, metric)
                entries.append(_entry(clip, method, metric, anchor, test, again + test_again))
    return entries


def _points(
    encodes: Sequence[EncodeRecord], clip: str, method: str, metric: str
) -> tuple[list[tuple[float, float]], int]:
    """Distinct (rate, quality) points and the number of repeated ones."""
    every = [
        (e.actual_kbps, float(getattr(e, metric)))
        for e in encodes
        if e.clip == clip and e.method == method
    ]
    distinct = list(dict.fromkeys(every))
    return distinct, len(every) - len(distinct)


def _entry(
    clip: str,
    method: str,
    metric: str,
    anchor: list[tuple[float, float]],
    test: list[tuple[float, float]],
    repeated: int,
) -> BdEntry:
    rates, qualities = [p[0] for p in anchor], [p[1] for p in anchor]
    test_rates, test_qualities = [p[0] for p in test], [p[1] for p in test]
    try:
        rate = bd_rate(rates, qualities, test_rates, test_qualities)
        psnr = bd_psnr(rates, qualities, test_rates, test_qualities)
    except InputError as error:
        return BdEntry(
            clip=clip, method=method, metric=metric, percent=None, overlap=0.0, db=None,
            reason=str(error), dropped=repeated,
        )  # fmt: skip
    return BdEntry(
        clip=clip, method=method, metric=metric, percent=rate.percent, overlap=rate.overlap,
        db=psnr.db, reason=rate.reason, dropped=rate.dropped + repeated,
    )  # fmt: skip


def summarize(
    encodes: Sequence[EncodeRecord],
    targets: Sequence[TargetEntry],
    bd: Sequence[BdEntry],
    methods: Sequence[str],
) -> dict[str, Any]:
    """By method: statistics of each metric's BD-rate, landing, time.

    `landing` is over all encodes: leaving out targets that VBR misses would judge VBR
    only where it does well. `landing_reachable` is over the reachable ones.
    """
    reachable = {(t.clip, t.target_kbps) for t in targets if t.reachable}
    time_of_anchor = sum(e.seconds for e in encodes if e.method == ANCHOR)
    count_of_anchor = sum(e.method == ANCHOR for e in encodes)
    summary: dict[str, Any] = {}
    for method in methods:
        mine = [e for e in encodes if e.method == method]
        entry: dict[str, Any] = {}
        if method != ANCHOR:
            for metric in METRICS:
                entry[metric] = _statistics(
                    [b.percent for b in bd if b.method == method and b.metric == metric]
                )
        every = landing((e.target_kbps, e.actual_kbps) for e in mine)
        reached = landing(
            (e.target_kbps, e.actual_kbps) for e in mine if (e.clip, e.target_kbps) in reachable
        )
        entry["landing"] = every.as_dict() if every else None
        entry["landing_reachable"] = reached.as_dict() if reached else None
        seconds = sum(e.seconds for e in mine)
        decision = sum(e.decision_seconds for e in mine)
        complete = len(mine) == count_of_anchor and time_of_anchor > 0
        entry["time"] = {
            "seconds": seconds,
            "decision_seconds": decision,
            "preparation_seconds": sum(e.preparation_seconds for e in mine),
            "decision_share": decision / seconds if seconds > 0 else None,
            "of_anchor": seconds / time_of_anchor if complete else None,
        }
        summary[method] = entry
    return summary


def _statistics(percents: Sequence[float | None]) -> dict[str, Any]:
    defined = [p for p in percents if p is not None]
    interval = bootstrap_mean(defined) if defined else None
    return {
        "mean": float(np.mean(defined)) if defined else None,
        "median": float(np.median(defined)) if defined else None,
        "n": len(defined),
        "n_undefined": len(percents) - len(defined),
        "share_better": float(np.mean(np.array(defined) < 0)) if defined else None,
        "interval": [interval.low, interval.high] if interval else None,
        "confidence": interval.confidence if interval else None,
    }
