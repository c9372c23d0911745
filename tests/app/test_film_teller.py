"""What chunks weigh, and how likely some are made again."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muzero_rc.encode.chunk_jobs import Taken
from muzero_rc.encode.cut import Chunk
from muzero_rc.encode.film_teller import FilmTeller, chance_again
from muzero_rc.encode.job_progress import JobProgress

FRAMES = (60, 90, 120, 90)
POSITIVE = st.floats(1e-6, 1e9)


class Told:
    """Notes what is told."""

    def __init__(self, workers: int = 2, *, uniform: bool = True) -> None:
        self.frames: list[tuple[str, int, bool, float]] = []
        self.ahead: list[tuple[str, int, float]] = []
        self.chances: list[float] = []
        chunks = [Chunk(i, sum(FRAMES[:i]), n) for i, n in enumerate(FRAMES)]
        self.teller = FilmTeller(
            chunks, workers, uniform,
            lambda *told: self.frames.append(told),
            lambda *told: self.ahead.append(told),
            lambda phase, chance: self.chances.append(chance),
        )  # fmt: skip

    def weights(self) -> list[float]:
        """Of frames of each chunk."""
        before = len(self.frames)
        for index in range(len(FRAMES)):
            self.teller.add("second pass", index, 1)
        return [weight for _, _, _, weight in self.frames[before:]]


@given(
    bits=st.lists(st.floats(0.0, 1e12), min_size=4, max_size=4),
    seconds=st.none() | st.lists(st.floats(0.0, 1e6), min_size=4, max_size=4),
)
def test_weights_are_finite_and_have_a_mean_of_one(
    bits: list[float], seconds: list[float] | None
) -> None:
    told = Told()
    told.teller.weigh(bits, seconds)
    weights = told.weights()
    assert all(math.isfinite(weight) and weight >= 0 for weight in weights)
    whole = sum(weight * n for weight, n in zip(weights, FRAMES, strict=True))
    assert whole == pytest.approx(sum(FRAMES))


def test_a_chunk_weighs_what_its_bits_and_its_probe_encode_tell() -> None:
    told = Told()
    bits = [n * 100.0 for n in FRAMES]
    told.teller.weigh(bits)
    assert told.weights() == pytest.approx([1.0] * 4)
    told.teller.weigh([4 * bits[0], *bits[1:]])
    easy, hard = told.weights()[1], told.weights()[0]
    assert hard == pytest.approx(2 * easy)
    seconds = [n * 0.01 for n in FRAMES]
    told.teller.weigh(bits, [2 * seconds[0], *seconds[1:]])
    slow = told.weights()
    assert 1.3 < slow[0] / slow[1] < 2.0
    # A hierarchical encode gives more time than a uniform one to what is hard.
    deep = Told(uniform=False)
    deep.teller.weigh(bits, [2 * seconds[0], *seconds[1:]])
    assert deep.weights()[0] / deep.weights()[1] > 2.0
    # Of one chunk nobody knows what the probe took: then that of no chunk counts.
    told.teller.weigh(bits, [0.0, *seconds[1:]])
    assert told.weights() == pytest.approx([1.0] * 4)


def test_one_chunk_that_is_made_again_has_all_workers_time() -> None:
    told = Told(workers=4)
    told.teller.add_ahead("second pass", [2])
    assert told.ahead == [("second pass", 120, 4.0)]
    told.teller.add("second pass", 2, 7)
    assert told.frames == [("second pass", 7, False, 4.0)]


def test_one_chunk_that_closes_the_film_has_all_workers_time() -> None:
    told = Told(workers=4)
    told.teller.close("second pass", 2)
    assert told.ahead == [("second pass", -120, 1.0), ("second pass", 120, 4.0)]
    told.teller.add("second pass", 2, 7)
    told.teller.add("second pass", 1, 7)
    assert [weight for *_, weight in told.frames] == [4.0, 1.0]
    job = JobProgress({"second pass": 1.0}, sum(FRAMES))
    before = job.read().share
    for ahead in told.ahead:
        job.add_ahead(*ahead)
    assert before == 0.0 and job.done("second pass") == (0, sum(FRAMES))
    for index, frames in enumerate(FRAMES):
        job.add("second pass", frames, weight=4.0 if index == 2 else 1.0)
    assert job.read().share == 1.0


@given(
    misses=st.dictionaries(st.integers(0, 9), st.floats(-0.99, 100.0)),
    parts=st.lists(st.floats(1e-6, 1.0), min_size=10, max_size=10),
    unsettled=st.lists(st.integers(0, 9), unique=True),
    usual=st.floats(1e-6, 10.0),
)
def test_a_chance_is_between_none_and_all(
    misses: dict[int, float], parts: list[float], unsettled: list[int], usual: float
) -> None:
    assert 0.0 <= chance_again(misses, parts, unsettled, usual, 0.005) <= 1.0


def test_the_chance_falls_with_chunks_that_take_what_they_should() -> None:
    parts = [0.05] * 20
    chances = [
        chance_again(dict.fromkeys(range(known), 0.0), parts, range(10, 20), 0.05, 0.005)
        for known in range(20)
    ]
    assert chances == sorted(chances, reverse=True)
    assert chances[0] > 0.4 and chances[-1] < 0.01
    # Of many chunks each is a small part, and some miss more where others miss less.
    assert chance_again({}, [0.001] * 1000, range(500, 1000), 0.05, 0.005) < 0.01


def test_what_later_chunks_make_up_for_does_not_count() -> None:
    parts = [0.1] * 10
    early, late = {0: 0.2}, {9: 0.2}
    for index in range(10):
        early.setdefault(index, 0.0)
        late.setdefault(index, 0.0)
    assert chance_again(early, parts, range(5, 10), 0.05, 0.005) == 0.0
    assert chance_again(late, parts, range(5, 10), 0.05, 0.005) == 1.0


def test_a_chunk_of_few_bits_that_missed_by_far_says_little() -> None:
    parts = [0.001] + [0.111] * 9
    unsettled = range(5, 10)
    plain = chance_again({1: 0.001}, parts, unsettled, 0.05, 0.005)
    missed = chance_again({0: 5.0, 1: 0.001}, parts, unsettled, 0.05, 0.005)
    assert missed == pytest.approx(plain, abs=0.05)


@pytest.mark.parametrize(("missed", "chance"), [(0.004, 0.0), (-0.004, 0.0), (0.006, 1.0)])
def test_a_film_whose_chunks_are_finished_is_known(missed: float, chance: float) -> None:
    told = Told()
    bits = [1000.0 * n for n in FRAMES]
    told.teller.weigh(bits)
    taken = {
        index: Taken(asked, round(asked * (1.0 + missed)), most=False, least=False)
        for index, asked in enumerate(bits)
    }
    told.teller.doubt("second pass", {}, {}, sum(bits), range(2, len(bits)), 0.05, 0.005)
    told.teller.doubt("second pass", dict(enumerate(bits)), taken, sum(bits), range(2), 0.05, 0.005)
    assert 0.0 < told.chances[0] < 1.0 and told.chances[1] == chance


@given(
    weights=st.lists(st.just(0.0) | st.floats(1e-6, 50.0), min_size=8, max_size=8),
    seconds=st.lists(st.floats(0.0, 100.0), min_size=8, max_size=8),
    chances=st.lists(st.floats(0.0, 1.0), min_size=8, max_size=8),
    kept=st.lists(st.booleans(), min_size=8, max_size=8),
    again=st.integers(0, 100),
)
def test_whatever_is_told_the_share_never_falls_and_the_time_left_is_none_below_zero(
    weights: list[float],
    seconds: list[float],
    chances: list[float],
    kept: list[bool],
    again: int,
) -> None:
    now = 0.0
    job = JobProgress({"first": 1.0, "second": 3.0, "check": 0.5}, 80, lambda: now)
    job.expect_alone("second", 50.0)
    shares = []
    for phase in ("first", "second"):
        for weight, took, chance, old in zip(weights, seconds, chances, kept, strict=True):
            now += took
            job.expect_again("second", 150.0, chance)
            job.add(phase, 10, kept=old, weight=weight)
            state = job.read()
            assert 0.0 <= state.share <= 1.0
            assert state.eta_s is None or 0.0 <= state.eta_s < math.inf
            shares.append(state.share)
    job.add_ahead("second", again, 2.0)
    job.add("second", again, weight=2.0)
    shares.append(job.read().share)
    assert shares == sorted(shares)
    job.add("check", 80)
    state = job.read()
    assert state.share <= 1.0
