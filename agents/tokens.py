"""Observations as arrays of fixed size, at a constant cost for clips of any length.

The clip is seen twice: frame by frame in a window around the frame to code, and whole,
as pooled segments. Of the history the most recent rows are seen. What depends on the
clip alone is computed once per clip and kept as long as the clip's array lives.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from muzero_rc.agents.config import NetworkConfig
from muzero_rc.errors import InputError
from muzero_rc.types import Observation

__all__ = ["ClipTokens", "Tokenizer", "Tokens", "token_shapes", "zero_tokens"]

Tokens: TypeAlias = dict[str, npt.NDArray[np.float32 | np.int32 | np.bool_]]
"""Arrays by name, one observation's or a batch's; `token_shapes` lists them."""

_SCALARS = 3
_SEGMENT_POSITIONS = 2
_DISTANCE_SCALE = 3.0  # asinh(25 frames, the encoder's longest lag) / 3 is 1.3


def token_shapes(config: NetworkConfig) -> dict[str, tuple[tuple[int, ...], type[np.generic]]]:
    """Shape (without batch) and dtype of every array of `Tokens`.

    * window [W, C]: clip rows show_index - back .. show_index + ahead
    * window_mask [W]: False beyond the clip's ends
    * segments [S, 2 C]: mean and maximum of the clip's columns in S equal stretches
    * segment_position [S, 2]: the stretch's centre minus show_index, over the clip's
      length, and as asinh(frames) / 3
    * segment_mask [S]: False where the clip has fewer frames than segments
    * history [N, H]: the latest coded frames, newest first
    * history_position [N]: row of the window that shows the same frame; W for frames
      before the window, W + 1 for frames after it
    * history_mask [N]: False beyond the start
    * frame [F], globals [G]: as in the observation
    * scalars [3]: proposal / 255, show_index / T, ln(T) / 8
    """
    window = config.window_back + 1 + config.window_ahead
    rows, segments = config.history_rows, config.segments
    return {
        "window": ((window, config.clip_features), np.float32),
        "window_mask": ((window,), np.bool_),
        "segments": ((segments, 2 * config.clip_features), np.float32),
        "segment_position": ((segments, _SEGMENT_POSITIONS), np.float32),
        "segment_mask": ((segments,), np.bool_),
        "history": ((rows, config.history_features), np.float32),
        "history_position": ((rows,), np.int32),
        "history_mask": ((rows,), np.bool_),
        "frame": ((config.frame_features,), np.float32),
        "globals": ((config.global_features,), np.float32),
        "scalars": ((_SCALARS,), np.float32),
    }


def zero_tokens(config: NetworkConfig, batch: int) -> Tokens:
    """A batch of tokens with every mask False: padding, and shapes for initialisation.

    Args:
      config: sizes.
      batch: B.

    Returns:
      Arrays [B, ...].
    """
    return {
        name: np.zeros((batch, *shape), dtype)
        for name, (shape, dtype) in token_shapes(config).items()
    }


class ClipTokens:
    """What tokens need of one clip, computed once.

    Attributes:
      length: T, shown frames.
      segments: [S, 2 C] float32, mean and maximum per stretch.
      segment_mask: [S] bool.
    """

    def __init__(self, clip: npt.NDArray[np.float32], config: NetworkConfig) -> None:
        """Pads and pools a clip's rows.

        Args:
          clip: [T, C] float32, T at least 1.
          config: sizes.

        Raises:
          InputError: the clip has no rows, or other columns than the network's.
        """
        if clip.ndim != 2 or len(clip) < 1 or clip.shape[1] != config.clip_features:
            raise InputError(
                f"the clip's statistics are {clip.shape}, the policy needs "
                f"[T, {config.clip_features}] with T > 0; use the policy made for this version"
            )
        length = len(clip)
        back, ahead = config.window_back, config.window_ahead
        self.length = length
        self._span = back + 1 + ahead
        self._padded = np.zeros((back + length + ahead, clip.shape[1]), np.float32)
        self._padded[back : back + length] = clip
        self._valid = np.zeros(len(self._padded), np.bool_)
        self._valid[back : back + length] = True
        edges = np.linspace(0, length, config.segments + 1).astype(np.int64)
        self.segment_mask = np.diff(edges) > 0
        self.segments = np.zeros((config.segments, 2 * clip.shape[1]), np.float32)
        for row, (start, end) in enumerate(itertools.pairwise(edges)):
            if end > start:
                self.segments[row, : clip.shape[1]] = clip[start:end].mean(axis=0)
                self.segments[row, clip.shape[1] :] = clip[start:end].max(axis=0)
        self._centres = (0.5 * (edges[:-1] + edges[1:] - 1)).astype(np.float32)

    def window(self, show_index: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Rows [W, C] around `show_index` and their mask [W], views."""
        end = show_index + self._span
        return self._padded[show_index:end], self._valid[show_index:end]

    def segment_position(self, show_index: int) -> npt.NDArray[np.float32]:
        """Where each segment lies, seen from `show_index`. [S, 2] float32."""
        distance = self._centres - np.float32(show_index)
        out = np.empty((len(distance), _SEGMENT_POSITIONS), np.float32)
        out[:, 0] = distance / self.length
        out[:, 1] = np.arcsinh(distance) / _DISTANCE_SCALE
        return out


