"""The benchmark lottery as tables."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from muzero_rc.evaluation.report.sheet import Cell, Sheet, as_rich, render
from muzero_rc.evaluation.report.table import METRIC_NAMES
from muzero_rc.evaluation.sensitivity.lottery import STABLE_SHARE, Influence, Lottery

__all__ = ["lottery_document", "lottery_report", "verdict"]

_SIZES = 10
_INFLUENCES = 8
_AGGREGATOR_NAMES = {
    "mean": "mean of log ratios",
    "mean_percent": "mean of percents",
    "median": "median",
    "mean_rank": "mean rank",
    "share_lost": "share not better",
    "worst": "worst clip",
}


def lottery_report(found: Lottery) -> RenderableType:
    """For the terminal."""
    parts: list[RenderableType] = [Text(line) for line in verdict(found)]
    for sheet in _sheets(found):
        parts += [Text(), Text(sheet.title), as_rich(sheet)]
    return Group(*parts)


def lottery_document(found: Lottery, form: str) -> str:
    """For a paper or a pull request; `form` as in `sheet.render`."""
    return render(_sheets(found), verdict(found), form)


def verdict(found: Lottery) -> list[str]:
    """What it comes to, in a few lines."""
    others = ", ".join(f"{m} {_percent(found.mean[m]).text}" for m in found.methods[1:])
    lines = [
        f"by mean {_name(found.metric)} BD-rate against {found.methods[0]} over {found.clips}"
        f" clips of {found.sources} sources the winner is {found.winner} ({others})"
    ]
    for method, size in found.stable_size.items():
        side = "better" if found.mean[method] < 0 else "worse"
        if size is None:
            lines.append(
                f"that {method} is {side} than {found.methods[0]} is not stable:"
                f" no smaller set of clips says so in {STABLE_SHARE:.0%} of draws"
            )
        else:
            lines.append(
                f"that {method} is {side} than {found.methods[0]} takes {size} of the"
                f" {found.clips} clips to show in {STABLE_SHARE:.0%} of draws"
            )
    size = found.stable_winner_size
    lines.append(
        f"the winner is the same in {STABLE_SHARE:.0%} of draws from {size} clips on"
        if size is not None
        else f"no smaller set of clips has the same winner in {STABLE_SHARE:.0%} of draws"
    )
    winners = {
        "aggregators": [(_AGGREGATOR_NAMES[a.name], a.winner) for a in found.aggregates],
        "metrics": [(_name(m.metric), m.winner) for m in found.metrics],
        "parts of the ladder of targets": [(_rungs(t.rungs), t.winner) for t in found.targets],
    }
    for what, drawn in winners.items():
        other = [f"{name} ({winner})" for name, winner in drawn if winner != found.winner]
        if drawn:
            told = f", not by {', '.join(other)}" if other else ""
            lines.append(f"{what}: {len(drawn) - len(other)} of {len(drawn)} agree{told}")
    flips = [i.left_out for i in found.clip_influence if i.sign_flips]
    if flips:
        lines.append(f"single clips that turn a sign when left out: {', '.join(flips)}")
    if found.left_out:
        lines.append(f"left out, some BD-rate undefined: {', '.join(found.left_out)}")
    return lines


def _sheets(found: Lottery) -> list[Sheet]:
    sheets = [_sample_sheet(found), _aggregate_sheet(found)]
    drawn = [
        ("metrics", "other metrics", "metric",
         [(_name(m.metric), m.clips, m.mean, m.winner, m.tau) for m in found.metrics]),
        ("targets", "parts of the ladder of targets, by number from the lowest", "targets",
         [(_rungs(t.rungs), t.clips, t.mean, t.winner, t.tau) for t in found.targets]),
    ]  # fmt: skip
    for name, title, first, draws in drawn:
        if draws:
            sheets.append(_draw_sheet(found, name, title, first, draws))
    for name, title, influence in (
        ("leave_one_clip_out", "left out: clip", found.clip_influence),
        ("leave_one_source_out", "left out: all clips of a source", found.source_influence),
    ):
        if influence:
            sheets.append(_influence_sheet(found, name, title, influence))
    return sheets


def _sample_sheet(found: Lottery) -> Sheet:
    methods = found.methods
    columns = [("clips", ""), *(("wins", m) for m in methods), ("same", "winner")]
    columns += [("tau", "mean"), ("tau", "5th"), *(("same sign", m) for m in methods[1:])]
    columns.append(("", "draws"))
    every = len(found.samples)
    shown = sorted({round(every ** (i / (_SIZES - 1))) for i in range(_SIZES)} | {every})
    rows = []
    for sample in (found.samples[k - 1] for k in shown):
        cells = [_share(sample.win_share[m]) for m in methods]
        cells += [_share(sample.same_winner), _tau(sample.tau_mean), _tau(sample.tau_p5)]
        cells += [_share(sample.same_sign[m]) for m in methods[1:]]
        cells.append(Cell(f"{'all ' if sample.exhaustive else ''}{sample.draws}", sample.draws))
        rows.append((str(sample.size), cells))
    title = "subsets of clips: who wins, and how far they agree with the whole"
    return Sheet("subsets", title, columns, rows)


def _aggregate_sheet(found: Lottery) -> Sheet:
    rows = []
    for a in found.aggregates:
        show = {"mean_rank": _rank, "mean_percent": _plain_percent, "share_lost": _share}.get(
            a.name, _percent
        )
        cells = [*(show(a.scores[m]) for m in found.methods), Cell(a.winner), _tau(a.tau)]
        rows.append((_AGGREGATOR_NAMES[a.name], cells))
    columns = [("aggregator", ""), *(("", m) for m in found.methods), ("", "winner"), ("", "tau")]
    return Sheet("aggregators", "ways to put the clips together", columns, rows)


def _draw_sheet(
    found: Lottery,
    name: str,
    title: str,
    first: str,
    draws: Sequence[tuple[str, int, dict[str, float], str, float]],
) -> Sheet:
    columns = [(first, ""), ("", "clips"), *(("mean", m) for m in found.methods[1:])]
    columns += [("", "winner"), ("", "tau")]
    rows = [
        (
            label,
            [
                Cell(str(clips), clips),
                *(_percent(mean[m]) for m in found.methods[1:]),
                Cell(winner),
                _tau(tau),
            ],
        )
        for label, clips, mean, winner, tau in draws
    ]
    return Sheet(name, title, columns, rows)


def _influence_sheet(
    found: Lottery, name: str, title: str, influence: Sequence[Influence]
) -> Sheet:
    columns = [("left out", ""), ("", "clips"), *(("shift", m) for m in found.methods[1:])]
    columns += [("turns", "sign of"), ("", "winner")]
    rows = [
        (
            i.left_out,
            [
                Cell(str(i.clips), i.clips),
                *(_points(found.mean[m], i.shift[m]) for m in found.methods[1:]),
                Cell(", ".join(i.sign_flips) or "-"),
                Cell(i.winner),
            ],
        )
        for i in influence[:_INFLUENCES]
    ]
    if len(influence) > _INFLUENCES:
        title += f" (the {_INFLUENCES} that weigh most of {len(influence)})"
    return Sheet(name, title, columns, rows)


def _name(metric: str) -> str:
    return f"PSNR {METRIC_NAMES[metric]}" if metric.startswith("psnr") else METRIC_NAMES[metric]


def _rungs(rungs: Sequence[int]) -> str:
    return " ".join(map(str, rungs))


def _percent(score: float) -> Cell:
    value = 100.0 * math.expm1(score)
    return Cell(f"{value:+z.2f}%", value)


def _points(mean: float, shift: float) -> Cell:
    """Change of the mean in percentage points."""
    value = 100.0 * (math.expm1(mean + shift) - math.expm1(mean))
    return Cell(f"{value:+z.2f}", value)


def _plain_percent(value: float) -> Cell:
    return Cell(f"{value:+z.2f}%", value)


def _share(share: float) -> Cell:
    return Cell(f"{share:.0%}", share)


def _tau(tau: float) -> Cell:
    return Cell(f"{tau:+z.2f}", tau)


def _rank(rank: float) -> Cell:
    return Cell(f"{rank:.2f}", rank)
