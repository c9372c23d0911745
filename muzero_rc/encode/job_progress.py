"""How far an encode is: one measure over all phases, and the time left.

A phase counts by what its frames cost. Before it has begun that is known from its cost beside
the other phases' (`_FIRST_PASSES`), and from then on it is measured, from its first frame on:
what a process takes to start says nothing of its speed. Until a chunk's worth of frames is
measured, both count. The latest frames count most, since what else a machine does changes.
Frames of a film's chunks weigh what they are expected to take beside the film's mean. A phase
without frames takes the seconds that a trial of it took.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from muzero_rc.encode.cut import LEAST_FRAMES
from muzero_rc.env.codec.parts import LEAST_SOUGHT

__all__ = [
    "JobProgress",
    "JobState",
    "OnAhead",
    "OnChance",
    "OnFrames",
    "ProbeKind",
    "frames_again",
    "frames_alone",
    "phase_costs",
]

ProbeKind = Literal["whole", "realtime", "beside"]
"""A probe encode of all passes, or an encode in real time, after the first pass or beside it."""


class OnFrames(Protocol):
    """Told how far a film is."""

    def __call__(self, phase: str, frames: int, kept: bool, weight: float) -> None:
        """So many frames more of a phase are done.

        Args:
          phase: of theirs.
          frames: how many.
          kept: an earlier start had done them.
          weight: what each is expected to take beside the mean of the film.
        """


OnAhead = Callable[[str, int, float], None]
"""Told a phase, how many frames more or fewer it has than was told, and what each weighs."""

OnChance = Callable[[str, float], None]
"""Told a phase, and how likely frames of it are made again, 0 to 1."""


# Of a phase's frames, from which its own measured speed is known; set by hand.
_SURE_SHARE = 0.02
# Frames after which a measured frame counts half: the machine may have other things to do by then.
# By replays of ten encodes of training films, from 100 to 800.
_HALF_PACE = 400.0
# Frames that a phase's cost counts for beside what is measured of it: a short chunk.
_TRUST = float(LEAST_FRAMES)
# CPU of a frame by speed from 0, in first passes: probe encode; last pass with what is probed
# again, hierarchical and uniform. Measured on training clips of 144 and 480 lines
# (docs/notes/2026-11-30-time-left-of-films.md); they count until a phase's own speed is measured.
_FIRST_PASSES = (
    (9.0, 105.0, 40.0),
    (9.0, 105.0, 20.0),
    (9.0, 26.0, 13.0),
    (8.5, 22.0, 12.0),
    (8.5, 19.0, 10.5),
    (8.5, 16.0, 9.0),
)
# First passes that an encode in real time takes, and what it adds to one from a thread of its
# own; measured likewise.
_REALTIME, _OWN_THREAD = 1.0, 0.3
_CHECK, _DECODE = 0.6, 0.5  # that the check takes, and decoding the source; likewise
_BITS_PER_PIXEL = 0.1  # at which they were measured; encodes go with the square root of the bits
# Frames of a usual chunk, how many chunks are made again if one is, and the share of a short film
# that they are at most. By hand, likewise.
_CHUNK, _CHUNKS_AGAIN, _MOST_AGAIN = 100.0, 1.5, 0.5


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
      before: frames of runs of it that were begun anew since, of those done.
      above: what all of its frames weigh, less `total`.
      weight: of frames that are done.
      kept: weight of those of them that an earlier start had done.
      again: weight of frames that may come on top; nobody is told of them.
      chance: that they do.
      alone: weight of frames whose time is lost at the end, where workers have no chunk left.
      start: when the first ones were done here.
      lead: weight of these.
      seconds: since then, at the latest frame.
      recent: seconds and weight since then, both less and less the longer ago.
      fixed: seconds of the whole phase, of one without frames.
    """

    cost: float
    total: int
    done: int = 0
    before: int = 0
    above: float = 0.0
    weight: float = 0.0
    kept: float = 0.0
    again: float = 0.0
    chance: float = 1.0
    alone: float = 0.0
    start: float | None = None
    lead: float = 0.0
    seconds: float = 0.0
    recent: tuple[float, float] = (0.0, 0.0)
    fixed: float | None = None

    @property
    def worked(self) -> float:
        """Weight of frames that were measured."""
        return 0.0 if self.fixed is not None else max(self.weight - self.kept - self.lead, 0.0)

    @property
    def is_measured(self) -> bool:
        """Whether the seconds of a frame are known."""
        return self.worked > max(_SURE_SHARE * self.total, 1)

    @property
    def pace(self) -> float:
        """Seconds of a frame by now, 0 where nothing is measured."""
        seconds, weight = self.recent
        return seconds / weight if weight > 0.0 else 0.0

    def count(self, seconds: float, weight: float) -> None:
        """Frames of a weight are done, so many seconds after the first ones."""
        left = 0.5 ** (weight / _HALF_PACE)
        before = self.recent
        self.recent = (before[0] * left + seconds - self.seconds, before[1] * left + weight)
        self.seconds = seconds

    @property
    def ahead(self) -> float:
        """Weight of frames that are to be done."""
        left = max(self.total + self.above - self.weight, 0.0)
        return left + min(self.alone, left) + self.chance * self.again


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

    def expect_again(self, phase: str, frames: float, chance: float = 1.0) -> None:
        """So many frames of a phase are made again, if any are, and how likely that is."""
        found = self._phases[phase]
        found.again, found.chance = frames, chance

    def expect_alone(self, phase: str, frames: float) -> None:
        """At the end of a phase the time of so many frames is lost, as not all workers work."""
        self._phases[phase].alone = frames

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

    def add(self, phase: str, frames: int, *, kept: bool = False, weight: float = 1.0) -> None:
        """So many frames more of a phase are done, now or by an earlier start.

        Args:
          phase: of theirs.
          frames: how many.
          kept: an earlier start had done them.
          weight: of each beside the film's mean.
        """
        found = self._phases[phase]
        found.done += frames
        found.total = max(found.total, found.done)
        found.weight += frames * weight
        self._end_before(phase)
        if kept:
            found.kept += frames * weight
        elif found.start is not None:
            found.count(self._clock() - found.start, frames * weight)
        elif frames:
            found.start, found.lead = self._clock(), frames * weight

    def add_ahead(self, phase: str, frames: int, weight: float = 1.0) -> None:
        """A phase has so many frames more, each of a weight, as they are made again; or fewer."""
        found = self._phases[phase]
        found.total += frames
        found.above += frames * (weight - 1.0)
        found.again = 0.0  # what was expected has come

    def _end_before(self, phase: str) -> None:
        """In the phases before one nothing is made again any more."""
        for name, found in self._phases.items():
            if name == phase:
                return
            found.again = 0.0

    def done(self, phase: str) -> tuple[int, int]:
        """(frames done, frames of the phase)."""
        found = self._phases[phase]
        return found.done, found.total

    def read(self) -> JobState:
        """How far the job is now."""
        costs = self._costs()
        ahead = sum(costs[n] * p.ahead for n, p in self._phases.items())
        behind = sum(costs[n] * p.weight for n, p in self._phases.items())
        if ahead + behind > 0:
            self._share = max(self._share, behind / (ahead + behind))
        known = frozenset(n for n, p in self._phases.items() if p.is_measured)
        return JobState(self._share, ahead if known else None, known)

    def _costs(self) -> dict[str, float]:
        """Seconds of a frame in each phase, as far as they are known now."""
        costs = {}
        foretold = []  # phases before the first one that is measured
        paid = expected = 0.0
        pace = None  # this machine, with what else it does, over the one of the table
        for name, phase in self._phases.items():
            if phase.fixed is not None:
                costs[name] = phase.fixed
            elif pace is None and not phase.is_measured:
                costs[name] = phase.cost
                foretold.append(name)
            else:
                trust = 0.0 if pace is None else _TRUST
                before = 0.0 if pace is None else pace * phase.cost
                measured = phase.pace * phase.worked
                costs[name] = (trust * before + measured) / (trust + phase.worked)
            if phase.is_measured and phase.cost > 0.0:  # one that was not expected tells no pace
                paid += phase.recent[0]
                expected += phase.cost * phase.recent[1]
                pace = paid / expected
        if pace is not None:
            costs |= {name: pace * costs[name] for name in foretold}
        return costs


