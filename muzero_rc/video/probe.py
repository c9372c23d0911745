"""What is in a video file, in the terms the encoder needs."""

from __future__ import annotations

import math
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import ffmpeg

from muzero_rc.errors import InputError
from muzero_rc.video.tools import PROTOCOLS, file_url, find_tool, last_error_line

__all__ = ["AudioStream", "VideoInfo", "check_height", "frame_rate", "probe"]

_MIN_SIDE = 2
_MAX_SIDE = 16384
_MAX_FPS = 300
_MAX_COUNTED_FPS = 60
_MIN_SCALE_HEIGHT = 16
# ffmpeg reads any text file as a video of terminal output; nobody means that.
_NOT_VIDEO = frozenset({"tty"})
_TEXT_SUBTITLES = frozenset({"ass", "mov_text", "ssa", "subrip", "text", "webvtt"})
_INTERLACED = frozenset({"tt", "bb", "tb", "bt"})


@dataclass(frozen=True, slots=True)
class AudioStream:
    """One audio stream of a file.

    Attributes:
      index: ffmpeg's stream index in the file.
      codec: ffmpeg's codec name.
      channels: number of channels.
    """

    index: int
    codec: str
    channels: int


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """The video stream that will be encoded, and what comes along with it.

    Attributes:
      path: the file.
      stream_index: ffmpeg's index of the video stream.
      width: pixels, after rotation.
      height: pixels, after rotation.
      pixel_aspect: width of a pixel over its height, after rotation; 1 for nearly all files.
      fps: constant frame rate at which the stream is decoded.
      num_frames: frames as the container says, None if it does not.
      duration_s: length in seconds, None if unknown.
      start_s: when the video starts, seconds after the file's start; None if not told.
      codec: ffmpeg's codec name.
      pix_fmt: ffmpeg's pixel format name.
      interlaced: the stream is marked as interlaced.
      color_space: ffmpeg's name of the YUV matrix, None if not told.
      color_range: `tv` or `pc`, None if not told.
      color_primaries: ffmpeg's name of the primaries, None if not told.
      color_transfer: ffmpeg's name of the transfer function, None if not told.
      audio: the audio streams.
      text_subtitles: stream indexes of subtitles that are text.
      language: the video stream's language tag.
    """

    path: Path
    stream_index: int
    width: int
    height: int
    pixel_aspect: Fraction
    fps: Fraction
    num_frames: int | None
    duration_s: float | None
    start_s: float | None
    codec: str
    pix_fmt: str
    interlaced: bool
    color_space: str | None
    color_range: str | None
    color_primaries: str | None
    color_transfer: str | None
    audio: tuple[AudioStream, ...]
    text_subtitles: tuple[int, ...]
    language: str | None

    @property
    def has_audio(self) -> bool:
        """Whether there is any audio stream."""
        return bool(self.audio)

    @property
    def is_rgb(self) -> bool:
        """Whether the samples are RGB, so that decoding chooses the YUV matrix."""
        return self.pix_fmt.startswith(("rgb", "bgr", "gbr", "argb", "abgr", "0rgb", "0bgr", "pal"))

    @property
    def display_aspect(self) -> Fraction:
        """Width over height of the picture as it is shown."""
        return self.width * self.pixel_aspect / self.height

    @property
    def expected_frames(self) -> int | None:
        """About how many frames decoding will give; None if the file does not tell."""
        if self.duration_s is not None:
            return max(1, round(self.duration_s * self.fps))
        return self.num_frames

    def coded_size(self, height: int | None = None) -> tuple[int, int]:
        """Even (width, height) for the encoder; `height` only ever makes it smaller."""
        if height is None or height >= self.height:
            return self.width // 2 * 2, self.height // 2 * 2
        check_height(height)
        even_height = height // 2 * 2
        width = round(self.width * even_height / self.height / 2) * 2
        return max(width, _MIN_SIDE), even_height


