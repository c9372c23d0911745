"""The benchmark lottery: how much a verdict owes to what it was measured with.

After Dehghani et al. 2021, "The Benchmark Lottery" (arXiv 2107.07002): a ranking of methods
depends on which tasks were chosen and how their scores were put together, so both choices
are made again, many times, and what the verdict does is counted. Tasks are clips here; the
other choices are the metric, the ladder of targets and the aggregator.

A score is the natural logarithm of a BD-rate's ratio of rates, so that half and double are
opposites; lower is better, the anchor's is 0. Clips on which a method has no defined BD-rate
are left out for all methods, and counted.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from muzero_rc.errors import InputError
from muzero_rc.evaluation.measure.bd_rate import MIN_POINTS
from muzero_rc.evaluation.measure.ranking import AGGREGATORS, aggregate, draw_subsets, kendall_tau
from muzero_rc.evaluation.measure.summary import ANCHOR, NOISE, bd_entry, log_ratio
from muzero_rc.evaluation.results import EncodeRecord, Results, metrics_of

__all__ = [
    "Aggregate",
    "Board",
    "Influence",
    "Lottery",
    "MetricDraw",
    "Sample",
    "TargetDraw",
    "lottery",
]

STABLE_SHARE = 0.95
"""A sign or a winner is called stable when so many draws agree with the whole."""

_MAX_LADDERS = 64

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Board:
    """Scores of methods on clips by one metric.

    Attributes:
      metric: see `results.metrics_of`.
      methods: [M] names, the anchor first.
      clips: [C] names of the clips on which every method has a score.
      sources: [C] source of each clip.
      scores: [C, M] logarithms of rate ratios; lower is better.
      left_out: clips that some method has no score on.
    """

    metric: str
    methods: tuple[str, ...]
    clips: tuple[str, ...]
    sources: tuple[str, ...]
    scores: Array
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """What happens when only `size` of the clips are looked at.

    Attributes:
      size: clips in a subset.
      draws: subsets that were looked at.
      exhaustive: these are all subsets of the size.
      win_share: by method, share of subsets that it wins (equal winners share).
      same_winner: share of subsets won by the winner of the whole.
      tau_mean: mean Kendall tau between a subset's ranking and that of the whole.
      tau_p5: its 5th percentile.
      same_sign: by method but the anchor, share of subsets whose mean is on the same side of
        the anchor as that of the whole.
    """

    size: int
    draws: int
    exhaustive: bool
    win_share: dict[str, float]
    same_winner: float
    tau_mean: float
    tau_p5: float
    same_sign: dict[str, float]


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One way to put the clips' scores together.

    Attributes:
      name: one of `ranking.AGGREGATORS`.
      scores: by method; lower is better.
      winner: method with the lowest, by the mean among equals.
      tau: Kendall tau of its ranking to that of the mean.
    """

    name: str
    scores: dict[str, float]
    winner: str
    tau: float


@dataclass(frozen=True, slots=True)
class MetricDraw:
    """The verdict by another metric.

    Attributes:
      metric: its name.
      clips: clips that have scores by it and by the main metric.
      mean: by method, mean score on these.
      winner: method with the lowest.
      tau: Kendall tau of its ranking to that by the main metric on the same clips.
    """

    metric: str
    clips: int
    mean: dict[str, float]
    winner: str
    tau: float


@dataclass(frozen=True, slots=True)
class TargetDraw:
    """The verdict from a part of each clip's ladder of targets.

    Attributes:
      rungs: the targets kept, by their number from the lowest, from 1.
      clips: clips on which all methods still have a BD-rate.
      mean: by method, mean score.
      winner: method with the lowest.
      tau: Kendall tau of its ranking to that of the whole ladder.
    """

    rungs: tuple[int, ...]
    clips: int
    mean: dict[str, float]
    winner: str
    tau: float


@dataclass(frozen=True, slots=True)
class Influence:
    """What leaving out a clip, or all clips of a source, does.

    Attributes:
      left_out: name of the clip or source.
      clips: number of clips that it stands for.
      shift: by method, mean score without it minus mean score of all.
      sign_flips: methods whose mean changes sides.
      winner: winner without it.
    """

    left_out: str
    clips: int
    shift: dict[str, float]
    sign_flips: tuple[str, ...]
    winner: str


