"""The Gymnasium environment: its contract, its determinism, its ends."""

from __future__ import annotations

import copy
import dataclasses
import gc
import math
import pickle
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env, data_equivalence

from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.control.baselines import ProposalPolicy
from muzero_rc.env.control.plan import PlannedFrame
from muzero_rc.env.control.recipe import DEFAULT_RECIPE
from muzero_rc.env.gym.actions import FullAction
from muzero_rc.env.gym.clip_pool import ClipPool, Targets
from muzero_rc.env.gym.env import VP9RateControlEnv
from muzero_rc.env.gym.registration import ENV_ID, register
from muzero_rc.env.observation.builder import (
    BOUND,
    CLIP_COLUMNS,
    FRAME_COLUMNS,
    GLOBAL_COLUMNS,
    HISTORY_COLUMNS,
)
from muzero_rc.env.rewards import SelfCompetitionReward
from muzero_rc.env.testing.fakes import FakeBackend, FakeClip
from muzero_rc.errors import InputError
from muzero_rc.types import (
    EncodeLog,
    EpisodeScore,
    FrameDecision,
    FrameInfo,
    GopDecision,
    ShowExisting,
    UpdateType,
)

register()

Step = tuple[dict[str, Any], float, bool, bool, dict[str, Any]]


def _fake(**arguments: Any) -> VP9RateControlEnv:
    defaults: dict[str, Any] = {
        "clips": [FakeClip()],
        "targets_kbps": (50, 200),
        "backend": FakeBackend(),
        "speed": 5,
    }
    return VP9RateControlEnv(**(defaults | arguments))


@pytest.fixture
def env() -> Iterator[VP9RateControlEnv]:
    env = _fake()
    yield env
    env.close()


def _play(
    env: VP9RateControlEnv, choose: Callable[[dict[str, Any]], Any], **reset: Any
) -> list[Step]:
    observation, info = env.reset(**reset)
    steps: list[Step] = [(observation, 0.0, False, False, info)]
    while not steps[-1][2]:
        steps.append(env.step(choose(steps[-1][4])))
        assert steps[-1][0] in env.observation_space
        assert steps[-1][3] is False
    return steps


def _psnr(score: EpisodeScore, _: Any) -> float:
    return score.psnr_avg


def _proposal(info: dict[str, Any]) -> int:
    return int(info["proposal_qindex"])


@pytest.mark.parametrize("action", ["qindex", "proposal_offset", "full"])
def test_gymnasiums_checker_has_nothing_to_say(action: str) -> None:
    # Warnings are errors here.
    env = gymnasium.make(
        ENV_ID, clips=[FakeClip()], targets_kbps=(50, 200), action=action, backend=FakeBackend()
    )
    check_env(env.unwrapped)
    env.close()


def test_gymnasiums_checker_on_libvpx(carphone_path: Path) -> None:
    env = gymnasium.make(
        ENV_ID, clips=[carphone_path], targets_kbps=(50, 200), max_frames=8, speed=6
    )
    check_env(env.unwrapped)
    env.close()


def test_the_recipe_is_the_environments() -> None:
    # Groups longer than this count as static: there the controller's qindex is the only one.
    still = DEFAULT_RECIPE.replace({"max_moving_group": 1})
    for recipe, alone in ((DEFAULT_RECIPE, False), (still, True)):
        env = _fake(recipe=recipe)
        _, _, _, _, info = _play(env, _proposal, seed=0)[2]
        assert (np.flatnonzero(info["action_mask"]).size == 1) is alone
        env.close()


def _three_random_episodes(env: VP9RateControlEnv) -> list[list[Step]]:
    env.action_space.seed(7)

    def choose(info: dict[str, Any]) -> int:
        return int(env.action_space.sample())

    episodes = [_play(env, choose, seed=5), _play(env, choose), _play(env, choose)]
    env.close()
    return episodes


