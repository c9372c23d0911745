"""Encoded streams and pictures of the clips, kept beside the results on request."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["MediaFolder"]


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
