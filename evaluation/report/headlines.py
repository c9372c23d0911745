"""The three headlines of an evaluation: what a gain is depends on what is held equal.

(a) Qindexes alone, at equal passes: two passes, uniform speed, every frame coded.
(b) Everything, against VBR's curve of rate over time.
(c) Everything at the same speed setting, with its time.

Beside them stands what is learned, against the same without it, and the figure with every
frame coded. A headline whose encodes are not there has the command that makes them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from muzero_rc.errors import InputError
from muzero_rc.evaluation.measure.bd_rate import MIN_POINTS
from muzero_rc.evaluation.measure.paired import PairedGain, paired_gain, paired_percents
from muzero_rc.evaluation.measure.rate_time import (
    RateTimePoint,
    below_the_curve,
    rate_time,
    without_speed,
)
from muzero_rc.evaluation.measure.summary import ANCHOR
from muzero_rc.evaluation.report.methods import Control, Described, Methods
from muzero_rc.evaluation.report.verdict import against
from muzero_rc.evaluation.results import EncodeRecord, Results

__all__ = ["Gain", "Headline", "Learned", "headlines"]

_ALONE = Control("uniform", 2, show_existing=False)  # the paper's
_PROBED = Control("uniform", 3, show_existing=False)
_NOT_ONE_RUN = "VBR's slowest speed took less time than its fastest: not timed in one run."


@dataclass(frozen=True, slots=True)
class Learned:
    """What is learned, against the same without it.

    Attributes:
      without: name of the method without it.
      policy: of that method.
      gain: of the one over the other, paired by clip; negative is better.
      same: whether all their streams have the same bytes.
    """

    without: str
    policy: str
    gain: PairedGain
    same: bool


@dataclass(frozen=True, slots=True)
class Gain:
    """A gain, never without its time.

    Attributes:
      label: what it is, for a line.
      method: name of the method.
      value: mean over clips, negative is better: BD-rate in percent, or points of it from
        VBR's curve; None if undefined on all.
      low: lower end of its 95% interval; None if there is none.
      high: upper end.
      n: clips with a number.
      undefined: clips without one.
      time: over VBR's; None if unknown.
      learned: None if nothing is learned in it, or the same without it was not measured.
    """

    label: str
    method: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    undefined: int
    time: float | None
    learned: Learned | None


@dataclass(frozen=True, slots=True)
class Headline:
    """One of the three.

    Attributes:
      key: `a`, `b` or `c`.
      title: in a few words.
      held: what is held equal, a sentence without its full stop.
      unit: of the gain, `%` or `points`.
      gain: None if it was not measured.
      beside: what is to be told with it.
      missing: what was not measured, or why there is nothing to measure; empty if all is there.
      command: that measures it; empty if none does.
    """

    key: str
    title: str
    held: str
    unit: str
    gain: Gain | None
    beside: tuple[Gain, ...]
    missing: str
    command: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def headlines(results: Results, lead: str, metric: str) -> tuple[Headline, Headline, Headline]:
    """What an evaluation says of a method in each of the three ways.

    Args:
      results: of an evaluation.
      lead: name of the method.
      metric: of the quality.
    """
    methods = Methods(results)
    found = _Headlines(results, methods, methods[lead], metric)
    three = (found.alone(), found.over_time(), found.everything())
    # One command for all of them: only times of one run can stand side by side.
    policies = dict.fromkeys(policy for _, absent in three for policy in absent)
    command = methods.command(methods[lead], policies)
    targets = methods.most_targets()
    if targets < MIN_POINTS:
        why = f"A BD-rate takes {MIN_POINTS} targets and there are {targets}."
        first, second, third = (
            dataclasses.replace(headline, gain=None, beside=(), missing=why, command=command)
            for headline, _ in three
        )
        return first, second, third
    first, second, third = (
        dataclasses.replace(headline, command=command if absent else "")
        for headline, absent in three
    )
    return first, second, third


_Found = tuple[Headline, Sequence[str]]
"""A headline without its command, and the policies that are not there."""


class _Headlines:
    def __init__(self, results: Results, methods: Methods, lead: Described, metric: str) -> None:
        self._results = results
        self._methods = methods
        self._lead = lead
        self._metric = metric

    def alone(self) -> _Found:
        """(a)."""
        gain = self._variant("Qindexes alone", _ALONE)
        probed = self._variant("With a probe encode", _PROBED)
        absent = self._absent_anchor()
        if gain is None:
            absent["this setting"] = self._lead.word(**_ALONE._asdict())
        absent |= self._absent_learned("what is learned", _ALONE)
        if self._lead.control is not None and self._lead.control.passes == 3:
            # A plan takes a probe encode: without one there may be nothing learned to measure.
            if probed is None:
                absent["a probe encode"] = self._lead.word(**_PROBED._asdict())
            absent |= self._absent_learned("what is learned with it", _PROBED)
        missing = _not_measured(gain, absent)
        if self._lead.is_external:
            missing, absent = "Another encoder has no qindexes to be taken alone.", {}
        headline = Headline(
            key="a",
            title="Qindexes alone, equal passes",
            held=f"Two passes, uniform speed, every frame coded, {self._against()}",
            unit="%",
            gain=gain,
            beside=(probed,) if probed else (),
            missing=missing,
            command="",
        )
        return headline, list(absent.values())

    def over_time(self) -> _Found:
        """(b)."""
        anchors = self._methods.anchors()
        speed = anchors[0].speed if anchors else None
        gain, missing, absent = None, "Not measured.", _at_speeds(speed)
        if len(anchors) > 1:
            gain, missing = self._below(anchors)
            absent = [anchor.word() for anchor in anchors[1:]] if missing == _NOT_ONE_RUN else []
        headline = Headline(
            key="b",
            title="Everything, equal time",
            held=(
                "From VBR's curve of rate over time, below zero is better;"
                f" VBR's time is that at speed {speed}"
            ),
            unit="points",
            gain=gain,
            beside=(),
            missing=missing,
            command="",
        )
        return headline, absent

    def everything(self) -> _Found:
        """(c)."""
        lead = self._lead
        gain = self._gain("Everything", lead)
        beside: list[Gain] = []
        absent = self._absent_anchor() | self._absent_learned("what is learned", lead.control)
        if lead.control is not None and lead.control.show_existing:
            coded = lead.control._replace(show_existing=False)
            if (found := self._variant("Every frame coded", coded)) is not None:
                beside.append(found)
            else:
                absent["every frame coded"] = lead.word(show_existing=False)
        headline = Headline(
            key="c",
            title="Everything, same speed setting",
            held=f"As evaluated, {self._against()}",
            unit="%",
            gain=gain,
            beside=tuple(beside),
            missing=_not_measured(gain, absent),
            command="",
        )
        return headline, list(absent.values())

    def _absent_anchor(self) -> dict[str, str]:
        """VBR at the method's speed, if it is not there: what is absent, and its policy."""
        if self._methods.anchor_of(self._lead) is not None:
            return {}
        speed = self._lead.speed
        return {f"VBR at speed {speed}": f"{ANCHOR}@speed={speed}"}

    def _absent_learned(self, what: str, control: Control | None) -> dict[str, str]:
        """The method under a control without what is learned, if it should be there and is not."""
        method = dataclasses.replace(self._lead, control=control)
        there = self._methods.without_learning(method) is not None
        if control is None or there or not method.is_learned:
            return {}
        return {what: method.word_without_learning()}

    def _against(self) -> str:
        speed = self._lead.speed
        return "against two-pass VBR" if speed is None else f"against VBR at speed {speed}"

    def _variant(self, label: str, control: Control) -> Gain | None:
        found = self._methods.variant(self._lead, control)
        return self._gain(label, found) if found else None

    def _gain(self, label: str, method: Described) -> Gain | None:
        """Against VBR at the method's speed; None if that was not measured."""
        anchor = self._methods.anchor_of(method)
        if anchor is None:
            return None
        found = against(self._results, method.name, anchor.name, self._metric)
        return Gain(
            label=label,
            method=method.name,
            value=found.mean,
            low=found.low,
            high=found.high,
            n=found.n,
            undefined=len(found.percents) - found.n,
            time=found.time,
            learned=self._learned(method),
        )

    def _learned(self, method: Described) -> Learned | None:
        without = self._methods.without_learning(method)
        if without is None:
            return None
        percents = paired_percents(self._results, method.name, without.name, self._metric)
        gain = paired_gain(percents, self._results.sources())
        mine, theirs = self._streams(method.name), self._streams(without.name)
        return Learned(without.name, without.spec, gain, same=mine == theirs) if gain else None

    def _streams(self, method: str) -> dict[tuple[str, int], str]:
        return {
            (e.clip, e.target_kbps): e.sha256 for e in self._results.encodes if e.method == method
        }

    def _below(self, anchors: Sequence[Described]) -> tuple[Gain | None, str]:
        """From VBR's curve, on the clips where all that takes part has a BD-rate; else why not."""
        names = {self._lead.name, *(anchor.name for anchor in anchors)}
        encodes = [e for e in self._results.encodes if e.method in names]
        clips = list(dict.fromkeys(e.clip for e in encodes))
        # A mean over other clips than the curve's would lie off it for that alone.
        shared = {
            clip
            for clip in clips
            if len(self._points(e for e in encodes if e.clip == clip)) == len(names)
        }
        points = self._points(e for e in encodes if e.clip in shared)
        mine = next((e for e in encodes if e.method == self._lead.name), None)
        if not points or mine is None:
            return None, "No clip has the BD-rates of all that takes part."
        curve = sorted((p.speed, p.of_anchor) for p in points if p.method == ANCHOR)
        if curve[0][1] <= curve[-1][1]:
            return None, _NOT_ONE_RUN
        point = next(p for p in points if (p.method, p.speed) == without_speed(mine))
        below = below_the_curve(points, point)
        if below is None:
            return None, "No slower speed of VBR needs less bitrate here."
        gain = Gain(
            label="Equal time",
            method=self._lead.name,
            value=-below,
            low=None,
            high=None,
            n=len(shared),
            undefined=len(clips) - len(shared),
            time=point.of_anchor,
            learned=None,
        )
        return gain, ""

    def _points(self, encodes: Iterable[EncodeRecord]) -> list[RateTimePoint]:
        """Those that have a BD-rate; none where the anchor, or the metric, is missing."""
        part = dataclasses.replace(self._results, encodes=list(encodes))
        try:
            return [p for p in rate_time([part], self._metric) if p.percent is not None]
        except InputError:
            return []


def _not_measured(gain: Gain | None, absent: Mapping[str, str]) -> str:
    """A line on what is absent; `absent` has its policies by what they are."""
    if gain is None:
        return "Not measured."
    return f"Not measured: {', '.join(absent)}." if absent else ""


def _at_speeds(speed: int | None) -> list[str]:
    """VBR at slower speeds: a method that takes longer is to be compared with them.

    Only VBR's, which make the curve: `evaluate --speeds` would encode all methods at each.
    """
    if speed is None:
        return [f"{ANCHOR}@speed={other}" for other in range(1, 6)]
    slower = range(1, speed) if speed > 1 else (1 - speed,)
    return [f"{ANCHOR}@speed={other}" for other in slower]
