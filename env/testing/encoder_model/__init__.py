"""A fast model of the encoder, fitted to real encodes: for tests and pretraining.

It answers in microseconds what libvpx answers in milliseconds, behind the same protocols,
and the best qindexes for a clip and target can be computed. It is a model: see
`formulas` for how far it is off.
"""

from muzero_rc.env.testing.encoder_model.backend import ModelBackend, ModelClip
from muzero_rc.env.testing.encoder_model.formulas import EncoderModel, FrameKind
from muzero_rc.env.testing.encoder_model.optimum import Plan, best_constant, optimum

__all__ = [
    "EncoderModel",
    "FrameKind",
    "ModelBackend",
    "ModelClip",
    "Plan",
    "best_constant",
    "optimum",
]