def check_height(height: int) -> None:
    """Refuses a height to scale to that makes no sense.

    Raises:
      InputError: the height is below 16 pixels.
    """
    if height < _MIN_SCALE_HEIGHT:
        raise InputError(f"cannot scale to a height of {height}; give {_MIN_SCALE_HEIGHT} or more")


def probe(path: Path | str) -> VideoInfo:
    """Reads the header of a video file.

    Raises:
      InputError: no such file, not a file, not readable, no video stream, zero frames,
        or damaged beyond what the header needs.
      ToolMissingError: ffprobe is not installed.
    """
    path = Path(path)
    _check_is_file(path)
    try:
        report = ffmpeg.probe(
            file_url(path), cmd=find_tool("ffprobe"), v="error", protocol_whitelist=PROTOCOLS
        )
    except ffmpeg.Error as error:
        lines = (error.stderr or b"").decode("utf-8", "replace").splitlines()
        line = last_error_line(lines)
        detail = line.removeprefix(f"{path.absolute()}: ") or "unknown format"
        raise InputError(
            f"cannot read {path} as video: {detail}; give a video file that ffmpeg can play"
        ) from None
    streams = report.get("streams", [])
    container = report.get("format", {})
    stream = _pick_video(streams)
    if stream is None or container.get("format_name") in _NOT_VIDEO:
        raise InputError(f"{path} has no video stream; give a file with video in it")
    return _describe(path, stream, streams, container)


def _check_is_file(path: Path) -> None:
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            with path.open("rb") as file:
                empty = not file.read(1)
    except FileNotFoundError:
        raise InputError(f"no such file: {path}; check the name") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"cannot open {path}: {reason}; check its name and permissions") from None
    if stat.S_ISDIR(mode):
        raise InputError(f"{path} is a directory; give a video file")
    if not stat.S_ISREG(mode):
        raise InputError(f"{path} is not a regular file; save the video to a file first")
    if empty:
        raise InputError(f"{path} is empty; give a video file")


