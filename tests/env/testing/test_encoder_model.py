"""The encoder model: its protocol, its physics, its optimum."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muzero_rc.env.control.baselines import ConstantPolicy, ProposalPolicy
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.passes.pipeline import rollout
from muzero_rc.env.testing.encoder_model import (
    EncoderModel,
    FrameKind,
    ModelBackend,
    ModelClip,
    best_constant,
    optimum,
)
from muzero_rc.env.testing.encoder_model.optimum import Tables
from muzero_rc.errors import EncoderError, InputError, SessionClosedError
from muzero_rc.types import FrameDecision, Observation, QindexPolicy, UpdateType

SETTINGS = EncoderSettings(target_kbps=400)


class _Fixed(QindexPolicy):
    """Answers a list of qindexes."""

    name = "fixed"

    def __init__(self, qindexes: list[int]) -> None:
        self._next = iter(qindexes)

    def qindexes(self, observations: list[Observation]) -> np.ndarray:
        return np.array([next(self._next) for _ in observations], np.int32)


def test_finer_quantizers_cost_bits_and_give_quality() -> None:
    model = EncoderModel.fitted()
    for kind in FrameKind:
        for c in (0.0, 1.0, 3.0, 6.0):
            assert (np.diff(model.log2_mse(kind, c)) > 0).all()
            assert (np.diff(model.log2_bpp(kind, c)) < 0).all()
        assert 0.0 <= model.passed_on(kind) < 1.0
    assert model.passed_on(FrameKind.KEY) == 0.0


def test_the_record_says_how_far_it_is_off() -> None:
    record = EncoderModel.fitted().record
    assert record["studies"] >= 40 and record["sources"] >= 10
    for kind in ("key", "reference", "leaf"):
        error = record["held_out_error"][kind]
        assert 0 < error["bits_median_percent"] < 100
        assert 0 < error["psnr_median_db"] < 2


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 50), frames=st.integers(1, 14), choice=st.integers(0, 2**31))
def test_an_encode_is_what_the_tables_say(seed: int, frames: int, choice: int) -> None:
    """The session, frame by frame, and the sums behind the optimum agree."""
    backend, clip = ModelBackend(), ModelClip(seed=seed, num_frames=frames)
    tables = backend.tables(clip)
    qindexes = np.random.default_rng(choice).integers(0, 256, len(tables.bits)).tolist()
    ample = EncoderSettings(target_kbps=100_000)
    done = rollout(clip, ample, _Fixed(qindexes), backend=backend)
    bits, psnr = tables.score(qindexes)
    assert done.score.bits == pytest.approx(bits, rel=2e-3, abs=8 * len(qindexes))
    assert done.score.psnr_avg == pytest.approx(psnr, abs=0.02)
    assert done.score.shown_frames == frames


def test_a_model_of_ones_own_is_used_by_tables_and_sessions_alike() -> None:
    own = EncoderModel.fitted()
    mse = np.array(own.mse)
    mse[:, 3] *= 0.5
    backend = ModelBackend(EncoderModel(mse, own.bpp, {}))
    clip = ModelClip(seed=1)
    tables = backend.tables(clip)
    done = rollout(clip, SETTINGS, ConstantPolicy(100), backend=backend)
    assert done.score.psnr_avg == pytest.approx(tables.score([100] * len(tables.bits))[1], abs=0.02)
    fitted = rollout(clip, SETTINGS, ConstantPolicy(100), backend=ModelBackend())
    assert abs(fitted.score.psnr_avg - done.score.psnr_avg) > 0.5


def test_the_proposals_are_the_best_constant() -> None:
    backend, clip = ModelBackend(), ModelClip(seed=3)
    constant = best_constant(backend.tables(clip), backend.budget(clip, SETTINGS.target_kbps))
    done = rollout(clip, SETTINGS, ProposalPolicy(), backend=backend)
    assert tuple(done.qindexes) == constant.qindexes
    finer = rollout(clip, SETTINGS, ConstantPolicy(constant.qindexes[0] - 1), backend=backend)
    assert done.score.overshoot <= 0.001 < finer.score.overshoot


def test_the_optimum_equals_brute_force_on_small_tables() -> None:
    """But for what lies between two plans of the convex hull: less than one frame's step."""
    rng = np.random.default_rng(0)
    steps = np.arange(24)
    for _ in range(12):
        bits = rng.uniform(50, 200, (3, 1)) * 2.0 ** (-steps * rng.uniform(0.1, 0.2, (3, 1)))
        gain = -steps * rng.uniform(0.1, 0.4, (3, 1))
        tables = Tables(bits, gain, 40.0, 7.0)
        budget = float(rng.uniform(bits[:, 18].sum(), bits[:, 4].sum())) + 7.0
        plans = np.array(list(itertools.product(steps, repeat=3)))
        rows = np.arange(3)
        total = tables.bits[rows, plans].sum(axis=1) + 7.0
        psnr = 40.0 + tables.gain[rows, plans].sum(axis=1)
        best = psnr[total <= budget].max()
        found = optimum(tables, budget)
        assert found.bits <= budget and found.psnr_avg <= best + 1e-9
        assert found.psnr_avg > best - np.abs(np.diff(gain)).max()
        assert found.psnr_avg >= best_constant(tables, budget).psnr_avg


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 99), qindex=st.integers(40, 220))
def test_random_search_never_beats_the_optimum(seed: int, qindex: int) -> None:
    backend, clip = ModelBackend(), ModelClip(seed=seed)
    tables = backend.tables(clip)
    budget, constant = tables.score([qindex] * len(tables.bits))
    best = optimum(tables, budget)
    assert best.bits <= budget and best.psnr_avg >= constant - 1e-9
    rng = np.random.default_rng(seed)
    around = np.array(best.qindexes)
    for _ in range(300):
        plan = np.clip(around + rng.integers(-20, 21, len(around)), 0, 255)
        bits, psnr = tables.score(plan)
        # A fine search may win what lies between two steps of one frame's qindex.
        assert bits > budget or psnr <= best.psnr_avg + 0.01


