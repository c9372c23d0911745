"""Target lists, and the automatic choice on analytic rate-distortion laws."""

import math

import pytest
from fake_rd import DB_PER_DOUBLING, law_db
from hypothesis import given
from hypothesis import strategies as st

from muzero_rc.errors import InputError
from muzero_rc.evaluation.measure.targets import (
    MAX_PROBES,
    TOLERANCE_DB,
    Probe,
    auto_targets,
    first_guess,
    parse_targets,
)


def test_lists_are_sorted_and_each_target_once() -> None:
    assert parse_targets("512, 256,384,256") == (256, 384, 512)
    assert parse_targets("400") == (400,)
    assert parse_targets("auto") is None


@pytest.mark.parametrize(
    "text", ["0", "abc", "-256", "256,,512", "", "256,-1", "1e3", "256k", "2000000", "²", "NaN"]
)
def test_lists_that_are_no_bitrates_are_refused(text) -> None:
    with pytest.raises(InputError, match="is not a bitrate: give whole kbit/s"):
        parse_targets(text)


@given(
    start=st.integers(1, 20_000),
    offset=st.floats(-6.0, 6.0),
    slope=st.floats(0.7, 1.8),
    miss=st.floats(0.85, 1.15),
)
def test_range_reaches_from_30_to_45_db(start, offset, slope, miss) -> None:
    calls = []

    def probe(kbps: int) -> Probe:
        calls.append(kbps)
        return Probe(kbps, kbps * miss, 34 + offset + slope * (law_db(kbps) - 34))

    found = auto_targets(probe, start)
    assert len(calls) == len(set(calls)) <= 2 * MAX_PROBES
    assert abs(found.low_db - 30) <= TOLERANCE_DB
    assert abs(found.high_db - 45) <= TOLERANCE_DB
    assert not found.widened
    targets = found.targets_kbps
    assert len(targets) == 5
    assert targets[0] == max(1, round(found.low_kbps))
    assert targets[-1] == round(found.high_kbps)
    ratio = (found.high_kbps / found.low_kbps) ** 0.25
    for i, target in enumerate(targets):
        assert abs(target - found.low_kbps * ratio**i) <= 1.0


def test_range_ends_where_vbr_does() -> None:
    """A clip on which VBR cannot leave 200 to 3000 kbit/s, 37.5 to 41 dB."""

    def probe(kbps: int) -> Probe:
        actual = min(max(float(kbps), 200.0), 3000.0)
        return Probe(kbps, actual, 37.5 + 3.5 * math.log(actual / 200.0, 15.0))

    found = auto_targets(probe, 900)
    assert found.low_kbps == pytest.approx(210)
    assert found.high_kbps == pytest.approx(3000 / 1.05)
    assert found.targets_kbps[0] == 210
    assert found.targets_kbps[-1] == round(3000 / 1.05)
    assert found.low_db == 37.5


def test_a_clip_with_one_rate_still_gets_distinct_targets() -> None:
    found = auto_targets(lambda kbps: Probe(kbps, 2.0, 100.0), 500)
    assert found.widened
    assert len(set(found.targets_kbps)) == 5
    assert found.targets_kbps[0] == 2


def test_probes_of_the_law_are_few() -> None:
    calls = []

    def probe(kbps: int) -> Probe:
        calls.append(kbps)
        return Probe(kbps, float(kbps), law_db(kbps))

    auto_targets(probe, first_guess(640, 360, 25.0))
    assert DB_PER_DOUBLING < 4
    assert len(calls) <= 5


def test_one_target_is_no_range() -> None:
    with pytest.raises(InputError, match="at least 2"):
        auto_targets(lambda kbps: Probe(kbps, 1.0, 40.0), 500, count=1)
