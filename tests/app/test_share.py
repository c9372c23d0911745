"""How chunks share a film's bits."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muzero_rc.encode.share import Curve, FilmBudget, first_shares, shares
from muzero_rc.env.codec.statistics import FIRST_PASS_FIELDS
from muzero_rc.env.control.recipe import DEFAULT_RECIPE

POWER = DEFAULT_RECIPE.film_share.error_power
FREE = {"least": 0.0, "most": 1e12}


def steepness(power: float = POWER) -> float:
    return power * DEFAULT_RECIPE.db_per_octave / (10 * np.log10(2))


def slope(curve: Curve, bits: float) -> float:
    """dE / dV, by differences."""
    free = bits - curve.fixed

    def error(v: float) -> float:
        return float(curve.error * (v / curve.bits) ** -steepness())

    return (error(free * 1.001) - error(free * 0.999)) / (0.002 * free)


def curve(fixed: float, bits: float, error: float) -> Curve:
    return Curve(fixed, bits, error, **FREE)


some = st.builds(
    curve, st.floats(0, 5000), st.floats(1000, 1e6), st.floats(1, 1e4)
)  # fmt: skip


@given(st.lists(some, min_size=1, max_size=6), st.floats(2e5, 2e6))
def test_a_bit_more_gains_the_same_everywhere(curves: list[Curve], bits: float) -> None:
    found = shares(curves, bits)
    assert found.sum() == pytest.approx(bits)
    slopes = [slope(c, b) for c, b in zip(curves, found, strict=True)]
    assert slopes == pytest.approx([slopes[0]] * len(slopes), rel=1e-3)


def test_shares_by_hand() -> None:
    # Near PSNR avg every chunk has as many bits above its headers as frames; with MSE^1 a chunk
    # of four times the error at the same bits has 4^(1 / (1 + a)) as many.
    curves = [curve(100, 1000, 10), curve(300, 1000, 40)]
    recipe = DEFAULT_RECIPE.replace({"film_share.error_power": 1.0})
    one, two = shares(curves, 5400.0, recipe=recipe)
    assert (two - 300) / (one - 100) == pytest.approx(4 ** (1 / (1 + steepness(1.0))))
    even = DEFAULT_RECIPE.replace({"film_share.error_power": 1e-9})
    flat = [dataclasses.replace(c, error=10.0) for c in curves]
    assert shares(flat, 5400.0, recipe=even).tolist() == pytest.approx([2600.0, 2800.0])


def test_shares_stay_in_the_range_of_the_quantizer_and_add_up_outside_of_it() -> None:
    narrow = Curve(100, 1000, 10, least=800, most=1200)
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
