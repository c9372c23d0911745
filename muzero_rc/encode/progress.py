"""How far an encode is, told to whoever wants to know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from muzero_rc.agents.hindsight import SearchProgress
from muzero_rc.encode.job_progress import JobProgress, JobState, ProbeKind, phase_costs

__all__ = ["PHASES", "Progress", "Teller"]

PHASES = ("decode", "first pass", "search", "probe", "second pass", "mux", "check")
"""What an encode goes through, as `Progress.phase` names it."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an encode is.

    Attributes:
      phase: one of `PHASES`.
      done: frames finished in this phase; of a search, encodes.
      total: frames of this phase, None if unknown; of a search, its budget.
      search: how far a search is, in that phase only.
      job: how far the whole encode is, where that is known: of one with a probe encode.
    """

    phase: str
    done: int = 0
    total: int | None = None
    search: SearchProgress | None = None
    job: JobState | None = None


class Teller:
    """Tells how far an encode is."""

    def __init__(
        self, on_progress: Callable[[Progress], None] | None, job: JobProgress | None
    ) -> None:
        self._on_progress = on_progress
        self.job = job
        self._expected: dict[str, float] = {}

    def __call__(
        self,
        phase: str,
        done: int = 0,
        total: int | None = None,
        search: SearchProgress | None = None,
    ) -> None:
        """A phase has so many frames done."""
        job = self.job
        if job is not None and phase in job.phases:
            job.reach(phase, done, total)
        if self._on_progress is not None:
            state = None if job is None else job.read()
            self._on_progress(Progress(phase, done, total, search, state))

    def expect(self, phase: str, seconds: float) -> None:
        """A phase without frames will take so many seconds."""
        self._expected[phase] = seconds
        if self.job is not None:
            self.job.expect(phase, seconds)

    def is_over(self, phase: str) -> None:
        """A phase without frames is done."""
        if self.job is not None and phase in self.job.phases:
            self.job.reach(phase, 1, 1)

    def know(
        self,
        frames: int,
        speed: int,
        workers: int,
        *,
        probe: ProbeKind | None = "whole",
        uniform: bool = False,
    ) -> None:
        """The first pass is done; the encode has so many frames.

        Args:
          frames: of the clip or film.
          speed: of the encode.
          workers: chunks that are encoded at a time, 1 for a clip in one piece.
          probe: the kind of probe encode that it has.
          uniform: all frames are searched at one speed.
        """
        if self.job is None:  # its file did not say how long it is
            self.job = JobProgress(
                phase_costs(speed, workers, probe=probe, uniform=uniform), frames
            )
            for phase, seconds in self._expected.items():
                self.job.expect(phase, seconds)
        self.job.set_frames(frames)
        # A first pass from the cache took no time, which says nothing of the speed.
        self.job.add("first pass", frames - self.job.done("first pass")[0], kept=True)

    def add(self, phase: str, frames: int, kept: bool) -> None:
        """So many frames more of a film's phase are done."""
        assert self.job is not None
        self.job.add(phase, frames, kept=kept)
        if self._on_progress is not None:
            self._on_progress(Progress(phase, *self.job.done(phase), None, self.job.read()))
