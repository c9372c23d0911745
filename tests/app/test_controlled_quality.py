"""Chunks of constant quality under rate control, and the one that closes a film."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muzero_rc.encode.chunk_store import ChunkFiles
from muzero_rc.encode.controlled_quality import ControlledQualityPolicy, Goal, controlled_quality_at
from muzero_rc.encode.film_levels import FilmLevels
from muzero_rc.encode.level import Level, at_level
from muzero_rc.encode.quality_budget import QualityBudget
from muzero_rc.encode.realtime_model import REALTIME_MODEL
from muzero_rc.encode.realtime_probe import (
    START_LEVEL,
    ChunkForecast,
    RealtimeProbe,
    realtime_probe,
)
from muzero_rc.encode.stretch_model import STRETCH_MODEL
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import FirstPass, first_pass
from muzero_rc.env.control.rate.probe import qindex_octaves
from muzero_rc.env.control.recipe import DEFAULT_RECIPE
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.passes.pipeline import rollout
from tests.app.test_chunks import CHUNKS, shorten_chunks, three_scenes
from tests.app.test_film_levels import SETTINGS, run

FRAMES = 96
GROUP = 8
SLOPE = -1.3


@pytest.fixture(autouse=True)
def _short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_chunks(monkeypatch)


@pytest.fixture(scope="module")
def film(sample_clips: dict[str, Path]) -> Clip:
    return three_scenes(sample_clips)


@pytest.fixture(scope="module")
def statistics(film: Clip) -> FirstPass:
    return first_pass(film, SETTINGS, cache=False)


def observation(shown: int, *, key: bool, base: bool) -> Any:
    """Of a frame, as far as constant quality looks at it."""
    frame = np.zeros(16, np.float32)
    frame[0 if key else (2 if base else 1)] = 1.0
    return SimpleNamespace(frame=frame, show_index=shown, proposal_qindex=100)


def taken(goal_bits: float, each: list[float], told: list[int], most: float = 2.0) -> float:
    """Bits of frames that take so much at level 100, and more or less at others."""
    goal = Goal(goal_bits, 0.0, told, SLOPE, most)
    policy = ControlledQualityPolicy(goal, 100.0, 25, DEFAULT_RECIPE.qp_offsets.scaled(0.0))
    there = float(qindex_octaves(100.0))
    spent = 0.0
    for shown, bits in enumerate(each):
        seen = observation(shown, key=shown == 0, base=shown % GROUP == 1)
        (qindex,) = policy.qindexes([seen])
        took = bits * 2.0 ** (SLOPE * (float(qindex_octaves(int(qindex))) - there))
        spent += took
        policy.take(SimpleNamespace(bits=took, shown=True))  # type: ignore[arg-type]
    return spent


@given(
    st.floats(-0.5, 0.5),
    st.lists(st.floats(0.8, 1.25), min_size=FRAMES, max_size=FRAMES),
    st.floats(3.0, 20.0),
)
def test_a_chunk_that_takes_more_or_less_than_expected_takes_its_goal(
    octaves: float, noise: list[float], key: float
) -> None:
    told = [round(1000 * key)] + [1000] * (FRAMES - 1)
    each = [2.0**octaves * bits * factor for bits, factor in zip(told, noise, strict=True)]
    goal = float(sum(told))
    missed = abs(taken(goal, each, told) / goal - 1.0)
    assert missed < 0.04
    # A level that stays misses all of it.
    if abs(octaves) > 0.2:
        assert missed < 0.5 * abs(sum(each) / goal - 1.0)


def test_hard_frames_that_were_told_of_are_expected() -> None:
    told = [4000, *[500] * 47, *[2000] * 48]
    levels = []
    goal = Goal(float(sum(told)), 0.0, told, SLOPE, 1.0)
    policy = ControlledQualityPolicy(goal, 100.0, 25, DEFAULT_RECIPE.qp_offsets.scaled(0.0))
    for shown, bits in enumerate(told):
        policy.qindexes([observation(shown, key=shown == 0, base=shown % GROUP == 1)])
        policy.take(SimpleNamespace(bits=bits, shown=True))  # type: ignore[arg-type]
        levels.append(policy.mean_level)
    assert levels == pytest.approx([100.0] * len(told), abs=0.01)


def test_a_group_stays_near_the_first_level() -> None:
    told = [1000] * FRAMES
    most = 0.5
    far = taken(0.1 * sum(told), [float(bits) for bits in told], told, most)
    # At best half an octave less, from the third group on.
    assert far > 0.9 * 2.0**-most * sum(told)


def test_a_real_chunk_takes_its_goal(sample_clips: dict[str, Path]) -> None:
    clip = Clip.load(sample_clips["carphone_pristine"], height=96, max_frames=90)
    settings = EncoderSettings(
        target_kbps=60, speed=5, passes=2, speed_profile="uniform", frame_parallel=False
    )
    known = first_pass(clip, settings, cache=False)
    each = realtime_probe(clip, settings, START_LEVEL).frame_bits
    at, plain = at_level(settings, Level(100.0))
    there = 8 * rollout(clip, at, plain, first_pass=known).log.size_bytes
    for part in (0.85, 1.2):
        goal = Goal(part * there, 90 * 40.0, each, REALTIME_MODEL.bits[1], 1.0)
        policy = controlled_quality_at(at, Level(100.0), goal)
        done = rollout(clip, at, policy, first_pass=known, on_frame=policy.take)
        assert 8 * done.log.size_bytes == pytest.approx(goal.bits, rel=0.06)
        assert (policy.mean_level > 100.0) == (part < 1.0)


FORECASTS = [
    ChunkForecast(22, 40 * 32, 22 * 30.0, (5.0 + i % 3, -0.8), (-2.0 + i % 3, 0.7))
    for i in range(9)
]
BITS = sum(f.fixed + f.bits_at(120.0) for f in FORECASTS)


def test_the_chunk_that_closes_a_film_knows_all_others() -> None:
    budget = QualityBudget(FORECASTS, {}, BITS, 0.5, closing=4)
    assert sorted(budget.known_before(4)) == [0, 1, 2, 3, 5, 6, 7, 8]
    assert list(budget.unsettled) == [4]
    for index in range(9):
        assert index == 4 or 4 not in budget.known_before(index)
    plain = QualityBudget(FORECASTS, {}, BITS, 0.5)
    assert list(plain.known_before(3)) == list(budget.known_before(3))
    # The nearer the end, the more others are known: these are the eighth to be encoded.
    assert len(budget.known_before(8)) == 6 and len(plain.known_before(7)) == 5
    assert list(plain.unsettled) == list(range(len(plain.known_before(8)), 9))


def goal_and_rest(dearer: float, last: float = 1.0) -> tuple[float, float]:
    """What the fifth of nine chunks is to take, and what the others leave.

    Args:
      dearer: what each other one takes, beside what is expected of it.
      last: what the last one takes more than that.
    """
    budget = QualityBudget(FORECASTS, {}, BITS, 0.5, closing=4)
    levels: dict[int, Level] = {}
    found: dict[int, Any] = {}
    for index in [0, 1, 2, 3, 5, 6, 7, 8, 4]:
        known = {i: found[i] for i in budget.known_before(index)}
        levels[index] = budget.level(index, levels, known)
        curve = FORECASTS[index].curve(levels[index].qindex)
        more = dearer * (last if index == 8 else 1.0)
        found[index] = dataclasses.replace(curve, bits=more * curve.bits)
    return budget.goals[4], BITS - sum(found[i].fixed + found[i].bits for i in found if i != 4)


@given(st.floats(0.85, 1.15))
def test_it_takes_what_the_others_leave(dearer: float) -> None:
    goal, rest = goal_and_rest(dearer)
    assert goal == pytest.approx(rest)


@pytest.mark.parametrize("last", [0.2, 2.5])
def test_it_stays_near_what_is_fair(last: float) -> None:
    usual, _ = goal_and_rest(1.0)
    goal, rest = goal_and_rest(1.0, last)
    if last < 1.0:
        assert usual < goal < 1.4 * usual and goal < rest
    else:
        assert 0.75 * usual < goal < usual and goal > rest


def test_a_film_closes_and_is_not_made_again(
    film: Clip, statistics: FirstPass, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    plain = QualityBudget.__init__

    def init(self: QualityBudget, *args: Any, **options: Any) -> None:
        plain(self, *args, **options)
        told.append(self)

    monkeypatch.setattr(QualityBudget, "__init__", init)
    done, _ = run(film, statistics, tmp_path)
    closing = told[-1].closing
    assert closing is not None and abs(done.score.overshoot) <= 0.005
    record = ChunkFiles(tmp_path).record(closing, 0)
    assert record is not None and record.asked == pytest.approx(told[-1].goals[closing])
    assert record.bits == pytest.approx(record.asked, rel=0.15)
    level = record.level
    assert level is not None and level.qindex != round(level.qindex)


def test_long_films_and_those_without_constant_quality_do_not_close(
    film: Clip, statistics: FirstPass, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[int | None] = []
    plain = FilmLevels._closing

    def closing(self: FilmLevels) -> int | None:
        found.append(plain(self))
        kept, kept_bits = self._forecasts, self.bits
        stretched = [dataclasses.replace(f, stretches=((0, 9),)) for f in kept]
        self._forecasts = stretched
        found.append(plain(self))
        self._forecasts, self.bits = list(kept) * 40, 40 * kept_bits
        found.append(plain(self))
        self._forecasts, self.bits = kept, kept_bits
        return found[0]

    monkeypatch.setattr(FilmLevels, "_closing", closing)
    run(film, statistics, tmp_path)
    assert found[0] is not None and found[1:] == [None, None]


@pytest.mark.parametrize("hopeful", [True, False])
def test_no_encode_without_loss_is_asked_for_where_none_can_gain(
    film: Clip, statistics: FirstPass, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    hopeful: bool,
) -> None:  # fmt: skip
    monkeypatch.setattr(type(STRETCH_MODEL), "may_gain", lambda *args: True)
    # So few bits that all levels are coarser than those that were fitted to, and enough.
    kbps = 150 if hopeful else 6
    run(film, statistics, tmp_path, settings=SETTINGS.replace(target_kbps=kbps))
    files = ChunkFiles(tmp_path)
    asked = [files.realtime_probe(index, 3) is not None for index in range(CHUNKS)]
    assert any(asked) == hopeful


def test_what_an_encode_told_is_what_a_goal_goes_by() -> None:
    probe = RealtimeProbe(START_LEVEL, 2, -3.0, 1.0, 0.5, (200, 100))
    goal = Goal(1000.0, 60.0, probe.frame_bits, SLOPE, 1.0)
    policy = ControlledQualityPolicy(goal, 50.0, 12, DEFAULT_RECIPE.qp_offsets)
    assert policy.mean_level == 50.0
    policy.take(SimpleNamespace(bits=700, shown=True))  # type: ignore[arg-type]
    policy.take(SimpleNamespace(bits=10, shown=False))  # type: ignore[arg-type]
    assert policy.mean_level == 50.0 and math.isfinite(policy._next_level())
