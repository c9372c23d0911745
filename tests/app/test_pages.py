"""Pages and stretches that stand nearly still, and their lossless base layer."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muzero_rc.encode.chunk_store import ChunkFiles
from muzero_rc.encode.film_levels import FilmLevels
from muzero_rc.encode.film_phases import MOST_REPAIRS
from muzero_rc.encode.level import Level, at_level
from muzero_rc.encode.page_model import PAGE_MODEL
from muzero_rc.encode.quality_budget import (
    QualityBudget,
    first_levels,
    with_stretches,
)
from muzero_rc.encode.realtime_probe import (
    START_LEVEL,
    ChunkForecast,
    RealtimeProbe,
    realtime_probe,
)
from muzero_rc.encode.share import Curve, Whole, whole_of
from muzero_rc.encode.stretch_model import STRETCH_MODEL
from muzero_rc.encode.stretches import Stretches, mask_of, stretches, whole_chunk
from muzero_rc.encode.ways import Ways, stretched
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import FirstPass, first_pass
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.passes.pipeline import Rollout, rollout
from muzero_rc.policies.registry import make_policy
from muzero_rc.types import UpdateType
from tests.app.test_chunks import CHUNKS, LENGTH, shorten_chunks, three_scenes
from tests.app.test_chunks import run as run_chunks

SETTINGS = EncoderSettings(target_kbps=600, speed=5, passes=2, speed_profile="uniform")
FRAMES, WIDTH, HEIGHT = 60, 160, 96


def page(seed: int = 0) -> Clip:
    """Text on paper: a window moves over it, and a line is written now and then."""
    rng = np.random.default_rng(seed)
    paper = np.full((HEIGHT, WIDTH), 235, np.uint8)
    paper[8:88:6, 8:152] = rng.choice([30, 235], (14, 144), p=(0.5, 0.5))
    window = rng.integers(60, 200, (16, 16))
    frames = []
    for number in range(FRAMES):
        if number % 20 == 19:
            paper[90, 8:152] = rng.choice([30, 235], 144)
        picture = paper.copy()
        left = 10 + number
        picture[30:46, left : left + 16] = window
        chroma = np.full(HEIGHT * WIDTH // 2, 128, np.uint8)
        frames.append(np.concatenate([picture.ravel(), chroma]))
    return Clip.from_frames(np.stack(frames), WIDTH, HEIGHT, 25)


@pytest.fixture(scope="module")
def still() -> Clip:
    return page()


@pytest.fixture(scope="module")
def statistics(still: Clip) -> FirstPass:
    return first_pass(still, SETTINGS, cache=False)


WHOLE = whole_chunk(FRAMES)


def encode(clip: Clip, statistics: FirstPass, level: float, lossless: Stretches = ()) -> Rollout:
    settings, policy = at_level(SETTINGS, Level(level, lossless))
    return rollout(clip, settings, policy, first_pass=statistics)


def test_the_base_layer_alone_is_lossless(still: Clip, statistics: FirstPass) -> None:
    plain, base = (encode(still, statistics, 60.0, lossless).log for lossless in ((), WHOLE))
    kinds = [frame.info.update_type for frame in base.frames if frame.info is not None]
    assert UpdateType.KEY in kinds and UpdateType.ARF in kinds and UpdateType.LEAF in kinds
    for kind, qindex, before in zip(kinds, base.qindexes, plain.qindexes, strict=True):
        if kind in (UpdateType.KEY, UpdateType.GOLDEN):
            assert qindex == 0 < before
        elif kind == UpdateType.LEAF:
            assert qindex == before > 0


def test_a_page_is_better_with_a_lossless_base_for_fewer_bits(
    still: Clip, statistics: FirstPass
) -> None:
    constant = encode(still, statistics, 24.0).score
    base = encode(still, statistics, 24.0, WHOLE).score
    assert base.actual_kbps < constant.actual_kbps
    assert base.psnr_avg > constant.psnr_avg + 5.0
    assert base.psnr_overall > constant.psnr_overall


KNOWN = ChunkForecast(100, 160 * 96, 100 * 40.0, (3.0, -0.8), (-2.0, 0.7))
SCENE = ChunkForecast(100, 160 * 96, 100 * 40.0, (5.0, -0.8), (-1.0, 0.7))
START = RealtimeProbe(START_LEVEL, 100, -5.0, 3.0, 0.5, (50,) * 100)


def probe_of_page(log_v0: float) -> RealtimeProbe:
    """A chunk that takes so much without loss: a picture, and hardly more until the middle."""
    bits = 2.0**log_v0 * 100 * KNOWN.pixels
    costs = [0.1 * bits, *[1.0] * 48, 0.1 * bits, *[0.8 * bits / 50] * 50]
    return RealtimeProbe(0.0, 100, log_v0, -10.0, 0.5, tuple(int(cost) for cost in costs))


def ways_by(constant: ChunkForecast, lossless: RealtimeProbe) -> Ways:
    return STRETCH_MODEL.ways(constant, STRETCH_MODEL.look(lossless, constant.pixels))


def ways_of(*log_v0: float) -> dict[int, Ways]:
    found = {}
    for index, each in enumerate(log_v0):
        lossless = probe_of_page(each)
        constant = PAGE_MODEL.forecast(KNOWN, dataclasses.replace(START, bits=each), lossless)
        assert constant is not None
        found[index] = ways_by(constant, lossless)
    return found


def test_chunks_have_a_lossless_base_where_the_film_can_pay_for_it() -> None:
    found = ways_of(-3.0, -3.0)
    constant = [*(each.constant for each in found.values()), SCENE]
    rich = sum(f.fixed + f.bits_at(30.0) for f in constant)
    chosen = with_stretches(constant, found, rich)
    assert [bool(f.stretches) for f in chosen] == [True, True, False]
    assert chosen[0] in found[0].stretched and chosen[2] == SCENE
    poor = sum(f.fixed + f.bits_at(250.0) for f in constant)
    assert with_stretches(constant, found, poor) == constant


def test_the_best_way_is_the_one_of_the_greatest_gain() -> None:
    found = ways_of(-3.0)[0]
    assert len(found.stretched) > 1
    for level in (2.0, 40.0, 90.0, 250.0):
        bits = found.constant.fixed + found.constant.bits_at(level)
        whole = whole_of([found.constant.curve(level), SCENE.curve(level)], 2.0 * bits)

        def gain(way: ChunkForecast, bits: float = bits, whole: Whole = whole) -> float:
            level = way.level_for(bits - way.fixed)
            return 0.0 if level > 120.0 else found.gain_of(way.curve(level), whole)

        best = found.best(bits, whole)
        most = max(gain(way) for way in found.stretched)
        assert (gain(best) == most > 0.0) if best.stretches else most <= 0.0
        some = found.stretched[:1]
        assert found.best(bits, whole, some) in (found.constant, *some)


def test_of_several_ways_the_best_is_taken_wherever_it_stands() -> None:
    constant = ways_of(-3.0)[0].constant
    better, best = (
        dataclasses.replace(constant, psnr=(90.0 + more, -4.5), stretches=((0, 10 + more),))
        for more in (1, 5)
    )
    for some in ((better, best), (best, better)):
        found = Ways(constant, some, 120.0)
        assert found.best(constant.fixed + constant.bits_at(60.0), Whole(1000, 100.0)) is best
        assert found.way(better.stretches) is better and found.way(()) is constant
        budget = QualityBudget([best], {0: found}, 1e6, 0.5)
        assert budget.forecast(0, Level(60.0, better.stretches)) is better
        assert budget.forecast(0, Level(60.0)) is constant


@given(st.lists(st.floats(-6.0, 1.0), min_size=1, max_size=4), st.floats(20.0, 250.0))
def test_whatever_is_chosen_spends_the_film(log_v0: list[float], level: float) -> None:
    found = ways_of(*log_v0)
    constant = [*(each.constant for each in found.values()), SCENE]
    bits = sum(f.fixed + f.bits_at(level) for f in constant)
    chosen = with_stretches(constant, found, bits)
    levels = first_levels(chosen, bits)
    assert all(0.0 <= each <= 255.0 for each in levels)
    spent = sum(f.fixed + f.bits_at(lv) for f, lv in zip(chosen, levels, strict=True))
    assert spent <= bits * 1.01


def test_pages_and_scenes_are_off_by_themselves() -> None:
    page = ways_of(-3.0)[0].stretched[-1]
    forecasts = [page, SCENE, SCENE, SCENE]
    bits = sum(f.fixed + f.bits_at(90.0) for f in forecasts)
    levels = {index: Level(90.0, forecasts[index].stretches) for index in range(3)}
    as_told = {index: forecasts[index].curve(90.0) for index in (0, 1)}
    extra = as_told[0].bits
    dear = as_told | {0: dataclasses.replace(as_told[0], bits=as_told[0].bits + extra)}

    def level(bits: float, found: dict[int, Curve]) -> float:
        budget = QualityBudget(forecasts, {}, bits, 0.5)
        assert set(budget.known_before(3)) == set(found)
        return budget.level(3, levels, found).qindex

    plain = level(bits, as_told)
    assert level(bits, dear) > plain + 5.0  # there is less left
    # Where that is paid for, a page that took more says nothing of scenes.
    assert level(bits + extra, dear) == pytest.approx(plain, abs=3.0)


def test_a_page_is_coded_as_its_share_allows_then() -> None:
    found = ways_of(-3.0)
    constant = found[0].constant
    for level, base in ((250.0, False), (30.0, True), (0.0, False)):
        rich = constant.fixed + constant.bits_at(level)
        rich += SCENE.fixed + SCENE.bits_at(max(level, 1.0))
        budget = QualityBudget([constant, SCENE], found, rich, 0.5)
        given = budget.level(0, {}, {})
        assert bool(given.lossless) == base or given.qindex == 0.0
        assert budget.goals[0] > 0.0


def test_the_shipped_models_know_a_page_that_they_have_not_seen(
    still: Clip, statistics: FirstPass
) -> None:
    start, lossless = (realtime_probe(still, SETTINGS, level) for level in (START_LEVEL, 0.0))
    known = dataclasses.replace(KNOWN, frames=FRAMES, pixels=WIDTH * HEIGHT)
    constant = PAGE_MODEL.forecast(known, start, lossless)
    assert constant is not None
    for each in (constant, *ways_by(constant, lossless).stretched):
        done = encode(still, statistics, 24.0, each.stretches)
        taken = np.log2(8.0 * done.log.size_bytes)
        assert taken == pytest.approx(np.log2(each.fixed + each.bits_at(24.0)), abs=2.0)
    noise = dataclasses.replace(lossless, bits=start.bits + PAGE_MODEL.most + 0.1)
    assert PAGE_MODEL.forecast(known, start, noise) is None
    assert PAGE_MODEL.record["sources"] >= 30 and STRETCH_MODEL.record["sources"] >= 20


costs = st.lists(st.floats(0.0, 3.0), min_size=1, max_size=9)


@given(costs, st.floats(0.001, 2.0))
def test_stretches_are_those_of_the_greatest_worth(costs: list[float], price: float) -> None:
    def worth(mask: Sequence[bool]) -> float:
        begun = sum(now and not before for before, now in itertools.pairwise(mask))
        inside = sum(price - cost for cost, now in zip(costs, mask, strict=True) if now)
        return inside - costs[0] * begun

    every = itertools.product((False, True), repeat=len(costs))
    mask = mask_of(stretches(costs, price), len(costs)).tolist()
    assert worth(mask) == pytest.approx(max(map(worth, every)), abs=1e-9)


def test_what_stretches_take() -> None:
    costs = [1.0, 0.003, 0.0, 0.5, 0.25, 0.0]
    assert stretches(costs, 0.9) == ((0, 6),) and stretches([1.0, 1.0], 0.5) == ()
    found = stretched(((0, 2), (4, 6)), costs)
    assert found.bits == pytest.approx((1.0 + 0.003 + 0.25 + 0.0 + 1.0) / 6)
    still = 0.003 / 1.003 + 0.5 + 0.003 / 0.253 + 1.0
    assert found.still == pytest.approx(still / 6)
    assert mask_of(((0, 2), (4, 6)), 6).tolist() == [True, True, False, False, True, True]


def test_the_base_layer_is_lossless_in_stretches_alone(still: Clip, statistics: FirstPass) -> None:
    some = ((0, 5), (30, FRAMES))
    log = encode(still, statistics, 60.0, some).log
    seen = set()
    for frame in log.frames:
        if frame.info is None:  # it is shown again
            continue
        qindex = frame.result.qindex
        inside = any(first <= frame.info.show_index < end for first, end in some)
        if frame.info.update_type == UpdateType.LEAF:
            assert qindex > 0
        elif frame.info.update_type in (UpdateType.KEY, UpdateType.GOLDEN):
            assert (qindex == 0) == inside
            seen.add(inside)
        elif not inside:
            assert qindex > 0
    assert True in seen


def test_a_chunk_that_moves_is_not_asked_for_without_loss() -> None:
    pixels = KNOWN.pixels
    moving = dataclasses.replace(START, frame_bits=(pixels // 2, *[pixels // 10] * 99))
    assert not STRETCH_MODEL.may_gain(moving, pixels)
    stands = dataclasses.replace(START, frame_bits=(pixels // 2, *[40] * 99))
    assert STRETCH_MODEL.may_gain(stands, pixels)


def test_a_level_is_read_as_it_was_written() -> None:
    level = Level(12.5, ((0, 3), (7, 9)), -0.5)
    assert Level.of(json.loads(json.dumps(level))) == level


def film_with_pages(
    sample_clips: dict[str, Path],
) -> tuple[Clip, FirstPass, EncoderSettings]:
    """Two of its three chunks nearly stand still."""
    film = three_scenes(sample_clips)
    frames = np.stack([film.frame(index) for index in range(film.num_frames)])
    for index in range(LENGTH, 3 * LENGTH):
        frames[index, 1000:] = frames[index // LENGTH * LENGTH, 1000:]
    clip = Clip.from_frames(frames, film.width, film.height, film.fps)
    settings = SETTINGS.replace(target_kbps=50, kf_max_dist=22)
    return clip, first_pass(clip, settings, cache=False), settings


def test_a_film_with_pages(
    sample_clips: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten_chunks(monkeypatch)
    clip, found, settings = film_with_pages(sample_clips)

    def run(folder: str, workers: int) -> bytes:
        done, ivf = run_chunks(
            clip, found, tmp_path / folder, settings=settings, policy=make_policy("planned"),
            workers=workers,
        )  # fmt: skip
        assert done.chunks == CHUNKS and abs(done.score.overshoot) <= 0.01
        lossless.append(sum(qindex == 0 for qindex in done.qindexes))
        return ivf

    lossless: list[int] = []
    ivf = run("one", 1)
    assert run("four", 4) == ivf == run("one", 2)  # the latter of what is kept
    assert 0 < lossless[0] < clip.num_frames


def test_a_lossless_base_layer_that_turned_out_dear_does_not_pay() -> None:
    found = ways_of(-3.0)[0]
    whole = Whole(1000, 1000.0)
    made = found.stretched[-1].curve(30.0)
    assert found.gain_of(made, whole) > 0.0
    dear = dataclasses.replace(made, bits=8.0 * made.bits)
    assert found.gain_of(dear, whole) < 0.0
    worse = dataclasses.replace(made, error=100.0 * made.error, psnr=made.psnr - 20.0)
    assert found.gain_of(worse, whole) < 0.0


@pytest.mark.parametrize("pays", [False, True])
def test_a_page_is_made_again_as_it_pays(
    sample_clips: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, pays: bool
) -> None:
    """Its base layer took more than was foretold: it is without loss again, or no more."""
    shorten_chunks(monkeypatch)
    clip, found, settings = film_with_pages(sample_clips)
    level = QualityBudget.level

    def all_base(self: QualityBudget, index: int, *known: Any) -> Level:
        given = level(self, index, *known)
        if index not in self._ways:
            return given
        return given._replace(lossless=self._ways[index].stretched[-1].stretches, qindex=1.0)

    monkeypatch.setattr(QualityBudget, "level", all_base)
    monkeypatch.setattr(FilmLevels, "_pays", lambda *_: pays)
    done, _ = run_chunks(
        clip, found, tmp_path, settings=settings, policy=make_policy("planned"), workers=1
    )
    files = ChunkFiles(tmp_path)
    again = 0
    for index in range(CHUNKS):
        made = [files.record(index, turn) for turn in range(MOST_REPAIRS + 1)]
        first, *others = [record.level for record in made if record is not None]
        assert first is not None
        if first.lossless:
            again += len(others)
            assert all(other is not None and bool(other.lossless) == pays for other in others)
    assert done.chunks_again and again
