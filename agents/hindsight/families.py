"""Steps of whole kinds of frames, one kind after the other.

What a clip wants of a kind (finer references where the picture stands still, coarser ones
where it moves) is worth more than any single frame's step, and each of these plans is on
target by itself where a feedback brings it there. A parabola through three steps tells
where the next one is tried.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from muzero_rc.agents.hindsight.encoder import Outcome
from muzero_rc.agents.hindsight.plan import Kind, Plan
from muzero_rc.types import UpdateType

__all__ = ["BASE_REFERENCES", "DEEP_REFERENCES", "KEYS", "descend"]

KEYS: tuple[Kind, ...] = ((int(UpdateType.KEY), 0),)
BASE_REFERENCES: tuple[Kind, ...] = (
    (int(UpdateType.GOLDEN), 0),
    (int(UpdateType.GOLDEN), 1),
    (int(UpdateType.ARF), 1),
)
_SECOND: tuple[Kind, ...] = ((int(UpdateType.ARF), 2),)
_DEEPER = tuple((int(UpdateType.ARF), depth) for depth in range(3, 8))
DEEP_REFERENCES = _SECOND + _DEEPER
_LEAVES = tuple((int(UpdateType.LEAF), depth) for depth in range(9))

# In the order of what a step of theirs changes, with that step in qindexes.
_FAMILIES = (
    (BASE_REFERENCES, 10.0), (_LEAVES, 6.0), (KEYS, 12.0), (_SECOND, 8.0), (_DEEPER, 8.0),
)  # fmt: skip
_LEAST_STEP = 3.0  # qindexes; nothing smaller stands out of what luck gives
_SMALLER = 0.6
_FARTHER = 1.8  # steps, where the parabola has no top
_FARTHEST = 1.5  # steps, where it has
_APART = 0.3  # steps that another try must be from those made
_FLAT = 1e-4  # dB

Pair = tuple[Plan, Outcome]
RunPlans = Callable[[Sequence[Plan]], Sequence[Outcome | None]]


def descend(
    run: RunPlans,
    value: Callable[[Outcome], float],
    start: Pair,
    more: Callable[[], bool],
    width: int = 2,
) -> Pair:
    """Moves kind after kind to where the value is highest.

    Args:
      run: outcomes of plans; None for those that were not run.
      value: what is to be high.
      start: plan and outcome to go on from.
      more: whether another plan may be run.
      width: plans that are run side by side: with 4 and more several kinds at once.

    Returns:
      The best plan and its outcome.
    """
    best = start
    steps = [step for _, step in _FAMILIES]
    at_once = max(width // 2, 1)
    while max(steps) >= _LEAST_STEP:
        for first in range(0, len(_FAMILIES), at_once):
            if not more():
                return best
            places = range(first, min(first + at_once, len(_FAMILIES)))
            lines = [(_FAMILIES[place][0], steps[place]) for place in places]
            after, tops = _round(run, value, best, lines, more)
            for place, top in zip(places, tops, strict=True):
                if top == 0 or after[1] is best[1]:
                    steps[place] *= _SMALLER
            best = after
    return best


def _round(
    run: RunPlans,
    value: Callable[[Outcome], float],
    here: Pair,
    lines: Sequence[tuple[Sequence[Kind], float]],
    more: Callable[[], bool],
) -> tuple[Pair, list[float]]:
    """The best of a step up and one down of each line's kinds, and where these point.

    Returns:
      The best plan and its outcome, and for each line its top in steps.
    """
    plan, outcome = here
    plans = [plan.stepped(kinds, step * sign) for kinds, step in lines for sign in (1.0, -1.0)]
    outcomes = run(plans)
    pairs = [(p, o) for p, o in zip(plans, outcomes, strict=True) if o is not None]
    tops = [
        0.0 if up is None or down is None else _top(value(outcome), value(up), value(down))
        for up, down in zip(outcomes[::2], outcomes[1::2], strict=True)
    ]
    aim = plan
    for (kinds, step), top in zip(lines, tops, strict=True):
        if top != 0:
            aim = aim.stepped(kinds, round(top * step))
    if aim not in (plan, *plans) and more():
        (there,) = run([aim])
        if there is not None:
            pairs.append((aim, there))
    return max((here, *pairs), key=lambda pair: value(pair[1])), tops


def _top(middle: float, up: float, down: float) -> float:
    """Where a parabola through values at 0, 1 and -1 is highest, as far as it is trusted."""
    bend = 0.5 * (up + down) - middle
    if bend < -_FLAT:
        top = min(max(0.25 * (down - up) / bend, -_FARTHEST), _FARTHEST)
        near = min((0.0, 1.0, -1.0), key=lambda tried: abs(top - tried))
        return near if abs(top - near) <= _APART else top
    if max(up, down) > middle:
        return _FARTHER if up > down else -_FARTHER
    return 0.0
