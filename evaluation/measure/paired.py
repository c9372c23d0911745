"""What one method gains over another on the same clips, by their BD-rates against the anchor."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from muzero_rc.evaluation.results import Results

__all__ = ["PairedGain", "paired_gain", "paired_percents"]


@dataclass(frozen=True, slots=True)
class PairedGain:
    """Rate of a method against another's at equal quality, over clips; negative is better.

    Attributes:
      mean: over clips, percent.
      error: standard error of the mean, percent; None for fewer than two clusters.
      n: clips.
      better: clips on which the method needs less.
      worst: the largest value of a clip, percent.
    """

    mean: float
    error: float | None
    n: int
    better: int
    worst: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def paired_percents(results: Results, ours: str, theirs: str, metric: str) -> dict[str, float]:
    """By clip, the rate of a method against another's at equal quality, percent.

    Both are known by their BD-rates against the anchor, whose ratio it is.

    Args:
      results: of an evaluation.
      ours: name of the method.
      theirs: name of the method that it is compared with.
      metric: of the quality.

    Returns:
      The clips on which both BD-rates are defined.
    """
    by_method: dict[str, dict[str, float]] = {ours: {}, theirs: {}}
    for entry in results.bd_rate:
        if entry.percent is not None and entry.metric == metric and entry.method in by_method:
            by_method[entry.method][entry.clip] = entry.percent
    own, other = by_method[ours], by_method[theirs]
    return {
        clip: 100.0 * ((100.0 + own[clip]) / (100.0 + other[clip]) - 1.0)
        for clip in own
        if clip in other
    }


def paired_gain(percents: Mapping[str, float], clusters: Mapping[str, str]) -> PairedGain | None:
    """Mean over clips with its standard error, and how the clips lie.

    Clips of one cluster are counted together in the standard error, for they are alike: it is
    the cluster-robust one of a mean, with n / (n - 1) for n clusters.

    Args:
      percents: by clip, see `paired_percents`.
      clusters: what each clip is counted to; a clip that is not in it is its own.

    Returns:
      None if there is no clip.
    """
    if not percents:
        return None
    values = np.array(list(percents.values()))
    mean = float(values.mean())
    sums: dict[str, float] = {}
    for clip, value in percents.items():
        cluster = clusters.get(clip, clip)
        sums[cluster] = sums.get(cluster, 0.0) + value - mean
    count = len(sums)
    error = None
    if count > 1:
        squares = sum(value**2 for value in sums.values())
        error = math.sqrt(squares * count / (count - 1)) / len(values)
    return PairedGain(
        mean=mean,
        error=error,
        n=len(values),
        better=int((values < 0).sum()),
        worst=float(values.max()),
    )
