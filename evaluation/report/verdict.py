"""What an evaluation says, in a sentence with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from muzero_rc.errors import InputError
from muzero_rc.evaluation.measure.bd_rate import bd_rate
from muzero_rc.evaluation.measure.statistics import bootstrap_mean
from muzero_rc.evaluation.measure.summary import ANCHOR, CONTROL, time_ratio
from muzero_rc.evaluation.results import METRICS, EncodeRecord, Results

__all__ = ["OPPONENTS", "Comparison", "Verdict", "against", "find_lead", "give_verdict", "times"]

OPPONENTS = {
    ANCHOR: "two-pass VBR",
    CONTROL: "the control",
}
"""Methods that others are measured against, as they are called in a sentence."""


# See `bootstrap_mean`: at ten clips the interval is a tenth too narrow, below that more.
_FEW_CLIPS = 10


@dataclass(frozen=True, slots=True)
class Comparison:
    """BD-rates of a method against an opponent over clips.

    Attributes:
      method: which method.
      opponent: against whom.
      metric: of the quality.
      percents: by clip, negative is better; None where undefined.
      mean: over clips with a number; None if there is none.
      median: likewise.
      low: lower end of the mean's 95% bootstrap interval over clips; None for few clips.
      high: upper end.
      n: clips with a number.
      time: of the method's encodes over the opponent's, see `time_ratio`; None if unknown.
    """

    method: str
    opponent: str
    metric: str
    percents: dict[str, float | None]
    mean: float | None
    median: float | None
    low: float | None
    high: float | None
    n: int
    time: float | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @property
    def clear(self) -> bool:
        """Whether the interval is there and leaves zero out."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


@dataclass(frozen=True, slots=True)
class Verdict:
    """The evaluation in three sentences.

    Attributes:
      lead: the method that it is about.
      headline: against two-pass VBR, with the time that it takes, or that there is no number.
      interval: how sure that is.
      control: against the control; empty if the lead is the control.
      landing: how it met its targets; empty if nothing was encoded.
    """

    lead: str
    headline: str
    interval: str
    control: str
    landing: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def find_lead(methods: Sequence[str], wanted: str | None = None) -> str:
    """The method that a report is about: the wanted one, else the first that was asked for.

    Never the best one: the same numbers would choose it and then rate it.

    Raises:
      InputError: the wanted one is not among the methods, or there is only the anchor.
    """
    judged = [method for method in methods if method != ANCHOR]
    if wanted is not None:
        if wanted not in judged:
            raise InputError(f"no method {wanted!r} in these results; give one of {judged}")
        return wanted
    if not judged:
        raise InputError(f"these results hold no other method than {ANCHOR}; nothing to report")
    return next((method for method in judged if method != CONTROL), judged[0])


def against(results: Results, method: str, opponent: str, metric: str) -> Comparison:
    """BD-rates of a method on each clip, against the anchor as stored, else computed."""
    clips = list(dict.fromkeys(entry.clip for entry in results.bd_rate))
    percents: dict[str, float | None]
    if opponent == ANCHOR:
        stored = {b.clip: b.percent for b in results.bd_rate
                  if b.method == method and b.metric == metric}  # fmt: skip
        percents = {clip: stored.get(clip) for clip in clips}
    else:
        percents = {
            clip: _percent(results.encodes, clip, method, opponent, metric) for clip in clips
        }
    defined = [p for p in percents.values() if p is not None]
    low, high = _interval(results, method, opponent, metric, defined)
    mine, theirs = ([e for e in results.encodes if e.method == m] for m in (method, opponent))
    return Comparison(
        method=method,
        opponent=opponent,
        metric=metric,
        percents=percents,
        mean=float(np.mean(defined)) if defined else None,
        median=float(np.median(defined)) if defined else None,
        low=low,
        high=high,
        n=len(defined),
        time=time_ratio(mine, theirs),
    )


def _interval(
    results: Results, method: str, opponent: str, metric: str, defined: Sequence[float]
) -> tuple[float, float] | tuple[None, None]:
    """Of the mean: the results' own against the anchor, so that no two tables differ."""
    if opponent == ANCHOR:
        statistics = results.summary.get(method, {}).get(metric) or {}
        stored = statistics.get("interval")
        if isinstance(stored, list) and len(stored) == 2:
            return stored[0], stored[1]
    interval = bootstrap_mean(defined) if defined else None
    return (interval.low, interval.high) if interval else (None, None)


