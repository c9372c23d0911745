"""Episodes and their replay: what goes in comes out; bounded; survives a restart."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from muzero_rc.agents.config import LossConfig, NetworkConfig, ReplayConfig
from muzero_rc.agents.muzero.replay import Replay
from muzero_rc.agents.muzero.trajectory import Trajectory, TrajectoryRecorder
from muzero_rc.checkpoint import write_arrays
from muzero_rc.errors import CheckpointError
from muzero_rc.types import Observation

MakeEpisode = Callable[..., Trajectory]
MakeObservations = Callable[..., list[Observation]]

LOSS = LossConfig(unroll_steps=2)


def _same(a: Trajectory, b: Trajectory) -> bool:
    return all(
        (x is None and y is None) or np.array_equal(x, y, equal_nan=True)
        for f in dataclasses.fields(Trajectory)
        for x, y in ((getattr(a, f.name), getattr(b, f.name)),)
    )


def test_an_episode_gives_back_each_observation(
    make_observations: MakeObservations, make_episode: MakeEpisode
) -> None:
    episode = make_episode(5, 9)
    for step, observation in enumerate(make_observations(5, 9)):
        found = episode.observation(step)
        for field in dataclasses.fields(Observation):
            np.testing.assert_array_equal(
                getattr(found, field.name), getattr(observation, field.name)
            )


def test_the_recorder_derives_actions_and_marks_what_is_unknown(
    make_observations: MakeObservations,
) -> None:
    recorder = TrajectoryRecorder("proposal")
    first, second = make_observations(0, 2)
    recorder.step(first, first.proposal_qindex - 5, bits_per_pixel=0.25, psnr_db=41.0)
    recorder.step(second, second.proposal_qindex, policy=np.full(256, 1 / 256), value=0.5)
    episode = recorder.finish()
    assert episode.actions.tolist() == [123, 128]
    assert episode.policy_weights.tolist() == [0, 1]
    np.testing.assert_array_equal(episode.bits, [-2.0, np.nan])
    np.testing.assert_array_equal(episode.psnr, [41.0, np.nan])
    np.testing.assert_array_equal(episode.values, [np.nan, 0.5])
    assert np.isnan([episode.outcome, episode.overshoot, episode.psnr_gain]).all()


def test_the_recorder_refuses_what_cannot_be(make_observations: MakeObservations) -> None:
    first, second, third = make_observations(0, 3)
    recorder = TrajectoryRecorder("absolute")
    with pytest.raises(ValueError, match="at least one step"):
        recorder.finish()
    with pytest.raises(ValueError, match="qindex"):
        recorder.step(first, -1)
    with pytest.raises(ValueError, match="policy"):
        recorder.step(first, 5, policy=np.ones(256))
    recorder.step(first, 5)
    recorder.step(second, 5)
    other = make_observations(1, 3)[2]
    with pytest.raises(ValueError, match="does not continue"):
        recorder.step(other, 5)
    rewritten = third.history + 1
    with pytest.raises(ValueError, match="does not continue"):
        recorder.step(dataclasses.replace(third, history=rewritten), 5)
    with pytest.raises(ValueError, match="does not continue"):
        recorder.step(dataclasses.replace(third, history=third.history[:0]), 5)
    with pytest.raises(ValueError, match="outcome"):
        recorder.finish(outcome=2.0)
    assert len(recorder) == 2


def test_a_clip_is_held_once_and_let_go_with_its_last_episode(
    tiny: NetworkConfig, make_episode: MakeEpisode
) -> None:
    rng = np.random.default_rng(0)
    clips = [rng.normal(size=(40, tiny.clip_features)).astype(np.float32) for _ in range(2)]
    episodes = [make_episode(seed, 10, clips[seed % 2].copy()) for seed in range(4)]
    room = 3 * episodes[0].nbytes + 2 * clips[0].nbytes
    replay = Replay(tiny, ReplayConfig(capacity_bytes=room), LOSS)
    for episode in episodes[:3]:
        replay.add(episode)
    held = replay.episodes()
    assert replay.num_clips == 2 and held[0].clip is held[2].clip
    assert replay.nbytes == room
    replay.add(episodes[3])
    assert len(replay) == 3 and replay.nbytes == room, "the oldest made room"
    assert _same(replay.episodes()[0], episodes[1])
    replay.add(make_episode(5, 10, clips[1]))  # its clip is held: evicts episode 1 only
    assert len(replay) == 3 and replay.added == 5
    replay.add(make_episode(7, 10, clips[1]))
    assert replay.num_clips == 1 and replay.nbytes == room - clips[0].nbytes


def test_the_newest_is_kept_even_if_too_large(
    tiny: NetworkConfig, make_episode: MakeEpisode
) -> None:
    replay = Replay(tiny, ReplayConfig(capacity_bytes=1), LOSS)
    replay.add(make_episode(0))
    replay.add(make_episode(1))
    assert len(replay) == 1 and _same(replay.episodes()[0], make_episode(1))


def test_uniform_draws_reach_every_step_evenly(
    tiny: NetworkConfig, make_episode: MakeEpisode
) -> None:
    replay = Replay(tiny, ReplayConfig(), LOSS, seed=3)
    replay.add(make_episode(0, 2))
    replay.add(make_episode(1, 6))
    samples, weights = replay.draw(8000)
    assert (weights == 1).all()
    counts: dict[tuple[int, int], int] = {}
    for episode, step in samples:
        key = (len(episode), step)
        counts[key] = counts.get(key, 0) + 1
    assert sorted(counts) == [(2, 0), (2, 1), *((6, step) for step in range(6))]
    assert all(abs(count - 1000) < 150 for count in counts.values())


def test_prioritised_draws_follow_surprise_and_are_corrected(
    tiny: NetworkConfig, make_episode: MakeEpisode
) -> None:
    episode = dataclasses.replace(
        make_episode(0, 3), values=np.array([1.0, 0.0, np.nan], np.float32), outcome=1.0
    )
    replay = Replay(tiny, ReplayConfig(priority=1.0, importance=1.0), LOSS, seed=0)
    replay.add(episode)
    samples, weights = replay.draw(9000)
    steps = np.array([step for _, step in samples])
    raw = np.array([0.0, 1.0, 0.5]) + 0.05  # surprise of an unknown value: the mean
    expected = raw / raw.sum()
    np.testing.assert_allclose(np.bincount(steps) / 9000, expected, atol=0.02)
    by_step = np.array([weights[steps == step].mean() for step in range(3)])
    np.testing.assert_allclose(by_step, expected.min() / expected, rtol=1e-4)


def test_the_same_seed_draws_the_same(tiny: NetworkConfig, make_episode: MakeEpisode) -> None:
    batches = []
    for _ in range(2):
        replay = Replay(tiny, ReplayConfig(batch_size=4), LOSS, seed=9)
        replay.add(make_episode())
        batches.append(replay.sample())
    np.testing.assert_array_equal(batches[0].actions, batches[1].actions)
    np.testing.assert_array_equal(batches[0].tokens["frame"], batches[1].tokens["frame"])


def test_empty_and_foreign_are_refused(tiny: NetworkConfig, make_episode: MakeEpisode) -> None:
    replay = Replay(tiny, ReplayConfig(), LOSS)
    with pytest.raises(ValueError, match="empty"):
        replay.sample()
    episode = make_episode()
    with pytest.raises(ValueError, match="columns"):
        replay.add(dataclasses.replace(episode, frames=episode.frames[:, 1:]))


def test_refresh_replaces_what_is_learned_but_not_what_happened(
    tiny: NetworkConfig, make_episode: MakeEpisode
) -> None:
    config = ReplayConfig(priority=1.0, importance=0.0)
    replay = Replay(tiny, config, LOSS, seed=0)
    replay.add(dataclasses.replace(make_episode(0, 4), values=np.ones(4, np.float32)))
    (held,) = replay.episodes()
    before = dataclasses.replace(held, policies=held.policies.copy(), values=held.values.copy())
    replay.refresh([(held, 1)], np.full((1, 256), 1 / 256), np.full(1, -1.0))
    np.testing.assert_allclose(held.policies[1], 1 / 256)
    assert held.values.tolist() == [1, -1, 1, 1] and held.outcome == before.outcome
    np.testing.assert_array_equal(held.actions, before.actions)
    np.testing.assert_array_equal(held.policies[[0, 2, 3]], before.policies[[0, 2, 3]])
    drawn = np.bincount([step for _, step in replay.draw(2000)[0]], minlength=4)
    assert drawn[1] > 1500, "its surprise, two, is what the priorities now know"


def test_drawing_does_not_slow_down_with_what_is_held(
    tiny: NetworkConfig, make_episode: MakeEpisode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Adding looks at the steps of the new episode alone, drawing at the drawn ones'."""
    import muzero_rc.agents.muzero.replay as module

    looked: list[int] = []
    weigh = module._step_weights
    monkeypatch.setattr(
        module, "_step_weights", lambda e, alpha: (looked.append(len(e)), weigh(e, alpha))[1]
    )
    replay = Replay(tiny, ReplayConfig(priority=1.0), LOSS)
    for seed in range(20):
        replay.add(make_episode(seed, 6))
        replay.draw(4)
    assert looked == [6] * 20


