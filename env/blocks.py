"""First-pass statistics of every 16x16 block, normalised for an agent that reads them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["BLOCK_COLUMNS", "BLOCK_FEATURES", "block_features"]

BLOCK_COLUMNS = ("intra_error", "inter_error", "mv_down", "mv_right")
"""Columns of a block in `Observation.blocks`."""

BLOCK_FEATURES = len(BLOCK_COLUMNS)

_BOUND = 3.0
_ERROR_SCALE, _ERROR_SHIFT = 3.0, 2.0  # ln(1 + squared error of a block): 0 to 16.6
_MOTION_SCALE = 2.0  # asinh(percent of the picture)
_MV_UNITS = 8.0  # motion vectors are in 1/8 pixel


def block_features(
    statistics: npt.NDArray[np.int32], width: int, height: int
) -> npt.NDArray[np.float16]:
    """Normalises the block statistics of a clip.

    Args:
      statistics: [T, rows, columns, 4] int32: intra error, inter error (-1 where there is
        none), motion down and right in eighths of a pixel.
      width: pixels per row.
      height: rows.

    Returns:
      [T, rows, columns, BLOCK_FEATURES] float16 within [-3, 3], read-only. Without an inter
      error a block has its intra error there: prediction gains nothing.
    """
    intra, inter = statistics[..., 0], statistics[..., 1]
    out = np.empty((*statistics.shape[:3], BLOCK_FEATURES), np.float16)
    inter = np.where(inter < 0, intra, inter)
    for column, error in enumerate((intra, inter)):
        logs = np.log1p(np.maximum(error, 0).astype(np.float32))
        out[..., column] = np.clip(logs / _ERROR_SCALE - _ERROR_SHIFT, -_BOUND, _BOUND)
    for column, size in ((2, height), (3, width)):
        percent = statistics[..., column].astype(np.float32) * (100.0 / (_MV_UNITS * size))
        out[..., column] = np.clip(np.arcsinh(percent) / _MOTION_SCALE, -_BOUND, _BOUND)
    out.setflags(write=False)
    return out
