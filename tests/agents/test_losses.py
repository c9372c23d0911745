"""Losses and targets against independent numpy, by hand, and by gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muzero_rc.agents.config import LossConfig, NetworkConfig
from muzero_rc.agents.muzero.losses import (
    Unrolled,
    loss,
    loss_of_unrolled,
    scale_gradient,
    step_weights,
    unroll,
)
from muzero_rc.agents.muzero.networks import Networks, initial_params, make_networks
from muzero_rc.agents.muzero.support import expectation, support, two_hot
from muzero_rc.agents.muzero.targets import (
    Batch,
    make_batch,
    normalise_episode_rd,
    normalise_frame_rd,
)
from muzero_rc.agents.muzero.trajectory import Trajectory
from muzero_rc.agents.tokens import Tokenizer

B, K, BINS = 3, 2, 11
_loss_of_unrolled = jax.jit(loss_of_unrolled, static_argnums=2)


def test_two_hot_by_hand() -> None:
    expected = {
        -1.0: [1, 0, 0, 0, 0],
        0.0: [0, 0, 1, 0, 0],
        0.3: [0, 0, 0.4, 0.6, 0],
        1.0: [0, 0, 0, 0, 1],
        7.0: [0, 0, 0, 0, 1],
    }
    for value, weights in expected.items():
        np.testing.assert_allclose(two_hot(jnp.float32(value), 5), weights, atol=1e-6)


@settings(deadline=None, max_examples=40)
@given(value=st.floats(-1, 1, width=32), bins=st.sampled_from([2, 5, 12]))
def test_two_hot_keeps_the_mean_and_sums_to_one(value: float, bins: int) -> None:
    weights = two_hot(jnp.float32(value), bins)
    assert float(weights.sum()) == pytest.approx(1.0, abs=1e-5)
    assert float(weights @ support(bins)) == pytest.approx(value, abs=1e-5)
    assert int((weights > 1e-6).sum()) <= 2
    assert float(expectation(jnp.log(weights + 1e-9))) == pytest.approx(value, abs=1e-4)


def test_the_forward_value_of_a_scaled_gradient_is_unchanged() -> None:
    value, gradient = jax.value_and_grad(lambda x: 3 * scale_gradient(x, 0.25))(2.0)
    assert value == pytest.approx(6.0) and gradient == pytest.approx(0.75)


def _random(rng: np.random.Generator, *shape: int) -> Any:
    return rng.normal(size=shape).astype(np.float32)


def _random_batch(rng: np.random.Generator, tokens: Any = None) -> Batch:
    policy = rng.random((B, K + 1, 256)).astype(np.float32) ** 8
    return Batch(
        tokens=tokens or {},
        actions=rng.integers(0, 256, (B, K)).astype(np.int32),
        policy=policy / policy.sum(-1, keepdims=True),
        value=rng.uniform(-1, 1, (B, K + 1)).astype(np.float32),
        frame_rd=_random(rng, B, K, 2) * 2,
        episode_rd=_random(rng, B, 2) * 2,
        policy_weight=rng.random((B, K + 1)).astype(np.float32),
        value_weight=rng.random((B, K + 1)).astype(np.float32),
        frame_rd_weight=rng.random((B, K, 2)).astype(np.float32),
        episode_rd_weight=rng.random((B, 2)).astype(np.float32),
        weight=rng.random(B).astype(np.float32),
    )


def _numpy_loss(unrolled: Unrolled, batch: Batch, config: LossConfig) -> float:
    """The formula of the module's docstring, term by term, in double precision."""

    def cross_entropy(target: Any, logits: Any) -> float:
        logits = np.asarray(logits, np.float64)
        top = logits.max()
        return float(-(target * (logits - top - np.log(np.exp(logits - top).sum()))).sum())

    def huber(error: float) -> float:
        size, delta = abs(error), config.huber_delta
        return 0.5 * size**2 if size <= delta else delta * (size - 0.5 * delta)

    def atoms(value: float) -> Any:
        position = (value + 1) / 2 * (BINS - 1)
        low = min(int(np.floor(position)), BINS - 2)
        weights = np.zeros(BINS)
        weights[low], weights[low + 1] = 1 - (position - low), position - low
        return weights

    total = 0.0
    for b in range(B):
        for k in range(K + 1):
            terms = (
                config.policy
                * float(batch.policy_weight[b, k])
                * cross_entropy(batch.policy[b, k], unrolled.policy_logits[b, k])
            )
            terms += (
                config.value
                * float(batch.value_weight[b, k])
                * cross_entropy(atoms(float(batch.value[b, k])), unrolled.value_logits[b, k])
            )
            for i, weight in enumerate((config.final_overshoot, config.final_psnr)):
                error = float(unrolled.episode_rd[b, k, i]) - float(batch.episode_rd[b, i])
                terms += weight * float(batch.episode_rd_weight[b, i]) * huber(error)
            if k:
                for i, weight in enumerate((config.bits, config.psnr)):
                    error = float(unrolled.frame_rd[b, k - 1, i]) - float(
                        batch.frame_rd[b, k - 1, i]
                    )
                    terms += weight * float(batch.frame_rd_weight[b, k - 1, i]) * huber(error)
            total += float(batch.weight[b]) * terms / (1 if k == 0 else K)
    return total / B


