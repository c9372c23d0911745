"""What one method gains over another, and what VBR needs in the same time: by hand."""

import dataclasses
import math

import pytest
from fake_rd import FakeEncoder

from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.evaluation.grid.encoder import ClipSource, Method
from muzero_rc.evaluation.measure.paired import paired_gain, paired_percents
from muzero_rc.evaluation.measure.rate_time import RateTimePoint, below_the_curve
from muzero_rc.evaluation.measure.summary import time_ratio
from muzero_rc.evaluation.results import BdEntry, Results


def entry(clip: str, method: str, percent: float | None, metric: str = "psnr_avg") -> BdEntry:
    return BdEntry(
        clip=clip, method=method, metric=metric, percent=percent, overlap=1.0, db=0.0, reason="",
        dropped=0,
    )  # fmt: skip


def test_pairs_are_ratios_of_rates() -> None:
    results = Results(
        {}, [],
        bd_rate=[
            entry("one", "ours", -20.0), entry("one", "theirs", -20.0),
            entry("two", "ours", -30.0), entry("two", "theirs", 40.0),
            entry("three", "ours", None), entry("three", "theirs", -5.0),
            entry("four", "ours", -5.0), entry("four", "theirs", None),
            entry("five", "ours", -5.0), entry("one", "ours", 99.0, "psnr_y"),
        ],
    )  # fmt: skip
    found = paired_percents(results, "ours", "theirs", "psnr_avg")
    assert found == pytest.approx({"one": 0.0, "two": -50.0})
    assert paired_percents(results, "ours", "theirs", "vmaf") == {}
    assert paired_percents(results, "theirs", "ours", "psnr_avg")["two"] == pytest.approx(100.0)


def test_standard_error_counts_clusters() -> None:
    percents = {"a": -3.0, "b": -1.0, "c": 1.0}
    alone = paired_gain(percents, {})
    assert alone is not None
    assert (alone.mean, alone.n, alone.better, alone.worst) == (-1.0, 3, 2, 1.0)
    # The usual one: deviations 2, 0, 2, so s = 2, over the root of three.
    assert alone.error == pytest.approx(2.0 / math.sqrt(3.0))
    # Two clusters with sums of deviations of -2 and 2: sqrt(8 * 2 / 1) / 3.
    assert paired_gain(percents, {"a": "x", "b": "x"}).error == pytest.approx(4.0 / 3.0)
    # Clips that are alike and counted together say less, as here, where b is a again.
    twice = {"a": -3.0, "b": -3.0, "c": 1.0, "d": 1.0}
    assert paired_gain(twice, {}).error == pytest.approx(2.0 / math.sqrt(3.0))
    together = paired_gain(twice, {"a": "x", "b": "x", "c": "y", "d": "y"})
    assert together.error == pytest.approx(2.0)
    assert paired_gain(percents, dict.fromkeys(percents, "x")).error is None
    assert paired_gain({"a": 0.0}, {}).better == 0
    assert paired_gain({}, {}) is None


def point(method: str, time: float, percent: float | None) -> RateTimePoint:
    return RateTimePoint(
        method=method, speed=5, percent=percent, n=3, n_undefined=0, seconds=time, of_anchor=time,
        is_anchor=False,
    )  # fmt: skip


CURVE = [
    point("vbr", 1.0, 0.0), point("vbr", 8.0, -20.0), point("vbr", 2.0, -10.0),
    point("vbr", 4.0, -5.0),  # no better than at 2, so it is no part of the curve
    point("vbr", 3.0, None), point("other", 1.0, -90.0),
]  # fmt: skip


@pytest.mark.parametrize(
    ("time", "percent", "below"),
    [
        (4.0, -18.0, 3.0),  # half way between 2 and 8 in log time: VBR is at -15
        (2.0, -18.0, 8.0),
        (math.sqrt(2.0), 1.0, -6.0),
        (16.0, -18.0, -2.0),  # slower than the slowest
        (0.5, -18.0, 18.0),  # faster than the fastest
    ],
)
def test_below_the_curve(time: float, percent: float, below: float) -> None:
    mine = point("mine", time, percent)
    assert below_the_curve([*CURVE, mine], mine) == pytest.approx(below)


def test_no_curve_and_no_number() -> None:
    assert below_the_curve(CURVE, point("mine", 2.0, None)) is None
    one = [point("vbr", 1.0, 0.0), point("vbr", 2.0, 3.0)]
    assert below_the_curve(one, point("mine", 2.0, -5.0)) is None


def test_time_is_of_the_same_work_with_its_preparation(tmp_path) -> None:
    encoder, source = FakeEncoder(tmp_path), ClipSource(tmp_path / "clip", "clip")
    source.path.write_text("clip")
    vbr = [
        encoder.encode(source, Method("vbr", "vbr", "1"), EncoderSettings(target_kbps=t), f"{t}")
        for t in (100, 200, 400)
    ]
    mine = [dataclasses.replace(e, seconds=1.5, preparation_seconds=0.5) for e in vbr]
    assert time_ratio(mine, vbr) == pytest.approx(2.0)
    assert time_ratio(mine[1:], vbr) is None
    assert time_ratio(mine, vbr[1:]) is None
    # As many, but others.
    assert time_ratio([dataclasses.replace(mine[0], target_kbps=7), *mine[1:]], vbr) is None
    assert time_ratio([], []) is None
