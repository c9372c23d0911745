"""How the frames of a clip answer to their qindexes, by the world model and its own encodes.

The linear response model (`agents.world_model.linear`) has been fitted to other clips. Each
encode of this clip adds its equations, so that the more a clip has been encoded the more its
own answers count. With them the model plans the steps of all frames from an encode, and says
what every frame's qindex is worth to the whole clip: with

    J = psnr_avg - slope log2(bits / target)

the derivative of J by the frame's error, all that it passes on to included, and its share of
the bits. A step D of the frame alone changes J by

    J(D) - J(0) = -quality D - slope log2(1 + (bits_f / bits) (2^(-rate D) - 1))

which is concave, so that it has a best D.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from muzero_rc.agents.hindsight.encoder import Outcome
from muzero_rc.agents.hindsight.plan import FrameKey
from muzero_rc.agents.world_model.features import features_of, matched_features
from muzero_rc.agents.world_model.frames import EncodeFrames
from muzero_rc.agents.world_model.gain import Objective
from muzero_rc.agents.world_model.linear import LinearModel
from muzero_rc.agents.world_model.normal_equations import NormalEquations
from muzero_rc.agents.world_model.plan_model import PlanModel, plan_clip
from muzero_rc.agents.world_model.quantizer import log2_step
from muzero_rc.types import NUM_QINDEX, EncodeLog

__all__ = ["FrameWorth", "ResponseModel"]

# Encodes whose equations are added, as time grows with them; set by hand.
_MOST_OWN = 32

_Array = npt.NDArray[np.float64]


class FrameWorth:
    """What a frame's qindex is worth at an encode.

    Attributes:
      key: the frame.
      quality: dB of J lost per qindex by the frame's error, all it is passed on to included.
      price: dB of J that the frame's bits cost.
      rate: octaves of its bits per qindex.
      share: of its bits in all.
    """

    __slots__ = ("_slope", "key", "price", "quality", "rate", "share")

    def __init__(
        self, key: FrameKey, quality: float, share: float, slope: float, rate: float
    ) -> None:
        self.key = key
        self.quality = quality
        self.price = slope * share / math.log(2.0)
        self.rate = rate
        self.share = share
        self._slope = slope

    def gain(self, step: float) -> float:
        """Expected change of J in dB for a step in qindexes."""
        bits = 1.0 + self.share * (2.0 ** (-self.rate * step) - 1.0)
        return -self.quality * step - self._slope * math.log2(max(bits, 1e-6))


class ResponseModel:
    """The world model, refined with every encode of the clip."""

    def __init__(self, prior: PlanModel, probe: EncodeFrames | None = None) -> None:
        """Knows no encode of the clip yet.

        Args:
          prior: fitted to other clips.
          probe: frames of the probe encode, whose features the prior goes by.
        """
        self._prior = prior
        self._probe = probe
        self._frames: dict[int, EncodeFrames] = {}  # by identity of the outcome
        self._outcomes: list[Outcome] = []
        self._fitted: tuple[int, int, LinearModel] | None = None

    @property
    def step_strength(self) -> float:
        """Of plans of clips that nothing is known of."""
        return self._prior.settings.step_strength

    @property
    def usual_slope(self) -> float:
        """Price of rate of clips that nothing is known of, dB per octave."""
        return self._prior.slope

    def learn(self, outcome: Outcome) -> None:
        """Takes in an encode; nothing if it is known."""
        if id(outcome) in self._frames:
            return
        log = EncodeLog.of_pairs(outcome.frames, outcome.score.bits // 8)
        self._frames[id(outcome)] = EncodeFrames.of_log(log)
        self._outcomes.append(outcome)
        self._fitted = None

    def plan(self, outcome: Outcome, slope: float, step_strength: float) -> Mapping[FrameKey, int]:
        """The steps in qindexes from an encode that promise most, at the target.

        Args:
          outcome: the encode, which is learned from, too.
          slope: price of rate, dB per octave.
          step_strength: as of `PlanSettings`, for steps from this encode.
        """
        self.learn(outcome)
        frames = self._frames[id(outcome)]
        found = plan_clip(
            self._model(outcome, slope), frames, self._features(frames), slope,
            replace(self._prior.settings, step_strength=step_strength), rate=-outcome.octaves,
        )  # fmt: skip
        return dict(zip(_coded(outcome), found.steps.tolist(), strict=True))

    def worth(self, outcome: Outcome, slope: float) -> Mapping[FrameKey, FrameWorth]:
        """What each decided frame's qindex is worth.

        Args:
          outcome: the encode, which is learned from, too.
          slope: price of rate, dB per octave.
        """
        self.learn(outcome)
        frames = self._frames[id(outcome)]
        objective = Objective(frames, slope, 1.0)
        response = self._model(outcome, slope).response(frames, self._features(frames))
        by_bits, by_sse = objective.at_base()
        total = response.total_by_sse(by_bits, by_sse)
        # Octaves of the quantizer's step for one qindex more, about.
        high = np.minimum(frames.qindex + 4, NUM_QINDEX - 1)
        low = np.maximum(frames.qindex - 4, 0)
        octaves = (log2_step(high) - log2_step(low)) / (high - low)
        quality = -slope * total * response.sse[:, 0] * octaves
        rate = np.maximum(-response.bits[:, 0] * octaves, 0.0)
        return {
            key: FrameWorth(key, float(q), float(share), slope, float(r))
            for key, q, share, r in zip(
                _coded(outcome), quality, objective.shares, rate, strict=True
            )
        }

    def _features(self, frames: EncodeFrames) -> _Array:
        if self._probe is None:
            return features_of(frames)
        return matched_features(frames, self._probe)

    def _model(self, outcome: Outcome, slope: float) -> LinearModel:
        """The model with this clip's encodes relative to one of them."""
        if self._fitted is not None and self._fitted[:2] == (id(outcome), len(self._outcomes)):
            return self._fitted[2]
        base = self._frames[id(outcome)]
        others = [
            self._frames[id(other)]
            for other in self._outcomes
            if other is not outcome and other.structure == outcome.structure
        ]
        own = NormalEquations.of(
            base, others[-_MOST_OWN:], slope, self._features(base),
            self._prior.settings.average_share,
        )  # fmt: skip
        model = self._prior.response_with(own)
        self._fitted = (id(outcome), len(self._outcomes), model)
        return model


def _coded(outcome: Outcome) -> list[FrameKey]:
    """Keys of the coded frames."""
    return [key for key in outcome.structure if key is not None]
