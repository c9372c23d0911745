"""A corpus in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

from muzero_rc.corpus.folder import split_of
from muzero_rc.corpus.manifest import SAME_FILE, SAME_PICTURES, SPLITS, Entry, Manifest

__all__ = ["CorpusStatistics", "SideStatistics", "describe_corpus"]


@dataclass(frozen=True, slots=True)
class SideStatistics:
    """One side of the split.

    Attributes:
      clips: number of clips, variants included.
      augmented: number of variants.
      sources: number of sources.
      frames: number of frames.
      seconds: playing time.
      bytes: size of the files.
    """

    clips: int
    augmented: int
    sources: int
    frames: int
    seconds: float
    bytes: int


@dataclass(frozen=True, slots=True)
class CorpusStatistics:
    """A corpus in numbers.

    Attributes:
      sides: `training` and `validation`.
      sizes: how many clips have each size, such as `640x360`.
      rates: how many clips have each frame rate, frames per second as a fraction.
      rejected: how many files and parts were left out, by reason.
      alike: pairs of sources with clips on different sides of the split where a part of one
        was left out as a duplicate of the other's: they may show the same thing elsewhere, too.
    """

    sides: dict[str, SideStatistics]
    sizes: dict[str, int]
    rates: dict[str, int]
    rejected: dict[str, int]
    alike: tuple[tuple[str, str], ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def describe_corpus(manifest: Manifest) -> CorpusStatistics:
    """Counts a manifest's lines."""
    kept = manifest.kept()
    return CorpusStatistics(
        sides={side: _side([e for e in kept if _side_of(e) == side]) for side in SPLITS},
        sizes=_counted(f"{entry.width}x{entry.height}" for entry in kept),
        rates=_counted(entry.fps for entry in kept),
        rejected=_counted(entry.reason for entry in manifest.rejected()),
        alike=_alike(manifest),
    )


def _side_of(entry: Entry) -> str:
    return entry.split or split_of(entry.source)


def _side(entries: Sequence[Entry]) -> SideStatistics:
    return SideStatistics(
        clips=len(entries),
        augmented=sum(bool(entry.augmentation) for entry in entries),
        sources=len({entry.source for entry in entries}),
        frames=sum(entry.frames for entry in entries),
        seconds=round(float(sum(e.frames / Fraction(e.fps) for e in entries if e.fps)), 2),
        bytes=sum(entry.bytes for entry in entries),
    )


def _counted(values: Any) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _alike(manifest: Manifest) -> tuple[tuple[str, str], ...]:
    of_clip = {entry.file: entry for entry in manifest.kept()}
    of_origin = {entry.origin: entry for entry in manifest.kept()}
    # Of a copy nothing is left that could be on the other side.
    sources = {entry.source for entry in manifest.kept()}
    pairs: set[tuple[str, str]] = set()
    for entry in manifest.rejected():
        if entry.reason != "duplicate" or entry.source not in sources:
            continue
        other = of_origin.get(entry.detail.removeprefix(SAME_FILE)) or of_clip.get(
            entry.detail.removeprefix(SAME_PICTURES)
        )
        if other is not None and _side_of(other) != _side_of(entry):
            first, second = sorted((entry.source, other.source))
            pairs.add((first, second))
    return tuple(sorted(pairs))
