"""From studies to trajectories: the steps of a plan at every frame that was ever coded.

A plan is made once for a study, from its probe encode. The frames of all its encodes at the
target learn the plan's step of their twin in the probe, beside the offset of their level that
`landed` adds. What they are observed with is what the environment shows, without the plan.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from muzero_rc.agents.actions import imitation_target
from muzero_rc.agents.muzero.trajectory import Trajectory, TrajectoryRecorder
from muzero_rc.agents.world_model.frames import EncodeFrames
from muzero_rc.agents.world_model.plan_model import PlanModel
from muzero_rc.dataset import Dataset, EncodeView, StudyView
from muzero_rc.env.control.controller import Controller
from muzero_rc.env.control.qp_offsets import qindexes_with_steps, steps_by_level
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.observation.builder import FRAME_COLUMNS, ObservationBuilder
from muzero_rc.env.rewards import lexicographic_outcome
from muzero_rc.log_columns import BytesPool, log_of_columns
from muzero_rc.training.study import AT_TARGET, Encode, Study
from muzero_rc.types import FrameInfo, FrameResult, Observation, QindexPolicy, UpdateType

__all__ = [
    "Imitated",
    "PlannedStep",
    "Seen",
    "demonstrations_of",
    "explained_by",
    "observed",
    "planned_steps",
    "studies_of_dataset",
    "study_of_view",
]

_LEVEL_COLUMNS = [
    FRAME_COLUMNS.index(name)
    for name in (*(f"type_{kind.name.lower()}" for kind in UpdateType), "layer_depth")
]
_WIDTHS = {"decided_model": 2, "decided_margin": 2, "decided_next_gop": 2}
# What a data set leaves out of a log, and what stands in its place; nothing is observed of it.
_LEFT_OUT: Mapping[str, Any] = {
    "partition": -1, "decided_show_existing_price": 0.0, "decided_show_existing_change": 0.0,
    "decided_account": False, "decided_model": 0, "decided_partition": -1, "decided_margin": 0,
    "decided_next_gop": 0,
}  # fmt: skip


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


class PlannedStep(NamedTuple):
    """What a plan says of a frame of the probe encode.

    Attributes:
      show_index: the frame's.
      update_type: the frame's.
      step: qindexes to add to those of `landed`.
    """

    show_index: int
    update_type: UpdateType
    step: int


class Imitated(NamedTuple):
    """An encode to learn from.

    Attributes:
      trajectory: with the plan's choice at every frame of the plan.
      steps: [N] that choice, qindexes from the controller's; NaN where there is none.
    """

    trajectory: Trajectory
    steps: npt.NDArray[np.float64]


class Seen:
    """What studies were of: for the limits that the model card states."""

    def __init__(self) -> None:
        """Starts with none."""
        self._rows: list[tuple[int, int, int, float]] = []

    def add(self, study: Study) -> None:
        """Takes in a study."""
        height, _, frames = study.part
        psnr = study.encode("vbr").psnr_avg
        self._rows.append((height, frames, study.settings.speed, psnr))

    def as_dict(self) -> dict[str, Any]:
        """Heights and speeds; least and most frames, and dB of VBR at the target."""
        heights, frames, speeds, psnr = zip(*self._rows, strict=True)
        return {
            "heights": sorted(set(heights)),
            "frames": [min(frames), max(frames)],
            "speeds": sorted(set(speeds)),
            "psnr": [round(min(psnr), 1), round(max(psnr), 1)],
        }


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


def planned_steps(study: Study, model: PlanModel) -> dict[int, PlannedStep]:
    """The plan for a study's clip, by coding index; empty without a probe encode."""
    for encode in study.encodes:
        if encode.name == "probe":
            frames = EncodeFrames.of_log(encode.log)
            steps = model.plan(frames, study.settings.speed).steps
            return {
                int(index): PlannedStep(int(shown), UpdateType(int(kind)), int(step))
                for index, shown, kind, step in zip(
                    frames.coding_index, frames.show_index, frames.update_type, steps, strict=True
                )
            }
    return {}


def demonstrations_of(
    study: Study, model: PlanModel | None, action_frame: str
) -> Iterator[Imitated]:
    """All encodes of a study at its target, with the plan's choice at every frame.

    Their outcome is against the base policy's encode, not against libvpx's VBR: nearly all
    beat that, so that a value learned from it could not tell one frame's qindex from another.

    Args:
      study: of a clip.
      model: makes the plan; None, or a study without a probe encode, teaches the networks what
        encodes give and the policy head nothing.
      action_frame: the agent's.
    """
    plan = {} if model is None else planned_steps(study, model)
    for encode in study.encodes:
        if encode.name in AT_TARGET:
            yield _imitated(study, encode, plan, action_frame)


