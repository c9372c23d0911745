"""A stream of raw frames from any video file, through a pipe."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import math
import select
import subprocess
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import ffmpeg

from muzero_rc.errors import InputError
from muzero_rc.video.picture import Picture, decoded, plain, with_filters
from muzero_rc.video.probe import probe
from muzero_rc.video.promised import check_promised_end
from muzero_rc.video.seek import Seek
from muzero_rc.video.tools import WITH_WARNINGS, Child, command_line, last_error_line
from muzero_rc.video.y4m import check_y4m_end

__all__ = ["Decoder", "check_frames", "open_decoder"]

_PIPE_BYTES = 1 << 20
_END_WAIT_S = 30.0
_RGB_MATRIX = "bt709"
_OTHER_FRAMES = "Changing video frame properties"  # ffmpeg's words where their size changes
_CUT_OFF = "File ended prematurely"
_SCALER = "lanczos+accurate_rnd+bitexact"  # the same pixels on every machine


class Decoder:
    """ffmpeg writing I420 frames into a pipe.

    A frame is `frame_bytes` long: Y, then U and V at half size, no padding; samples of more
    than 8 bits take two bytes, little endian. When `fileno()`
    is read to its end, `check()` tells an end from a failure; leaving the context calls it.

    Attributes:
      info: what the file's header says, with size, rate and colours as they come out of here.
      bit_depth: of a sample.
      width: even width of the frames, pixels.
      height: even height of the frames, pixels.
      fps: frames per second.
      frame_bytes: bytes of one frame.
      first_frame: the place of the first frame among all, 0 unless a seek was asked for.
    """

    def __init__(
        self,
        picture: Picture,
        *,
        height: int | None = None,
        max_frames: int | None = None,
        threads: int | None = None,
        seek: Seek | None = None,
    ) -> None:
        info = picture.info
        self.info = dataclasses.replace(
            info,
            color_range=picture.out_range,
            color_space=_RGB_MATRIX if info.is_rgb else info.color_space,
        )
        self.bit_depth = picture.bit_depth
        self._picture = picture
        self.width, self.height = info.coded_size(height)
        self.fps: Fraction = info.fps
        self.frame_bytes = self.width * self.height * 3 // 2 * (1 if self.bit_depth == 8 else 2)
        self.first_frame = 0 if seek is None else seek.frame
        self._checked = False
        command = _command(picture, self.width, self.height, max_frames, threads, seek)
        self._child = Child(command, levels=True)
        # A larger pipe means fewer switches between the two processes; not vital.
        with contextlib.suppress(OSError, AttributeError):
            fcntl.fcntl(self.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def __enter__(self) -> Decoder:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            # What ffmpeg says of a frame cut short tells more than the reader of it.
            told = exc is None or isinstance(exc, InputError)
            if told and not self._checked and self._read_to_end():
                self.check()
        finally:
            self.close()

    @property
    def resized(self) -> bool:
        """Whether frames so far came in several sizes or formats; all are made like the first."""
        return any(_OTHER_FRAMES in line for line in self._child.warnings())

    def fileno(self) -> int:
        """File descriptor to read the frames from; owned by the decoder."""
        return self._child.stdout.fileno()

    def frames(self) -> Iterator[bytes]:
        """The frames one by one, instead of through `fileno()`; checks at the end.

        Raises:
          InputError: the file is damaged, or has no frame.
        """
        count = 0
        while data := self._child.stdout.read(self.frame_bytes):
            if len(data) < self.frame_bytes:
                self.check()
                raise InputError(f"{self.info.path} ends within a frame; it may be damaged")
            count += 1
            yield data
        self.check(count)

    def check(self, num_frames: int | None = None) -> None:
        """Call once the pipe is read to its end: did everything decode?

        Args:
          num_frames: whole frames that were read, if the caller counts them.

        Raises:
          InputError: ffmpeg stopped with an error, or there was no frame.
        """
        self._checked = True
        try:
            status = self._child.wait(_END_WAIT_S)
        except subprocess.TimeoutExpired:
            raise InputError(
                f"decoding {self.info.path} did not end; the file may be damaged"
            ) from None
        # ffmpeg takes a Matroska or WebM file that was cut off for one that ends.
        if any(_CUT_OFF in line for line in self._child.errors()):
            raise InputError(f"{self.info.path} is cut off: its end is missing; get it whole")
        errors = self._picture.errors(self._child.errors()) if self._picture.joins else []
        if status != 0 or errors:
            detail = last_error_line(errors) or self._child.error_line()
            detail = detail or f"ffmpeg ended with status {status}"
            raise InputError(
                f"{self.info.path} is damaged: {detail}; repair or replace it "
                "(ffmpeg -err_detect ignore_err may save what is left)"
            )
        if num_frames == 0:
            raise InputError(f"{self.info.path} has no frame that can be decoded")

    def _read_to_end(self) -> bool:
        """Whether ffmpeg closed its end of the pipe and nothing is left in it."""
        if self._child.stdout.closed:
            return False
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        events = [event for _, event in poll.poll(0)]
        return any(event & select.POLLHUP and not event & select.POLLIN for event in events)

    def close(self) -> None:
        """Stops ffmpeg at once; may be called at any time, and again."""
        self._child.kill()


def check_frames(max_frames: int | None, name: str = "frames to take") -> None:
    """Refuses a number of frames to take that makes no sense; None takes all.

    Args:
      max_frames: how many.
      name: what people call it, such as the option that they gave.

    Raises:
      InputError: it is below 1.
    """
    if max_frames is not None and max_frames < 1:
        raise InputError(f"{name} must be 1 or more, not {max_frames}")


def open_decoder(
    path: Path | str,
    *,
    height: int | None = None,
    max_frames: int | None = None,
    max_fps: Fraction | None = None,
    threads: int | None = None,
    picture: Picture | None = None,
    seek: Seek | None = None,
) -> Decoder:
    """Starts decoding a video file.

    Rotation is applied; sizes are made even by dropping a row or column; other subsampling
    becomes 4:2:0. Without a picture, interlaced video is deinterlaced, deeper pixels become 8
    bits, and the rate is constant.
    Each call starts from the beginning, or at one place, so a clip may be decoded several times.

    Args:
      path: any file ffmpeg reads.
      height: scale down to this height, keeping the aspect; never scales up.
      max_frames: stop after so many frames.
      max_fps: take every second, third ... frame of a video above this rate: the first of
        its rate's whole fractions that is not above it, so that motion stays even.
      threads: of the decoder; ffmpeg's choice if not given. With one, a damaged file is
        always damaged in the same words.
      picture: how `path` becomes frames.
      seek: begin there, with this picture. What fails to decode is passed over then, so somebody
        must know what the frames are.

    Raises:
      InputError: the file or the arguments cannot be used; a YUV4MPEG2, IVF or FLV file is
        cut off.
      ToolMissingError: ffmpeg or ffprobe is not installed.
    """
    check_frames(max_frames)
    if max_fps is not None and max_fps <= 0:
        raise InputError(f"cannot lower the rate to {max_fps} frames per second; give above 0")
    picture = picture or plain(probe(path))
    if max_fps is not None:
        fps = picture.info.fps / max(1, math.ceil(picture.info.fps / max_fps))
        info = dataclasses.replace(picture.info, fps=fps)
        picture = dataclasses.replace(picture, info=info)
    if max_frames is None and picture.end_s is None:
        check_y4m_end(path)
        check_promised_end(path)
    return Decoder(picture, height=height, max_frames=max_frames, threads=threads, seek=seek)


def _command(
    picture: Picture,
    width: int,
    height: int,
    max_frames: int | None,
    threads: int | None,
    seek: Seek | None,
) -> list[str]:
    info = picture.info
    stream = decoded(picture, threads=threads, seek_s=0.0 if seek is None else seek.after_s)
    if (width, height) == (info.width // 2 * 2, info.height // 2 * 2):
        # Dropping an odd row or column keeps the rest sharp; scaling would blur it all.
        stream = stream.filter("crop", "iw-mod(iw,2)", "ih-mod(ih,2)", 0, 0)
    matrix = {"out_color_matrix": _RGB_MATRIX} if info.is_rgb else {}
    stream = stream.filter(
        "scale", width, height, flags=_SCALER, out_range=picture.out_range, **matrix
    )
    before = 0 if seek is None else seek.frame
    limit = {} if max_frames is None else {"frames:v": max_frames - before}
    strict = picture.strict if seek is None else ()
    output = ffmpeg.output(
        stream, "pipe:1", format="rawvideo", pix_fmt=picture.pix_fmt, fps_mode="passthrough",
        **limit,
    )  # fmt: skip
    return with_filters(command_line(output, *strict, *WITH_WARNINGS), picture)
