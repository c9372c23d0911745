"""Gumbel MuZero's search over the learned model.

Danihelka et al. 2022, "Policy improvement by planning with Gumbel" (ICLR), through
mctx. The return is the episode's outcome in [-1, 1] at its end, so rewards inside the
model are zero, the discount is one and the value head alone carries the outcome. The
model has no notion of the end: states past it keep their value (absorbing), which is
what the losses teach them.
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
    legal: jax.Array,
    config: SearchConfig,
    gumbel_scale: jax.Array | float | None = None,
) -> Plan:
    """Gumbel MuZero from a batch of roots.

    Legal actions are known at the root only; the proposals of later frames, and so
    which of their actions are legal, are the model's to guess.

    Args:
      networks: the model.
      params: its parameters.
      rng: consumed.
      tokens: [B, ...] as made by `Tokenizer.batch`.
      legal: [B, 256] bool.
      config: simulations and the rest.
      gumbel_scale: instead of the configuration's.

    Returns:
      The plan; `policy` are mctx's action weights.
    """

    def step(
        params: Params, rng: jax.Array, action: jax.Array, state: jax.Array
    ) -> tuple[mctx.RecurrentFnOutput, jax.Array]:
        del rng  # the model is deterministic
        following, _ = networks.dynamics(params, state, action)
        prediction = networks.prediction(params, following)
        value = expectation(prediction.value_logits)
        output = mctx.RecurrentFnOutput(
            reward=jnp.zeros_like(value),
            discount=jnp.ones_like(value),
            prior_logits=prediction.policy_logits,
            value=value,
        )
        return output, following

    state = networks.representation(params, tokens)
    prediction = networks.prediction(params, state)
    logits = jnp.where(legal, prediction.policy_logits, ILLEGAL)
    root = mctx.RootFnOutput(
        prior_logits=logits,
        value=expectation(prediction.value_logits),
        embedding=state,
    )

    def qtransform(tree: Any, node: jax.Array) -> jax.Array:
        values: jax.Array = mctx.qtransform_completed_by_mix_value(
            tree,
            node,
            value_scale=config.value_scale,
            maxvisit_init=config.maxvisit_init,
            rescale_values=config.rescale_values,
        )
        return values

    output = mctx.gumbel_muzero_policy(
        params=params,
        rng_key=rng,
        root=root,
        recurrent_fn=step,
        num_simulations=config.simulations,
        invalid_actions=jnp.logical_not(legal).astype(jnp.float32),
        max_depth=config.depth,
        qtransform=qtransform,
        max_num_considered_actions=config.max_considered,
        gumbel_scale=config.gumbel_scale if gumbel_scale is None else gumbel_scale,
    )
    return Plan(
        action=output.action.astype(jnp.int32),
        policy=output.action_weights,
        value=output.search_tree.node_values[:, 0],
        prior=jax.nn.softmax(logits),
    )


@functools.lru_cache(maxsize=8)
def make_search(
    network: NetworkConfig, config: SearchConfig
) -> Callable[[Params, jax.Array, Any, jax.Array, jax.Array | float], Plan]:
    """`search` compiled: once per batch size and process.

    Returns:
      (params, rng, tokens, legal, gumbel_scale) -> `Plan`.
    """
    networks = make_networks(network)

    def planned(
        params: Params,
        rng: jax.Array,
        tokens: Any,
        legal: jax.Array,
        gumbel_scale: jax.Array | float,
    ) -> Plan:
        return search(networks, params, rng, tokens, legal, config, gumbel_scale)

    return jax.jit(planned)
