"""The manifest of a built corpus: what each clip is, and what was left out and why.

A CSV file, so that a table program, pandas or a diff can read it. It names no folder
outside of the corpus.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from muzero_rc.errors import InputError
from muzero_rc.output_files import write_text

__all__ = [
    "MANIFEST",
    "REASONS",
    "SAME_FILE",
    "SAME_PICTURES",
    "SPLITS",
    "Entry",
    "Manifest",
    "Split",
]

MANIFEST = "manifest.csv"
"""Name of the file in a corpus."""

Split = Literal["training", "validation"]
SPLITS: tuple[Split, Split] = ("training", "validation")

REASONS = {
    "broken": "cannot be decoded, or not to its end",
    "duplicate": "the same file, or nearly the same pictures, as another one",
    "static": "hardly anything moves",
    "short": "a scene with too few frames",
    "limit": "over the number of clips a file may give",
}
"""Why something was left out."""

SAME_FILE = "the same file as "
"""Begins the detail of a duplicate; the name of the original file follows."""

SAME_PICTURES = "nearly the same pictures as "
"""Likewise; the clip follows."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the manifest: a clip, or a file or a part of one that was left out.

    Attributes:
      file: the clip in the corpus, with slashes; empty if it was left out.
      split: the side that its source is on; empty: the hash of its name decides.
      source: what it was taken from: clips of one source look alike.
      origin: name of the original file in the folder that was given.
      origin_sha256: of the original file.
      scene: number of the scene in the original, from 0; -1 for a whole file.
      start_frame: first frame in the original, decoded at its constant rate.
      end_frame: frame after the last.
      width: pixels; 0, like all below, if it was left out.
      height: pixels.
      fps: frames per second, as a fraction.
      frames: number of frames.
      bytes: of the clip's file.
      sha256: of the clip's file; it depends on ffmpeg's version.
      frames_sha256: of the decoded frames with size and rate, as `clips` in an evaluation's
        results.json have it; it does not.
      augmentation: what was done to `parents`; empty for a plain part of the original.
      parents: the clips that an augmented one was made of, with a space between.
      reason: why it was left out, one of `REASONS`; empty for a clip.
      detail: the reason in words.
    """

    file: str
    split: Split | Literal[""]
    source: str
    origin: str
    origin_sha256: str
    scene: int = -1
    start_frame: int = 0
    end_frame: int = 0
    width: int = 0
    height: int = 0
    fps: str = ""
    frames: int = 0
    bytes: int = 0
    sha256: str = ""
    frames_sha256: str = ""
    augmentation: str = ""
    parents: str = ""
    reason: str = ""
    detail: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


_NUMBERS = frozenset(field.name for field in fields(Entry) if field.type == "int")
_NAMES = tuple(field.name for field in fields(Entry))


@dataclass(frozen=True, slots=True)
class Manifest:
    """All lines of a manifest."""

    entries: Sequence[Entry]

    def kept(self) -> list[Entry]:
        """The clips."""
        return [entry for entry in self.entries if not entry.reason]

    def rejected(self) -> list[Entry]:
        """What was left out."""
        return [entry for entry in self.entries if entry.reason]

    def write(self, path: Path) -> None:
        """Writes it whole or not at all.

        Raises:
          OutputError: the file cannot be written.
        """
        write_text(path, self.text())

    def text(self) -> str:
        """The CSV file."""
        out = io.StringIO(newline="")
        writer = csv.DictWriter(out, _NAMES, lineterminator="\n")
        writer.writeheader()
        writer.writerows(entry.as_dict() for entry in self.entries)
        return out.getvalue()

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Reads and checks a manifest.

        Columns that are not known are left alone; only `file` and `source` must be there,
        so that a manifest can be written by hand. Without a split the source's name decides.

        Raises:
          InputError: it is missing or damaged, or has a source on both sides.
        """
        try:
            with path.open(newline="", encoding="utf-8") as file:
                rows = csv.DictReader(file)
                if rows.fieldnames is None or not {"file", "source"} <= set(rows.fieldnames):
                    raise InputError(f"{path}: a manifest needs the columns file and source")
                entries = [_entry(path, rows.line_num, row) for row in rows]
        except FileNotFoundError:
            raise InputError(f"{path.parent} is no built corpus: it has no {path.name}") from None
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{path} cannot be read: {error}") from None
        _check(path, entries)
        return cls(entries)


def _entry(path: Path, line: int, row: dict[str | None, Any]) -> Entry:
    values: dict[str, Any] = {}
    for name in _NAMES:
        text = row.get(name)
        if name not in _NUMBERS:
            values[name] = text or ""
        elif text:
            try:
                values[name] = int(text)
            except ValueError:
                raise InputError(f"{path}, line {line}: {name} is {text!r}, not a number") from None
    return Entry(**values)


def _check(path: Path, entries: Sequence[Entry]) -> None:
    sides: dict[str, str] = {}
    files: set[str] = set()
    for entry in entries:
        if entry.reason:
            continue
        where = PurePosixPath(entry.file)
        if not entry.file or where.is_absolute() or ".." in where.parts:
            raise InputError(f"{path}: {entry.file!r} is no file in the corpus")
        if entry.file in files:
            raise InputError(f"{path}: {entry.file} is there twice")
        files.add(entry.file)
        if entry.split not in ("", *SPLITS):
            raise InputError(f"{path}: a split is training or validation, not {entry.split!r}")
        if sides.setdefault(entry.source, entry.split) != entry.split:
            raise InputError(f"{path}: source {entry.source} is on both sides of the split")
