"""Changes of frames between two encodes of a clip, and what they are worth to the clip.

With B_f and S_f the changes of log2 bits and of log2 shown error of frame f, w_f how often it
is shown, and k = 10 log10(2) dB per octave,

    rate     = log2((o + sum bits_f 2^B_f) / (o + sum bits_f))
    average  = sum w_f (min(60, psnr_f - k S_f) - psnr_f) / sum w_f
    overall  = -k log2(sum w_f sse_f 2^S_f / sum w_f sse_f)
    gain     = (h average + (1 - h) overall) / slope - rate

in octaves of rate at equal quality; o is what showing buffers costs. Of a frame whose source
was filtered only the share s of the shown error answers to its qindex:

    S_f = log2(1 + s_f (2^E_f - 1))

with E_f the change of the coded frame's own error. The gain is concave in B and E. See
docs/notes, linear response model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from muzero_rc.agents.world_model.frames import MAX_FRAME_PSNR_DB, EncodeFrames
from muzero_rc.agents.world_model.quantizer import log2_step
from muzero_rc.errors import InputError

__all__ = ["DB_PER_OCTAVE", "FrameChanges", "Objective"]

DB_PER_OCTAVE = 10.0 * float(np.log10(2.0))
"""PSNR that a halved error gains."""

_LN2 = float(np.log(2.0))

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class FrameChanges:
    """What another encode of the same frames has more of than its base.

    Attributes:
      octaves: [N] log2 of the quantizer's step; 0 for frames that the base repeated, whose
        qindex nothing was coded with.
      bits: [N] log2 of bits.
      sse: [N] log2 of the coded frames' error.
      shown_sse: [N] log2 of the error where the frames are shown.
      comparable: [N] whether both encodes coded the frame, or both repeated it.
      rate: log2 of all bits of the log.
    """

    octaves: _Floats
    bits: _Floats
    sse: _Floats
    shown_sse: _Floats
    comparable: npt.NDArray[np.bool_]
    rate: float

    @classmethod
    def between(cls, base: EncodeFrames, other: EncodeFrames) -> FrameChanges:
        """The changes from `base` to `other`.

        Raises:
          InputError: they do not have the same frames in the same order.
        """
        if not base.same_structure(other):
            raise InputError("the encodes have other frames: nothing can be compared")
        octaves = log2_step(other.qindex) - log2_step(base.qindex)
        return cls(
            octaves=np.where(base.repeated, 0.0, octaves),
            bits=other.log2_bits - base.log2_bits,
            sse=other.log2_sse - base.log2_sse,
            shown_sse=np.log2(other.shown_sse) - np.log2(base.shown_sse),
            comparable=base.repeated == other.repeated,
            rate=float(np.log2(other.total_bits / base.total_bits)),
        )


class Objective:
    """The gain of a clip as a function of its frames' changes from a base."""

    def __init__(self, base: EncodeFrames, slope: float, average_share: float = 0.5) -> None:
        """Prepares it.

        Args:
          base: the encode that changes are relative to.
          slope: of the clip's curve of quality over rate at the base, dB per octave.
          average_share: h, the weight of the mean of frames' PSNR beside that of the clip's
            summed error. Half each gained most in both (docs/notes, linear response model).

        Raises:
          InputError: no frame is shown, or the slope is not positive.
        """
        if not slope > 0.0:
            raise InputError(f"a curve of quality over rate rises; its slope is not {slope}")
        shows = float(base.weight.sum())
        if shows <= 0.0:
            raise InputError("an encode that shows no frame has no quality")
        self.slope = slope
        self._shows = base.weight / shows
        self._psnr = base.shown_psnr
        error = base.weight * base.shown_sse
        self._error = error / error.sum()
        self._bits = base.bits / base.total_bits
        self._overhead = base.overhead_bits / base.total_bits
        self._passing = base.passing
        self._average = average_share * DB_PER_OCTAVE / slope
        self._overall = (1.0 - average_share) * DB_PER_OCTAVE / slope

    @property
    def shares(self) -> _Floats:
        """[N] of all bits of the base."""
        return self._bits

    def shown(self, sse: _Floats) -> _Floats:
        """S of E. [N] -> [N]."""
        return np.log2(1.0 + self._passing * (np.exp2(sse) - 1.0))

    def rate(self, bits: _Floats) -> float:
        """Change of log2 of all bits for the frames' changes B [N]."""
        return float(np.log2(self._overhead + self._bits @ np.exp2(bits)))

    def average(self, shown_sse: _Floats) -> float:
        """Change of the frames' mean PSNR in dB for S [N]."""
        return float(self._shows @ (self._capped(shown_sse) - self._psnr))

    def overall(self, shown_sse: _Floats) -> float:
        """Change of the PSNR of the clip's summed error in dB for S [N]."""
        return -DB_PER_OCTAVE * float(np.log2(self._error @ np.exp2(shown_sse)))

    def gain(self, bits: _Floats, shown_sse: _Floats) -> float:
        """Octaves of rate saved at equal quality for B and S [N]."""
        quality = self._average * self.average(shown_sse) + self._overall * self.overall(shown_sse)
        return quality / DB_PER_OCTAVE - self.rate(bits)

    def at_base(self) -> tuple[_Floats, _Floats]:
        """Derivatives of the gain by B and E where nothing has changed. [N], [N]."""
        nothing = np.zeros_like(self._bits)
        return self.gradient(nothing, nothing)

    def realised(self, changes: FrameChanges) -> float:
        """The gain that another encode really had."""
        quality = self._average * self.average(changes.shown_sse)
        quality += self._overall * self.overall(changes.shown_sse)
        return quality / DB_PER_OCTAVE - changes.rate

    def gradient(self, bits: _Floats, sse: _Floats) -> tuple[_Floats, _Floats]:
        """Derivatives of the gain by B and E. [N], [N] -> [N], [N]."""
        by_shown, _ = self._by_shown(sse)
        return -self._rate_shares(bits), by_shown * self._shown_slope(sse)

    def curvature(
        self, bits: _Floats, sse: _Floats
    ) -> tuple[tuple[_Floats, _Floats], tuple[_Floats, _Floats]]:
        """The negated second derivatives by B, and those by E, each diag(d) - v v^T.

        Returns:
          d and v for B, d and v for E. [N] each; both matrices are positive semidefinite.
        """
        shares = self._rate_shares(bits)
        _, tilted = self._by_shown(sse)
        slope = self._shown_slope(sse)
        # A negated logarithm of a sum of powers has the covariance of its terms' shares.
        moved = tilted * slope
        bent = self._overall * moved
        bent += self._average * self._shows * self._free(sse) * slope * (1.0 - slope)
        return (
            (_LN2 * shares, np.sqrt(_LN2) * shares),
            (_LN2 * bent, np.sqrt(_LN2 * self._overall) * moved),
        )

    def _capped(self, shown_sse: _Floats) -> _Floats:
        return np.minimum(self._psnr - DB_PER_OCTAVE * shown_sse, MAX_FRAME_PSNR_DB)

    def _rate_shares(self, bits: _Floats) -> _Floats:
        powers = self._bits * np.exp2(bits)
        return powers / (self._overhead + powers.sum())

    def _free(self, sse: _Floats) -> npt.NDArray[np.bool_]:
        """[N] whether a frame is below the cap."""
        return self._psnr - DB_PER_OCTAVE * self.shown(sse) <= MAX_FRAME_PSNR_DB

    def _by_shown(self, sse: _Floats) -> tuple[_Floats, _Floats]:
        """Derivative of the gain by S, and the shares of the summed error. [N] each."""
        powers = self._error * np.exp2(self.shown(sse))
        tilted = powers / powers.sum()
        return -self._average * self._shows * self._free(sse) - self._overall * tilted, tilted

    def _shown_slope(self, sse: _Floats) -> _Floats:
        """dS/dE. [N]."""
        powers = np.exp2(sse)
        return self._passing * powers / (1.0 + self._passing * (powers - 1.0))
