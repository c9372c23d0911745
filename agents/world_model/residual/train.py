"""Trains residuals: AdamW on batches of studies, all encodes of a study at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax

from muzero_rc.agents.world_model.accuracy import models_outside
from muzero_rc.agents.world_model.normal_equations import NormalEquations, Ridge
from muzero_rc.agents.world_model.residual.arrays import Scale, StudyArrays, study_arrays
from muzero_rc.agents.world_model.residual.config import NetworkConfig
from muzero_rc.agents.world_model.residual.loss import LossWeights, losses
from muzero_rc.agents.world_model.residual.model import Residual
from muzero_rc.agents.world_model.residual.network import network
from muzero_rc.agents.world_model.study import Study

__all__ = ["TrainSettings", "fit_residual", "to_learn_from", "train_residual"]

_CROSS_FOLDS = 8
"""Of the linear models that a residual is trained on: none has seen its study. Set by hand."""

_WARM_UP = 50  # updates until the learning rate is at its highest; by hand

_Tree = TypeVar("_Tree")


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """Of one network.

    Steps, noise and dropout are of a few that were tried on one fold of training sources; the
    rest is set by hand.

    Attributes:
      steps: updates.
      batch: studies of an update.
      rate: highest learning rate; it falls to zero by a cosine.
      decay: of the weights, AdamW's (arXiv 1711.05101).
      noise: standard deviation of what is added to standardised features.
      weights: of the loss.
      network: its sizes.
    """

    steps: int = 400
    batch: int = 16
    rate: float = 1e-3
    decay: float = 0.01
    noise: float = 0.1
    weights: LossWeights = field(default_factory=LossWeights)
    network: NetworkConfig = field(default_factory=NetworkConfig)


def _taken(studies: _Tree, rows: npt.NDArray[np.int64]) -> _Tree:
    taken: _Tree = jax.tree.map(lambda values: values[rows], studies)
    return taken


def train_residual(
    studies: StudyArrays,
    settings: TrainSettings,
    seed: int,
    model: hk.Transformed | None = None,
    beside: tuple[npt.NDArray[np.generic], ...] = (),
) -> hk.Params:
    """The parameters of one network after all steps.

    Args:
      studies: to learn from.
      settings: of the training.
      seed: of the first parameters, the order of studies, dropout and noise.
      model: another network in the place of `network`, for trials.
      beside: arrays [B, ...] that this one is given after the arguments of `network`.
    """
    model = network(settings.network) if model is None else model
    random = np.random.default_rng(seed)
    key = jax.random.key(seed)
    one, more = _taken((studies.clip, beside), np.arange(1))
    params = jax.jit(lambda key: model.init(key, one.tokens, one.frames, True, *more))(key)
    schedule = optax.warmup_cosine_decay_schedule(0.0, settings.rate, _WARM_UP, settings.steps)
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=settings.decay)
    )
    state = optimizer.init(params)

    @jax.jit
    def update(
        params: hk.Params,
        state: optax.OptState,
        batch: StudyArrays,
        more: tuple[jax.Array, ...],
        key: jax.Array,
    ) -> tuple[hk.Params, optax.OptState]:
        def loss(params: hk.Params) -> jax.Array:
            drop, jitter = jax.random.split(key)
            tokens = jnp.asarray(batch.clip.tokens)
            tokens += settings.noise * jax.random.normal(jitter, tokens.shape)
            added = model.apply(params, drop, tokens, batch.clip.frames, True, *more)
            return losses(batch.clip.linear + added, batch, settings.weights)

        changes, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, changes), state

    order = np.zeros(0, np.int64)
    for _ in range(settings.steps):
        if len(order) < settings.batch:
            order = np.concatenate([order, random.permutation(len(studies.encodes))])
        rows, order = order[: settings.batch], order[settings.batch :]
        key, own = jax.random.split(key)
        params, state = update(params, state, *_taken((studies, beside), rows), own)
    return params


def fit_residual(
    studies: Sequence[Study],
    sums: Mapping[str, NormalEquations],
    ridge: Ridge,
    settings: TrainSettings,
    seeds: Sequence[int],
    on_step: Callable[[str], None] = lambda text: None,
) -> Residual:
    """An ensemble, a member for each seed.

    Args:
      studies: to learn from, of several sources.
      sums: normal equations of these sources and no others.
      ridge: of the linear models.
      settings: of the training.
      seeds: one for each member.
      on_step: told of every member.
    """
    scale, arrays = to_learn_from(studies, sums, ridge)
    members = []
    for seed in seeds:
        params = train_residual(arrays, settings, seed)
        members.append(jax.tree.map(np.asarray, params))
        on_step(f"member {len(members)} of {len(seeds)}")
    return Residual(members, scale, settings.network)


def to_learn_from(
    studies: Sequence[Study], sums: Mapping[str, NormalEquations], ridge: Ridge
) -> tuple[Scale, StudyArrays]:
    """What a residual is trained on; arguments as of `fit_residual`.

    Each study is corrected from a linear model that has not seen its source: what that gets
    wrong is what the model of all sources gets wrong on new ones.
    """
    models = models_outside(sums, ridge, _CROSS_FOLDS)
    scale = Scale.of(studies)
    return scale, study_arrays(studies, [models[study.source] for study in studies], scale, 0.5)
