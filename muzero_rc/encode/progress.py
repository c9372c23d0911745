"""How far an encode is, told to whoever wants to know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from muzero_rc.agents.hindsight import SearchProgress
from muzero_rc.encode.job_progress import (
    JobProgress,
    JobState,
    ProbeKind,
    frames_again,
    frames_alone,
    phase_costs,
)
from muzero_rc.env.control.settings import EncoderSettings

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


_UNKNOWN = 0.5  # how likely chunks are made again while none is known; by hand: as likely as not


class Teller:
    """Tells how far an encode is."""

    def __init__(self, on_progress: Callable[[Progress], None] | None) -> None:
        self._on_progress = on_progress
        self.job: JobProgress | None = None  # of a clip in one piece, only with a probe encode
        self._expected: dict[str, float] = {}
        self._again = 0.0

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

    def begin(
        self,
        frames: int,
        settings: EncoderSettings,
        workers: int,
        *,
        probe: ProbeKind | None = "whole",
        film: bool = False,
        bits_per_pixel: float | None = None,
    ) -> None:
        """The encode has about so many frames; what was told first counts.

        Args:
          frames: of the clip or film, as far as it is known.
          settings: of the encode.
          workers: chunks that are encoded at a time, 1 for a clip in one piece.
          probe: the kind of probe encode that it has.
          film: chunks share a bitrate, and may be made again for it.
          bits_per_pixel: that are asked for; None if nobody knows.
        """
        if self.job is None:
            uniform = settings.speed_profile == "uniform"
            costs = phase_costs(
                settings.speed, workers,
                probe=probe, uniform=uniform, bits_per_pixel=bits_per_pixel,
            )  # fmt: skip
            self.job = JobProgress(costs, frames)
            if film and probe is not None:
                self._again = frames_again(frames, workers, costs["second pass"])
                self.doubt("second pass", _UNKNOWN)
                for phase in ("probe", "second pass"):
                    self.job.expect_alone(phase, frames_alone(workers))
            for phase, seconds in self._expected.items():
                self.job.expect(phase, seconds)

    def know(self, frames: int) -> None:
        """The first pass is done; the encode that has begun has so many frames."""
        assert self.job is not None
        self.job.set_frames(frames)
        # A first pass from the cache took no time, which says nothing of the speed.
        self.job.add("first pass", frames - self.job.done("first pass")[0], kept=True)

    def doubt(self, phase: str, chance: float) -> None:
        """How likely chunks of a film's phase are made again, 0 to 1."""
        assert self.job is not None
        self.job.expect_again(phase, self._again, chance)

    def add(self, phase: str, frames: int, kept: bool, weight: float) -> None:
        """So many frames more of a film's phase are done, each of a weight."""
        assert self.job is not None
        self.job.add(phase, frames, kept=kept, weight=weight)
        if self._on_progress is not None:
            self._on_progress(Progress(phase, *self.job.done(phase), None, self.job.read()))

    def add_ahead(self, phase: str, frames: int, weight: float) -> None:
        """A film's phase has so many frames more or fewer, each of a weight."""
        assert self.job is not None
        self.job.add_ahead(phase, frames, weight)
