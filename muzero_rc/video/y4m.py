"""YUV4MPEG2 that comes in: through a pipe, or as a file whose end is looked at."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import IO

import ffmpeg

from muzero_rc.errors import InputError
from muzero_rc.video.tools import Child, check_written, command_line, file_url

__all__ = ["check_y4m_end", "store_y4m"]

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
