"""A small picture of a clip."""

from __future__ import annotations

from pathlib import Path

import ffmpeg

from muzero_rc.errors import InputError
from muzero_rc.video.probe import probe
from muzero_rc.video.tools import PROTOCOLS, Child, command_line, file_url

__all__ = ["write_thumbnail"]

_QUALITY = 4  # of ffmpeg's mjpeg, 2 best to 31


def write_thumbnail(path: Path, out: Path, *, at_s: float, height: int = 180) -> None:
    """Writes one frame of a video as a JPEG file.

    Args:
      path: the video.
      out: file to write, replaced if it is there.
      at_s: time of the frame, seconds from the start.
      height: of the picture, pixels; never larger than the video's own.

    Raises:
      InputError: the video cannot be read, or has no frame there.
      ToolMissingError: ffmpeg is not installed.
    """
    info = probe(path)
    width, height = info.coded_size(height)
    source = ffmpeg.input(file_url(path), ss=f"{at_s:.3f}", protocol_whitelist=PROTOCOLS)
    picture = source[str(info.stream_index)].filter("scale", width, height, flags="lanczos")
    options = {"frames:v": 1, "c:v": "mjpeg", "q:v": _QUALITY, "pix_fmt": "yuvj420p"}
    # Nothing of the source's own data goes along: a picture is handed around.
    output = ffmpeg.output(picture, file_url(out), f="image2", update=1, map_metadata=-1, **options)
    with Child(command_line(output)) as child:
        status, detail = child.run(), child.error_line()
    if status != 0 or not out.is_file():
        raise InputError(f"no picture could be taken from {path}: {detail or 'no frame there'}")
