"""Files for other encoders and what they wrote: YUV4MPEG2 in, packets out."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import ffmpeg

from muzero_rc.errors import EncoderError, InputError, OutputError
from muzero_rc.video.decode import open_decoder
from muzero_rc.video.tools import (
    Child,
    check_written,
    command_line,
    file_url,
    find_tool,
    last_error_line,
    literal,
)

__all__ = ["Packets", "check_y4m_end", "packets", "store_y4m", "write_y4m"]

_WAIT_S = 600.0
_Y4M = b"YUV4MPEG2 "
_READ_BYTES = 1 << 20  # of a pipe at a time; no byte of a video depends on it
# Set by hand, far above any header; of what is no YUV4MPEG2, lines may have any length.
_LONGEST_LINE = 4096  # bytes
# Samples beside luma, by width and height; a longer name stands before one that begins it.
_CHROMA: dict[str, Callable[[int, int], int]] = {
    "mono": lambda w, h: 0,
    "411": lambda w, h: 2 * -(-w // 4) * h,
    "420": lambda w, h: 2 * -(-w // 2) * -(-h // 2),
    "422": lambda w, h: 2 * -(-w // 2) * h,
    "444alpha": lambda w, h: 3 * w * h,
    "444": lambda w, h: 2 * w * h,
}


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


class _Y4mFrames:
    """Counts the frames of a YUV4MPEG2 stream: ffmpeg leaves one that was cut off out in silence.

    Attributes:
      count: whole frames so far.
    """

    def __init__(self) -> None:
        self.count = 0
        self._frame_bytes: int | None = None
        self._rest = 0  # bytes that are still to come of a frame
        self._line = b""  # of a header, as far as it is there
        self._known = True

    @property
    def cut_off(self) -> bool:
        """Whether the stream would end within a frame, as far as it is understood."""
        return self._known and bool(self._rest or self._line)

    def take(self, data: bytes) -> None:
        """The next bytes of the stream."""
        at = 0
        while at < len(data) and self._known:
            if self._rest:
                step = min(self._rest, len(data) - at)
                at += step
                self._rest -= step
                self.count += not self._rest
                continue
            end = data.find(b"\n", at)
            self._line += data[at : end if end >= 0 else len(data)]
            if end < 0:
                self._known = len(self._line) <= _LONGEST_LINE
                return
            at = end + 1
            self._take_header(self._line)
            self._line = b""

    def _take_header(self, line: bytes) -> None:
        if self._frame_bytes is None:
            self._frame_bytes = _y4m_frame_bytes(line)
            self._known = self._frame_bytes is not None
        elif line.startswith(b"FRAME"):
            self._rest = self._frame_bytes
        else:
            self._known = False


def _y4m_frame_bytes(header: bytes) -> int | None:
    """Bytes of a frame, by the first line of a stream; None if it is not understood."""
    if not header.startswith(_Y4M):
        return None
    words = {word[:1]: word[1:] for word in header.decode("ascii", "replace").split()[1:]}
    kind = words.get("C", "420")
    chroma = next((samples for name, samples in _CHROMA.items() if kind.startswith(name)), None)
    try:
        width, height = int(words["W"]), int(words["H"])
    except (KeyError, ValueError):
        return None
    if chroma is None or min(width, height) <= 0:
        return None
    depth = kind.removeprefix("mono") if kind.startswith("mono") else kind.partition("p")[2]
    return (width * height + chroma(width, height)) * (2 if depth.isdigit() else 1)


def check_y4m_end(path: Path | str) -> None:
    """Refuses a YUV4MPEG2 file that ends within a frame; other files pass.

    Raises:
      InputError: it does, or cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            if file.peek(len(_Y4M))[: len(_Y4M)] != _Y4M:
                return
            size = os.fstat(file.fileno()).st_size
            frame_bytes = _y4m_frame_bytes(file.readline(_LONGEST_LINE).rstrip(b"\n"))
            count, whole = 0, True
            # From frame to frame: a long file is not read once more for this.
            while frame_bytes is not None and whole and (line := file.readline(_LONGEST_LINE)):
                if not b"FRAME".startswith(line[:5]):
                    return
                end = file.tell() + frame_bytes
                whole = line.endswith(b"\n") and end <= size
                count += whole
                file.seek(end)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    if not whole:
        raise InputError(f"{path} is cut off: it ends within frame {count}; get it whole")


def store_y4m(fileno: int, path: Path) -> None:
    """Stores the YUV4MPEG2 that comes out of a pipe as a file, without loss.

    Args:
      fileno: file descriptor to read to its end.
      path: the file, Matroska.

    Raises:
      InputError: it is something else, cut off, or has no frame.
      OutputError: there is no space for it.
      ToolMissingError: ffmpeg is not installed.
    """
    source = ffmpeg.input("pipe:0", format="yuv4mpegpipe")
    output = ffmpeg.output(source["v:0"], file_url(path), format="matroska", vcodec="ffv1")
    frames = _Y4mFrames()
    with Child(command_line(output, "-xerror"), stdin=subprocess.PIPE) as child:
        assert child.process.stdin is not None
        _pass_on(fileno, child.process.stdin, frames)
        status = child.run()
        detail = child.error_line()
        check_written(child, status, path.parent)
    if status:
        raise InputError(
            f"stdin is not YUV4MPEG2 video: {detail}; give -pix_fmt and -f yuv4mpegpipe"
        )
    if frames.cut_off:
        raise InputError(
            f"stdin is cut off: it ends within frame {frames.count}; "
            "see what became of the program that writes it"
        )
    if not frames.count:
        raise InputError("stdin has no frame; see what became of the program that writes it")


def _pass_on(fileno: int, to: IO[bytes], frames: _Y4mFrames) -> None:
    """Reads to the end; one that takes no more says itself why."""
    while True:
        try:
            data = os.read(fileno, _READ_BYTES)
        except OSError as error:
            raise InputError(f"stdin cannot be read: {error.strerror or error}") from None
        frames.take(data)
        with contextlib.suppress(BrokenPipeError):
            to.write(data)
            if data:
                continue
            to.close()
        return


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
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_WAIT_S
    )
    if done.returncode:
        detail = last_error_line(done.stderr.splitlines()) or f"status {done.returncode}"
        raise EncoderError(f"{path.name} cannot be read: {detail}")
    return done.stdout
