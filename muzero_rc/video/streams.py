"""Files for other encoders and what they wrote: YUV4MPEG2 for them, packets of theirs."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import ffmpeg

from muzero_rc.errors import EncoderError, InputError, OutputError
from muzero_rc.video.decode import open_decoder
from muzero_rc.video.tools import (
    command_line,
    ending_with_us,
    file_url,
    find_tool,
    last_error_line,
    literal,
)

__all__ = ["Packets", "packets", "write_y4m"]

_WAIT_S = 600.0


@dataclass(frozen=True, slots=True)
class Packets:
    """The video packets of a file.

    Attributes:
      sizes: bytes of each, the container not included.
      sha256: of their content, in order.
      frames: that a decoder makes of them.
    """

    sizes: tuple[int, ...]
    sha256: str
    frames: int


def write_y4m(
    path: Path, source: Path, *, height: int | None = None, max_frames: int | None = None
) -> int:
    """Writes the frames of a clip, as `open_decoder` gives them, and returns their number.

    Raises:
      InputError: the source cannot be read, or has no frames.
      OutputError: the file cannot be written.
    """
    with open_decoder(source, height=height, max_frames=max_frames) as decoder:
        rate = f"{decoder.fps.numerator}:{decoder.fps.denominator}"
        head = f"YUV4MPEG2 W{decoder.width} H{decoder.height} F{rate} Ip A1:1 C420jpeg"
        count = 0
        try:
            # The decoder's pipe is its own; a copy of the descriptor is ours to close.
            with os.fdopen(os.dup(decoder.fileno()), "rb") as frames, path.open("wb") as file:
                file.write(f"{head} XCOLORRANGE=LIMITED\n".encode())
                while len(frame := frames.read(decoder.frame_bytes)) == decoder.frame_bytes:
                    file.write(b"FRAME\n")
                    file.write(frame)
                    count += 1
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
        decoder.check()
    if not count:
        raise InputError(f"{source}: no frame could be decoded")
    return count


def packets(path: Path) -> Packets:
    """Sizes and hash of the packets of a file's first video stream.

    Raises:
      EncoderError: ffmpeg cannot read it.
      ToolMissingError: ffmpeg or ffprobe is not installed.
    """
    listed = _ask(
        [
            find_tool("ffprobe"), "-v", "error", "-select_streams", "v:0", "-count_frames",
            "-show_entries", "packet=size:stream=nb_read_frames", "-of", "json",
            literal(file_url(path)),
        ],
        path,
    )  # fmt: skip
    told = json.loads(listed)
    sizes = tuple(int(packet["size"]) for packet in told.get("packets", ()))
    if not sizes:
        raise EncoderError(f"{path.name} holds no video")
    frames = int(told["streams"][0].get("nb_read_frames", 0))
    source = ffmpeg.input(file_url(path))["v:0"]
    output = ffmpeg.output(source, "-", c="copy", format="hash", hash="sha256")
    hashed = _ask(command_line(output), path)
    return Packets(sizes, hashed.strip().partition("=")[2], frames)


def _ask(command: list[str], path: Path) -> str:
    done = subprocess.run(
        ending_with_us(command),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_WAIT_S,
    )  # fmt: skip
    if done.returncode:
        detail = last_error_line(done.stderr.splitlines()) or f"status {done.returncode}"
        raise EncoderError(f"{path.name} cannot be read: {detail}")
    return done.stdout
