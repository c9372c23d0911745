"""Random corrections to what a policy decides, for learning what they are worth."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from muzero_rc.agents.advantage import advantage_features
from muzero_rc.env.observation.builder import FRAME_COLUMNS, GLOBAL_COLUMNS
from muzero_rc.types import NUM_QINDEX, FrameDecision, Observation, Policy

__all__ = ["MODEL_COLUMNS", "PerturbedPolicy"]

MODEL_COLUMNS = (
    *map(
        FRAME_COLUMNS.index,
        (
            "boost",
            "proposal_to_target",
            "proposal_qindex",
            "gop_size",
            "max_layer_depth",
            "clip_libvpx_share",
            "proposal_bpp",
            "gop_position",
            "tpl_gain",
            "clip_coded_to_clip",
        ),
    ),
    len(FRAME_COLUMNS) + GLOBAL_COLUMNS.index("frame_rate"),
    len(FRAME_COLUMNS) + GLOBAL_COLUMNS.index("target_bpp"),
    len(FRAME_COLUMNS) + GLOBAL_COLUMNS.index("complexity"),
)
"""Columns of the advantage features that corrections are tried along, and may depend on."""

# Those that tell an update type and its depth come first.
_KIND_COLUMNS = FRAME_COLUMNS.index("max_layer_depth") + 1
_USUAL_SPREAD = 0.3  # of these columns


class PerturbedPolicy:
    """Another policy's choices with corrections added.

    Corrections are a sum of three: one per update type and depth, shared by all such
    frames; one per frame; and one along a random direction of what is observed, for the
    model that learns from them is linear in that.
    """

    name = "perturbed"

    def __init__(self, base: Policy, scale: float, sign: int, seed: int) -> None:
        """Takes the policy, the corrections' standard deviation in qindex, and their sign."""
        self._base = base
        self._scale = scale
        self._sign = sign
        self._rng = np.random.default_rng(seed)
        self._kinds: dict[bytes, _KindNoise] = {}

    def decide(
        self, observations: Sequence[Observation], base: Sequence[FrameDecision]
    ) -> Sequence[FrameDecision]:
        """The policy's decisions with corrected qindexes."""
        decided = list(self._base.decide(observations, base))
        for row, observation in enumerate(observations):
            name = np.asarray(observation.frame[:_KIND_COLUMNS], np.float32).tobytes()
            if name not in self._kinds:
                self._kinds[name] = _KindNoise(self._rng)
            noise = self._kinds[name].draw(advantage_features(observation)[list(MODEL_COLUMNS)])
            qindex = decided[row].qindex + self._sign * round(self._scale * noise)
            decided[row] = decided[row].with_qindex(min(max(qindex, 0), NUM_QINDEX - 1))
        return decided


class _KindNoise:
    """Corrections of one kind of frames, of unit deviation."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._common = float(rng.normal())
        self._direction = rng.normal(size=len(MODEL_COLUMNS))
        # Mean and spread of what was observed so far, from a guess at both.
        self._sum: npt.NDArray[np.float64] | None = None
        self._squares = np.zeros(len(MODEL_COLUMNS))
        self._count = 0

    def draw(self, observed: npt.NDArray[np.float32]) -> float:
        """The correction of the next frame."""
        seen = observed.astype(np.float64)
        self._sum = seen if self._sum is None else self._sum + seen
        self._count += 1
        mean = self._sum / self._count
        self._squares += (seen - mean) ** 2
        spread = np.sqrt((self._squares + _USUAL_SPREAD**2) / self._count)
        along = float(self._direction @ np.clip((seen - mean) / spread, -2.0, 2.0))
        along /= math.sqrt(len(MODEL_COLUMNS))
        return 0.5 * self._common + 0.5 * float(self._rng.normal()) + 0.7 * along
