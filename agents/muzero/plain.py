"""Play from the policy head alone, without search; and what a decision consists of."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from muzero_rc.agents.actions import NUM_ACTIONS
from muzero_rc.agents.config import NetworkConfig
from muzero_rc.agents.muzero.networks import Params, make_networks
from muzero_rc.agents.muzero.support import expectation

__all__ = ["HEADS", "ILLEGAL", "Plan", "make_plain"]

ILLEGAL = -1e30
"""Logit of an action that must not be taken."""


class Plan(NamedTuple):
    """A decision and how it came about.

    Attributes:
      action: [B] int32, valid.
      policy: [B, 256] what to learn from: the search's improved policy, or the prior.
      value: [B] root value in [-1, 1], of the search if there was one.
      prior: [B, 256] the network's policy over valid actions.
    """

    action: jax.Array
    policy: jax.Array
    value: jax.Array
    prior: jax.Array


HEADS = ("mode", "mean")
"""How a decision is read from the policy head: the most probable action, or the mean of all."""


@functools.lru_cache(maxsize=8)
def make_plain(
    network: NetworkConfig, head: str = "mode"
) -> Callable[[Params, jax.Array, Any, jax.Array, jax.Array | float], Plan]:
    """Play from the policy head alone, compiled once per batch size and process.

    Args:
      network: what is compiled.
      head: one of `HEADS`. The mean is the better choice where an action is worth less by the
        square of its distance from the best one: valid actions are neighbours, so it is valid.

    Returns:
      (params, rng, tokens, valid, temperature) -> `Plan`; temperature 0 takes the mode or
      the mean of valid actions, above it actions are drawn from p^(1/temperature).
    """
    networks = make_networks(network)
    numbers = jnp.arange(NUM_ACTIONS, dtype=jnp.float32)

    def plain(
        params: Params,
        rng: jax.Array,
        tokens: Any,
        valid: jax.Array,
        temperature: jax.Array | float,
    ) -> Plan:
        state = networks.representation(params, tokens)
        prediction = networks.prediction(params, state)
        logits = jnp.where(valid, prediction.policy_logits, ILLEGAL)
        prior = jax.nn.softmax(logits)
        gumbel = jax.random.gumbel(rng, logits.shape) * temperature  # Gumbel-max trick
        action = jnp.argmax(logits + gumbel, axis=-1)
        if head == "mean":
            action = jnp.where(temperature > 0.0, action, jnp.rint(prior @ numbers))
        action = action.astype(jnp.int32)
        return Plan(action, prior, expectation(prediction.value_logits), prior)

    return jax.jit(plain)
