"""Cover pictures, taken out of a file byte by byte.

ffmpeg shows a cover as a video stream, whatever the format. Its muxer of Matroska would write
that as a second video; a cover is an attachment there, which it reads from a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from muzero_rc.video.probe import VideoInfo
from muzero_rc.video.tools import (
    PROTOCOLS,
    Child,
    check_written,
    ffmpeg_command,
    file_url,
    literal,
)
from muzero_rc.video.tracks import Track

__all__ = ["Cover", "extract_covers", "file_type"]

# By ffmpeg's codec: the ending of a file's name, and its media type.
_TYPES = {
    "mjpeg": ("jpg", "image/jpeg"),
    "png": ("png", "image/png"),
    "bmp": ("bmp", "image/bmp"),
    "gif": ("gif", "image/gif"),
    "tiff": ("tiff", "image/tiff"),
    "webp": ("webp", "image/webp"),
}


@dataclass(frozen=True, slots=True)
class Cover:
    """A cover picture, in a file of its own.

    Attributes:
      track: of the source.
      path: the file.
      filename: what an attachment of it is called: players look for `cover.jpg` or `cover.png`.
      size: of the file, bytes.
    """

    track: Track
    path: Path
    filename: str
    size: int


def file_type(track: Track) -> str:
    """Media type of a cover; empty if its codec has none."""
    return _TYPES.get(track.codec, ("", ""))[1]


def extract_covers(info: VideoInfo, tracks: Sequence[Track], folder: Path) -> list[Cover]:
    """Takes covers out of a file; one that cannot be read is not among them.

    Args:
      info: the file.
      tracks: those that are wanted, of codecs that have a `file_type`.
      folder: for the files.

    Raises:
      OutputError: the folder takes no more.
      ToolMissingError: ffmpeg is not installed.
    """
    covers: list[Cover] = []
    for track in tracks:
        path = folder / f"{track.index}.{_TYPES[track.codec][0]}"
        command = [*ffmpeg_command(), "-protocol_whitelist", PROTOCOLS, "-i", file_url(info.path)]
        # The muxer of raw data writes a packet as it is; that of pictures reads a % in a name.
        # A cover is the file's first packet: the rest need not be read.
        command += ["-map", f"0:{track.index}", "-c", "copy", "-frames:v", "1"]
        command += ["-f", "data", file_url(path)]
        with Child([literal(word) for word in command]) as child:
            status = child.run()
        check_written(child, status, folder)
        size = path.stat().st_size if path.exists() else 0
        if size:
            named = {cover.filename for cover in covers}
            covers.append(Cover(track, path, _filename(track, named), size))
    return covers


def _filename(track: Track, taken: set[str]) -> str:
    """The name that it has in the source, else the first that is free."""
    if track.filename and track.filename not in taken:
        return track.filename
    ending = _TYPES[track.codec][0]
    names = (f"cover{'' if number == 1 else f'-{number}'}.{ending}" for number in range(1, 10**6))
    return next(name for name in names if name not in taken)
