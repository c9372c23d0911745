"""Films in two passes: levels of constant quality that meet the film's bits."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muzero_rc.encode.chunk_store import ChunkFiles
from muzero_rc.encode.chunked import kind_of_probe
from muzero_rc.encode.encoded import Encoded
from muzero_rc.encode.film_levels import FilmLevels
from muzero_rc.encode.first_pass_realtime import FirstPassInRealtime
from muzero_rc.encode.level import Level, at_level, nearest_level, quantizer_of
from muzero_rc.encode.quality_budget import QualityBudget, common_level, first_levels
from muzero_rc.encode.realtime_model import REALTIME_MODEL
from muzero_rc.encode.realtime_probe import (
    START_LEVEL,
    ChunkForecast,
    RealtimeProbe,
    realtime_probe,
)
from muzero_rc.encode.share import Curve, bits_for_psnr
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import FirstPass, first_pass
from muzero_rc.env.codec.realtime import RealtimeEncoder, encode_in_realtime
from muzero_rc.env.control.baselines import VbrPolicy
from muzero_rc.env.control.qp_offsets import steps_by_level
from muzero_rc.env.control.rate.probe import qindex_octaves, qindex_of_octaves
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.passes.pipeline import rollout
from muzero_rc.errors import EncoderError, InputError
from muzero_rc.leaky_bucket import Bucket
from muzero_rc.policies.registry import make_policy
from muzero_rc.video.ivf import ivf_packet_bits
from tests.app.test_chunks import CHUNKS, FRAMES, LENGTH, shorten_chunks, three_scenes
from tests.app.test_chunks import run as run_chunks

SETTINGS = EncoderSettings(
    target_kbps=50, speed=5, kf_max_dist=22, passes=2, speed_profile="uniform"
)


@pytest.fixture(autouse=True)
def _short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_chunks(monkeypatch)


@pytest.fixture(scope="module")
def film(sample_clips: dict[str, Path]) -> Clip:
    return three_scenes(sample_clips)


@pytest.fixture(scope="module")
def statistics(film: Clip) -> FirstPass:
    return first_pass(film, SETTINGS, cache=False)


def run(
    film: Clip, statistics: FirstPass, folder: Path, *,
    settings: EncoderSettings = SETTINGS, **options: Any,
) -> tuple[Encoded, bytes]:  # fmt: skip
    return run_chunks(
        film, statistics, folder, settings=settings, policy=make_policy("planned"), **options
    )


@pytest.mark.parametrize("kbps", [15, 40])
def test_the_film_is_whole_and_on_target_whoever_works(
    film: Clip, statistics: FirstPass, tmp_path: Path, kbps: int
) -> None:
    settings = SETTINGS.replace(target_kbps=kbps)
    done, ivf = run(film, statistics, tmp_path / "one", workers=1, settings=settings)
    assert done.chunks == CHUNKS
    assert done.score.shown_frames == FRAMES == int.from_bytes(ivf[24:28], "little")
    assert abs(done.score.overshoot) <= 0.005
    assert run(film, statistics, tmp_path / "four", workers=4, settings=settings)[1] == ivf


def test_it_is_told_how_likely_chunks_are_made_again(
    film: Clip, statistics: FirstPass, tmp_path: Path
) -> None:
    chances: list[tuple[str, float]] = []
    for _ in ("new", "kept"):
        done, _ = run(film, statistics, tmp_path, on_chance=lambda *told: chances.append(told))
        assert {phase for phase, _ in chances} == {"second pass"}
        assert chances[-1][1] == float(done.chunks_again > 0)
        if len(chances) > 1:
            assert len(chances) == CHUNKS + 1 and 0 < chances[0][1] < 1
        chances.clear()


@pytest.mark.parametrize("stop_at", [30, 100])
def test_it_goes_on_where_it_was_stopped(
    film: Clip, statistics: FirstPass, tmp_path: Path, stop_at: int
) -> None:
    told = 0

    def stop(phase: str, frames: int, kept: bool, weight: float) -> None:
        nonlocal told
        told += frames
        if told >= stop_at:
            raise KeyboardInterrupt

    whole: list[int] = []
    undisturbed = run(
        film, statistics, tmp_path / "whole", on_frames=lambda *told: whole.append(told[1])
    )
    with pytest.raises(KeyboardInterrupt):
        run(film, statistics, tmp_path, on_frames=stop)
    seen: list[tuple[str, int, bool, float]] = []
    again = run(film, statistics, tmp_path, on_frames=lambda *told: seen.append(told))
    assert again[1] == undisturbed[1]
    new = [frames for _, frames, kept, _ in seen if not kept]
    # Two workers: no more than the two chunks in work were lost.
    assert sum(new) <= sum(whole) - stop_at + 2 * LENGTH
    # An encode in real time that is damaged, or of another level, is made again.
    kept = sorted(tmp_path.glob("*.rt.json"))
    kept[0].write_text("{")
    assert kept[1].name == "00001.rt.json"
    files = ChunkFiles(tmp_path)
    files.add_realtime_probe(1, (files.realtime_probe(1) or {}) | {"level": 8.0})
    seen.clear()
    assert run(film, statistics, tmp_path, on_frames=lambda *told: seen.append(told))[1] == again[1]
    assert sum(frames for _, frames, was_kept, _ in seen if not was_kept) == 2 * LENGTH


@pytest.mark.parametrize("own_thread", [False, True])
def test_encodes_beside_the_first_pass_are_those_of_the_chunks(
    film: Clip, statistics: FirstPass, tmp_path: Path, own_thread: bool
) -> None:
    told: list[int] = []
    run_beside = FirstPassInRealtime(film, SETTINGS, own_thread=own_thread, on_frames=told.append)
    found = first_pass(film, SETTINGS, cache=False, run=run_beside)
    assert found.packed == statistics.packed
    assert told == sorted(told) and told[-1] == FRAMES
    assert sorted(run_beside.costs) == [(n, n + LENGTH) for n in range(0, FRAMES, LENGTH)]
    quantizer = quantizer_of(START_LEVEL)
    for costs, part in zip(run_beside.costs.values(), film.parts([LENGTH] * CHUNKS), strict=True):
        alone = encode_in_realtime(part, SETTINGS, quantizer)
        assert costs.bits.tolist() == alone.bits.tolist()
        assert costs.squared_error.tolist() == alone.squared_error.tolist()
    # A film needs no encode in real time then, and has the same bytes.
    plain = run(film, statistics, tmp_path / "plain")[1]
    seen: list[tuple[str, int, bool, float]] = []
    told_by_pass = dataclasses.replace(found, realtime=run_beside.costs)
    ivf = run(film, told_by_pass, tmp_path / "beside", on_frames=lambda *told: seen.append(told))[1]
    assert ivf == plain
    assert {kept for phase, _, kept, _ in seen[:CHUNKS] if phase == "probe"} == {True}
    # Chunks that begin elsewhere are encoded by themselves.
    moved = {(start + 1, end): costs for (start, end), costs in run_beside.costs.items()}
    other = dataclasses.replace(found, realtime=moved)
    assert run(film, other, tmp_path / "moved")[1] == plain


@pytest.mark.parametrize("own_thread", [False, True])
def test_an_encoder_that_fails_beside_the_first_pass_ends_it(
    film: Clip, monkeypatch: pytest.MonkeyPatch, own_thread: bool
) -> None:
    def fail(self: RealtimeEncoder, frames: Any, first: int, count: int) -> None:
        raise EncoderError("no memory")

    monkeypatch.setattr(RealtimeEncoder, "encode", fail)
    chunks = FirstPassInRealtime(film, SETTINGS, own_thread=own_thread)
    with pytest.raises(EncoderError, match="no memory"):
        first_pass(film, SETTINGS, cache=False, run=chunks)
    assert not chunks.costs


def test_another_bitrate_is_asked_for_by_what_is_expected(
    film: Clip, statistics: FirstPass, tmp_path: Path
) -> None:
    asked: list[Sequence[Curve]] = []

    def start(curves: Sequence[Curve], seconds: float) -> float:
        asked.append(curves)
        assert seconds == film.duration_s
        return 80.0

    done, ivf = run(film, statistics, tmp_path / "found", start_kbps=start)
    assert {len(curves) for curves in asked} == {CHUNKS}
    assert done.score.target_kbps == 80.0 and abs(done.score.overshoot) <= 0.02
    wanted = run(film, statistics, tmp_path / "given", settings=SETTINGS.replace(budget_kbps=80.0))
    assert wanted[0].score.actual_kbps == pytest.approx(done.score.actual_kbps, rel=0.02)


def test_a_quality_far_from_the_settings_bitrate_is_foretold(
    film: Clip, statistics: FirstPass, tmp_path: Path
) -> None:
    def start(curves: Sequence[Curve], seconds: float) -> float:
        return bits_for_psnr(curves, 38.0) / seconds / 1000.0

    settings = SETTINGS.replace(target_kbps=1)
    done, _ = run(film, statistics, tmp_path, settings=settings, start_kbps=start)
    assert done.score.psnr_avg == pytest.approx(38.0, abs=2.5)


def test_chunks_are_made_again_for_the_film(
    film: Clip, statistics: FirstPass, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    level = QualityBudget.level

    def wrong(self: QualityBudget, index: int, *known: Any) -> Level:
        found = level(self, index, *known)
        return found._replace(qindex=found.qindex + (20.0 if index == CHUNKS - 1 else 0.0))

    monkeypatch.setattr(QualityBudget, "level", wrong)
    done, ivf = run(film, statistics, tmp_path)
    assert done.chunks_again >= 1 and abs(done.score.overshoot) <= 0.02
    assert run(film, statistics, tmp_path)[1] == ivf


def test_a_bucket_is_kept(film: Clip, statistics: FirstPass, tmp_path: Path) -> None:
    bucket = Bucket(50.0, 0.4)
    run(film, statistics, tmp_path / "before")
    assert bucket.excesses(ivf_packet_bits(tmp_path / "before" / "film.ivf"), film.fps)
    run(film, statistics, tmp_path / "after", bucket=bucket)
    assert not bucket.excesses(ivf_packet_bits(tmp_path / "after" / "film.ivf"), film.fps)


def test_the_kind_of_probe() -> None:
    planned = make_policy("planned")
    assert kind_of_probe(planned, SETTINGS, film=True) == "realtime"
    assert kind_of_probe(planned, SETTINGS, film=True, beside=True) == "beside"
    assert kind_of_probe(planned, SETTINGS, film=False, beside=True) is None
    assert kind_of_probe(planned, SETTINGS.replace(passes=3), film=True) == "whole"
    constant = SETTINGS.replace(rc_mode="q", cq_level=30)
    assert kind_of_probe(VbrPolicy(), constant, film=True) is None


@given(st.floats(0.0, 255.0))
def test_octaves_and_qindexes(qindex: float) -> None:
    assert qindex_of_octaves(float(qindex_octaves(qindex))) == pytest.approx(qindex, abs=1e-6)


def test_levels_are_the_quantizers_of_libvpx() -> None:
    # quantizer_to_qindex of libvpx's vp9_quantize.c.
    for level, found in ((0, 0), (1.9, 0), (2.1, 4), (124, 124), (243, 244), (255, 244)):
        assert nearest_level(level) == found


def test_constant_quality_lies_between_two_quantizers(film: Clip, statistics: FirstPass) -> None:
    qindexes = {}
    for level in (96.0, 98.5, 100.0):
        settings, policy = at_level(SETTINGS, Level(level))
        assert settings.cq_level == (25 if level == 100.0 else 24)
        done = rollout(film, settings, policy, first_pass=statistics)
        qindexes[level] = np.array(done.log.qindexes, float)
    lower, between, upper = qindexes.values()
    assert np.mean(between - lower) == pytest.approx(2.5, abs=0.3)
    assert np.mean(upper) > np.mean(lower)


def test_frames_have_the_steps_of_their_kind(film: Clip, statistics: FirstPass) -> None:
    settings, policy = at_level(SETTINGS, Level(100.0))
    seen: list[tuple[int, int, float]] = []

    class Watched(type(policy)):  # type: ignore[misc]
        def qindexes(self, observations: Any) -> Any:
            answer = super().qindexes(observations)
            steps = np.rint(steps_by_level(observations))
            for o, qindex, step in zip(observations, answer, steps, strict=True):
                seen.append((o.proposal_qindex, int(qindex), float(step)))
            return answer

    rollout(film, settings, Watched(0.0), first_pass=statistics)
    assert all(qindex == proposal + step for proposal, qindex, step in seen)
    assert len({step for *_, step in seen}) > 1


def test_real_time_of_ten_bits_has_the_scale_of_eight(film: Clip) -> None:
    frames = np.stack([film.frame(i) for i in range(LENGTH)])
    same = Clip.from_frames(frames.astype("<u2") * 4, film.width, film.height, 25, bit_depth=10)
    few = Clip.from_frames(frames, film.width, film.height, 25)
    eight, ten = (encode_in_realtime(clip, SETTINGS, 40) for clip in (few, same))
    assert ten.squared_error.sum() == pytest.approx(eight.squared_error.sum(), rel=0.1)
    assert ten.bits.sum() == pytest.approx(eight.bits.sum(), rel=0.1)


def test_a_streamed_clip_has_no_real_time(sample_clips: dict[str, Path]) -> None:
    clip = Clip.load(sample_clips["bikes"], height=32, memory_limit_bytes=1)
    with pytest.raises(InputError, match="keeps no frames"):
        encode_in_realtime(clip, SETTINGS, 30)


def test_a_page_that_stands_still_has_costs() -> None:
    page = np.tile(np.arange(40 * 48, dtype=np.uint8), (22, 1))
    clip = Clip.from_frames(page, 40, 32, 25)
    probe = realtime_probe(clip, SETTINGS, START_LEVEL)
    assert np.isfinite([probe.bits, probe.error]).all() and 0.5 < probe.first <= 1.0


FORECASTS = [
    ChunkForecast(22, 40 * 32, 22 * 30.0, (5.0 + i, -0.8), (-2.0 + i, 0.7)) for i in range(4)
]


@given(st.floats(1.0, 250.0))
def test_levels_and_bits(level: float) -> None:
    own = FORECASTS[1]
    assert own.level_for(own.bits_at(level)) == pytest.approx(level, abs=1e-3)
    assert own.level_from(level, 0.0) == pytest.approx(level, abs=1e-3)
    assert own.bits_at(level + 5.0) < own.bits_at(level)
    bits = sum(f.fixed + f.bits_at(level) for f in FORECASTS)
    assert common_level(FORECASTS, bits) == pytest.approx(level, abs=1e-3)


def test_first_levels_spend_the_film() -> None:
    bits = sum(f.fixed + f.bits_at(120.0) for f in FORECASTS)
    levels = first_levels(FORECASTS, bits)
    spent = sum(f.fixed + f.bits_at(lv) for f, lv in zip(FORECASTS, levels, strict=True))
    assert spent == pytest.approx(bits, rel=1e-3)
    # More error for each bit: the later ones are harder, and coarser.
    assert levels == sorted(levels)


def test_a_film_that_takes_more_than_expected_gets_higher_levels() -> None:
    bits = sum(f.fixed + f.bits_at(120.0) for f in FORECASTS)
    budget = QualityBudget(FORECASTS, {}, bits, 0.5)
    levels = {0: budget.level(0, {}, {})}
    levels[1] = budget.level(1, levels, {})
    known = budget.known_before(3)
    assert 0 in known and 3 not in known
    as_told = {i: FORECASTS[i].curve(levels[i].qindex) for i in known if i in levels}
    levels[2] = budget.level(2, levels, as_told)
    as_told = {i: FORECASTS[i].curve(levels[i].qindex) for i in known}
    dearer = {i: dataclasses.replace(c, bits=1.5 * c.bits) for i, c in as_told.items()}
    assert budget.level(3, levels, dearer).qindex > budget.level(3, levels, as_told).qindex


def test_the_shipped_model_is_that_of_its_record() -> None:
    record = REALTIME_MODEL.record
    assert record["sources"] >= 40
    assert record["octaves_of_bits_off"] < record["by_level_alone"]
    assert REALTIME_MODEL.bits[1] < 0.0 < REALTIME_MODEL.error[1]


def test_what_a_saturated_encode_took_is_taken_as_it_is(statistics: FirstPass) -> None:
    stats, pixels = statistics.stats[:LENGTH], 40 * 32
    for error, alone in ((-4.0, True), (6.0, False)):
        probe = RealtimeProbe(START_LEVEL, LENGTH, bits=-5.0, error=error, first=0.3, frame_bits=())
        forecast = REALTIME_MODEL.forecast(probe, stats, pixels, 100.0)
        as_it_is = 2.0**-5.0 * LENGTH * pixels
        assert (forecast.bits_at(START_LEVEL) == pytest.approx(as_it_is)) == alone
        assert forecast.bits_at(60.0) > forecast.bits_at(START_LEVEL)


def test_a_chunk_is_lossless_where_that_costs_no_more_than_its_share() -> None:
    lossy = FORECASTS[0]
    dear = lossy.bits_at(0.0)
    known = dataclasses.replace(lossy, lossless=0.5 * dear)
    assert known.bits_at(0.0) == known.curve(30.0).most == 0.5 * dear
    assert known.bits_at(1.0) == lossy.bits_at(1.0) > known.bits_at(0.0)
    assert known.level_for(0.5 * dear) == 0.0 < known.level_for(0.49 * dear)
    assert known.level_for(0.49 * dear) == lossy.level_for(0.49 * dear)


def test_a_page_that_stands_still_is_coded_without_loss(
    film: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[str] = []
    run_phase = FilmLevels._run

    def noted(self: FilmLevels, phase: str, handle: Any, todo: Sequence[Any], *more: Any) -> None:
        decoded.extend([phase] * bool(todo))
        run_phase(self, phase, handle, todo, *more)

    monkeypatch.setattr(FilmLevels, "_run", noted)
    frames = np.stack([film.frame(index) for index in range(FRAMES)])
    frames[LENGTH : 2 * LENGTH] = frames[LENGTH]
    page = Clip.from_frames(frames, film.width, film.height, film.fps)
    settings = SETTINGS.replace(target_kbps=50)
    found = first_pass(page, settings, cache=False)
    done, _ = run(page, found, tmp_path, settings=settings)
    psnr = [frame.psnr for frame in done.results if frame.shown]
    assert done.chunks == CHUNKS and abs(done.score.overshoot) <= 0.01
    assert min(psnr[LENGTH : 2 * LENGTH]) > 80.0 > min(psnr[:LENGTH])
    # At the first level, without loss, at the levels that others need, and what that changes.
    assert decoded.count("probe") <= 4
    # Where it may cost no more than a lossy one it is that.
    poor = settings.replace(target_kbps=10)
    done, _ = run(page, found, tmp_path / "poor", settings=poor)
    assert max(frame.psnr for frame in done.results if frame.shown) < 80.0


def test_the_model_knows_a_clip_that_it_has_not_seen(sample_clips: dict[str, Path]) -> None:
    # The package's own clips are no part of the corpus that it was fitted to.
    off = []
    for name in ("bikes", "carphone_pristine", "bigbuckbunny"):
        clip = Clip.load(sample_clips[name], height=144, max_frames=60)
        settings = SETTINGS.replace(speed=4, kf_max_dist=128)
        found = first_pass(clip, settings, cache=False)
        probe = realtime_probe(clip, settings, START_LEVEL)
        forecast = REALTIME_MODEL.forecast(probe, found.stats, clip.width * clip.height, 100.0)
        used, policy = at_level(settings, Level(100.0))
        done = rollout(clip, used, policy, first_pass=found)
        expected = forecast.fixed + forecast.bits_at(100.0)
        off.append(abs(np.log2(8 * done.log.size_bytes / expected)))
    assert max(off) < 0.7 and np.mean(off) < 0.4
