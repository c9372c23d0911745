"""Rate and distortion of a frame from its qindex, its complexity and its reference.

    log2 mse = a . (1, u, c, r)      error per sample, all planes
    log2 bpp = b . (1, u, c)         bits per luma pixel

    u = qindex / 255, c = log2(1 + e / 256) with e the first pass's error per macroblock
    less libvpx's floor (intra error for key frames, coded error for others), and
    r = log2 mse of the reference: the newest alternate reference or key frame.

Coefficients are the least squares fit for three kinds of frames to logged encodes of real
clips by libvpx 1.12 at speed 5 (`python -m muzero_rc.training.fit_encoder_model`); they and
the fit's error on clips of other sources lie in `coefficients.json`. For a frame of an
unknown clip the model is off by 40 to 70% in bits and 0.7 to 1.3 dB in the median, and one
frame in ten by a factor of 2.4 to 4 and 2.4 to 3.4 dB: enough to learn what a reference is
worth, not to predict an encode. Squares of u and its product with c fit
a little better and are left out: with them the fit has finer quantizers cost fewer bits at
the ends of the range. That a reference's error costs quality and not bits is the fit's own
finding: as another term of the rate it changed next to nothing.
"""

from __future__ import annotations

import enum
import functools
import importlib.resources
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from muzero_rc.errors import InputError
from muzero_rc.types import NUM_QINDEX, UpdateType

__all__ = ["EncoderModel", "FrameKind", "complexity", "kind_of", "rate_terms", "reference_term"]

_ERROR_UNIT = 256.0
_LEAST_MSE = 1e-3
_FLOOR = 200.0  # libvpx adds 200 / sqrt(macroblocks) to each error: vp9_firstpass.c
_U = np.arange(NUM_QINDEX) / 255.0


class FrameKind(enum.IntEnum):
    """Kinds of frames that have coefficients of their own."""

    KEY = 0
    REFERENCE = 1
    LEAF = 2


def kind_of(update_type: UpdateType) -> FrameKind:
    """The kind of a frame by why it is coded."""
    if update_type is UpdateType.KEY:
        return FrameKind.KEY
    if update_type in (UpdateType.ARF, UpdateType.GOLDEN):
        return FrameKind.REFERENCE
    return FrameKind.LEAF


def complexity(error: npt.ArrayLike, width: int, height: int) -> npt.NDArray[np.float64]:
    """c from a first-pass error per macroblock. [...] -> [...]."""
    macroblocks = -(-width // 16) * -(-height // 16)
    above = np.maximum(np.asarray(error, np.float64) - _FLOOR / np.sqrt(macroblocks), 0.0)
    return np.asarray(np.log2(1.0 + above / _ERROR_UNIT))


def rate_terms(u: npt.ArrayLike, c: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """(1, u, c). [...], [...] -> [..., 3]."""
    u, c = np.broadcast_arrays(np.asarray(u, np.float64), np.asarray(c, np.float64))
    return np.stack([np.ones_like(u), u, c], axis=-1)


def reference_term(mse: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """r from a reference's error. [...] -> [...]."""
    return np.asarray(np.log2(np.maximum(np.asarray(mse, np.float64), _LEAST_MSE)))


@dataclass(frozen=True)
class EncoderModel:
    """Fitted coefficients.

    Attributes:
      mse: [3, 4] of log2 mse, a row per `FrameKind`; a key frame's last is 0.
      bpp: [3, 3] of log2 bits per pixel.
      record: what they were fitted to and how far they are off.
    """

    mse: npt.NDArray[np.float64]
    bpp: npt.NDArray[np.float64]
    record: Mapping[str, Any]

    @classmethod
    @functools.cache
    def fitted(cls) -> EncoderModel:
        """The coefficients that come with the package."""
        path = (
            importlib.resources.files("muzero_rc.env.testing.encoder_model") / "coefficients.json"
        )
        return cls.from_dict(json.loads(path.read_text()))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EncoderModel:
        """Reads what the fit wrote.

        Raises:
          InputError: it is something else.
        """
        try:
            mse = np.array(values["mse"], np.float64)
            bpp = np.array(values["bpp"], np.float64)
            record = dict(values["record"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"these are no coefficients of the encoder model: {error}") from error
        if mse.shape != (3, 4) or bpp.shape != (3, 3):
            raise InputError(f"coefficients are {mse.shape} and {bpp.shape}, not (3, 4), (3, 3)")
        return cls(mse, bpp, record)

    def log2_mse(self, kind: FrameKind, c: float) -> npt.NDArray[np.float64]:
        """log2 mse of each qindex, the reference's part left out. [256]."""
        return np.asarray(rate_terms(_U, c) @ self.mse[kind, :3])

    def passed_on(self, kind: FrameKind) -> float:
        """How much of its reference's log2 error a frame takes over."""
        return float(self.mse[kind, 3])

    def log2_bpp(self, kind: FrameKind, c: float) -> npt.NDArray[np.float64]:
        """log2 bits per luma pixel of each qindex. [256]."""
        return np.asarray(rate_terms(_U, c) @ self.bpp[kind])
