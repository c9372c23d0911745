"""Replay of episodes: bounded in bytes, each clip's statistics held once."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from muzero_rc.agents.config import LossConfig, NetworkConfig, ReplayConfig
from muzero_rc.agents.muzero.targets import Batch, make_batch
from muzero_rc.agents.muzero.trajectory import Trajectory
from muzero_rc.agents.tokens import Tokenizer
from muzero_rc.checkpoint import read_arrays, write_arrays
from muzero_rc.errors import CheckpointError

__all__ = ["REPLAY_FORMAT", "Replay"]

REPLAY_FORMAT = "muzero_rc-replay"
_VERSION = 2
_TYPICAL_SURPRISE = 0.5  # of steps without a root value
_PRIORITY_FLOOR = 0.05  # steps whose value was right are still seen now and then

_PER_STEP = (
    "history_lengths", "frames", "globals", "show_indexes", "proposals", "rate_offsets",
    "reaches", "actions",
    "policies", "policy_weights", "values", "bits", "psnr",
)  # fmt: skip
_PER_EPISODE = ("outcome", "overshoot", "psnr_gain")


class Replay:
    """Episodes to learn from, oldest forgotten first. Safe to share between threads.

    Adding and drawing cost the same however many steps are held: sums are kept per
    episode, and only the drawn episodes' steps are looked at.

    Attributes:
      config: capacity, batch size, priorities.
      added: episodes ever added.
    """

    def __init__(
        self, network: NetworkConfig, config: ReplayConfig, loss: LossConfig, seed: int = 0
    ) -> None:
        """Makes an empty replay.

        Args:
          network: columns and action frame of what is stored.
          config: capacity, batch size, priorities.
          loss: what targets the batches need.
          seed: of the sampling.
        """
        self.config = config
        self.added = 0
        self._network = network
        self._loss = loss
        self._rng = np.random.default_rng(seed)
        self._tokenizer = Tokenizer(network)
        self._lock = threading.RLock()
        self._episodes: deque[Trajectory] = deque()
        self._clips: dict[bytes, _HeldClip] = {}
        self._bytes = 0
        self._weights: deque[npt.NDArray[np.float64]] = deque()  # cumulative, per episode
        self._table: _Table | None = None  # made when first drawn from

    def __len__(self) -> int:
        """Episodes held."""
        return len(self._episodes)

    @property
    def num_steps(self) -> int:
        """Decisions held."""
        with self._lock:
            return sum(len(episode) for episode in self._episodes)

    @property
    def num_clips(self) -> int:
        """Different clips held."""
        return len(self._clips)

    @property
    def nbytes(self) -> int:
        """Memory held, clips counted once."""
        return self._bytes

    def episodes(self) -> list[Trajectory]:
        """The episodes held, oldest first."""
        with self._lock:
            return list(self._episodes)

    def add(self, episode: Trajectory) -> None:
        """Adds an episode and forgets the oldest while over capacity.

        The newest is always kept, whatever its size.

        Raises:
          ValueError: its columns are not the network's.
        """
        network = self._network
        columns = (
            episode.clip.shape[1],
            episode.history.shape[1],
            episode.frames.shape[1],
            episode.globals.shape[1],
        )
        wanted = (
            network.clip_features,
            network.history_features,
            network.frame_features,
            network.global_features,
        )
        if columns != wanted:
            raise ValueError(f"the episode has {columns} columns, the network {wanted}")
        key = _clip_key(episode.clip, episode.blocks)
        with self._lock:
            held = self._clips.setdefault(key, _HeldClip(episode.clip, episode.blocks))
            held.references += 1
            self._bytes += episode.nbytes + (held.nbytes if held.references == 1 else 0)
            self._append(dataclasses.replace(episode, clip=held.clip, blocks=held.blocks))
            self.added += 1
            while self._bytes > self.config.capacity_bytes and len(self._episodes) > 1:
                self._forget_oldest()

    def _append(self, episode: Trajectory) -> None:
        self._episodes.append(episode)
        self._weights.append(_step_weights(episode, self.config.priority))
        self._table = None

    def _forget_oldest(self) -> None:
        episode = self._episodes.popleft()
        self._weights.popleft()
        self._table = None
        key = _clip_key(episode.clip, episode.blocks)
        held = self._clips[key]
        held.references -= 1
        self._bytes -= episode.nbytes
        if not held.references:
            self._bytes -= held.nbytes
            del self._clips[key]

    def refresh(
        self,
        samples: Sequence[tuple[Trajectory, int]],
        policies: npt.ArrayLike,
        values: npt.ArrayLike,
    ) -> None:
        """Puts fresh search results in place of steps' old ones (reanalyse).

        Outcome and actions stay: they were what happened (MuZero, appendix H). The
        episodes' own arrays are changed; copies share nothing with them.

        Args:
          samples: R pairs of episode and step that `draw` gave.
          policies: [R, 256] improved policies.
          values: [R] root values.
        """
        policies, values = np.asarray(policies, np.float16), np.asarray(values, np.float32)
        with self._lock:
            changed = set()
            for (episode, step), policy, value in zip(samples, policies, values, strict=True):
                episode.policies[step] = policy
                episode.policy_weights[step] = 1.0
                episode.values[step] = value
                changed.add(id(episode))
            if self.config.priority:
                for index, held in enumerate(self._episodes):
                    if id(held) in changed:
                        self._weights[index] = _step_weights(held, self.config.priority)
                self._table = None

    def draw(self, size: int) -> tuple[list[tuple[Trajectory, int]], npt.NDArray[np.float32]]:
        """Draws steps, with replacement.

        A step's probability is uniform, or proportional to |root value - outcome|^alpha
        (prioritised replay, Schaul et al. 2016, arXiv 1511.05952, section 3.3; MuZero
        appendix G); then the weights are (N p)^-beta over their maximum.

        Args:
          size: how many.

        Returns:
          Pairs of episode and step, and sample weights [size].

        Raises:
          ValueError: nothing was added yet.
        """
        with self._lock:
            if not self._episodes:
                raise ValueError("the replay is empty; add an episode first")
            if self._table is None:
                self._table = _Table(list(self._episodes), list(self._weights))
            return self._table.draw(size, self.config.importance, self._rng)

    def sample(self, size: int | None = None) -> Batch:
        """Draws a batch of the configured size, ready for `Learner.update`.

        Raises:
          ValueError: nothing was added yet.
        """
        samples, weights = self.draw(size or self.config.batch_size)
        return self.batch(samples, weights)

    def batch(
        self, samples: Sequence[tuple[Trajectory, int]], weights: npt.ArrayLike | None = None
    ) -> Batch:
        """The batch of chosen steps, for mixing draws of several replays.

        Args:
          samples: pairs of episode and step.
          weights: [B] sample weights; 1 if not given.
        """
        with self._lock:
            rng = np.random.default_rng(int(self._rng.integers(2**62)))
        return make_batch(
            samples,
            self._tokenizer,
            self._loss.unroll_steps,
            rng,
            weights,
            n_step=self._loss.n_step,
            reward=self._network.reward,
            consistency=self._loss.consistency > 0,
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes all episodes and the sampler's state, atomically.

        Raises:
          OutputError: it cannot be written.
        """
        with self._lock:
            episodes = list(self._episodes)
            meta: dict[str, Any] = {
                "format": REPLAY_FORMAT,
                "format_version": _VERSION,
                "added": self.added,
                "action_frame": self._network.action_frame,
                "rng": self._rng.bit_generator.state,
            }
        clips: dict[int, int] = {}  # id of the array -> row
        for episode in episodes:
            clips.setdefault(id(episode.clip), len(clips))
        arrays = {id(e.clip): e.clip for e in episodes}
        tree: dict[str, Any] = {
            "lengths": np.array([len(e) for e in episodes], np.int64),
            "clip_of": np.array([clips[id(e.clip)] for e in episodes], np.int64),
            "clip_lengths": np.array([len(arrays[key]) for key in clips], np.int64),
            "clips": _concatenate([arrays[key] for key in clips]),
            "histories": _concatenate([e.history for e in episodes]),
            "histories_lengths": np.array([len(e.history) for e in episodes], np.int64),
        }
        blocks: dict[str, npt.ArrayLike] = {
            str(clips[id(e.clip)]): e.blocks for e in episodes if e.blocks is not None
        }
        if blocks:
            tree["blocks"] = blocks
        for name in _PER_STEP:
            tree[name] = _concatenate([getattr(e, name) for e in episodes])
        for name in _PER_EPISODE:
            tree[name] = np.array([getattr(e, name) for e in episodes], np.float64)
        write_arrays(path, {"replay": tree}, meta)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Puts what `save` wrote in place of what is held.

        Raises:
          CheckpointError: missing, damaged, of another format or of other columns.
        """
        tree, meta = read_arrays(path)
        if meta.get("format") != REPLAY_FORMAT or meta.get("format_version") != _VERSION:
            raise CheckpointError(f"{path} is not a replay of this version; start a new run")
        if meta.get("action_frame") != self._network.action_frame:
            raise CheckpointError(
                f"{path} holds actions in the {meta.get('action_frame')} frame, the networks "
                f"use {self._network.action_frame}; start a new run"
            )
        try:
            episodes = _episodes_of(tree["replay"])
            rng = np.random.default_rng()
            rng.bit_generator.state = meta["rng"]
            with self._lock:
                self._episodes.clear()
                self._weights.clear()
                self._clips.clear()
                self._bytes = 0
                for episode in episodes:
                    self.add(episode)
                self.added = int(meta["added"])
                self._rng = rng
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise CheckpointError(f"{path} cannot be used: {error}; start a new run") from error


@dataclasses.dataclass(eq=False)
class _HeldClip:
    """What episodes of one clip share."""

    clip: npt.NDArray[np.float32]
    blocks: npt.NDArray[np.float16] | None
    references: int = 0

    @property
    def nbytes(self) -> int:
        return self.clip.nbytes + (0 if self.blocks is None else self.blocks.nbytes)


def _step_weights(episode: Trajectory, alpha: float) -> npt.NDArray[np.float64]:
    """Cumulative unnormalised probabilities of an episode's steps. [N]."""
    if alpha <= 0:
        return np.arange(1.0, len(episode) + 1.0)
    surprise = np.abs(episode.values.astype(np.float64) - episode.outcome)
    known = np.isfinite(surprise)
    surprise = np.where(known, surprise, _TYPICAL_SURPRISE)
    cumulative: npt.NDArray[np.float64] = np.cumsum((surprise + _PRIORITY_FLOOR) ** alpha)
    return cumulative


