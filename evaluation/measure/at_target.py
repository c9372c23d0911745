"""Quality at the target: what a method gives somebody who asked for a bitrate.

A BD-rate is taken over actual bitrates, so it forgives a method that misses its target. Here
nothing is interpolated: a file over the target by more than a tolerance has failed, one
under it keeps the quality that it has, and bits left over win nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from muzero_rc.errors import InputError

__all__ = ["TOLERANCES", "AtTarget", "Outcome", "at_target"]

TOLERANCES = (0.01, 0.05)
"""Overshoots that are let pass: 0.01 is 1 %."""

TIE = 0.01
"""Levels that differ by less count as equal: 0.01 dB, or 0.01 points of VMAF."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One (clip, target), by a method and by the anchor.

    Attributes:
      target_kbps: the bitrate that was asked for.
      actual_kbps: what the method gave.
      level: quality of the method's encode (`EncodeRecord.level`).
      anchor_kbps: what the anchor gave.
      anchor_level: quality of the anchor's encode.
    """

    target_kbps: float
    actual_kbps: float
    level: float
    anchor_kbps: float
    anchor_level: float


@dataclass(frozen=True, slots=True)
class AtTarget:
    """A method against the anchor over a set of (clip, target).

    Attributes:
      tolerance: overshoot that is let pass.
      n: pairs.
      failed: pairs that the method failed.
      anchor_failed: pairs that the anchor failed.
      wins: the method met the target and the anchor failed or was worse by `TIE`.
      ties: both failed, or both met it and are equal within `TIE`.
      losses: the rest.
      win_share: (wins + ties / 2) / n: 0.5 against itself.
      mean_gain: mean of method minus anchor over pairs that both met; None if there is none.
      score: mean level with 0 for a failed pair.
    """

    tolerance: float
    n: int
    failed: int
    anchor_failed: int
    wins: int
    ties: int
    losses: int
    win_share: float
    mean_gain: float | None
    score: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def at_target(outcomes: Iterable[Outcome], tolerance: float) -> AtTarget | None:
    """Quality at the target; None for no outcome.

    Raises:
      InputError: the tolerance is negative.
    """
    if not tolerance >= 0:
        raise InputError(f"a tolerance must be at least 0, not {tolerance:g}")
    every = list(outcomes)
    if not every:
        return None
    target = np.array([o.target_kbps for o in every])  # [N]
    limit = target * (1.0 + tolerance)
    met = np.array([o.actual_kbps for o in every]) <= limit
    anchor_met = np.array([o.anchor_kbps for o in every]) <= limit
    level = np.array([o.level for o in every])
    gain = level - np.array([o.anchor_level for o in every])
    wins = met & (~anchor_met | (gain >= TIE))
    losses = anchor_met & (~met | (gain <= -TIE))
    both = met & anchor_met
    n, won, lost = len(every), int(wins.sum()), int(losses.sum())
    return AtTarget(
        tolerance=tolerance,
        n=n,
        failed=int((~met).sum()),
        anchor_failed=int((~anchor_met).sum()),
        wins=won,
        ties=n - won - lost,
        losses=lost,
        win_share=(won + (n - won - lost) / 2) / n,
        mean_gain=float(gain[both].mean()) if both.any() else None,
        score=float(np.where(met, level, 0.0).mean()),
    )
