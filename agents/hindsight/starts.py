"""Families of good trajectories to start from."""

from __future__ import annotations

from muzero_rc.agents.hindsight.plan import Kind, Plan, PlanBase
from muzero_rc.types import UpdateType

__all__ = ["probed_plans", "start_plans"]

_REFERENCES: tuple[Kind, ...] = (
    (int(UpdateType.KEY), 0),
    (int(UpdateType.GOLDEN), 0),
    (int(UpdateType.GOLDEN), 1),
    (int(UpdateType.ARF), 1),
)
_DEEP_REFERENCES: tuple[Kind, ...] = tuple((int(UpdateType.ARF), depth) for depth in range(2, 8))


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
    out too cheap. The rest is for plans to find.

    Args:
      policy: begin with what a given policy chooses.
    """
    first = Plan(PlanBase.POLICY) if policy else _feedback(6.0, -8.0)
    return [first, Plan(PlanBase.FEEDBACK), Plan(PlanBase.VBR)]


def _feedback(references: float, deep: float) -> Plan:
    by_kind = dict.fromkeys(_REFERENCES, references) | dict.fromkeys(_DEEP_REFERENCES, deep)
    return Plan(PlanBase.FEEDBACK, by_kind=by_kind)
