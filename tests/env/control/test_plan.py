"""Plans: the controller adds their steps, and expects their bits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from muzero_rc.env.codec.backend import ClipShape
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import first_pass
from muzero_rc.env.control.plan import PlannedFrame, Plans
from muzero_rc.env.control.probe_record import ProbeRecord
from muzero_rc.env.control.rate.probe import ProbeRateController
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.passes.pipeline import rollout
from muzero_rc.env.passes.probe import run_probes
from muzero_rc.types import EncodeLog, FrameInfo, FrameResult, Observation, QindexPolicy

PROBED = EncoderSettings(target_kbps=60, speed=5, speed_profile="hierarchical", passes=3)


class _Planned(QindexPolicy):
    """The controller's proposals, with a plan."""

    name = "planned"

    def __init__(self, choose: Callable[[FrameInfo, FrameResult], PlannedFrame]) -> None:
        self._choose = choose
        self.asked = 0

    def plan(
        self, clip: ClipShape, settings: EncoderSettings, probe: EncodeLog
    ) -> Mapping[int, PlannedFrame]:
        self.asked += 1
        return {
            info.coding_index: self._choose(info, result)
            for info, result in probe.pairs
            if info is not None
        }

    def qindexes(self, observations: Sequence[Observation]) -> npt.NDArray[np.int32]:
        return np.array([o.base_qindex for o in observations], np.int32)


def _steps(info: FrameInfo, result: FrameResult) -> PlannedFrame:
    step = 10 if info.shown else -10
    # About what the quantizer's step makes of bits.
    return PlannedFrame(step, result.bits * 2.0 ** (-0.03 * step))


def test_the_steps_of_a_plan_reach_the_encoder_and_the_target_is_met(carphone: Clip) -> None:
    stats = first_pass(carphone, PROBED)
    probe = ProbeRecord.of(run_probes(carphone, PROBED, stats))
    policy = _Planned(_steps)
    assert isinstance(policy, Plans)
    done = rollout(carphone, PROBED, policy, first_pass=stats, probe=probe)
    plain = rollout(carphone, PROBED, _Planned(lambda i, r: PlannedFrame(0, r.bits)),
                    first_pass=stats, probe=probe)  # fmt: skip
    assert policy.asked == 1
    offsets = {True: [], False: []}
    for (info, _, result), (_, _, before) in zip(
        done.log.frames[1:], plain.log.frames[1:], strict=True
    ):
        if info is not None:
            offsets[info.shown].append(result.qindex - before.qindex)
    # The controller moves all of them alike, to meet the target.
    assert 15 <= np.mean(offsets[True]) - np.mean(offsets[False]) <= 25
    assert abs(done.score.overshoot) < 0.02


def test_a_plan_that_moves_nothing_changes_no_byte(carphone: Clip) -> None:
    stats = first_pass(carphone, PROBED)
    probe = ProbeRecord.of(run_probes(carphone, PROBED, stats))
    same = _Planned(lambda info, result: PlannedFrame(0, float(result.bits)))
    none = _Planned(_steps)
    none.plan = lambda clip, settings, probe: {}  # type: ignore[method-assign]
    first, second = (
        rollout(carphone, PROBED, policy, first_pass=stats, probe=probe).stream.sha256
        for policy in (same, none)
    )
    assert first == second


def test_the_rate_controller_expects_the_bits_of_the_plan(carphone: Clip) -> None:
    log = run_probes(carphone, PROBED, first_pass(carphone, PROBED))
    record = ProbeRecord.of(log)
    budget, pixels = PROBED.frame_budget(carphone.fps), carphone.width * carphone.height
    steps = []
    for factor in (0.7, 1.0, 1.4):
        plan = {
            info.coding_index: PlannedFrame(0, factor * result.bits)
            for info, result in log.pairs
            if info is not None
        }
        planned = record.with_plan(plan)
        assert planned.frames[0].cost == factor * record.frames[0].bits
        rate = ProbeRateController(budget, planned, carphone.num_frames, pixels)
        steps.append(rate.first_step())
    # A plan that saves bits lets all frames be finer.
    assert steps[0] < steps[1] < steps[2]
