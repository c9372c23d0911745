"""Observations with fixed shapes, for Gymnasium: padding, masks and bounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from muzero_rc.env.observation.builder import (
    BOUND,
    CLIP_FEATURES,
    FRAME_FEATURES,
    GLOBAL_FEATURES,
    HISTORY_FEATURES,
    HISTORY_POSITION_COLUMNS,
    POSITION_SCALE,
)
from muzero_rc.types import Observation

__all__ = ["ObservationArrays", "default_history_rows", "observation_space", "pad_observation"]

ObservationArrays = dict[str, npt.NDArray[Any]]

_MAX_HISTORY_ROWS = 1024


def default_history_rows(clip_rows: int) -> int:
    """History rows that hold a whole episode of up to about 500 frames.

    With multi-layer alternate references nearly every second coded frame is hidden.
    """
    return min(2 * clip_rows + 16, _MAX_HISTORY_ROWS)


def observation_space(clip_rows: int, history_rows: int) -> spaces.Dict:
    """The space of `pad_observation`'s results; all bounds are finite.

    Args:
      clip_rows: frames of the longest clip.
      history_rows: coded frames that are kept.
    """

    def box(*shape: int) -> spaces.Box:
        return spaces.Box(-BOUND, BOUND, shape, np.float32)

    high = np.full((history_rows, HISTORY_FEATURES), BOUND, np.float32)
    # Multi-layer references code up to about two frames per shown one; twice that is safe.
    high[:, -len(HISTORY_POSITION_COLUMNS) :] = (4 * clip_rows + 64) / POSITION_SCALE
    low = np.full_like(high, -BOUND)
    return spaces.Dict(
        {
            "clip": box(clip_rows, CLIP_FEATURES),
            "clip_mask": spaces.MultiBinary(clip_rows),
            "history": spaces.Box(low, high, dtype=np.float32),
            "history_mask": spaces.MultiBinary(history_rows),
            "frame": box(FRAME_FEATURES),
            "globals": box(GLOBAL_FEATURES),
        }
    )


def pad_observation(
    observation: Observation, clip_rows: int, history_rows: int
) -> ObservationArrays:
    """An observation with fixed shapes, in arrays of its own.

    Rows begin at 0 and are padded with zeros; the masks say where there are any. Of a
    history longer than `history_rows` the latest rows remain.
    """
    clip = np.zeros((clip_rows, CLIP_FEATURES), np.float32)
    clip_mask = np.zeros(clip_rows, np.int8)
    frames = len(observation.clip)
    clip[:frames] = observation.clip
    clip_mask[:frames] = 1
    history = np.zeros((history_rows, HISTORY_FEATURES), np.float32)
    history_mask = np.zeros(history_rows, np.int8)
    rows = observation.history[-history_rows:]
    history[: len(rows)] = rows
    history_mask[: len(rows)] = 1
    return {
        "clip": clip,
        "clip_mask": clip_mask,
        "history": history,
        "history_mask": history_mask,
        "frame": observation.frame.copy(),
        "globals": observation.globals.copy(),
    }