def test_a_restart_goes_on_with_the_same_draws(
    tmp_path: Path, tiny: NetworkConfig, make_episode: MakeEpisode
) -> None:
    clip = np.random.default_rng(0).normal(size=(11, tiny.clip_features)).astype(np.float32)
    replay = Replay(tiny, ReplayConfig(batch_size=5), LOSS, seed=1)
    for seed, frames in enumerate((11, 1, 7)):
        replay.add(make_episode(seed, frames, clip if frames != 7 else None))
    replay.sample()
    replay.save(tmp_path / "replay.npz")
    again = Replay(tiny, ReplayConfig(batch_size=5), LOSS, seed=77)
    again.load(tmp_path / "replay.npz")
    assert (len(again), again.added, again.nbytes) == (3, 3, replay.nbytes)
    assert again.num_clips == replay.num_clips == 2
    for a, b in zip(replay.episodes(), again.episodes(), strict=True):
        assert _same(a, b)
    for _ in range(2):
        np.testing.assert_array_equal(replay.sample().policy, again.sample().policy)


def test_an_empty_replay_survives_too(tmp_path: Path, tiny: NetworkConfig) -> None:
    Replay(tiny, ReplayConfig(), LOSS).save(tmp_path / "replay.npz")
    again = Replay(tiny, ReplayConfig(), LOSS)
    again.load(tmp_path / "replay.npz")
    assert len(again) == 0


