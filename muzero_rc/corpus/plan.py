"""Deciding what becomes a clip, from what was seen of all files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from muzero_rc.corpus.duplicates import SeenPictures
from muzero_rc.corpus.folder import Corpus, find_videos, split_of
from muzero_rc.corpus.manifest import SAME_FILE, SAME_PICTURES, Entry, Split
from muzero_rc.corpus.scenes import Look, Part, cut_parts
from muzero_rc.errors import InputError
from muzero_rc.video import check_height

__all__ = ["BuildSettings", "Original", "find_originals", "plan_clips"]

_NAME_LENGTH = 60
_HASH_DIGITS = 8
_WHOLE = Part(scene=-1, start=0, end=0)


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """What a corpus is made of.

    Attributes:
      height: clips are scaled down to this many lines; None keeps theirs.
      max_fps: above this rate every second, third ... frame is taken; None keeps all.
      min_frames: scenes with fewer are left out.
      max_frames: longer ones are divided.
      per_file: most clips that one file gives, evenly spread over it; None for no limit.
      static_below: mean absolute luma difference between frames, in 8-bit levels of the
        picture scaled to 144 lines, under which a part is left out as static.
      keep_cuts: do not cut at scenes, so that clips have cuts inside.
      augment: variants made of each clip to train on.
      seed: of the variants.
    """

    height: int | None = 480
    max_fps: Fraction | None = None
    min_frames: int = 30
    max_frames: int = 150
    per_file: int | None = None
    static_below: float = 0.01
    keep_cuts: bool = False
    augment: int = 0
    seed: int = 0

    def check(self) -> None:
        """Refuses what makes no sense.

        Raises:
          InputError: a value is outside of its range.
        """
        if self.height is not None:
            check_height(self.height, "--height")
        if self.max_fps is not None and self.max_fps <= 0:
            raise InputError(f"--max-fps must be above 0, not {self.max_fps}")
        if not 2 <= self.min_frames <= self.max_frames:
            raise InputError(
                f"--min-frames must be 2 or more and --max-frames not below it, not "
                f"{self.min_frames} and {self.max_frames}"
            )
        if self.per_file is not None and self.per_file < 1:
            raise InputError(f"--per-file must be 1 or more, not {self.per_file}")
        if not 0 <= self.static_below < 255:
            raise InputError(f"--static-below is in levels, 0 to 255, not {self.static_below}")
        if self.augment < 0 or self.seed < 0:
            raise InputError("--augment and --seed must not be negative")

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self) | {"max_fps": None if self.max_fps is None else str(self.max_fps)}


@dataclass(frozen=True, slots=True)
class Original:
    """A file that clips are taken from.

    Attributes:
      path: where it is.
      name: in the folder that was given, with slashes.
      source: what it belongs to.
      split: the side that its source is on.
    """

    path: Path
    name: str
    source: str
    split: Split

    def left_out(self, digest: str, reason: str, detail: str, part: Part | None = None) -> Entry:
        """A line for the manifest."""
        entry = self._entry("", digest, part or _WHOLE)
        return replace(entry, reason=reason, detail=detail)

    def clip(self, digest: str, part: Part) -> Entry:
        """The clip that a part becomes, as far as it is known before it is made.

        Its name does not depend on what else is in the corpus.
        """
        stem = re.sub(r"[^\w.-]+", "_", Path(self.name).stem).strip("._")[:_NAME_LENGTH]
        name = f"{stem or 'clip'}-{digest[:_HASH_DIGITS]}-{part.start:06d}.mp4"
        return self._entry(f"{self.split}/{name}", digest, part)

    def _entry(self, file: str, digest: str, part: Part) -> Entry:
        return Entry(
            file=file, split=self.split, source=self.source, origin=self.name,
            origin_sha256=digest, scene=part.scene, start_frame=part.start, end_frame=part.end,
        )  # fmt: skip


def find_originals(paths: Sequence[Path], out: Path) -> list[Original]:
    """Videos among files and in folders, with their sources, in the order of their names.

    Raises:
      InputError: a path does not exist or has no video, `out` lies in one of them, or a
        source would be on both sides.
    """
    found: dict[Path, Original] = {}
    inside = out.resolve()
    for path in paths:
        if not path.is_dir():
            for file in find_videos([path]):
                source = file.stem
                original = Original(file, file.name, source, split_of(source))
                found.setdefault(file.resolve(), original)
            continue
        if inside.is_relative_to(path.resolve()):
            raise InputError(
                f"--out {out} lies in {path}, where clips are looked for; put it elsewhere"
            )
        for clip in Corpus.open(path).clips:
            name = clip.path.relative_to(path).as_posix()
            split: Split = "validation" if clip.validation else "training"
            found.setdefault(clip.path.resolve(), Original(clip.path, name, clip.source, split))
    originals = sorted(found.values(), key=lambda o: (o.name, o.source))
    sides: dict[str, Split] = {}
    for original in originals:
        if sides.setdefault(original.source, original.split) != original.split:
            raise InputError(f"the inputs put source {original.source} on both sides of the split")
    return originals


def plan_clips(
    originals: Sequence[Original],
    digests: Mapping[Original, str],
    looks: Mapping[str, Look | str],
    settings: BuildSettings,
) -> tuple[list[tuple[Original, Entry]], list[Entry]]:
    """What becomes a clip, and what does not.

    Args:
      originals: in the order in which the first of two equal ones is kept.
      digests: SHA-256 of each, empty if it cannot be read.
      looks: by SHA-256 what was seen, or why nothing could be seen.
      settings: the corpus's.

    Returns:
      The clips with the file that each is cut from, and what was left out.
    """
    clips: list[tuple[Original, Entry]] = []
    rejected: list[Entry] = []
    first: dict[str, str] = {}
    seen = SeenPictures()
    for original in originals:
        digest = digests[original]
        if digest and digest in first:
            rejected.append(original.left_out(digest, "duplicate", SAME_FILE + first[digest]))
            continue
        first[digest] = original.name
        look = looks[digest or original.name]
        if isinstance(look, str):
            rejected.append(original.left_out(digest, "broken", look))
            continue
        cuts = () if settings.keep_cuts else look.cuts
        parts, short = cut_parts(look.frames, cuts, settings.min_frames, settings.max_frames)
        for part in short:
            rejected.append(original.left_out(digest, "short", f"{part.frames} frames", part))
        moving: list[Part] = []
        for part in parts:
            activity = look.activity_of(part)
            if activity < settings.static_below:
                detail = f"{activity:.4f} levels of change between frames"
                rejected.append(original.left_out(digest, "static", detail, part))
            else:
                moving.append(part)
        chosen = _spread(moving, settings.per_file)
        for part in moving:
            if part not in chosen:
                detail = f"over {settings.per_file} clips of the file"
                rejected.append(original.left_out(digest, "limit", detail, part))
                continue
            hashes = look.hashes_of(part)
            matching_frame = seen.find(digest, hashes)
            if matching_frame is not None:
                detail = SAME_PICTURES + matching_frame
                rejected.append(original.left_out(digest, "duplicate", detail, part))
                continue
            entry = original.clip(digest, part)
            seen.add(digest, entry.file, hashes)
            clips.append((original, entry))
    return clips, rejected


def _spread(parts: Sequence[Part], limit: int | None) -> Sequence[Part]:
    if limit is None or len(parts) <= limit:
        return parts
    return [parts[int(i)] for i in np.linspace(0, len(parts) - 1, limit).round()]
