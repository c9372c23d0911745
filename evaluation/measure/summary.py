"""From encodes to BD-rates and to the few numbers a reader wants first."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from muzero_rc.errors import InputError
from muzero_rc.evaluation.measure.at_target import TOLERANCES, Outcome, at_target
from muzero_rc.evaluation.measure.bd_rate import bd_psnr, bd_rate
from muzero_rc.evaluation.measure.buffer import buffer_summary
from muzero_rc.evaluation.measure.frame_trace import FrameTrace
from muzero_rc.evaluation.measure.rate_accuracy import rate_accuracy, within_reach
from muzero_rc.evaluation.measure.statistics import (
    bootstrap_mean,
    bootstrap_within,
    holm,
    signed_rank,
    source_means,
)
from muzero_rc.evaluation.results import (
    MEASURED_METRICS,
    BdEntry,
    EncodeRecord,
    TargetEntry,
    metrics_of,
)

__all__ = [
    "ANCHOR",
    "CONTROL",
    "LOW_OVERLAP",
    "NOISE",
    "bd_entry",
    "compare",
    "encoding_seconds",
    "log_ratio",
    "mark_targets",
    "summarize",
    "time_ratio",
]

ANCHOR = "vbr"
"""The method that BD-rates are measured against."""

CONTROL = "proposal"
"""libvpx's own proposals applied verbatim; stands in every table."""

NOISE = "vbr-aa"
"""A/A run: the anchor again, at targets moved by a percent; in a table only if asked for."""

LOW_OVERLAP = 0.75
"""BD-rates from less overlap than this are marked and counted."""


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
    metrics = metrics_of(encodes)
    groups: dict[tuple[str, str], list[EncodeRecord]] = {}
    for record in encodes:
        groups.setdefault((record.clip, record.method), []).append(record)
    for clip in clips:
        anchor = groups.get((clip, ANCHOR), [])
        for method in methods:
            if method != ANCHOR:
                test = groups.get((clip, method), [])
                entries += [bd_entry(clip, method, metric, anchor, test) for metric in metrics]
    return entries


def bd_entry(
    clip: str,
    method: str,
    metric: str,
    anchor: Sequence[EncodeRecord],
    test: Sequence[EncodeRecord],
) -> BdEntry:
    """BD-rate and mean difference in quality of one clip's encodes against the anchor's.

    Args:
      clip: name of the clip.
      method: name of the method.
      metric: see `metrics_of`; encodes without it are left out.
      anchor: the anchor's encodes of the clip.
      test: the method's.
    """
    anchor_points, shows_existing = _points(anchor, metric)
    test_points, test_repeated = _points(test, metric)
    shows_existing += test_repeated
    if not anchor_points and not test_points and metric in MEASURED_METRICS:
        return BdEntry(
            clip=clip, method=method, metric=metric, percent=None, overlap=0.0, db=None,
            reason="not measured on this clip", dropped=0,
        )  # fmt: skip
    curves = (*_columns(anchor_points), *_columns(test_points))
    try:
        rate, psnr = bd_rate(*curves), bd_psnr(*curves)
    except InputError as error:
        return BdEntry(
            clip=clip, method=method, metric=metric, percent=None, overlap=0.0, db=None,
            reason=str(error), dropped=shows_existing,
        )  # fmt: skip
    return BdEntry(
        clip=clip, method=method, metric=metric, percent=rate.percent, overlap=rate.overlap,
        db=psnr.db, reason=rate.reason, dropped=rate.dropped + shows_existing,
    )  # fmt: skip


def _points(encodes: Sequence[EncodeRecord], metric: str) -> tuple[list[tuple[float, float]], int]:
    """Distinct (rate, quality) points and the number of repeated ones."""
    levels = [(e.actual_kbps, e.level(metric)) for e in encodes]
    every = [(rate, level) for rate, level in levels if level is not None]
    distinct = list(dict.fromkeys(every))
    return distinct, len(every) - len(distinct)


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [rate for rate, _ in points], [level for _, level in points]


def log_ratio(percent: float) -> float:
    """ln of the ratio of rates that a BD-rate stands for: +100 % and -50 % are opposites."""
    return math.log1p(percent / 100.0)


