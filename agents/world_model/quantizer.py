"""The steps of VP9's quantizer, and their logarithm to and from qindexes.

Models here count in octaves of the step, since bits and errors follow it far more evenly
than they follow the qindex.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from muzero_rc.types import NUM_QINDEX

__all__ = ["AC_STEPS", "SMALLEST", "log2_step", "qindex_of"]

# The table grows by these amounts, each this often: `ac_qlookup` for 8 bits, section 8.6.1
# of the VP9 bitstream specification.
_GROWTH = (
    (4, 1), (1, 94), (2, 25), (3, 17), (4, 13), (5, 10), (6, 9), (7, 7), (8, 6), (9, 6),
    (10, 5), (11, 5), (12, 4), (13, 4), (14, 4), (15, 3), (16, 3), (17, 3), (18, 3), (19, 3),
    (20, 2), (21, 3), (22, 2), (23, 2), (24, 2), (25, 2), (26, 2), (27, 2), (28, 2), (29, 2),
    (30, 2), (31, 1), (32, 2), (33, 1), (34, 2), (35, 1),
)  # fmt: skip
_FIRST = 4

AC_STEPS: npt.NDArray[np.int64] = np.cumsum(
    [_FIRST, *(amount for amount, times in _GROWTH for _ in range(times))]
)
"""[NUM_QINDEX] step of the AC coefficients at each qindex, 8 bits a sample."""

SMALLEST = 12
"""Added to a step before its logarithm is taken.

Between qindex 0 and 16 the step grows nearly sixfold. Counted in plain octaves, a few clips at
high quality outweigh all others in the fit. Of 0, 8, 24 and 60 on sources held out, R2 of gains
was -2.4, -0.3, 0.0 and 0.1, that of frames' errors 0.54, 0.55, 0.54 and 0.51; 12 lies between
the middle two (docs/notes, linear response model).
"""

_LOG2 = np.log2(AC_STEPS + SMALLEST)
_QINDEXES = np.arange(NUM_QINDEX, dtype=np.float64)


def log2_step(qindex: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """log2 of the quantizer's step and `SMALLEST`. [...] -> [...].

    Linear between qindexes, the ends beyond.
    """
    return np.asarray(np.interp(np.asarray(qindex, np.float64), _QINDEXES, _LOG2))


def qindex_of(log2_steps: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The inverse of `log2_step`, not rounded. [...] -> [...]."""
    return np.asarray(np.interp(np.asarray(log2_steps, np.float64), _LOG2, _QINDEXES))
