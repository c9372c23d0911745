"""BD-rate against published vectors, an independent package, and its own laws."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muzero_rc.errors import InputError
from muzero_rc.evaluation.measure.bd_rate import Curve, bd_psnr, bd_rate

with warnings.catch_warnings():
    # It loads matplotlib.pyplot, whose warnings are not ours.
    warnings.simplefilter("ignore")
    import bjontegaard

ANCHOR = ([9487.76, 4593.60, 2486.44, 1358.24], [40.037, 38.615, 36.845, 34.851])
TEST = ([9787.80, 4469.00, 2451.52, 1356.24], [40.121, 38.651, 36.970, 34.987])


def test_published_vector() -> None:
    assert bd_rate(*ANCHOR, *TEST).percent == pytest.approx(-4.417485, abs=1e-6)
    assert bd_psnr(*ANCHOR, *TEST).db == pytest.approx(0.119693, abs=1e-6)


@st.composite
def curves(draw: st.DrawFn) -> tuple[list[float], list[float]]:
    """A strictly rising curve of 4 to 9 points around 100 to 10^4 kbit/s, 28 to 45 dB."""
    n = draw(st.integers(4, 9))
    steps = st.floats(0.02, 1.0)
    rates = np.cumsum([draw(st.floats(4.0, 7.0)), *(draw(steps) for _ in range(n - 1))])
    dbs = np.cumsum([draw(st.floats(28.0, 33.0)), *(draw(steps) * 4 for _ in range(n - 1))])
    return [float(x) for x in np.exp(rates)], [float(x) for x in dbs]


@settings(deadline=None, max_examples=150)
@given(curves(), curves(), st.randoms(use_true_random=False))
def test_equals_the_bjontegaard_package_on_monotone_curves(anchor, test, random) -> None:
    options = {"method": "pchip", "require_matching_points": False, "min_overlap": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where the curves do not overlap
        rate = bjontegaard.bd_rate(*anchor, *test, **options)
        psnr = bjontegaard.bd_psnr(*anchor, *test, **options)
    order = list(range(len(test[0])))
    random.shuffle(order)
    shuffled = ([test[0][i] for i in order], [test[1][i] for i in order])
    ours, ours_psnr = bd_rate(*anchor, *shuffled), bd_psnr(*anchor, *shuffled)
    assert ours.dropped == ours_psnr.dropped == 0
    for value, theirs, result in ((ours.percent, rate, ours), (ours_psnr.db, psnr, ours_psnr)):
        if math.isnan(theirs):
            assert value is None
            assert result.overlap == 0.0
            assert "share no" in result.reason
        else:
            assert value == pytest.approx(theirs, rel=1e-6, abs=1e-6)
            assert 0 < result.overlap <= 1
            assert result.reason == ""


@settings(deadline=None)
@given(curves(), st.floats(0.3, 3.0))
def test_scaling_the_rate_is_the_delta(curve, factor) -> None:
    rates, dbs = curve
    result = bd_rate(rates, dbs, [factor * r for r in rates], dbs)
    assert result.percent == pytest.approx(100 * (factor - 1), abs=1e-8)
    assert result.overlap == 1.0


@settings(deadline=None)
@given(curves(), st.floats(-1.0, 1.0))
def test_shifting_the_quality_is_the_delta_in_db(curve, shift) -> None:
    rates, dbs = curve
    result = bd_psnr(rates, dbs, rates, [q + shift for q in dbs])
    assert result.db == pytest.approx(shift, abs=1e-9)


@settings(deadline=None)
@given(curves(), curves())
def test_swapping_the_curves_inverts_the_ratio(anchor, test) -> None:
    there, back = bd_rate(*anchor, *test), bd_rate(*test, *anchor)
    assert there.overlap == pytest.approx(back.overlap)
    if there.percent is None or back.percent is None:
        assert there.percent is None and back.percent is None
    else:
        product = (1 + there.percent / 100) * (1 + back.percent / 100)
        assert product == pytest.approx(1.0)


def test_dominated_points_are_dropped_and_counted() -> None:
    rates, dbs = ANCHOR
    noisy = ([*rates, 5000.0, 9487.76, 9000.0], [*dbs, 38.0, 39.9, 38.615])
    result = bd_rate(*noisy, *TEST)
    assert result.dropped == 3
    assert result.percent == bd_rate(*ANCHOR, *TEST).percent


@given(st.lists(st.tuples(st.floats(1, 1e4), st.floats(20, 50)), max_size=12, unique=True))
def test_a_curve_keeps_exactly_the_points_that_none_dominates(points) -> None:
    curve = Curve.from_points([p[0] for p in points], [p[1] for p in points])
    kept = [
        (r, q)
        for r, q in points
        if not any(a <= r and b >= q and (a, b) != (r, q) for a, b in points)
    ]
    assert sorted(q for _, q in kept) == curve.quality.tolist()
    assert curve.dropped == len(points) - len(kept)
    assert (np.diff(curve.quality) > 0).all()


def test_too_few_points_are_undefined_with_a_reason() -> None:
    short = (ANCHOR[0][:3], ANCHOR[1][:3])
    result = bd_rate(*ANCHOR, *short)
    assert result.percent is None
    assert result.reason == "the test curve has 3 usable points of the 4 needed"
    assert 0 < result.overlap < 1
    assert bd_rate(*ANCHOR, *short, min_points=3).percent is not None
    assert bd_psnr([], [], *TEST).db is None
    assert bd_rate([], [], *TEST).reason.startswith("the anchor curve has 0")


def test_curves_apart_are_undefined_with_a_reason() -> None:
    result = bd_rate(*ANCHOR, ANCHOR[0], [q + 20 for q in ANCHOR[1]])
    assert result.percent is None
    assert result.overlap == 0.0
    assert result.reason == "the curves share no quality interval"


@pytest.mark.parametrize(
    ("rates", "dbs", "words"),
    [
        ([1.0, 2.0], [30.0], "one quality per rate"),
        ([1.0, 0.0], [30.0, 31.0], "point 1 .* rate 0, quality 31"),
        ([1.0, -2.0], [30.0, 31.0], "point 1 .* rate -2"),
        ([1.0, math.nan], [30.0, 31.0], "point 1 .* rate nan"),
        ([1.0, 2.0], [math.inf, 31.0], "point 0 .* quality inf"),
        ([1.0, 2.0, 1.0], [30.0, 31.0, 30.0], "rate 1, quality 30 dB twice"),
    ],
)
def test_points_that_cannot_be_used_are_refused(rates, dbs, words) -> None:
    with pytest.raises(InputError, match=words):
        bd_rate(*ANCHOR, rates, dbs)
    with pytest.raises(InputError, match=words):
        bd_psnr(rates, dbs, *ANCHOR)
