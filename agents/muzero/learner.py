"""The learner: one compiled update, and its state on disk."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jmp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from muzero_rc.agents.config import AgentConfig, LossConfig, NetworkConfig, OptimizerConfig
from muzero_rc.agents.muzero.losses import loss
from muzero_rc.agents.muzero.networks import Params, initial_params, make_networks, zero_params
from muzero_rc.agents.muzero.targets import Batch
from muzero_rc.checkpoint import read_arrays, write_arrays
from muzero_rc.errors import CheckpointError, InputError

__all__ = [
    "LEARNER_FORMAT",
    "Learner",
    "LearnerState",
    "load_batch",
    "make_optimizer",
    "save_batch",
]

LEARNER_FORMAT = "muzero_rc-learner"
BATCH_FORMAT = "muzero_rc-batch"
_VERSION = 2


class LearnerState(NamedTuple):
    """All that an update changes.

    Attributes:
      params: of the networks.
      opt_state: optax's.
      step: updates so far, int32 scalar.
      target: parameters of the target network; None if there is none.
    """

    params: Params
    opt_state: optax.OptState
    step: jax.Array
    target: Params | None = None


def make_optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
    """AdamW (Loshchilov & Hutter, arXiv 1711.05101) behind global norm clipping.

    The rate rises linearly, then stays or falls along a cosine. Only matrices decay.
    """
    peak = config.learning_rate
    warmup = optax.linear_schedule(peak / max(config.warmup_steps, 1), peak, config.warmup_steps)
    after: optax.Schedule = optax.constant_schedule(peak)
    if config.decay_steps:
        after = optax.cosine_decay_schedule(
            peak, config.decay_steps - config.warmup_steps, alpha=config.final_rate
        )
    schedule = optax.join_schedules([warmup, after], [config.warmup_steps])

    def is_matrix(params: Params) -> Any:
        return jax.tree.map(lambda leaf: leaf.ndim >= 2, params)

    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(schedule, weight_decay=config.weight_decay, mask=is_matrix),
    )


class Learner:
    """Holds parameters and optimizer state; `update` improves them by one batch.

    One shape of batch compiles once. Imitation and self-play batches have the same
    shape and differ in weights only. Arrays in `state` are never overwritten, so
    `params` can be handed to actors while updates go on.

    Attributes:
      config: the agent's configuration.
      state: parameters, optimizer state, number of updates.
    """

    def __init__(self, config: AgentConfig, seed: int = 0, params: Params | None = None) -> None:
        """Makes a learner.

        Args:
          config: the agent's configuration.
          seed: of fresh parameters; the same seed gives the same ones.
          params: start from these instead, with a fresh optimizer.

        Raises:
          InputError: there are not so many devices, or they cannot share a batch evenly.
        """
        self.config = config
        if params is None:
            params = initial_params(config.network, seed)
        params = jax.tree.map(jnp.asarray, params)
        opt_state = make_optimizer(config.optimizer).init(params)
        target = params if config.optimizer.target_every else None
        self.state = LearnerState(params, opt_state, jnp.zeros((), jnp.int32), target)
        self._sharding = _sharding(config.optimizer.devices, config.replay.batch_size)
        self._update = _compiled_update(config.network, config.loss, config.optimizer)
        self._evaluate = _compiled_evaluate(config.network, config.loss)

    @property
    def params(self) -> Params:
        """Parameters now."""
        return self.state.params

    @property
    def target_params(self) -> Params:
        """Parameters that root values come from: the target network's, if there is one."""
        return self.state.params if self.state.target is None else self.state.target

    @property
    def steps(self) -> int:
        """Updates so far."""
        return int(self.state.step)

    def update(self, batch: Batch) -> dict[str, float]:
        """One step of the optimizer.

        Args:
          batch: from `Replay.sample` or `make_batch`; always of the same size.

        Returns:
          Metrics of `losses.loss_of_unrolled` and `gradient_norm`, before the step.

        Raises:
          FloatingPointError: a term of the loss or the gradient is not finite; it is named,
            and the state is left as it was. `save_batch` keeps the batch for a closer look.
        """
        if self._sharding is not None:
            over, whole = self._sharding
            batch = jax.device_put(batch, over)
            self.state = jax.device_put(self.state, whole)  # does nothing after the first
        state, metrics = self._update(self.state, batch)
        numbers = {name: float(value) for name, value in jax.device_get(metrics).items()}
        wrong = [name for name, value in numbers.items() if not math.isfinite(value)]
        if wrong:
            raise FloatingPointError(
                f"update {self.steps}: {', '.join(wrong)} of the loss is not finite"
            )
        self.state = state
        return numbers

    def evaluate(self, batch: Batch) -> dict[str, float]:
        """The metrics of a batch, without learning from it (for held-out clips)."""
        metrics = jax.device_get(self._evaluate(self.params, batch))
        return {name: float(value) for name, value in metrics.items()}

    def save(self, path: str | os.PathLike[str], meta: Mapping[str, Any] | None = None) -> None:
        """Writes state and configuration, atomically.

        Args:
          path: the file.
          meta: anything JSON can hold that belongs with it (counters of the caller).

        Raises:
          OutputError: it cannot be written.
        """
        leaves = _named_leaves(self.state)
        header = {
            "format": LEARNER_FORMAT,
            "format_version": _VERSION,
            "config": self.config.as_dict(),
            "names": list(leaves),
            "meta": dict(meta or {}),
        }
        tree = {f"{i:04d}": leaf for i, leaf in enumerate(leaves.values())}
        write_arrays(path, {"state": tree}, header)

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], config: AgentConfig | None = None
    ) -> tuple[Learner, dict[str, Any]]:
        """Reads a learner back.

        Args:
          path: what `save` wrote.
          config: take this configuration instead of the stored one; networks and
            optimizer must have the same state, rates and weights may differ.

        Returns:
          The learner and the caller's `meta`.

        Raises:
          CheckpointError: missing, damaged, of another format, or of other networks.
        """
        tree, header = read_arrays(path)
        if header.get("format") != LEARNER_FORMAT or header.get("format_version") != _VERSION:
            raise CheckpointError(
                f"{path} is not a learner's checkpoint of this version; start a new run"
            )
        try:
            config = config or AgentConfig.from_dict(header["config"])
            learner = cls(config, params=zero_params(config.network))
            names, stored = list(header["names"]), tree["state"]
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path} cannot be used: {error}; start a new run") from error
        wanted = _named_leaves(learner.state)
        leaves = [stored.get(f"{i:04d}") for i in range(len(names))]
        fits = names == list(wanted) and all(
            leaf is not None and leaf.shape == want.shape and leaf.dtype == want.dtype
            for leaf, want in zip(leaves, wanted.values(), strict=True)
        )
        if not fits:
            raise CheckpointError(
                f"{path} belongs to other networks or another optimizer; start a new run"
            )
        structure = jax.tree.structure(learner.state)
        learner.state = jax.tree.unflatten(structure, [jnp.asarray(leaf) for leaf in leaves])
        meta = header.get("meta")
        return learner, meta if isinstance(meta, dict) else {}