def _pick_video(streams: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The default video stream, else the first; cover pictures do not count."""
    candidates = [
        s
        for s in streams
        if s.get("codec_type") == "video" and not s.get("disposition", {}).get("attached_pic")
    ]
    defaults = [s for s in candidates if s.get("disposition", {}).get("default")]
    return next(iter(defaults or candidates), None)


def _describe(
    path: Path,
    stream: Mapping[str, Any],
    streams: list[dict[str, Any]],
    container: Mapping[str, Any],
) -> VideoInfo:
    num_frames = _positive_int(stream.get("nb_frames"))
    if stream.get("nb_frames") == "0":
        raise InputError(f"{path} has a video stream without frames; nothing to encode")
    width, height, aspect = _turned_size(stream)
    if width <= 0 or height <= 0:
        raise InputError(f"{path} does not tell its picture size; the file may be damaged")
    if not (_MIN_SIDE <= min(width, height) and max(width, height) <= _MAX_SIDE):
        raise InputError(
            f"{path} is {width}x{height}; sides must be {_MIN_SIDE} to {_MAX_SIDE} pixels"
        )
    duration = _seconds(stream.get("duration")) or _seconds(container.get("duration"))
    rate = frame_rate(stream.get("avg_frame_rate"), stream.get("r_frame_rate"))
    if rate is None and duration:
        rate = _counted_rate(path, stream, duration)
    if rate is None:
        raise InputError(f"{path} does not tell its frame rate; remux it with a frame rate first")
    start = _seconds(stream.get("start_time"))
    file_start = _seconds(container.get("start_time")) or 0.0
    return VideoInfo(
        path=path,
        stream_index=int(stream["index"]),
        width=width,
        height=height,
        pixel_aspect=aspect,
        fps=rate,
        num_frames=num_frames,
        duration_s=duration if duration and duration > 0 else None,
        start_s=None if start is None else max(0.0, start - file_start),
        codec=str(stream.get("codec_name", "unknown")),
        pix_fmt=str(stream.get("pix_fmt", "unknown")),
        interlaced=stream.get("field_order") in _INTERLACED,
        color_space=_known(stream.get("color_space")),
        color_range=_known(stream.get("color_range")),
        color_primaries=_known(stream.get("color_primaries")),
        color_transfer=_known(stream.get("color_transfer")),
        audio=tuple(
            AudioStream(int(s["index"]), str(s.get("codec_name", "unknown")), int(s["channels"]))
            for s in streams
            if s.get("codec_type") == "audio" and s.get("channels")
        ),
        text_subtitles=tuple(
            int(s["index"])
            for s in streams
            if s.get("codec_type") == "subtitle" and s.get("codec_name") in _TEXT_SUBTITLES
        ),
        language=_known(stream.get("tags", {}).get("language")),
    )


def _turned_size(stream: Mapping[str, Any]) -> tuple[int, int, Fraction]:
    """(width, height, pixel aspect) after the rotation that ffmpeg applies by itself."""
    width, height = int(stream.get("width", 0)), int(stream.get("height", 0))
    aspect = _ratio(stream.get("sample_aspect_ratio"))
    if aspect is None or aspect <= 0:
        aspect = Fraction(1)
    if _rotation(stream) % 180 == 90:
        return height, width, 1 / aspect
    return width, height, aspect


def _rotation(stream: Mapping[str, Any]) -> int:
    """Rotation of the display matrix in degrees, to the nearest quarter turn."""
    for data in stream.get("side_data_list", []):
        if "rotation" in data:
            return round(float(data["rotation"]) / 90) * 90
    return 0


def frame_rate(average: str | None, nominal: str | None) -> Fraction | None:
    """The constant rate at which a stream is decoded; None if nothing sane is told.

    Args:
      average: ffprobe's avg_frame_rate, frames over duration.
      nominal: ffprobe's r_frame_rate, the coarsest rate that hits all time stamps: exact
        for a constant rate, but the field rate of interlaced video and 1000 or 90000 when
        time stamps are irregular.

    The nominal rate is taken when it is close to the average or a little above it (a
    clip at 30 that lost some frames), so that no frame is dropped; else the average.
    """
    mean, base = _ratio(average), _ratio(nominal)
    if mean is not None and not 0 < mean <= _MAX_FPS:
        mean = None
    if base is not None and not 0 < base <= _MAX_FPS:
        base = None
    if mean is None or base is None:
        chosen = mean or base
    else:
        chosen = base if Fraction(99, 100) * mean <= base < Fraction(19, 10) * mean else mean
    return None if chosen is None else _snap(chosen)


def _counted_rate(path: Path, stream: Mapping[str, Any], duration_s: float) -> Fraction | None:
    """Whole frames per second by counting; for screen recordings that tell no rate."""
    report = ffmpeg.probe(
        file_url(path), cmd=find_tool("ffprobe"), v="error", protocol_whitelist=PROTOCOLS,
        count_packets=None, select_streams=str(stream["index"]),
    )  # fmt: skip
    packets = _positive_int(report["streams"][0].get("nb_read_packets"))
    if packets is None:
        return None
    return Fraction(min(max(1, round(packets / duration_s)), _MAX_COUNTED_FPS))


def _snap(rate: Fraction) -> Fraction:
    """The rate n or n*1000/1001 within 0.05%, else one with a small denominator."""
    for candidate in (
        Fraction(round(rate)),
        Fraction(round(rate * Fraction(1001, 1000)) * 1000, 1001),
    ):
        if candidate > 0 and abs(candidate / rate - 1) < Fraction(1, 2000):
            return candidate
    return rate.limit_denominator(1001) or rate


def _ratio(text: str | None) -> Fraction | None:
    numerator, _, denominator = (text or "").replace(":", "/").partition("/")
    try:
        return Fraction(int(numerator), int(denominator or 1))
    except (ValueError, ZeroDivisionError):
        return None


def _seconds(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _positive_int(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() and int(text) > 0 else None


def _known(text: str | None) -> str | None:
    return text if text and text not in ("unknown", "reserved", "und") else None
