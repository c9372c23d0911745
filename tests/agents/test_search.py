"""Search on models whose best action is known."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from muzero_rc.agents.config import NetworkConfig, SearchConfig
from muzero_rc.agents.muzero.networks import Networks, Prediction, Transition, initial_params
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
        episode_rd=jnp.zeros((*value.shape, 2)),
    )


def bandit(values: np.ndarray | jax.Array, favoured: np.ndarray) -> Networks:
    """A model whose state after the first action is worth that action's value."""

    def representation(params: Any, tokens: Any) -> jax.Array:
        return jnp.full((tokens["frame"].shape[0], 1), -1.0)

    def dynamics(params: Any, state: jax.Array, action: jax.Array) -> Transition:
        first = jnp.where(state[:, 0] < 0, action.astype(jnp.float32), state[:, 0])
        return Transition(first[:, None], jnp.zeros((state.shape[0], 2)), None)

    def prediction(params: Any, state: jax.Array) -> Prediction:
        taken = state[:, 0].astype(jnp.int32)
        value = jnp.where(taken >= 0, jnp.asarray(values)[taken], 0.0)
        return _prediction(value, jnp.asarray(favoured))

    return _networks(representation, dynamics, prediction)


def _networks(representation: Any, dynamics: Any, prediction: Any) -> Networks:
    def unused(*arguments: Any) -> Any:
        raise AssertionError("the search has no use for it")

    return Networks(
        init=unused, representation=representation, states=unused, dynamics=dynamics,
        prediction=prediction, projection=unused,
    )  # fmt: skip


@functools.lru_cache
def _compiled(config: SearchConfig) -> Any:
    """One search for all bandits, valid arms and scales of noise."""
    favoured = np.zeros(256, bool)
    favoured[100:116] = True
    batch = {"frame": np.zeros((2, 1), np.float32)}

    def run(rng: jax.Array, values: jax.Array, valid: jax.Array, gumbel_scale: jax.Array) -> Any:
        return search(bandit(values, favoured), {}, rng, batch, valid, config, gumbel_scale)

    return jax.jit(run)


def _play(
    values: np.ndarray, valid: np.ndarray, seeds: range, config: SearchConfig, scale: float = 1.0
) -> tuple[np.ndarray, Any]:
    run, both = _compiled(config), np.tile(valid, (2, 1))
    plans = [run(jax.random.key(seed), values, both, np.float32(scale)) for seed in seeds]
    return np.concatenate([plan.action for plan in plans]), plans[0]


GUMBEL = SearchConfig(simulations=32, max_considered=16, depth=4)


def test_the_best_arm_is_found() -> None:
    values = np.full(256, -0.5, np.float32)
    values[107] = 0.7
    actions, plan = _play(values, np.ones(256, bool), range(3), GUMBEL, scale=0.0)
    assert (actions == 107).all()
    assert (plan.policy.argmax(-1) == 107).all() and (plan.policy[:, 107] > 0.9).all()
    np.testing.assert_allclose(plan.policy.sum(-1), 1.0, atol=1e-5)
    # The prior is uniform over sixteen: without search no arm stands out.
    np.testing.assert_allclose(plan.prior[:, 107], 1 / 16, rtol=0.1)
    assert (plan.value > -0.45).all() and (np.abs(plan.value) <= 1).all()
    # Gumbel noise trades some of it for exploration: far more than 1/16, not always.
    noisy, _ = _play(values, np.ones(256, bool), range(20), GUMBEL)
    assert (noisy == 107).mean() > 0.8


def test_an_invalid_arm_is_never_taken_however_good() -> None:
    values = np.full(256, -0.5, np.float32)
    values[107], values[103] = 1.0, 0.4
    valid = np.ones(256, bool)
    valid[107] = False
    noisy, plan = _play(values, valid, range(20), GUMBEL)
    assert (noisy != 107).all() and (noisy == 103).mean() > 0.6
    assert (plan.policy[:, 107] == 0).all() and (plan.prior[:, 107] == 0).all()
    quiet, _ = _play(values, valid, range(3), GUMBEL, scale=0.0)
    assert (quiet == 103).all()