def test_other_files_are_refused(
    tmp_path: Path, tiny: NetworkConfig, make_episode: MakeEpisode
) -> None:
    replay = Replay(tiny, ReplayConfig(), LOSS)
    replay.add(make_episode())
    replay.save(tmp_path / "replay.npz")
    with pytest.raises(CheckpointError, match="frame"):
        Replay(tiny.replace(action_frame="absolute"), ReplayConfig(), LOSS).load(
            tmp_path / "replay.npz"
        )
    with pytest.raises(CheckpointError, match="columns"):
        Replay(tiny.replace(frame_features=9), ReplayConfig(), LOSS).load(tmp_path / "replay.npz")
    write_arrays(tmp_path / "other.npz", {"x": np.zeros(1)}, {"format": "else"})
    with pytest.raises(CheckpointError, match="not a replay"):
        replay.load(tmp_path / "other.npz")
    assert len(replay) == 1, "a refused file leaves the replay as it was"


def test_adding_and_sampling_from_threads(tiny: NetworkConfig, make_episode: MakeEpisode) -> None:
    episodes = [make_episode(seed, 6) for seed in range(8)]
    replay = Replay(tiny, ReplayConfig(capacity_bytes=4 * episodes[0].nbytes), LOSS)
    replay.add(episodes[0])
    errors: list[Exception] = []

    def add() -> None:
        for episode in episodes * 5:
            replay.add(episode)

    def sample() -> None:
        try:
            for _ in range(30):
                batch = replay.sample(4)
                assert np.isfinite(batch.policy).all()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=target) for target in (add, sample, add, sample)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and replay.added == 81
    assert replay.nbytes <= replay.config.capacity_bytes
