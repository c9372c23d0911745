"""Scales of QP offsets by layer of the pyramid, for chunks of constant quality."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muzero_rc.encode.level import Level, at_level
from muzero_rc.encode.offset_scale import OffsetScaleModel, Parabola, terms
from muzero_rc.encode.offset_scale_model import OFFSET_SCALE_MODEL
from muzero_rc.encode.quality_budget import QualityBudget
from muzero_rc.encode.realtime_probe import ChunkForecast, RealtimeProbe
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import FirstPass, first_pass
from muzero_rc.env.passes.pipeline import Rollout, rollout
from muzero_rc.types import UpdateType
from tests.app.test_pages import SETTINGS, page

KNOWN = ChunkForecast(100, 160 * 96, 100 * 40.0, (5.0, -0.8), (-1.0, 0.7))
DRAWN = RealtimeProbe(124.0, 100, -6.0, 2.0, 0.3, ())
FILMED = RealtimeProbe(124.0, 100, -3.0, 4.0, 0.05, ())


@pytest.fixture(scope="module")
def still() -> Clip:
    return page()


@pytest.fixture(scope="module")
def statistics(still: Clip) -> FirstPass:
    return first_pass(still, SETTINGS, cache=False)


def encode(clip: Clip, statistics: FirstPass, qindex: float, scale: float) -> Rollout:
    settings, policy = at_level(SETTINGS, Level(qindex, offset_scale=scale))
    return rollout(clip, settings, policy, first_pass=statistics)


def test_a_scale_moves_references_and_what_refers_to_them(
    still: Clip, statistics: FirstPass
) -> None:
    logs = [encode(still, statistics, 60.0, scale).log for scale in (1.0, 0.0, -1.0)]
    kinds = [frame.info.update_type for frame in logs[0].frames if frame.info is not None]
    for kind, *qindexes in zip(kinds, *(log.qindexes for log in logs), strict=True):
        one, none, other = qindexes
        if kind == UpdateType.KEY:
            assert one - none == none - other == 6
        elif kind == UpdateType.LEAF:
            assert one == none == other
    assert {UpdateType.KEY, UpdateType.LEAF, UpdateType.ARF} <= set(kinds)


def test_what_was_drawn_gains_by_finer_references(still: Clip, statistics: FirstPass) -> None:
    one, other = (encode(still, statistics, 24.0, scale).score for scale in (1.0, -1.0))
    assert other.actual_kbps < 1.05 * one.actual_kbps
    assert other.psnr_avg > one.psnr_avg + 2.0 and other.psnr_overall > one.psnr_overall + 2.0


def test_the_shipped_model_tells_drawn_from_filmed() -> None:
    model = OFFSET_SCALE_MODEL
    fine, coarse = (model.scaled(KNOWN, DRAWN, level) for level in (20.0, 120.0))
    assert -3.0 <= fine.offset_scale < 0.0 < coarse.offset_scale <= 2.0
    assert model.scaled(KNOWN, FILMED, 20.0).offset_scale > fine.offset_scale + 0.5
    filmed = model.scaled(KNOWN, FILMED, 120.0)
    assert filmed == KNOWN  # no gain is expected, and the forecast stays
    assert model.record["sources"] >= 60
    # Beyond the levels that it was fitted to it is as at their ends.
    assert model.scaled(KNOWN, DRAWN, 1.0) == fine and model.scaled(KNOWN, DRAWN, 250.0) == coarse


def test_the_shipped_model_helps_a_page_that_it_has_not_seen(
    still: Clip, statistics: FirstPass
) -> None:
    scale = OFFSET_SCALE_MODEL.scaled(KNOWN, DRAWN, 24.0).offset_scale
    one, other = (encode(still, statistics, 24.0, each).score for each in (1.0, scale))
    assert other.actual_kbps < 1.05 * one.actual_kbps
    assert other.psnr_avg + other.psnr_overall > one.psnr_avg + one.psnr_overall + 2.0


def parabola(linear: float, square: float) -> Parabola:
    rest = (0.0,) * (len(terms(DRAWN, 60.0)) - 1)
    return Parabola((linear, *rest), (square, *rest))


def model_of(gain: Parabola, least: float = 0.0) -> OffsetScaleModel:
    return OffsetScaleModel(
        gain, parabola(0.25, 0.0), parabola(-0.5, 0.0), parabola(2.0, 0.0), (-3.0, 2.0),
        (20.0, 120.0), least,
    )  # fmt: skip


@given(st.floats(-2.0, 2.0), st.floats(-1.0, 1.0))
def test_the_scale_is_the_one_that_gains_most(linear: float, square: float) -> None:
    gain = parabola(linear, square)
    z = terms(DRAWN, 60.0)
    found = model_of(gain).scale(z)
    best = max(gain.value(z, scale) for scale in np.linspace(-3.0, 2.0, 501))
    assert -3.0 <= found <= 2.0
    assert gain.value(z, found) >= best - 1e-9 and gain.value(z, 1.0) == 0.0


def test_little_gain_is_not_believed() -> None:
    gain = parabola(-0.2, -0.1)  # at most 0.1 dB, at a scale of 0
    z = terms(DRAWN, 60.0)
    assert model_of(gain, 0.09).scale(z) == pytest.approx(0.0)
    assert model_of(gain, 0.11).scale(z) == 1.0


def test_a_forecast_follows_the_scale() -> None:
    model = model_of(parabola(-0.4, -0.1))  # best at a scale of -1
    scaled = model.scaled(KNOWN, DRAWN, 60.0)
    assert scaled.offset_scale == pytest.approx(-1.0)
    assert scaled.bits == pytest.approx((KNOWN.bits[0] - 0.5, KNOWN.bits[1]))
    assert scaled.error == pytest.approx((KNOWN.error[0] + 1.0, KNOWN.error[1]))
    page_ = dataclasses.replace(KNOWN, psnr=(60.0, -2.0))
    assert model.scaled(page_, DRAWN, 60.0).psnr == pytest.approx((56.0, -2.0))


def test_a_level_has_the_scale_of_its_forecast() -> None:
    forecasts = [dataclasses.replace(KNOWN, offset_scale=-1.5), KNOWN]
    bits = sum(f.fixed + f.bits_at(60.0) for f in forecasts)
    budget = QualityBudget(forecasts, {}, bits, 0.5)
    first = budget.level(0, {}, {})
    assert first.offset_scale == -1.5
    assert budget.level(1, {0: first}, {}).offset_scale == 1.0
