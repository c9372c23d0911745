"""The mean planned step of each kind of frames: what a plan is without knowing the clip.

Half of what plans gain is constants of this sort, so a plan has to beat them. They are also
what plans shrink to. (docs/notes, linear response model.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from muzero_rc.agents.world_model.frames import EncodeFrames
from muzero_rc.errors import InputError
from muzero_rc.types import FrameRole

__all__ = ["NUM_STEP_KINDS", "MeanSteps", "PlannedSteps", "log2_target_of", "step_kinds"]

NUM_STEP_KINDS = 2 * len(FrameRole)
"""Roles of coded frames, then those of repeated ones."""

_Floats = npt.NDArray[np.float64]


def step_kinds(frames: EncodeFrames) -> npt.NDArray[np.int64]:
    """The kind of each frame, 0..NUM_STEP_KINDS - 1. [N]."""
    return frames.role + len(FrameRole) * frames.repeated


def log2_target_of(frames: EncodeFrames) -> float:
    """log2 of an encode's bits per luma pixel of a shown frame: its target, across sizes."""
    shown = max(float(frames.weight.sum()), 1.0)
    return float(np.log2(frames.total_bits / (frames.pixels * shown)))


@dataclass(frozen=True, slots=True, eq=False)
class PlannedSteps:
    """A plan, or an encode that gained, to learn from.

    Attributes:
      frames: that steps are added to.
      steps: [N] qindexes.
      speed: of the encode.
    """

    frames: EncodeFrames
    steps: npt.NDArray[np.number]
    speed: int


@dataclass(frozen=True, slots=True, eq=False)
class MeanSteps:
    """Mean steps by speed, and a line over the target.

    Attributes:
      speeds: [S] that were seen, ascending.
      target: [S] mean log2 target, as of `log2_target_of`.
      least_target: [S] lowest of them; targets beyond the ends count as the ends.
      most_target: [S] highest of them.
      steps: [S, NUM_STEP_KINDS] qindexes at the mean target.
      tilt: [S, NUM_STEP_KINDS] qindexes per octave of the target.
    """

    speeds: npt.NDArray[np.int64]
    target: _Floats
    least_target: _Floats
    most_target: _Floats
    steps: _Floats
    tilt: _Floats

    @classmethod
    def fit(cls, examples: Iterable[PlannedSteps], strength: float = 1.0) -> MeanSteps:
        """The mean over clips of each clip's mean step of a kind, so that long ones do not rule.

        Args:
          examples: plans of several clips.
          strength: of the ridge, in clips: how many clips the mean over all speeds counts
            for a speed, and no tilt for the tilt. One by default, as little as can be said.

        Raises:
          InputError: there is no example, or one has not a step for each frame.
        """
        rows: list[tuple[int, float, _Floats]] = []
        for example in examples:
            if len(example.steps) != len(example.frames):
                raise InputError(
                    f"{len(example.frames)} frames want as many steps, not {len(example.steps)}"
                )
            rows.append((example.speed, log2_target_of(example.frames), _by_kind(example)))
        if not rows:
            raise InputError("mean steps cannot be fitted to no plans")
        common = _mean(np.stack([steps for _, _, steps in rows]))
        speeds = sorted({speed for speed, _, _ in rows})
        targets = [np.array([t for speed, t, _ in rows if speed == own]) for own in speeds]
        fitted = [
            _line(
                target - target.mean(),
                np.stack([steps for speed, _, steps in rows if speed == own]),
                common,
                strength,
            )
            for own, target in zip(speeds, targets, strict=True)
        ]
        return cls(
            speeds=np.array(speeds, np.int64),
            target=np.array([target.mean() for target in targets]),
            least_target=np.array([target.min() for target in targets]),
            most_target=np.array([target.max() for target in targets]),
            steps=np.stack([steps for steps, _ in fitted]),
            tilt=np.stack([tilt for _, tilt in fitted]),
        )

    def steps_of(
        self, frames: EncodeFrames, speed: int, log2_target: float | None = None
    ) -> _Floats:
        """The step of each frame in qindexes, not rounded. [N].

        Args:
          frames: of the encode or of a probe.
          speed: of the encode; the nearest that was seen stands in for another.
          log2_target: as of `log2_target_of`; None takes that of `frames`.
        """
        row = int(np.argmin(np.abs(self.speeds - speed)))
        target = log2_target_of(frames) if log2_target is None else log2_target
        target = float(np.clip(target, self.least_target[row], self.most_target[row]))
        steps = self.steps[row] + self.tilt[row] * (target - self.target[row])
        return steps[step_kinds(frames)]

    def as_arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """Plain arrays, for files."""
        return {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, npt.NDArray[np.generic]]) -> MeanSteps:
        """What `as_arrays` gave.

        Raises:
          InputError: an array is missing or has another shape.
        """
        try:
            values = {
                field.name: np.asarray(arrays[field.name], np.float64) for field in fields(cls)
            }
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"the mean steps are damaged: {error}") from error
        count = values["speeds"].size
        for name, value in values.items():
            shape = (count, NUM_STEP_KINDS) if name in ("steps", "tilt") else (count,)
            if not count or value.shape != shape:
                raise InputError(f"mean steps have {name} of shape {shape}, not {value.shape}")
        speeds = values.pop("speeds").astype(np.int64)
        return cls(speeds=speeds, **values)


def _by_kind(example: PlannedSteps) -> _Floats:
    """[NUM_STEP_KINDS] mean step, nan of a kind that the clip has not."""
    kinds = step_kinds(example.frames)
    counts = np.bincount(kinds, minlength=NUM_STEP_KINDS)
    sums = np.bincount(kinds, np.asarray(example.steps, np.float64), NUM_STEP_KINDS)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _mean(rows: _Floats) -> _Floats:
    """[K] means of what is known of [clips, K]; 0 of kinds that no clip has."""
    known = np.isfinite(rows)
    return np.where(known, rows, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)


def _line(
    target: _Floats, rows: _Floats, common: _Floats, strength: float
) -> tuple[_Floats, _Floats]:
    """Steps at target 0 and tilt of each kind by ridge regression, shrunk to `common` and 0."""
    steps = np.array(common)
    tilt = np.zeros_like(common)
    for kind, column in enumerate(rows.T):
        known = np.isfinite(column)
        inputs = np.stack([np.ones(int(known.sum())), target[known]])
        left = inputs @ inputs.T + strength * np.eye(2)
        found = np.linalg.solve(left, inputs @ (column[known] - common[kind]))
        steps[kind] += found[0]
        tilt[kind] = found[1]
    return steps, tilt
