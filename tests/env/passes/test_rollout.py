"""Rollouts: the loop, the baselines, the score's books."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.session import EncoderSession
from muzero_rc.env.control.baselines import ConstantPolicy, ProposalPolicy, RandomPolicy, VbrPolicy
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.passes.pipeline import rollout
from muzero_rc.env.passes.stepper import Stepper, episode_score
from muzero_rc.env.testing.fakes import FakeBackend, FakeClip
from muzero_rc.errors import EncoderError, InputError
from muzero_rc.types import (
    KEEP,
    FrameDecision,
    FrameResult,
    Observation,
    Policy,
    QindexPolicy,
)

SETTINGS = EncoderSettings(target_kbps=100, speed=5)
POLICIES = [VbrPolicy(), ProposalPolicy(), ConstantPolicy(77), RandomPolicy(3)]


class _Answers(QindexPolicy):
    name = "answers"

    def __init__(self, *answers: int) -> None:
        self.answers = answers

    def qindexes(self, observations: Sequence[Observation]) -> npt.NDArray[np.int32]:
        return np.array(self.answers, np.int32)


def test_baselines_have_their_names_and_answer_for_a_batch() -> None:
    names = {"vbr", "proposal", "constant", "random"}
    assert {policy.name for policy in POLICIES} == names
    backend, clip = FakeBackend(), FakeClip()
    first_pass = backend.first_pass(clip, SETTINGS)
    with Stepper.open(backend, clip, SETTINGS, first_pass) as episode:
        observation = episode.observe()
    for policy in POLICIES:
        assert isinstance(policy, Policy)
        decisions = policy.qindexes([observation] * 3)
        assert decisions.dtype == np.int32 and decisions.shape == (3,)
    assert VbrPolicy().qindexes([observation])[0] == KEEP
    assert ProposalPolicy().qindexes([observation])[0] == observation.proposal_qindex
    assert set(ConstantPolicy(9).qindexes([observation] * 2)) == {9}
    draws = RandomPolicy(1).qindexes([observation] * 2000)
    assert draws.min() < 5 and draws.max() > 250
    np.testing.assert_array_equal(draws, RandomPolicy(1).qindexes([observation] * 2000))


@pytest.mark.parametrize("looks", [1, 3])
def test_to_look_moves_nothing(looks: int) -> None:
    """The rate controller learns from frames, not from who asks for an observation."""

    def proposals(looks: int) -> list[tuple[int, int]]:
        backend, clip, found = FakeBackend(), FakeClip(), []
        first_pass = backend.first_pass(clip, SETTINGS)
        with Stepper.open(backend, clip, SETTINGS, first_pass) as episode:
            while episode.info is not None:
                seen = {episode.observe().base_qindex for _ in range(looks)}
                assert len(seen) == min(looks, 1)
                found.append((episode.base.qindex, episode.reach))
                episode.step(max(episode.base.qindex - 9, 0))
        return found

    unseen = proposals(0)
    assert proposals(looks) == unseen and len(set(unseen)) > 3


@pytest.mark.parametrize("qindex", [-1, 256])
def test_constant_refuses_what_is_no_qindex(qindex: int) -> None:
    with pytest.raises(InputError):
        ConstantPolicy(qindex)


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
def test_rollout_keeps_every_frame(policy: Policy) -> None:
    backend, clip = FakeBackend(), FakeClip(num_frames=20)
    told: list[FrameResult] = []
    done = rollout(clip, SETTINGS, policy, backend=backend, on_frame=told.append)
    assert [result for _, result in done.frames] == told == backend.sessions[0].results
    assert done.score.shown_frames == 20
    assert done.score.coded_frames == len(done.qindexes)
    assert done.score.bits == sum(result.bits for result in told)
    assert [r.qindex for i, r in done.frames if i is None] == [-1] * 3
    assert all(
        info.coding_index == result.coding_index for info, result in done.frames if info is not None
    )
    assert 0 < done.decision_seconds < done.seconds
    assert backend.sessions[0].finished


def test_rollout_obeys_the_policy() -> None:
    done = rollout(FakeClip(), SETTINGS, ConstantPolicy(123), backend=FakeBackend())
    assert set(done.qindexes) == {123}
    coarse = rollout(FakeClip(), SETTINGS, ConstantPolicy(200), backend=FakeBackend())
    assert coarse.score.bits < done.score.bits
    assert coarse.score.psnr_avg < done.score.psnr_avg


@pytest.mark.parametrize("answers", [(256,), (-2,), (), (1, 2)])
def test_what_is_no_decision_is_refused_and_the_session_freed(answers: tuple[int, ...]) -> None:
    backend = FakeBackend()
    with pytest.raises(InputError):
        rollout(FakeClip(), SETTINGS, _Answers(*answers), backend=backend)
    assert backend.sessions[0].closed


@pytest.mark.parametrize(
    "answer", [[90.7], [math.nan], ["9"], None, 90, [[90]], [None], np.array([90.0]), [True]]
)
def test_what_is_no_whole_number_is_refused_in_one_line(answer: Any) -> None:
    # Somebody else's policy: int() took 90.7 for 90, and "9" for 9.
    policy = _Answers()
    policy.qindexes = lambda _: answer  # type: ignore[method-assign]
    with pytest.raises(InputError, match="policy answers must give a whole number for each of 1"):
        rollout(FakeClip(), SETTINGS, policy, backend=FakeBackend())


@pytest.mark.parametrize("answer", [None, [], [90], FrameDecision(90), [FrameDecision(90)] * 2])
def test_what_is_no_frame_decision_is_refused_in_one_line(answer: Any) -> None:
    policy: Any = _Answers()
    policy.decide = lambda *_: answer
    with pytest.raises(InputError, match="policy answers must give one FrameDecision, not"):
        rollout(FakeClip(), SETTINGS, policy, backend=FakeBackend())


def _result(shown: bool, sse: tuple[int, int, int], bits: int, qindex: int = 9) -> FrameResult:
    return FrameResult(0, 0, shown, qindex, bits, sse, (400, 100, 100), 1, 1, 1, 0.0)


def test_score_by_hand() -> None:
    clip = FakeClip(fps=Fraction(4), num_frames=2)
    results = [
        _result(True, (4000, 1000, 1000), 8000),
        _result(False, (1, 1, 1), 1000),
        _result(True, (400, 100, 100), 992, qindex=-1),
    ]
    score = episode_score(clip, 20, results, 1250)
    psnr = [10 * math.log10(255**2 / 10), 10 * math.log10(255**2)]
    assert score.psnr_avg == pytest.approx(sum(psnr) / 2)
    assert score.psnr_y == pytest.approx(sum(psnr) / 2)
    assert score.psnr_overall == pytest.approx(10 * math.log10(1200 * 255**2 / 6600))
    assert (score.bits, score.shown_frames, score.coded_frames) == (10000, 2, 2)
    assert score.actual_kbps == pytest.approx(20)
    assert score.overshoot == pytest.approx(0)
    assert episode_score(clip, 20, results, 1500).overshoot == pytest.approx(0.2)
    assert score.clip == clip.sha256


def test_a_clip_that_shows_nothing_has_no_score() -> None:
    with pytest.raises(EncoderError, match="showed no frame"):
        episode_score(FakeClip(), 20, [_result(False, (1, 1, 1), 8)], 1)


def test_vbr_rollout_is_the_encoders_own_encode(carphone: Clip, fast: EncoderSettings) -> None:
    with EncoderSession(carphone, fast) as session:
        while session.next() is not None:
            session.encode(KEEP)
        stream = session.finish()
    done = rollout(carphone, fast, VbrPolicy())
    assert done.stream.sha256 == stream.sha256
    assert done.score.shown_frames == carphone.num_frames
    # What the file holds, with the few bytes more that bind hidden frames to shown ones.
    assert done.score.bits == 8 * done.stream.size_bytes
    overhead = done.score.bits - sum(result.bits for _, result in done.frames)
    assert 0 <= overhead < 0.02 * done.score.bits


def test_rollout_writes_its_output(carphone: Clip, fast: EncoderSettings, tmp_path: Path) -> None:
    path = tmp_path / "out.ivf"
    done = rollout(carphone, fast, ConstantPolicy(160), output=path)
    assert path.stat().st_size > done.stream.size_bytes > 0
    assert done.stream.sha256 == rollout(carphone, fast, ConstantPolicy(160)).stream.sha256