CONFIG = LossConfig(
    unroll_steps=K, policy=1.1, value=0.7, bits=0.5, psnr=0.3, final_overshoot=0.9,
    final_psnr=0.2, huber_delta=0.8,
)  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_the_loss_equals_its_formula_in_numpy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    batch = _random_batch(rng)
    unrolled = Unrolled(
        policy_logits=jnp.asarray(3 * _random(rng, B, K + 1, 256)),
        value_logits=jnp.asarray(_random(rng, B, K + 1, BINS)),
        frame_rd=jnp.asarray(_random(rng, B, K, 2)),
        episode_rd=jnp.asarray(_random(rng, B, K + 1, 2)),
    )
    total, metrics = _loss_of_unrolled(unrolled, batch, CONFIG)
    assert float(total) == pytest.approx(_numpy_loss(unrolled, batch, CONFIG), rel=1e-4)
    assert all(np.isfinite(float(value)) for value in metrics.values())


def test_the_scan_equals_a_loop_over_the_networks(
    tiny: NetworkConfig, make_episode: Callable[..., Trajectory]
) -> None:
    networks, params = make_networks(tiny), initial_params(tiny, 0)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: np.asarray(leaf) + 0.05 * _random(rng, *leaf.shape), params)
    batch = make_batch([(make_episode(), 3), (make_episode(1), 5)], Tokenizer(tiny), 3, rng)
    got = jax.jit(lambda p: unroll(networks, p, batch, 0.5))(params)
    networks = Networks(*(jax.jit(function) for function in networks))
    state = networks.representation(params, batch.tokens)
    for k in range(4):
        if k:
            state, frame_rd, _ = networks.dynamics(params, state, batch.actions[:, k - 1])
            np.testing.assert_allclose(got.frame_rd[:, k - 1], frame_rd, rtol=1e-4, atol=1e-4)
        prediction = networks.prediction(params, state)
        for name in ("policy_logits", "value_logits", "episode_rd"):
            np.testing.assert_allclose(
                getattr(got, name)[:, k], getattr(prediction, name), rtol=1e-3, atol=1e-3
            )


def test_the_gradient_is_scaled_once_per_dynamics_step(tiny: NetworkConfig) -> None:
    """A loss on step k alone reaches the root's state with scale^k of its gradient."""
    networks, params = make_networks(tiny), initial_params(tiny, 0)
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda leaf: np.asarray(leaf) + 0.05 * _random(rng, *leaf.shape), params)
    root = jnp.asarray(_random(rng, 2, tiny.state_width))
    actions = np.array([[100, 120, 140], [1, 2, 3]], np.int32)

    batch = _random_batch(np.random.default_rng(0))._replace(actions=actions)

    def terms(state: jax.Array, scale: jax.Array) -> jax.Array:
        fixed = networks._replace(representation=lambda params, tokens: state)
        return unroll(fixed, params, batch, scale).frame_rd.sum((0, 2))

    at = jax.jit(jax.jacrev(terms))
    half, whole = at(root, np.float32(0.5)), at(root, np.float32(1.0))
    assert half.shape == (3, *root.shape) and np.abs(whole).max() > 1e-3
    for step in range(3):
        np.testing.assert_allclose(
            half[step], whole[step] * 0.5 ** (step + 1), rtol=1e-4, atol=1e-6
        )


def test_gradients_match_finite_differences(
    tiny: NetworkConfig, make_episode: Callable[..., Trajectory]
) -> None:
    networks, params = make_networks(tiny), initial_params(tiny, 0)
    rng = np.random.default_rng(2)
    config = CONFIG.replace(dynamics_gradient=1.0)  # scaling is not a derivative
    batch = make_batch([(make_episode(), 3)], Tokenizer(tiny), K, rng)
    value = jax.jit(jax.value_and_grad(lambda p: loss(p, networks, batch, config)[0]))
    _, gradient = value(params)
    direction = jax.tree.map(lambda leaf: _random(rng, *leaf.shape), params)
    slope = sum(
        float((g * d).sum())
        for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True)
    )
    step = 2e-4
    ahead = jax.tree.map(lambda p, d: p + step * d, params, direction)
    behind = jax.tree.map(lambda p, d: p - step * d, params, direction)
    measured = (float(value(ahead)[0]) - float(value(behind)[0])) / (2 * step)
    assert measured == pytest.approx(slope, rel=2e-2)


