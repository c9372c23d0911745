"""MuZero's three functions: representation, dynamics, prediction.

Schrittwieser et al. 2020 (arXiv 1911.08265), with a Perceiver as representation and, as
in MuZero-RC (arXiv 2202.06626), auxiliary predictions of what coding a frame gives and of
how the episode ends; if asked for, rewards, and the projection of EfficientZero (Ye et
al. 2021, arXiv 2111.00210). Sizes are ours, small enough for one CPU core.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import haiku as hk
import jax
import jax.numpy as jnp

from muzero_rc.agents.actions import CENTRE, NUM_ACTIONS
from muzero_rc.agents.config import NetworkConfig
from muzero_rc.agents.perceiver import fourier_features
from muzero_rc.agents.representation import make_representation
from muzero_rc.agents.tokens import zero_tokens

__all__ = [
    "Networks",
    "Params",
    "Prediction",
    "Transition",
    "count_parameters",
    "initial_params",
    "make_networks",
    "parameter_shapes",
    "zero_params",
]

Params: TypeAlias = Mapping[str, Mapping[str, jax.Array]]
"""Parameters of all three networks: module name -> parameter name -> array."""

_ACTION_SCALE = 64.0  # qindex steps that count as one in the dynamics' input
_ACTION_BANDS = 6
_EMBEDDING = 16
_MEAN_SCALE = 16.0  # qindex steps per unit of the policy head's output
_MIN_SIGMA, _MAX_SIGMA = 0.5, 64.0


class Prediction(NamedTuple):
    """What is read off a hidden state.

    Attributes:
      policy_logits: [B, 256], actions in the configuration's action frame, unmasked.
      value_logits: [B, value_bins], categorical on [-1, 1].
      episode_rd: [B, 2], the episode's overshoot and PSNR gain, normalised as in `targets`.
    """

    policy_logits: jax.Array
    value_logits: jax.Array
    episode_rd: jax.Array


class Transition(NamedTuple):
    """What an action leads to.

    Attributes:
      state: [B, S], the next state.
      frame_rd: [B, 2], log2 bits per pixel and PSNR of the frame coded by that action,
        normalised as in `targets`.
      reward_logits: [B, value_bins], categorical on [-1, 1]; None if the configuration has
        no rewards in the model.
    """

    state: jax.Array
    frame_rd: jax.Array
    reward_logits: jax.Array | None


class Networks(NamedTuple):
    """Pure functions of parameters; batch first, `prediction` takes any leading axes.

    Attributes:
      init: (rng, tokens) -> params.
      representation: (params, tokens [B, ...]) -> state [B, S].
      states: (params, tokens of runs of T decisions, `Tokenizer.steps`) -> [B, T, S].
      dynamics: (params, state [B, S], action [B] int32) -> `Transition`.
      prediction: (params, state [B, S]) -> `Prediction`.
      projection: (params, state [..., S]) -> what the consistency loss compares: of a
        state that was really seen, [..., P], and the guess at it from a state that the
        dynamics reached, [..., P]. Only with `projection_width`.
    """

    init: Callable[[jax.Array, Any], Params]
    representation: Callable[[Params, Any], jax.Array]
    states: Callable[[Params, Any], jax.Array]
    dynamics: Callable[[Params, jax.Array, jax.Array], Transition]
    prediction: Callable[[Params, jax.Array], Prediction]
    projection: Callable[[Params, jax.Array], tuple[jax.Array, jax.Array]]


def _scale_state(state: jax.Array) -> jax.Array:
    """Keeps states in one range for representation and dynamics.

    MuZero's appendix G scales to [0, 1] by minimum and maximum; a LayerNorm without
    parameters serves the same end with a smooth gradient.
    """
    return hk.LayerNorm(axis=-1, create_scale=False, create_offset=False)(state)


class _Dynamics(hk.Module):
    """State and action -> next state, and what coding the frame gave."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(name="dynamics")
        self._config = config

    def __call__(self, state: jax.Array, action: jax.Array) -> Transition:
        c = self._config
        step = (action.astype(jnp.float32) - CENTRE)[..., None]
        smooth = fourier_features(step / CENTRE, _ACTION_BANDS, 64.0, concat_position=False)
        # Zero at first: actions that were never tried behave as their neighbours do.
        own = hk.Embed(NUM_ACTIONS, _EMBEDDING, w_init=jnp.zeros)(action)
        parts = [state, step / _ACTION_SCALE, smooth, own]
        inputs = jnp.concatenate(parts, axis=-1).astype(state.dtype)
        hidden = jax.nn.gelu(hk.Linear(c.dynamics_width)(inputs))
        hidden = jax.nn.gelu(hk.Linear(c.dynamics_width)(hidden))
        next_state = _scale_state(state + hk.Linear(c.state_width)(hidden))
        frame_rd = hk.nets.MLP([c.head_width, 2], activation=jax.nn.gelu, name="coded")(next_state)
        reward = None
        if c.reward:
            wide = jax.nn.gelu(hk.Linear(c.head_width, name="reward_hidden")(next_state))
            reward = hk.Linear(c.value_bins, w_init=jnp.zeros, name="reward")(wide)
        return Transition(next_state, frame_rd, reward)


