"""Plans: the steps of all qindexes of a clip that the response model expects most of.

Newton's method on all frames' changes g of log2 step, for

    gain(g) - rate_strength (rate(g) - R)^2 - step_strength mean_f (g_f - centre_f)^2

within a limit of qindexes, R being the change of rate that is wanted, mostly none. The gain is
concave in the changes of bits and errors, these are quadratics of g. Of the second derivatives of
the quadratics only what bends downwards is kept, so that every step is an ascent. A step that
does not help is halved.

Plans promise two to three times what they give, as the planner leaves the range of the data:
that is what `step_strength` is for, learned on realised gains (docs/notes, linear response
model).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from muzero_rc.agents.world_model.features import features_of
from muzero_rc.agents.world_model.frames import EncodeFrames
from muzero_rc.agents.world_model.gain import Objective
from muzero_rc.agents.world_model.linear import FrameModel, Response, octaves_of_steps
from muzero_rc.agents.world_model.quantizer import log2_step, qindex_of
from muzero_rc.errors import InputError

__all__ = ["Plan", "PlanSettings", "plan"]

_HALVINGS = 12  # a step of 1/4096 that does not help: there is nothing left to gain
_ENOUGH = 1e-6  # octaves of rate that are not worth another iteration: steps are whole anyway

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSettings:
    """How far plans go.

    Attributes:
      step_strength: octaves of rate that a mean square of one octave of the quantizer's step
        costs; learned on realised gains.
      rate_strength: octaves that a square of one octave of rate costs. Where the slope that
        is given and the model's own differ by the share d, a plan moves the rate by
        d / (2 rate_strength): 10 keeps that to half a percent for d of a seventh.
      limit: qindexes that a frame is moved by at most; 12 to 16 in docs/notes.
      average_share: as of `Objective`.
      iterations: of Newton's method at most; 14 in docs/notes.
      calibrated: the response is held to the slope that is given (`Response.calibrated`).
    """

    step_strength: float
    rate_strength: float = 10.0
    limit: int = 16
    average_share: float = 0.5
    iterations: int = 14
    calibrated: bool = False

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
          InputError: one is out of range, named. A `step_strength` of zero is: without it a
            frame that the model says nothing of has no best step.
        """
        # No strength moves nothing: infinity would, and NaN compares with nothing.
        if not 0.0 < self.step_strength < math.inf:
            raise InputError(f"the step strength must be above 0, not {self.step_strength}")
        for name, most in (
            ("rate_strength", math.inf), ("limit", 255), ("iterations", math.inf),
            ("average_share", 1.0),
        ):  # fmt: skip
            value = getattr(self, name)
            if not 0 <= value <= most:
                name = name.replace("_", " ")
                raise InputError(f"the {name} of a plan must be between 0 and {most}, not {value}")


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Steps and what is expected of them.

    Attributes:
      steps: [N] whole qindexes to add to the base's.
      bits: [N] that each frame is expected to take with them.
      gain: octaves of rate at equal quality that are promised.
      rate: expected change of log2 of all bits.
      psnr_avg_db: expected change of the frames' mean PSNR.
      psnr_overall_db: expected change of the PSNR of the clip's summed error.
    """

    steps: npt.NDArray[np.int64]
    bits: _Floats
    gain: float
    rate: float
    psnr_avg_db: float
    psnr_overall_db: float


def plan(
    model: FrameModel,
    base: EncodeFrames,
    slope: float,
    settings: PlanSettings,
    *,
    features: _Floats | None = None,
    centre: npt.ArrayLike | None = None,
    rate: float = 0.0,
) -> Plan:
    """The plan for a clip.

    Args:
      model: how frames answer.
      base: the encode that steps are added to.
      slope: of the clip's curve of quality over rate at the base, dB per octave.
      settings: how far it goes.
      features: [N, NUM_FEATURES] of the base's frames; None takes the base's own.
      centre: [N] steps in qindexes that the plan shrinks to, such as the mean step of each
        frame's kind; None shrinks to no steps.
      rate: R, octaves by which all bits are to change.

    Raises:
      InputError: the slope is not positive, or there are not N features or centres.
    """
    objective = Objective(base, slope, settings.average_share)
    response = model.response(base, features_of(base) if features is None else features)
    if settings.calibrated:
        response = response.calibrated(*objective.at_base())
    centre = np.zeros(len(base)) if centre is None else np.asarray(centre, np.float64)
    if centre.shape != (len(base),):
        raise InputError(f"{len(base)} frames want as many centres, not {centre.shape}")
    search = _Search(objective, response, settings, octaves_of_steps(base, centre), rate)
    octaves = search.run()
    reached = qindex_of(log2_step(base.qindex) + octaves) - base.qindex
    steps = np.rint(reached).astype(np.int64)
    bits, sse = response.changes(octaves_of_steps(base, steps))
    shown = objective.shown(sse)
    return Plan(
        steps=steps,
        bits=base.bits * np.exp2(bits),
        gain=objective.gain(bits, shown),
        rate=objective.rate(bits),
        psnr_avg_db=objective.average(shown),
        psnr_overall_db=objective.overall(shown),
    )


class _Search:
    """Newton's method between bounds."""

    def __init__(
        self,
        objective: Objective,
        response: Response,
        settings: PlanSettings,
        centre: _Floats,
        rate: float = 0.0,
    ) -> None:
        base = response.base
        self._rate = rate
        self._objective = objective
        self._response = response
        self._settings = settings
        self._lowest = octaves_of_steps(base, np.full(len(base), -settings.limit))
        self._highest = octaves_of_steps(base, np.full(len(base), settings.limit))
        self._centre = np.clip(centre, self._lowest, self._highest)
        self._stiffness = 2.0 * settings.step_strength / len(base)
        self._bits_by_sse, self._sse_by_sse = response.propagation()

    def run(self) -> _Floats:
        """The best changes of log2 step that were found. [N]."""
        octaves = self._centre
        value = self.value(octaves)
        for _ in range(self._settings.iterations):
            gradient, curvature = self.derivatives(octaves)
            # Frames at a bound that they would leave stay there.
            free = ~(
                ((octaves >= self._highest) & (gradient > 0.0))
                | ((octaves <= self._lowest) & (gradient < 0.0))
            )
            direction = np.zeros_like(octaves)
            direction[free] = np.linalg.solve(curvature[np.ix_(free, free)], gradient[free])
            for halving in range(_HALVINGS):
                tried = octaves + direction * 0.5**halving
                tried = np.clip(tried, self._lowest, self._highest)
                reached = self.value(tried)
                if reached > value:
                    break
            else:
                break
            octaves, gained, value = tried, reached - value, reached
            if gained < _ENOUGH:
                break
        return octaves

    def value(self, octaves: _Floats) -> float:
        """What is to be as large as can be."""
        bits, sse = self._response.changes(octaves)
        away = octaves - self._centre
        return (
            self._objective.gain(bits, self._objective.shown(sse))
            - self._settings.rate_strength * (self._objective.rate(bits) - self._rate) ** 2
            - 0.5 * self._stiffness * float(away @ away)
        )

    def derivatives(self, octaves: _Floats) -> tuple[_Floats, _Floats]:
        """The gradient [N], and a positive definite stand-in of the negated Hessian [N, N]."""
        response = self._response
        bits, sse = response.changes(octaves)
        by_bits, by_sse = self._objective.gradient(bits, sse)
        rate = self._objective.rate(bits) - self._rate
        # Shares of the bits are the rate's own derivative: minus that of the gain.
        share = -by_bits
        by_bits = by_bits - 2.0 * self._settings.rate_strength * rate * share
        total = response.total_by_sse(by_bits, by_sse)
        own_sse = response.sse[:, 0] + 2.0 * response.sse[:, 1] * octaves
        own_bits = response.bits[:, 0] + 2.0 * response.bits[:, 1] * octaves
        gradient = by_bits * own_bits + total * own_sse
        gradient -= self._stiffness * (octaves - self._centre)

        sse_slopes = self._sse_by_sse * own_sse
        bits_slopes = self._bits_by_sse * own_sse
        bits_slopes[np.diag_indices_from(bits_slopes)] += own_bits
        (bits_bent, bits_sum), (sse_bent, sse_sum) = self._objective.curvature(bits, sse)
        curvature = bits_slopes.T @ (bits_bent[:, None] * bits_slopes)
        curvature += sse_slopes.T @ (sse_bent[:, None] * sse_slopes)
        for slopes, summed in ((bits_slopes, bits_sum), (sse_slopes, sse_sum)):
            along = summed @ slopes
            curvature -= np.outer(along, along)
        rate_along = share @ bits_slopes
        curvature += 2.0 * self._settings.rate_strength * np.outer(rate_along, rate_along)
        bent = -2.0 * (by_bits * response.bits[:, 1] + total * response.sse[:, 1])
        curvature[np.diag_indices_from(curvature)] += np.maximum(bent, 0.0) + self._stiffness
        return gradient, curvature