@pytest.mark.parametrize(
    "weight", ["policy_weight", "value_weight", "frame_rd_weight", "episode_rd_weight", "weight"]
)
def test_a_zero_weight_silences_its_target(weight: str) -> None:
    rng = np.random.default_rng(3)
    batch = _random_batch(rng)
    silent = batch._replace(**{weight: np.zeros_like(getattr(batch, weight))})
    target = {"policy_weight": "policy", "weight": "episode_rd"}.get(
        weight, weight[: -len("_weight")]
    )
    changed = silent._replace(**{target: np.zeros_like(getattr(batch, target))})
    unrolled = Unrolled(
        jnp.asarray(_random(rng, B, K + 1, 256)), jnp.asarray(_random(rng, B, K + 1, BINS)),
        jnp.asarray(_random(rng, B, K, 2)), jnp.asarray(_random(rng, B, K + 1, 2)),
    )  # fmt: skip
    before, after, full = (
        float(_loss_of_unrolled(unrolled, b, CONFIG)[0]) for b in (silent, changed, batch)
    )
    assert before == after != full


def test_step_weights() -> None:
    np.testing.assert_allclose(step_weights(4), [1, 0.25, 0.25, 0.25, 0.25])


def test_targets_inside_an_episode(
    tiny: NetworkConfig, make_episode: Callable[..., Trajectory]
) -> None:
    episode = make_episode(0, 12, outcome=-1.0, sigma=2.0)
    batch = make_batch([(episode, 4)], Tokenizer(tiny), 3, np.random.default_rng(0))
    np.testing.assert_array_equal(batch.actions[0], episode.actions[4:7])
    np.testing.assert_allclose(batch.policy[0], episode.policies[4:8], atol=1e-3)
    np.testing.assert_allclose(batch.policy.sum(-1), 1.0, atol=1e-6)
    np.testing.assert_allclose(
        batch.frame_rd[0],
        normalise_frame_rd(np.stack([episode.bits[4:7], episode.psnr[4:7]], -1)),
        rtol=1e-5,
    )
    assert (batch.value == -1).all() and (batch.value_weight == 1).all()
    np.testing.assert_allclose(batch.episode_rd[0], normalise_episode_rd([0.03, -0.2]), rtol=1e-5)
    assert (batch.policy_weight == 1).all() and (batch.frame_rd_weight == 1).all()


def test_past_the_end_states_absorb(
    tiny: NetworkConfig, make_episode: Callable[..., Trajectory]
) -> None:
    episode = make_episode(0, 12)
    batch = make_batch([(episode, 10)], Tokenizer(tiny), 5, np.random.default_rng(0))
    assert batch.policy_weight[0].tolist() == [1, 1, 0, 0, 0, 0]
    assert batch.frame_rd_weight[0, :, 0].tolist() == [1, 1, 0, 0, 0]
    assert (batch.value == 1).all() and (batch.value_weight == 1).all()
    np.testing.assert_array_equal(batch.actions[0, :2], episode.actions[10:])
    assert len(set(batch.actions[0, 2:].tolist())) > 1, "absorbing actions are random"


def test_what_an_episode_does_not_know_has_no_weight(
    tiny: NetworkConfig, make_episode: Callable[..., Trajectory]
) -> None:
    import dataclasses

    known = make_episode()
    episode = dataclasses.replace(
        known, outcome=float("nan"), overshoot=float("nan"),
        bits=np.full_like(known.bits, np.nan), policy_weights=np.zeros_like(known.policy_weights),
    )  # fmt: skip
    batch = make_batch([(episode, 0)], Tokenizer(tiny), 2, np.random.default_rng(0))
    assert (batch.value_weight == 0).all() and (batch.policy_weight == 0).all()
    assert batch.episode_rd_weight[0].tolist() == [0, 1]
    assert batch.frame_rd_weight[0].tolist() == [[0, 1], [0, 1]]
    for array in batch[1:]:
        if array is None:
            continue  # of an option that is off
        assert np.isfinite(array).all()


def test_normalisation_by_hand_limits_disasters() -> None:
    frame_rd = np.array([[-4.0, 40.0], [-1.0, 32.0]])
    np.testing.assert_allclose(normalise_frame_rd(frame_rd), [[0.0, 0.0], [1.0, -1.0]], rtol=1e-5)
    np.testing.assert_allclose(normalise_episode_rd([0.07, -0.4]), [0.7, -0.8], rtol=1e-5)
    assert normalise_episode_rd([9.0, -99.0]).tolist() == [5.0, -5.0]
