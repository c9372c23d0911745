"""What frames take: by hand on two frames, kept in a file, refused where it is damaged."""

from __future__ import annotations

import dataclasses
import json
from fractions import Fraction

import numpy as np
import pytest

from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.control.work_budget import check_time, film_work, plan_work
from muzero_rc.env.control.work_model import (
    CLIP_FEATURES,
    COUNTS,
    FRAME_FEATURES,
    NUM_KINDS,
    WorkModel,
    shipped_work_model,
)
from muzero_rc.errors import CheckpointError, InputError
from muzero_rc.types import (
    TIERS,
    EncodeLog,
    FrameInfo,
    FrameResult,
    FrameRole,
    UpdateType,
    Work,
)

_INFO = FrameInfo(0, 0, UpdateType.KEY, True, 0, 8, 0, 3, 99, (-1, -1, -1), 90, 1, 0, 255, 0)
_RESULT = FrameResult(0, 0, True, 100, 6400, (1, 1, 1), (64, 16, 16), 3, 1, 2, 0.1)
_SETTINGS = EncoderSettings(
    target_kbps=100, speed=5, passes=3, speed_profile="hierarchical", time=1.0
)


def _log() -> EncodeLog:
    """A key frame of 4 modes, a leaf frame of 2; then a buffer that is only shown."""
    leaf = dataclasses.replace(_INFO, coding_index=1, update_type=UpdateType.LEAF, layer_depth=3)
    shown = dataclasses.replace(_RESULT, coding_index=-1, qindex=-1, bits=8)
    second = dataclasses.replace(_RESULT, coding_index=1, bits=1600, work=Work(modes=2))
    frames = [
        (_INFO, dataclasses.replace(_RESULT, work=Work(modes=4))), (leaf, second), (None, shown)
    ]  # fmt: skip
    return EncodeLog.of_pairs(frames, 1000)


def _model() -> WorkModel:
    """A mode takes a second; VBR twice the probe; key and leaf frames as long as in the probe at
    tier 1 and e times as long at tier 0."""
    seconds = np.zeros(len(COUNTS))
    seconds[0] = 1.0
    tiers = np.full((NUM_KINDS, TIERS, 1 + len(FRAME_FEATURES)), np.nan)
    gain = np.full((NUM_KINDS, TIERS), np.nan)
    for role in (FrameRole.KEY, FrameRole.LEAF):
        tiers[role, :2] = 0.0
        tiers[role, 0, 0] = 1.0
        gain[role, :2] = 1.0, 0.0
    vbr = np.zeros(1 + len(CLIP_FEATURES))
    vbr[0] = np.log(2.0)
    clips = np.full((2, len(CLIP_FEATURES)), 1e9) * np.array([[-1.0], [1.0]])
    return WorkModel(seconds, {5: vbr}, clips, tiers, gain, 4.0)


def test_work_and_features_of_frames_by_hand() -> None:
    model = _model()
    frames = model.frames(_log())
    assert frames.seconds.tolist() == [4.0, 2.0]
    assert frames.kind.tolist() == [FrameRole.KEY, FrameRole.LEAF]
    samples = 96.0
    assert frames.features[1] == pytest.approx([np.log(2 / samples), 0.5, 0.75, np.log2(1600 / 96)])
    assert model.work_of(_log().results) == 6.0
    known = dict(zip(CLIP_FEATURES, frames.clip_features(192.0), strict=True))
    assert known["coded_per_shown"] == 1.0
    assert known["log_share_of_modes"] == pytest.approx(0.0, abs=1e-2)
    assert known["log2_target_bits_per_sample"] == 1.0
    assert known["mean_qindex"] == 100.0