class _Table:
    """Where each episode's share of the probability ends."""

    def __init__(self, episodes: list[Trajectory], weights: list[npt.NDArray[np.float64]]) -> None:
        self._episodes = episodes
        self._weights = weights
        self._ends = np.cumsum([cumulative[-1] for cumulative in weights])
        self._steps = sum(len(episode) for episode in episodes)

    def draw(
        self, size: int, beta: float, rng: np.random.Generator
    ) -> tuple[list[tuple[Trajectory, int]], npt.NDArray[np.float32]]:
        total = self._ends[-1]
        marks = rng.random(size) * total
        rows = np.minimum(np.searchsorted(self._ends, marks, side="right"), len(self._ends) - 1)
        samples, probability = [], np.empty(size)
        for n, (row, mark) in enumerate(zip(rows.tolist(), marks.tolist(), strict=True)):
            cumulative = self._weights[row]
            inside = mark - (self._ends[row] - cumulative[-1])
            # Rounding may carry a mark to the very end.
            step = min(int(np.searchsorted(cumulative, inside, side="right")), len(cumulative) - 1)
            own = cumulative[step] - (cumulative[step - 1] if step else 0.0)
            samples.append((self._episodes[row], step))
            probability[n] = own / total
        correction = (self._steps * probability) ** -beta
        return samples, (correction / correction.max()).astype(np.float32)


