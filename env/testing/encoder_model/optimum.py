"""The best qindexes that the encoder model allows, and the best single one.

In the model a frame's log error is its own part plus a share of its reference's, and PSNR
avg is the mean of the logs. So each frame's own part counts with a weight, itself and all
that its error is passed on to, and what is left to choose is separable:

    maximise sum_f w_f psnr_f(q_f)   subject to   sum_f bits_f(q_f) <= budget

For a multiplier on bits every frame takes its best qindex alone; the multiplier is found by
bisection, which gives the best plan on the convex hull (Everett 1963). What is left of the
budget then goes to single frames while any can use it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from muzero_rc.errors import InputError

__all__ = ["Plan", "Tables", "best_constant", "optimum"]

_BISECTIONS = 60


@dataclass(frozen=True)
class Tables:
    """A clip as the model sees it, for every qindex of every coded frame.

    Attributes:
      bits: [F, 256].
      gain: [F, 256], what the frame's choice adds to PSNR avg, dB, its effect on the frames
        that refer to it included.
      base: dB; PSNR avg is base plus the sum of gains.
      overhead: bits that no choice changes.
    """

    bits: npt.NDArray[np.float64]
    gain: npt.NDArray[np.float64]
    base: float
    overhead: float

    def score(self, qindexes: npt.ArrayLike) -> tuple[float, float]:
        """(bits, PSNR avg in dB) of a plan [F]."""
        rows = np.arange(len(self.bits))
        chosen = np.asarray(qindexes, np.int64)
        bits = self.overhead + float(self.bits[rows, chosen].sum())
        return bits, self.base + float(self.gain[rows, chosen].sum())


@dataclass(frozen=True)
class Plan:
    """qindexes and what they give.

    Attributes:
      qindexes: [F] int.
      bits: of the clip.
      psnr_avg: dB.
    """

    qindexes: tuple[int, ...]
    bits: float
    psnr_avg: float


def best_constant(tables: Tables, budget: float) -> Plan:
    """One qindex for all frames, the best that stays within the budget.

    Raises:
      InputError: none does.
    """
    plans = []
    for qindex in range(tables.bits.shape[1]):
        qindexes = (qindex,) * len(tables.bits)
        bits, psnr = tables.score(qindexes)
        if bits <= budget:
            plans.append(Plan(qindexes, bits, psnr))
    if not plans:
        raise InputError("the target is out of reach: even qindex 255 takes more bits")
    return max(plans, key=lambda plan: plan.psnr_avg)


def optimum(tables: Tables, budget: float) -> Plan:
    """The plan of highest PSNR avg within the budget.

    Raises:
      InputError: none stays within it.
    """
    best = _at(tables, np.inf)
    if best.bits > budget:
        raise InputError("the target is out of reach: even qindex 255 takes more bits")
    low, high = 1e-12, 1e3  # dB per bit
    for _ in range(_BISECTIONS):
        price = float(np.sqrt(low * high))
        plan = _at(tables, price)
        if plan.bits > budget:
            low = price
            continue
        high = price
        best = max(best, plan, key=lambda p: p.psnr_avg)
    return _fill(tables, best, budget)


def _at(tables: Tables, price: float) -> Plan:
    if np.isinf(price):
        chosen = tables.bits.argmin(axis=1)
    else:
        chosen = (tables.gain - price * tables.bits).argmax(axis=1)
    return _plan(tables, chosen)


def _plan(tables: Tables, chosen: npt.NDArray[np.int64]) -> Plan:
    return Plan(tuple(int(q) for q in chosen), *tables.score(chosen))


def _fill(tables: Tables, plan: Plan, budget: float) -> Plan:
    """Spends what the hull's steps have left over: the best single change, again and again."""
    rows = np.arange(len(tables.bits))
    while True:
        chosen = np.array(plan.qindexes)
        more = tables.bits - tables.bits[rows, chosen][:, None]
        gain = tables.gain - tables.gain[rows, chosen][:, None]
        gain[more > budget - plan.bits] = -np.inf
        frame, qindex = np.unravel_index(int(gain.argmax()), gain.shape)
        if gain[frame, qindex] <= 1e-12:
            return plan
        chosen[frame] = qindex
        plan = _plan(tables, chosen)
