"""The leaky bucket and quality at the target, on cases worked out by hand and on their laws."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muzero_rc.errors import InputError
from muzero_rc.evaluation.measure.at_target import Outcome, at_target
from muzero_rc.evaluation.measure.buffer import (
    buffer_report,
    buffer_summary,
    drain,
    needed_seconds,
    packet_bits,
)
from muzero_rc.types import FrameResult


def frame(index: int, bits: int, shown: bool = True) -> FrameResult:
    return FrameResult(
        coding_index=index, show_index=index, shown=shown, qindex=100, bits=bits, sse=(1, 1, 1),
        samples=(4, 1, 1), intra_blocks=0, inter_blocks=0, skip_blocks=0, cpu_seconds=0.0,
    )  # fmt: skip


def test_a_buffer_by_hand() -> None:
    """10 kbit/s at 10 frames per second: 1000 bits arrive for each frame, 2000 fit."""
    fits = drain([2000, 1000, 1000], 10, 10, 0.2)
    assert (fits.underflows, fits.stall_s) == (0, 0.0)
    # 2500 of 2000: 0.05 s late. Then 1000 arrive, 1500 are wanted: 0.05 s. Then 1000 of 1000.
    late = drain([2500, 1500, 1000], 10, 10, 0.2)
    assert late.underflows == 2
    assert late.stall_s == pytest.approx(0.1)
    # Thrift cannot be saved up: the buffer is full and takes no more.
    assert drain([0, 0, 0, 2001], 10, 10, 0.2).underflows == 1
    assert needed_seconds([0, 0, 0, 2001], 10, 10) == pytest.approx(0.2001)
    # 2500 come, 1000 leak, 1500 come: 3000 bits at 10 kbit/s are 0.3 s.
    assert needed_seconds([2500, 1500, 1000], 10, 10) == pytest.approx(0.3)


packets = st.lists(st.integers(0, 100_000), min_size=1, max_size=60)
rates = st.floats(10, 5000)
fps = st.floats(5, 60)


@given(packets, rates, fps)
def test_the_needed_buffer_is_the_smallest_that_never_underflows(bits, kbps, rate) -> None:
    needed = needed_seconds(bits, kbps, rate)
    assert drain(bits, kbps, rate, max(needed, 1e-9) * (1 + 1e-9)).underflows == 0
    if needed > 1e-3:
        assert drain(bits, kbps, rate, needed * 0.999).underflows > 0


@given(packets, rates, fps, st.floats(0.1, 2), st.floats(1.0, 4.0))
def test_a_larger_buffer_never_stalls_more(bits, kbps, rate, size, factor) -> None:
    small, large = (drain(bits, kbps, rate, s) for s in (size, size * factor))
    assert large.stall_s <= small.stall_s + 1e-9


def test_hidden_frames_come_with_the_next_shown_one() -> None:
    frames = [frame(0, 100), frame(1, 40, shown=False), frame(2, 5), frame(3, 7)]
    assert packet_bits(frames) == [100, 45, 7]


def test_reports_over_encodes() -> None:
    calm = buffer_report([frame(i, 1000) for i in range(10)], 10, 10)
    peak = buffer_report([frame(0, 12_000), *(frame(i, 1000) for i in range(1, 10))], 10, 10)
    assert calm["needed_s"] == pytest.approx(0.1)
    assert peak["needed_s"] == pytest.approx(1.2)
    assert {s: run["underflows"] > 0 for s, run in peak["sizes"].items()} == {
        "0.5": True, "1": True, "2": False,
    }  # fmt: skip
    found = buffer_summary([calm, peak, {}])
    assert found is not None
    assert found["n"] == 2
    assert found["needed_s_median"] == pytest.approx(0.65)
    assert {s: v["share_violating"] for s, v in found["sizes"].items()} == {
        "0.5": 0.5, "1": 0.5, "2": 0.0,
    }  # fmt: skip
    assert buffer_summary([{}]) is None


@pytest.mark.parametrize("arguments", [(0, 10, 1), (10, 0, 1), (10, 10, 0), (float("nan"), 10, 1)])
def test_a_buffer_of_nonsense_is_refused(arguments) -> None:
    with pytest.raises(InputError, match="needs a positive"):
        drain([1], *arguments)


def test_quality_at_target_by_hand() -> None:
    outcomes = [
        Outcome(100, 100, 36.0, 100, 35.0),  # better: a win
        Outcome(100, 90, 34.0, 100, 35.0),  # bits left over, worse: a loss
        Outcome(100, 103, 40.0, 99, 35.0),  # over by 3 %, however good
        Outcome(100, 100, 30.0, 120, 45.0),  # the anchor is over
        Outcome(100, 120, 30.0, 120, 45.0),  # both are
        Outcome(100, 100, 35.005, 100, 35.0),  # the same
    ]
    strict = at_target(outcomes, 0.01)
    assert strict is not None
    assert (strict.failed, strict.anchor_failed) == (2, 2)
    assert (strict.wins, strict.ties, strict.losses) == (2, 2, 2)
    assert strict.win_share == 0.5
    assert strict.mean_gain == pytest.approx((1.0 - 1.0 + 0.005) / 3)
    assert strict.score == pytest.approx((36 + 34 + 0 + 30 + 0 + 35.005) / 6)
    lax = at_target(outcomes, 0.05)
    assert lax is not None
    assert (lax.failed, lax.wins, lax.losses) == (1, 3, 1)
    assert at_target([], 0.01) is None
    with pytest.raises(InputError, match="tolerance"):
        at_target(outcomes, -0.1)


@given(
    st.lists(
        st.tuples(st.floats(10, 1000), st.floats(0.5, 1.5), st.floats(20, 50)),
        min_size=1, max_size=20,
    ),
    st.floats(1.06, 3.0),
)  # fmt: skip
def test_nobody_wins_by_missing_the_target(points, factor) -> None:
    """Any quality at all that is bought by overshooting loses to an anchor that lands."""
    outcomes = [Outcome(t, t * factor, db + 50, t * min(a, 1), db) for t, a, db in points]
    found = at_target(outcomes, 0.05)
    assert found is not None
    assert (found.wins, found.losses, found.score) == (0, len(points), 0.0)
    mirror = at_target([Outcome(t, t, db, t, db) for t, _, db in points], 0.05)
    assert mirror is not None
    assert (mirror.win_share, mirror.mean_gain) == (0.5, 0.0)