@dataclass(frozen=True, slots=True)
class Lottery:
    """All draws of one evaluation.

    Attributes:
      metric: the main metric.
      methods: the contestants, the anchor first.
      clips: number of clips.
      sources: number of sources.
      left_out: clips left out, see `Board`.
      seed: of the draws.
      mean: by method, mean score of all clips.
      winner: method with the lowest mean.
      samples: for each size from 1 to all clips.
      stable_size: by method but the anchor, the smallest size from which on at least 95 % of
        subsets have the sign of the whole; None if only the whole itself has.
      stable_winner_size: likewise for the winner.
      aggregates: for each of `ranking.AGGREGATORS`.
      aggregator_disagreement: share of pairs of aggregators with different winners.
      metrics: for each metric, the main one first.
      targets: for each part of the ladder; empty if it has too few targets for parts.
      clip_influence: for each clip, the largest shift first.
      source_influence: for each source, likewise; empty if each has one clip.
    """

    metric: str
    methods: tuple[str, ...]
    clips: int
    sources: int
    left_out: tuple[str, ...]
    seed: int
    mean: dict[str, float]
    winner: str
    samples: tuple[Sample, ...]
    stable_size: dict[str, int | None]
    stable_winner_size: int | None
    aggregates: tuple[Aggregate, ...]
    aggregator_disagreement: float
    metrics: tuple[MetricDraw, ...]
    targets: tuple[TargetDraw, ...]
    clip_influence: tuple[Influence, ...]
    source_influence: tuple[Influence, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def lottery(
    results: Results, *, metric: str = "psnr_avg", draws: int = 2000, seed: int = 0
) -> Lottery:
    """Makes all draws.

    Args:
      results: of an evaluation.
      metric: that the verdict is taken by.
      draws: subsets of each size, if there are more of them.
      seed: the same seed gives the same draws.

    Raises:
      InputError: unknown metric, no method beside the anchor, or fewer than two clips on
        which all methods have a BD-rate.
    """
    if draws < 1:
        raise InputError(f"the lottery needs at least 1 draw, not {draws}")
    board = _board(results, metric)
    if len(board.methods) < 2:
        raise InputError("the results have no method beside the anchor; there is no verdict")
    if len(board.clips) < 2:
        raise InputError(
            f"{len(board.clips)} clips have a BD-rate by {metric} for every method, the lottery"
            " needs at least 2; see the reasons in results.json"
        )
    mean = board.scores.mean(axis=0)
    samples = _samples(board, mean, draws, seed)
    aggregates = _aggregates(board)
    pairs = list(itertools.combinations(aggregates, 2))
    grouped = len(set(board.sources)) < len(board.sources)
    return Lottery(
        metric=metric,
        methods=board.methods,
        clips=len(board.clips),
        sources=len(set(board.sources)),
        left_out=board.left_out,
        seed=seed,
        mean=_named(board.methods, mean),
        winner=board.methods[int(mean.argmin())],
        samples=samples,
        stable_size={
            m: _stable_from(samples, [s.same_sign[m] for s in samples]) for m in board.methods[1:]
        },
        stable_winner_size=_stable_from(samples, [s.same_winner for s in samples]),
        aggregates=aggregates,
        aggregator_disagreement=sum(a.winner != b.winner for a, b in pairs) / len(pairs),
        metrics=_metric_draws(results, board),
        targets=_target_draws(results, board),
        clip_influence=_influence(board, board.clips),
        source_influence=_influence(board, board.sources) if grouped else (),
    )


def _board(results: Results, metric: str) -> Board:
    known = metrics_of(results.encodes)
    if metric not in known:
        raise InputError(f"the results have no metric {metric!r}; give one of {', '.join(known)}")
    percents = {(b.clip, b.method): b.percent for b in results.bd_rate if b.metric == metric}
    return _make_board(metric, percents, _contestants(results), results.sources())


def _contestants(results: Results) -> tuple[str, ...]:
    """The anchor and all methods with BD-rates; the A/A run is no contestant."""
    others = dict.fromkeys(b.method for b in results.bd_rate)
    return (ANCHOR, *(m for m in others if m not in (ANCHOR, NOISE)))


def _make_board(
    metric: str,
    percents: dict[tuple[str, str], float | None],
    methods: tuple[str, ...],
    sources: dict[str, str],
) -> Board:
    clips = list(dict.fromkeys(clip for clip, _ in percents))
    rows, kept, left_out = [], [], []
    for clip in clips:
        row = [percents.get((clip, m)) for m in methods[1:]]
        if any(p is None for p in row):
            left_out.append(clip)
            continue
        kept.append(clip)
        rows.append([0.0, *(log_ratio(p) for p in row if p is not None)])
    return Board(
        metric=metric,
        methods=methods,
        clips=tuple(kept),
        sources=tuple(sources.get(c, c) for c in kept),
        scores=np.array(rows, np.float64).reshape(len(kept), len(methods)),
        left_out=tuple(left_out),
    )


# ------------------------------------------------------------------ subsets of clips


def _samples(board: Board, mean: Array, draws: int, seed: int) -> tuple[Sample, ...]:
    random = np.random.default_rng(seed)
    n = len(board.clips)
    winner = int(mean.argmin())
    samples = []
    for k in range(1, n + 1):
        subsets, exhaustive = draw_subsets(n, k, draws, random)
        means = board.scores[subsets].mean(axis=1)  # [D, M]
        best = means == means.min(axis=1, keepdims=True)
        wins = best / best.sum(axis=1, keepdims=True)
        tau = kendall_tau(means, mean)
        same = (np.sign(means) == np.sign(mean)).mean(axis=0)
        samples.append(
            Sample(
                size=k,
                draws=len(subsets),
                exhaustive=exhaustive,
                win_share=_named(board.methods, wins.mean(axis=0)),
                same_winner=float(wins[:, winner].mean()),
                tau_mean=float(tau.mean()),
                tau_p5=float(np.percentile(tau, 5)),
                same_sign={m: float(s) for m, s in zip(board.methods, same, strict=True)
                           if m != ANCHOR},
            )
        )  # fmt: skip
    return tuple(samples)


def _stable_from(samples: Sequence[Sample], shares: Sequence[float]) -> int | None:
    """Smallest size from which on every share is `STABLE_SHARE`; not the whole itself."""
    stable = None
    for sample, share in reversed(list(zip(samples, shares, strict=True))[:-1]):
        if share < STABLE_SHARE:
            break
        stable = sample.size
    return stable


# ------------------------------------------------------------------ aggregators


def _aggregates(board: Board) -> tuple[Aggregate, ...]:
    mean = board.scores.mean(axis=0)
    found = []
    for name in AGGREGATORS:
        values = aggregate(name, board.scores)
        # Shares and ranks are often equal; the mean then decides.
        best = int(np.lexsort((mean, values))[0])
        found.append(
            Aggregate(
                name=name,
                scores=_named(board.methods, values),
                winner=board.methods[best],
                tau=float(kendall_tau(values[None], mean)[0]),
            )
        )
    return tuple(found)


# ------------------------------------------------------------------ metrics and targets


def _metric_draws(results: Results, main: Board) -> tuple[MetricDraw, ...]:
    draws = []
    for name in (main.metric, *(m for m in metrics_of(results.encodes) if m != main.metric)):
        board = _board(results, name)
        common = [c for c in main.clips if c in board.clips]
        if not common:
            continue
        mean, reference = (
            b.scores[[b.clips.index(c) for c in common]].mean(axis=0) for b in (board, main)
        )
        draws.append(
            MetricDraw(
                metric=name,
                clips=len(common),
                mean=_named(board.methods, mean),
                winner=board.methods[int(mean.argmin())],
                tau=float(kendall_tau(mean[None], reference)[0]),
            )
        )
    return tuple(draws)


def _target_draws(results: Results, board: Board) -> tuple[TargetDraw, ...]:
    encodes: dict[tuple[str, str], list[EncodeRecord]] = {}
    ladders: dict[str, list[int]] = {c: [] for c in board.clips}
    for record in results.encodes:
        if record.clip in ladders:
            encodes.setdefault((record.clip, record.method), []).append(record)
            ladders[record.clip].append(record.target_kbps)
    rungs = {clip: sorted(set(targets)) for clip, targets in ladders.items()}
    count = min(map(len, rungs.values()))
    draws = []
    for kept in _ladders(count):
        percents: dict[tuple[str, str], float | None] = {}
        for clip in board.clips:
            targets = {rungs[clip][i] for i in kept}
            part = {
                m: [e for e in encodes.get((clip, m), []) if e.target_kbps in targets]
                for m in board.methods
            }
            for method in board.methods[1:]:
                entry = bd_entry(clip, method, board.metric, part[ANCHOR], part[method])
                percents[clip, method] = entry.percent
        drawn = _make_board(board.metric, percents, board.methods, {})
        if not drawn.clips:
            continue
        # The same clips from the whole ladder, so that only the targets differ.
        rows = [board.clips.index(c) for c in drawn.clips]
        whole, mean = board.scores[rows].mean(axis=0), drawn.scores.mean(axis=0)
        draws.append(
            TargetDraw(
                rungs=tuple(i + 1 for i in kept),
                clips=len(drawn.clips),
                mean=_named(board.methods, mean),
                winner=board.methods[int(mean.argmin())],
                tau=float(kendall_tau(mean[None], whole)[0]),
            )
        )
    return tuple(draws)


def _ladders(count: int) -> list[tuple[int, ...]]:
    """Proper parts of a ladder that still give a BD-rate, longest first, not too many."""
    sizes = range(count - 1, MIN_POINTS - 1, -1)
    parts: Iterable[tuple[int, ...]] = itertools.chain.from_iterable(
        itertools.combinations(range(count), k) for k in sizes
    )
    return list(itertools.islice(parts, _MAX_LADDERS))


# ------------------------------------------------------------------ influence


def _influence(board: Board, labels: Sequence[str]) -> tuple[Influence, ...]:
    names = list(dict.fromkeys(labels))
    if len(names) < 2:
        return ()
    member = np.array([[label == name for label in labels] for name in names])  # [L, C]
    kept = ~member
    means = (kept.astype(np.float64) @ board.scores) / kept.sum(axis=1, keepdims=True)  # [L, M]
    whole = board.scores.mean(axis=0)
    shifts = means - whole
    found = []
    for index in np.argsort(-np.abs(shifts).max(axis=1), kind="stable"):
        flips = np.sign(means[index]) != np.sign(whole)
        found.append(
            Influence(
                left_out=names[index],
                clips=int(member[index].sum()),
                shift=_named(board.methods, shifts[index]),
                sign_flips=tuple(m for m, f in zip(board.methods, flips, strict=True) if f),
                winner=board.methods[int(means[index].argmin())],
            )
        )
    return tuple(found)


def _named(methods: Sequence[str], values: Array) -> dict[str, float]:
    return {m: float(v) for m, v in zip(methods, values, strict=True)}