@pytest.mark.parametrize("native", [False, True])
def test_two_environments_with_one_seed_agree_exactly(
    native: bool, moving_square: Callable[..., Clip]
) -> None:
    if native:
        clips: list[Any] = [moving_square(n, 96, 64) for n in (9, 20)]
        pair = [VP9RateControlEnv(clips, (20, 200), speed=6) for _ in range(2)]
    else:
        clips = [FakeClip(num_frames=n) for n in (9, 20, 30)]
        pair = [_fake(clips=clips) for _ in range(2)]
    played = [_three_random_episodes(env) for env in pair]
    assert data_equivalence(played[0], played[1], exact=True)
    lengths = {len(episode) for episode in played[0]}
    targets = {episode[0][4]["target_kbps"] for episode in played[0]}
    assert len(lengths) > 1 or len(targets) > 1  # the seed does not fix every episode alike


CLIPS = [
    (1, 64, 64, 25),
    (2, 80, 48, Fraction(30000, 1001)),
    (30, 176, 144, 12),
    (30, 66, 50, 60),
    (300, 64, 64, Fraction(24000, 1001)),
]
CHOICES: dict[str, Callable[[int, np.random.Generator, dict[str, Any]], int]] = {
    "random": lambda step, rng, info: int(rng.integers(256)),
    "constant": lambda step, rng, info: 100,
    "proposal": lambda step, rng, info: _proposal(info),
    "lowest": lambda step, rng, info: 0,
    "highest": lambda step, rng, info: 255,
    "alternating": lambda step, rng, info: 255 * (step % 2),
}


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("shape", CLIPS, ids=lambda s: f"{s[1]}x{s[2]}x{s[0]}")
def test_every_sequence_of_actions_finishes(
    shape: tuple[int, int, int, Any], choice: str, moving_square: Callable[..., Clip]
) -> None:
    clip = moving_square(*shape)
    env = VP9RateControlEnv([clip], 60, speed=8, reward=lambda score, reference: score.psnr_y)
    rng = np.random.default_rng(1)
    count = iter(range(10**6))
    steps = _play(env, lambda info: CHOICES[choice](next(count), rng, info), seed=0)
    env.close()
    score = steps[-1][4]["score"]
    assert score["shown_frames"] == clip.num_frames
    assert score["coded_frames"] == len(steps) - 1
    assert score["actual_kbps"] == pytest.approx(score["bits"] / clip.duration_s / 1000)
    assert steps[-1][1] == score["psnr_y"]
    assert sum(step[1] for step in steps[:-1]) == 0.0
    if choice == "lowest":
        assert score["psnr_avg"] > 60  # qindex 0 is lossless


def test_reset_and_close_in_mid_episode_end_the_encoder(carphone: Clip) -> None:
    threads = threading.active_count()
    env = VP9RateControlEnv([carphone], 80, speed=6)
    before, _ = env.reset(seed=3)
    for _ in range(4):
        env.step(90)
    again, _ = env.reset(seed=3)
    assert data_equivalence(before, again, exact=True)
    env.submit(env.decision(90))
    env.reset()  # mid-frame
    env.step(90)
    env.close()
    env.close()
    with pytest.raises(ResetNeeded):
        env.step(90)
    env.reset()  # a closed environment may be used again
    env.close()
    assert threading.active_count() == threads


def test_sessions_are_closed_whenever_an_episode_is_left() -> None:
    backend = FakeBackend()
    env = _fake(backend=backend)
    env.reset()
    env.reset()
    assert [session.closed for session in backend.sessions] == [True, False]
    _play(env, _proposal)
    assert all(session.closed for session in backend.sessions)
    env.reset()
    env.close()
    assert all(session.closed for session in backend.sessions)
    env.reset()
    del env
    gc.collect()
    assert all(session.closed for session in backend.sessions)


