"""The search over the learned model, through mctx: Gumbel MuZero, or MuZero's own.

Gumbel MuZero: Danihelka et al. 2022, "Policy improvement by planning with Gumbel" (ICLR).
PUCT: Schrittwieser et al. 2020 (arXiv 1911.08265), appendix B, equation 2.

The return is the episode's outcome in [-1, 1] at its end and the discount is one. Without
rewards in the model the value alone carries the outcome, and states past the end keep it;
with them the search adds up the rewards predicted, and the value past the end is zero.
Either way ends are absorbing because the losses teach the model so: how many frames are
left is the encoder's to decide, and no state says it for certain.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import mctx

from muzero_rc.agents.config import NetworkConfig, SearchConfig
from muzero_rc.agents.muzero.networks import Networks, Params, make_networks
from muzero_rc.agents.muzero.plain import ILLEGAL, Plan
from muzero_rc.agents.muzero.support import expectation

__all__ = ["make_search", "search"]


def search(
    networks: Networks,
    params: Params,
    rng: jax.Array,
    tokens: Any,
    valid: jax.Array,
    config: SearchConfig,
    gumbel_scale: jax.Array | float = 1.0,
) -> Plan:
    """Searches from a batch of roots.

    Valid actions are known at the root only; the proposals of later frames, and so
    which of their actions are valid, are the model's to guess.

    Args:
      networks: the model.
      params: its parameters.
      rng: consumed.
      tokens: [B, ...] as made by `Tokenizer.batch`.
      valid: [B, 256] bool.
      config: simulations and the rest.
      gumbel_scale: factor on the configuration's exploration: Gumbel's scale, or PUCT's noise and
        temperature; 0 takes the best action found.

    Returns:
      The plan; `policy` are mctx's action weights.
    """

    def step(
        params: Params, rng: jax.Array, action: jax.Array, state: jax.Array
    ) -> tuple[mctx.RecurrentFnOutput, jax.Array]:
        del rng  # the model is deterministic
        next_state, _, reward_logits = networks.dynamics(params, state, action)
        prediction = networks.prediction(params, next_state)
        value = expectation(prediction.value_logits)
        output = mctx.RecurrentFnOutput(
            reward=jnp.zeros_like(value) if reward_logits is None else expectation(reward_logits),
            discount=jnp.ones_like(value),
            prior_logits=prediction.policy_logits,
            value=value,
        )
        return output, next_state

    state = networks.representation(params, tokens)
    prediction = networks.prediction(params, state)
    logits = jnp.where(valid, prediction.policy_logits, ILLEGAL)
    root = mctx.RootFnOutput(
        prior_logits=logits,
        value=expectation(prediction.value_logits),
        embedding=state,
    )

    run = _puct if config.algorithm == "puct" else _gumbel
    output = run(params, rng, root, step, jnp.logical_not(valid), config, gumbel_scale)
    return Plan(
        action=output.action.astype(jnp.int32),
        policy=output.action_weights,
        value=output.search_tree.node_values[:, 0],
        prior=jax.nn.softmax(logits),
    )


def _gumbel(
    params: Params,
    rng: jax.Array,
    root: Any,
    step: Callable[..., Any],
    invalid: jax.Array,
    config: SearchConfig,
    gumbel_scale: jax.Array | float,
) -> Any:
    qtransform = functools.partial(
        mctx.qtransform_completed_by_mix_value,
        value_scale=config.value_scale,
        maxvisit_init=config.maxvisit_init,
        rescale_values=config.rescale_values,
    )
    return mctx.gumbel_muzero_policy(
        params=params,
        rng_key=rng,
        root=root,
        recurrent_fn=step,
        num_simulations=config.simulations,
        invalid_actions=invalid,
        max_depth=config.depth,
        qtransform=qtransform,
        max_num_considered_actions=config.max_considered,
        gumbel_scale=config.gumbel_scale * gumbel_scale,
    )


def _puct(
    params: Params,
    rng: jax.Array,
    root: Any,
    step: Callable[..., Any],
    invalid: jax.Array,
    config: SearchConfig,
    gumbel_scale: jax.Array | float,
) -> Any:
    # Known bounds, as for board games in MuZero's pseudocode, unless values are stretched.
    qtransform = (
        mctx.qtransform_by_parent_and_siblings
        if config.rescale_values
        else functools.partial(mctx.qtransform_by_min_max, min_value=-1.0, max_value=1.0)
    )
    return mctx.muzero_policy(
        params=params,
        rng_key=rng,
        root=root,
        recurrent_fn=step,
        num_simulations=config.simulations,
        invalid_actions=invalid,
        max_depth=config.depth,
        qtransform=qtransform,
        dirichlet_fraction=config.dirichlet_fraction * gumbel_scale,
        dirichlet_alpha=config.dirichlet_alpha,
        pb_c_init=config.pb_c_init,
        pb_c_base=config.pb_c_base,
        temperature=config.temperature * gumbel_scale,
    )


@functools.lru_cache(maxsize=8)
def make_search(
    network: NetworkConfig, config: SearchConfig
) -> Callable[[Params, jax.Array, Any, jax.Array, jax.Array | float], Plan]:
    """`search` compiled: once per batch size and process.

    Returns:
      (params, rng, tokens, valid, heat) -> `Plan`.
    """
    networks = make_networks(network)

    def planned(
        params: Params,
        rng: jax.Array,
        tokens: Any,
        valid: jax.Array,
        gumbel_scale: jax.Array | float,
    ) -> Plan:
        return search(networks, params, rng, tokens, valid, config, gumbel_scale)

    return jax.jit(planned)
