"""The teacher's search on the encoder model, whose optimum can be computed."""

from __future__ import annotations

import dataclasses
import threading

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from muzero_rc.agents.hindsight import (
    Outcome,
    Plan,
    PlanBase,
    PlanEncoder,
    ResponseModel,
    SearchProgress,
    TrialRunner,
    probed_plans,
    search,
    start_plans,
)
from muzero_rc.agents.hindsight.rate_accuracy import meet_target
from muzero_rc.agents.world_model.plan_model import PlanModel
from muzero_rc.compute import current_token
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.testing.encoder_model import ModelBackend, ModelClip, best_constant, optimum
from muzero_rc.policies.hindsight.player import PlanPlayer
from muzero_rc.policies.shipped import shipped_policy_path

SETTINGS = EncoderSettings(target_kbps=400)
CLIP = ModelClip(seed=5, num_frames=25)


class Counting:
    """Another encoder's encodes, every plan of them noted."""

    def __init__(self, encoder: PlanEncoder, stop_after: int = 10**9) -> None:
        self.plans: list[Plan] = []
        self.decisions: list[tuple[int, ...]] = []
        self._encoder = encoder
        self._stop_after = stop_after
        self._lock = threading.Lock()

    def encode(self, plan: Plan) -> Outcome:
        with self._lock:
            if len(self.plans) >= self._stop_after:
                raise KeyboardInterrupt
            self.plans.append(plan)
        outcome = self._encoder.encode(plan)
        with self._lock:
            decided = tuple(r.qindex for info, r in outcome.frames if info is not None)
            self.decisions.append((plan.base is PlanBase.VBR, *decided))
        return outcome


def player(clip: ModelClip = CLIP, target: int = 400) -> Counting:
    backend = ModelBackend()
    settings = SETTINGS.replace(target_kbps=target)
    return Counting(PlanPlayer(clip, settings, backend.first_pass(clip, settings), backend=backend))


def response() -> ResponseModel:
    """What is known of other clips: the shipped model."""
    return ResponseModel(PlanModel.load(shipped_policy_path("hindsight")))


_MORE_OPTIMA = ((5, False), (1, False), (1, True), (8, False), (8, True))


def plans(probed: bool) -> list[Plan]:
    return probed_plans() if probed else start_plans()


@pytest.mark.parametrize(
    ("seed", "probed"),
    [(5, True), *(pytest.param(*c, marks=pytest.mark.slow) for c in _MORE_OPTIMA)],
)
def test_it_comes_near_the_optimum(seed: int, probed: bool) -> None:
    backend, clip = ModelBackend(), ModelClip(seed=seed, num_frames=25)
    tables = backend.tables(clip)
    budget = backend.budget(clip, 400)
    best, constant = optimum(tables, budget), best_constant(tables, budget)
    room = best.psnr_avg - constant.psnr_avg
    assert room > 0.3
    reached = []
    for encodes in (10, 30, 100):
        found = search(TrialRunner(player(clip), encodes), plans(probed), response(), probed=probed)
        assert found.on_target and found.outcome.score.overshoot <= 0.005
        # The tolerance of 0.5% is worth some hundredths of a dB.
        reached.append((found.outcome.score.psnr_avg - constant.psnr_avg) / room)
    assert reached == sorted(reached)
    # What the world model knows are real encoders, of which this one is a poor copy.
    assert reached[-1] > 0.85


@hypothesis_settings(deadline=None, max_examples=15)
@given(
    seed=st.integers(0, 60),
    frames=st.integers(1, 30),
    target=st.integers(60, 3000),
    budget=st.integers(8, 20),
    jobs=st.integers(1, 3),
    probed=st.booleans(),
)
def test_what_always_holds(
    seed: int, frames: int, target: int, budget: int, jobs: int, probed: bool
) -> None:
    """On target if it can be, never worse than a start, within the budget, nothing twice."""
    clip = ModelClip(seed=seed, num_frames=frames)
    encoder = player(clip, target)
    tables = ModelBackend().tables(clip)
    reachable = tables.score([255] * len(tables.bits))[0] <= target * 1000 * clip.duration_s
    if not reachable:
        return
    runner = TrialRunner(encoder, budget, jobs=jobs)
    found = search(runner, plans(probed), response(), probed=probed)
    assert found.on_target
    assert found.outcome.score.overshoot <= 0.005
    assert found.spent <= budget and found.encodes == len(encoder.plans) == found.spent
    assert len({plan.identity for plan in encoder.plans}) == len(encoder.plans)
    for plan, outcome in runner.trials:
        if plan.base is not PlanBase.FIXED and outcome.score.overshoot <= 0.005:
            assert found.outcome.score.psnr_avg >= outcome.score.psnr_avg


def test_equal_decisions_are_not_encoded_again() -> None:
    encoder = player()
    runner = TrialRunner(encoder, 10)
    (first,) = runner.run([Plan(PlanBase.PROPOSAL)])
    assert first is not None
    again = runner.run([Plan.frozen(first.frames), Plan(PlanBase.PROPOSAL, stretch=1.0)])
    assert again == [first, first]
    assert runner.spent == runner.encodes == len(encoder.plans) == 1
    # libvpx's own qindexes do not repeat its recode loop.
    (vbr,) = runner.run([Plan(PlanBase.VBR)])
    assert vbr is not None and len(encoder.plans) == 2


