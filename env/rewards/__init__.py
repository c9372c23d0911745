"""Rewards: functions of an episode's raw score, each with a memory of its own."""

from muzero_rc.env.rewards.equal_rate import EqualRateReward
from muzero_rc.env.rewards.greedy_opponent import GreedyOpponentReward
from muzero_rc.env.rewards.lagrangian import LagrangianReward
from muzero_rc.env.rewards.outcome import (
    DB_PER_DOUBLING,
    DEFAULT_TOLERANCE,
    PsnrKind,
    Reference,
    Reward,
    excess,
    lexicographic_outcome,
    psnr_gain_at_equal_rate,
    score_outcome,
)
from muzero_rc.env.rewards.ranked import RankedReward
from muzero_rc.env.rewards.rd_gain import RdGainReward, curve_psnr
from muzero_rc.env.rewards.registry import REWARD_KINDS, RewardConfig, make_reward
from muzero_rc.env.rewards.self_competition import (
    DEFAULT_DECAY,
    PastScore,
    SelfCompetitionReward,
)

__all__ = [
    "DB_PER_DOUBLING",
    "DEFAULT_DECAY",
    "DEFAULT_TOLERANCE",
    "REWARD_KINDS",
    "EqualRateReward",
    "GreedyOpponentReward",
    "LagrangianReward",
    "PastScore",
    "PsnrKind",
    "RankedReward",
    "RdGainReward",
    "Reference",
    "Reward",
    "RewardConfig",
    "SelfCompetitionReward",
    "curve_psnr",
    "excess",
    "lexicographic_outcome",
    "make_reward",
    "psnr_gain_at_equal_rate",
    "score_outcome",
]