class _Prediction(hk.Module):
    """State -> policy, value, end of the episode."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(name="prediction")
        self._config = config

    def __call__(self, state: jax.Array) -> Prediction:
        c = self._config

        def zero_linear(size: int, name: str) -> hk.Linear:
            return hk.Linear(size, w_init=jnp.zeros, name=name)

        hidden = jax.nn.gelu(hk.Linear(c.head_width, name="policy_hidden")(state))
        logits = zero_linear(NUM_ACTIONS, "policy")(hidden)
        if c.action_frame == "proposal":
            logits += self._bump(zero_linear(2, "policy_bump")(hidden))
        hidden = jax.nn.gelu(hk.Linear(c.head_width, name="value_hidden")(state))
        value = zero_linear(c.value_bins, "value")(hidden)
        episode_rd = zero_linear(2, "final")(hidden)
        return Prediction(logits, value, episode_rd)

    def _bump(self, outputs: jax.Array) -> jax.Array:
        """-(a - mean)^2 / (2 sigma^2), mean and sigma read from the state.

        At first mean is the proposal itself and sigma is `policy_sigma`, for every state:
        the untrained policy is libvpx's, with narrow exploration. One number moves all of
        the bump, which learns from far fewer samples than 256 separate logits; those are
        there beside it for what is not a bump.
        """
        mean = CENTRE + _MEAN_SCALE * outputs[..., :1]
        sigma = self._config.policy_sigma * jnp.exp(outputs[..., 1:])
        sigma = jnp.clip(sigma, _MIN_SIGMA, max(_MAX_SIGMA, self._config.policy_sigma))
        actions = jnp.arange(NUM_ACTIONS, dtype=jnp.float32)
        return -0.5 * jnp.square((actions - mean) / sigma)


class _Projection(hk.Module):
    """State -> what the consistency loss compares.

    SimSiam's projector and predictor (Chen & He 2020, arXiv 2011.10566) as in EfficientZero,
    section 4.1; with LayerNorm instead of BatchNorm, which needs no running averages.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(name="projection")
        self._config = config

    def __call__(self, state: jax.Array) -> tuple[jax.Array, jax.Array]:
        width = max(self._config.projection_width, 1)

        def layer(x: jax.Array, size: int, name: str) -> jax.Array:
            normed = hk.LayerNorm(-1, create_scale=True, create_offset=True, name=f"{name}_norm")
            return jax.nn.gelu(normed(hk.Linear(size, name=name)(x)))

        projected = hk.Linear(width, name="projector")(layer(state, width, "projector_hidden"))
        narrow = layer(projected, max(width // 4, 1), "predictor_hidden")
        return projected, hk.Linear(width, name="predictor")(narrow)


@functools.lru_cache(maxsize=16)
def make_networks(config: NetworkConfig) -> Networks:
    """The functions for a configuration; nothing is computed yet."""

    def build() -> tuple[Callable[..., Any], tuple[Callable[..., Any], ...]]:
        represent = make_representation(config)
        dynamics = _Dynamics(config)
        prediction = _Prediction(config)
        projection = _Projection(config)

        def representation(tokens: Any) -> jax.Array:
            return _scale_state(represent(tokens))

        def states(tokens: Any) -> jax.Array:
            return _scale_state(represent.steps(tokens))

        def everything(tokens: Any) -> Any:
            state = representation(tokens)
            transition = dynamics(state, jnp.zeros(state.shape[:1], jnp.int32))
            compared = projection(state) if config.projection_width else None
            return prediction(transition.state), transition, compared

        return everything, (representation, states, dynamics, prediction, projection)

    transformed = hk.without_apply_rng(hk.multi_transform(build))
    return Networks(transformed.init, *transformed.apply)


def initial_params(config: NetworkConfig, seed: int) -> Params:
    """Fresh parameters; the same seed gives the same ones."""
    params: Params = _compiled_init(config)(jax.random.key(seed), zero_tokens(config, 1))
    return params


@functools.lru_cache(maxsize=4)
def _compiled_init(config: NetworkConfig) -> Callable[..., Any]:
    lowered = jax.jit(make_networks(config).init).lower(jax.random.key(0), zero_tokens(config, 1))
    # Runs once: the compiler's optimizations would take longer than they save.
    return lowered.compile(compiler_options={"xla_backend_optimization_level": "0"})


def parameter_shapes(config: NetworkConfig) -> dict[str, dict[str, tuple[int, ...]]]:
    """Shapes of all parameters, without computing any."""
    networks = make_networks(config)
    shapes = jax.eval_shape(networks.init, jax.random.key(0), zero_tokens(config, 1))
    return {
        module: {name: tuple(leaf.shape) for name, leaf in leaves.items()}
        for module, leaves in shapes.items()
    }


def zero_params(config: NetworkConfig) -> Params:
    """Parameters that are all zero, to be overwritten."""
    return {
        module: {name: jnp.zeros(shape, jnp.float32) for name, shape in leaves.items()}
        for module, leaves in parameter_shapes(config).items()
    }


def count_parameters(params: Params) -> int:
    """Number of weights."""
    return sum(int(leaf.size) for leaf in jax.tree.leaves(params))
