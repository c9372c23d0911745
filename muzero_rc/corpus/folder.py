"""A folder of videos as training material, divided by source.

Clips of one source (one film, one camera, one screen) look alike, so a source is
either trained on or validated on, never both. Sources and sides come from `manifest.csv`
if the folder has one, as a built corpus does; else sources come from `index.csv` (columns
`file` and `group`) if the folder has one; otherwise every file is its own source. If the
index has a column `set`, sides come from it, too: `train` and `dev`; clips of any other set,
and those that it does not name, are left out.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from muzero_rc.corpus.manifest import MANIFEST, SPLITS, Manifest, Split
from muzero_rc.errors import InputError

__all__ = [
    "VALIDATION_SHARE",
    "VIDEO_SUFFIXES",
    "Corpus",
    "CorpusClip",
    "check_sources",
    "find_videos",
    "split_of",
]

VIDEO_SUFFIXES = (
    ".264", ".avi", ".h264", ".ivf", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".ts",
    ".webm", ".y4m",
)  # fmt: skip

VALIDATION_SHARE = 0.2
"""Share of sources kept for validation."""

_SETS: dict[str, Split] = {"train": "training", "dev": "validation"}


def split_of(source: str) -> Split:
    """The side that a source is on where nobody has chosen one: by the hash of its name."""
    number = int.from_bytes(hashlib.sha256(source.encode()).digest()[:8], "big")
    return SPLITS[number / 2**64 < VALIDATION_SHARE]


@dataclass(frozen=True)
class CorpusClip:
    """A file, the source that it belongs to, and the side that a manifest gives it, if any."""

    path: Path
    source: str
    split: Split | None = None

    @property
    def validation(self) -> bool:
        """True if its source is kept for validation."""
        return (self.split or split_of(self.source)) == "validation"


@dataclass(frozen=True)
class Corpus:
    """All clips of a folder."""

    clips: Sequence[CorpusClip]

    @classmethod
    def open(cls, folder: Path) -> Corpus:
        """Reads a folder: its `manifest.csv`, or its subfolders and `index.csv`.

        Raises:
          InputError: there is no such folder, no video in it, or a bad index or manifest;
            or a clip of the manifest is gone.
        """
        if (folder / MANIFEST).exists():
            return cls(_read_manifest(folder))
        files = find_videos([folder])
        index = _read_index(folder / "index.csv")
        if index is None:
            return cls([CorpusClip(path, path.stem) for path in files])
        named = [(path, index[path.name]) for path in files if path.name in index]
        if any("set" in row for row in index.values()):
            sides = [(path, row["group"], _SETS.get(row["set"])) for path, row in named]
            clips = [CorpusClip(*clip) for clip in sides if clip[2] is not None]
            if not clips:
                raise InputError(f"{folder}: its index has no clip of the set train or dev")
            return cls(clips)
        sources = {path.name: row["group"] for path, row in named}
        return cls([CorpusClip(path, sources.get(path.name, path.stem)) for path in files])

    def training(self) -> list[CorpusClip]:
        """Clips to train on."""
        return [clip for clip in self.clips if not clip.validation]

    def validation(self) -> list[CorpusClip]:
        """Clips never trained on."""
        return [clip for clip in self.clips if clip.validation]

    def spread_validation(self, most: int) -> list[CorpusClip]:
        """Validation clips, one of each source in turn, at most so many.

        Raises:
          InputError: no source is kept for validation.
        """
        by_source: dict[str, list[CorpusClip]] = {}
        for clip in self.validation():
            by_source.setdefault(clip.source, []).append(clip)
        picked: list[CorpusClip] = []
        while len(picked) < most and any(by_source.values()):
            for source in sorted(by_source):
                if by_source[source] and len(picked) < most:
                    picked.append(by_source[source].pop(0))
        if not picked:
            raise InputError("no source of the corpus is kept for validation; add more sources")
        return picked


def check_sources(names: Iterable[str], known: Iterable[str]) -> frozenset[str]:
    """Names of sources, if there are such: a misspelt one would be trained on.

    Args:
      names: of sources that somebody means.
      known: all sources there are.

    Raises:
      InputError: there is no such source.
    """
    known = sorted(set(known))
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {len(known)} others"
            raise InputError(f"no source {name} to leave out; {hint}")
    return frozenset(names)


def find_videos(paths: Sequence[Path]) -> list[Path]:
    """Video files among files and in folders, sorted, by their suffix.

    A file named outright is taken whatever its suffix.

    Raises:
      InputError: a path does not exist, or nothing was found.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(
                entry
                for entry in path.rglob("*")
                if entry.is_file() and entry.suffix.lower() in VIDEO_SUFFIXES
            )
        elif path.exists():
            found.append(path)
        else:
            raise InputError(f"{path}: no such file or folder")
    if not found:
        raise InputError(f"no video files in {', '.join(map(str, paths))}")
    return found


def _read_manifest(folder: Path) -> list[CorpusClip]:
    clips = Manifest.read(folder / MANIFEST).kept()
    for clip in clips:
        if not (folder / clip.file).is_file():
            raise InputError(f"{folder / clip.file} is in the manifest and not there; build again")
    if not clips:
        raise InputError(f"{folder / MANIFEST} has no clip that was kept")
    return [CorpusClip(folder / clip.file, clip.source, clip.split or None) for clip in clips]


def _read_index(path: Path) -> dict[str, dict[str, str]] | None:
    """Rows by file; None if there is no index."""
    if not path.exists():
        return None
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        if rows.fieldnames is None or not {"file", "group"} <= set(rows.fieldnames):
            raise InputError(f"{path}: an index needs the columns file and group")
        return {row["file"]: row for row in rows}
