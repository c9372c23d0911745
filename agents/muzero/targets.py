"""What the unrolled model is trained towards, built from episodes with numpy.

One sample starts at step t of an episode and unrolls K actions. Where an episode has
nothing to say (no teacher, no reward, past its end) the target's weight is zero, so
that imitation and self-play batches pass through one compiled update.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
import numpy.typing as npt

from muzero_rc.agents.actions import NUM_ACTIONS
from muzero_rc.agents.muzero.trajectory import Trajectory
from muzero_rc.agents.tokens import Tokenizer, Tokens

__all__ = [
    "Batch",
    "make_batch",
    "normalise_frame_rd",
    "normalise_episode_rd",
    "value_targets",
]

_Array = npt.NDArray[np.float32]

# Centre and scale of (log2 bits per pixel, PSNR dB) of a frame and of (overshoot,
# PSNR gain dB) of an episode, so that errors of one are worth noticing in all four.
_FRAME_RD_CENTRE = np.array([-4.0, 40.0], np.float32)
_FRAME_RD_SCALE = np.array([3.0, 8.0], np.float32)
_EPISODE_RD_SCALE = np.array([0.1, 0.5], np.float32)
_EPISODE_RD_LIMIT = 5.0  # an overshoot of 50% is as bad as any


class Batch(NamedTuple):
    """B samples of K unrolled actions.

    Attributes:
      tokens: what was seen at the root, arrays [B, ...].
      actions: [B, K] int32.
      policy: [B, K + 1, 256] distribution over actions.
      value: [B, K + 1] outcome in [-1, 1].
      frame_rd: [B, K, 2] bits and PSNR of the frame that each action coded, normalised.
      episode_rd: [B, 2] overshoot and PSNR gain of the episode, normalised.
      policy_weight: [B, K + 1].
      value_weight: [B, K + 1].
      frame_rd_weight: [B, K, 2].
      episode_rd_weight: [B, 2].
      weight: [B] of the sample as a whole.
      reward: [B, K] reward of each action, in [-1, 1]; None without rewards in the model.
      reward_weight: [B, K]; None likewise.
      next_observation: tokens of the K decisions after the root, `Tokenizer.steps`; None without
        the consistency loss. Past the end the last decision stands.
      next_observation_weight: [B, K], 0 past the end; None likewise.
    """

    tokens: Tokens | dict[str, jax.Array]
    actions: npt.NDArray[np.int32] | jax.Array
    policy: _Array | jax.Array
    value: _Array | jax.Array
    frame_rd: _Array | jax.Array
    episode_rd: _Array | jax.Array
    policy_weight: _Array | jax.Array
    value_weight: _Array | jax.Array
    frame_rd_weight: _Array | jax.Array
    episode_rd_weight: _Array | jax.Array
    weight: _Array | jax.Array
    reward: _Array | jax.Array | None = None
    reward_weight: _Array | jax.Array | None = None
    next_observation: Tokens | dict[str, jax.Array] | None = None
    next_observation_weight: _Array | jax.Array | None = None


def normalise_frame_rd(frame_rd: npt.ArrayLike) -> _Array:
    """[..., 2] (log2 bits per pixel, PSNR dB) -> the network's scale."""
    return np.asarray((np.asarray(frame_rd, np.float32) - _FRAME_RD_CENTRE) / _FRAME_RD_SCALE)


def normalise_episode_rd(episode_rd: npt.ArrayLike) -> _Array:
    """[..., 2] (overshoot, PSNR gain dB) -> the network's scale, limited to +-5."""
    scaled = np.asarray(episode_rd, np.float32) / _EPISODE_RD_SCALE
    return np.asarray(np.clip(scaled, -_EPISODE_RD_LIMIT, _EPISODE_RD_LIMIT))


def value_targets(
    episode: Trajectory, step: int, unroll_steps: int, *, n_step: int, reward: bool
) -> _Array:
    """z_t .. z_{t+K}: what the value is trained towards.

    MuZero (arXiv 1911.08265), section 3: z_t = u_{t+1} + ... + u_{t+n} + v_{t+n}, discount
    1. The only reward u is the outcome at the end, so z_t is the root value found n steps
    on, or the outcome where the end is nearer than that, or with n = 0 wherever t is.

    Args:
      episode: of N decisions.
      step: t.
      unroll_steps: K.
      n_step: n; 0 for the outcome.
      reward: the model predicts rewards, so that past the end nothing is left to come;
        without it the outcome stays in the value, as in MuZero's board games.

    Returns:
      [K + 1]; NaN where the episode has no reward.
    """
    length = len(episode)
    at = np.arange(step, step + unroll_steps + 1)
    target = np.full(unroll_steps + 1, episode.outcome, np.float32)
    if n_step:
        ahead = at + n_step
        inside = ahead < length
        values = episode.values[np.minimum(ahead, length - 1)]
        target = np.where(inside & np.isfinite(values), values, target)
    if reward:
        target = np.where(at < length, target, 0.0 * episode.outcome)
    return np.asarray(target, np.float32)


