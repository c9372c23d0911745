"""What is in a video file, in the terms the encoder needs."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from muzero_rc.errors import InputError
from muzero_rc.video.first_frame import first_frame, left_of_side_data
from muzero_rc.video.hdr import HdrMetadata, dynamic_metadata, hdr_metadata
from muzero_rc.video.measured_rate import measured_rate, rate_holds
from muzero_rc.video.pixel_formats import bit_depth_of, has_alpha, is_rgb
from muzero_rc.video.timing import frame_rate, may_vary, parse_ratio
from muzero_rc.video.tools import ffprobe
from muzero_rc.video.tracks import Track, tracks_of

__all__ = ["AudioStream", "VideoInfo", "check_height", "probe", "time_streams"]

_MIN_SIDE = 2
_MAX_SIDE = 16384
_MIN_SCALE_HEIGHT = 16
# ffmpeg reads any text file as a video of terminal output; nobody means that.
_NOT_VIDEO = frozenset({"tty"})
_PICTURES = frozenset({".bmp", ".dpx", ".exr", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
_INTERLACED = frozenset({"tt", "bb", "tb", "bt"})
# Formats in which ffmpeg counts time from the first of the streams that are mapped, where it
# else counts from the start of the file: libavformat's AVFMT_TS_DISCONT.
_REBASED = frozenset({"dhav", "hls", "live_flv", "m4v", "mpeg", "mpegts", "mpegtsraw", "ogg", "ty"})
# Formats whose rate is a guess: of the program that wrote them, or of ffprobe by the first frames.
_GUESSED = frozenset({
    "apng", "asf", "flv", "gif", "hls", "matroska", "mpeg", "mpegts", "nut", "ogg", "rm", "webm",
    "webp_pipe",
})  # fmt: skip
_MOST_STREAM_TYPE = 0xFF  # of an MPEG transport stream


@dataclass(frozen=True, slots=True)
class AudioStream:
    """One audio stream of a file.

    Attributes:
      index: ffmpeg's stream index in the file.
      codec: ffmpeg's codec name.
      channels: number of channels.
      layout: ffmpeg's name of where they are, None if not told.
    """

    index: int
    codec: str
    channels: int
    layout: str | None = None


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
      start_s: when the video starts, seconds after what is carried over starts; None if not
        told.
      rebased: ffmpeg counts time from the first of the streams that a command maps.
      codec: ffmpeg's codec name.
      pix_fmt: ffmpeg's pixel format name.
      interlaced: the stream, or its first frame, is marked as interlaced.
      color_space: ffmpeg's name of the YUV matrix, None if not told.
      color_range: `tv` or `pc`, None if not told.
      color_primaries: ffmpeg's name of the primaries, None if not told.
      color_transfer: ffmpeg's name of the transfer function, None if not told.
      audio: the audio streams.
      text_subtitles: stream indexes of subtitles that are text.
      tracks: all streams, the video that is encoded too.
      chapters: it has some.
      alpha: the picture has transparency.
      varying: lowest and highest rate of frames, where it is not constant: the average, and
        the constant one at which all are shown.
      lost_slots: frames that a constant rate of `fps` drops.
      chroma_location: where chroma lies, ffmpeg's name; None if not told.
      hdr: mastering display and light levels, None if not told.
      dynamic: names of metadata that changes with the picture.
      left: what else it tells of its pictures that no output has, as begun sentences.
      transport_id: the stream's number in an MPEG transport stream; None in other files.
      version: bytes and time of the last change of the file that was looked at; None if nobody
        asked.
      turned: ffmpeg turns or mirrors the pictures, as the file says.
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
    rebased: bool
    codec: str
    pix_fmt: str
    interlaced: bool
    color_space: str | None
    color_range: str | None
    color_primaries: str | None
    color_transfer: str | None
    audio: tuple[AudioStream, ...]
    tracks: tuple[Track, ...]
    chapters: bool
    alpha: bool
    varying: tuple[Fraction, Fraction] | None = None
    lost_slots: int = 0
    chroma_location: str | None = None
    hdr: HdrMetadata | None = None
    dynamic: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    transport_id: int | None = None
    version: tuple[int, int] | None = None
    turned: bool = False

    @property
    def unchanged(self) -> bool:
        """Whether the file is still the one that was looked at, as far as its times tell."""
        try:
            return self.version is None or self.version == _version(self.path.stat())
        except OSError:
            return False

    def check_unchanged(self) -> None:
        """Refuses a file that is another one by now: it is read several times.

        Raises:
          InputError: its size or the time of its last change is not what it was.
        """
        if not self.unchanged:
            raise InputError(
                f"{self.path} was changed, replaced or removed while it was encoded; "
                "encode it again when nobody writes to it"
            )

    @property
    def has_audio(self) -> bool:
        """Whether there is any audio stream."""
        return bool(self.audio)

    @property
    def text_subtitles(self) -> tuple[int, ...]:
        """Stream indexes of subtitles that are text."""
        return tuple(track.index for track in self.tracks if track.is_text)

    @property
    def video_track(self) -> Track:
        """The stream that is encoded."""
        return next(track for track in self.tracks if track.index == self.stream_index)

    @property
    def language(self) -> str | None:
        """The video stream's language tag."""
        return self.video_track.language

    @property
    def bit_depth(self) -> int:
        """Bits of a sample of luma."""
        return bit_depth_of(self.pix_fmt)

    @property
    def is_rgb(self) -> bool:
        """Whether the samples are RGB, so that decoding chooses the YUV matrix."""
        return is_rgb(self.pix_fmt)

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