def phase_costs(
    speed: int,
    workers: int,
    *,
    probe: ProbeKind | None = "whole",
    uniform: bool = False,
    bits_per_pixel: float | None = None,
) -> dict[str, float]:
    """Time of a frame in each phase of an encode, beside those of the others.

    Args:
      speed: of the encode, `cpu-used`.
      workers: chunks in work at a time, which share probes and last passes.
      probe: the kind of probe encode that it has.
      uniform: all frames are searched at one speed.
      bits_per_pixel: that are asked for; None if nobody knows.
    """
    probed, hierarchical, last = _FIRST_PASSES[min(speed, len(_FIRST_PASSES) - 1)]
    if not uniform:
        last = hierarchical
    first = 1.0
    more = math.sqrt((bits_per_pixel or _BITS_PER_PIXEL) / _BITS_PER_PIXEL)
    last, probed = more * last, more * probed
    if probe == "realtime":
        probed = _REALTIME
    elif probe == "beside":  # chunks that are encoded again at another level are not foreseen
        probed = 0.0
        first += _REALTIME if workers == 1 else _OWN_THREAD
    costs = {
        "first pass": first,
        "probe": probed / workers,
        "second pass": last / workers,
        # Its decode, which is as dear as the source's, goes in parts.
        "check": _CHECK - _DECODE + _DECODE / workers,
    }
    if probe is None:
        del costs["probe"]
    return costs


def frames_again(frames: int, workers: int, last: float) -> float:
    """Frames of last passes whose time a film takes on top, if chunks are made again.

    They are often alone, so each takes the time of as many as there are workers. The film is
    decoded up to them, from no further away than a seek is worth.

    Args:
      frames: of the film.
      workers: chunks that are encoded at a time.
      last: time of a frame of the last passes, in first passes (`phase_costs`).
    """
    decoded = min(frames, LEAST_SOUGHT + _CHUNK) * _DECODE / last
    return min(_CHUNKS_AGAIN * _CHUNK * workers + decoded, _MOST_AGAIN * frames)


def frames_alone(workers: int) -> float:
    """Frames whose time is lost at the end of a phase: half of a chunk is alone, on average.

    Args:
      workers: chunks that are encoded at a time.
    """
    return 0.5 * _CHUNK * (workers - 1)
