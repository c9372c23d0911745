"""The rewards that self-competition is compared with: by hand, by sign, by memory."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muzero_rc.env.rewards import (
    DB_PER_DOUBLING,
    REWARD_KINDS,
    EqualRateReward,
    GreedyOpponentReward,
    LagrangianReward,
    RankedReward,
    RdGainReward,
    RewardConfig,
    curve_psnr,
    make_reward,
)
from muzero_rc.env.rewards.centred import Centre, centred
from muzero_rc.errors import CheckpointError, InputError
from muzero_rc.types import EpisodeScore


def _score(psnr: float = 40.0, overshoot: float = 0.0, clip: str = "a") -> EpisodeScore:
    return EpisodeScore(
        clip=clip, target_kbps=100.0, actual_kbps=100.0 * (1 + overshoot), bits=1000,
        psnr_avg=psnr, psnr_overall=psnr - 1, psnr_y=psnr - 2, shown_frames=10, coded_frames=12,
    )  # fmt: skip


def _vbr(rate: float = 1.0) -> EpisodeScore:
    """4 dB an octave, 40 dB at the target, always on it."""
    score = _score(40.0 + 4.0 * math.log2(rate))
    return EpisodeScore(**{**_fields(score), "actual_kbps": 100.0 * rate})


def _fields(score: EpisodeScore) -> dict[str, Any]:
    return {name: getattr(score, name) for name in EpisodeScore.__slots__}


scores = st.builds(_score, st.floats(20, 55), st.floats(-0.5, 1.0), st.sampled_from(["a", "b"]))


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(REWARD_KINDS), st.lists(scores, min_size=1, max_size=30))
def test_every_reward_is_bounded_and_its_memory_survives_json(
    kind: str, episodes: list[EpisodeScore]
) -> None:
    config = RewardConfig(kind=kind, games=5, size=4)
    one, two = make_reward(config), make_reward(config)
    half = len(episodes) // 2
    for score in episodes[:half]:
        assert -1.0 <= one(score, _vbr) <= 1.0
    two.load_state_dict(json.loads(json.dumps(one.state_dict())))
    for score in episodes[half:]:
        assert one(score, _vbr) == two(score, _vbr)
    assert one.state_dict() == two.state_dict()


@pytest.mark.parametrize("kind", REWARD_KINDS)
def test_better_is_more_and_overshoot_is_less(kind: str) -> None:
    def judged(score: EpisodeScore) -> float:
        return make_reward(RewardConfig(kind=kind))(score, _vbr)

    assert judged(_score(41.0)) > 0 > judged(_score(39.0))
    assert judged(_score(41.0)) > judged(_score(41.0, 0.2))
    assert judged(_score(40.2, 0.1)) < 0, "quality does not buy overshoot"


@pytest.mark.parametrize("kind", REWARD_KINDS)
def test_another_rewards_memory_is_refused(kind: str) -> None:
    state = make_reward(RewardConfig(kind=kind)).state_dict()
    for other in REWARD_KINDS:
        reward = make_reward(RewardConfig(kind=other))
        if other != kind:
            with pytest.raises(CheckpointError, match=kind):
                reward.load_state_dict(state)
        with pytest.raises(CheckpointError):
            reward.load_state_dict({**reward.state_dict(), "version": 99})
        with pytest.raises(CheckpointError):
            reward.load_state_dict([])  # type: ignore[arg-type]


def test_damaged_memories_are_refused() -> None:
    damaged: list[tuple[Any, dict[str, Any]]] = [
        (LagrangianReward(), {"multiplier": "x"}),
        (LagrangianReward(), {"multiplier": float("nan")}),
        (LagrangianReward(), {"past": None}),
        (RdGainReward(), {"past": [{"clip": "a", "target_kbps": 1, "mean": 0.0}]}),
        (
            RdGainReward(),
            {"past": [{"clip": "a", "target_kbps": 1, "mean": 0.0, "spread": float("nan")}]},
        ),
        (RankedReward(), {"past": [{"clip": "a"}]}),
        (RankedReward(), {"past": [{"clip": "a", "target_kbps": 1, "episodes": []}]}),
        (
            RankedReward(),
            {"past": [{"clip": "a", "target_kbps": 1, "episodes": [[float("nan"), 0]]}]},
        ),
        (GreedyOpponentReward(), {"generation": -1}),
        (GreedyOpponentReward(), {"results": [7]}),
        (GreedyOpponentReward(), {"opponents": [{}]}),
        (make_reward(RewardConfig()), {"past": [{"clip": "a", "target_kbps": 1.0,
                                                  "psnr": float("nan"), "overshoot": 0,
                                                  "episodes": 1}]}),
    ]  # fmt: skip
    for reward, change in damaged:
        with pytest.raises(CheckpointError):
            reward.load_state_dict({**reward.state_dict(), **change})


def test_lagrangian_by_hand() -> None:
    reward = LagrangianReward(
        multiplier=10.0, multiplier_rate=2.0, allowed=0.01, scale=0.5, decay=0.8, tolerance=0.0
    )
    assert reward(_score(40.5, 0.03), _vbr) == pytest.approx(math.tanh((0.5 - 0.3) / 0.5))
    assert reward.multiplier == pytest.approx(10.0 + 2.0 * (0.03 - 0.01))
    spread = 0.8 * 0.5 + 0.2 * 0.2
    assert reward(_score(40.5, -0.2), _vbr) == pytest.approx(math.tanh((0.5 - 0.2) / spread))
    assert reward.multiplier == pytest.approx(10.02 + 0.02 - 2.0 * 0.01)


def test_the_multiplier_has_a_limit() -> None:
    reward = LagrangianReward(multiplier_rate=1000.0, multiplier_limit=60.0)
    for _ in range(20):
        reward(_score(overshoot=3.0), _vbr)
    assert reward.multiplier == 60.0
    larger = LagrangianReward(multiplier=80.0)
    reward.load_state_dict(larger.state_dict())
    assert reward.multiplier == 60.0


def test_centred_rewards_keep_seeing_small_steps_and_forget_the_clips_own_level() -> None:
    """Of a clip that is easily won, an encode as ever is worth nothing."""
    reward, past = centred(3.0, None, scale=0.1, decay=0.9)
    assert reward > 0.99
    for _ in range(200):
        reward, past = centred(3.0, past, scale=0.1, decay=0.9)
    assert reward == pytest.approx(0.0, abs=1e-6)
    # The spread has shrunk to the least that counts.
    reward, _ = centred(3.01, past, scale=0.1, decay=0.9)
    assert reward == pytest.approx(math.tanh(0.5), rel=1e-3)


@pytest.mark.parametrize("kind", ["lagrangian", "rd_gain"])
def test_centred_rewards_forget_nothing_of_other_clips_and_targets(kind: str) -> None:
    reward = make_reward(RewardConfig(kind=kind))
    first = reward(_score(43.0), _vbr)
    for _ in range(200):
        last = reward(_score(43.0), _vbr)
    other = EpisodeScore(**{**_fields(_score(43.0)), "target_kbps": 50.0, "actual_kbps": 50.0})

    def at_half(rate: float = 1.0) -> EpisodeScore:
        kbps = 50.0 * rate
        return EpisodeScore(**{**_fields(_vbr(rate)), "target_kbps": kbps, "actual_kbps": kbps})

    assert first > 0.99 and last == pytest.approx(0.0, abs=1e-6)
    assert reward(_score(43.0, clip="b"), _vbr) > 0.99 and reward(other, at_half) > 0.99


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=40), st.floats(0, 0.99))
def test_centring_never_turns_the_order(values: list[float], decay: float) -> None:
    for low, high in itertools.pairwise(sorted(values)):
        past: Centre | None = None
        for value in values:
            _, past = centred(value, past, scale=0.1, decay=decay)
        worse, _ = centred(low, past, scale=0.1, decay=decay)
        assert worse <= centred(high, past, scale=0.1, decay=decay)[0]


def test_the_multiplier_rises_while_the_constraint_is_violated_and_falls_to_zero() -> None:
    reward = LagrangianReward(multiplier=1.0, multiplier_rate=10.0, allowed=0.01)
    for _ in range(20):
        reward(_score(overshoot=0.1), _vbr)
    assert reward.multiplier > 15
    for _ in range(2000):
        reward(_score(overshoot=-0.1), _vbr)
    assert reward.multiplier == 0.0


def test_rd_gain_by_hand() -> None:
    asked: list[float] = []

    def vbr(rate: float = 1.0) -> EpisodeScore:
        asked.append(rate)
        return _vbr(rate)

    reward = RdGainReward(rates=(1.0, 2.0), scale=0.5, price=20.0, tolerance=0.005)
    # On VBR's curve 110 kbit/s give 40 + 4 log2(1.1) dB.
    wanted = 40.8 - 40.0 - 4 * math.log2(1.1) - 20.0 * 0.095
    assert reward(_score(40.8, 0.1), vbr) == pytest.approx(math.tanh(wanted / 0.5))
    # Against the first, by the spread that it left.
    below = 40.0 - 40.0 - 4 * math.log2(0.9) - 20.0 * 0.095
    spread = 0.9 * 0.5 + 0.1 * abs(wanted)
    assert reward(_score(40.0, -0.1), vbr) == pytest.approx(math.tanh((below - wanted) / spread))
    assert asked == [1.0, 2.0], "VBR is encoded once"


def test_curves() -> None:
    assert curve_psnr([(100, 40)], 200) == pytest.approx(40 + DB_PER_DOUBLING)
    line = [(100.0, 40.0), (200.0, 44.0)]
    assert curve_psnr(line, 400) == pytest.approx(48) and curve_psnr(line, 50) == pytest.approx(36)
    bent = [(400.0, 46.0), (100.0, 40.0), (200.0, 44.0)]
    for rate, psnr in bent:
        assert curve_psnr(bent, rate) == pytest.approx(psnr)
    between = [curve_psnr(bent, rate) for rate in np.linspace(100, 400, 50)]
    assert (np.diff(between) > 0).all()
    assert curve_psnr([*line, (101.0, 41.0), (300.0, 43.0)], 200) == pytest.approx(44.0)


def test_ranked_by_hand() -> None:
    reward = RankedReward(percentile=0.75, size=4)
    # VBR's 40 is all there is; then 40, 41; then 40, 41, 42: the threshold is the best.
    assert reward(_score(41.0), _vbr) == 1.0
    assert reward(_score(41.0), _vbr) == 0.0
    assert reward(_score(40.5), _vbr) == -1.0
    # 40, 41, 41, 40.5: three quarters lie below the second 41.
    assert reward(_score(41.5), _vbr) == 1.0
    # VBR has fallen out: 41, 41, 40.5, 41.5.
    assert reward(_score(41.2), _vbr) == -1.0
    assert reward(_score(44.0, overshoot=0.1), _vbr) == -1.0, "the constraint comes first"
    assert reward(_score(41.0, clip="b"), _vbr) == 1.0, "each clip has a buffer of its own"


def test_equal_rate_by_hand() -> None:
    reward = EqualRateReward(size=2, tolerance=0.005)
    # Below the target by a fifth: 40.5 dB there are 40.5 - 3.4 log2 0.8 = 41.59 at the target.
    assert reward(_score(40.5, -0.2), _vbr) == 1.0
    assert reward(_score(41.5), _vbr) == 0.0, "ahead of VBR's 40, behind the 41.59"
    # VBR has fallen out; 41.59 and 41.5 are left.
    assert reward(_score(41.55), _vbr) == 0.0
    assert reward(_score(41.2), _vbr) == -1.0
    assert reward(_score(45.0, overshoot=0.1), _vbr) == -1.0, "the constraint comes first"
    assert reward(_score(41.0, clip="b"), _vbr) == 1.0, "each clip has a memory of its own"


def test_the_greedy_opponent_is_replaced_when_it_loses() -> None:
    reward = GreedyOpponentReward(promotion=0.6, games=4)
    assert not reward.needs_opponent("a", 100.0), "libvpx is the first"
    assert [reward(_score(p), _vbr) for p in (41.0, 39.0, 41.0)] == [1.0, -1.0, 1.0]
    assert reward.generation == 0
    assert reward(_score(41.0), _vbr) == 1.0  # three of four
    assert reward.generation == 1 and reward.needs_opponent("a", 100.0)
    assert reward(_score(41.0), _vbr) == 1.0, "VBR stands in until it has played"
    reward.set_opponent(_score(42.0))
    assert not reward.needs_opponent("a", 100.0) and reward.needs_opponent("b", 100.0)
    assert reward(_score(41.0), _vbr) == -1.0
    again = GreedyOpponentReward(promotion=0.6, games=4)
    again.load_state_dict(json.loads(json.dumps(reward.state_dict())))
    assert again.generation == 1 and not again.needs_opponent("a", 100.0)
    assert again(_score(42.0), _vbr) == 0.0


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"kind": "ssim"}, "reward.kind"),
        ({"metric": "vmaf"}, "reward.metric"),
        ({"kind": "lagrangian", "scale": 0.0}, "scale"),
        ({"kind": "lagrangian", "multiplier": -1.0}, "multiplier"),
        ({"kind": "lagrangian", "multiplier_limit": -1.0}, "limit"),
        ({"kind": "rd_gain", "price": -1.0}, "price"),
        ({"kind": "ranked", "percentile": 1.0}, "percentile"),
        ({"kind": "ranked", "size": 0}, "size"),
        ({"kind": "equal_rate", "size": 0}, "size"),
        ({"kind": "greedy_opponent", "promotion": 0.0}, "promotion"),
        ({"kind": "greedy_opponent", "games": 0}, "games"),
        ({"decay": 1.0}, "decay"),
    ],
)
def test_bad_settings_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        RewardConfig(**changes)


def test_every_setting_reaches_a_reward() -> None:
    changed: dict[str, Any] = {
        name: value / 2 if isinstance(value, float) else value + 1
        for name, value in RewardConfig().as_dict().items()
        if not isinstance(value, str)
    }
    changed["metric"] = "psnr_y"
    taken = set()
    for kind in REWARD_KINDS:
        reward = make_reward(RewardConfig(kind=kind, **changed))
        own = {name for name in changed if hasattr(reward, name)}
        assert {name: getattr(reward, name) for name in own} == {n: changed[n] for n in own}
        taken |= own
    assert taken == set(changed)


def test_configuration_survives_json() -> None:
    config = RewardConfig(kind="ranked", size=7)
    assert RewardConfig.from_dict(json.loads(json.dumps(config.as_dict()))) == config
    with pytest.raises(InputError, match=r"reward\.sise"):
        RewardConfig.from_dict({"sise": 3})