def make_batch(
    samples: Sequence[tuple[Trajectory, int]],
    tokenizer: Tokenizer,
    unroll_steps: int,
    rng: np.random.Generator,
    weights: npt.ArrayLike | None = None,
    *,
    n_step: int = 0,
    reward: bool = False,
    consistency: bool = False,
) -> Batch:
    """Observations, actions and targets of samples.

    As in MuZero (arXiv 1911.08265, appendix G): steps past the end are absorbing states
    whose policy is not trained and which are reached by random actions; values and rewards
    there are `value_targets`' and zero.

    Args:
      samples: B pairs of episode and step.
      tokenizer: makes the root's tokens.
      unroll_steps: K.
      rng: draws the actions past the end.
      weights: [B] sample weights; 1 if not given.
      n_step: of the value's targets.
      reward: make targets of the reward.
      consistency: make tokens of the K decisions after the root.

    Returns:
      The batch, numpy.
    """
    size, k = len(samples), unroll_steps
    actions = rng.integers(0, NUM_ACTIONS, (size, k), dtype=np.int32)
    policy = np.zeros((size, k + 1, NUM_ACTIONS), np.float32)
    policy_weight = np.zeros((size, k + 1), np.float32)
    value = np.zeros((size, k + 1), np.float32)
    frame_rd = np.full((size, k, 2), np.nan, np.float32)
    episode_rd = np.empty((size, 2), np.float32)
    rewards = np.zeros((size, k), np.float32)
    inside = np.zeros((size, k), np.float32)
    for row, (episode, step) in enumerate(samples):
        here = slice(step, min(step + k + 1, len(episode)))
        found = here.stop - step
        policy[row, :found] = episode.policies[here]
        policy_weight[row, :found] = episode.policy_weights[here]
        acted = min(found, k)
        actions[row, :acted] = episode.actions[step : step + acted]
        frame_rd[row, :acted, 0] = episode.bits[step : step + acted]
        frame_rd[row, :acted, 1] = episode.psnr[step : step + acted]
        value[row] = value_targets(episode, step, k, n_step=n_step, reward=reward)
        episode_rd[row] = episode.overshoot, episode.psnr_gain
        last = len(episode) - 1 - step  # the action that ends the episode
        rewards[row] = 0.0 * episode.outcome
        if last < k:
            rewards[row, last] = episode.outcome
        inside[row, : found - 1] = 1.0
    # float16 storage rounds; cross-entropy needs exact distributions.
    policy /= np.maximum(policy.sum(axis=-1, keepdims=True), 1e-6)
    frame_rd, episode_rd = normalise_frame_rd(frame_rd), normalise_episode_rd(episode_rd)
    known, frame_rd_known = np.isfinite(value), np.isfinite(frame_rd)
    episode_rd_known, reward_known = np.isfinite(episode_rd), np.isfinite(rewards)
    weight = np.ones(size, np.float32) if weights is None else np.asarray(weights, np.float32)
    next_observation = None
    if consistency:
        runs = [
            [episode.observation(min(step + n, len(episode) - 1)) for n in range(1, k + 1)]
            for episode, step in samples
        ]
        next_observation = tokenizer.steps(runs)
    return Batch(
        tokens=tokenizer.batch([episode.observation(step) for episode, step in samples]),
        actions=actions,
        policy=policy,
        value=np.where(known, value, 0.0).astype(np.float32),
        frame_rd=np.where(frame_rd_known, frame_rd, 0.0).astype(np.float32),
        episode_rd=np.where(episode_rd_known, episode_rd, 0.0).astype(np.float32),
        policy_weight=policy_weight,
        value_weight=known.astype(np.float32),
        frame_rd_weight=frame_rd_known.astype(np.float32),
        episode_rd_weight=episode_rd_known.astype(np.float32),
        weight=weight,
        reward=np.where(reward_known, rewards, 0.0).astype(np.float32) if reward else None,
        reward_weight=reward_known.astype(np.float32) if reward else None,
        next_observation=next_observation,
        next_observation_weight=inside if consistency else None,
    )
