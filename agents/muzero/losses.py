"""The unrolled model's losses.

MuZero (arXiv 1911.08265), equation 1, plus regressions on what coding a frame gave and on
how the episode ended, plus EfficientZero's consistency (arXiv 2111.00210, equation 3):

  l = l_0 + (1 / K) sum_{k=1..K} l_k,
  l_k = w_p H(pi_k, p_k) + w_v H(two_hot(z_k), v_k) + w_r H(two_hot(u_k), r_k)
        + w_c huber(c_k - c^_k) + w_f huber(f - f^_k) - w_s cos(h(s_k), sg(g(s~_k)))

where H is cross-entropy, z the value's target, u the reward, c_k (k >= 1) bits and PSNR
of the frame coded by action k, f the episode's overshoot and PSNR gain, s_k the state that
the dynamics reach, s~_k that of the decision really seen, g the projector, h the predictor
behind it, sg no gradient. The factor 1/K and the halved gradient at the dynamics' input
are appendix G's. Every term has its own weights per sample and step, 0 for what is not
known.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jmp
import optax

from muzero_rc.agents.config import LossConfig
from muzero_rc.agents.muzero.networks import Networks, Params, Transition
from muzero_rc.agents.muzero.support import expectation, two_hot
from muzero_rc.agents.muzero.targets import Batch

__all__ = [
    "Unrolled",
    "cosine",
    "loss",
    "loss_of_unrolled",
    "scale_gradient",
    "step_weights",
    "unroll",
]

Metrics = dict[str, jax.Array]


class Unrolled(NamedTuple):
    """Predictions at the root (index 0) and after each of K actions.

    Attributes:
      policy_logits: [B, K + 1, 256].
      value_logits: [B, K + 1, value_bins].
      frame_rd: [B, K, 2], normalised log2 bits per pixel and PSNR.
      episode_rd: [B, K + 1, 2], normalised overshoot and PSNR gain.
      reward_logits: [B, K, value_bins]; None without rewards in the model.
      similarity: [B, K] cosine between the states reached and those seen; None without
        the consistency loss.
    """

    policy_logits: jax.Array
    value_logits: jax.Array
    frame_rd: jax.Array
    episode_rd: jax.Array
    reward_logits: jax.Array | None = None
    similarity: jax.Array | None = None


def scale_gradient(x: jax.Array, scale: float) -> jax.Array:
    """Passes x on, with its gradient multiplied by `scale` (MuZero, appendix G)."""
    return x * scale + jax.lax.stop_gradient(x) * (1.0 - scale)


def unroll(networks: Networks, params: Params, batch: Batch, dynamics_gradient: float) -> Unrolled:
    """Runs the model from the root's tokens along the batch's actions."""
    root = networks.representation(params, batch.tokens)

    def step(state: jax.Array, action: jax.Array) -> tuple[jax.Array, Transition]:
        found = networks.dynamics(params, scale_gradient(state, dynamics_gradient), action)
        return found.state, found

    # A scan instead of a Python loop: it compiles K times faster and runs as fast.
    _, found = jax.lax.scan(step, root, jnp.asarray(batch.actions).T)
    next_state = found.state.swapaxes(0, 1)  # [B, K, S]
    states = jnp.concatenate([root[:, None], next_state], axis=1)
    prediction = networks.prediction(params, states)
    similarity = None
    if batch.next_observation is not None:
        _, guess = networks.projection(params, next_state)
        really, _ = networks.projection(params, networks.states(params, batch.next_observation))
        similarity = cosine(guess, jax.lax.stop_gradient(really))
    return Unrolled(
        policy_logits=prediction.policy_logits,
        value_logits=prediction.value_logits,
        frame_rd=found.frame_rd.swapaxes(0, 1),
        episode_rd=prediction.episode_rd,
        reward_logits=(None if found.reward_logits is None else found.reward_logits.swapaxes(0, 1)),
        similarity=similarity,
    )


def cosine(a: jax.Array, b: jax.Array) -> jax.Array:
    """Cosine of the angle between vectors, 0 if one is zero. [..., P], [..., P] -> [...]."""
    length = jnp.sum(jnp.square(a), -1) * jnp.sum(jnp.square(b), -1)
    return jnp.sum(a * b, -1) * jax.lax.rsqrt(jnp.maximum(length, 1e-12))


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
    steps = step_weights(unrolled.frame_rd.shape[1])
    weight = jnp.asarray(batch.weight)[:, None]
    policy, policy_weight = jnp.asarray(batch.policy), weight * batch.policy_weight
    value_weight = weight * batch.value_weight
    frame_rd_weight = weight[..., None] * batch.frame_rd_weight
    episode_rd_weight = weight[..., None] * jnp.asarray(batch.episode_rd_weight)[:, None]

    cross_entropy = optax.softmax_cross_entropy(unrolled.policy_logits, policy)
    value_target = two_hot(jnp.asarray(batch.value), unrolled.value_logits.shape[-1])
    value_loss = optax.softmax_cross_entropy(unrolled.value_logits, value_target)
    frame_rd_loss = optax.huber_loss(
        unrolled.frame_rd, jnp.asarray(batch.frame_rd), delta=config.huber_delta
    )
    episode_rd_loss = optax.huber_loss(
        unrolled.episode_rd, jnp.asarray(batch.episode_rd)[:, None], delta=config.huber_delta
    )

    def mean(terms: jax.Array, weights: jax.Array, steps: jax.Array) -> jax.Array:
        return jnp.mean(jnp.sum(terms * weights * steps, axis=1))

    total = (
        config.policy * mean(cross_entropy, policy_weight, steps)
        + config.value * mean(value_loss, value_weight, steps)
        + config.bits * mean(frame_rd_loss[..., 0], frame_rd_weight[..., 0], steps[1:])
        + config.psnr * mean(frame_rd_loss[..., 1], frame_rd_weight[..., 1], steps[1:])
        + config.final_overshoot * mean(episode_rd_loss[..., 0], episode_rd_weight[..., 0], steps)
        + config.final_psnr * mean(episode_rd_loss[..., 1], episode_rd_weight[..., 1], steps)
    )

    def average(terms: jax.Array, weights: jax.Array) -> jax.Array:
        weights = jnp.broadcast_to(weights, terms.shape)
        return jnp.sum(terms * weights) / jnp.maximum(jnp.sum(weights), 1e-6)

    extra: Metrics = {}
    if config.reward and unrolled.reward_logits is not None and batch.reward is not None:
        reward_target = two_hot(jnp.asarray(batch.reward), unrolled.reward_logits.shape[-1])
        reward_loss = optax.softmax_cross_entropy(unrolled.reward_logits, reward_target)
        reward_weight = weight * jnp.asarray(batch.reward_weight)
        total += config.reward * mean(reward_loss, reward_weight, steps[1:])
        extra["reward"] = average(reward_loss, reward_weight)
    if config.consistency and unrolled.similarity is not None:
        next_weight = weight * jnp.asarray(batch.next_observation_weight)
        total -= config.consistency * mean(unrolled.similarity, next_weight, steps[1:])
        extra["consistency"] = average(-unrolled.similarity, next_weight)

    entropy = -jnp.sum(jax.scipy.special.xlogy(policy, policy), axis=-1)
    best, wanted = jnp.argmax(unrolled.policy_logits[:, 0], -1), jnp.argmax(policy[:, 0], -1)
    distance = jnp.abs(best - wanted).astype(jnp.float32)
    value_distance = jnp.abs(expectation(unrolled.value_logits) - batch.value)
    metrics = {
        "loss": total,
        "policy": average(cross_entropy, policy_weight),
        "policy_kl": average(cross_entropy - entropy, policy_weight),
        "value": average(value_loss, value_weight),
        "bits": average(frame_rd_loss[..., 0], frame_rd_weight[..., 0]),
        "psnr": average(frame_rd_loss[..., 1], frame_rd_weight[..., 1]),
        "final_overshoot": average(episode_rd_loss[..., 0], episode_rd_weight[..., 0]),
        "final_psnr": average(episode_rd_loss[..., 1], episode_rd_weight[..., 1]),
        "accuracy": average((distance == 0).astype(jnp.float32), policy_weight[:, 0]),
        "offset_error": average(distance, policy_weight[:, 0]),
        "value_error": average(value_distance, value_weight),
        **extra,
    }
    return total, metrics


def loss(
    params: Params,
    networks: Networks,
    batch: Batch,
    config: LossConfig,
    arithmetic: jmp.Policy | None = None,
) -> tuple[jax.Array, Metrics]:
    """`loss_of_unrolled` of the model's own unroll, to be differentiated by `params`.

    With `arithmetic` the networks compute in its compute type (jmp's mixed precision); the
    loss itself is always float32.
    """
    if arithmetic is None:
        unrolled = unroll(networks, params, batch, config.dynamics_gradient)
        return loss_of_unrolled(unrolled, batch, config)
    low, tokens, next_observation = arithmetic.cast_to_compute(
        (params, batch.tokens, batch.next_observation)
    )
    cast = batch._replace(tokens=tokens, next_observation=next_observation)
    unrolled = arithmetic.cast_to_output(unroll(networks, low, cast, config.dynamics_gradient))
    return loss_of_unrolled(unrolled, batch, config)