def check_height(height: int, name: str = "a height to scale to") -> None:
    """Refuses a height to scale to that makes no sense.

    Args:
      height: lines.
      name: what people call it, such as the option that they gave.

    Raises:
      InputError: the height is below 16 pixels.
    """
    if height < _MIN_SCALE_HEIGHT:
        raise InputError(f"{name} must be {_MIN_SCALE_HEIGHT} lines or more, not {height}")


def probe(path: Path | str, *, by_header: bool = False) -> VideoInfo:
    """Reads the header of a video file, and its frames' times where the header may be wrong.

    Args:
      path: the file.
      by_header: take the rate that the header tells, if it tells one.

    Raises:
      InputError: no such file, not a file, not readable, no video stream, zero frames,
        or damaged beyond what the header needs.
      ToolMissingError: ffprobe is not installed.
    """
    path = Path(path)
    _check_is_file(path)
    now = path.stat()
    try:
        report = _header(path, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)
    except InputError as error:
        raise InputError(
            f"cannot read {path} as video: {error}; give a video file that ffmpeg can play"
        ) from None
    streams = report.get("streams", [])
    container = report.get("format", {})
    stream = _pick_video(streams)
    if stream is None or container.get("format_name") in _NOT_VIDEO:
        raise InputError(f"{path} has no video stream; give a file with video in it")
    chapters = bool(report.get("chapters"))
    info = _describe(path, now, stream, streams, container, chapters, by_header)
    return dataclasses.replace(info, version=_version(now))


def _version(status: os.stat_result) -> tuple[int, int]:
    # Not the inode: some network file systems give a file a new one while it is open.
    return status.st_size, status.st_mtime_ns


@functools.lru_cache(maxsize=4)
def _header(path: Path, *unchanged: int) -> dict[str, Any]:
    """What ffprobe tells of a file: an encode asks for it up to three times."""
    return ffprobe(path, "-show_format", "-show_streams", "-show_chapters")


def _of_pictures(paths: Sequence[Path]) -> str:
    """What to do with pictures, where a name is one of them or stands for them."""
    if not any(path.suffix.lower() in _PICTURES for path in paths):
        return ""
    return "; ffmpeg -framerate 25 -i %04d.png -c:v ffv1 film.mkv makes a film of pictures"