class Tokenizer:
    """Turns observations into token arrays; keeps a `ClipTokens` per living clip array.

    Safe to share between threads.
    """

    def __init__(self, config: NetworkConfig) -> None:
        """Makes a tokenizer for networks of this configuration."""
        self.config = config
        self._shapes = token_shapes(config)
        # By id, with a weak reference that proves that the id is still the same array's.
        self._clips: dict[int, tuple[weakref.ref[npt.NDArray[np.float32]], ClipTokens]] = {}

    def clip(self, clip: npt.NDArray[np.float32]) -> ClipTokens:
        """The clip's `ClipTokens`, computed at its first observation."""
        key = id(clip)
        found = self._clips.get(key)
        if found is not None and found[0]() is clip:
            return found[1]
        tokens = ClipTokens(clip, self.config)
        clips = self._clips

        def forget(dead: weakref.ref[npt.NDArray[np.float32]]) -> None:
            kept = clips.get(key)
            if kept is not None and kept[0] is dead:
                clips.pop(key, None)

        clips[key] = (weakref.ref(clip, forget), tokens)
        return tokens

    def write(self, observation: Observation, out: Tokens, row: int) -> None:
        """Writes one observation's tokens into row `row` of zeroed batch arrays.

        Args:
          observation: what the agent sees.
          out: arrays [B, ...], zeros in that row.
          row: 0..B-1.

        Raises:
          InputError: columns differ from the network's configuration.
        """
        config = self.config
        clip = self.clip(observation.clip)
        show_index = min(max(observation.show_index, 0), clip.length - 1)
        out["window"][row], out["window_mask"][row] = clip.window(show_index)
        out["segments"][row] = clip.segments
        out["segment_mask"][row] = clip.segment_mask
        out["segment_position"][row] = clip.segment_position(show_index)
        rows = len(observation.history)
        kept = min(rows, config.history_rows)
        try:
            if kept:
                history = observation.history[rows - kept :][::-1]
                out["history"][row, :kept] = history
                out["history_mask"][row, :kept] = True
                self._place(out["history"][row, :kept], out["history_position"][row], show_index)
            out["frame"][row] = observation.frame
            out["globals"][row] = observation.globals
        except ValueError as error:
            raise InputError(
                "the observation has other columns than the policy was trained with "
                f"({error}); use the policy made for this version"
            ) from error
        out["scalars"][row] = (
            observation.proposal_qindex / 255.0,
            show_index / clip.length,
            np.log(clip.length) / 8.0,
        )

    def _place(
        self,
        history: npt.NDArray[np.float32 | np.int32 | np.bool_],
        position: npt.NDArray[np.float32 | np.int32 | np.bool_],
        show_index: int,
    ) -> None:
        """Makes the position columns of kept rows (newest first) relative, in place."""
        scale = self.config.history_position_scale
        span = self.config.window_back + 1 + self.config.window_ahead
        if not scale:
            position[: len(history)] = span
            return
        distance = np.rint(history[:, -2] * scale) - show_index
        age = np.rint((history[:, -1] - history[0, -1]) * scale) - 1.0
        history[:, -2] = np.arcsinh(distance) / _DISTANCE_SCALE
        history[:, -1] = np.arcsinh(age) / _DISTANCE_SCALE
        slot = distance + self.config.window_back
        position[: len(history)] = np.where(slot < 0, span, np.where(slot >= span, span + 1, slot))

    def batch(self, observations: Sequence[Observation], batch_size: int | None = None) -> Tokens:
        """Tokens of several observations, padded with empty rows to `batch_size`.

        Args:
          observations: N of them, N at most `batch_size`.
          batch_size: B; N if not given.

        Returns:
          Arrays [B, ...]; rows N.. are zeros with all masks False.

        Raises:
          InputError: an observation does not fit the network's configuration.
          ValueError: more observations than `batch_size`.
        """
        size = len(observations) if batch_size is None else batch_size
        if len(observations) > size:
            raise ValueError(f"{len(observations)} observations do not fit a batch of {size}")
        out: Tokens = {
            name: np.zeros((size, *shape), dtype) for name, (shape, dtype) in self._shapes.items()
        }
        for row, observation in enumerate(observations):
            self.write(observation, out, row)
        return out
