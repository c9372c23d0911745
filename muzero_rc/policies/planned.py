"""Policies that plan the whole last pass from the probe encode.

`planned` is the linear response model's plan; `const` is its learned mean step of each kind
of frames, the same for every clip of a speed and a target: the rival of everything learned.
Both move the qindexes of `landed`, and the controller meets the target (`env.control.plan`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from muzero_rc.agents.world_model.frames import EncodeFrames
from muzero_rc.agents.world_model.plan_model import ClipPlan, PlanModel
from muzero_rc.env.codec.backend import ClipShape
from muzero_rc.env.control.plan import PlannedFrame
from muzero_rc.env.control.qp_offsets import QpOffsetPolicy
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.errors import InputError
from muzero_rc.types import EncodeLog, EpisodeScore, Observation, QindexPolicy

__all__ = ["PlannedPolicy"]


class PlannedPolicy(QindexPolicy):
    """The steps of `landed`, and those of a plan.

    Attributes:
      name: "planned", or "const".
      model: of the plan.
      constant: its mean steps alone.
    """

    def __init__(
        self,
        model: PlanModel,
        *,
        constant: bool = False,
        simulations: int = 0,
        around: Literal["means", "plan"] = "means",
    ) -> None:
        """Takes what was learned.

        Args:
          model: of the plan.
          constant: take its mean steps alone, whatever the clip.
          simulations: of each group in a search of macro-actions
            (`agents.world_model.macro_search`); 0 plans by Newton's method.
          around: where that search starts from.
        """
        self.name = "const" if constant else "planned"
        self.model = model
        self.constant = constant
        self._simulations, self._around = simulations, around
        self._base = QpOffsetPolicy()

    def with_search(self, simulations: int) -> PlannedPolicy:
        """The same with a search of macro-actions.

        Args:
          simulations: of each group of pictures.

        Raises:
          InputError: mean steps alone are no plan.
        """
        if self.constant:
            raise InputError("mean steps are the same for every clip: there is nothing to search")
        return PlannedPolicy(self.model, simulations=simulations)

    @property
    def meta(self) -> dict[str, Any]:
        """What the model was fitted on."""
        return dict(self.model.meta)

    def plan(
        self, clip: ClipShape, settings: EncoderSettings, probe: EncodeLog
    ) -> Mapping[int, PlannedFrame]:
        """The plan for the coded frames of a probe encode, by coding index."""
        frames = EncodeFrames.of_log(probe)
        if self.constant:
            steps, bits = self.model.constant(frames, settings.speed)
        else:
            found = self._plan_of(frames, settings.speed)
            steps, bits = found.steps, found.bits
        return {
            int(index): PlannedFrame(int(step), float(expected))
            for index, step, expected in zip(frames.coding_index, steps, bits, strict=True)
        }

    def doubts(self, score: EpisodeScore, probe: EpisodeScore, settings: EncoderSettings) -> bool:
        """Whether the encode gained too little over the probe encode, see `LeastGain`.

        What is too little was learned with the hierarchical speed profile. With a uniform one
        every encode gains less over its probe: there nothing is doubted.
        """
        known = settings.speed_profile == "hierarchical"
        return known and self.model.doubts(score, probe, settings.speed)

    def gained(self, ours: EpisodeScore, theirs: EpisodeScore) -> float:
        """Octaves of rate that an encode saves against another one of the clip."""
        return self.model.gained(ours, theirs)

    def _plan_of(self, frames: EncodeFrames, speed: int) -> ClipPlan:
        if not self._simulations:
            return self.model.plan(frames, speed)
        # Imported here: plans without a search need no JAX.
        from muzero_rc.agents.world_model.macro_search import MacroSettings, search_plan

        macro = MacroSettings(simulations=self._simulations, around=self._around)
        return search_plan(self.model, frames, speed, macro)

    def qindexes(self, observations: Sequence[Observation]) -> npt.NDArray[np.int32]:
        """The qindexes of `landed` from the controller's, in which the plan is. [B] int32."""
        return self._base.qindexes(observations)
