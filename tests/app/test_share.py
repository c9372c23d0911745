"""How chunks share a film's bits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muzero_rc.encode.share import (
    Curve,
    FilmBudget,
    Whole,
    first_shares,
    shares,
    whole_of,
)
from muzero_rc.env.codec.statistics import FIRST_PASS_FIELDS
from muzero_rc.env.control.recipe import DEFAULT_RECIPE

STEEPNESS = DEFAULT_RECIPE.db_per_octave / (10 * np.log10(2))
FREE = {"least": 0.0, "most": 1e12}


def curve(fixed: float, bits: float, error: float, frames: int = 1) -> Curve:
    return Curve(fixed, bits, error, **FREE, frames=frames, psnr=0.0)


def quality(curves: list[Curve], found: list[float]) -> float:
    """PSNR avg and PSNR overall together, by the curves' model, up to a constant, dB."""
    octaves = [math.log2((bits - c.fixed) / c.bits) for c, bits in zip(curves, found, strict=True)]
    frames = sum(c.frames for c in curves)
    gained = [c.frames * o for c, o in zip(curves, octaves, strict=True)]
    average = DEFAULT_RECIPE.db_per_octave * sum(gained) / frames
    error = sum(c.error * 2 ** (-STEEPNESS * o) for c, o in zip(curves, octaves, strict=True))
    return average - 10 * math.log10(error / frames)


some = st.builds(
    curve, st.floats(0, 5000), st.floats(1000, 1e6), st.floats(1, 1e7), st.integers(30, 300)
)


@given(st.lists(some, min_size=1, max_size=6), st.floats(2e5, 2e6), st.integers(0, 2**32))
def test_no_bit_is_worth_more_elsewhere(curves: list[Curve], bits: float, seed: int) -> None:
    found = shares(curves, bits)
    assert found.sum() == pytest.approx(bits)
    best = quality(curves, found.tolist())
    free = found - [c.fixed for c in curves]
    for part in np.random.default_rng(seed).uniform(-0.05, 0.05, (8, len(curves))):
        moved = part * free
        moved -= free * moved.sum() / free.sum()
        assert quality(curves, (found + moved).tolist()) <= best + 1e-7


def test_shares_by_hand() -> None:
    # Where all frames have the same error, bits above headers go by the number of frames.
    curves = [curve(100, 1000, 10, frames=1), curve(300, 3000, 30, frames=3)]
    assert shares(curves, 4400.0).tolist() == pytest.approx([1100.0, 3300.0])
    # Two chunks of as many frames, of which one has next to all of the error: it is worth
    # 1/2 + 1 against 1/2, three times as much.
    curves = [curve(0, 1000, 1e-9), curve(0, 1000, 1e9)]
    assert shares(curves, 4000.0).tolist() == pytest.approx([1000.0, 3000.0], rel=1e-6)
    # The same where that error is elsewhere in the film: both are worth what their frames are.
    elsewhere = Whole(frames=100, error=1e30)
    assert shares(curves, 4000.0, whole=elsewhere).tolist() == pytest.approx([2000.0, 2000.0])


def test_a_part_of_the_film_shares_its_bits_as_it_would_in_the_whole() -> None:
    curves = [curve(100, 1000 * (1 + i % 3), 10.0**i, frames=20 + i) for i in range(5)]
    fair = shares(curves, 30_000.0)
    whole = whole_of(curves, 30_000.0)
    part = shares(curves[2:], float(fair[2:].sum()), whole=whole)
    assert part.tolist() == pytest.approx(fair[2:].tolist(), rel=1e-6)


def test_shares_stay_in_the_range_of_the_quantizer_and_add_up_outside_of_it() -> None:
    narrow = Curve(100, 1000, 10, least=800, most=1200, frames=1, psnr=0.0)
    wide = curve(100, 1000, 10)
    assert shares([narrow, wide], 6200.0).tolist() == pytest.approx([1300.0, 4900.0])
    assert shares([narrow, wide], 1200.0).tolist() == pytest.approx([900.0, 300.0])
    assert shares([narrow, narrow], 5200.0).tolist() == pytest.approx([2600.0, 2600.0])


def test_first_shares_go_by_the_square_root_of_the_error() -> None:
    stats = np.zeros((5, len(FIRST_PASS_FIELDS)))
    stats[:, FIRST_PASS_FIELDS.index("weight")] = 1
    stats[:, FIRST_PASS_FIELDS.index("coded_error")] = [1, 4, 9, 16, 100]
    assert first_shares(stats, [0, 2, 4]) == pytest.approx([3 / 20, 7 / 20, 10 / 20])


CURVES = [curve(100, 1000 * (1 + i % 3), 10.0) for i in range(8)]
BITS = 20_000.0


def encode_all(budget: FilmBudget, misses: list[float]) -> tuple[dict[int, float], ...]:
    asked: dict[int, float] = {}
    taken: dict[int, float] = {}
    for index, miss in enumerate(misses):
        asked[index] = budget.share(index, asked, taken)
        taken[index] = asked[index] * (1 + miss)
    return asked, taken


def test_shares_that_are_met_stay_the_first_ones() -> None:
    budget = FilmBudget(CURVES, BITS)
    asked, taken = encode_all(budget, [0.0] * 8)
    assert list(asked.values()) == pytest.approx(shares(CURVES, BITS).tolist())
    assert sum(taken.values()) == pytest.approx(BITS)


def test_the_second_half_pays_what_the_first_took() -> None:
    budget = FilmBudget(CURVES, BITS)
    asked, taken = encode_all(budget, [0.06] * 8)
    plain = shares(CURVES, BITS)
    assert list(asked.values())[:4] == pytest.approx(plain[:4].tolist())
    assert all(asked[i] < plain[i] for i in range(4, 8))
    # A miss that all chunks have alike is foreseen.
    assert sum(taken.values()) == pytest.approx(BITS, rel=0.005)


def test_a_share_knows_nothing_that_need_not_be_finished() -> None:
    budget = FilmBudget(CURVES, BITS)
    asked, taken = encode_all(budget, [0.1, -0.2, 0.05, 0, 0.3, 0.1, 0, 0.1])
    for index in range(8):
        known = {i: taken[i] for i in budget.known_before(index)}
        before = {i: asked[i] for i in range(index)}
        assert budget.share(index, before, known) == asked[index]
    # Half of the film can be in work at a time.
    assert [len(budget.known_before(i)) for i in range(8)] == [0, 0, 0, 0, 1, 2, 3, 4]
    assert FilmBudget(CURVES[:1], BITS).known_before(0) == range(0)
