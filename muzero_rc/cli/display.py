"""Progress of an encode on stderr: a bar in a terminal, a line now and then in a log."""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from muzero_rc.errors import OutputError

__all__ = ["Display", "JsonProgress", "clock", "make_display", "print_line", "writing_stdout"]

_LOG_INTERVAL_S = 5.0
_LONG_JOB_S = 3600.0
_JSON_INTERVAL_S = 1.0


class _Search(Protocol):
    """How far a search is; `muzero_rc.agents.hindsight.SearchProgress` is one."""

    @property
    def psnr_avg(self) -> float: ...

    @property
    def gain(self) -> float: ...


class _Job(Protocol):
    """How far a whole encode is; `muzero_rc.encode.job_progress.JobState` is one."""

    @property
    def share(self) -> float: ...

    @property
    def eta_s(self) -> float | None: ...

    def is_measured(self, phase: str) -> bool: ...


class _Step(Protocol):
    """What is shown; `muzero_rc.encode.film.Progress` is one."""

    @property
    def phase(self) -> str: ...

    @property
    def done(self) -> int: ...

    @property
    def total(self) -> int | None: ...

    @property
    def search(self) -> _Search | None: ...

    @property
    def job(self) -> _Job | None: ...


class _Clock:
    """Speed and time left of the current phase."""

    def __init__(self) -> None:
        self.phase = ""
        self.start = 0.0

    def read(self, step: _Step) -> tuple[float | None, float | None]:
        """(frames per second, seconds left), None while there is nothing to tell.

        The seconds are the whole encode's where that is known, else the phase's.
        """
        now = time.monotonic()
        if step.phase != self.phase:
            self.phase, self.start = step.phase, now
        fps, left = self._of_phase(step, now)
        return fps, left if step.job is None else step.job.eta_s

    def _of_phase(self, step: _Step, now: float) -> tuple[float | None, float | None]:
        passed = now - self.start
        if step.done == 0 or passed <= 0:
            return None, None
        fps = step.done / passed
        left = None if step.total is None else max(0, step.total - step.done) / fps
        return fps, left


class _Estimate:
    """Says once a phase how long a long job will take, as soon as the phase's speed tells."""

    _BY = {"first pass": "the first pass", "probe": "the probe encodes"}

    def __init__(self, title: str, say: Callable[[str], None]) -> None:
        self._title = title
        self._say = say
        self._told: set[str] = set()

    def __call__(self, step: _Step) -> None:
        job = step.job
        if job is None or job.eta_s is None or step.phase not in self._BY:
            return
        if step.phase in self._told or not job.is_measured(step.phase):
            return
        self._told.add(step.phase)
        if job.eta_s > _LONG_JOB_S:
            left = clock(job.eta_s)
            self._say(f"{self._title}: about {left} to go, by the speed of {self._BY[step.phase]}")


class Display:
    """Shows nothing; the base of those that do. A context manager."""

    def __enter__(self) -> Display:
        """Starts showing."""
        return self

    def __exit__(self, *error: object) -> None:
        """Ends showing, leaving no half line behind."""

    def __call__(self, step: _Step) -> None:
        """Takes a step."""