def test_an_encoder_error_ends_the_episode(
    env: VP9RateControlEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    env.reset()
    backend: Any = env._backend
    session = backend.sessions[-1]

    def fail() -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(session, "result", fail)
    with pytest.raises(RuntimeError, match="broken"):
        env.step(3)
    assert session.closed
    with pytest.raises(ResetNeeded):
        env.step(3)


def test_steps_out_of_order_are_refused(env: VP9RateControlEnv) -> None:
    with pytest.raises(ResetNeeded):
        env.step(1)
    with pytest.raises(ResetNeeded):
        _ = env.observation
    _play(env, _proposal)
    with pytest.raises(ResetNeeded):
        env.step(1)


@pytest.mark.parametrize("action", [-1, 256, 3.7, "7", None, [3], [1, [2]], True, math.nan])
def test_actions_outside_the_space_are_refused(env: VP9RateControlEnv, action: Any) -> None:
    env.reset()
    with pytest.raises(InputError):
        env.step(action)
    env.step(0)  # and the episode goes on


def test_self_competition_starts_against_vbr_and_goes_on_against_the_past() -> None:
    env = _fake(targets_kbps=100)
    even = _play(env, _proposal)[-1]
    # The fake's VBR takes its own proposals, so following them ties.
    assert even[1] == 0.0
    assert even[4]["score"]["psnr_gain_db"] == pytest.approx(0.0)
    assert _play(env, lambda info: max(_proposal(info) - 40, 0))[-1][1] == -1.0  # overshoots
    assert _play(env, _proposal)[-1][1] == 1.0
    backend: Any = env._backend
    assert len(backend.sessions) == 4  # three episodes and VBR, once
    assert isinstance(env.reward, SelfCompetitionReward)
    assert len(env.reward) == 1


def test_a_callable_reward_gets_score_and_reference() -> None:
    seen: list[tuple[EpisodeScore, EpisodeScore]] = []

    def reward(score: EpisodeScore, reference: Callable[[], EpisodeScore]) -> float:
        seen.append((score, reference()))
        return 0.25

    steps = _play(_fake(reward=reward, targets_kbps=100), lambda _: 50)
    assert steps[-1][1] == 0.25
    score, reference = seen[0]
    assert score.target_kbps == reference.target_kbps == 100.0
    assert score.clip == reference.clip == FakeClip().sha256


@pytest.mark.parametrize("given", [0.5, np.float32(0.5), np.array([0.5]), np.array(0.5)])
def test_a_reward_may_be_any_kind_of_number(given: Any) -> None:
    reward = _play(_fake(reward=lambda *_: given), _proposal)[-1][1]
    assert type(reward) is float and reward == 0.5


@pytest.mark.parametrize("given", [math.nan, math.inf, None, "1", np.zeros(2), True, [0.5]])
def test_a_reward_that_is_no_number_is_refused(given: Any) -> None:
    env = _fake(reward=lambda *_: given)
    with pytest.raises(InputError, match="the reward must give a finite number, not"):
        _play(env, _proposal)
    env.reset()


def test_options_fix_what_is_drawn() -> None:
    env = _fake(clips=[FakeClip(num_frames=n) for n in (5, 6, 7)])
    _, info = env.reset(seed=1, options={"clip": 2, "target_kbps": 77})
    assert (info["clip"], info["target_kbps"]) == (2, 77)
    _, free = env.reset(seed=1)
    assert free["target_kbps"] != 77
    _, info = env.reset(options={"clip": np.int64(1), "target_kbps": np.float32(60)})
    assert (info["clip"], info["target_kbps"]) == (1, 60)
    bad: list[Any] = [
        {"clip": 3}, {"clip": -1}, {"clip": 0.5}, {"clip": "a.mp4"}, {"clip": None}, {"clip": True},
        {"target_kbps": 0}, {"target_kbps": math.nan}, {"target_kbps": "60"},
        {"target_kbps": None}, {"target": 5}, {1: 2}, [1],
    ]  # fmt: skip
    for options in bad:
        with pytest.raises(InputError):
            env.reset(options=options)


def test_targets_are_drawn_evenly_in_log_rate() -> None:
    rng = np.random.default_rng(0)
    drawn = np.array([Targets((100, 400)).sample(rng) for _ in range(2000)])
    assert drawn.min() >= 100 and drawn.max() <= 400
    assert np.mean(drawn < 200) == pytest.approx(0.5, abs=0.05)
    assert {Targets([100, 400]).sample(rng) for _ in range(50)} == {100, 400}
    assert Targets(64).sample(rng) == 64


@pytest.mark.parametrize(
    "arguments",
    [
        {"clips": []},
        {"clips": None},
        {"clips": [None]},
        {"targets_kbps": None},
        {"targets_kbps": True},
        {"targets_kbps": "60"},
        {"targets_kbps": ["60"]},
        {"targets_kbps": [60, None]},
        {"targets_kbps": math.nan},
        {"max_frames": 1.5},
        {"max_frames": True},
        {"height": "x"},
        {"history_rows": 2.5},
        {"reward": None},
        {"reward": 3},
        {"score_key": None},
        {"score_key": "bits"},
        {"timeout_s": 0},
        {"timeout_s": math.nan},
        {"timeout_s": "a"},
        {"speed": 5.0},
        {"targets_kbps": []},
        {"targets_kbps": 0},
        {"targets_kbps": (200, 100)},
        {"max_frames": 0},
        {"reward": "psnr"},
        {"action": "delta"},
        {"history_rows": 0},
        {"spede": 5},
        {"speed": 99},
    ],
    ids=str,
)
def test_bad_arguments_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        _fake(**arguments)


def test_numbers_of_numpy_are_numbers() -> None:
    env = _fake(
        clips=(clip for clip in [FakeClip()]),
        targets_kbps=np.int64(60),
        max_frames=np.int64(5),
        history_rows=np.int64(4),
        timeout_s=np.float32(60),
        speed=np.int64(5),
    )
    observation, info = env.reset(seed=0)
    assert observation["history"].shape[0] == 4 and info["target_kbps"] == 60
    assert _fake(targets_kbps=np.array([70, 70])).reset(seed=0)[1]["target_kbps"] == 70


def test_no_key_of_an_info_can_be_the_scores(env: VP9RateControlEnv) -> None:
    for *_, info in _play(env, _proposal, seed=0):
        for key in info.keys() - {"score"}:
            with pytest.raises(InputError, match="score_key must be text that info does not use"):
                _fake(score_key=key)


@pytest.mark.parametrize("target", [1, 1_000_000])
def test_vbr_beside_the_end_of_the_range_is_at_it(target: int) -> None:
    # rd_gain asks for VBR at 1.25 times the target.
    steps = _play(_fake(reward="rd_gain", targets_kbps=target), _proposal)
    assert -1.0 <= steps[-1][1] <= 1.0


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))]
)
def test_an_environment_is_copied_between_encodes_alone(
    copied: Callable[[Any], Any], moving_square: Callable[..., Clip]
) -> None:
    env = VP9RateControlEnv([moving_square(6, 32, 32)], 40, speed=8, reward=_psnr)
    other = copied(env)
    first = _play(env, _proposal, seed=3)
    again = _play(copied(env), _proposal, seed=3)  # after the end of an encode
    for steps in (_play(other, _proposal, seed=3), again):
        assert [step[4].get("bits") for step in steps] == [step[4].get("bits") for step in first]
    env.reset(seed=3)
    with pytest.raises(InputError, match="an encode under way cannot be copied"):
        copied(env)
    gc.collect()
    env.step(first[0][4]["proposal_qindex"])  # it goes on
    env.close()


