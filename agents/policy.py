"""The agent as a `Policy`, and the policy file.

A policy file holds the networks' weights and everything needed to use them rightly:
network configuration with the action frame, observation version, environment, and how
it was trained. It is data only; no code runs at loading.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import numpy.typing as npt

from muzero_rc.agents.actions import qindex_of_action, valid_actions
from muzero_rc.agents.config import NetworkConfig, SearchConfig
from muzero_rc.agents.muzero.networks import Params, parameter_shapes
from muzero_rc.agents.muzero.plain import HEADS, make_plain
from muzero_rc.agents.tokens import Tokenizer
from muzero_rc.checkpoint import read_arrays, write_arrays
from muzero_rc.errors import CheckpointError, InputError
from muzero_rc.policy_identity import PolicyIdentity
from muzero_rc.types import NUM_QINDEX, Observation, QindexPolicy

__all__ = [
    "POLICY_FORMAT",
    "POLICY_VERSION",
    "AgentPolicy",
    "Decisions",
    "load_policy",
    "read_policy",
    "save_policy",
]

POLICY_FORMAT = "muzero_rc-policy"
"""What a policy file says that it is."""

POLICY_VERSION = 1
"""Version of the policy file; bumped when networks change their meaning."""

_LARGEST_BATCH = 64


@dataclass(frozen=True)
class Decisions:
    """What `AgentPolicy.decide` thought, for B observations.

    Attributes:
      actions: [B] int32, in the agent's action frame.
      qindexes: [B] int32.
      policies: [B, 256] float32: the search's improved policy, without search the prior.
      values: [B] float32 root values in [-1, 1].
      priors: [B, 256] float32, the policy head over valid actions.
    """

    actions: npt.NDArray[np.int32]
    qindexes: npt.NDArray[np.int32]
    policies: npt.NDArray[np.float32]
    values: npt.NDArray[np.float32]
    priors: npt.NDArray[np.float32]


class AgentPolicy(QindexPolicy):
    """The networks, with or without search, answering "which qindex".

    Batches are padded to a power of two (or to `batch_size`), so that only few sizes
    are ever compiled; the first decision of a size takes a second or two.

    With `simulations` 0 and `temperature` 0 a decision depends on its observation alone.
    Calls from several threads are serialised.

    Attributes:
      name: for tables and logs.
      config: the networks' configuration.
      head: how a decision is read from the policy head, without search.
      meta: the policy file's metadata; empty if it was not loaded from one.
      identity: what it was made for, if its file says so.
      last: the latest call's `Decisions`; None before the first.
    """

    def __init__(
        self,
        params: Params,
        config: NetworkConfig,
        *,
        simulations: int = 0,
        search: SearchConfig | None = None,
        temperature: float = 0.0,
        gumbel_scale: float = 1.0,
        head: str = "mode",
        batch_size: int | None = None,
        seed: int = 0,
        name: str = "muzero",
        meta: Mapping[str, Any] | None = None,
        identity: PolicyIdentity | None = None,
    ) -> None:
        """Makes a policy.

        Args:
          params: the networks' parameters.
          config: the networks' configuration.
          simulations: of the search; 0 plays from the policy head.
          search: its other settings.
          temperature: without search, 0 reads the policy head, 1 draws from its
            distribution.
          head: how it is read, one of `plain.HEADS`.
          gumbel_scale: with search, factor on its exploration: 1 explores, 0 does not.
          batch_size: pad every batch to this; larger batches are split.
          seed: of sampling and search.
          name: for tables and logs.
          meta: metadata to carry along.
          identity: what it was made for.

        Raises:
          InputError: a negative number of simulations or temperature, a batch size
            below 1.
        """
        if simulations < 0:
            raise InputError(f"simulations must be 0 or more, not {simulations}")
        if not 0 <= temperature < float("inf"):
            raise InputError(f"temperature must be 0 or more, not {temperature}")
        if batch_size is not None and batch_size < 1:
            raise InputError(f"batch_size must be 1 or more, not {batch_size}")
        self.name = name
        self.config = config
        self.head = head
        self.identity = identity
        self.meta = dict(meta or {})
        self.last: Decisions | None = None
        self._tokenizer = Tokenizer(config)
        self._batch_size = batch_size
        self._lock = threading.Lock()
        self._rng = jax.random.key(seed)
        self._draws = simulations > 0 or temperature > 0
        self._plan: Callable[..., Any]
        if simulations > 0:
            # Imported here: without search neither mctx nor its imports are needed.
            from muzero_rc.agents.muzero.search import make_search

            settings = (search or SearchConfig()).replace(simulations=simulations)
            self._plan = make_search(config, settings)
            self._gumbel_scale = np.float32(gumbel_scale)
        else:
            self._plan = make_plain(config, head)
            self._gumbel_scale = np.float32(temperature)
        self._params: Params = jax.device_put(params)

    @property
    def needs_blocks(self) -> bool:
        """Whether observations must come with the first pass's blocks."""
        return self.config.representation == "hip" and self.config.block_columns > 0

    @property
    def params(self) -> Params:
        """The parameters in use."""
        return self._params

    @property
    def digest(self) -> str | None:
        """Hash of all that a decision depends on but its observation; None if chance does."""
        if self._draws:
            return None
        known = {**self.config.as_dict(), "head": self.head}
        digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode())
        for path, leaf in jax.tree_util.tree_leaves_with_path(jax.device_get(self._params)):
            digest.update(jax.tree_util.keystr(path).encode())
            digest.update(np.ascontiguousarray(leaf).tobytes())
        return digest.hexdigest()

    def set_params(self, params: Params) -> None:
        """Takes newer parameters of the same networks; nothing is compiled again."""
        self._params = jax.device_put(params)

    def qindexes(self, observations: Sequence[Observation]) -> npt.NDArray[np.int32]:
        """A qindex 0..255 for each observation; details are in `last`.

        Args:
          observations: B of them, any clips.

        Returns:
          [B] int32.

        Raises:
          InputError: an observation has other columns than the networks.
        """
        with self._lock:
            limit = self._batch_size or _LARGEST_BATCH
            parts = [
                self._decide(observations[start : start + limit])
                for start in range(0, len(observations), limit)
            ]
            if not parts:
                return np.zeros(0, np.int32)
            self.last = parts[0] if len(parts) == 1 else _join(parts)
            return self.last.qindexes

    def _decide(self, observations: Sequence[Observation]) -> Decisions:
        count = len(observations)
        size = self._batch_size or 1 << (count - 1).bit_length()
        tokens = self._tokenizer.batch(observations, size)
        proposals = np.zeros(size, np.int32)
        proposals[:count] = [o.base_qindex for o in observations]
        frame = self.config.action_frame
        rng = self._rng
        if self._draws:
            self._rng, rng = jax.random.split(rng)
        reaches = np.full(size, NUM_QINDEX, np.int32)
        reaches[:count] = [o.reach for o in observations]
        valid = valid_actions(proposals, frame, reaches)
        plan = jax.device_get(self._plan(self._params, rng, tokens, valid, self._gumbel_scale))
        # Copies, as the device's buffers are padded and may be views of its memory.
        actions, policies, values, priors = (np.array(array[:count]) for array in plan)
        qindexes = qindex_of_action(actions, proposals[:count], frame)
        return Decisions(actions, qindexes, policies, values, priors)


