"""Still pages: qindex 0 is lossless, and is entered where a probe encode has been there."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import FirstPass, first_pass
from muzero_rc.env.control.probe_record import SATURATED_DB, ProbeRecord
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.passes.one_pass import Rollout
from muzero_rc.env.passes.pipeline import rollout
from muzero_rc.env.passes.probe import probe_score, run_probes
from muzero_rc.policies.registry import make_policy, prepare

LINES, COLUMNS, FRAMES = 96, 128, 40


@pytest.fixture(scope="module")
def page() -> Clip:
    """A photo that stands still, with a cursor that moves."""
    rng = np.random.default_rng(5)
    photo = np.kron(rng.integers(40, 200, (LINES // 8, COLUMNS // 8)), np.ones((8, 8)))
    photo = np.rint(photo + rng.normal(0.0, 6.0, photo.shape)).clip(0, 255)
    frames = []
    for place in range(FRAMES):
        luma = photo.astype(np.uint8)
        luma[8:16, 2 * place : 2 * place + 4] = 128
        frames.append(np.concatenate([luma.ravel(), np.full(LINES * COLUMNS // 2, 128, np.uint8)]))
    return Clip.from_frames(np.stack(frames), COLUMNS, LINES, 25, "page")


def _encode(page: Clip, kbps: int, saturated: bool | None = None) -> tuple[ProbeRecord, Rollout]:
    policy = make_policy("landed")
    settings = EncoderSettings(target_kbps=kbps, speed=5)
    stats: FirstPass = first_pass(page, settings)
    settings = prepare(policy, page, settings, stats)
    probe = ProbeRecord.of(run_probes(page, settings, stats))
    if saturated is not None:
        probe = dataclasses.replace(probe, saturated=saturated)
    return probe, rollout(page, settings, policy, first_pass=stats, probe=probe)


@pytest.mark.parametrize("kbps", [70, 80])
def test_a_page_that_its_probe_coded_without_loss_stays_so(page: Clip, kbps: int) -> None:
    probe, done = _encode(page, kbps)
    assert probe.saturated
    assert probe.frames[0].qindex == done.log.qindexes[0] == 0
    # With a key frame at 6, as the step of key frames has it, 67 dB at most.
    assert done.score.psnr_overall > 75.0
    assert done.score.actual_kbps <= kbps


def test_where_the_probe_is_not_saturated_a_frame_may_be_moved(page: Clip) -> None:
    probe, done = _encode(page, 80, saturated=False)
    assert probe.frames[0].qindex == 0 < done.log.qindexes[0]


def test_a_page_that_its_probe_coded_with_loss_is_not_lossless(page: Clip) -> None:
    probe, done = _encode(page, 60)
    assert min(frame.qindex for frame in probe.coded.values()) > 0
    assert min(done.log.qindexes) > 0
    assert abs(done.score.overshoot) < 0.5


@pytest.mark.parametrize("kbps", [1000, 3000])
def test_a_probe_is_saturated_by_its_psnr_overall(kbps: int) -> None:
    rng = np.random.default_rng(6)
    frames = rng.integers(0, 256, (12, LINES * COLUMNS * 3 // 2)).astype(np.uint8)
    noise = Clip.from_frames(frames, COLUMNS, LINES, 25, "noise")
    probe, _ = _encode(noise, kbps)
    assert probe.log is not None
    score = probe_score(noise, EncoderSettings(target_kbps=kbps), probe.log)
    assert probe.saturated == (score.psnr_overall > SATURATED_DB) == (kbps == 3000)
