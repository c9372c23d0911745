"""Encoded streams and pictures of the clips, kept beside the results on request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from muzero_rc import output_files
from muzero_rc.errors import OutputError

__all__ = ["MediaFolder", "replacing"]


@dataclass(frozen=True, slots=True)
class MediaFolder:
    """Where a folder of results has its streams and thumbnails.

    Files are named by what determines them, so a clip or method of another name finds
    them again, and a stream that is there belongs to its encode.

    Attributes:
      folder: of the results.
    """

    folder: Path

    def stream(self, key: str) -> Path:
        """The WebM file of the encode with this key."""
        return self.folder / "streams" / f"{key}.webm"

    def thumbnail(self, clip_sha256: str) -> Path:
        """The JPEG picture of the clip with this hash."""
        return self.folder / "thumbnails" / f"{clip_sha256[:40]}.jpg"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, renamed to it if the body succeeds, else removed.

    Raises:
      OutputError: the folder cannot be made or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with output_files.replacing(path) as temporary:
            yield temporary
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}; choose another --out or make room"
        ) from error
