"""Self-competition: the reward against the policy's own past.

+1 or -1 by comparing the episode with the policy's past on the same clip and target, first
by overshoot, then by PSNR. That order is the published one (Mandhane et al. 2022, arXiv
2202.06626); the formula below, moving averages as the past, is a reconstruction, as the
paper's appendix could not be read:

    O   = max(0, overshoot - tolerance)
    R   = sign(O_ema - O)          if O > 0 or O_ema > 0
          sign(PSNR - PSNR_ema)    otherwise
    ema <- ema + max(1 - decay, 1 / (n + 1)) (episode - ema), after the comparison,
           n episodes being in it

Four choices are ours: overshoot is relative to the target instead of in kbit/s; the
tolerance, without which one overshoot long ago would keep O_ema above zero for ever
and PSNR would never count again; the first opponent, whatever `Reference` gives, libvpx's
two-pass VBR in the environment; and the weights of the first episodes, which make the
averages means until there are as many as the decay remembers. With 1 - decay from the
start an opponent that is far behind stays one for dozens of visits, each of them a win.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from muzero_rc.env.rewards.base import BaseReward, require
from muzero_rc.env.rewards.outcome import Reference
from muzero_rc.types import EpisodeScore

__all__ = ["DEFAULT_DECAY", "PastScore", "SelfCompetitionReward"]

DEFAULT_DECAY = 0.9
"""Weight of the past in the moving averages: about ten episodes. Ours, not the paper's."""


@dataclass(frozen=True, slots=True)
class PastScore:
    """Moving averages of the episodes on one clip and target.

    Attributes:
      psnr: dB.
      overshoot: positive part of actual / target - 1, before the tolerance.
      episodes: episodes in the averages, the first opponent not counted.
    """

    psnr: float
    overshoot: float
    episodes: int = 0

    def updated(self, psnr: float, overshoot: float, decay: float) -> PastScore:
        """The averages after one more episode; the first opponent goes with the first."""
        weight = max(1.0 - decay, 1.0 / (self.episodes + 1))
        return PastScore(
            psnr=_toward(self.psnr, psnr, weight),
            overshoot=_toward(self.overshoot, max(0.0, overshoot), weight),
            episodes=self.episodes + 1,
        )


def _toward(average: float, value: float, weight: float) -> float:
    # Clamped: rounding must not carry an average past the values it is made of.
    moved = average + weight * (value - average)
    return min(max(moved, min(average, value)), max(average, value))


@dataclass(kw_only=True, eq=False)
class SelfCompetitionReward(BaseReward[PastScore]):
    """-1, 0 or 1 against the policy's own past, kept per clip and target.

    On the first visit of a clip and target the opponent is the reference, on the second
    that first visit. The object is the history: `state_dict` goes into checkpoints, and
    `load_state_dict` takes the settings over, too.

    Attributes:
      decay: weight of the past in the moving averages, in [0, 1).
    """

    kind: ClassVar[str] = "self_competition"

    decay: float = DEFAULT_DECAY

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0.0 <= self.decay < 1.0, "decay", "in [0, 1)", self.decay)

    def _judge(
        self, score: EpisodeScore, past: PastScore | None, reference: Reference
    ) -> tuple[float, PastScore]:
        if past is None:
            psnr, overshoot = self._result(reference())
            past = PastScore(psnr, max(0.0, overshoot))
        own = self._result(score)
        outcome = self._outcome(own, (past.psnr, past.overshoot))
        return float(outcome), past.updated(*own, self.decay)

    def _row(self, memory: PastScore) -> dict[str, Any]:
        return dataclasses.asdict(memory)

    def _memory(self, row: Mapping[str, Any]) -> PastScore:
        found = PastScore(float(row["psnr"]), float(row["overshoot"]), int(row["episodes"]))
        sane = math.isfinite(found.psnr) and 0.0 <= found.overshoot < math.inf
        if not sane or found.episodes < 0:
            raise ValueError(f"{found} cannot be")
        return found

    def _extra(self) -> dict[str, Any]:
        return {"decay": self.decay, "tolerance": self.tolerance, "metric": self.metric}

    def _restore(self, state: Mapping[str, Any]) -> None:
        settings = {name: state[name] for name in ("metric", "decay", "tolerance")}
        fresh = SelfCompetitionReward(**settings)  # checks them
        self.decay, self.tolerance, self.metric = fresh.decay, fresh.tolerance, fresh.metric
