"""Bitrate accuracy, clip quality and bootstrap intervals on cases worked out by hand."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muzero_rc.errors import InputError
from muzero_rc.evaluation.measure.quality import clip_quality
from muzero_rc.evaluation.measure.rate_accuracy import rate_accuracy, within_reach
from muzero_rc.evaluation.measure.statistics import bootstrap_mean
from muzero_rc.types import FrameResult


def test_rate_accuracy_shares_and_means() -> None:
    found = rate_accuracy([(100, 100), (100, 100.5), (200, 206), (100, 110), (400, 300)])
    assert found is not None
    assert found.n == 5
    assert (found.share_over_0, found.share_over_1, found.share_over_5) == (0.6, 0.4, 0.2)
    assert found.mean_abs_deviation == pytest.approx((0.005 + 0.03 + 0.1 + 0.25) / 5)
    assert found.mean_deviation == pytest.approx((0.005 + 0.03 + 0.1 - 0.25) / 5)
    assert found.worst_over == pytest.approx(0.1)
    assert found.worst_under == pytest.approx(-0.25)
    # Of -0.25, 0, 0.005, 0.03, 0.1: linear between them.
    assert found.percentiles == pytest.approx(
        {"5": -0.2, "25": 0.0, "50": 0.005, "75": 0.03, "95": 0.086}
    )


@given(st.floats(1, 1e6))
def test_an_exact_hit_is_never_over(target) -> None:
    found = rate_accuracy([(target, target)])
    assert found is not None
    assert found.share_over_0 == 0
    assert found.mean_abs_deviation == 0


def test_rate_accuracy_of_nothing_and_of_nonsense() -> None:
    assert rate_accuracy([]) is None
    for pair in ((0, 1), (-5, 1), (100, math.nan), (math.inf, 100), (100, -1)):
        with pytest.raises(InputError, match="no deviation from a target"):
            rate_accuracy([pair])


def test_reach_is_ten_percent_either_way() -> None:
    assert within_reach(100, 110) and within_reach(100, 90)
    assert not within_reach(100, 110.01) and not within_reach(100, 89.99)


def _frame(index: int, sse: tuple[int, int, int], shown: bool = True) -> FrameResult:
    return FrameResult(
        coding_index=index, show_index=index, shown=shown, qindex=100, bits=1000, sse=sse,
        samples=(400, 100, 100), intra_blocks=0, inter_blocks=0, skip_blocks=0, cpu_seconds=0.0,
    )  # fmt: skip


def test_clip_quality_is_that_of_vpxenc() -> None:
    """Overall from the sums, the others means of the frames' logarithms; ARFs left out."""
    frames = [_frame(1, (40_000, 100, 400)), _frame(0, (4_000, 1_000, 1_000)),
              _frame(2, (9, 9, 9), shown=False)]  # fmt: skip
    found = clip_quality(frames, Fraction(1))
    db = [10 * math.log10(600 * 255**2 / s) for s in (6_000, 40_500)]
    assert found.avg == pytest.approx(sum(db) / 2)
    assert found.overall == pytest.approx(10 * math.log10(1200 * 255**2 / 46_500))
    luma = [10 * math.log10(400 * 255**2 / s) for s in (4_000, 40_000)]
    assert found.y == pytest.approx(sum(luma) / 2)
    assert found.v == pytest.approx(
        sum(10 * math.log10(100 * 255**2 / s) for s in (1_000, 400)) / 2
    )
    assert found.worst == pytest.approx(db[1])
    assert found.last_second == pytest.approx(db[1])
    assert found.deviation == pytest.approx((db[0] - db[1]) / 2)


def test_last_second_of_a_short_clip_is_the_clip() -> None:
    found = clip_quality([_frame(0, (1, 1, 1)), _frame(1, (0, 0, 0))], Fraction(30000, 1001))
    assert found.last_second == pytest.approx(found.avg)
    assert clip_quality([_frame(0, (0, 0, 0))], 25).overall == 100.0
    with pytest.raises(InputError, match="no frame is shown"):
        clip_quality([_frame(0, (1, 1, 1), shown=False)], 25)


def test_interval_covers_the_mean_as_often_as_it_says() -> None:
    random = np.random.default_rng(7)
    hits = 0
    for _ in range(300):
        interval = bootstrap_mean(random.normal(2.0, 3.0, size=40).tolist(), resamples=500)
        assert interval is not None
        hits += interval.low <= 2.0 <= interval.high
    assert 0.90 <= hits / 300 <= 0.99


def test_interval_has_the_width_of_the_normal_one() -> None:
    sample = np.random.default_rng(1).normal(0.0, 1.0, size=400)
    interval = bootstrap_mean(sample.tolist())
    assert interval is not None
    expected = 2 * 1.96 * sample.std() / 20
    assert interval.high - interval.low == pytest.approx(expected, rel=0.05)
    assert interval == bootstrap_mean(sample.tolist())
    assert interval != bootstrap_mean(sample.tolist(), seed=1)


def test_interval_of_few_equal_or_broken_values() -> None:
    assert bootstrap_mean([1.0, 2.0]) is None
    interval = bootstrap_mean([-3.0, -3.0, -3.0])
    assert interval is not None
    assert (interval.low, interval.high) == (-3.0, -3.0)
    with pytest.raises(InputError, match="finite"):
        bootstrap_mean([1.0, math.nan, 2.0])
    with pytest.raises(InputError, match="confidence"):
        bootstrap_mean([1.0, 2.0, 3.0], confidence=95)
