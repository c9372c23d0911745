"""Observations: what an agent sees before each decision."""

from muzero_rc.env.observation.builder import (
    BOUND,
    CLIP_COLUMNS,
    CLIP_FEATURES,
    FRAME_CLIP_COLUMNS,
    FRAME_COLUMNS,
    FRAME_FEATURES,
    GLOBAL_COLUMNS,
    GLOBAL_FEATURES,
    HISTORY_COLUMNS,
    HISTORY_FEATURES,
    HISTORY_POSITION_COLUMNS,
    OBSERVATION_VERSION,
    POSITION_SCALE,
    ClipShape,
    ObservationBuilder,
    clip_features,
)

__all__ = [
    "BOUND",
    "CLIP_COLUMNS",
    "CLIP_FEATURES",
    "FRAME_CLIP_COLUMNS",
    "FRAME_COLUMNS",
    "FRAME_FEATURES",
    "GLOBAL_COLUMNS",
    "GLOBAL_FEATURES",
    "HISTORY_COLUMNS",
    "HISTORY_FEATURES",
    "HISTORY_POSITION_COLUMNS",
    "OBSERVATION_VERSION",
    "POSITION_SCALE",
    "ClipShape",
    "ObservationBuilder",
    "clip_features",
]
