"""The unrolled model's losses.

MuZero (arXiv 1911.08265), equation 1 without the reward term (rewards before the end
are zero), plus regressions on what coding a frame gave and on how the episode ended:

  l = l_0 + (1 / K) sum_{k=1..K} l_k,
  l_k = w_p H(pi_k, p_k) + w_v H(two_hot(z), v_k) + w_c huber(c_k - c^_k)
        + w_f huber(f - f^_k)

where H is cross-entropy, z the outcome, c_k (k >= 1) bits and PSNR of the frame coded
by action k, f the episode's overshoot and PSNR gain. The factor 1/K and the halved
gradient at the dynamics' input are appendix G's. Every term has its own weights per
sample and step, 0 for what is not known.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from muzero_rc.agents.config import LossConfig
from muzero_rc.agents.muzero.networks import Networks, Params
from muzero_rc.agents.muzero.support import expectation, two_hot
from muzero_rc.agents.muzero.targets import Batch

__all__ = ["Unrolled", "loss", "loss_of_unrolled", "scale_gradient", "step_weights", "unroll"]

Metrics = dict[str, jax.Array]


class Unrolled(NamedTuple):
    """Predictions at the root (index 0) and after each of K actions.

    Attributes:
      policy_logits: [B, K + 1, 256].
      value_logits: [B, K + 1, value_bins].
      coded: [B, K, 2], normalised log2 bits per pixel and PSNR.
      final: [B, K + 1, 2], normalised overshoot and PSNR gain.
    """

    policy_logits: jax.Array
    value_logits: jax.Array
    coded: jax.Array
    final: jax.Array


def scale_gradient(x: jax.Array, scale: float) -> jax.Array:
    """Passes x on, with its gradient multiplied by `scale` (MuZero, appendix G)."""
    return x * scale + jax.lax.stop_gradient(x) * (1.0 - scale)


def unroll(networks: Networks, params: Params, batch: Batch, dynamics_gradient: float) -> Unrolled:
    """Runs the model from the root's tokens along the batch's actions."""
    root = networks.representation(params, batch.tokens)

    def step(state: jax.Array, action: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        state, coded = networks.dynamics(params, scale_gradient(state, dynamics_gradient), action)
        return state, (state, coded)

    # A scan instead of a Python loop: it compiles K times faster and runs as fast.
    _, (following, coded) = jax.lax.scan(step, root, jnp.asarray(batch.actions).T)
    states = jnp.concatenate([root[None], following]).swapaxes(0, 1)  # [B, K + 1, S]
    prediction = networks.prediction(params, states)
    return Unrolled(
        policy_logits=prediction.policy_logits,
        value_logits=prediction.value_logits,
        coded=coded.swapaxes(0, 1),
        final=prediction.final,
    )


def step_weights(unroll_steps: int) -> jax.Array:
    """1 for the root, 1/K for each unrolled step. [K + 1]."""
    return jnp.concatenate([jnp.ones(1), jnp.full(unroll_steps, 1.0 / unroll_steps)])


def loss_of_unrolled(
    unrolled: Unrolled, batch: Batch, config: LossConfig
) -> tuple[jax.Array, Metrics]:
    """The loss of predictions against targets, and what to log.

    Args:
      unrolled: predictions.
      batch: targets and weights.
      config: weights of the terms.

    Returns:
      Scalar, the mean over samples of sample weight times l; and metrics: each term as
      its weighted mean (nats, or Huber in normalised units), `policy_kl`, `accuracy`
      (most probable action is the target's), `offset_error` (distance of the two in
      qindex steps), `value_error` (mean absolute).
    """
    steps = step_weights(unrolled.coded.shape[1])
    weight = jnp.asarray(batch.weight)[:, None]
    policy, policy_weight = jnp.asarray(batch.policy), weight * batch.policy_weight
    value_weight = weight * batch.value_weight
    coded_weight = weight[..., None] * batch.coded_weight
    final_weight = weight[..., None] * jnp.asarray(batch.final_weight)[:, None]

    cross_entropy = optax.softmax_cross_entropy(unrolled.policy_logits, policy)
    value_target = two_hot(jnp.asarray(batch.value), unrolled.value_logits.shape[-1])
    value_loss = optax.softmax_cross_entropy(unrolled.value_logits, value_target)
    coded_loss = optax.huber_loss(
        unrolled.coded, jnp.asarray(batch.coded), delta=config.huber_delta
    )
    final_loss = optax.huber_loss(
        unrolled.final, jnp.asarray(batch.final)[:, None], delta=config.huber_delta
    )

    def mean(terms: jax.Array, weights: jax.Array, steps: jax.Array) -> jax.Array:
        return jnp.mean(jnp.sum(terms * weights * steps, axis=1))

    total = (
        config.policy * mean(cross_entropy, policy_weight, steps)
        + config.value * mean(value_loss, value_weight, steps)
        + config.bits * mean(coded_loss[..., 0], coded_weight[..., 0], steps[1:])
        + config.psnr * mean(coded_loss[..., 1], coded_weight[..., 1], steps[1:])
        + config.final_overshoot * mean(final_loss[..., 0], final_weight[..., 0], steps)
        + config.final_psnr * mean(final_loss[..., 1], final_weight[..., 1], steps)
    )

    def average(terms: jax.Array, weights: jax.Array) -> jax.Array:
        weights = jnp.broadcast_to(weights, terms.shape)
        return jnp.sum(terms * weights) / jnp.maximum(jnp.sum(weights), 1e-6)

    entropy = -jnp.sum(jax.scipy.special.xlogy(policy, policy), axis=-1)
    best, wanted = jnp.argmax(unrolled.policy_logits[:, 0], -1), jnp.argmax(policy[:, 0], -1)
    distance = jnp.abs(best - wanted).astype(jnp.float32)
    value_distance = jnp.abs(expectation(unrolled.value_logits) - batch.value)
    metrics = {
        "loss": total,
        "policy": average(cross_entropy, policy_weight),
        "policy_kl": average(cross_entropy - entropy, policy_weight),
        "value": average(value_loss, value_weight),
        "bits": average(coded_loss[..., 0], coded_weight[..., 0]),
        "psnr": average(coded_loss[..., 1], coded_weight[..., 1]),
        "final_overshoot": average(final_loss[..., 0], final_weight[..., 0]),
        "final_psnr": average(final_loss[..., 1], final_weight[..., 1]),
        "accuracy": average((distance == 0).astype(jnp.float32), policy_weight[:, 0]),
        "offset_error": average(distance, policy_weight[:, 0]),
        "value_error": average(value_distance, value_weight),
    }
    return total, metrics


def loss(
    params: Params, networks: Networks, batch: Batch, config: LossConfig
) -> tuple[jax.Array, Metrics]:
    """`loss_of_unrolled` of the model's own unroll, to be differentiated by `params`."""
    unrolled = unroll(networks, params, batch, config.dynamics_gradient)
    return loss_of_unrolled(unrolled, batch, config)
