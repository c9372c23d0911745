"""Ranked reward: a win is to be among the best of the last episodes.

    R = sign(episode - alpha-percentile of the last N episodes on the clip and target)

Laterre et al. 2018, "Ranked Reward" (arXiv 1807.01672), equation 4, with the episode's rank
by the lexicographic order (overshoot, then PSNR) as its score, which a percentile needs no
scale for. Two differences: the buffer is kept per clip and target, as scores of different
ones cannot be compared; and a tie is 0 instead of a coin toss, so that it is reproducible.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any

from muzero_rc.env.rewards.outcome import (
    DEFAULT_TOLERANCE,
    PsnrKind,
    Reference,
    check_state,
    check_tolerance,
    lexicographic_outcome,
)
from muzero_rc.errors import CheckpointError, InputError
from muzero_rc.types import EpisodeScore

__all__ = ["RankedReward"]

_STATE_VERSION = 1


class RankedReward:
    """+1 above the percentile of the last N episodes on a clip and target, -1 below.

    libvpx's two-pass VBR is the first entry of every buffer.

    Attributes:
      percentile: share of the buffer that a winner leaves behind, in (0, 1).
      size: N.
      tolerance: overshoot up to this counts as none.
      metric: the PSNR that is compared.
    """

    def __init__(
        self,
        *,
        percentile: float = 0.75,
        size: int = 20,
        tolerance: float = DEFAULT_TOLERANCE,
        metric: PsnrKind = "psnr_avg",
    ) -> None:
        """Starts with empty buffers.

        Raises:
          InputError: a value out of range.
        """
        check_tolerance(tolerance, metric)
        if not 0.0 < percentile < 1.0:
            raise InputError(f"percentile must be between 0 and 1, not {percentile}")
        if size < 1:
            raise InputError(f"size must be 1 or more, not {size}")
        self.percentile = percentile
        self.size = size
        self.tolerance = tolerance
        self.metric: PsnrKind = metric
        self._past: dict[tuple[str, float], deque[tuple[float, float]]] = {}

    def __call__(self, score: EpisodeScore, reference: Reference) -> float:
        """-1, 0 or 1; then the episode becomes part of the buffer."""
        key = (score.clip, float(score.target_kbps))
        if key not in self._past:
            first = reference()
            entry = (float(getattr(first, self.metric)), first.overshoot)
            self._past[key] = deque([entry], maxlen=self.size)
        past = self._past[key]
        own = (float(getattr(score, self.metric)), score.overshoot)
        threshold = self._threshold(list(past))
        past.append(own)
        return float(lexicographic_outcome(*own, *threshold, tolerance=self.tolerance))

    def _threshold(self, past: list[tuple[float, float]]) -> tuple[float, float]:
        """The entry that the percentile falls on: as many beat it as the rest of it says."""
        beaten = [
            sum(lexicographic_outcome(*a, *b, tolerance=self.tolerance) > 0 for b in past)
            for a in past
        ]
        order = sorted(range(len(past)), key=lambda n: beaten[n])
        return past[order[min(math.floor(self.percentile * len(past)), len(past) - 1)]]

    def state_dict(self) -> dict[str, Any]:
        """The buffers."""
        return {
            "kind": "ranked",
            "version": _STATE_VERSION,
            "past": [
                {"clip": clip, "target_kbps": target, "episodes": [list(e) for e in past]}
                for (clip, target), past in self._past.items()
            ],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes the buffers over.

        Raises:
          CheckpointError: of another reward or version, or damaged.
        """
        check_state(state, "ranked", _STATE_VERSION)
        try:
            past = {
                (str(row["clip"]), float(row["target_kbps"])): deque(
                    [(float(psnr), float(over)) for psnr, over in row["episodes"]],
                    maxlen=self.size,
                )
                for row in state["past"]
            }
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"damaged memory of ranked: {error!r}") from error
        entries = [number for row in past.values() for entry in row for number in entry]
        if not all(past.values()) or not all(map(math.isfinite, entries)):
            raise CheckpointError("damaged memory of ranked: an empty buffer, or no number")
        self._past = past