def test_offsets_to_the_proposal() -> None:
    env = _fake(action="proposal_offset")
    _, info = env.reset(seed=0)
    proposal = _proposal(info)
    reached = [
        min(max(proposal + action - 128, 0), 255)
        for action in range(256)
        if info["action_mask"][action]
    ]
    assert len(set(reached)) == len(reached)
    *_, info = env.step(128 + 5)
    assert info["qindex"] == proposal + 5
    proposal = _proposal(info)
    *_, info = env.step(0)
    assert info["qindex"] == max(proposal - 128, 0)


def test_a_full_action_names_every_part_of_the_decision() -> None:
    info = FrameInfo(0, 0, UpdateType.LEAF, True, 0, 1, 1, 1, 9, (-1, -1, -1), 90, 1, 0, 255, 0)
    base = FrameDecision(100, speed=2, show_existing=ShowExisting.CHEAPER)
    full = FullAction()
    rest = [0, 0]
    assert full.decision([128, 0, 0, *rest], info, base) == base
    changed = full.decision(np.array([130, 6, 1, *rest]), info, base)
    assert changed == base.replace(qindex=102, speed=5, show_existing=ShowExisting.NEVER)
    assert full.decision([0, 0, 3, *rest], info, base).show_existing is ShowExisting.ALWAYS
    assert full.decision([0, 0, 0, *rest], info, base).qindex == 0
    bad = [[256, 0, 0], [0, 11, 0], [0, 0, 4], [128.5, 0, 0]]
    for action in (*(a + rest for a in bad), [0, 0, 0, 26, 0], [0, 0, 0, 0, 7], [128, 0, 0], 128):
        with pytest.raises(InputError):
            full.decision(action, info, base)
    mask = full.mask(info, base, 5)
    assert np.flatnonzero(mask[:256]).tolist() == list(range(123, 134))
    assert mask.shape == full.space.nvec.sum() == (256 + 11 + 4 + 26 + 7,) and mask[256:].all()