@functools.lru_cache(maxsize=4)
def _compiled_update(
    network: NetworkConfig, weights: LossConfig, optimization: OptimizerConfig
) -> Callable[[LearnerState, Batch], tuple[LearnerState, dict[str, jax.Array]]]:
    """One update for a configuration: learners of one process share what is compiled."""
    networks = make_networks(network)
    optimizer = make_optimizer(optimization)

    arithmetic = _arithmetic(optimization.precision)

    def scaled_loss(params: Params, batch: Batch) -> tuple[jax.Array, dict[str, jax.Array]]:
        return loss(params, networks, batch, weights, arithmetic)

    def update(state: LearnerState, batch: Batch) -> tuple[LearnerState, dict[str, jax.Array]]:
        gradients, metrics = jax.grad(scaled_loss, has_aux=True)(state.params, batch)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics["gradient_norm"] = optax.tree.norm(gradients)
        step = state.step + 1
        target = state.target
        if target is not None:
            renew = step % optimization.target_every == 0
            target = jax.tree.map(lambda new, old: jnp.where(renew, new, old), params, target)
        return LearnerState(params, opt_state, step, target), metrics

    return jax.jit(update)


def _arithmetic(precision: str) -> jmp.Policy:
    """What numbers the networks compute with; parameters and losses stay float32."""
    return jmp.Policy(
        param_dtype=jnp.float32, compute_dtype=jnp.dtype(precision), output_dtype=jnp.float32
    )


def _sharding(devices: int, batch_size: int) -> tuple[NamedSharding, NamedSharding] | None:
    """Batches split over devices (0: all), and state copied to each; None for one device.

    Raises:
      InputError: there are not so many, or they cannot share a batch evenly.
    """
    if devices == 1:
        return None
    there = jax.devices()
    if devices > len(there):
        raise InputError(f"optimizer.devices is {devices}, but there are {len(there)}")
    devices = devices or len(there)
    if batch_size % devices:
        raise InputError(
            f"replay.batch_size must be a multiple of the {devices} devices found, not {batch_size}"
        )
    if devices == 1:
        return None
    mesh = Mesh(np.array(there[:devices]), ("batch",))
    return NamedSharding(mesh, PartitionSpec("batch")), NamedSharding(mesh, PartitionSpec())


@functools.lru_cache(maxsize=4)
def _compiled_evaluate(
    network: NetworkConfig, weights: LossConfig
) -> Callable[[Params, Batch], dict[str, jax.Array]]:
    networks = make_networks(network)

    def evaluate(params: Params, batch: Batch) -> dict[str, jax.Array]:
        return loss(params, networks, batch, weights)[1]

    return jax.jit(evaluate)


def save_batch(path: str | os.PathLike[str], batch: Batch, why: str) -> None:
    """Writes a batch that an update failed on, atomically.

    Raises:
      OutputError: it cannot be written.
    """
    tree = {n: x for n, x in jax.device_get(batch)._asdict().items() if x is not None}
    write_arrays(path, tree, {"format": BATCH_FORMAT, "why": why})


def load_batch(path: str | os.PathLike[str]) -> Batch:
    """Reads what `save_batch` wrote.

    Raises:
      CheckpointError: missing, damaged or something else.
    """
    tree, meta = read_arrays(path)
    if meta.get("format") != BATCH_FORMAT:
        raise CheckpointError(f"{path} is not a batch; give one that a failed update left")
    try:
        return Batch(**tree)
    except TypeError as error:
        raise CheckpointError(f"{path} is a batch of another version: {error}") from error


def _named_leaves(state: LearnerState) -> dict[str, np.ndarray[Any, Any]]:
    paths, _ = jax.tree_util.tree_flatten_with_path(state)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in paths}
