"""The linear response model: a frame's bits and error answer to its step and its references.

For each coded frame f, relative to a base encode of the same clip,

    B_f = a(x_f) g_f + a2(x_f) g_f^2 + sum_r c_r(x_f) E_r
    E_f = e(x_f) g_f + e2(x_f) g_f^2 + sum_r p_r(x_f) E_r

with g the change of log2 of the quantizer's step, B and E the changes of log2 bits and of
log2 squared error, and r the frame's references LAST, GOLDEN, ALTREF. Each coefficient is
linear in the features x_f. It is evaluated in coding order, so that an error travels on
through all that refers to it. Predicted are changes from a real encode, never levels.

The recursive form is ours; that distortion passes to what refers to it is what libvpx's TPL
estimates beforehand. Measured in docs/notes, linear response model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from muzero_rc.agents.world_model.features import NUM_FEATURES, features_of
from muzero_rc.agents.world_model.frames import NO_REFERENCE, REFERENCES, EncodeFrames
from muzero_rc.agents.world_model.quantizer import log2_step
from muzero_rc.errors import InputError
from muzero_rc.types import NUM_QINDEX

__all__ = [
    "NUM_OUTPUTS",
    "NUM_TERMS",
    "FrameModel",
    "LinearModel",
    "Response",
    "octaves_of_steps",
    "terms",
]

NUM_OUTPUTS = 2
"""log2 bits, log2 squared error."""

NUM_TERMS = 2 + REFERENCES
"""g, its square, one for each reference."""

_Floats = npt.NDArray[np.float64]


def octaves_of_steps(base: EncodeFrames, steps: npt.ArrayLike) -> _Floats:
    """Changes of log2 of the quantizer's step for steps in qindexes. [N] -> [N].

    qindexes end at 0 and 255.
    """
    moved = np.clip(base.qindex + np.asarray(steps, np.float64), 0, NUM_QINDEX - 1)
    return log2_step(moved) - log2_step(base.qindex)


def terms(frames: EncodeFrames, octaves: _Floats, sse: _Floats) -> _Floats:
    """What the coefficients of each frame are multiplied with. [N], [N] -> [N, NUM_TERMS].

    Args:
      frames: whose references count.
      octaves: g of every frame.
      sse: E of every frame.
    """
    passed = np.where(frames.references != NO_REFERENCE, sse[frames.references], 0.0)
    return np.concatenate([octaves[:, None], octaves[:, None] ** 2, passed], axis=1)


class FrameModel(Protocol):
    """What plans can be made with."""

    def response(self, base: EncodeFrames, features: _Floats) -> Response:
        """How the frames of a clip answer, from their features [N, NUM_FEATURES]."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class LinearModel:
    """Fitted coefficients.

    Attributes:
      coefficients: [NUM_OUTPUTS, NUM_TERMS, NUM_FEATURES] octaves per unit of term and feature.
    """

    coefficients: _Floats

    def __post_init__(self) -> None:
        """Checks the shape.

        Raises:
          InputError: it is another, or a coefficient is not finite.
        """
        shape = (NUM_OUTPUTS, NUM_TERMS, NUM_FEATURES)
        if self.coefficients.shape != shape or not np.isfinite(self.coefficients).all():
            raise InputError(
                f"a linear model has {shape} finite coefficients, not {self.coefficients.shape}"
            )

    def response(self, base: EncodeFrames, features: _Floats | None = None) -> Response:
        """How the frames of a clip answer.

        Args:
          base: the encode that changes are relative to.
          features: [N, NUM_FEATURES], of the base or of a probe; None takes the base's own.

        Raises:
          InputError: there are not as many rows of features as frames.
        """
        features = features_of(base) if features is None else features
        if features.shape != (len(base), NUM_FEATURES):
            raise InputError(
                f"features have the shape {features.shape}, not {(len(base), NUM_FEATURES)}"
            )
        # [NUM_OUTPUTS, N, NUM_TERMS]
        return Response(base, np.einsum("otf,nf->ont", self.coefficients, features))

    def predict(
        self, base: EncodeFrames, steps: npt.ArrayLike, features: _Floats | None = None
    ) -> tuple[_Floats, _Floats]:
        """Changes of log2 bits and of log2 error for steps in qindexes [N]. [N] each.

        Args:
          base: the encode that changes are relative to.
          steps: qindexes to add to the base's.
          features: as for `response`.

        Raises:
          InputError: as for `response`.
        """
        return self.response(base, features).changes(octaves_of_steps(base, steps))


