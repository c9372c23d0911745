"""From studies to trajectories: what the teacher would have done at every frame ever coded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from muzero_rc.agents.actions import imitation_target
from muzero_rc.agents.advantage import AdvantageExample, AdvantageModel, advantage_features
from muzero_rc.agents.muzero.trajectory import Trajectory, TrajectoryRecorder
from muzero_rc.env.control.controller import Controller
from muzero_rc.env.observation.builder import ObservationBuilder
from muzero_rc.env.rewards import lexicographic_outcome
from muzero_rc.training.stages.collect import AT_TARGET, Encode, Study
from muzero_rc.types import NUM_QINDEX, FrameInfo, FrameResult, Observation

__all__ = ["examples_of", "demonstrations_of", "observed"]

_OUTLIER = 0.5  # octaves; beyond, the encoder changed its mind about the whole clip


@dataclass(frozen=True)
class _Shape:
    """What an observation needs to know of a clip."""

    width: int
    height: int
    fps: Fraction
    num_frames: int


@dataclass(frozen=True)
class _Stats:
    stats: npt.NDArray[np.float64]


def observed(study: Study, encode: Encode) -> list[tuple[Observation, FrameInfo, FrameResult]]:
    """The observations of a logged encode's decided frames, made again from the log.

    Without `blocks`, which the log does not have.
    """
    width, height, fps_num, fps_den = study.shape
    shape = _Shape(width, height, Fraction(fps_num, fps_den), len(study.stats))
    stats = _Stats(study.stats)
    builder = ObservationBuilder(shape, study.settings, stats)
    controller = Controller(shape, study.settings, stats, study.probe)
    seen = []
    for info, result in encode.frames():
        if info is not None:
            proposal = controller.propose(info)
            observation = builder.observe(info, proposal.rate_offset, proposal.reach)
            seen.append((observation, info, result))
        controller.update(info, result)
        builder.record(info, result)
    return seen


def examples_of(study: Study) -> list[AdvantageExample]:
    """A study's corrected encodes, each against the base policy's."""
    base = study.encode("base")
    base_features, base_steps = _features_and_steps(study, base)
    examples = []
    for encode in study.encodes:
        if encode.name != "perturbed":
            continue
        gain = study.gain_db(encode, base) / study.slope
        if abs(gain) > _OUTLIER:
            continue
        features, steps = _features_and_steps(study, encode)
        examples.append(
            AdvantageExample(
                study.source, features, steps, base_features, base_steps, len(study.stats), gain
            )
        )
    return examples


def demonstrations_of(
    study: Study,
    model: AdvantageModel,
    action_frame: str,
) -> list[Trajectory]:
    """All encodes of a study at its target, with the teacher's choice at every frame.

    Their outcome is against the base policy's encode, not against libvpx's VBR: nearly all
    beat that, so that a value learned from it could not tell one frame's qindex from another.
    """
    return [
        _trajectory(study, encode, model, action_frame)
        for encode in study.encodes
        if encode.name in AT_TARGET
    ]


def _trajectory(
    study: Study,
    encode: Encode,
    model: AdvantageModel,
    action_frame: str,
) -> Trajectory:
    base, vbr = study.encode("base"), study.encode("vbr")
    seen = observed(study, encode)
    features = np.stack([advantage_features(observation) for observation, _, _ in seen])
    steps = model.best_steps(features)
    recorder = TrajectoryRecorder(action_frame)
    for (observation, _, result), step in zip(seen, steps, strict=True):
        base_qindex = observation.base_qindex
        within = min(max(round(float(step)), -observation.reach), observation.reach)
        best = min(max(base_qindex + within, 0), NUM_QINDEX - 1)
        recorder.step(
            observation,
            result.qindex,
            bits_per_pixel=result.bits / result.samples[0],
            psnr_db=result.psnr,
            policy=imitation_target(best, base_qindex, action_frame),
        )
    target = study.settings.target_kbps
    overshoot = encode.kbps / target - 1.0
    outcome = lexicographic_outcome(
        encode.psnr_avg, overshoot, base.psnr_avg, base.kbps / target - 1.0
    )
    return recorder.finish(
        outcome=outcome, overshoot=overshoot, psnr_gain_db=encode.psnr_avg - vbr.psnr_avg
    )


def _features_and_steps(
    study: Study, encode: Encode
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    seen: Sequence[tuple[Observation, FrameInfo, FrameResult]] = observed(study, encode)
    features = np.stack([advantage_features(observation) for observation, _, _ in seen])
    # From the base qindex: the rate controller answers to them, which is part of their worth.
    steps = np.array([result.qindex - o.base_qindex for o, _, result in seen])
    return features, steps.astype(np.float32)