def _join(parts: Sequence[Decisions]) -> Decisions:
    return Decisions(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("actions", "qindexes", "policies", "values", "priors")
        )
    )


def save_policy(
    path: str | os.PathLike[str],
    params: Params,
    config: NetworkConfig,
    *,
    observation_version: int,
    env_id: str,
    training: Mapping[str, Any],
    speed_profile: str = "uniform",
    head: str = "mode",
    name: str = "muzero",
    identity: PolicyIdentity | None = None,
) -> None:
    """Writes a policy file, atomically.

    Args:
      path: the file.
      params: the networks' parameters.
      config: the networks' configuration.
      observation_version: of the observations it was trained on.
      env_id: the environment it was trained in, with its version.
      training: the record of its training, anything JSON can hold.
      speed_profile: of the encodes it was trained on; a name, whoever encodes knows what it means.
      head: how a decision is read from the policy head, one of `plain.HEADS`.
      name: what the policy calls itself.
      identity: what it was made for; whoever encodes with it is warned without one.

    Raises:
      OutputError: it cannot be written.
    """
    meta: dict[str, Any] = {
        "format": POLICY_FORMAT,
        "format_version": POLICY_VERSION,
        "name": name,
        "network": config.as_dict(),
        "observation_version": observation_version,
        "env_id": env_id,
        "speed_profile": speed_profile,
        "head": head,
        "training": dict(training),
    }
    tree: dict[str, Any] = {"params": jax.device_get(params)}
    if identity is not None:
        identity.put(tree, meta)
    write_arrays(path, tree, meta)