def test_a_group_is_decided_on_with_the_last_frame_before_it() -> None:
    kinds = (UpdateType.LEAF, True, 18, 20, 3, 3, 9, (-1, -1, -1), 90, 1, 0, 255, 0)
    inside = FrameInfo(0, 0, *kinds)
    last = dataclasses.replace(inside, gop_index=19)
    base = FrameDecision(100, next_gop=GopDecision(layers=2))
    full = FullAction()
    assert full.decision([128, 0, 0, 9, 3], inside, base) == base
    assert full.decision([128, 0, 0, 9, 3], last, base).next_gop == GopDecision(9, 3)
    assert full.decision([128, 0, 0, 9, 0], last, base).next_gop == GopDecision(9, 2)
    masks = [full.mask(info, base, 5)[-26 - 7 :] for info in (inside, last)]
    assert np.flatnonzero(masks[0]).tolist() == [0, 26] and masks[1].all()


def test_limits_of_a_group_reach_the_encoder(carphone: Clip) -> None:
    env = VP9RateControlEnv([carphone], 60, speed=5, action="full")
    shown = {6: 0, 0: 0}
    for frames in shown:
        steps = _play(env, lambda info, f=frames: [128, 0, 0, f if info["ends_gop"] else 0, 0])
        ends = [step[4]["show_index"] for step in steps if step[4].get("ends_gop")]
        shown[frames] = len(ends)
    env.close()
    assert shown[6] >= 2 * shown[0]


def test_the_speed_of_a_frame_reaches_the_encoder(moving_square: Callable[..., Clip]) -> None:
    clip = moving_square(6, 96, 64)
    sizes = set()
    for part in (1, 10):  # cpu-used 0 and 9
        env = VP9RateControlEnv([clip], 60, speed=5, action="full")
        steps = _play(env, lambda _, part=part: [128, part, 0, 0, 0])
        sizes.add(steps[-1][4]["score"]["bits"])
        env.close()
    assert len(sizes) == 2


def test_the_mask_holds_the_safety_rule(moving_square: Callable[..., Clip]) -> None:
    """In a static group the controller's qindex is the only one, whatever the action."""
    still = moving_square(1, 64, 64)
    clip = Clip.from_frames(np.repeat(still.frame(0)[None], 60, axis=0), 64, 64, 25, "still")
    env = VP9RateControlEnv([clip], 60, speed=5)
    _, info = env.reset(seed=0)
    held = 0
    over = False
    while not over:
        allowed = np.flatnonzero(info["action_mask"])
        _, _, over, _, after = env.step(255)
        if len(allowed) == 1:
            held += 1
            assert after["qindex"] == allowed[0] < 255
        info = after
    assert held > 10
    env.close()


def test_the_name_of_before_still_makes_an_environment() -> None:
    with pytest.warns(DeprecationWarning, match="upgrading to version `v1`"):  # Gymnasium's own
        env = gymnasium.make(
            "muzero_rc/VP9RateControl-v0",
            clips=[FakeClip()],
            targets_kbps=50,
            backend=FakeBackend(),
        )
    assert env.reset(seed=1)[1]["target_kbps"] == 50
    env.close()


