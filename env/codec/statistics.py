"""libvpx's first-pass statistics: names of their columns, and values that arithmetic can bear."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["FIRST_PASS_FIELDS", "column", "finite"]

FIRST_PASS_FIELDS = (
    "frame", "weight", "intra_error", "coded_error", "sr_coded_error",
    "frame_noise_energy", "pcnt_inter", "pcnt_motion", "pcnt_second_ref", "pcnt_neutral",
    "pcnt_intra_low", "pcnt_intra_high", "intra_skip_pct", "intra_smooth_pct",
    "inactive_zone_rows", "inactive_zone_cols", "MVr", "mvr_abs", "MVc", "mvc_abs",
    "MVrv", "MVcv", "mv_in_out_count", "duration", "count",
)  # fmt: skip
"""libvpx's `FIRSTPASS_STATS`, in its order (vp9/encoder/vp9_firstpass.h)."""


def column(name: str) -> int:
    """Place of a column."""
    return FIRST_PASS_FIELDS.index(name)


def finite(stats: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The statistics within limits that no arithmetic here overflows; NaN becomes 0."""
    return np.clip(np.nan_to_num(np.asarray(stats, np.float64)), -1e12, 1e12)
