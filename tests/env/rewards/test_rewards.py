"""The self-competition rule: its order, its symmetry, its memory."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muzero_rc.env.rewards import (
    PastScore,
    SelfCompetitionReward,
    excess,
    lexicographic_outcome,
    psnr_gain_at_equal_rate,
    score_outcome,
)
from muzero_rc.errors import CheckpointError, InputError
from muzero_rc.types import EpisodeScore

psnrs = st.floats(10, 60)
overshoots = st.one_of(st.floats(-1, 3), st.sampled_from([-0.1, 0.0, 0.004, 0.005, 0.1]))
outcomes = st.tuples(psnrs, overshoots)


def _score(psnr: float = 40.0, overshoot: float = 0.0, clip: str = "a") -> EpisodeScore:
    return EpisodeScore(
        clip=clip,
        target_kbps=100.0,
        actual_kbps=100.0 * (1 + overshoot),
        bits=1000,
        psnr_avg=psnr,
        psnr_overall=psnr - 1,
        psnr_y=psnr - 2,
        shown_frames=10,
        coded_frames=12,
    )


def _never() -> EpisodeScore:
    raise AssertionError("the reference was asked for without need")


def _beats(a: tuple[float, float], b: tuple[float, float]) -> int:
    return lexicographic_outcome(*a, *b)


@given(outcomes, outcomes)
def test_rule_is_antisymmetric(a: tuple[float, float], b: tuple[float, float]) -> None:
    assert _beats(a, b) == -_beats(b, a)
    assert _beats(a, a) == 0


@given(outcomes, outcomes)
def test_less_overshoot_always_wins_whatever_the_psnr(
    a: tuple[float, float], b: tuple[float, float]
) -> None:
    if excess(a[1]) < excess(b[1]):
        assert _beats(a, b) == 1


@given(outcomes, outcomes)
def test_psnr_decides_where_both_meet_the_bitrate(
    a: tuple[float, float], b: tuple[float, float]
) -> None:
    if excess(a[1]) == excess(b[1]) == 0:
        assert _beats(a, b) == (a[0] > b[0]) - (a[0] < b[0])


@given(st.lists(outcomes, min_size=3, max_size=3))
def test_rule_is_transitive(three: list[tuple[float, float]]) -> None:
    for a, b, c in itertools.permutations(three):
        if _beats(a, b) >= 0 and _beats(b, c) >= 0:
            assert _beats(a, c) >= 0


def test_tolerance_is_where_overshoot_begins_to_count() -> None:
    assert lexicographic_outcome(41, 0.005, 40, -0.1, tolerance=0.005) == 1
    assert lexicographic_outcome(41, 0.0051, 40, -0.1, tolerance=0.005) == -1
    assert lexicographic_outcome(41, 1e-9, 40, -0.1, tolerance=0.0) == -1


@given(st.lists(outcomes, min_size=1, max_size=20), st.floats(0, 0.99))
def test_averages_stay_within_what_was_seen(
    episodes: list[tuple[float, float]], decay: float
) -> None:
    past = PastScore(40.0, 0.05)
    for psnr, overshoot in episodes:
        past = past.updated(psnr, overshoot, decay)
    seen = [40.0, *(e[0] for e in episodes)]
    over = [0.05, *(max(0.0, e[1]) for e in episodes)]
    assert min(seen) <= past.psnr <= max(seen)
    assert min(over) <= past.overshoot <= max(over)
    assert past.episodes == len(episodes)


def test_first_opponent_is_the_reference_and_is_asked_once() -> None:
    asked = []

    def reference() -> EpisodeScore:
        asked.append(1)
        return _score(40.0)

    reward = SelfCompetitionReward(decay=0.5)
    assert reward.past("a", 100.0) is None
    assert reward(_score(41.0), reference) == 1.0
    assert reward.past("a", 100.0) == PastScore(41.0, 0.0, 1)
    # The average is updated after the comparison: 41.0 now stands against 40.5.
    assert reward(_score(40.5), _never) == -1.0
    assert reward(_score(40.75), _never) == 0.0
    assert len(asked) == 1


def test_the_first_episodes_count_alike_and_the_first_opponent_not_at_all() -> None:
    reward = SelfCompetitionReward(decay=0.9)
    scores = [41.0, 41.5, 40.5, 42.0]
    won = [reward(_score(psnr), lambda: _score(20.0)) for psnr in scores]
    assert won == [1.0, 1.0, -1.0, 1.0]
    past = reward.past("a", 100.0)
    assert past is not None and past.psnr == pytest.approx(np.mean(scores))
    for _ in range(20):
        reward(_score(41.25), _never)
    reward(_score(51.25), _never)
    past = reward.past("a", 100.0)
    assert past is not None and past.psnr == pytest.approx(42.25, abs=0.01), "a tenth from then on"


def test_overshoot_long_ago_is_forgiven() -> None:
    reward = SelfCompetitionReward(decay=0.5, tolerance=0.01)
    assert reward(_score(45.0, 0.32), lambda: _score(40.0)) == -1.0
    rewards = [reward(_score(30.0), _never) for _ in range(12)]
    assert rewards[:4] == [1.0] * 4  # no overshoot beats some
    assert rewards[-1] == -1.0  # until PSNR counts again


def test_each_clip_and_target_has_a_past_of_its_own() -> None:
    reward = SelfCompetitionReward()
    reward(_score(50.0, clip="a"), lambda: _score(40.0))
    assert reward(_score(41.0, clip="b"), lambda: _score(40.0)) == 1.0
    assert len(reward) == 2


@pytest.mark.parametrize(
    ("metric", "expected"), [("psnr_avg", 40.0), ("psnr_overall", 39.0), ("psnr_y", 38.0)]
)
def test_metric_is_the_one_asked_for(metric: str, expected: float) -> None:
    reward = SelfCompetitionReward(metric=metric)  # type: ignore[arg-type]
    reward(_score(40.0), lambda: _score(40.0))
    past = reward.past("a", 100.0)
    assert past is not None and past.psnr == expected


@given(st.lists(st.tuples(outcomes, st.sampled_from("ab")), max_size=8), outcomes)
def test_a_restored_history_scores_alike(
    episodes: list[tuple[tuple[float, float], str]], last: tuple[float, float]
) -> None:
    one = SelfCompetitionReward(decay=0.7, tolerance=0.01, metric="psnr_y")
    for (psnr, overshoot), clip in episodes:
        one(_score(psnr, overshoot, clip), lambda: _score(40.0))
    two = SelfCompetitionReward()
    two.load_state_dict(json.loads(json.dumps(one.state_dict())))
    assert two.state_dict() == one.state_dict()
    score = _score(*last)
    assert one(score, lambda: _score(40.0)) == two(score, lambda: _score(40.0))


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"version": 99},
        {"version": 1, "decay": 2, "tolerance": 0, "metric": "psnr_y", "past": []},
        {"version": 1, "decay": 0.5, "tolerance": 0, "metric": "psnr_y", "past": [{"clip": "a"}]},
        {"version": 1, "decay": 0.5, "tolerance": 0, "metric": "psnr_y", "past": None},
    ],
)
def test_a_damaged_history_is_refused_and_changes_nothing(state: dict[str, object]) -> None:
    reward = SelfCompetitionReward()
    reward(_score(), lambda: _score())
    before = reward.state_dict()
    with pytest.raises(CheckpointError):
        reward.load_state_dict(state)
    assert reward.state_dict() == before


@pytest.mark.parametrize("arguments", [{"decay": 1.0}, {"tolerance": -0.1}, {"metric": "ssim"}])
def test_bad_parameters_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(InputError):
        SelfCompetitionReward(**arguments)  # type: ignore[arg-type]


def test_outcome_of_scores() -> None:
    assert score_outcome(_score(41.0), _score(40.0)) == 1
    assert score_outcome(_score(41.0, 0.2), _score(40.0, 0.1)) == -1


def test_gain_at_equal_rate_charges_for_bits() -> None:
    assert psnr_gain_at_equal_rate(_score(41.0), _score(40.0)) == pytest.approx(1.0)
    doubled = _score(41.0, overshoot=1.0)
    assert psnr_gain_at_equal_rate(doubled, _score(40.0), db_per_doubling=3.0) == pytest.approx(-2)