def _percent(
    encodes: Sequence[EncodeRecord], clip: str, method: str, opponent: str, metric: str
) -> float | None:
    """BD-rate on one clip; None if undefined."""

    def curve(name: str) -> tuple[list[float], list[float]]:
        mine = [e for e in encodes if e.clip == clip and e.method == name]
        levels = {(e.actual_kbps, e.level(metric)) for e in mine}
        ordered = sorted((rate, level) for rate, level in levels if level is not None)
        return [rate for rate, _ in ordered], [quality for _, quality in ordered]

    try:
        return bd_rate(*curve(opponent), *curve(method)).percent
    except InputError:
        return None


def give_verdict(
    lead: str,
    comparisons: Mapping[str, Comparison],
    landings: Mapping[str, Mapping[str, Any] | None],
) -> Verdict:
    """Puts numbers into sentences.

    Args:
      lead: the method that it is about.
      comparisons: of the lead, by opponent.
      landings: by method, `RateAccuracy.as_dict` or None.
    """
    first = comparisons[ANCHOR]
    headline = (
        f"{_needs(lead, first)} {OPPONENTS[ANCHOR]} for the same {_quality(first.metric)},"
        f" {times(first.time, 'its')}"
        if first.mean is not None
        else f"There is no BD-rate of {lead} against {OPPONENTS[ANCHOR]}"
    )
    control = ""
    if lead != CONTROL and CONTROL in comparisons:
        second = comparisons[CONTROL]
        control = (
            f"{_needs(lead, second)} {OPPONENTS[CONTROL]}, {times(second.time, 'its')}. The control"
            f" applies libvpx's own proposals verbatim. {_how_sure(second)}"
            if second.mean is not None
            else f"There is no BD-rate of {lead} against {OPPONENTS[CONTROL]}."
        )
    return Verdict(lead, headline, _how_sure(first), control, _landing(lead, landings))


def times(ratio: float | None, whose: str) -> str:
    """A time as a part of a sentence: `in 2.1 times its time`.

    Args:
      ratio: of the times; None if it is unknown.
      whose: `its`, or a name with an 's.
    """
    if ratio is None:
        return f"in an unknown multiple of {whose} time"
    # A time ten times as short is as worth telling as one ten times as long.
    return f"in {ratio:.{1 if ratio >= 1 else 2}f} times {whose} time"


def _needs(lead: str, comparison: Comparison) -> str:
    mean = comparison.mean or 0.0
    if abs(mean) < 0.05:
        return f"{lead} needs as much bitrate as"
    # The large letters must not claim what the interval takes back.
    unclear = comparison.low is not None and not comparison.clear
    return (
        f"{'No clear difference: ' if unclear else ''}{lead} needs {abs(mean):.1f}%"
        f" {'less' if mean < 0 else 'more'} bitrate than"
    )


def _how_sure(comparison: Comparison) -> str:
    clips = f"{comparison.n} clip{'' if comparison.n == 1 else 's'}"
    missing = len(comparison.percents) - comparison.n
    left_out = f"; undefined on {missing} more" if missing else ""
    if comparison.mean is None:
        return "The rate-distortion curves have too few usable points, or nothing in common."
    if comparison.low is None or comparison.high is None:
        return f"Mean BD-rate over {clips}{left_out}: too few for an interval."
    sure = "" if comparison.clear else " It includes zero."
    if comparison.n < _FEW_CLIPS:
        sure += " With so few clips it is too narrow."
    return (
        f"95% interval of the mean BD-rate {_signed(comparison.low)} to"
        f" {_signed(comparison.high)}, {clips}{left_out}.{sure}"
    )


def _signed(percent: float) -> str:
    """With a minus that is as wide as the plus."""
    return f"{percent:+z.1f}%".replace("-", "\N{MINUS SIGN}")


def _landing(lead: str, landings: Mapping[str, Mapping[str, Any] | None]) -> str:
    mine = landings.get(lead)
    if mine is None:
        return ""
    others = [(n, landings[m]) for m, n in OPPONENTS.items() if m != lead and landings.get(m)]

    def compare(key: str, form: str) -> str:
        texts = [f"{name} {other[key]:{form}}" for name, other in others if other]
        return f" ({', '.join(texts)})" if texts else ""

    return (
        f"{lead} is off its target by {mine['mean_abs_deviation']:.1%} on average"
        f"{compare('mean_abs_deviation', '.1%')}; {mine['share_over_5']:.0%} of its files are"
        f" more than 5% too large{compare('share_over_5', '.0%')}."
    )


def _quality(metric: str) -> str:
    return "PSNR" if metric in METRICS else metric.replace("_", " ").upper()