def test_infos_tell_what_was_and_what_comes(env: VP9RateControlEnv) -> None:
    steps = _play(env, lambda _: 90, seed=0)
    first, second, last = steps[0][4], steps[1][4], steps[-1][4]
    assert {"clip", "clip_name", "target_kbps", "proposal_qindex", "action_mask"} <= set(first)
    assert second["controller_qindex"] - second["proposal_qindex"] == round(
        48 * float(steps[1][0]["globals"][GLOBAL_COLUMNS.index("rate_offset")])
    )
    assert "qindex" not in first
    assert second["qindex"] == 90 and second["bits"] > 0 and second["coding_index"] == 1
    assert "coding_index" not in last
    assert {"clip", "actual_kbps", "psnr_avg", "overshoot"} <= set(last["score"])
    bits = sum(step[4]["bits"] for step in steps[1:])
    # The frames that only show a buffer again are the rest.
    assert 0 < last["score"]["bits"] - bits <= 8 * 30


def test_last_observation_has_the_whole_history(env: VP9RateControlEnv) -> None:
    steps = _play(env, lambda _: 90, seed=0)
    assert steps[-1][0]["history_mask"].sum() == len(steps) - 1
    proposal = FRAME_COLUMNS.index("proposal_qindex")
    assert steps[-1][0]["frame"][proposal] == steps[-2][0]["frame"][proposal]
    assert steps[-1][0]["globals"][GLOBAL_COLUMNS.index("frames_done")] == 1.0


def test_padding_is_masked_and_a_short_history_keeps_the_latest() -> None:
    clips = [FakeClip(num_frames=12), FakeClip(num_frames=30)]
    env = _fake(clips=clips, history_rows=4)
    steps = _play(env, lambda _: 90, options={"clip": 0})
    observation = steps[-1][0]
    assert observation["clip"].shape[0] == 30
    assert observation["clip_mask"].tolist() == [1] * 12 + [0] * 18
    assert not observation["clip"][12:].any()
    whole = env.observation
    np.testing.assert_array_equal(observation["history"], whole.history[-4:])
    np.testing.assert_array_equal(observation["clip"][:12], whole.clip)


def test_files_are_loaded_when_needed_and_dropped_when_there_are_too_many() -> None:
    backend = FakeBackend(clips={str(n): FakeClip(num_frames=n, name=str(n)) for n in range(1, 9)})
    names = list(backend.clips)
    pool = ClipPool(names, backend, max_frames=4)
    assert (backend.loads, pool.max_num_frames, len(pool)) == (0, 4, 8)
    assert (pool[7].num_frames, pool[0].num_frames) == (4, 1)
    assert pool[7] is pool[7] and backend.loads == 2
    assert ClipPool(names, FakeBackend(clips=backend.clips)).max_num_frames == 8
    small = ClipPool(names, backend, max_frames=4, max_bytes=1)
    first = small[0]
    assert small[0] is first
    assert small[1] is not first and small[0] is not first


def test_episode_statistics_of_gymnasium_fit_beside_the_score() -> None:
    env: Any = gymnasium.wrappers.RecordEpisodeStatistics(_fake())
    env.reset(seed=0)
    terminated = False
    while not terminated:
        *_, terminated, _, info = env.step(80)
    assert {"r", "l"} <= set(info["episode"])
    assert "psnr_avg" in info["score"]


def test_a_render_mode_that_is_not_there_is_warned_of() -> None:
    # What Stable-Baselines3's make_vec_env asks every environment for.
    with pytest.warns(UserWarning, match="nothing to render"):
        assert _fake(render_mode="rgb_array").render_mode is None


def test_registering_again_is_harmless() -> None:
    register()
    assert gymnasium.spec(ENV_ID).nondeterministic is False