def _clip_key(clip: npt.NDArray[np.float32], blocks: npt.NDArray[np.float16] | None) -> bytes:
    digest = hashlib.blake2b(repr(clip.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(clip).data)
    if blocks is not None:  # follow from the same frames, so their shape is enough
        digest.update(repr(blocks.shape).encode())
    return digest.digest()


def _concatenate(arrays: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return np.concatenate(arrays) if arrays else np.zeros(0, np.float32)


def _split(array: npt.NDArray[Any], lengths: npt.NDArray[np.int64]) -> list[npt.NDArray[Any]]:
    if len(array) != int(lengths.sum()):
        raise ValueError("lengths and rows disagree")
    # Copies: a view would keep the whole array alive after all but one are forgotten.
    parts = np.split(array, np.cumsum(lengths)[:-1]) if len(lengths) else []
    return [part.copy() for part in parts]


def _episodes_of(tree: dict[str, Any]) -> list[Trajectory]:
    clips = _split(tree["clips"], tree["clip_lengths"])
    histories = _split(tree["histories"], tree["histories_lengths"])
    blocks = tree.get("blocks", {})
    columns: dict[str, list[Any]] = {
        name: _split(tree[name], tree["lengths"]) for name in _PER_STEP
    }
    single: dict[str, Any] = {name: tree[name].tolist() for name in _PER_EPISODE}
    return [
        Trajectory(
            clip=clips[int(clip)],
            history=histories[row],
            blocks=blocks.get(str(int(clip))),
            **{name: parts[row] for name, parts in columns.items()},
            **{name: values[row] for name, values in single.items()},
        )
        for row, clip in enumerate(tree["clip_of"])
    ]
