"""Families of good trajectories to start from."""

from __future__ import annotations

from collections.abc import Sequence

from muzero_rc.agents.hindsight.families import BASE_REFERENCES, DEEP_REFERENCES, KEYS
from muzero_rc.agents.hindsight.plan import Kind, Plan, PlanBase

__all__ = ["probed_plans", "start_plans"]

_REFERENCES: Sequence[Kind] = KEYS + BASE_REFERENCES


def start_plans(*, policy: bool = False) -> list[Plan]:
    """Plans to begin with, the most promising first.

    libvpx's own rate control, its proposals, these with feedback on the budget; then
    proposals stretched around the middle of the range, and with offsets for references
    by depth.

    Args:
      policy: begin with what a given policy chooses.
    """
    plans = [Plan(PlanBase.POLICY)] if policy else []
    plans += [Plan(PlanBase.PROPOSAL), Plan(PlanBase.VBR), Plan(PlanBase.FEEDBACK)]
    plans += [
        _feedback(references, deep)
        for references, deep in ((-8.0, 0.0), (8.0, 0.0), (-12.0, -8.0), (0.0, 8.0))
    ]
    return [*plans, Plan(PlanBase.FEEDBACK, stretch=1.2), Plan(PlanBase.FEEDBACK, stretch=0.8)]


def probed_plans(*, policy: bool = False) -> list[Plan]:
    """Plans to begin with where a probe went ahead, the most promising first.

    What the feedback of three passes makes of the proposals, with the steps of kinds that
    are best in the mean and without; libvpx's own rate control, which recodes what comes
    out too cheap. The rest is for a descent over kinds to find (`families.descend`).

    Args:
      policy: begin with what a given policy chooses.
    """
    plans = [Plan(PlanBase.POLICY)] if policy else []
    return [*plans, _feedback(6.0, -8.0), Plan(PlanBase.FEEDBACK), Plan(PlanBase.VBR)]


def _feedback(references: float, deep: float) -> Plan:
    by_kind = dict.fromkeys(_REFERENCES, references) | dict.fromkeys(DEEP_REFERENCES, deep)
    return Plan(PlanBase.FEEDBACK, by_kind=by_kind)