def test_puct_finds_the_best_arm_and_never_takes_an_invalid_one() -> None:
    values = np.full(256, -0.5, np.float32)
    values[107], values[103] = 1.0, 0.4
    config = SearchConfig(algorithm="puct", simulations=200, depth=4, temperature=0.0)
    actions, plan = _play(values, np.ones(256, bool), range(1), config, scale=0.0)
    assert (actions == 107).all() and (plan.policy.argmax(-1) == 107).all()
    np.testing.assert_allclose(plan.policy.sum(-1), 1.0, atol=1e-5)
    valid = np.ones(256, bool)
    valid[107] = False
    actions, plan = _play(values, valid, range(4), config)
    assert (actions != 107).all() and (actions == 103).mean() > 0.6
    assert (plan.policy[:, 107] == 0).all()


def test_the_plan_is_what_mctx_finds_on_the_same_numbers() -> None:
    """Both algorithms against mctx called by hand, with a table in place of networks."""
    import mctx

    rng = np.random.default_rng(0)
    values = rng.uniform(-1, 1, 256).astype(np.float32)
    values = np.asarray(np.round((values + 1) * 20) / 20 - 1, np.float32)  # on the atoms
    favoured = np.zeros(256, bool)
    favoured[100:140] = True
    valid = rng.random((2, 256)) < 0.7
    networks = bandit(values, favoured)
    batch = {"frame": np.zeros((2, 1), np.float32)}
    key = jax.random.key(3)

    def step(params: Any, rng: Any, action: Any, state: Any) -> Any:
        first = jnp.where(state[:, 0] < 0, action.astype(jnp.float32), state[:, 0])
        value = jnp.asarray(values)[first.astype(jnp.int32)]
        logits = jnp.broadcast_to(jnp.where(jnp.asarray(favoured), 0.0, -8.0), (2, 256))
        zero = jnp.zeros(2)
        output = mctx.RecurrentFnOutput(
            reward=zero, discount=zero + 1.0, prior_logits=logits, value=value
        )
        return output, first[:, None]

    root = mctx.RootFnOutput(
        prior_logits=jnp.where(valid, jnp.where(jnp.asarray(favoured), 0.0, -8.0), -1e30),
        value=jnp.zeros(2),
        embedding=jnp.full((2, 1), -1.0),
    )
    common: dict[str, Any] = {
        "params": (), "rng_key": key, "root": root, "recurrent_fn": step,
        "num_simulations": 24, "invalid_actions": ~valid, "max_depth": 3,
    }  # fmt: skip
    wanted = {
        "gumbel": lambda: mctx.gumbel_muzero_policy(
            **common, max_num_considered_actions=8,
            qtransform=lambda tree, node: mctx.qtransform_completed_by_mix_value(
                tree, node, value_scale=0.2, maxvisit_init=30.0, rescale_values=False
            ),
        ),
        "puct": lambda: mctx.muzero_policy(
            **common, pb_c_init=1.5, dirichlet_alpha=0.5, dirichlet_fraction=0.3, temperature=0.7,
            qtransform=lambda tree, node: mctx.qtransform_by_min_max(
                tree, node, min_value=-1.0, max_value=1.0
            ),
        ),
    }  # fmt: skip
    for algorithm, by_hand in wanted.items():
        config = SearchConfig(
            algorithm=algorithm, simulations=24, depth=3, max_considered=8, value_scale=0.2,
            maxvisit_init=30.0, pb_c_init=1.5, dirichlet_alpha=0.5, dirichlet_fraction=0.3,
            temperature=0.7,
        )  # fmt: skip
        plan = jax.jit(
            lambda key, c=config: search(networks, {}, key, batch, jnp.asarray(valid), c)
        )(key)
        output = jax.jit(by_hand)()
        np.testing.assert_array_equal(plan.action, output.action)
        np.testing.assert_allclose(plan.policy, output.action_weights, atol=1e-3)
        tree = output.search_tree
        np.testing.assert_allclose(plan.value, tree.node_values[:, 0], atol=1e-3)


