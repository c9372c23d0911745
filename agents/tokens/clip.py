"""What the networks read of a clip, whatever the encode: computed once."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

from muzero_rc.agents.config import NetworkConfig
from muzero_rc.errors import InputError

__all__ = ["DISTANCE_SCALE", "ClipTokens"]

DISTANCE_SCALE = 3.0
"""Distances are asinh(frames) / this: at the encoder's longest lag, 25 frames, 1.3."""


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
        out = np.empty((len(distance), 2), np.float32)
        out[:, 0] = distance / self.length
        out[:, 1] = np.arcsinh(distance) / DISTANCE_SCALE
        return out
