"""`progress.csv`: a row for every scored episode, for curves."""

from __future__ import annotations

import csv
from pathlib import Path

from muzero_rc.errors import OutputError
from muzero_rc.output_files import replacing
from muzero_rc.training.checkpoints import Counters
from muzero_rc.training.scorer import ScoredEpisode

__all__ = ["COLUMNS", "ProgressFile"]

COLUMNS = (
    "episodes", "frames", "updates", "seconds", "reward", "win_vbr", "overshoot", "gain_db",
    "staleness", "base_gain_db",
)  # fmt: skip
"""Counters after the episode; its reward; 1, 0 or -1 against VBR; its overshoot, its PSNR
over VBR's at equal rate in dB, its staleness in updates, and its PSNR over the base policy's
at equal rate in dB (nothing in rows of before)."""


class ProgressFile:
    """Appends rows; a context manager. Rows beyond a checkpoint go when a run resumes."""

    def __init__(self, path: Path, episodes: int) -> None:
        """Opens the file where a run with so many episodes goes on.

        Raises:
          OutputError: it cannot be written.
        """
        try:
            rows = []
            if path.exists():
                with path.open(newline="") as file:
                    rows = [row for row in csv.reader(file) if row][1:]
            with replacing(path, ".tmp") as temporary, temporary.open("w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(COLUMNS)
                writer.writerows(row for row in rows if row[0] and int(row[0]) <= episodes)
            self._file = path.open("a", newline="")
        except (OSError, ValueError) as error:
            raise OutputError(f"cannot write {path}: {error}") from error
        self._writer = csv.writer(self._file)

    def add(self, played: ScoredEpisode, counters: Counters) -> None:
        """A row."""
        self._writer.writerow(
            [
                counters.episodes, counters.frames, counters.updates, f"{counters.seconds:.1f}",
                f"{played.reward:.4g}", played.against_vbr, f"{played.overshoot:.5f}",
                f"{played.gain_db:.4f}", played.staleness, f"{played.base_gain_db:.4f}",
            ]
        )  # fmt: skip
        self._file.flush()

    def __enter__(self) -> ProgressFile:
        """The file itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Closes the file."""
        self._file.close()
