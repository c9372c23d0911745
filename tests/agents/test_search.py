"""Search on models whose best action is known."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from muzero_rc.agents.config import NetworkConfig, SearchConfig
from muzero_rc.agents.muzero.networks import Networks, Prediction, initial_params
from muzero_rc.agents.muzero.plain import make_plain
from muzero_rc.agents.muzero.search import make_search, search
from muzero_rc.agents.muzero.support import two_hot
from muzero_rc.agents.tokens import zero_tokens

BINS = 41


def _prediction(value: jax.Array, favoured: jax.Array) -> Prediction:
    logits = jnp.where(favoured, 0.0, -8.0)
    return Prediction(
        policy_logits=jnp.broadcast_to(logits, (*value.shape, 256)),
        value_logits=jnp.log(two_hot(value, BINS) + 1e-9),
        final=jnp.zeros((*value.shape, 2)),
    )


def bandit(values: np.ndarray, favoured: np.ndarray) -> Networks:
    """A model whose state after the first action is worth that action's value."""

    def representation(params: Any, tokens: Any) -> jax.Array:
        return jnp.full((tokens["frame"].shape[0], 1), -1.0)

    def dynamics(params: Any, state: jax.Array, action: jax.Array) -> tuple[jax.Array, jax.Array]:
        first = jnp.where(state[:, 0] < 0, action.astype(jnp.float32), state[:, 0])
        return first[:, None], jnp.zeros((state.shape[0], 2))

    def prediction(params: Any, state: jax.Array) -> Prediction:
        taken = state[:, 0].astype(jnp.int32)
        value = jnp.where(taken >= 0, jnp.asarray(values)[taken], 0.0)
        return _prediction(value, jnp.asarray(favoured))

    return Networks(lambda rng, tokens: {}, representation, dynamics, prediction)


def _play(
    values: np.ndarray, legal: np.ndarray, seeds: range, config: SearchConfig
) -> tuple[np.ndarray, Any]:
    favoured = np.zeros(256, bool)
    favoured[100:116] = True
    networks = bandit(values, favoured)
    batch = {"frame": np.zeros((2, 1), np.float32)}
    run = jax.jit(lambda rng: search(networks, {}, rng, batch, np.tile(legal, (2, 1)), config))
    plans = [run(jax.random.key(seed)) for seed in seeds]
    return np.concatenate([plan.action for plan in plans]), plans[0]


def test_the_best_arm_is_found() -> None:
    values = np.full(256, -0.5, np.float32)
    values[107] = 0.7
    config = SearchConfig(simulations=32, max_considered=16, depth=4, gumbel_scale=0.0)
    actions, plan = _play(values, np.ones(256, bool), range(3), config)
    assert (actions == 107).all()
    assert (plan.policy.argmax(-1) == 107).all() and (plan.policy[:, 107] > 0.9).all()
    np.testing.assert_allclose(plan.policy.sum(-1), 1.0, atol=1e-5)
    # The prior is uniform over sixteen: without search no arm stands out.
    np.testing.assert_allclose(plan.prior[:, 107], 1 / 16, rtol=0.1)
    assert (plan.value > -0.45).all() and (np.abs(plan.value) <= 1).all()
    # Gumbel noise trades some of it for exploration: far more than 1/16, not always.
    noisy, _ = _play(values, np.ones(256, bool), range(20), config.replace(gumbel_scale=1.0))
    assert (noisy == 107).mean() > 0.8


def test_an_illegal_arm_is_never_taken_however_good() -> None:
    values = np.full(256, -0.5, np.float32)
    values[107], values[103] = 1.0, 0.4
    legal = np.ones(256, bool)
    legal[107] = False
    config = SearchConfig(simulations=32, depth=4)
    noisy, plan = _play(values, legal, range(20), config)
    assert (noisy != 107).all() and (noisy == 103).mean() > 0.6
    assert (plan.policy[:, 107] == 0).all() and (plan.prior[:, 107] == 0).all()
    quiet, _ = _play(values, legal, range(3), config.replace(gumbel_scale=0.0))
    assert (quiet == 103).all()


def test_equal_arms_leave_the_prior_as_it_is() -> None:
    config = SearchConfig(simulations=16)
    actions, plan = _play(np.zeros(256, np.float32), np.ones(256, bool), range(20), config)
    np.testing.assert_allclose(plan.policy, plan.prior, atol=1e-3)
    assert len(set(actions.tolist())) > 5, "with noise the choice among equals varies"
    quiet, _ = _play(
        np.zeros(256, np.float32), np.ones(256, bool), range(5), config.replace(gumbel_scale=0.0)
    )
    assert len(set(quiet.tolist())) == 1


def test_compiled_once_per_batch_size_and_never_for_new_parameters(tiny: NetworkConfig) -> None:
    run = make_search(tiny, SearchConfig(simulations=3, depth=2))
    params = initial_params(tiny, 0)
    legal = np.ones((2, 256), bool)
    for seed in range(3):
        params = jax.tree.map(lambda leaf: leaf * 1.01, params)
        heat = np.float32(seed)
        plan = run(params, jax.random.key(seed), zero_tokens(tiny, 2), legal, heat)
    assert plan.action.dtype == jnp.int32 and plan.action.shape == (2,)
    assert run._cache_size() == 1  # type: ignore[attr-defined]


def test_without_search_greedy_takes_the_proposal_and_heat_samples_around_it(
    tiny: NetworkConfig,
) -> None:
    run = make_plain(tiny)
    params = initial_params(tiny, 0)
    tokens, legal = zero_tokens(tiny, 64), np.ones((64, 256), bool)
    legal[:, 129:] = False
    greedy = run(params, jax.random.key(0), tokens, legal, np.float32(0))
    assert (greedy.action == 128).all()
    hot = run(params, jax.random.key(0), tokens, legal, np.float32(1))
    assert (hot.action <= 128).all() and len(np.unique(hot.action)) > 3
    assert np.abs(np.asarray(hot.action) - 128).max() < 6 * tiny.policy_sigma
    np.testing.assert_allclose(greedy.prior.sum(-1), 1.0, atol=1e-5)
    assert (greedy.prior[:, 129:] == 0).all()
    np.testing.assert_allclose(greedy.value, 0.0, atol=1e-6)
