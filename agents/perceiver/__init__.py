"""The Perceiver family in haiku."""

from muzero_rc.agents.perceiver.attention import Attention, CrossAttention, SelfAttention, attend
from muzero_rc.agents.perceiver.io import PerceiverDecoder, PerceiverEncoder
from muzero_rc.agents.perceiver.position import PositionTable, fourier_features

__all__ = [
    "Attention",
    "CrossAttention",
    "PerceiverDecoder",
    "PerceiverEncoder",
    "PositionTable",
    "SelfAttention",
    "attend",
    "fourier_features",
]
