"""Three passes: a plan that does not react, proposals told by the probe, and the landing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from muzero_rc.env.codec.backend import LibvpxBackend
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import first_pass
from muzero_rc.env.control.baselines import BasePolicy, ConstantPolicy, VbrPolicy
from muzero_rc.env.control.frame_speed import frame_search, stream_speed
from muzero_rc.env.control.probe_record import ProbeRecord
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.gym.env import VP9RateControlEnv
from muzero_rc.env.passes.pipeline import rollout
from muzero_rc.env.passes.probe import run_probes
from muzero_rc.env.passes.stepper import Stepper
from muzero_rc.errors import InputError
from muzero_rc.types import FrameInfo, FrameResult, Observation, QindexPolicy, UpdateType

THREE = EncoderSettings(target_kbps=40, speed=5, speed_profile="hierarchical", passes=3)


class _Shifted(QindexPolicy):
    """Proposals that every other frame is far from."""

    name = "shifted"

    def __init__(self, by: int) -> None:
        self._by = by

    def qindexes(self, observations: Sequence[Observation]) -> npt.NDArray[np.int32]:
        signs = [1 if len(o.history) % 2 else -1 for o in observations]
        base = [o.proposal_qindex for o in observations]
        return np.clip(np.array(base) + self._by * np.array(signs), 0, 255).astype(np.int32)


class _Splurging(QindexPolicy):
    """The anchor, but for the last frames, which nobody expects to be so dear."""

    name = "splurging"

    def qindexes(self, observations: Sequence[Observation]) -> npt.NDArray[np.int32]:
        late = np.array([o.show_index >= 0.8 * len(o.clip) for o in observations])
        base = np.array([o.base_qindex for o in observations])
        return np.clip(base - 60 * late, 0, 255).astype(np.int32)


def _proposals(
    clip: Clip, settings: EncoderSettings, by: int, probe: ProbeRecord | None
) -> list[int]:
    """What libvpx proposes while a policy does something else."""
    found = []
    stats = first_pass(clip, settings)
    with Stepper.open(LibvpxBackend(), clip, settings, stats, probe=probe) as stepper:
        while (info := stepper.info) is not None:
            found.append(info.proposal_qindex)
            sign = 1 if info.coding_index % 2 else -1
            stepper.step(min(max(info.proposal_qindex + sign * by, 0), 255))
    return found


@pytest.mark.parametrize("speed", [pytest.param(1, marks=pytest.mark.slow), 5])
def test_the_last_pass_has_the_probes_proposals(carphone: Clip, speed: int) -> None:
    settings = THREE.replace(speed=speed)
    probe = ProbeRecord.of(run_probes(carphone, settings, first_pass(carphone, settings)))
    run = [frame.proposal_qindex for frame in probe.coded.values()]
    for by in (0, 30):
        assert _proposals(carphone, settings, by, probe) == run
    # Not so with two passes: there the plan answers to what was done.
    two = settings.replace(passes=2)
    assert _proposals(carphone, two, 0, None) != _proposals(carphone, two, 30, None)


def test_every_frame_finds_its_matching_frame(carphone: Clip) -> None:
    stats = first_pass(carphone, THREE)
    probe = ProbeRecord.of(run_probes(carphone, THREE, stats))
    assert sum(frame.shown for frame in probe.frames) == carphone.num_frames
    with Stepper.open(LibvpxBackend(), carphone, THREE, stats, probe=probe) as stepper:
        while (info := stepper.info) is not None:
            matching_frame = probe.matching_frame(info)
            assert matching_frame is not None and matching_frame.update_type is info.update_type
            stepper.step(info.proposal_qindex)


def test_a_probe_of_something_else_is_told_apart(carphone: Clip) -> None:
    stats = first_pass(carphone, THREE)
    probe = ProbeRecord.of(run_probes(carphone, THREE.replace(auto_alt_ref=0), stats))
    with Stepper.open(LibvpxBackend(), carphone, THREE, stats, probe=probe) as stepper:
        missing = 0
        while (info := stepper.info) is not None:
            missing += probe.matching_frame(info) is None
            stepper.step(info.proposal_qindex)
    assert missing > 10


def test_three_passes_meet_the_target_where_two_do_not(large_carphone: Clip) -> None:
    missed: dict[int, list[float]] = {2: [], 3: []}
    for passes in (2, 3):
        for kbps in (25, 80, 300):
            settings = THREE.replace(target_kbps=kbps, passes=passes)
            score = rollout(large_carphone, settings, BasePolicy()).score
            missed[passes].append(abs(score.overshoot))
    assert max(missed[3]) < 0.02
    assert np.mean(missed[3]) < 0.5 * np.mean(missed[2])


def test_a_probe_far_off_is_run_again_nearer(carphone: Clip) -> None:
    stats = first_pass(carphone, THREE)
    seen: list[FrameResult] = []
    settings = THREE.replace(target_kbps=3)
    far = ProbeRecord.of(run_probes(carphone, settings, stats, on_frame=seen.append))
    again = [r.show_index for r in seen if r.shown]
    assert again == [*range(carphone.num_frames)] * 2
    spent = [sum(r.bits for r in probe_encode) for probe_encode in (seen[: len(seen) // 2], seen)]
    budget = settings.target_kbps * 1000.0 * carphone.duration_s
    assert abs(spent[1] - spent[0] - budget) < abs(spent[0] - budget)
    # Each frame is as far from the proposals as all others, where the range allows it.
    for frame in far.coded.values():
        assert frame.qindex == min(frame.proposal_qindex + far.shift, 255)


def test_an_encode_off_its_target_is_made_again(carphone: Clip, tmp_path: Path) -> None:
    once = rollout(carphone, THREE, _Splurging())
    assert once.score.overshoot > 0.03
    seen: list[FrameResult] = []
    output = tmp_path / "out.ivf"
    again = rollout(
        carphone, THREE, _Splurging(), retry_off_target=True, output=output, on_frame=seen.append
    )
    assert abs(again.score.overshoot) < 0.01
    shown = sum(frame.shown for frame in seen)
    assert shown in (2 * carphone.num_frames, 3 * carphone.num_frames)
    assert [path.name for path in tmp_path.iterdir()] == ["out.ivf"]
    assert again.stream.path == output and again.stream.size_bytes < output.stat().st_size
    in_memory = rollout(carphone, THREE, _Splurging(), retry_off_target=True)
    assert in_memory.stream.sha256 == again.stream.sha256


@pytest.mark.parametrize(
    "policy",
    [
        BasePolicy(),
        *(pytest.param(p, marks=pytest.mark.slow) for p in (VbrPolicy(), ConstantPolicy(40))),
    ],
)
def test_what_cannot_be_mended_is_kept(
    carphone: Clip, tmp_path: Path, policy: BasePolicy | VbrPolicy | ConstantPolicy
) -> None:
    once = rollout(carphone, THREE, policy)
    output = tmp_path / "out.ivf"
    retried = rollout(carphone, THREE, policy, retry_off_target=True, output=output)
    assert retried.stream.sha256 == once.stream.sha256
    assert [path.name for path in tmp_path.iterdir()] == ["out.ivf"]


def test_vbr_is_the_same_with_three_passes(carphone: Clip) -> None:
    settings = EncoderSettings(target_kbps=40, speed=5)
    three = rollout(carphone, settings.replace(passes=3), VbrPolicy())
    assert three.stream.sha256 == rollout(carphone, settings, VbrPolicy()).stream.sha256


def test_it_repeats_itself(carphone: Clip) -> None:
    first, second = (rollout(carphone, THREE, _Shifted(9)) for _ in range(2))
    assert first.stream.sha256 == second.stream.sha256
    assert first.probe_seconds > 0


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_clips_of_few_frames(carphone_path: Path, frames: int) -> None:
    clip = Clip.load(carphone_path, max_frames=frames)
    assert rollout(clip, THREE, BasePolicy()).score.shown_frames == frames


def test_the_environment_runs_a_probe(carphone_path: Path) -> None:
    env = VP9RateControlEnv([carphone_path], 80, max_frames=20, speed=5, passes=3)
    try:
        observation, _ = env.reset(seed=0)
        assert env.observation.rate_offset != 0  # with two passes there is nothing to know yet
        assert observation["frame"].shape
    finally:
        env.close()


def test_who_needs_a_probe() -> None:
    assert THREE.needs_probe
    assert not THREE.of_probe.needs_probe
    assert not THREE.replace(passes=2).needs_probe and not THREE.replace(passes=0).needs_probe
    with pytest.raises(InputError, match="passes must be 2, 3"):
        THREE.replace(passes=4)


def test_a_probe_is_quick_but_plans_like_the_last_pass() -> None:
    assert stream_speed("probe", 1) == stream_speed("hierarchical", 1) == 1
    info = _some_key()
    assert frame_search("probe", 1, info).speed > frame_search("hierarchical", 1, info).speed


def _some_key() -> FrameInfo:
    return FrameInfo(0, 0, UpdateType.KEY, True, 0, 9, 0, 2, 99, (-1, -1, -1), 100, 1000, 0, 255, 0)


def test_constant_policies_are_untouched_by_the_steps(carphone: Clip) -> None:
    done = rollout(carphone, THREE, ConstantPolicy(120))
    assert set(done.qindexes) == {120}


def test_a_probe_that_was_run_already_is_not_run_again(carphone: Clip) -> None:
    probe = ProbeRecord.of(run_probes(carphone, THREE, first_pass(carphone, THREE)))
    seen: list[object] = []
    given = rollout(carphone, THREE, BasePolicy(), probe=probe, on_probe_frame=seen.append)
    run = rollout(carphone, THREE, BasePolicy(), on_probe_frame=seen.append)
    assert given.stream.sha256 == run.stream.sha256
    assert len(seen) == len(probe.frames)  # of the second alone
    two = THREE.replace(passes=2)
    with_two = rollout(carphone, two, BasePolicy(), probe=probe)
    assert with_two.stream.sha256 == rollout(carphone, two, BasePolicy()).stream.sha256
