"""All that is learned to plan with, in one file: response, mean steps, strengths, slope."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from muzero_rc.agents.world_model.constant import MeanSteps
from muzero_rc.agents.world_model.features import FEATURES, features_of
from muzero_rc.agents.world_model.frames import EncodeFrames
from muzero_rc.agents.world_model.linear import LinearModel
from muzero_rc.agents.world_model.planner import PlanSettings, plan
from muzero_rc.checkpoint import ArrayTree, read_arrays, read_meta, write_arrays
from muzero_rc.errors import CheckpointError, InputError

__all__ = ["MOST_FRAMES", "PLAN_FORMAT", "ClipPlan", "PlanModel", "is_plan_model"]

PLAN_FORMAT = "muzero_rc plan model"
_VERSION = 1

MOST_FRAMES = 200
"""Coded frames that are planned together: time grows with their cube, 0.2 s for so many."""


def is_plan_model(path: str | os.PathLike[str]) -> bool:
    """Whether a file holds a plan model.

    Raises:
      CheckpointError: it is missing or not a file of this program.
    """
    return bool(read_meta(path).get("format") == PLAN_FORMAT)


class ClipPlan(NamedTuple):
    """The plan of all frames of a clip.

    Attributes:
      steps: [N] whole qindexes to add.
      bits: [N] that the frames are expected to take with them.
      gain: octaves of rate at equal quality that are promised.
    """

    steps: npt.NDArray[np.int64]
    bits: npt.NDArray[np.float64]
    gain: float


@dataclass(frozen=True, slots=True, eq=False)
class PlanModel:
    """Plans the last pass of a clip from its probe encode.

    Attributes:
      response: how frames answer to their steps.
      means: the mean step of each kind of frames; what plans shrink to.
      settings: how far plans go.
      slope: dB of PSNR per octave of rate that a plan counts with.
      meta: what it was fitted on, for people and for the model card.
    """

    response: LinearModel
    means: MeanSteps
    settings: PlanSettings
    slope: float
    meta: Mapping[str, Any] = field(default_factory=dict)

    def plan(self, probe: EncodeFrames, speed: int) -> ClipPlan:
        """The plan for a clip; of a long one for each stretch of whole groups by itself.

        So time and memory grow with the length alone. A stretch keeps its share of the bits.

        Args:
          probe: frames of its probe encode; they stand for those of the last pass.
          speed: of the last pass.
        """
        centre = self.means.steps_of(probe, speed)
        features = features_of(probe)
        steps = np.zeros(len(probe), np.int64)
        bits = probe.bits.copy()
        gain = 0.0
        for start, stop in probe.windows(MOST_FRAMES):
            frames = probe.part(start, stop)
            if not frames.weight.any():
                continue
            found = plan(
                self.response, frames, self.slope, self.settings,
                features=features[start:stop], centre=centre[start:stop],
            )  # fmt: skip
            steps[start:stop], bits[start:stop] = found.steps, found.bits
            gain += found.gain * frames.total_bits / probe.total_bits
        return ClipPlan(steps, bits, gain)

    def constant(self, probe: EncodeFrames, speed: int) -> tuple[npt.NDArray[np.int64], Any]:
        """The mean steps alone, and the bits that are expected of them. [N] each."""
        steps = np.rint(self.means.steps_of(probe, speed)).astype(np.int64)
        bits, _ = self.response.predict(probe, steps)
        return steps, probe.bits * np.exp2(bits)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes it to a file.

        Raises:
          OutputError: the file cannot be written.
        """
        tree: ArrayTree = {
            "coefficients": self.response.coefficients,
            "means": self.means.as_arrays(),
        }
        meta = {
            "format": PLAN_FORMAT,
            "version": _VERSION,
            "features": list(FEATURES),
            "settings": asdict(self.settings),
            "slope": self.slope,
            "about": dict(self.meta),
        }
        write_arrays(path, tree, meta)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> PlanModel:
        """Reads what `save` wrote.

        Raises:
          CheckpointError: the file is missing, damaged, of other features or something else.
        """
        tree, meta = read_arrays(path)
        if meta.get("format") != PLAN_FORMAT or meta.get("version") != _VERSION:
            raise CheckpointError(f"{path} is no plan model of this version; fit it again")
        if meta.get("features") != list(FEATURES):
            raise CheckpointError(f"{path} was fitted on other features; fit it again")
        try:
            return cls(
                LinearModel(np.asarray(tree["coefficients"], np.float64)),
                MeanSteps.of_arrays(tree["means"]),
                PlanSettings(**meta["settings"]),
                float(meta["slope"]),
                meta["about"],
            )
        except (KeyError, TypeError, ValueError, InputError) as error:
            raise CheckpointError(f"{path} is damaged: {error}; fit it again") from error