def test_options_and_the_time_of_vbr_by_hand() -> None:
    model = _model()
    frames = model.frames(_log())
    assert model.vbr_work(frames, 5, 192.0) == pytest.approx(12.0)
    # The mean qindex is 100; beyond what was seen counts as the end of it.
    by_qindex = {5: np.where(np.array([None, *CLIP_FEATURES]) == "mean_qindex", 0.01, 0.0)}
    sloped = dataclasses.replace(model, vbr=by_qindex)
    assert sloped.vbr_work(frames, 5, 192.0) == pytest.approx(6.0 * np.e)
    narrow = dataclasses.replace(sloped, clips=np.clip(model.clips, -50.0, 50.0))
    assert narrow.vbr_work(frames, 5, 192.0) == pytest.approx(6.0 * np.e**0.5)
    options = model.options(frames)
    assert options.work[:, :2] == pytest.approx(np.array([[4 * np.e, 4], [2 * np.e, 2]]))
    assert np.isinf(options.work[:, 2:]).all()
    # The key frame has four fifths of the bits for two thirds of the work: it comes first.
    assert options.moves().row.tolist() == [0, 1]


def test_frames_of_a_role_have_one_price_and_take_their_own_work() -> None:
    frames = _model().frames(_log())
    alike = dataclasses.replace(frames, kind=np.full(2, int(FrameRole.LEAF)))
    moves = _model().options(alike).moves()
    assert moves.price[0] == pytest.approx(moves.price[1])
    assert sorted(moves.work) == pytest.approx([2 * (np.e - 1), 4 * (np.e - 1)])


def test_a_plan_has_what_the_probe_left_over() -> None:
    # VBR takes 12 s, the probe 6 s; the last pass can take from 6 to 16.3 s.
    plan, vbr = plan_work(_SETTINGS, _log(), Fraction(25), 6.0, _model())
    assert (plan.budget, vbr) == pytest.approx((6.0, 12.0))
    with pytest.raises(InputError, match=r"takes 1\.00 to 1\.86 times VBR's time"):
        plan_work(_SETTINGS.replace(time=0.9), _log(), Fraction(25), 6.0, _model())
    with pytest.raises(InputError, match="ask for a time between"):
        plan_work(_SETTINGS.replace(time=2.0), _log(), Fraction(25), 6.0, _model())
    # A chunk's share is spent as far as it goes.
    plan, _ = plan_work(_SETTINGS.replace(budget_work=5.0), _log(), Fraction(25), 6.0, _model())
    assert plan.budget == -1.0


def test_chunks_have_their_probes_and_a_share_at_one_price() -> None:
    film = [_log()] * 3, [100.0] * 3, Fraction(25), _model()
    found = film_work(_SETTINGS.replace(time=1.5), *film)
    assert (found.probes, found.vbr) == pytest.approx((18.0, 36.0))
    assert sum(found.budgets) == pytest.approx(54.0)
    with pytest.raises(InputError, match="cannot be kept"):
        film_work(_SETTINGS.replace(time=0.5), *film)


def test_settings_that_no_budget_can_be_kept_with() -> None:
    check_time(_SETTINGS.replace(time=None, passes=2), _model())
    with pytest.raises(InputError, match="at --speed 5, not at 4"):
        check_time(_SETTINGS.replace(speed=4), _model())
    with pytest.raises(InputError, match="a probe encode"):
        check_time(_SETTINGS.replace(speed_profile="uniform"), _model())


def test_a_file_there_and_back() -> None:
    model = _model()
    again = WorkModel.of_text(model.as_text())
    assert again.as_text() == model.as_text()
    assert np.isnan(again.gain[FrameRole.KEY, 4]) and again.vbr.keys() == {5}
    values = json.loads(model.as_text())
    for damaged in (
        "[]",
        "{}",
        json.dumps({**values, "gain": [1.0]}),
        json.dumps({**values, "version": 9}),
    ):
        with pytest.raises(CheckpointError, match="fit it again"):
            WorkModel.of_text(damaged)


def test_the_shipped_model_is_whole() -> None:
    model = shipped_work_model()
    assert set(model.vbr) == {1, 2, 3, 5}
    # Half of the blocks skipped, a thirtieth of a bit and a third of a microsecond a sample.
    leaf = model.tiers[FrameRole.LEAF] @ np.array([1.0, -15.0, 0.5, 0.05, -5.0])
    # A slower search takes longer and gains.
    assert (np.diff(leaf) < 0.0).all() and (np.diff(model.gain[FrameRole.LEAF]) < 0.0).all()
    assert (model.seconds >= 0.0).all()