class Response:
    """The coefficients of every frame of one clip.

    Attributes:
      base: the encode that changes are relative to.
      bits: [N, NUM_TERMS] a, a2, c of every frame.
      sse: [N, NUM_TERMS] e, e2, p; the absolute p of a frame sum to 1 at most, since a frame
        takes over no more than the whole relative error of its references. Without that bound
        a fit that is off a little makes errors grow without end along a chain of references.
    """

    def __init__(self, base: EncodeFrames, coefficients: _Floats) -> None:
        """Takes coefficients [NUM_OUTPUTS, N, NUM_TERMS]."""
        real = base.references != NO_REFERENCE
        self.base = base
        self.bits = np.array(coefficients[0])
        self.sse = np.array(coefficients[1])
        self.bits[:, 2:] *= real
        self.sse[:, 2:] *= real
        passed = np.abs(self.sse[:, 2:]).sum(axis=1, keepdims=True)
        self.sse[:, 2:] /= np.maximum(passed, 1.0)

    def calibrated(self, by_bits: _Floats, by_sse: _Floats) -> Response:
        """The same with all errors scaled so that a common step gains nothing.

        The slope of a clip's curve says what quality goes with what rate where all qindexes
        move together, so the gain of such a step is zero to first order. A model of other
        clips need not know that. Unchanged where no positive scale would do it.

        Args:
          by_bits: [N] derivatives of the gain by B at the base.
          by_sse: [N] and by E.
        """
        # With errors scaled by x: by_bits (own + x passed) + by_sse x errors = 0.
        bits_by, sse_by = self.propagation()
        own = float(by_bits @ self.bits[:, 0])
        answered = float(by_sse @ (sse_by @ self.sse[:, 0]) + by_bits @ (bits_by @ self.sse[:, 0]))
        scaled = Response(self.base, np.stack([self.bits, self.sse]))
        if own * answered < 0.0:
            scaled.sse[:, :2] *= -own / answered
        return scaled

    def changes(self, octaves: _Floats, added: _Floats | None = None) -> tuple[_Floats, _Floats]:
        """B and E for the frames' changes g of log2 step. [N] -> [N], [N].

        Args:
          octaves: g.
          added: [NUM_OUTPUTS, N] to B and E of each frame, from what is no step.
        """
        references = self.base.references
        sse = self.sse[:, 0] * octaves + self.sse[:, 1] * octaves**2
        if added is not None:
            sse += added[1]
        passed = self.sse[:, 2:]
        for frame in range(len(sse)):
            # Coefficients of absent references, position -1, are zero.
            sse[frame] += passed[frame] @ sse[references[frame]]
        bits = (self.bits * terms(self.base, octaves, sse)).sum(axis=1)
        return (bits if added is None else bits + added[0]), sse

    def pull_back(self, octaves: _Floats, by_bits: _Floats, by_sse: _Floats) -> _Floats:
        """Derivatives by g from those by B and E, exactly: the recursion backwards. [N] -> [N].

        Args:
          octaves: g where they are taken.
          by_bits: derivatives of some value by B.
          by_sse: and by E, other frames' errors left as they are.
        """
        total = self.total_by_sse(by_bits, by_sse)
        return by_bits * (self.bits[:, 0] + 2.0 * self.bits[:, 1] * octaves) + total * (
            self.sse[:, 0] + 2.0 * self.sse[:, 1] * octaves
        )

    def total_by_sse(self, by_bits: _Floats, by_sse: _Floats) -> _Floats:
        """Derivatives by E with all that an error passes on to. [N] -> [N]."""
        references = self.base.references
        total = np.array(by_sse)
        for frame in range(len(total) - 1, -1, -1):
            # A frame's references differ from each other; absent ones, position -1, add zero.
            passed = self.sse[frame, 2:] * total[frame] + self.bits[frame, 2:] * by_bits[frame]
            np.add.at(total, references[frame], passed)
        return total

    def propagation(self) -> tuple[_Floats, _Floats]:
        """How a frame's own change of error reaches all bits and errors. [N, N] each.

        Entry (f, j) is the derivative of B_f, and of E_f, by an error added to frame j.
        """
        count = len(self.base)
        references = self.base.references
        sse = np.eye(count)
        for frame in range(count):
            sse[frame] += self.sse[frame, 2:] @ sse[references[frame]]
        bits = np.einsum("nr,nrj->nj", self.bits[:, 2:], sse[references])
        return bits, sse
