"""Vocabulary shared by the encoder side and the agent side: plain data, no behaviour.

Words as in libvpx and the paper: a *coded* frame is every call to code a frame,
hidden alternate-reference frames (ARF) included; a *shown* frame has a display
time. `qindex` is VP9's quantizer index 0..255.
"""

from muzero_rc.types.decision import (
    FROZEN,
    KEEP,
    STREAM_SPEED,
    TIERS,
    FrameDecision,
    GopDecision,
    GopLimits,
    PartitionHint,
    RateAccount,
    ShowExisting,
    SpeedFeatures,
)
from muzero_rc.types.encode_log import (
    EncodeLog,
    EpisodeScore,
    FrameRecord,
)
from muzero_rc.types.frame import (
    MAX_PSNR_DB,
    NUM_QINDEX,
    PEAK,
    SHOW_BITS,
    FrameInfo,
    FrameResult,
    FrameRole,
    UpdateType,
    Work,
    is_show_existing,
    psnr_db,
)
from muzero_rc.types.policy import (
    HasBlocks,
    KnownBlocks,
    Observation,
    Policy,
    QindexPolicy,
    needs_blocks,
)

__all__ = [
    "EncodeLog",
    "EpisodeScore",
    "FROZEN",
    "FrameDecision",
    "FrameInfo",
    "FrameRecord",
    "FrameResult",
    "FrameRole",
    "GopDecision",
    "GopLimits",
    "HasBlocks",
    "KEEP",
    "KnownBlocks",
    "MAX_PSNR_DB",
    "NUM_QINDEX",
    "Observation",
    "PEAK",
    "PartitionHint",
    "Policy",
    "QindexPolicy",
    "RateAccount",
    "SHOW_BITS",
    "STREAM_SPEED",
    "ShowExisting",
    "SpeedFeatures",
    "TIERS",
    "UpdateType",
    "Work",
    "is_show_existing",
    "needs_blocks",
    "psnr_db",
]
