"""Reanalyse renews what the search says and leaves alone what happened."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import numpy as np

from muzero_rc.agents.config import (
    AgentConfig,
    LossConfig,
    NetworkConfig,
    ReplayConfig,
    SearchConfig,
)
from muzero_rc.agents.muzero.networks import initial_params
from muzero_rc.agents.muzero.reanalyse import Reanalyser
from muzero_rc.agents.muzero.replay import Replay
from muzero_rc.agents.muzero.trajectory import Trajectory
from muzero_rc.agents.policy import AgentPolicy

MakeEpisode = Callable[..., Trajectory]


def _config(tiny: NetworkConfig, n_step: int = 0) -> AgentConfig:
    return AgentConfig(
        network=tiny,
        search=SearchConfig(simulations=4, max_considered=4, depth=2),
        loss=LossConfig(unroll_steps=2, n_step=n_step),
        replay=ReplayConfig(batch_size=8, reanalyse=0.5),
    )


def test_half_a_batch_is_searched_anew_and_the_encode_stays_what_it_was(
    tiny: NetworkConfig, make_episode: MakeEpisode
) -> None:
    config = _config(tiny)
    replay = Replay(tiny, config.replay, config.loss, seed=0)
    for seed in range(3):
        replay.add(make_episode(seed, 10))
    before = [
        dataclasses.replace(e, policies=e.policies.copy(), values=e.values.copy())
        for e in replay.episodes()
    ]
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: leaf + 0.2 * rng.normal(size=leaf.shape).astype(np.float32),
        initial_params(tiny, 0),
    )
    reanalyser = Reanalyser(config, seed=1)
    samples, _ = replay.draw(8)
    reanalyser.refresh(replay, samples, params)
    # Half of 8 samples, each with the two steps that its unroll reaches.
    assert reanalyser.searched == 12
    fresh = {(id(episode), min(step + n, 9)) for episode, step in samples[:4] for n in range(3)}
    for old, new in zip(before, replay.episodes(), strict=True):
        assert new.outcome == old.outcome and new.overshoot == old.overshoot
        for name in ("actions", "bits", "psnr", "frames", "globals", "history"):
            np.testing.assert_array_equal(getattr(new, name), getattr(old, name))
        for step in range(10):
            changed = (id(new), step) in fresh
            assert (new.values[step] != old.values[step]) == changed
            assert (new.policies[step] != old.policies[step]).any() == changed
            np.testing.assert_allclose(new.policies[step].sum(dtype=np.float32), 1, atol=1e-2)


def test_what_is_found_is_what_the_agent_would_do_there(
    tiny: NetworkConfig, make_episode: MakeEpisode
) -> None:
    config = _config(tiny)
    params = initial_params(tiny, 3)
    replay = Replay(tiny, config.replay, config.loss, seed=0)
    replay.add(make_episode(0, 10))
    samples, _ = replay.draw(8)
    Reanalyser(config).refresh(replay, samples, params)
    episode, step = samples[0]
    agent = AgentPolicy(params, tiny, simulations=4, search=config.search, gumbel_scale=0.0)
    agent.qindexes([episode.observation(step)])
    assert agent.last is not None
    np.testing.assert_allclose(episode.policies[step], agent.last.policies[0], atol=2e-3)
    np.testing.assert_allclose(episode.values[step], agent.last.values[0], atol=1e-3)


def test_bootstrapped_steps_are_searched_too_and_nothing_compiles_twice(
    tiny: NetworkConfig, make_episode: MakeEpisode
) -> None:
    config = _config(tiny, n_step=3)
    replay = Replay(tiny, config.replay, config.loss, seed=0)
    replay.add(make_episode(0, 12))
    reanalyser = Reanalyser(config)
    before = reanalyser._search._cache_size()  # type: ignore[attr-defined]
    for seed in range(3):
        samples, _ = replay.draw(8)
        reanalyser.refresh(replay, samples, initial_params(tiny, seed))
    assert reanalyser.searched == 3 * 4 * 6
    assert reanalyser._search._cache_size() == before + 1  # type: ignore[attr-defined]
