"""The policies that plan: steps of a model reach the encoder, and a file is a policy."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest

from muzero_rc.agents.world_model.constant import MeanSteps
from muzero_rc.agents.world_model.features import NUM_FEATURES
from muzero_rc.agents.world_model.frames import EncodeFrames
from muzero_rc.agents.world_model.least_gain import LeastGain
from muzero_rc.agents.world_model.linear import NUM_OUTPUTS, NUM_TERMS
from muzero_rc.agents.world_model.macro_search import MacroSettings, search_plan
from muzero_rc.agents.world_model.normal_equations import NormalEquations, Ridge
from muzero_rc.agents.world_model.plan_model import PlanModel
from muzero_rc.agents.world_model.planner import PlanSettings
from muzero_rc.cli.methods import methods_of
from muzero_rc.encode.clip import encode_clip
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import first_pass
from muzero_rc.env.control.plan import DoubtsPlans, Plans
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.passes.pipeline import Pass, pipeline, rollout
from muzero_rc.env.passes.probe import run_probes
from muzero_rc.errors import InputError
from muzero_rc.policies.identity import program_identity
from muzero_rc.policies.planned import PlannedPolicy
from muzero_rc.policies.registry import make_policy, prepare, searching
from muzero_rc.types import EpisodeScore, FrameRole

SPEED = 5
LEAF_STEP = 8


@pytest.fixture(scope="module")
def carphone(sample_clips: dict[str, Path]) -> Clip:
    return Clip.load(sample_clips["carphone_pristine"], max_frames=60)


@pytest.fixture
def model() -> PlanModel:
    """Bits and errors follow the frame's own step alone; leaves are coarser in the mean."""
    coefficients = np.zeros((NUM_OUTPUTS, NUM_TERMS, NUM_FEATURES))
    coefficients[0, 0, : len(FrameRole) + 1] = -0.8  # octaves of bits for one of the step
    coefficients[1, 0, : len(FrameRole) + 1] = 0.9
    kinds = 2 * len(FrameRole)
    steps = np.zeros((1, kinds))
    steps[0, [FrameRole.LEAF, len(FrameRole) + FrameRole.LEAF]] = LEAF_STEP
    one = np.ones(1)
    means = MeanSteps(np.array([SPEED]), one, one, one, steps, np.zeros((1, kinds)))
    return PlanModel(
        equations_of(coefficients), Ridge(1e-9, 1e-9), means, PlanSettings(step_strength=1.0), 4.0
    )


def equations_of(coefficients: np.ndarray) -> NormalEquations:
    """Equations that have these coefficients for their solution."""
    columns = coefficients[0].size
    unit = np.eye(columns)
    moments = np.stack([np.ones(NUM_FEATURES), np.zeros(NUM_FEATURES), np.ones(NUM_FEATURES)])
    return dataclasses.replace(
        NormalEquations.empty(),
        encodes=1.0,
        frames_left=np.stack([unit] * NUM_OUTPUTS),
        frames_right=coefficients.reshape(NUM_OUTPUTS, columns),
        moments=moments,
    )


def test_mean_steps_reach_the_encoder(carphone: Clip, model: PlanModel) -> None:
    settings = EncoderSettings(target_kbps=60, speed=SPEED)
    stats = first_pass(carphone, settings)
    landed = make_policy("landed")
    settings = prepare(landed, carphone, settings, stats)
    policy = PlannedPolicy(model, constant=True)
    assert policy.name == "const" and isinstance(policy, Plans)
    plan = policy.plan(carphone, settings, run_probes(carphone, settings, stats))
    assert {planned.step for planned in plan.values()} == {0, LEAF_STEP}
    ours, theirs = (rollout(carphone, settings, p, first_pass=stats) for p in (policy, landed))
    moved = {True: [], False: []}
    for (info, _, result), (_, _, before) in zip(ours.log.frames, theirs.log.frames, strict=True):
        if info is not None:
            moved[info.role is FrameRole.LEAF].append(result.qindex - before.qindex)
    assert np.mean(moved[True]) - np.mean(moved[False]) == pytest.approx(LEAF_STEP, abs=1.5)
    assert abs(ours.score.overshoot) < 0.02