class _Log(Display):
    """A plain line every few seconds, for stderr that is a file."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._clock = _Clock()
        self._estimate = _Estimate(title, _on_stderr)
        self._last = time.monotonic()

    def __call__(self, step: _Step) -> None:
        self._estimate(step)
        fps, left = self._clock.read(step)
        now = time.monotonic()
        if now - self._last < _LOG_INTERVAL_S:
            return
        self._last = now
        _on_stderr(f"{self._title}: {_describe(step, fps, left)}")


class _Bar(Display):
    """A bar with speed and time left, gone when the encode ends."""

    def __init__(self, title: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._title = title
        self._clock = _Clock()
        self._progress = Progress(
            # A file may be called [red].webm.
            TextColumn("{task.fields[title]}", style="bold", markup=False),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[numbers]}"),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._progress.add_task("", title=title, numbers="", total=None)
        self._estimate = _Estimate(title, self._say)

    def _say(self, line: str) -> None:
        self._progress.console.print(line, markup=False)

    def __enter__(self) -> Display:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def __call__(self, step: _Step) -> None:
        self._estimate(step)
        fps, left = self._clock.read(step)
        done: float = step.done
        # Phases that cannot be counted pulse instead of standing at 0%.
        total = step.total if step.done or step.phase in ("probe", "second pass") else None
        if step.job is not None:  # one bar for all phases
            done, total = 1000 * step.job.share, 1000
        self._progress.update(
            self._task,
            description=f"{step.phase:11}",
            completed=done,
            total=total,
            numbers=_numbers(step, fps, left),
        )


class JsonProgress(Display):
    """A JSON line of type `progress` on stdout, at most one a second, but all of a search."""

    def __init__(self, title: str) -> None:
        """Takes what the lines are about."""
        self._title = title
        self._clock = _Clock()
        self._estimate = _Estimate(title, _on_stderr)
        self._last = 0.0

    def __call__(self, step: _Step) -> None:
        """Prints the step, if it is time."""
        self._estimate(step)
        changed = step.phase != self._clock.phase
        fps, left = self._clock.read(step)
        now = time.monotonic()
        # A step of a search is an encode or more: never too many lines.
        if step.search is None and not changed and now - self._last < _JSON_INTERVAL_S:
            return
        self._last = now
        line: dict[str, str | int | float | None] = {
            "type": "progress",
            "title": self._title,
            "phase": step.phase,
            "frames_done": step.done,
            "frames": step.total,
            "fps": None if fps is None else round(fps, 2),
            "eta_s": None if left is None else round(left, 1),
        }
        if step.job is not None:
            line["share"] = round(step.job.share, 4)
        if step.search is not None:
            for name in ("frames_done", "frames", "fps"):
                del line[name]
            found = math.isfinite(step.search.psnr_avg)
            line |= {
                "encodes_done": step.done,
                "encodes": step.total,
                "psnr_avg": round(step.search.psnr_avg, 3) if found else None,
                "gain": round(step.search.gain, 5),
            }
        print_line(json.dumps(line))


@contextlib.contextmanager
def writing_stdout() -> Iterator[None]:
    """Says of stdout that it cannot be written, so that nobody takes it for the output's disk.

    Raises:
      OutputError: it cannot.
      BrokenPipeError: its reader went away.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write to stdout: {error.strerror}") from None


def print_line(line: str) -> None:
    """Prints a line on stdout, at once.

    Raises:
      OutputError: it cannot be written.
      BrokenPipeError: its reader went away.
    """
    with writing_stdout():
        print(line, flush=True)


def make_display(title: str, *, quiet: bool = False, as_json: bool = False) -> Display:
    """The display that fits where the output goes.

    Args:
      title: what is being encoded.
      quiet: show nothing.
      as_json: JSON lines on stdout instead.
    """
    if quiet:
        return Display()
    if as_json:
        return JsonProgress(title)
    kind: Callable[[str], Display] = _Bar if sys.stderr.isatty() else _Log
    return kind(title)


def _on_stderr(line: str) -> None:
    # A log that takes no more is no reason to end an encode.
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def _describe(step: _Step, fps: float | None, left: float | None) -> str:
    return f"{step.phase} {_numbers(step, fps, left)}".rstrip()


def _numbers(step: _Step, fps: float | None, left: float | None) -> str:
    if step.done == 0:
        return ""
    text = f"{step.done}" if step.total is None else f"{step.done}/{step.total}"
    if step.job is not None:
        text = f"{step.job.share:.0%}  {text}"
    if step.search is not None:
        text += " encodes"
        if math.isfinite(step.search.psnr_avg):
            text += f"  {step.search.psnr_avg:.2f} dB, {step.search.gain:.1%} saved"
    elif fps is not None:
        text += f"  {fps:.1f} fps"
    if left is not None:
        text += f"  eta {clock(left)}"
    return text


def clock(seconds: float) -> str:
    """A time as h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