def read_policy(
    path: str | os.PathLike[str],
) -> tuple[Params, NetworkConfig, dict[str, Any]]:
    """Reads a policy file's parameters, network configuration and metadata.

    Raises:
      CheckpointError: missing, damaged, or of another format or version.
    """
    return _read(path)[:3]


def _read(
    path: str | os.PathLike[str],
) -> tuple[Params, NetworkConfig, dict[str, Any], dict[str, Any]]:
    """As `read_policy`, and all arrays of the file."""
    tree, meta = read_arrays(path)
    if meta.get("format") != POLICY_FORMAT:
        raise CheckpointError(
            f"{path} is {meta.get('format')!r}, not a policy; give a file that training exported"
        )
    if meta.get("format_version") != POLICY_VERSION:
        raise CheckpointError(
            f"{path} is a policy of version {meta.get('format_version')!r}, this program uses "
            f"version {POLICY_VERSION}; give one made by this version"
        )
    try:
        config = NetworkConfig.from_dict(meta["network"])
    except (KeyError, InputError) as error:
        raise CheckpointError(
            f"{path} describes networks that this program does not know ({error}); "
            "give one made by this version"
        ) from error
    if meta.get("head", "mode") not in HEADS:
        raise CheckpointError(
            f"{path} wants its head read as {meta['head']!r}, which this program does not know; "
            "give one made by this version"
        )
    params = tree.get("params", {})
    if not isinstance(params, Mapping) or _shapes(params) != parameter_shapes(config):
        raise CheckpointError(f"{path} lacks weights that its networks need; give another file")
    if not all(_usable(leaf) for leaves in params.values() for leaf in leaves.values()):
        raise CheckpointError(f"{path} has weights that are no finite numbers; give another file")
    return params, config, meta, tree


def load_policy(
    path: str | os.PathLike[str],
    *,
    observation_version: int | None = None,
    simulations: int = 0,
    search: SearchConfig | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    name: str | None = None,
) -> AgentPolicy:
    """Reads a policy file.

    Args:
      path: what `save_policy` wrote.
      observation_version: refuse a policy trained on other observations than these.
      simulations: of the search; 0 plays from the policy head, fastest.
      search: the search's other settings.
      seed: of the search.
      batch_size: pad every batch to this.
      name: instead of the file's own.

    Returns:
      The policy; its file's metadata is in `meta`.

    Raises:
      CheckpointError: missing, damaged, of another format or version, or trained on
        other observations.
    """
    params, config, meta, tree = _read(path)
    trained_on = meta.get("observation_version")
    if observation_version is not None and trained_on != observation_version:
        raise CheckpointError(
            f"{path} was trained on observations of version {trained_on!r}, this program makes "
            f"version {observation_version}; give one made by this version"
        )
    return AgentPolicy(
        params,
        config,
        simulations=simulations,
        search=search,
        head=meta.get("head", "mode"),  # older files lack it
        seed=seed,
        batch_size=batch_size,
        name=name or str(meta.get("name", "muzero")),
        meta=meta,
        identity=PolicyIdentity.of_file(tree, meta),
    )


def _usable(leaf: Any) -> bool:
    numbers = isinstance(leaf, np.ndarray) and leaf.dtype.kind == "f"
    return numbers and bool(np.isfinite(leaf).all())


def _shapes(params: Any) -> dict[str, dict[str, tuple[int, ...]]]:
    return {
        module: {name: tuple(leaf.shape) for name, leaf in leaves.items() if hasattr(leaf, "shape")}
        for module, leaves in params.items()
        if isinstance(leaves, Mapping)
    }