def test_a_plan_that_harms_is_not_kept(carphone: Clip, model: PlanModel, tmp_path: Path) -> None:
    settings = EncoderSettings(target_kbps=60, speed=SPEED)
    stats = first_pass(carphone, settings)
    landed = make_policy("landed")
    settings = prepare(landed, carphone, settings, stats)
    steps = np.zeros_like(model.means.steps)
    steps[:, FrameRole.KEY] = -40.0  # one frame takes the bits of all others
    harmful = dataclasses.replace(model, means=dataclasses.replace(model.means, steps=steps))
    streams = {}
    for name, least in (("never", -10.0), ("always", 10.0)):
        found = LeastGain(np.array([SPEED]), np.array([least]))
        path = tmp_path / f"{name}.npz"
        dataclasses.replace(harmful, least=found).save(path)
        policy = PlannedPolicy(PlanModel.load(path), constant=True)
        assert isinstance(policy, DoubtsPlans)
        out = tmp_path / f"{name}.ivf"
        done = rollout(carphone, settings, policy, first_pass=stats, output=out)
        assert done.stream.path == out and not list(tmp_path.glob("*.again"))
        assert hashlib.sha256(out.read_bytes()).hexdigest() == done.stream.sha256
        streams[name] = done.stream.sha256
    unplanned = rollout(carphone, settings, landed, first_pass=stats).stream.sha256
    assert streams["always"] == unplanned != streams["never"]


def test_with_a_uniform_speed_profile_nothing_is_doubted(model: PlanModel) -> None:
    found = dataclasses.replace(model, least=LeastGain(np.array([SPEED]), np.array([10.0])))
    settings = EncoderSettings(target_kbps=60, speed=SPEED, speed_profile="hierarchical")
    score = EpisodeScore(
        clip="a", target_kbps=60, actual_kbps=60.0, bits=60_000, psnr_avg=40.0,
        psnr_overall=40.0, psnr_y=40.0, shown_frames=25, coded_frames=25,
    )  # fmt: skip
    policy = PlannedPolicy(found)
    assert policy.doubts(score, score, settings)
    assert not policy.doubts(score, score, settings.replace(speed_profile="uniform"))


def test_a_plan_that_helps_is_kept_though_it_is_doubted(carphone: Clip, model: PlanModel) -> None:
    settings = EncoderSettings(target_kbps=60, speed=SPEED)
    stats = first_pass(carphone, settings)
    settings = prepare(make_policy("landed"), carphone, settings, stats)
    scores = []
    for least in (None, LeastGain(np.array([SPEED]), np.array([10.0]))):
        policy = PlannedPolicy(dataclasses.replace(model, least=least))
        policy.gained = lambda ours, theirs: -1.0  # type: ignore[method-assign]
        scores.append(rollout(carphone, settings, policy, first_pass=stats).stream.sha256)
    assert scores[0] == scores[1]


def test_no_pass_is_made_again_in_a_budget_of_time() -> None:
    settings = EncoderSettings(target_kbps=60, speed=SPEED, passes=3)
    passes = pipeline(settings, doubts_plans=True)
    assert passes == (Pass.FIRST_PASS, Pass.PROBE, Pass.FINAL, Pass.UNPLANNED)
    assert Pass.UNPLANNED not in pipeline(settings.replace(time=2.0), doubts_plans=True)
    assert Pass.UNPLANNED not in pipeline(settings.replace(passes=2), doubts_plans=True)


def test_a_model_file_is_a_policy(carphone: Clip, model: PlanModel, tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    dataclasses.replace(model, identity=program_identity("plan")).save(path)
    policy = make_policy(str(path))
    assert policy.name == "planned"
    done = encode_clip(carphone, EncoderSettings(target_kbps=60, speed=SPEED), policy).rollout
    assert abs(done.score.overshoot) < 0.02
    searched = searching(policy, 7)
    assert (searched.budget, searched.start) == (7, None)
    assert searched.model is not None and searched.model.means.steps[0, FrameRole.LEAF] == LEAF_STEP
    constant = make_policy(f"{path}:const")
    with pytest.raises(InputError, match="cannot start"):
        searching(constant)
    assert constant.name == "const" and isinstance(constant, Plans)
    *_, method, other = methods_of([str(path), f"{path}:const"])
    assert (method.name, other.name) == ("mine", "mine:const")
    assert other.fingerprint == f"{method.fingerprint} as const"
    for spec in (f"{path}:mean", f"{tmp_path / 'gone.npz'}:const"):
        with pytest.raises(InputError, match="does not exist"):
            make_policy(spec)


def test_a_plan_model_searches_macro_actions(
    carphone: Clip, model: PlanModel, tmp_path: Path
) -> None:
    path = tmp_path / "mine.npz"
    identified = dataclasses.replace(model, identity=program_identity("plan"))
    identified.save(path)
    settings = EncoderSettings(target_kbps=60, speed=SPEED)
    stats = first_pass(carphone, settings)
    policy = make_policy(str(path), simulations=8)
    settings = prepare(policy, carphone, settings, stats)
    probe = run_probes(carphone, settings, stats)
    assert isinstance(policy, Plans)
    plan = policy.plan(carphone, settings, probe)
    frames = EncodeFrames.of_log(probe)
    expected = search_plan(identified, frames, SPEED, MacroSettings(simulations=8)).steps
    assert [plan[int(index)].step for index in frames.coding_index] == expected.tolist()
    with pytest.raises(InputError, match="nothing to search"):
        make_policy(f"{path}:const", simulations=8)
