"""What the coefficients of a frame depend on, from an encode of the clip.

That encode may be the base of the changes or a quick probe encode of the same groups. Any
linear change of a feature's unit leaves the fit as it is: `normal_equations` standardises.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from muzero_rc.agents.world_model.frames import NO_REFERENCE, REFERENCES, EncodeFrames
from muzero_rc.agents.world_model.quantizer import log2_step
from muzero_rc.types import FrameRole

__all__ = ["FEATURES", "NUM_FEATURES", "NUM_KINDS", "REPEATED", "features_of", "matched_features"]

REPEATED = len(FrameRole)
"""The kind of frames that a reference took the place of, whatever their role."""

NUM_KINDS = len(FrameRole) + 1
"""Roles, and repeated frames."""

FEATURES = (
    *(role.name.lower() for role in FrameRole),
    "repeated",
    "log2_bits_per_pixel",
    "skip_share",
    "intra_share",
    "psnr_db",
    "last_psnr_above_own_db",
    "golden_psnr_above_own_db",
    "altref_psnr_above_own_db",
    "log2_gop_size",
    "log2_tpl_cost_ratio",
    "log2_quantizer_step",
)
"""Names of the columns; the first `NUM_KINDS` are one-hot."""

NUM_FEATURES = len(FEATURES)

_Floats = npt.NDArray[np.float64]


def features_of(frames: EncodeFrames) -> _Floats:
    """Features of every frame. [N, NUM_FEATURES].

    Shares of blocks are 0 where the encode has no counts, the costs' ratio where TPL did not
    run, and a reference's PSNR where there is none.
    """
    kind = np.where(frames.repeated, REPEATED, frames.role)
    one_hot = np.eye(NUM_KINDS)[kind]
    blocks = np.maximum(frames.blocks, 1.0)
    psnr = frames.psnr
    above = np.where(
        frames.references != NO_REFERENCE, psnr[frames.references] - psnr[:, None], 0.0
    )
    tpl = (frames.tpl_intra_cost > 0.0) & (frames.tpl_mc_dep_cost > 0.0)
    ratio = np.where(tpl, frames.tpl_mc_dep_cost, 1.0) / np.where(tpl, frames.tpl_intra_cost, 1.0)
    columns = (
        np.log2(frames.bits / frames.pixels),
        frames.skip_blocks / blocks,
        frames.intra_blocks / blocks,
        psnr,
        *(above[:, slot] for slot in range(REFERENCES)),
        np.log2(np.maximum(frames.gop_size, 1)),
        np.log2(ratio),
        log2_step(frames.qindex),
    )
    return np.concatenate([one_hot, np.stack(columns, axis=1)], axis=1)


def matched_features(base: EncodeFrames, probe: EncodeFrames) -> _Floats:
    """Features of the base's frames as the probe saw them. [N, NUM_FEATURES].

    A frame matches the probe's frame of the same place in coding order, display order and
    update type. One without a match keeps the features of the base itself.
    """
    features = features_of(base)
    seen = features_of(probe)
    place = {
        key: row
        for row, key in enumerate(
            zip(probe.coding_index, probe.show_index, probe.update_type, strict=True)
        )
    }
    for row, key in enumerate(
        zip(base.coding_index, base.show_index, base.update_type, strict=True)
    ):
        if key in place:
            features[row] = seen[place[key]]
    return features
