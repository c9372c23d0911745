"""What a run tells while it goes on: a line on stderr, and TensorBoard's event files."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from tensorboardX import SummaryWriter

__all__ = ["RunLog"]

_LINE_EVERY_S = 30.0


class RunLog:
    """Progress of the stages of a run. A context manager."""

    def __init__(self, folder: Path, *, quiet: bool = False) -> None:
        """Writes events to `folder`, made with the first; `quiet` shows nothing on stderr."""
        self._folder = folder
        self._writer: SummaryWriter | None = None
        self._live = not quiet and sys.stderr.isatty()
        self._lines = not quiet and not self._live
        self._last_line = 0.0
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
            disable=not self._live,
        )
        self._task = self._progress.add_task("", note="", visible=False)
        self._stage = ""
        self._total = 0

    def __enter__(self) -> RunLog:
        """Starts showing."""
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Stops showing and flushes the events."""
        self._progress.stop()
        if self._writer is not None:
            self._writer.close()

    def stage(self, name: str, total: int, done: int = 0) -> None:
        """Begins a stage of `total` steps, `done` of which were done before."""
        self._stage, self._total, self._last_line = name, total, 0.0
        self._progress.reset(
            self._task, total=total, completed=done, description=name, visible=True, note=""
        )

    def step(self, done: int, note: str = "", numbers: Mapping[str, float] | None = None) -> None:
        """Tells how far the stage is.

        Args:
          done: steps done.
          note: what a person wants to know now.
          numbers: for TensorBoard, under the stage's name at this step.
        """
        self._progress.update(self._task, completed=done, note=note)
        if numbers and self._writer is None:  # not before: a run that is refused leaves nothing
            self._writer = SummaryWriter(str(self._folder))
        for name, value in (numbers or {}).items():
            assert self._writer is not None
            self._writer.add_scalar(f"{self._stage}/{name}", value, done)
        now = time.monotonic()
        if self._lines and (now - self._last_line > _LINE_EVERY_S or done >= self._total):
            self._last_line = now
            print(f"{self._stage} {done}/{self._total} {note}", file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        """A line that stays."""
        if self._live:
            self._progress.console.print(text)
        elif self._lines:
            print(text, file=sys.stderr, flush=True)