def test_with_rewards_in_the_model_the_search_adds_them_up() -> None:
    """Values say nothing; the one reward is two steps away, behind one first action."""

    def representation(params: Any, tokens: Any) -> jax.Array:
        return jnp.full((tokens["frame"].shape[0], 1), -1.0)

    def dynamics(params: Any, state: jax.Array, action: jax.Array) -> Transition:
        # 0..255: the first action was that; 300: the end, where nothing comes any more.
        first = state[:, 0] < 0
        taken = jnp.where(first, action.astype(jnp.float32), 300.0)
        reward = jnp.where(state[:, 0] == 107.0, 0.8, 0.0)
        logits = jnp.log(two_hot(reward, BINS) + 1e-9)
        return Transition(taken[:, None], jnp.zeros((state.shape[0], 2)), logits)

    def prediction(params: Any, state: jax.Array) -> Prediction:
        favoured = np.zeros(256, bool)
        favoured[104:112] = True
        return _prediction(jnp.zeros(state.shape[0]), jnp.asarray(favoured))

    networks = _networks(representation, dynamics, prediction)
    batch = {"frame": np.zeros((1, 1), np.float32)}
    for config in (
        SearchConfig(simulations=64, max_considered=8, depth=3, gumbel_scale=0.0),
        SearchConfig(
            algorithm="puct", simulations=64, depth=3, dirichlet_fraction=0.0, temperature=0.0
        ),
    ):
        run = jax.jit(functools.partial(search, networks, {}, config=config))
        plan = run(jax.random.key(0), batch, jnp.ones((1, 256), bool))
        assert int(plan.action[0]) == 107
        assert 0.2 < float(plan.value[0]) <= 0.81, "counted once, however long it goes on"


def test_equal_arms_leave_the_prior_as_it_is() -> None:
    zero, every = np.zeros(256, np.float32), np.ones(256, bool)
    actions, plan = _play(zero, every, range(20), GUMBEL)
    np.testing.assert_allclose(plan.policy, plan.prior, atol=1e-3)
    assert len(set(actions.tolist())) > 5, "with noise the choice among equals varies"
    quiet, _ = _play(zero, every, range(5), GUMBEL, scale=0.0)
    assert len(set(quiet.tolist())) == 1


def test_compiled_once_per_batch_size_and_never_for_new_parameters(tiny: NetworkConfig) -> None:
    run = make_search(tiny, SearchConfig(simulations=3, depth=2))
    params = initial_params(tiny, 0)
    valid = np.ones((2, 256), bool)
    for seed in range(3):
        params = jax.tree.map(lambda leaf: leaf * 1.01, params)
        gumbel_scale = np.float32(seed)
        plan = run(params, jax.random.key(seed), zero_tokens(tiny, 2), valid, gumbel_scale)
    assert plan.action.dtype == jnp.int32 and plan.action.shape == (2,)
    assert run._cache_size() == 1  # type: ignore[attr-defined]


def test_without_search_greedy_takes_the_proposal_and_heat_samples_around_it(
    tiny: NetworkConfig,
) -> None:
    run = make_plain(tiny)
    params = initial_params(tiny, 0)
    tokens, valid = zero_tokens(tiny, 64), np.ones((64, 256), bool)
    valid[:, 129:] = False
    greedy = run(params, jax.random.key(0), tokens, valid, np.float32(0))
    assert (greedy.action == 128).all()
    hot = run(params, jax.random.key(0), tokens, valid, np.float32(1))
    assert (hot.action <= 128).all() and len(np.unique(hot.action)) > 3
    assert np.abs(np.asarray(hot.action) - 128).max() < 6 * tiny.policy_sigma
    np.testing.assert_allclose(greedy.prior.sum(-1), 1.0, atol=1e-5)
    assert (greedy.prior[:, 129:] == 0).all()
    np.testing.assert_allclose(greedy.value, 0.0, atol=1e-6)


def test_the_mean_of_the_head_is_among_valid_actions_and_heat_samples_as_before(
    tiny: NetworkConfig,
) -> None:
    params = initial_params(tiny, 0)
    tokens, valid = zero_tokens(tiny, 64), np.ones((64, 256), bool)
    valid[:, 129:] = False  # of a bell around 128 the lower half is left
    mode, mean = make_plain(tiny), make_plain(tiny, "mean")
    found = mean(params, jax.random.key(0), tokens, valid, np.float32(0))
    wanted = np.rint(np.asarray(found.prior) @ np.arange(256))
    assert (
        (found.action == wanted).all() and (wanted < 128).all() and found.action.dtype == jnp.int32
    )
    arguments = (params, jax.random.key(0), tokens, valid, np.float32(1))
    assert (mean(*arguments).action == mode(*arguments).action).all()
    valid[:, :128] = False
    assert (mean(params, jax.random.key(0), tokens, valid, np.float32(0)).action == 128).all()
