"""What the model may learn besides: n-step values, rewards, consistency of its states."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muzero_rc.agents.config import AgentConfig, LossConfig, NetworkConfig
from muzero_rc.agents.muzero.losses import Unrolled, cosine, loss, loss_of_unrolled, unroll
from muzero_rc.agents.muzero.networks import initial_params, make_networks
from muzero_rc.agents.muzero.targets import Batch, make_batch, value_targets
from muzero_rc.agents.muzero.trajectory import Trajectory
from muzero_rc.agents.tokens import Tokenizer
from muzero_rc.errors import InputError

MakeEpisode = Callable[..., Trajectory]


def _judged(make_episode: MakeEpisode, outcome: float = -1.0) -> Trajectory:
    values = np.array([0.1, 0.2, np.nan, 0.4, 0.5], np.float32)
    return dataclasses.replace(make_episode(0, 5), values=values, outcome=outcome)


def test_value_targets_by_hand(make_episode: MakeEpisode) -> None:
    episode = _judged(make_episode)
    cases = {
        # (step, n, rewards in the model): z_t .. z_{t+3}
        (0, 0, False): [-1, -1, -1, -1],
        (3, 0, False): [-1, -1, -1, -1],
        (3, 0, True): [-1, -1, 0, 0],
        (0, 1, False): [0.2, -1, 0.4, 0.5],  # the value two steps on is not known
        (0, 3, False): [0.4, 0.5, -1, -1],
        (2, 3, True): [-1, -1, -1, 0],
        (0, 99, False): [-1, -1, -1, -1],
    }
    for (step, n, reward), expected in cases.items():
        got = value_targets(episode, step, 3, n_step=n, reward=reward)
        np.testing.assert_allclose(got, expected, rtol=1e-6)
    unjudged = dataclasses.replace(episode, outcome=float("nan"))
    assert np.isnan(value_targets(unjudged, 3, 3, n_step=0, reward=True)).all()


def test_the_reward_comes_once_with_the_last_action(
    tiny: NetworkConfig, make_episode: MakeEpisode
) -> None:
    episode = _judged(make_episode)
    rng = np.random.default_rng(0)
    samples = [(episode, step) for step in (0, 2, 3, 4)]
    batch = make_batch(samples, Tokenizer(tiny), 3, rng, reward=True, consistency=True)
    assert batch.reward is not None and batch.next_observation_weight is not None
    np.testing.assert_array_equal(batch.reward, [[0, 0, 0], [0, 0, -1], [0, -1, 0], [-1, 0, 0]])
    assert (np.asarray(batch.reward_weight) == 1).all()
    np.testing.assert_array_equal(
        batch.next_observation_weight, [[1, 1, 1], [1, 1, 0], [1, 0, 0], [0, 0, 0]]
    )
    assert batch.next_observation is not None
    np.testing.assert_array_equal(batch.next_observation["frame"][1, 0], episode.frames[3])
    np.testing.assert_array_equal(batch.next_observation["frame"][1, 1], episode.frames[4])
    np.testing.assert_array_equal(batch.next_observation["frame"][1, 2], episode.frames[4])
    plain = make_batch(samples, Tokenizer(tiny), 3, rng)
    assert plain.reward is None and plain.next_observation is None, "options cost nothing when off"


def _random_case(rng: np.random.Generator) -> tuple[Unrolled, Batch]:
    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    size, k = 3, 2
    policy = rng.random((size, k + 1, 256)).astype(np.float32)
    batch = Batch(
        tokens={},
        actions=np.zeros((size, k), np.int32),
        policy=policy / policy.sum(-1, keepdims=True),
        value=np.zeros((size, k + 1), np.float32),
        frame_rd=normal(size, k, 2),
        episode_rd=normal(size, 2),
        policy_weight=np.zeros((size, k + 1), np.float32),
        value_weight=np.zeros((size, k + 1), np.float32),
        frame_rd_weight=np.zeros((size, k, 2), np.float32),
        episode_rd_weight=np.zeros((size, 2), np.float32),
        weight=np.array([0.5, 1.0, 0.7], np.float32),
        reward=rng.uniform(-1, 1, (size, k)).astype(np.float32),
        reward_weight=np.array([[1, 0], [1, 1], [0, 1]], np.float32),
        next_observation={},
        next_observation_weight=np.array([[1, 1], [1, 0], [0, 0]], np.float32),
    )
    unrolled = Unrolled(
        *(jnp.asarray(normal(*s)) for s in ((3, 3, 256), (3, 3, 11), (3, 2, 2), (3, 3, 2))),
        reward_logits=jnp.asarray(normal(size, k, 11)),
        similarity=jnp.asarray(rng.uniform(-1, 1, (size, k)).astype(np.float32)),
    )
    return unrolled, batch


def test_reward_and_consistency_losses_equal_their_formula() -> None:
    rng = np.random.default_rng(4)
    unrolled, batch = _random_case(rng)
    assert batch.reward is not None and unrolled.reward_logits is not None
    expected = 0.0
    for b in range(3):
        for k in range(2):
            position = (batch.reward[b, k] + 1) / 2 * 10
            low = int(np.floor(position))
            target = np.zeros(11)
            target[low] += 1 - (position - low)
            target[min(low + 1, 10)] += position - low
            logits = np.asarray(unrolled.reward_logits[b, k], np.float64)
            entropy = -(target * (logits - np.log(np.exp(logits).sum()))).sum()
            expected += 0.9 * batch.weight[b] * batch.reward_weight[b, k] * entropy / 2
            similarity = float(unrolled.similarity[b, k])
            expected -= 0.4 * batch.weight[b] * batch.next_observation_weight[b, k] * similarity / 2
    config = LossConfig(unroll_steps=2, reward=0.9, consistency=0.4)
    total, metrics = loss_of_unrolled(unrolled, batch, config)
    assert float(total) == pytest.approx(expected / 3, rel=1e-4)
    assert {"reward", "consistency"} <= set(metrics)
    without, metrics = loss_of_unrolled(unrolled, batch, LossConfig(unroll_steps=2))
    assert float(without) == 0.0 and not {"reward", "consistency"} & set(metrics)


def test_cosine() -> None:
    a = jnp.asarray([[3.0, 4.0], [1.0, 0.0], [0.0, 0.0]])
    b = jnp.asarray([[4.0, 3.0], [-2.0, 0.0], [1.0, 1.0]])
    np.testing.assert_allclose(cosine(a, b), [24 / 25, -1.0, 0.0], atol=1e-6)


@pytest.mark.slow
def test_consistency_pulls_the_dynamics_and_not_what_was_seen(
    tiny: NetworkConfig, make_episode: MakeEpisode
) -> None:
    """Through the states that were really seen no gradient flows: stopping them by hand
    changes nothing. And the gradient reaches dynamics, projector and predictor."""
    config = tiny.replace(projection_width=12)
    networks, params = make_networks(config), initial_params(config, 0)
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: np.asarray(leaf) + 0.05 * rng.normal(size=leaf.shape).astype(np.float32),
        params,
    )
    batch = make_batch(
        [(make_episode(s), 3) for s in range(2)], Tokenizer(config), 2, rng, consistency=True
    )
    weights = LossConfig(
        unroll_steps=2, policy=0, value=0, bits=0, psnr=0, final_overshoot=0, final_psnr=0,
        consistency=1.0,
    )  # fmt: skip
    gradient = jax.jit(jax.grad(lambda p: loss(p, networks, batch, weights)[0]))(params)
    stopped = networks._replace(
        states=lambda p, tokens: networks.states(jax.lax.stop_gradient(p), tokens)
    )
    again = jax.jit(jax.grad(lambda p: loss(p, stopped, batch, weights)[0]))(params)
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(again), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-7)
    for module in ("dynamics", "projector", "predictor"):
        moved = [leaf for name, g in gradient.items() if module in name for leaf in g.values()]
        assert max(float(jnp.abs(leaf).max()) for leaf in moved) > 1e-5, module
    similarity = jax.jit(lambda p: unroll(networks, p, batch, 0.5).similarity)(params)
    assert similarity is not None and similarity.shape == (2, 2)
    assert (jnp.abs(similarity) <= 1.0001).all()


def test_settings_that_need_each_other(tiny: NetworkConfig) -> None:
    with pytest.raises(InputError, match="go together"):
        AgentConfig(network=tiny, loss=LossConfig(reward=1.0))
    with pytest.raises(InputError, match="go together"):
        AgentConfig(network=tiny.replace(reward=True))
    with pytest.raises(InputError, match="projection_width"):
        AgentConfig(network=tiny, loss=LossConfig(consistency=1.0))
    AgentConfig(
        network=tiny.replace(reward=True, projection_width=8),
        loss=LossConfig(reward=1.0, consistency=1.0),
    )
