"""Bootstrap by source, signed ranks and Holm, against published and simulated numbers."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from muzero_rc.errors import InputError
from muzero_rc.evaluation.measure.statistics import (
    bootstrap_mean,
    bootstrap_within,
    holm,
    signed_rank,
    source_means,
)

# Hollander and Wolfe 1973, p. 29: depression scores before and after; R's wilcox.test has
# V = 40, p = 0.03906 two-sided.
BEFORE = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30]
AFTER = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29]


def test_signed_rank_of_a_published_example() -> None:
    found = signed_rank([b - a for b, a in zip(BEFORE, AFTER, strict=True)])
    assert found is not None
    assert found.n == 9
    assert found.p == pytest.approx(0.0390625)


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=9, unique=True), st.data())
def test_signed_rank_is_exact_for_few_differences(sizes, data) -> None:
    """All 2^n signs are equally likely under the hypothesis: counted here."""
    signs = data.draw(st.lists(st.sampled_from([-1, 1]), min_size=len(sizes), max_size=len(sizes)))
    ranks = stats.rankdata(sizes)
    total = ranks.sum()
    seen = sum(r for r, s in zip(ranks, signs, strict=True) if s > 0)
    distance = abs(seen - total / 2)
    every = [
        abs(sum(r for r, s in zip(ranks, combination, strict=True) if s) - total / 2)
        for combination in itertools.product([0, 1], repeat=len(sizes))
    ]
    expected = np.mean([d >= distance - 1e-9 for d in every])
    found = signed_rank([x * s for x, s in zip(sizes, signs, strict=True)])
    assert found is not None
    assert found.p == pytest.approx(expected)


def test_signed_rank_drops_zeros_and_bears_ties() -> None:
    assert signed_rank([]) is None
    assert signed_rank([0.0, 0.0]) is None
    tied = signed_rank([1.0, 1.0, -1.0, 0.0, 2.0, 2.0, 3.0])
    assert tied is not None
    assert tied.n == 6
    assert 0 < tied.p < 1
    with pytest.raises(InputError, match="finite"):
        signed_rank([math.nan])


def test_holm_of_a_published_example() -> None:
    """R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm") is 0.03 0.06 0.06 0.02."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.7, 0.8]) == pytest.approx([1.0, 1.0])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_no_correction_and_bonferroni(p) -> None:
    adjusted = holm(p)
    for raw, corrected in zip(p, adjusted, strict=True):
        assert raw <= corrected <= min(1.0, raw * len(p)) + 1e-12
    order = np.argsort(p, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()


def test_a_source_for_each_clip_is_the_plain_bootstrap() -> None:
    values = np.random.default_rng(3).normal(size=12).tolist()
    plain = bootstrap_mean(values)
    assert plain == bootstrap_mean(values, sources=[f"s{i}" for i in range(12)])


def test_clips_of_one_source_are_no_evidence_of_other_sources() -> None:
    """Ten near copies of each of four clips: the interval is that of four, not of forty."""
    random = np.random.default_rng(5)
    four = random.normal(0, 1, 4)
    forty = (np.repeat(four, 10) + random.normal(0, 0.01, 40)).tolist()
    sources = np.repeat(list("abcd"), 10).tolist()
    honest, of_four = bootstrap_mean(forty, sources=sources), bootstrap_mean(four.tolist())
    naive, within = bootstrap_mean(forty), bootstrap_within(forty, sources)
    assert honest and of_four and naive and within
    assert honest.high - honest.low == pytest.approx(of_four.high - of_four.low, rel=0.02)
    assert naive.high - naive.low < 0.5 * (honest.high - honest.low)
    assert within.high - within.low < 0.01
    assert bootstrap_mean(forty, sources=["a"] * 20 + ["b"] * 20) is None


def test_interval_over_sources_covers_the_mean_of_all_sources() -> None:
    """Twenty sources of unequal size: 95 % in theory, a little less by percentiles."""
    random = np.random.default_rng(11)
    hits = 0
    for _ in range(200):
        sizes = random.integers(1, 5, 20)
        sources = np.repeat(np.arange(20), sizes)
        values = random.normal(1.0, 2.0, 20)[sources] + random.normal(0, 0.5, sources.size)
        found = bootstrap_mean(values.tolist(), sources=sources.tolist(), resamples=400)
        assert found is not None
        hits += found.low <= 1.0 <= found.high
    assert 0.86 <= hits / 200 <= 0.98


def test_stratified_interval_needs_two_clips_of_each_source() -> None:
    assert bootstrap_within([1.0, 2.0, 3.0], ["a", "a", "b"]) is None
    assert bootstrap_within([1.0, 2.0], ["a", "a"]) is None
    one = bootstrap_within([1.0, 2.0, 4.0, 9.0], ["a"] * 4)
    plain = bootstrap_mean([1.0, 2.0, 4.0, 9.0])
    assert one and plain
    assert (one.low, one.high) == pytest.approx((plain.low, plain.high), abs=0.3)


def test_seeds_move_the_interval_a_little() -> None:
    values = np.random.default_rng(0).normal(size=30).tolist()
    found = [bootstrap_mean(values, seed=s) for s in range(5)]
    lows = [f.low for f in found if f]
    assert len(set(lows)) == 5
    assert max(lows) - min(lows) < 0.03


def test_sources_and_values_must_match() -> None:
    with pytest.raises(InputError, match="3 values but 2 sources"):
        bootstrap_mean([1.0, 2.0, 3.0], sources=["a", "b"])
    assert source_means([1.0, 5.0, 3.0], ["b", "a", "b"]) == [2.0, 5.0]
