"""From a name and a few settings to a reward."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from muzero_rc.env.rewards.base import BaseReward
from muzero_rc.env.rewards.equal_rate import EqualRateReward
from muzero_rc.env.rewards.greedy_opponent import GreedyOpponentReward
from muzero_rc.env.rewards.lagrangian import LagrangianReward
from muzero_rc.env.rewards.outcome import PSNR_KINDS, Reward
from muzero_rc.env.rewards.ranked import RankedReward
from muzero_rc.env.rewards.rd_gain import RdGainReward
from muzero_rc.env.rewards.self_competition import SelfCompetitionReward
from muzero_rc.errors import InputError

__all__ = ["REWARD_KINDS", "RewardConfig", "make_reward"]

_MAKERS: dict[str, type[BaseReward[Any]]] = {
    "self_competition": SelfCompetitionReward,
    "lagrangian": LagrangianReward,
    "rd_gain": RdGainReward,
    "ranked": RankedReward,
    "equal_rate": EqualRateReward,
    "greedy_opponent": GreedyOpponentReward,
}

REWARD_KINDS = tuple(_MAKERS)
"""Rewards by name."""


@dataclass(frozen=True)
class RewardConfig:
    """A reward and its settings, by their names there; those of other kinds have no effect.

    Attributes:
      kind: one of `REWARD_KINDS`.
      metric: the PSNR that is meant.
      tolerance: overshoot up to this counts as none.
      decay: weight of the past in moving averages: self_competition's, lagrangian's, rd_gain's.
      multiplier: lagrangian's first multiplier, dB per 100% of overshoot.
      multiplier_rate: of its ascent.
      multiplier_limit: the largest multiplier.
      allowed: mean overshoot at which it rests.
      scale: lagrangian's and rd_gain's spread of dB before the first episode.
      price: rd_gain's, of missing the target by 100%, dB.
      percentile: ranked's share that a winner leaves behind.
      size: ranked's and equal_rate's last episodes.
      promotion: greedy_opponent's share of wins at which the opponent is replaced.
      games: greedy_opponent's games that the share is taken over.
    """

    kind: str = "self_competition"
    metric: str = "psnr_avg"
    tolerance: float = 0.005
    decay: float = 0.9
    multiplier: float = 20.0
    multiplier_rate: float = 5.0
    multiplier_limit: float = 100.0
    allowed: float = 0.001
    scale: float = 0.1
    price: float = 20.0
    percentile: float = 0.75
    size: int = 20
    promotion: float = 0.6
    games: int = 50

    def __post_init__(self) -> None:
        """Checks every value, by making the reward.

        Raises:
          InputError: an unknown kind or a value out of range, named.
        """
        if self.kind not in _MAKERS:
            raise InputError(f"reward.kind must be {', '.join(REWARD_KINDS)}, not {self.kind!r}")
        if self.metric not in PSNR_KINDS:
            raise InputError(f"reward.metric must be {', '.join(PSNR_KINDS)}, not {self.metric!r}")
        make_reward(self)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RewardConfig:
        """Reads `as_dict` back.

        Raises:
          InputError: an unknown setting or a bad value.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for key in values:
            if key not in known:
                raise InputError(f"unknown setting reward.{key}; known are {', '.join(known)}")
        return cls(**values)


def make_reward(config: RewardConfig) -> Reward:
    """A fresh reward, without a past.

    Raises:
      InputError: a value out of range.
    """
    maker, settings = _MAKERS[config.kind], config.as_dict()
    own = (field.name for field in dataclasses.fields(maker) if field.init)
    return maker(**{name: settings[name] for name in own if name in settings})