def test_targets_out_of_reach_are_refused() -> None:
    tables = ModelBackend().tables(ModelClip())
    with pytest.raises(InputError, match="out of reach"):
        optimum(tables, 10.0)
    with pytest.raises(InputError, match="out of reach"):
        best_constant(tables, 10.0)


def test_structure_and_protocol() -> None:
    backend, clip = ModelBackend(), ModelClip(num_frames=9, group=4)
    session = backend.open(clip, SETTINGS, backend.first_pass(clip, SETTINGS))
    kinds = []
    while (info := session.next()) is not None:
        kinds.append(info.update_type)
        session.submit(FrameDecision(info.proposal_qindex))
        session.result()
    group = [UpdateType.ARF, *[UpdateType.LEAF] * 3]
    assert kinds == [UpdateType.KEY, *group, *group]
    assert sum(r.shown for r in session.results) == 9
    assert session.finish().size_bytes > 0
    with pytest.raises(SessionClosedError):
        session.next()
    other = backend.open(clip, SETTINGS, backend.first_pass(clip, SETTINGS))
    with pytest.raises(EncoderError, match="out of order"):
        other.submit(FrameDecision(3))
    assert backend.load("7", height=None, max_frames=5) == ModelClip(seed=7, num_frames=5)
    with pytest.raises(InputError, match="numbers"):
        backend.load("film.mp4", height=None, max_frames=None)


def test_damaged_coefficients_are_refused() -> None:
    for values in ({}, {"mse": [[1]], "bpp": [[1]], "record": {}}, {"mse": "x"}):
        with pytest.raises(InputError, match="coefficients"):
            EncoderModel.from_dict(json.loads(json.dumps(values)))
