"""Families of good trajectories to start from."""

from __future__ import annotations

from muzero_rc.agents.teacher.plan import Anchor, Plan
from muzero_rc.types import UpdateType

__all__ = ["start_plans"]

_REFERENCES = (
    (int(UpdateType.KEY), 0),
    (int(UpdateType.GOLDEN), 0),
    (int(UpdateType.GOLDEN), 1),
    (int(UpdateType.ARF), 1),
)
_DEEP = tuple((int(UpdateType.ARF), depth) for depth in range(2, 8))


def start_plans(*, policy: bool = False) -> list[Plan]:
    """Plans to begin with, the most promising first.

    libvpx's own rate control, its proposals, these with feedback on the budget; then
    proposals stretched around the middle of the range, and with offsets for references
    by depth.

    Args:
      policy: begin with what a given policy chooses.
    """
    plans = [Plan(Anchor.POLICY)] if policy else []
    plans += [Plan(Anchor.PROPOSAL), Plan(Anchor.VBR), Plan(Anchor.FEEDBACK)]
    feedback = Plan(Anchor.FEEDBACK)
    for references, deep in ((-8.0, 0.0), (8.0, 0.0), (-12.0, -8.0), (0.0, 8.0)):
        by_kind = dict.fromkeys(_REFERENCES, references) | dict.fromkeys(_DEEP, deep)
        plans.append(Plan(feedback.anchor, by_kind=by_kind))
    plans += [Plan(feedback.anchor, stretch=1.2), Plan(feedback.anchor, stretch=0.8)]
    return plans