def summarize(
    encodes: Sequence[EncodeRecord],
    targets: Sequence[TargetEntry],
    bd: Sequence[BdEntry],
    methods: Sequence[str],
    sources: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """By method: statistics of each metric's BD-rate, bitrate accuracy, quality at target, time.

    `landing` is over all encodes: leaving out targets that VBR misses would rate VBR
    only where it does well. `landing_reachable` is over the reachable ones.

    Args:
      encodes: all of them.
      targets: all (clip, target).
      bd: what `compare` made of the encodes.
      methods: in the order of the table.
      sources: source of each clip; a clip that is not in it is its own.
    """
    reachable = {(t.clip, t.target_kbps) for t in targets if t.reachable}
    anchor = [e for e in encodes if e.method == ANCHOR]
    metrics = tuple(dict.fromkeys(b.metric for b in bd)) or metrics_of(encodes)
    of_clip = {b.clip: b.clip for b in bd} | dict(sources or {})
    summary: dict[str, Any] = {}
    for method in methods:
        mine = [e for e in encodes if e.method == method]
        entry: dict[str, Any] = {}
        if method != ANCHOR:
            for metric in metrics:
                entry[metric] = _statistics(
                    [b for b in bd if b.method == method and b.metric == metric], of_clip
                )
        every = rate_accuracy((e.asked_kbps, e.actual_kbps) for e in mine)
        reached = rate_accuracy(
            (e.asked_kbps, e.actual_kbps) for e in mine if (e.clip, e.target_kbps) in reachable
        )
        entry["landing"] = every.as_dict() if every else None
        entry["landing_reachable"] = reached.as_dict() if reached else None
        entry["at_target"] = _at_target(encodes, mine, metrics)
        entry["buffer"] = buffer_summary([e.buffer for e in mine])
        entry["repeated_share"] = _repeated_share(mine)
        entry["time"] = _time(mine, anchor)
        summary[method] = entry
    _add_tests(summary, bd, of_clip)
    return summary


def _statistics(entries: Sequence[BdEntry], sources: Mapping[str, str]) -> dict[str, Any]:
    found = [(b, b.percent) for b in entries if b.percent is not None]
    percents = [p for _, p in found]
    of_value = [sources[b.clip] for b, _ in found]
    gains = [b.db for b in entries if b.db is not None]
    interval = bootstrap_mean(percents, sources=of_value) if found else None
    within = bootstrap_within(percents, of_value) if found else None
    return {
        "mean": float(np.mean(percents)) if found else None,
        "median": float(np.median(percents)) if found else None,
        "mean_db": float(np.mean(gains)) if gains else None,
        "n": len(found),
        "n_undefined": len(entries) - len(found),
        "n_sources": len(set(of_value)),
        "n_low_overlap": sum(b.overlap < LOW_OVERLAP for b, _ in found),
        "n_dropped": sum(b.dropped > 0 for b, _ in found),
        "mean_overlap": float(np.mean([b.overlap for b, _ in found])) if found else None,
        "share_better": float(np.mean(np.array(percents) < 0)) if found else None,
        "interval": [interval.low, interval.high] if interval else None,
        "interval_within": [within.low, within.high] if within else None,
        "confidence": interval.confidence if interval else None,
    }


def _at_target(
    encodes: Sequence[EncodeRecord], mine: Sequence[EncodeRecord], metrics: Sequence[str]
) -> dict[str, Any]:
    """By metric and tolerance: `AtTarget` of one method's encodes; None where there is none."""
    anchors = {(e.clip, e.target_kbps): e for e in encodes if e.method == ANCHOR}
    report: dict[str, Any] = {}
    for metric in metrics:
        outcomes = []
        for record in mine:
            anchor = anchors.get((record.clip, record.target_kbps))
            level = record.level(metric)
            anchor_level = anchor.level(metric) if anchor else None
            if anchor is None or level is None or anchor_level is None:
                continue
            outcomes.append(
                Outcome(
                    record.asked_kbps, record.actual_kbps, level, anchor.actual_kbps, anchor_level
                )
            )
        found = {f"{t:g}": at_target(outcomes, t) for t in TOLERANCES}
        report[metric] = {k: v.as_dict() if v else None for k, v in found.items()}
    return report


def _repeated_share(mine: Sequence[EncodeRecord]) -> float | None:
    """Share of shown frames in whose place another is shown again; no metric sees these."""
    traced = [(e.frames, FrameTrace.from_dict(e.trace)) for e in mine if e.trace is not None]
    frames = sum(count for count, _ in traced)
    return sum(trace.shows_existing for _, trace in traced) / frames if frames else None


def encoding_seconds(records: Iterable[EncodeRecord]) -> float:
    """What encodes took, a policy's preparation included, the first pass not; seconds."""
    return sum(e.seconds + e.preparation_seconds for e in records)


def time_ratio(mine: Sequence[EncodeRecord], theirs: Sequence[EncodeRecord]) -> float | None:
    """Time of a method's encodes over another's, preparation included.

    None if not both have the same clips at the same targets, as where an encode failed: the
    rest would be other work.
    """
    pairs = [{(e.clip, e.target_kbps) for e in encodes} for encodes in (mine, theirs)]
    seconds = encoding_seconds(theirs)
    return encoding_seconds(mine) / seconds if pairs[0] == pairs[1] and seconds > 0 else None


def _time(mine: Sequence[EncodeRecord], anchor: Sequence[EncodeRecord]) -> dict[str, Any]:
    seconds = sum(e.seconds for e in mine)
    decision = sum(e.decision_seconds for e in mine)
    return {
        "seconds": seconds,
        "decision_seconds": decision,
        "preparation_seconds": sum(e.preparation_seconds for e in mine),
        "decision_share": decision / seconds if seconds > 0 else None,
        "of_anchor": time_ratio(mine, anchor),
    }


def _add_tests(summary: dict[str, Any], bd: Sequence[BdEntry], sources: Mapping[str, str]) -> None:
    """Adds `tests` to each method's metrics: against the anchor, and against the control.

    Signed-rank tests of log rate ratios, paired by clip and averaged within sources, so that
    a source is one observation. All of them but the A/A run's are one family for Holm.
    """
    ratios = {
        (b.clip, b.method, b.metric): log_ratio(b.percent) for b in bd if b.percent is not None
    }
    clips = list(dict.fromkeys(b.clip for b in bd))
    family = []
    for method, entry in summary.items():
        for metric in dict.fromkeys(b.metric for b in bd if b.method == method):
            tests: dict[str, Any] = {}
            for other in (ANCHOR, CONTROL):
                if other == method or other not in summary:
                    continue
                pairs = [
                    (ratios[c, method, metric], ratios.get((c, other, metric), 0.0), sources[c])
                    for c in clips
                    if (c, method, metric) in ratios
                    and (other == ANCHOR or (c, other, metric) in ratios)
                ]
                means = source_means([a - b for a, b, _ in pairs], [s for *_, s in pairs])
                found = signed_rank(means)
                tests[other] = {
                    "p": found.p if found else None,
                    "p_holm": None,
                    "n": found.n if found else 0,
                }
                if found and method != NOISE:
                    family.append(tests[other])
            entry[metric]["tests"] = tests
    for test, adjusted in zip(family, holm([t["p"] for t in family]), strict=True):
        test["p_holm"] = adjusted
