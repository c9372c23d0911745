"""The work on a corpus's files: looking at one, cutting clips out, rendering a variant.

Apart from the build, which decides what is to be done and keeps account.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from muzero_rc import video
from muzero_rc.compute import check_cancelled, report
from muzero_rc.corpus.manifest import Entry
from muzero_rc.corpus.plan import BuildSettings, Original
from muzero_rc.corpus.scenes import Look, look_at
from muzero_rc.errors import InputError, OutputError
from muzero_rc.output_files import take_place, write_text
from muzero_rc.video import Recipe

__all__ = ["WORK", "Augmenting", "ClipMaker", "Cutting", "record_path"]

WORK = ".build"
"""Folder in a corpus for what a build remembers."""


def record_path(out: Path, file: str) -> Path:
    """Where a finished clip of a corpus is recorded."""
    return out / WORK / "clips" / f"{Path(file).name}.json"


@dataclass(frozen=True, slots=True)
class Cutting:
    """Task: a file and the clips to cut out of it."""

    original: Original
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Augmenting:
    """Task: a variant to render.

    Attributes:
      entry: of the variant.
      clip: that it is made of.
      recipe: how.
      partner: clip that it is joined with.
    """

    entry: Entry
    clip: Entry
    recipe: Recipe
    partner: Entry | None


@dataclass(frozen=True)
class ClipMaker:
    """Does the work; picklable.

    Attributes:
      out: folder of the corpus.
      settings: what the clips are like.
    """

    out: Path
    settings: BuildSettings

    def look(self, original: Original) -> tuple[str, Look | str, bool]:
        """SHA-256 of a file, what is seen of it, and whether it was looked at now."""
        try:
            with original.path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            return "", f"cannot be read: {error.strerror}", False
        path = self.out / WORK / "looks" / f"{digest}.json"
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            known = json.loads(path.read_text(encoding="utf-8"))
            return digest, known.get("broken") or Look.from_dict(known["look"]), False
        seen: Look | str
        try:
            seen = look_at(original.path, max_fps=self.settings.max_fps, on_frame=check_cancelled)
            record: dict[str, Any] = {"look": seen.as_dict()}
        except InputError as error:
            seen = _without_folder(str(error), original)
            record = {"broken": seen}
        write_text(path, json.dumps(record))
        return digest, seen, True

    def cut(self, task: Cutting) -> None:
        """Decodes a file once and writes its missing clips, which do not overlap.

        Reports each finished clip's entry.
        """
        decoder = video.open_decoder(
            task.original.path, height=self.settings.height, max_fps=self.settings.max_fps
        )
        with decoder:
            frames = enumerate(decoder.frames())
            for entry in sorted(task.entries, key=lambda e: e.start_frame):
                report(self._write(entry, decoder, frames))

    def _write(
        self, entry: Entry, decoder: video.Decoder, frames: Iterator[tuple[int, bytes]]
    ) -> Entry:
        width, height, fps = decoder.width, decoder.height, decoder.fps
        digest = video.start_hash(width, height, fps)
        temporary = self._temporary(entry)
        number = -1
        with video.LosslessWriter(temporary, width, height, fps, decoder.info) as writer:
            for number, frame in frames:
                check_cancelled()
                if number < entry.start_frame:
                    continue
                digest.update(frame)
                writer.write(frame)
                if number == entry.end_frame - 1:
                    break
            writer.close()
        if number != entry.end_frame - 1:
            temporary.unlink()
            raise InputError(f"{entry.origin} ends sooner than it did; it was changed meanwhile")
        return self._finish(entry, temporary, digest.hexdigest())

    def augment(self, task: Augmenting) -> Entry:
        """Renders a variant; its finished entry."""
        temporary = self._temporary(task.entry)
        video.render(
            self.out / task.clip.file,
            task.recipe,
            temporary,
            join=None if task.partner is None else self.out / task.partner.file,
            on_progress=check_cancelled,
        )
        return self._finish(task.entry, temporary)

    def _temporary(self, entry: Entry) -> Path:
        path = self.out / entry.file
        return path.with_name(f".{path.name}.partial")

    def _finish(self, entry: Entry, temporary: Path, frames_sha256: str | None = None) -> Entry:
        """Checks a written clip by decoding it, gives it its name and records it."""
        try:
            width, height, fps, frames, decoded = video.hash_frames(
                temporary, on_frame=check_cancelled
            )
            if frames_sha256 not in (None, decoded):
                raise OutputError(
                    f"{entry.file} does not decode to what was written ({width}x{height}, "
                    f"{fps} fps, {frames} frames); is the disk in order?"
                )
            with temporary.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                size = os.fstat(file.fileno()).st_size
            take_place(temporary, self.out / entry.file)
        finally:
            temporary.unlink(missing_ok=True)
        done = replace(
            entry, width=width, height=height, fps=str(fps), frames=frames, bytes=size,
            sha256=digest, frames_sha256=decoded,
        )  # fmt: skip
        write_text(record_path(self.out, entry.file), json.dumps(done.as_dict()))
        return done


def _without_folder(message: str, original: Original) -> str:
    """An error message that names the file as the manifest does: no folder of this machine."""
    for path in (original.path.absolute(), original.path):
        message = message.replace(str(path), original.name)
    return message
