"""Names, shapes and types of the arrays that the networks read."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from muzero_rc.agents.config import NetworkConfig

__all__ = ["Tokens", "block_groups", "token_shapes", "zero_tokens"]

Tokens: TypeAlias = dict[str, npt.NDArray[np.float32 | np.int32 | np.bool_]]
"""Arrays by name, one observation's or a batch's; `token_shapes` lists them."""

_SCALARS = 3
_SEGMENT_POSITIONS = 2


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

    "perceiver_ar" has instead of the history:

    * sequence [R, H]: the latest coded frames, oldest first, at the end of the array
    * sequence_position [R]: their place in the coding order
    * sequence_mask [R]: False before the start
    * query_position []: place in the coding order of the frame to code

    "hip" with block columns has besides (G as the observations need it, see
    `block_groups`):

    * blocks [F, G, M, C]: blocks of the frame to code and the frames shown after it, in
      groups of M
    * block_mask [F, G, M]
    """
    window = config.window_back + 1 + config.window_ahead
    rows, segments = config.history_rows, config.segments
    shapes: dict[str, tuple[tuple[int, ...], type[np.generic]]] = {
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
    if config.representation == "perceiver_ar":
        for name in ("history", "history_position", "history_mask"):
            del shapes[name]
        shapes |= {
            "sequence": ((config.sequence_rows, config.history_features), np.float32),
            "sequence_position": ((config.sequence_rows,), np.int32),
            "sequence_mask": ((config.sequence_rows,), np.bool_),
            "query_position": ((), np.int32),
        }
    if config.representation == "hip" and config.block_columns:
        groups = (config.block_frames, 1, config.block_rows)
        shapes |= {
            "blocks": ((*groups, config.block_columns), np.float32),
            "block_mask": (groups, np.bool_),
        }
    return shapes


def block_groups(blocks: int, config: NetworkConfig) -> int:
    """Groups for so many blocks a frame: a power of two, so that few shapes are compiled."""
    return 1 << max(0, math.ceil(math.log2(max(blocks, 1) / config.block_rows)))


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
