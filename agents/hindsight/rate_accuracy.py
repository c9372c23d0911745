"""Hits the target: root finding on one shift of all frames, in the logarithm of bits."""

from __future__ import annotations

from collections.abc import Callable, Collection

from muzero_rc.agents.hindsight.encoder import Outcome
from muzero_rc.agents.hindsight.plan import FrameKey, Plan
from muzero_rc.agents.hindsight.trial_runner import TrialRunner

__all__ = ["OCTAVES_PER_QINDEX", "TOLERANCE", "meet_target", "on_target"]

OCTAVES_PER_QINDEX = 1.0 / 28.0
"""By how much a clip's bits shrink for a step of one, about, until it is measured."""

TOLERANCE = 0.005
"""Largest overshoot, relative."""

_CLOSE = 0.004  # an encode as far under its target is not worth another one
_WIDEST = 255.0


def on_target(outcome: Outcome) -> bool:
    """Whether an encode is over its target by no more than `TOLERANCE`."""
    return outcome.score.overshoot <= TOLERANCE


def _close(outcome: Outcome) -> bool:
    return -_CLOSE <= outcome.score.overshoot <= TOLERANCE


def meet_target(
    runner: TrialRunner,
    plan: Plan,
    outcome: Outcome,
    trials: int,
    *,
    rate: float = OCTAVES_PER_QINDEX,
    keys: Collection[FrameKey] | None = None,
    on_shift: Callable[[Plan, Outcome], None] | None = None,
) -> bool:
    """Shifts a plan until it is on target and hardly under it.

    A secant from the measured point with the usual rate first; then between the nearest
    points on either side of the target (regula falsi, the end that stays halved: the
    Illinois method), or beyond the nearest one while there is one side only.

    Args:
      runner: runs the shifted plans.
      plan: what to shift.
      outcome: of the plan as it is.
      trials: most encodes.
      rate: octaves per qindex to begin with.
      keys: frames of a fixed plan that are shifted; all if not given.
      on_shift: told of every shifted plan.

    Returns:
      Whether the last one is close.
    """
    over: tuple[float, float] | None = None  # shift and octaves
    under: tuple[float, float] | None = None
    shift, found = 0.0, outcome
    last: tuple[float, float] | None = None
    for _ in range(trials):
        if _close(found):
            return True
        here = (shift, found.octaves)
        if here[1] > 0:
            if last is not None and last[1] > 0 and under is not None:
                under = (under[0], under[1] / 2)
            over = here
        else:
            if last is not None and last[1] <= 0 and over is not None:
                over = (over[0], over[1] / 2)
            under = here
        if last is not None and abs(shift - last[0]) > 0.5:
            measured = (last[1] - here[1]) / (shift - last[0])
            rate = min(max(measured, rate / 3), rate * 3)
        last = here
        if over is not None and under is not None:
            shift = over[0] + (under[0] - over[0]) * over[1] / (over[1] - under[1])
        else:
            shift = here[0] + here[1] / rate
        shift = min(max(shift, -_WIDEST), _WIDEST)
        shifted = plan.shifted(shift, keys)
        answer = runner.run([shifted])[0]
        if answer is None:
            return False
        if on_shift is not None:
            on_shift(shifted, answer)
        if answer.octaves == found.octaves and abs(shift) >= _WIDEST:
            return False  # every frame is at its end
        found = answer
    return _close(found)
