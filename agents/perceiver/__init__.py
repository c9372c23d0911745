"""The Perceiver family in haiku."""

from muzero_rc.agents.perceiver.ar import PerceiverAR, causal_mask
from muzero_rc.agents.perceiver.attention import (
    Attention,
    CrossAttention,
    SelfAttention,
    attend,
    squared_relu,
)
from muzero_rc.agents.perceiver.hip import HiP, HiPBlock, HiPBlockConfig, HiPOutput
from muzero_rc.agents.perceiver.io import PerceiverDecoder, PerceiverEncoder
from muzero_rc.agents.perceiver.position import PositionTable, fourier_features, rotate

__all__ = [
    "Attention",
    "CrossAttention",
    "HiP",
    "HiPBlock",
    "HiPBlockConfig",
    "HiPOutput",
    "PerceiverAR",
    "PerceiverDecoder",
    "PerceiverEncoder",
    "PositionTable",
    "SelfAttention",
    "attend",
    "causal_mask",
    "fourier_features",
    "rotate",
    "squared_relu",
]
