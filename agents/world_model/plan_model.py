"""All that is learned to plan with, in one file: response, mean steps, strengths, slope."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from muzero_rc.agents.world_model.constant import MeanSteps
from muzero_rc.agents.world_model.features import FEATURES, features_of
from muzero_rc.agents.world_model.frames import EncodeFrames
from muzero_rc.agents.world_model.gain import Objective
from muzero_rc.agents.world_model.least_gain import LeastGain, Scored, octaves_gained
from muzero_rc.agents.world_model.linear import FrameModel, LinearModel, octaves_of_steps
from muzero_rc.agents.world_model.normal_equations import NormalEquations, Ridge
from muzero_rc.agents.world_model.planner import PlanSettings, plan
from muzero_rc.agents.world_model.residual.config import NetworkConfig
from muzero_rc.agents.world_model.residual.model import CorrectedModel, Residual
from muzero_rc.checkpoint import ArrayTree, read_arrays, read_meta, write_arrays
from muzero_rc.errors import CheckpointError
from muzero_rc.policy_identity import PolicyIdentity

__all__ = [
    "MOST_FRAMES",
    "PLAN_FORMAT",
    "ClipPlan",
    "PlanModel",
    "in_stretches",
    "is_plan_model",
    "plan_clip",
]

PLAN_FORMAT = "muzero_rc plan model"
_VERSION = 2

# Times the strength of the settings: the ensemble chooses among such plans. Set by hand.
_CAUTION = (1.0, 3.0, 10.0)

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


def in_stretches(
    base: EncodeFrames, plan_part: Callable[[EncodeFrames, slice], ClipPlan]
) -> ClipPlan:
    """The plan for a clip, made for each stretch of whole groups by itself.

    So time and memory grow with the length alone. A stretch keeps its share of the bits.

    Args:
      base: the encode that steps are added to.
      plan_part: plans a stretch, from its frames and its place among all.
    """
    steps = np.zeros(len(base), np.int64)
    bits = base.bits.copy()
    gain = 0.0
    for start, stop in base.windows(MOST_FRAMES):
        frames, place = base.part(start, stop), slice(start, stop)
        if not frames.weight.any():
            continue
        found = plan_part(frames, place)
        steps[place], bits[place] = found.steps, found.bits
        gain += found.gain * frames.total_bits / base.total_bits
    return ClipPlan(steps, bits, gain)


def plan_clip(
    model: FrameModel,
    base: EncodeFrames,
    features: npt.NDArray[np.float64],
    slope: float,
    settings: PlanSettings,
    *,
    centre: npt.NDArray[np.float64] | None = None,
    rate: float = 0.0,
) -> ClipPlan:
    """The plan for a clip by Newton's method, `in_stretches`.

    Args:
      model: how frames answer.
      base: the encode that steps are added to.
      features: [N, NUM_FEATURES] of its frames.
      slope: of the clip's curve of quality over rate, dB per octave.
      settings: how far the plan goes.
      centre: [N] as of `planner.plan`.
      rate: octaves by which all bits are to change.
    """
    centre = np.zeros(len(base)) if centre is None else centre

    def plan_part(frames: EncodeFrames, place: slice) -> ClipPlan:
        found = plan(
            model, frames, slope, settings,
            features=features[place], centre=centre[place], rate=rate,
        )  # fmt: skip
        return ClipPlan(found.steps, found.bits, found.gain)

    return in_stretches(base, plan_part)


@dataclass(frozen=True, eq=False)
class PlanModel:
    """Plans the last pass of a clip from its probe encode.

    Attributes:
      equations: of all encodes that it is fitted to: a clip's own can be added.
      ridge: of the fit.
      means: the mean step of each kind of frames; what plans shrink to.
      settings: how far plans go.
      slope: dB of PSNR per octave of rate that a plan counts with.
      own_weight: how many encodes of other clips one of the clip's own counts for.
      meta: what it was fitted on, for people and for the model card.
      residual: what corrects the coefficients of clips that nothing else is known of; None
        for the linear model alone.
      identity: what it was made for; whoever encodes with it is warned without one.
      least: what an encode with a plan must gain over its probe encode, or it is doubted; None
        doubts nothing, as files from before it.
    """

    equations: NormalEquations
    ridge: Ridge
    means: MeanSteps
    settings: PlanSettings
    slope: float
    own_weight: float = 1.0
    meta: Mapping[str, Any] = field(default_factory=dict)
    residual: Residual | None = None
    identity: PolicyIdentity | None = None
    least: LeastGain | None = None

    @functools.cached_property
    def linear(self) -> LinearModel:
        """How frames of all clips answer to their steps, by the linear model alone."""
        return self.equations.solve(self.ridge)

    @functools.cached_property
    def response(self) -> FrameModel:
        """How frames of clips that nothing is known of answer to their steps."""
        return self.linear if self.residual is None else CorrectedModel(self.linear, self.residual)

    def response_with(self, own: NormalEquations) -> LinearModel:
        """How frames answer of a clip that has been encoded before.

        Args:
          own: equations of its encodes.
        """
        return (self.equations + own.scaled(self.own_weight)).solve(self.ridge)

    def plan(self, probe: EncodeFrames, speed: int) -> ClipPlan:
        """The plan for a clip, as `plan_clip` makes it.

        Args:
          probe: frames of its probe encode; they stand for those of the last pass.
          speed: of the last pass.
        """
        features, centre = features_of(probe), self.means.steps_of(probe, speed)

        def with_strength(times: float) -> ClipPlan:
            strength = times * self.settings.step_strength
            settings = replace(self.settings, step_strength=strength)
            return plan_clip(self.response, probe, features, self.slope, settings, centre=centre)

        if self.residual is None:
            return with_strength(1.0)
        members = self.residual.responses(self.linear, probe, features)
        objective = Objective(probe, self.slope, self.settings.average_share)

        def surely(found: ClipPlan) -> float:
            """What a plan gains by the members' mean, less one deviation; octaves of rate."""
            octaves = octaves_of_steps(probe, found.steps)
            changes = [member.changes(octaves) for member in members]
            gains = [objective.gain(bits, objective.shown(sse)) for bits, sse in changes]
            return float(np.mean(gains) - np.std(gains))

        return max((with_strength(times) for times in _CAUTION), key=surely)

    def gained(self, ours: Scored, theirs: Scored) -> float:
        """Octaves of rate that an encode saves against another one of the same clip."""
        return octaves_gained(ours, theirs, self.slope, self.settings.average_share)

    def doubts(self, score: Scored, probe: Scored, speed: int) -> bool:
        """Whether an encode gained so little over its probe encode that its plan may have harmed.

        Args:
          score: of the encode with the plan.
          probe: of its probe encode.
          speed: of the encode.
        """
        return self.least is not None and self.gained(score, probe) < self.least.at(speed)

    def constant(self, probe: EncodeFrames, speed: int) -> tuple[npt.NDArray[np.int64], Any]:
        """The mean steps alone, and the bits that are expected of them. [N] each."""
        steps = np.rint(self.means.steps_of(probe, speed)).astype(np.int64)
        response = self.linear.response(probe, features_of(probe))
        bits, _ = response.changes(octaves_of_steps(probe, steps))
        return steps, probe.bits * np.exp2(bits)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes it to a file.

        Raises:
          OutputError: the file cannot be written.
        """
        tree: dict[str, ArrayTree] = {
            "equations": self.equations.as_arrays(),
            "means": self.means.as_arrays(),
        }
        network = None
        if self.residual is not None:
            tree["residual"] = self.residual.as_arrays()
            network = asdict(self.residual.config)
        meta: dict[str, Any] = {
            "format": PLAN_FORMAT,
            "version": _VERSION,
            "features": list(FEATURES),
            "ridge": asdict(self.ridge),
            "settings": asdict(self.settings),
            "slope": self.slope,
            "own_weight": self.own_weight,
            "network": network,
            "about": dict(self.meta),
        }
        if self.least is not None:
            tree["least"] = self.least.as_arrays()
        if self.identity is not None:
            self.identity.put(tree, meta)
        write_arrays(path, tree, meta, compressed=True)

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
            network = meta.get("network")
            residual = (
                Residual.of_arrays(tree["residual"], NetworkConfig(**network)) if network else None
            )
            if not all(np.isfinite(array).all() for array in tree["equations"].values()):
                raise ValueError("its equations have numbers that are not finite")
            return cls(
                NormalEquations.of_arrays(tree["equations"]),
                Ridge(**meta["ridge"]),
                MeanSteps.of_arrays(tree["means"]),
                PlanSettings(**meta["settings"]),
                float(meta["slope"]),
                float(meta["own_weight"]),
                meta["about"],
                residual,
                PolicyIdentity.of_file(tree, meta),
                LeastGain.of_arrays(tree["least"]) if "least" in tree else None,
            )
        except Exception as error:  # whatever reading of what others wrote raises
            raise CheckpointError(f"{path} is damaged: {error}; fit it again") from error