def test_the_docstring_is_the_specification() -> None:
    text = VP9RateControlEnv.__doc__ or ""
    chapters = re.findall(r"^    ## (.+)$", text, re.MULTILINE)
    assert chapters == [
        "Description", "Action Space", "Observation Space", "Rewards", "Starting State",
        "Episode End", "Arguments", "Version History",
    ]  # fmt: skip
    parts = dict(re.findall(r"Columns of `(\w+)`:\n\n((?:    \|.*\n)+)", text))
    expected = {
        "clip": CLIP_COLUMNS,
        "history": HISTORY_COLUMNS,
        "frame": FRAME_COLUMNS,
        "globals": GLOBAL_COLUMNS,
    }
    for name, columns in expected.items():
        rows = re.findall(r"^    \| (\d+) \| (\w+) \| .+ \|$", parts[name], re.MULTILINE)
        assert rows == [(str(i), column) for i, column in enumerate(columns)]
    env = _fake()
    space: Any = env.observation_space
    shapes = dict(re.findall(r"^    \| (\w+) \| \[(.+?)\](?: int8)? \|", text, re.MULTILINE))
    for name, box in space.items():
        shape = [str(n) for n in box.shape]
        documented = shapes[name].split(", ")
        letters = {"T": str(FakeClip().num_frames), "H": str(2 * FakeClip().num_frames + 16)}
        assert [letters.get(n, n) for n in documented] == shape
    assert f"[-{BOUND:g}, {BOUND:g}]" in text
    assert space["history"].high.max() == (4 * FakeClip().num_frames + 64) / 256 or (
        space["history"].high.max() == BOUND
    )


_FORKED = """
import os, signal, sys, time, warnings
from muzero_rc.env.gym.env import VP9RateControlEnv
from muzero_rc.env.codec.session import wait_any
from muzero_rc.errors import EncoderError

def told(call):
    try:
        call()
    except EncoderError as error:
        return str(error)
    return "nothing"

signal.alarm(60)
env = VP9RateControlEnv(clips=[sys.argv[1]], targets_kbps=(50, 200), max_frames=8, speed=8)
_, info = env.reset(seed=1)
session = env._episode.session
child = os.fork()
if child == 0:
    start = time.monotonic()
    try:
        print(told(lambda: env.step(info["proposal_qindex"])), file=sys.stderr)
        print(told(lambda: wait_any([session])), file=sys.stderr)
        print(told(session.result), told(session.finish), sep="\\n", file=sys.stderr)
        _, info = env.reset(seed=1)  # a session of the child's own
        while not env.step(info["proposal_qindex"])[2]:
            pass
        env.close()
        del env, session
        assert time.monotonic() - start < 30
    except BaseException as error:
        print("child:", repr(error), file=sys.stderr)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
while not env.step(info["proposal_qindex"])[2]:  # the parent's goes on
    pass
env.close()
print("done", file=sys.stderr)
"""


def test_an_encoder_after_a_fork_says_so_at_once(carphone_path: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FORKED, str(carphone_path)],
        capture_output=True, text=True, cwd=tmp_path, timeout=100,
    )  # fmt: skip
    says = "the encoder does not survive a fork; make the environment in the child"
    assert done.stderr.splitlines() == [says] * 4 + ["done"], done.stderr
    assert done.returncode == 0


class _Moved:
    """Plans to move every frame by the same step."""

    name = "moved"

    def __init__(self, step: int) -> None:
        self._step = step

    def decide(self, observations: Any, base: Any) -> Any:
        return base

    def plan(self, clip: Any, settings: Any, probe: EncodeLog) -> dict[int, PlannedFrame]:
        return {
            info.coding_index: PlannedFrame(self._step, result.bits)
            for info, _, result in probe.frames
            if info is not None
        }


def test_a_plan_moves_what_actions_step_from() -> None:
    offsets = []
    for plans in (None, _Moved(0), _Moved(9)):
        env = _fake(passes=3, speed_profile="hierarchical", plans=plans)
        env.reset(options={"clip": 0, "target_kbps": 80})
        offsets.append(env.observation.rate_offset)
        env.close()
    plain, unmoved, moved = offsets
    assert plain == unmoved == moved - 9
    for arguments in ({"plans": _Moved(1)}, {"plans": ProposalPolicy(), "passes": 3}):
        with pytest.raises(InputError, match="a policy that plans, and needs passes=3"):
            _fake(**arguments)
