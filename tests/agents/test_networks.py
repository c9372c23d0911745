"""The three networks: what they are before training, and what they depend on."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muzero_rc.agents.actions import CENTRE
from muzero_rc.agents.config import NetworkConfig
from muzero_rc.agents.muzero.networks import (
    Networks,
    count_parameters,
    initial_params,
    make_networks,
    parameter_shapes,
)
from muzero_rc.agents.tokens import Tokenizer
from muzero_rc.types import Observation


@functools.cache
def _compiled(config: NetworkConfig) -> Networks:
    return Networks(*(jax.jit(function) for function in make_networks(config)))


@pytest.fixture(scope="module")
def params(tiny: NetworkConfig) -> Any:
    return initial_params(tiny, 0)


@pytest.fixture(scope="module")
def shaken(params: Any) -> Any:
    """Parameters whose zero-initialised parts have been moved."""
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: np.asarray(leaf) + 0.05 * rng.normal(size=leaf.shape).astype(np.float32),
        params,
    )


def test_shapes(
    tiny: NetworkConfig, params: Any, make_observations: Callable[..., list[Observation]]
) -> None:
    networks = _compiled(tiny)
    state = networks.representation(params, Tokenizer(tiny).batch(make_observations(0, 7)))
    assert state.shape == (7, tiny.state_width)
    next_observation, frame_rd, reward = networks.dynamics(params, state, jnp.arange(7))
    assert reward is None, "rewards are an option"
    assert next_observation.shape == state.shape and frame_rd.shape == (7, 2)
    prediction = networks.prediction(params, next_observation)
    assert prediction.policy_logits.shape == (7, 256)
    assert prediction.value_logits.shape == (7, tiny.value_bins)
    assert prediction.episode_rd.shape == (7, 2)
    for hidden in (state, next_observation):  # MuZero's scaling, here by LayerNorm
        np.testing.assert_allclose(hidden.mean(-1), 0.0, atol=1e-5)
        np.testing.assert_allclose(hidden.std(-1), 1.0, atol=1e-3)


def test_the_untrained_policy_is_a_bump_at_the_proposal_in_every_state(
    tiny: NetworkConfig, params: Any
) -> None:
    networks = _compiled(tiny)
    state = np.random.default_rng(0).normal(size=(5, tiny.state_width)).astype(np.float32)
    prediction = networks.prediction(params, state)
    steps = np.arange(256) - CENTRE
    expected = np.tile(-0.5 * (steps / tiny.policy_sigma) ** 2, (5, 1))
    np.testing.assert_allclose(prediction.policy_logits, expected, rtol=1e-5, atol=1e-5)
    assert (prediction.value_logits == 0).all() and (prediction.episode_rd == 0).all()


def test_the_untrained_policy_is_uniform_in_the_absolute_frame(
    tiny: NetworkConfig, params: Any
) -> None:
    config = tiny.replace(action_frame="absolute")
    networks = _compiled(config)
    assert set(parameter_shapes(config)) < set(params), "the same without the bump"
    logits = networks.prediction(params, jnp.ones((1, config.state_width))).policy_logits
    assert (logits == 0).all()


def test_same_seed_same_parameters(tiny: NetworkConfig, params: Any) -> None:
    again, other = initial_params(tiny, 0), initial_params(tiny, 1)
    same = jax.tree.map(np.array_equal, params, again)
    assert all(jax.tree.leaves(same))
    differs = jax.tree.map(lambda a, b: not np.array_equal(a, b), params, other)
    assert any(jax.tree.leaves(differs))
    shapes = jax.tree.map(lambda leaf: leaf.shape, dict(params))
    assert shapes == parameter_shapes(tiny)


@pytest.mark.parametrize(
    "name", ["window", "segments", "segment_position", "history", "history_position", "frame",
             "globals", "scalars"],
)  # fmt: skip
def test_the_state_depends_on_every_kind_of_token(
    tiny: NetworkConfig, shaken: Any, name: str,
    make_observations: Callable[..., list[Observation]],
) -> None:  # fmt: skip
    networks = _compiled(tiny)
    tokens = Tokenizer(tiny).batch(make_observations(1, 12)[6:7])
    before = networks.representation(shaken, tokens)
    tokens[name] = tokens[name] + np.asarray(1, tokens[name].dtype)
    after = networks.representation(shaken, tokens)
    assert np.abs(after - before).max() > 1e-4


@pytest.mark.parametrize("name", ["window", "segments", "history"])
def test_the_state_does_not_depend_on_padding(
    tiny: NetworkConfig, shaken: Any, name: str,
    make_observations: Callable[..., list[Observation]],
) -> None:  # fmt: skip
    networks = _compiled(tiny)
    tokens = Tokenizer(tiny).batch(make_observations(1, 2)[1:])
    before = networks.representation(shaken, tokens)
    mask = tokens["segment_mask" if name == "segments" else f"{name}_mask"]
    assert not mask.all()
    tokens[name][~mask] = 7.0
    np.testing.assert_allclose(networks.representation(shaken, tokens), before, atol=1e-5)


def test_dynamics_depend_on_the_action_smoothly_at_first(tiny: NetworkConfig, params: Any) -> None:
    networks = _compiled(tiny)
    state = np.tile(np.random.default_rng(0).normal(size=tiny.state_width), (3, 1))
    next_observation, _, _ = networks.dynamics(
        params, state.astype(np.float32), jnp.array([128, 129, 168])
    )
    near = np.abs(next_observation[1] - next_observation[0]).max()
    far = np.abs(next_observation[2] - next_observation[0]).max()
    assert 0 < near < far


def test_default_size_is_small() -> None:
    config = NetworkConfig(
        clip_features=28, history_features=20, frame_features=45, global_features=26
    )
    shapes = parameter_shapes(config)
    total = sum(int(np.prod(shape)) for leaves in shapes.values() for shape in leaves.values())
    assert total * 4 < 8e6, "a policy file stays below 8 MB"


def test_count_parameters(params: Any) -> None:
    assert count_parameters(params) == sum(leaf.size for leaf in jax.tree.leaves(params))
    assert count_parameters({"a": {"w": jnp.zeros((3, 4)), "b": jnp.zeros(4)}}) == 16
