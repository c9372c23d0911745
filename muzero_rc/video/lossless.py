"""Clips stored without loss: H.264 at quantizer 0 in MP4, made of frames or of other clips.

H.264 predicts from frame to frame and FFV1 does not: x264's `veryfast` takes a fifth to two
fifths less space than FFV1 at about the same time (its `medium` twice the time for 2% more).
MP4 keeps frame rates exactly, Matroska rounds times to milliseconds.
"""

from __future__ import annotations

import contextlib
import hashlib
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import ffmpeg

from muzero_rc.errors import InputError, OutputError
from muzero_rc.video.augment import Recipe, filter_graph
from muzero_rc.video.decode import open_decoder
from muzero_rc.video.probe import VideoInfo, probe
from muzero_rc.video.tools import PROTOCOLS, Child, check_written, command_line, file_url

__all__ = ["LosslessWriter", "hash_frames", "render", "start_hash"]

_STORAGE: dict[str, Any] = {
    "c:v": "libx264", "qp": 0, "preset": "veryfast", "threads": 1, "format": "mp4",
    "pix_fmt": "yuv420p", "fps_mode": "passthrough", "fflags": "+bitexact",
    "flags:v": "+bitexact",
}  # fmt: skip
_END_WAIT_S = 120.0


class LosslessWriter:
    """Writes I420 frames to a file; a context manager.

    Leaving the context by an exception, or before `close()`, removes the file.
    """

    def __init__(self, path: Path, width: int, height: int, fps: Fraction, like: VideoInfo) -> None:
        """Starts ffmpeg.

        Args:
          path: the file, replaced if it is there.
          width: even, pixels.
          height: even, pixels.
          fps: frames per second.
          like: what the frames were decoded from: their colours are noted in the file.

        Raises:
          ToolMissingError: ffmpeg is not installed.
        """
        self._path = path
        self._done = False
        source = ffmpeg.input(
            "pipe:0", format="rawvideo", pix_fmt="yuv420p", video_size=(width, height),
            framerate=str(fps),
        )  # fmt: skip
        output = ffmpeg.output(source, file_url(path), **_STORAGE, **_colours(like))
        self._child = Child(command_line(output), stdin=subprocess.PIPE)

    def __enter__(self) -> LosslessWriter:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._child.kill()
        if not self._done:
            self._path.unlink(missing_ok=True)

    def write(self, frame: bytes) -> None:
        """Adds a frame: Y, then U and V at half size.

        Raises:
          OutputError: the file cannot be written.
        """
        stdin = self._child.process.stdin
        assert stdin is not None
        try:
            stdin.write(frame)
        except BrokenPipeError:
            self._end()

    def close(self) -> None:
        """Ends the file.

        Raises:
          OutputError: the file cannot be written.
        """
        stdin = self._child.process.stdin
        assert stdin is not None
        with contextlib.suppress(BrokenPipeError):
            stdin.close()
        self._end()
        self._done = True

    def _end(self) -> None:
        status = self._child.wait(_END_WAIT_S)
        _check(self._child, status, self._path)


def render(
    clip: Path,
    recipe: Recipe,
    out: Path,
    *,
    join: Path | None = None,
    on_progress: Callable[[], None] = lambda: None,
) -> None:
    """Makes a clip of a finished one (or of two, with a cut) by a recipe.

    Args:
      clip: a clip with a constant frame rate and even sides.
      recipe: what is done to it.
      out: file to write, replaced if it is there; removed again if this fails.
      join: the clip that comes after the cut, if the recipe has one.
      on_progress: called now and then; what it raises ends the rendering.

    Raises:
      InputError: a clip is damaged.
      OutputError: the file cannot be written.
      ToolMissingError: ffmpeg is not installed.
    """
    info = probe(clip)
    streams = [ffmpeg.input(file_url(path), protocol_whitelist=PROTOCOLS)["v:0"]
               for path in ([clip] if join is None else [clip, join])]  # fmt: skip
    stream = filter_graph(streams, recipe, info.width, info.height, info.fps)
    output = ffmpeg.output(stream, file_url(out), **_STORAGE, **_colours(info))
    command = command_line(output, "-xerror", "-progress", "pipe:1")
    done = False
    try:
        with Child(command) as child:
            status = child.run(lambda line: on_progress())
            _check(child, status, out)
        done = True
    finally:
        if not done:
            out.unlink(missing_ok=True)


def start_hash(width: int, height: int, fps: Fraction) -> Any:
    """A SHA-256 of size and rate, to be updated with each frame.

    With all I420 frames of a clip added it is the identity that `muzero_rc.env.codec.clip.Clip`
    and the results of an evaluation give to the decoded clip.
    """
    return hashlib.sha256(f"I420 {width}x{height} {fps}\n".encode())


def hash_frames(
    path: Path, *, on_frame: Callable[[], None] = lambda: None
) -> tuple[int, int, Fraction, int, str]:
    """Decodes a clip: width, height, frames per second, frames, and their hash.

    Raises:
      InputError: it is damaged.
    """
    count = 0
    with open_decoder(path) as decoder:
        digest = start_hash(decoder.width, decoder.height, decoder.fps)
        for frame in decoder.frames():
            on_frame()
            digest.update(frame)
            count += 1
        return decoder.width, decoder.height, decoder.fps, count, digest.hexdigest()


def _check(child: Child, status: int, path: Path) -> None:
    check_written(child, status, path.parent)
    if status == 0:
        return
    detail = child.error_line() or f"ffmpeg ended with status {status}"
    if not path.parent.is_dir() or "ermission denied" in detail:
        raise OutputError(f"cannot write {path}: {detail}")
    raise InputError(f"{path.name} cannot be made: {detail}")


def _colours(info: VideoInfo) -> dict[str, str]:
    """Colours of decoded frames, for the file's header: libvpx writes them into its stream."""
    colours = {"color_range:v": "tv"}
    space = "bt709" if info.is_rgb else info.color_space
    if space is not None and space not in ("gbr", "rgb"):
        colours["colorspace:v"] = space
    if info.color_primaries is not None:
        colours["color_primaries:v"] = info.color_primaries
    if info.color_transfer is not None:
        colours["color_trc:v"] = info.color_transfer
    return colours
