"""How far an encode is: one measure over all phases, and the time left.

A phase counts by what its frames cost. Before it has begun that is known from its cost beside
the other phases' (`_MS_PER_FRAME`), and from then on it is measured, from its first frame on:
what a process takes to start says nothing of its speed. A phase without frames takes the seconds
that a trial of it took.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["JobProgress", "JobState", "ProbeKind", "phase_costs"]

ProbeKind = Literal["whole", "realtime", "beside"]
"""A probe encode of all passes, or an encode in real time, after the first pass or beside it."""

# Of a phase's frames, from which its own measured speed is trusted; set by hand.
_SURE_SHARE = 0.02
# ms of CPU a frame by speed from 0: first pass, first probe encode, last pass with what is
# probed again, check. Measured on 60 frames of 96 lines (docs/notes/2026-11-29-films-in-chunks.md);
# only their ratios count, and only until a phase's own speed is measured.
_MS_PER_FRAME = (
    (0.56, 6.8, 73.0, 0.4),
    (0.57, 6.6, 73.0, 0.4),
    (0.52, 6.6, 24.5, 0.4),
    (0.57, 6.6, 24.3, 0.4),
    (0.54, 6.1, 22.1, 0.4),
    (0.65, 6.9, 16.7, 0.4),
)
# From this speed on the last pass of a uniform profile is about what a probe encode is, whose
# frames are all searched at speed 4. Set by hand, of the film tables in docs/notes.
_AS_A_PROBE = 3
_REALTIME = 2.0  # first passes that an encode in real time takes; measured likewise


@dataclass(frozen=True, slots=True)
class JobState:
    """How far a job is.

    Attributes:
      share: of its work that is done, 0 to 1; never falls.
      eta_s: seconds left; None before anything was measured.
      measured: phases whose own speed is known.
    """

    share: float
    eta_s: float | None
    measured: frozenset[str] = frozenset()

    def is_measured(self, phase: str) -> bool:
        """Whether a phase's own speed is known."""
        return phase in self.measured


@dataclass(slots=True)
class _Phase:
    """A phase's frames.

    Attributes:
      cost: seconds of a frame beside the other phases', before it is measured.
      total: frames of the phase.
      done: of them.
      kept: of those, frames that an earlier start had done.
      before: frames of runs of it that were begun anew since, of those done.
      start: when the first ones were done here.
      lead: how many they were.
      seconds: since then, at the latest frame.
      fixed: seconds of the whole phase, of one without frames.
    """

    cost: float
    total: int
    done: int = 0
    kept: int = 0
    before: int = 0
    start: float | None = None
    lead: int = 0
    seconds: float = 0.0
    fixed: float | None = None

    @property
    def measured(self) -> float | None:
        """Seconds of a frame, once they are known."""
        worked = self.done - self.kept - self.lead
        if self.fixed is not None or worked <= max(_SURE_SHARE * self.total, 1):
            return None
        return self.seconds / worked


class JobProgress:
    """Adds up the frames of all phases."""

    def __init__(
        self, costs: Mapping[str, float], frames: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Takes what is ahead.

        Args:
          costs: seconds of a frame in each phase, in the phases' order; their ratios count.
          frames: of the clip or film, each of which goes through every phase.
          clock: seconds.
        """
        self._phases = {name: _Phase(cost, frames) for name, cost in costs.items()}
        self._clock = clock
        self._share = 0.0

    @property
    def phases(self) -> frozenset[str]:
        """Those that count."""
        return frozenset(self._phases)

    def expect(self, phase: str, seconds: float) -> None:
        """A phase without frames, which will take so many seconds."""
        self._phases[phase] = _Phase(0.0, 1, fixed=seconds)

    def set_frames(self, frames: int) -> None:
        """The film has so many frames, now that it is known."""
        for phase in self._phases.values():
            if phase.fixed is None:
                phase.total = max(frames, phase.done)

    def reach(self, phase: str, done: int, total: int | None) -> None:
        """A phase begins, or has so many frames done of those that it has.

        Fewer than before: it was begun anew, and comes on top.
        """
        found = self._phases[phase]
        if done < found.done - found.before:
            found.before = found.done
        if total is not None:
            found.total = found.before + total
        self.add(phase, found.before + done - found.done)

    def add(self, phase: str, frames: int, *, kept: bool = False) -> None:
        """So many frames more of a phase are done, now or by an earlier start."""
        found = self._phases[phase]
        found.done += frames
        found.total = max(found.total, found.done)
        if kept:
            found.kept += frames
        elif found.start is not None:
            found.seconds = self._clock() - found.start
        elif frames:
            found.start, found.lead = self._clock(), frames

    def done(self, phase: str) -> tuple[int, int]:
        """(frames done, frames of the phase)."""
        found = self._phases[phase]
        return found.done, found.total

    def read(self) -> JobState:
        """How far the job is now."""
        costs = self._costs()
        ahead = sum(costs[n] * (p.total - p.done) for n, p in self._phases.items())
        behind = sum(costs[n] * p.done for n, p in self._phases.items())
        if ahead + behind > 0:
            self._share = max(self._share, behind / (ahead + behind))
        known = frozenset(n for n, p in self._phases.items() if p.measured is not None)
        return JobState(self._share, ahead if known else None, known)

    def _costs(self) -> dict[str, float]:
        """Seconds of a frame in each phase, as far as they are known now."""
        measured = {n: p.measured for n, p in self._phases.items()}
        # This machine, with what else it does, over the one of the table.
        paid = sum(m * self._phases[n].done for n, m in measured.items() if m is not None)
        expected = sum(p.cost * p.done for n, p in self._phases.items() if measured[n] is not None)
        pace = paid / expected if expected > 0 else 1.0
        return {
            name: pace * phase.cost if (found := measured[name] or phase.fixed) is None else found
            for name, phase in self._phases.items()
        }


def phase_costs(
    speed: int, workers: int, *, probe: ProbeKind | None = "whole", uniform: bool = False
) -> dict[str, float]:
    """Time of a frame in each phase of an encode, beside those of the others.

    Args:
      speed: of the encode, `cpu-used`.
      workers: chunks in work at a time, which share probes and last passes.
      probe: the kind of probe encode that it has.
      uniform: all frames are searched at one speed.
    """
    first, probed, last, check = _MS_PER_FRAME[min(speed, len(_MS_PER_FRAME) - 1)]
    if uniform and speed >= _AS_A_PROBE:
        last = probed
    if probe == "realtime":
        probed = _REALTIME * first
    elif probe == "beside":  # chunks that are encoded again at another level are not foreseen
        first, probed = (1.0 + _REALTIME) * first, 0.0
        if workers > 1:
            first *= _REALTIME / (1.0 + _REALTIME)  # by two threads: as long as the longer one
    costs = {
        "first pass": first,
        "probe": probed / workers,
        "second pass": last / workers,
        "check": check,
    }
    if probe is None:
        del costs["probe"]
    return costs