def test_the_budget_cuts_a_round_short() -> None:
    runner = TrialRunner(player(), 2, jobs=2)
    plans = [Plan(PlanBase.PROPOSAL, shift=float(s)) for s in (0, 3, 6)]
    outcomes = runner.run(plans)
    assert [o is None for o in outcomes] == [False, False, True]
    assert runner.left == 0 and runner.run([plans[2]]) == [None]


def test_it_goes_on_where_it_was_stopped() -> None:
    known: dict[str, Outcome] = {}

    def run(encoder: Counting, budget: int) -> tuple[Plan, int]:
        runner = TrialRunner(
            encoder,
            budget,
            jobs=2,
            known=dict(known),
            on_encode=lambda plan, outcome: known.__setitem__(plan.identity, outcome),
        )
        found = search(runner, start_plans(), response())
        return found.plan, found.encodes

    whole = search(TrialRunner(player(), 40, jobs=2), start_plans(), response())
    stopped = player()
    stopped._stop_after = 17
    run(stopped, 40)
    done = len(known)
    # Of the encodes that ran side by side when it stopped, one may not have been kept.
    assert 0 < done <= 17
    rest = player()
    plan, encodes = run(rest, 40)
    assert plan == whole.plan
    assert encodes == whole.encodes - done == len(rest.plans)
    assert run(player(), 40) == (plan, 0)


def test_ctrl_c_gives_the_best_so_far() -> None:
    for after in (1, 6, 20):
        encoder = player()
        encoder._stop_after = after
        found = search(TrialRunner(encoder, 60), start_plans(), response())
        assert found.interrupted
        assert found.spent <= after
        good = [s for s in (found.first, found.outcome) if s.score.overshoot <= 0.005]
        assert found.outcome.score.psnr_avg == max(o.score.psnr_avg for o in good)
    encoder = player()
    encoder._stop_after = 0
    with pytest.raises(KeyboardInterrupt):
        search(TrialRunner(encoder, 60), start_plans(), response())


def test_a_failing_encode_stops_the_others() -> None:
    class Failing:
        def __init__(self) -> None:
            self.cancelled = threading.Event()

        def encode(self, plan: Plan) -> Outcome:
            if plan.shift:
                raise RuntimeError("broken")
            if current_token().wait(20):
                self.cancelled.set()
            raise RuntimeError("never stopped")

    encoder = Failing()
    with pytest.raises(RuntimeError, match="broken"):
        TrialRunner(encoder, 5, jobs=2).run(
            [Plan(PlanBase.PROPOSAL), Plan(PlanBase.PROPOSAL, shift=1.0)]
        )
    assert encoder.cancelled.is_set()


def test_progress_and_early_stop() -> None:
    seen: list[SearchProgress] = []
    clip = ModelClip(seed=2, num_frames=3)
    found = search(
        TrialRunner(player(clip), 500),
        start_plans(),
        response(),
        patience=10,
        on_progress=seen.append,
    )
    assert found.stopped_early and found.spent < 400
    spent = [step.spent for step in seen]
    assert spent == sorted(spent) and spent[-1] == found.spent
    good = [step.psnr_avg for step in seen if step.psnr_avg == step.psnr_avg]
    assert good == sorted(good) and good[-1] == found.outcome.score.psnr_avg
    assert seen[-1].gain == pytest.approx(found.gain)


@hypothesis_settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 60),
    start=st.integers(20, 230),
    share=st.floats(0.1, 0.9),
)
def test_a_shift_finds_the_target(seed: int, start: int, share: float) -> None:
    """From any constant qindex to any target between coarsest and finest."""
    clip = ModelClip(seed=seed, num_frames=20)
    tables = ModelBackend().tables(clip)
    fine, coarse = (tables.score([q] * len(tables.bits))[0] for q in (20, 235))
    target = round(fine**share * coarse ** (1 - share) / clip.duration_s / 1000)
    runner = TrialRunner(player(clip, max(target, 2)), 12)
    (first,) = runner.run([Plan(PlanBase.PROPOSAL)])
    assert first is not None
    keys = [key for key in first.structure if key is not None]
    plan = Plan(PlanBase.FIXED, dict.fromkeys(keys, start))
    (outcome,) = runner.run([plan])
    assert outcome is not None
    seen: list[Outcome] = []
    meet_target(runner, plan, outcome, 9, on_shift=lambda _, o: seen.append(o))
    best = min([outcome, *seen], key=lambda o: abs(o.score.overshoot))
    # One frame's step is a limit of its own in so short a clip.
    assert abs(best.score.overshoot) < 0.02


def test_a_shift_gives_up_where_the_target_is_out_of_reach() -> None:
    class Starved:
        """An encoder that was asked for next to nothing."""

        def encode(self, plan: Plan) -> Outcome:
            outcome = inner.encode(plan)
            score = dataclasses.replace(outcome.score, target_kbps=2.0)
            return dataclasses.replace(outcome, score=score)

    inner = player()
    runner = TrialRunner(Starved(), 30)
    found = search(runner, start_plans(), response())
    assert not found.on_target
    assert {r.qindex for info, r in found.outcome.frames if info is not None} == {255}
    assert found.outcome.score.actual_kbps == min(o.score.actual_kbps for _, o in runner.trials)


def test_a_search_needs_a_start_and_a_budget() -> None:
    for starts, budget in (([], 5), (start_plans(), 0)):
        with pytest.raises(ValueError, match="needs a plan"):
            search(TrialRunner(player(), budget), starts, response())
