"""The vector environment: the same as single ones, together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode

from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.gym.env import VP9RateControlEnv
from muzero_rc.env.gym.registration import ENV_ID, register
from muzero_rc.env.gym.vector_env import VP9RateControlVectorEnv
from muzero_rc.env.testing.fakes import FakeBackend, FakeClip
from muzero_rc.errors import InputError

register()

FAKE: dict[str, Any] = {
    "clips": [FakeClip(num_frames=n) for n in (3, 8, 20)],
    "targets_kbps": (50, 200),
    "speed": 5,
}


def _fake(num_envs: int, **arguments: Any) -> VP9RateControlVectorEnv:
    return VP9RateControlVectorEnv(num_envs, backend=FakeBackend(), **(FAKE | arguments))


def _psnr(score: Any, reference: Any) -> float:
    return float(score.psnr_avg)


def test_make_vec_gives_the_native_one(carphone: Clip) -> None:
    with_name: Any = gymnasium.make_vec(
        ENV_ID, num_envs=2, clips=[carphone], targets_kbps=[80], speed=7, max_episode_steps=9
    )
    assert isinstance(with_name, VP9RateControlVectorEnv)
    assert with_name.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    observation, _ = with_name.reset(seed=0)
    assert observation in with_name.observation_space
    with_name.close()


@pytest.mark.parametrize("most", [None, 5])
def test_it_is_what_single_environments_in_a_row_are(most: int | None) -> None:
    vector: Any = _fake(3, reward=_psnr, max_episode_steps=most)

    def single() -> Any:
        env = VP9RateControlEnv(backend=FakeBackend(), reward=_psnr, **FAKE)
        return env if most is None else gymnasium.wrappers.TimeLimit(env, most)

    serial: Any = gymnasium.vector.SyncVectorEnv([single] * 3)
    rng = np.random.default_rng(0)
    one, one_info = vector.reset(seed=4)
    two, two_info = serial.reset(seed=4)
    ends = truncated = 0
    for _ in range(70):
        for name in two:
            np.testing.assert_array_equal(one[name], two[name])
        assert one_info.keys() == two_info.keys()
        np.testing.assert_array_equal(one_info["action_mask"], two_info["action_mask"])
        actions = rng.integers(0, 256, 3)
        one, *one_rest, one_info = vector.step(actions)
        two, *two_rest, two_info = serial.step(actions)
        for a, b in zip(one_rest, two_rest, strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype
        ends += int(one_rest[1].sum())
        truncated += int(one_rest[2].sum())
    assert ends > 6
    assert (truncated > 6) == (most is not None)
    vector.close()
    serial.close()


def test_sessions_run_at_the_same_time() -> None:
    """All are given their decision before any is waited for."""
    calls: list[str] = []
    env = _fake(2)
    env.reset(seed=0)
    for number, single in enumerate(env.envs):
        session: Any = single._episode._session  # type: ignore[union-attr]
        submit, result = session.submit, session.result

        def noted_submit(qindex: int, inner: Any = submit, name: str = f"submit{number}") -> None:
            calls.append(name)
            inner(qindex)

        def noted_result(inner: Any = result, name: str = f"result{number}") -> Any:
            calls.append(name)
            return inner()

        session.submit, session.result = noted_submit, noted_result
    env.step(np.array([50, 60]))
    assert calls == ["submit0", "submit1", "result0", "result1"]


def test_whole_episodes_on_libvpx(moving_square: Callable[..., Clip]) -> None:
    clips = [moving_square(n, 80, 64) for n in (2, 7)]
    env = VP9RateControlVectorEnv(2, clips=clips, targets_kbps=[40], speed=8)
    env.reset(seed=1)
    env.action_space.seed(1)
    scores = []
    for _ in range(40):
        _, rewards, terminated, _, infos = env.step(env.action_space.sample())
        for i in np.flatnonzero(terminated):
            scores.append(infos["score"]["shown_frames"][i])
            assert rewards[i] in (-1.0, 0.0, 1.0)
    env.close()
    assert set(scores) == {2, 7}


def test_past_and_references_are_shared() -> None:
    env: Any = _fake(3, clips=[FakeClip(num_frames=3)], targets_kbps=100)
    env.reset(seed=0)
    terminated = np.zeros(3, bool)
    while not terminated.any():
        *_, terminated, _, _ = env.step(np.full(3, 90))
    assert len({id(single.reward) for single in env.envs}) == 1
    past = env.envs[0].reward.past(FakeClip(num_frames=3).sha256, 100)
    assert past.episodes == 3
    assert len(env.envs[0]._backend.sessions) == 4  # three episodes, one VBR


def test_reset_mask_leaves_the_others_alone() -> None:
    env = _fake(2, clips=[FakeClip(num_frames=20)])
    env.reset(seed=0)
    for _ in range(3):
        env.step(np.array([40, 40]))
    observation, infos = env.reset(options={"reset_mask": np.array([True, False])})
    assert observation["history_mask"].sum(axis=1).tolist() == [0, 3]
    assert infos["_clip"].tolist() == [True, False]


def test_wrong_numbers_are_refused() -> None:
    for count in (0, 1.5, "2"):
        with pytest.raises(InputError):
            _fake(count)  # type: ignore[arg-type]
        with pytest.raises(InputError, match="max_episode_steps must be"):
            _fake(2, max_episode_steps=count)
    with pytest.raises(InputError, match=r"recipe must be a muzero_rc\.env\..*Recipe, not 3"):
        _fake(2, recipe=3)
    env = _fake(2)
    with pytest.raises(InputError):
        env.reset(seed=[1, 2, 3])
    with pytest.raises(InputError):
        env.reset(options={"reset_mask": np.array([False, False])})
    env.reset(seed=0)
    with pytest.raises(InputError):
        env.step(np.array([1]))


@pytest.mark.parametrize("bad", [[40, 256], [256, 40], [40.5, 40.0]])
def test_a_bad_action_leaves_all_as_they_are(bad: list[float]) -> None:
    env, other = _fake(2), _fake(2)
    for one in (env, other):
        one.reset(seed=0)
    with pytest.raises(InputError):
        env.step(np.array(bad))
    for _ in range(3):
        ours, theirs = env.step(np.array([40, 50])), other.step(np.array([40, 50]))
        np.testing.assert_array_equal(ours[0]["history"], theirs[0]["history"])


@pytest.mark.parametrize("broken", [0, 1])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_in_a_step_ends_all_episodes(broken: int, error: type[BaseException]) -> None:
    env: Any = _fake(2)
    env.reset(seed=0)

    def fail() -> None:
        raise error

    env.envs[broken]._episode.session.result = fail
    with pytest.raises(error):
        env.step(np.array([40, 50]))
    with pytest.raises(ResetNeeded):
        env.step(np.array([40, 50]))
    # One alone does not bring the others back: they lost a frame.
    env.reset(options={"reset_mask": np.arange(2) == broken})
    with pytest.raises(ResetNeeded):
        env.step(np.array([40, 50]))
    env.reset(seed=0)
    env.step(np.array([40, 50]))


def test_closing_frees_all_sessions() -> None:
    env: Any = _fake(3)
    env.reset(seed=0)
    env.step(np.array([1, 2, 3]))
    sessions = env.envs[0]._backend.sessions
    env.close()
    assert all(session.closed for session in sessions)