def _check_is_file(path: Path) -> None:
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            with path.open("rb") as file:
                empty = not file.read(1)
    except FileNotFoundError:
        raise InputError(f"no such file: {path}; check the name{_of_pictures([path])}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"cannot open {path}: {reason}; check its name and permissions") from None
    if stat.S_ISDIR(mode):
        hint = ""
        with contextlib.suppress(OSError):
            hint = _of_pictures(sorted(path.iterdir())[:1])
        raise InputError(f"{path} is a directory; give a video file{hint}")
    if not stat.S_ISREG(mode):
        raise InputError(
            f"{path} is not a regular file, and video is read several times; save it to a file "
            "first, or pipe it as YUV4MPEG2 into encode -"
        )
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
    now: os.stat_result,
    stream: Mapping[str, Any],
    streams: list[dict[str, Any]],
    container: Mapping[str, Any],
    chapters: bool,
    by_header: bool,
) -> VideoInfo:
    num_frames = _positive_int(stream.get("nb_frames"))
    if stream.get("nb_frames") == "0":
        raise InputError(f"{path} has a video stream without frames; nothing to encode")
    width, height, aspect = _turned_size(stream)
    if width <= 0 or height <= 0:
        if stream.get("codec_name") == "webp":
            raise InputError(f"{path} is an animated WebP, which ffmpeg cannot read; make it a GIF")
        raise InputError(f"{path} does not tell its picture size; the file may be damaged")
    if not (_MIN_SIDE <= min(width, height) and max(width, height) <= _MAX_SIDE):
        raise InputError(
            f"{path} is {width}x{height}; sides must be {_MIN_SIDE} to {_MAX_SIDE} pixels"
        )
    duration = _seconds(stream.get("duration")) or _seconds(container.get("duration"))
    frame = first_frame(path, stream, now)
    interlaced = stream.get("field_order") in _INTERLACED or frame.interlaced
    told = (stream.get("avg_frame_rate"), stream.get("r_frame_rate"))
    rate, varying, lost = frame_rate(*told), None, 0
    index, nominal = int(stream["index"]), parse_ratio(told[1])
    formats = str(container.get("format_name", ""))
    rebased = _is_rebased(formats, stream)
    # Packets of interlaced video may be fields, and their number says nothing.
    guessed = not by_header and not _GUESSED.isdisjoint(formats.split(","))
    if rate is None or (
        not interlaced
        and (may_vary(*told) or (guessed and not rate_holds(path, stream, rate, rebased)))
    ):
        rate, varying, lost = measured_rate(path, index, rate, nominal)
    if rate is None:
        raise InputError(f"{path} does not tell its frame rate; remux it with a frame rate first")
    side_data = [*stream.get("side_data_list", ()), *frame.side_data]
    tracks = tracks_of(streams)
    start = _seconds(stream.get("start_time"))
    zero = _first_start(tracks, int(stream["index"])) if rebased else None
    if zero is None:
        zero = _seconds(container.get("start_time")) or 0.0
    return VideoInfo(
        path=path,
        stream_index=int(stream["index"]),
        width=width,
        height=height,
        pixel_aspect=aspect,
        fps=rate,
        num_frames=num_frames,
        duration_s=duration if duration and duration > 0 else None,
        start_s=None if start is None else max(0.0, start - zero),
        rebased=rebased,
        codec=str(stream.get("codec_name", "unknown")),
        pix_fmt=str(stream.get("pix_fmt", "unknown")),
        interlaced=interlaced,
        color_space=_known(stream.get("color_space")),
        color_range=_known(stream.get("color_range")),
        color_primaries=_known(stream.get("color_primaries")),
        color_transfer=_known(stream.get("color_transfer")),
        audio=tuple(
            AudioStream(
                int(s["index"]),
                str(s.get("codec_name", "unknown")),
                int(s["channels"]),
                _known(s.get("channel_layout")),
            )
            for s in streams
            if s.get("codec_type") == "audio" and s.get("channels")
        ),  # fmt: skip
        tracks=tracks,
        chapters=chapters,
        alpha=_has_alpha(stream),
        varying=varying,
        lost_slots=lost,
        chroma_location=_known(stream.get("chroma_location")),
        hdr=hdr_metadata(side_data),
        dynamic=dynamic_metadata(side_data),
        left=left_of_side_data(stream, side_data),
        transport_id=_transport_id(stream) if container.get("format_name") == "mpegts" else None,
        turned=any("displaymatrix" in data for data in stream.get("side_data_list", ())),
    )


def _is_rebased(formats: str, stream: Mapping[str, Any]) -> bool:
    """Whether ffmpeg counts time as `VideoInfo.rebased` says.

    Only where time stamps wrap around: those of a playlist's MP4 segments do not. Streams of MP4
    have tags of four letters, those of transport streams numbers of one byte.
    """
    if formats == "hls" and int(str(stream.get("codec_tag", "0")), 0) > _MOST_STREAM_TYPE:
        return False
    return not _REBASED.isdisjoint(formats.split(","))


def _transport_id(stream: Mapping[str, Any]) -> int | None:
    try:
        return int(str(stream.get("id")), 0)
    except ValueError:
        return None


def _first_start(tracks: Sequence[Track], video: int) -> float | None:
    """Start of the first stream of those that `time_streams` are, seconds."""
    starts = [t.start_s for t in tracks if t.index in time_streams(tracks, video)]
    return min((start for start in starts if start is not None), default=None)


def time_streams(tracks: Sequence[Track], video: int) -> tuple[int, ...]:
    """The streams that every ffmpeg command maps which puts streams of a file together.

    So that all of them count time from the same moment, see `VideoInfo.rebased`.
    """
    kept = ("audio", "subtitle")
    return (video, *(t.index for t in tracks if t.kind in kept and t.codec != "unknown"))


def _has_alpha(stream: Mapping[str, Any]) -> bool:
    # WebM keeps transparency in a stream of its own, which only a tag tells of.
    tagged = {name.lower(): value for name, value in stream.get("tags", {}).items()}
    return tagged.get("alpha_mode") == "1" or has_alpha(str(stream.get("pix_fmt", "")))


def _turned_size(stream: Mapping[str, Any]) -> tuple[int, int, Fraction]:
    """(width, height, pixel aspect) after the rotation that ffmpeg applies by itself."""
    width, height = int(stream.get("width", 0)), int(stream.get("height", 0))
    aspect = parse_ratio(stream.get("sample_aspect_ratio"))
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
