"""A number of dB, measured by how far it lies from what the agent did of late.

    R      = tanh((L - mean) / max(spread, least))
    mean   <- decay mean + (1 - decay) L
    spread <- decay spread + (1 - decay) |L - mean|          per clip and target

What every encode of a clip has in common says nothing about what the agent did, and would
fill the value's narrow support: some clips let VBR be beaten by 0.05 dB, others by 1 dB. The
mean is a control variate, which leaves what is best as it is; the spread keeps the steps
of a policy that has learned nearly everything as visible as its first. It makes of a graded
reward what self-competition makes of wins and losses. Ours; of the sources of the rewards
that use it, none has it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from muzero_rc.errors import CheckpointError, InputError

__all__ = ["Centred"]

_LEAST_SPREAD = 0.02  # dB; what differs by less is the same


@dataclass(frozen=True, slots=True)
class _Past:
    mean: float
    spread: float


class Centred:
    """Remembers mean and spread of each (clip, target).

    Attributes:
      scale: spread before the first episode, dB.
      decay: weight of the past.
    """

    def __init__(self, scale: float, decay: float) -> None:
        """Starts without a past.

        Raises:
          InputError: a value out of range.
        """
        if not 0.0 < scale < math.inf:
            raise InputError(f"scale must be above 0, not {scale}")
        if not 0.0 <= decay < 1.0:
            raise InputError(f"decay must be in [0, 1), not {decay}")
        self.scale = scale
        self.decay = decay
        self._past: dict[tuple[str, float], _Past] = {}

    def __call__(self, clip: str, target_kbps: float, value: float) -> float:
        """The reward of a value in dB, in (-1, 1); then the past moves on.

        On the first visit the mean is 0, VBR, and afterwards the value itself.
        """
        key = (clip, float(target_kbps))
        past = self._past.get(key)
        mean, spread = (0.0, self.scale) if past is None else (past.mean, past.spread)
        off = value - mean
        keep, take = self.decay, 1.0 - self.decay
        self._past[key] = _Past(
            mean=value if past is None else keep * mean + take * value,
            spread=keep * spread + take * abs(off),
        )
        return math.tanh(off / max(spread, _LEAST_SPREAD))

    def state_dict(self) -> list[dict[str, Any]]:
        """The past as plain JSON values."""
        return [
            {"clip": clip, "target_kbps": target, "mean": past.mean, "spread": past.spread}
            for (clip, target), past in self._past.items()
        ]

    def load_state_dict(self, state: object) -> None:
        """Replaces the past.

        Raises:
          CheckpointError: damaged.
        """
        if not isinstance(state, list):
            raise CheckpointError("damaged memory of a reward: its past is no list")
        found: dict[tuple[str, float], _Past] = {}
        for entry in state:
            try:
                self._read(entry, found)
            except (KeyError, TypeError, ValueError) as error:
                raise CheckpointError(f"damaged memory of a reward: {error!r}") from error
        self._past = found

    def _read(self, entry: Mapping[str, Any], into: dict[tuple[str, float], _Past]) -> None:
        past = _Past(float(entry["mean"]), float(entry["spread"]))
        if not (math.isfinite(past.mean) and 0.0 <= past.spread < math.inf):
            raise ValueError(f"mean {past.mean}, spread {past.spread}")
        into[str(entry["clip"]), float(entry["target_kbps"])] = past
