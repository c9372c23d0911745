"""What the coefficients of a frame depend on, from an encode of the clip.

Beside what the encode says of the frame there are means over the clip, and what the frame is
beside its kind: one coefficient for a column would have to serve key frames and leaves alike.

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

_KINDS = (*(role.name.lower() for role in FrameRole), "repeated")

_OF_FRAME = (
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
    "last_error_share",
    "golden_error_share",
    "altref_error_share",
    "last_skipped_error_share",
    "golden_skipped_error_share",
    "altref_skipped_error_share",
)

_IN_CLIP = (
    "log2_bits_per_pixel", "skip_share", "intra_share", "psnr_db", "log2_gop_size",
    "log2_tpl_cost_ratio", "log2_quantizer_step",
)  # fmt: skip
"""Whose means over the clip, weighted by bits, are features."""

_BY_KIND = ("log2_bits_per_pixel", "skip_share", "psnr_db", "log2_quantizer_step")
"""That have a coefficient for each kind."""

FEATURES = (
    *_KINDS,
    *_OF_FRAME,
    *(f"clip_{name}" for name in _IN_CLIP),
    "clip_shown_psnr_db",
    "clip_repeated_share",
    "clip_log2_target",
    *(f"{kind}_{name}" for name in _BY_KIND for kind in _KINDS),
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
    # Where a block is skipped, the reference's error is the frame's own.
    shares, skipped = frames.error_shares, frames.skip_share
    tpl = (frames.tpl_intra_cost > 0.0) & (frames.tpl_mc_dep_cost > 0.0)
    ratio = np.where(tpl, frames.tpl_mc_dep_cost, 1.0) / np.where(tpl, frames.tpl_intra_cost, 1.0)
    columns = (
        np.log2(frames.bits / frames.pixels),
        skipped,
        frames.intra_blocks / blocks,
        psnr,
        *(above[:, slot] for slot in range(REFERENCES)),
        np.log2(np.maximum(frames.gop_size, 1)),
        np.log2(ratio),
        log2_step(frames.qindex),
        *(shares[:, slot] for slot in range(REFERENCES)),
        *(shares[:, slot] * skipped for slot in range(REFERENCES)),
    )
    own = np.stack(columns, axis=1)
    bits = frames.bits / frames.bits.sum()
    shows = float(frames.weight.sum())
    clip = np.array(
        [
            *(float(bits @ own[:, _OF_FRAME.index(name)]) for name in _IN_CLIP),
            float(frames.weight @ psnr) / max(shows, 1.0),
            float(frames.repeated.mean()),
            float(np.log2(frames.total_bits / (frames.pixels * max(shows, 1.0)))),
        ]
    )
    by_kind = [one_hot * own[:, [_OF_FRAME.index(name)]] for name in _BY_KIND]
    return np.concatenate([one_hot, own, np.tile(clip, (len(own), 1)), *by_kind], axis=1)


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