def _imitated(
    study: Study, encode: Encode, plan: Mapping[int, PlannedStep], action_frame: str
) -> Imitated:
    base, vbr = study.encode("base"), study.encode("vbr")
    seen = observed(study, encode)
    steps = np.array([_step_of(plan, info) for _, info, _ in seen])
    observations = [observation for observation, _, _ in seen]
    wanted = steps_by_level(observations) + np.nan_to_num(steps)
    best = qindexes_with_steps(observations, wanted)
    recorder = TrajectoryRecorder(action_frame)
    for (observation, _, result), step, qindex in zip(seen, steps, best, strict=True):
        target = imitation_target(int(qindex), observation.base_qindex, action_frame)
        recorder.step(
            observation,
            result.qindex,
            bits_per_pixel=result.bits / result.samples[0],
            psnr_db=result.psnr,
            policy=target if np.isfinite(step) else None,
        )
    target_kbps = study.settings.target_kbps
    overshoot = encode.kbps / target_kbps - 1.0
    outcome = lexicographic_outcome(
        encode.psnr_avg, overshoot, base.psnr_avg, base.kbps / target_kbps - 1.0
    )
    trajectory = recorder.finish(
        outcome=outcome, overshoot=overshoot, psnr_gain_db=encode.psnr_avg - vbr.psnr_avg
    )
    anchors = np.array([observation.base_qindex for observation in observations])
    return Imitated(trajectory, np.where(np.isfinite(steps), best - anchors, np.nan))


def explained_by(policy: QindexPolicy, imitated: Sequence[Imitated]) -> dict[str, float]:
    """Shares of the variance of planned steps that are explained, by frames of encodes.

    Args:
      policy: chooses the steps.
      imitated: of sources that it has not seen.

    Returns:
      `head`, by the policy; `levels`, by the mean step of each update type and depth in these
      encodes, which knows them and so is flattered; `rms`, of the steps in qindexes.
    """
    wanted, chosen, levels = [], [], []
    for trajectory, steps in imitated:
        seen = [trajectory.observation(n) for n in range(len(trajectory))]
        qindexes = policy.qindexes(seen)
        wanted.append(steps)
        chosen.append(qindexes - np.array([o.base_qindex for o in seen]))
        levels.append(trajectory.frames[:, _LEVEL_COLUMNS])
    target, step, level = (np.concatenate(parts) for parts in (wanted, chosen, levels))
    known = np.isfinite(target)
    target, step, level = target[known], step[known], level[known]
    _, group = np.unique(level, axis=0, return_inverse=True)
    group = group.ravel()
    means = np.bincount(group, target) / np.bincount(group)
    variance = max(float(np.var(target)), 1e-9)
    return {
        "head": float(1.0 - np.mean((target - step) ** 2) / variance),
        "levels": float(1.0 - np.mean((target - means[group]) ** 2) / variance),
        "rms": float(np.sqrt(np.mean(target**2))),
    }


def _step_of(plan: Mapping[int, PlannedStep], info: FrameInfo) -> float:
    """The step of the frame's twin in the probe; NaN where groups came out otherwise."""
    found = plan.get(info.coding_index)
    if found is None or (found.show_index, found.update_type) != (
        info.show_index, info.update_type,
    ):  # fmt: skip
        return float("nan")
    return float(found.step)


def studies_of_dataset(data: Dataset, exclude: Set[str] = frozenset()) -> Iterator[Study]:
    """Studies as the stage collect made them, as far as a data set has them.

    Args:
      data: the data set.
      exclude: sources that are left out.
    """
    for number, view in enumerate(data.studies):
        if view.source not in exclude:
            yield study_of_view(view, number)


def study_of_view(view: StudyView, number: int = 0) -> Study:
    """A study of a data set, with the encodes that are learned from and the probe.

    Squared errors are rounded, partitions and the speed profile are not known; a study like this
    cannot be encoded again.
    """
    names = {encode.name for encode in view.encodes}
    settings = EncoderSettings(
        target_kbps=round(view.target_kbps),
        speed=view.speed,
        speed_profile="hierarchical",
        passes=3 if "probe" in names else 2,
    )
    return Study(
        clip=view.clip,
        source=view.source,
        split="training",
        part=view.part,
        shape=(view.width, view.height, view.fps.numerator, view.fps.denominator),
        settings=settings,
        stats=np.asarray(view.stats, np.float64),
        slope=view.slope,
        encodes=[
            _encode_of_view(encode)
            for encode in view.encodes
            if encode.name in (*AT_TARGET, "vbr_high", "probe")
        ],
        number=number,
        identity=view.identity,
    )


def _encode_of_view(view: EncodeView) -> Encode:
    columns: dict[str, npt.NDArray[Any]] = {name: view[name] for name in view}
    count = view.num_frames
    for name, value in _LEFT_OUT.items():
        shape = (count, _WIDTHS[name]) if name in _WIDTHS else (count,)
        columns[name] = np.full(shape, value)
    head = {"size_bytes": view.size_bytes, "speed": view.stream_speed, "gops": view.gops.tolist()}
    return Encode(
        view.name,
        view.target_kbps,
        view.psnr_avg,
        view.psnr_overall,
        view.psnr_y,
        view.kbps,
        log_of_columns(columns, head, BytesPool()),
    )
