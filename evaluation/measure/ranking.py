"""Rankings of methods from their scores on clips, and how far two of them agree."""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt

from muzero_rc.errors import InputError

__all__ = ["AGGREGATORS", "aggregate", "draw_subsets", "kendall_tau"]

Array = npt.NDArray[np.float64]

AGGREGATORS = ("mean", "mean_percent", "median", "mean_rank", "share_lost", "worst")
"""Ways to put scores together: the mean of log ratios (a geometric mean of rates); the mean
of percents, as BD-rates are mostly reported; the median; the mean rank among the methods; the
share of clips where the anchor is better or equal; the worst clip."""


def aggregate(name: str, scores: Array) -> Array:
    """One number per method from the scores on clips; lower is better.

    Args:
      name: one of `AGGREGATORS`.
      scores: [C, M] with the anchor in column 0.

    Returns:
      [M]
    """
    if name == "mean":
        return scores.mean(axis=0)
    if name == "mean_percent":
        return 100.0 * np.expm1(scores).mean(axis=0)
    if name == "median":
        return np.median(scores, axis=0)
    if name == "mean_rank":
        return _ranks(scores).mean(axis=0)
    if name == "share_lost":
        lost = (scores >= scores[:, :1]).mean(axis=0)
        lost[0] = 0.5  # the anchor is as good as itself
        return lost
    if name == "worst":
        return scores.max(axis=0)
    raise InputError(f"no aggregator {name!r}; give one of {', '.join(AGGREGATORS)}")


def _ranks(scores: Array) -> Array:
    """[C, M] rank of each method on each clip from 1, ties sharing their mean."""
    below = (scores[:, None, :] < scores[:, :, None]).sum(axis=2)
    equal = (scores[:, None, :] == scores[:, :, None]).sum(axis=2)
    return below + (equal + 1) / 2


def kendall_tau(scores: Array, reference: Array) -> Array:
    """Kendall's tau-b of many rankings to one (Kendall 1945).

    Sum over pairs of methods of sign(a_i - a_j) sign(b_i - b_j), over the square root of the
    numbers of pairs untied in a and in b.

    Args:
      scores: [D, M].
      reference: [M].

    Returns:
      [D] -1..1; 0 where all methods are tied.
    """
    i, j = np.triu_indices(reference.size, 1)
    ours = np.sign(scores[:, i] - scores[:, j])
    theirs = np.sign(reference[i] - reference[j])
    untied = np.sqrt(np.abs(ours).sum(axis=1) * np.abs(theirs).sum())
    return np.divide(ours @ theirs, untied, out=np.zeros(len(ours)), where=untied > 0)


def draw_subsets(
    n: int, k: int, draws: int, random: np.random.Generator
) -> tuple[npt.NDArray[np.int64], bool]:
    """Subsets of k out of n without repetition within one.

    Returns:
      [D, k] indexes, and whether these are all subsets, which they are if there are no more
      than `draws`; else `draws` of them, each drawn uniformly, so that some may be equal.
    """
    if math.comb(n, k) <= draws:
        every = list(itertools.combinations(range(n), k))
        return np.array(every, np.int64).reshape(len(every), k), True
    return np.argsort(random.random((draws, n)), axis=1)[:, :k], False
