"""What of a video is encoded, and how it is turned into frames: stretch, filters, rate, depth."""

from __future__ import annotations

import dataclasses
import functools
import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import ffmpeg

from muzero_rc.errors import InputError
from muzero_rc.video.probe import VideoInfo, probe
from muzero_rc.video.timing import MAX_FPS
from muzero_rc.video.tools import (
    PROTOCOLS,
    Child,
    command_line,
    ffmpeg_command,
    ffprobe,
    file_url,
)
from muzero_rc.video.transport import count_joins

__all__ = ["Picture", "decoded", "picture_of", "with_filters"]

_PLACE = "muzerorcfilters"  # stands for the filters in what ffmpeg-python has built
_LEAST_LATE_MS = 2  # by hand: clocks of 1 ms round, so what is less late comes at once
_TRIAL_FRAMES = 10  # enough for a rate of frames
_FILTER_NAME = re.compile(r"(?:^|[,;\]])\s*([a-z0-9_]+)")
_DEINTERLACERS = frozenset({
    "bwdif", "bwdif_cuda", "deinterlace_vaapi", "detelecine", "estdif", "fieldmatch", "kerndeint",
    "mcdeint", "nnedi", "pullup", "separatefields", "w3fdif", "yadif", "yadif_cuda",
})  # fmt: skip
# Frames of these come at times that the first ones do not tell.
_UNEVEN = frozenset({"freezeframes", "mpdecimate", "select", "setpts", "shuffleframes"})
_CORRUPT = "corrupt input packet in stream"  # ffmpeg's words where a count breaks
_HDR_TRANSFERS = frozenset({"smpte2084", "arib-std-b67"})
# The chain of ffmpeg's own documentation of `tonemap`.
_TONE_MAP = (
    "zscale=t=linear:npl=100,format=gbrpf32le,zscale=p=bt709,tonemap=hable:desat=0,"
    "zscale=t=bt709:m=bt709:r=tv,format=yuv420p"
)


@dataclass(frozen=True, slots=True)
class Picture:
    """How a video becomes frames.

    Attributes:
      source: the video.
      info: the frames as they come out, in the same terms, before they are scaled.
      bit_depth: of a sample: 8, 10 or 12.
      start_s: where the stretch starts, seconds after the file.
      end_s: where it ends; None for the end of the file.
      late_s: how long after the start the next frame comes; 0 where the video begins later.
      from_first: what comes before the start is decoded, too, as ffmpeg's decoder complains of a
        start within the file: frames after a key frame may refer to some before it (open GOP).
      filters: ffmpeg's chain of filters, None without one.
      filters_fps: the rate that they tell of what they put out.
      deinterlace: deinterlace what is interlaced, before the filters.
      times_ms: of each frame after the stretch's start, where they keep their own times; None
        for a constant rate.
      joins: places where an MPEG transport stream was joined, whose packets are whole.
      notes: what is done to the picture that nobody asked for, a line each.
    """

    source: VideoInfo
    info: VideoInfo
    bit_depth: int = 8
    start_s: float = 0.0
    end_s: float | None = None
    late_s: float = 0.0
    from_first: bool = False
    filters: str | None = None
    filters_fps: Fraction | None = None
    deinterlace: bool = False
    times_ms: tuple[int, ...] | None = None
    joins: int = 0
    notes: tuple[str, ...] = ()

    @property
    def strict(self) -> tuple[str, ...]:
        """Options with which ffmpeg ends at the first error.

        It takes a join for an error, so there its words are read instead.
        """
        return () if self.joins else ("-xerror",)

    def errors(self, lines: Sequence[str]) -> list[str]:
        """What ffmpeg complained of beside the joins."""
        return [line for line in lines if not (self.joins and _CORRUPT in line)]

    @property
    def cut(self) -> bool:
        """Whether it is a stretch of the video."""
        return self.start_s > 0 or self.end_s is not None

    @property
    def first_s(self) -> float:
        """When the first frame is shown, seconds after the stretch's start."""
        if self.times_ms is not None and not self.source.rebased:
            return self.times_ms[0] / 1000
        return self.late_s or max(0.0, (self.source.start_s or 0.0) - self.start_s)

    @property
    def times_from_zero(self) -> list[int] | None:
        """Milliseconds from the first frame to each; None for a constant rate."""
        if self.times_ms is None:
            return None
        return [time - self.times_ms[0] for time in self.times_ms]

    @property
    def pix_fmt(self) -> str:
        """ffmpeg's name of the frames' format."""
        return "yuv420p" if self.bit_depth == 8 else f"yuv420p{self.bit_depth}le"

    @property
    def out_range(self) -> str:
        """The range of the samples: full is kept where the depth is."""
        return "pc" if self.bit_depth > 8 and self.info.color_range == "pc" else "tv"

    def first(self, frames: int | None) -> Picture:
        """The picture of so many frames from the first; all of them for None."""
        if self.times_ms is None or frames is None or frames >= len(self.times_ms):
            return self
        times = self.times_ms[:frames]
        if frames > 1:
            mean = _mean_rate(times)
            info = dataclasses.replace(self.info, fps=mean, duration_s=frames / float(mean))
            return dataclasses.replace(self, info=info, times_ms=times)
        return dataclasses.replace(self, times_ms=times)

    def key(self) -> str:
        """All that decides the frames, beside file, size and rate; empty for the plain ones."""
        if self == plain(self.source):
            return ""
        return (
            f"{self.bit_depth} {self.start_s} {self.late_s} {self.end_s} {self.filters} "
            f"{self.deinterlace} {self.out_range} {self.times_ms is not None}"
        )


def plain(info: VideoInfo) -> Picture:
    """All frames of a video in 8 bits at a constant rate."""
    return Picture(info, info, deinterlace=info.interlaced)


def picture_of(
    info: VideoInfo,
    *,
    start_s: float = 0.0,
    end_s: float | None = None,
    filters: str | None = None,
    fps: Fraction | None = None,
    eight_bits: bool = False,
) -> Picture:
    """Settles how a video is decoded; filters are tried on its first frames.

    Args:
      info: the video.
      start_s: where to start, seconds after the file's start.
      end_s: where to end.
      filters: ffmpeg's chain of filters.
      fps: constant rate of the frames; if not given the video's own times, or the rate that
        the filters make.
      eight_bits: make deeper samples 8 bits.

    Raises:
      InputError: the stretch has no frame, or a filter fails.
      ToolMissingError: ffmpeg is not installed.
    """
    _check_stretch(info, start_s, end_s)
    if fps is not None and not 0 < fps <= MAX_FPS:
        raise InputError(f"cannot encode {fps} frames per second; give above 0, to {MAX_FPS}")
    notes: list[str] = []
    chain = [] if filters is None else [filters]
    if eight_bits and info.color_transfer in _HDR_TRANSFERS:
        if _maps_tones():
            chain.append(_TONE_MAP)
            notes.append(
                "HDR becomes SDR in BT.709: tones are mapped by ffmpeg's tonemap (hable, "
                "white at 100 cd/m2)"
            )
        else:
            notes.append(
                "HDR becomes 8 bits and stays labelled so: tones are not mapped, as this ffmpeg "
                "has no zscale and tonemap"
            )
    joins = _joins(info)
    if joins:
        notes.append(
            f"the file is joined from {joins + 1} recordings; times go on where they are joined"
        )
    named = set(_FILTER_NAME.findall(filters or ""))
    picture = Picture(
        source=info,
        info=_cut_short(info, start_s, end_s),
        bit_depth=8 if eight_bits else _depth(info),
        start_s=start_s,
        end_s=end_s,
        filters=",".join(chain) or None,
        deinterlace=info.interlaced and not named & _DEINTERLACERS,
        joins=joins,
        notes=tuple(notes),
    )
    picture = _with_first_frame(picture)
    stretched = False
    if picture.filters is not None:
        picture, stretched = _tried(picture, filters or "--8bit", eight_bits)
        stretched |= bool(named & _UNEVEN)
    if (info.varying is not None or stretched) and fps is None:
        return _with_own_times(picture)
    rate = picture.info.fps if fps is None else fps
    shown = dataclasses.replace(picture.info, fps=rate, varying=None, lost_slots=0)
    if fps is None:  # what a constant rate loses is told
        shown = dataclasses.replace(shown, lost_slots=info.lost_slots)
    return dataclasses.replace(picture, info=shown)


def decoded(
    picture: Picture,
    *,
    threads: int | None = None,
    on_trial: bool = False,
    seek_s: float = 0.0,
    **options: Any,
) -> Any:
    """The frames as a stream of ffmpeg-python, before they are scaled; see `with_filters`.

    Args:
      picture: how the video becomes frames.
      threads: of the decoder; ffmpeg's choice if not given.
      on_trial: leave the frames at the times that the filters give them.
      seek_s: begin so many seconds after the stretch's start, see `video.seek`.
      options: of the input.
    """
    info = picture.source
    own: dict[str, Any] = {} if threads is None else {"threads": threads}
    if not seek_s:  # what comes just after a key frame may lack frames before it, and is dropped
        own["err_detect"] = "explode"
    start_s = picture.start_s + seek_s
    trimmed = picture.cut if info.rebased else picture.from_first and not seek_s
    if not (info.rebased or trimmed):
        if start_s:
            own["ss"] = f"{start_s:.6f}"
        if picture.end_s is not None:
            own["t"] = f"{picture.end_s - start_s:.6f}"
    if not info.turned:
        # Where the size changes on the way, ffmpeg would make all filters anew, and `fps` would
        # begin once more at zero. Its own filters that turn pictures need that: they read
        # beyond a picture that is smaller than the first.
        own["reinit_filter"] = 0
    source = ffmpeg.input(file_url(info.path), protocol_whitelist=PROTOCOLS, **own, **options)
    stream = source[str(info.stream_index)]
    if not info.turned:
        stream = stream.filter("scale", info.width, info.height)
    if trimmed:
        stream = _trimmed(stream, picture)
    elif picture.end_s is not None:
        # ffmpeg counts `t` from the first frame, which may come after the start.
        stream = stream.filter("trim", end=f"{picture.end_s - start_s:.6f}")
    if picture.deinterlace:
        stream = stream.filter("bwdif", mode="send_frame", deint="interlaced")
    if picture.times_ms is None and picture.late_s:
        # From the first frame on all are in the middle of their slots.
        stream = stream.filter("setpts", f"PTS-{picture.late_s:.3f}/TB")
    if picture.times_ms is None:
        # start_time repeats the first frame if what comes before it could not be decoded,
        # so the frames stay where the audio expects them.
        rate: dict[str, Any] = {"fps": str(info.fps if picture.filters else picture.info.fps)}
        if info.start_s is not None:
            # This command maps the video alone, so where that counts, it starts at zero.
            late = 0.0 if info.rebased else max(0.0, info.start_s - picture.start_s)
            rate["start_time"] = f"{late:.6f}"
        stream = stream.filter("fps", **rate)
    if picture.filters is not None:
        stream = stream.filter(_PLACE)
        # A rate of their own is kept by filters that tell one: `decimate` counts its frames, and
        # their times would not fit into it. The source's rate is told by those that know none.
        kept = picture.info.fps == picture.filters_fps != info.fps
        if picture.times_ms is None and not on_trial and not kept:
            stream = stream.filter("fps", fps=str(picture.info.fps))
    return stream


def with_filters(words: list[str], picture: Picture) -> list[str]:
    """The words of a command that `decoded` is part of, with the filters in their place."""
    return [word.replace(_PLACE, picture.filters or "null") for word in words]


def _trimmed(stream: Any, picture: Picture) -> Any:
    """The stretch of a file that is read from its start."""
    # Of a format without exact seeking the video's first frame is there.
    zero = picture.source.start_s or 0.0 if picture.source.rebased else 0.0
    start = max(0.0, picture.start_s - zero)
    ends = {} if picture.end_s is None else {"end": f"{picture.end_s - zero:.6f}"}
    stream = stream.filter("trim", start=f"{start:.6f}", **ends)
    return stream.filter("setpts", f"PTS-{start:.6f}/TB")


def _check_stretch(info: VideoInfo, start_s: float, end_s: float | None) -> None:
    if start_s < 0:
        raise InputError(f"cannot start at {start_s:g} s; give 0 or more")
    if end_s is not None and end_s <= start_s:
        raise InputError(f"the end at {end_s:g} s is not after the start at {start_s:g} s")
    length = info.duration_s
    if length is not None and start_s >= length:
        raise InputError(f"{info.path} is {length:.3f} s long; nothing is left from {start_s:g} s")


def _cut_short(info: VideoInfo, start_s: float, end_s: float | None) -> VideoInfo:
    if not start_s and end_s is None:
        return info
    length = None
    if info.duration_s is not None:
        length = min(info.duration_s, end_s or info.duration_s) - start_s
    elif end_s is not None:
        length = end_s - start_s
    return dataclasses.replace(info, duration_s=length, num_frames=None)


def _depth(info: VideoInfo) -> int:
    """The depth that VP9 has for a source's: none of its bits is lost, up to 12."""
    return 8 if info.bit_depth == 8 else 10 if info.bit_depth <= 10 else 12


def _tried(picture: Picture, asked: str, eight_bits: bool) -> tuple[Picture, bool]:
    """With size, rate, depth and colours as the filters leave them.

    Also whether frames come at other times than at that rate: filters such as `setpts` leave
    the rate that is told as it was.
    """
    with tempfile.TemporaryDirectory(prefix="muzero-rc-") as folder:
        path = Path(folder) / "trial.mkv"
        output = ffmpeg.output(
            decoded(picture, on_trial=True), file_url(path), format="matroska", vcodec="ffv1",
            fps_mode="passthrough", **{"frames:v": _TRIAL_FRAMES},
        )  # fmt: skip
        command = with_filters(command_line(output, *picture.strict), picture)
        with Child(command) as child:
            status = child.run()
            detail = (
                _telling(picture.errors(child.errors())) or f"ffmpeg ended with status {status}"
            )
        if status:
            raise InputError(f"the filters {asked!r} fail: {detail}")
        try:
            seen = probe(path, by_header=True)
        except InputError:
            raise InputError(f"the filters {asked!r} leave no frame") from None
        stretched = _off_rate(path, seen.fps)
    info = dataclasses.replace(
        picture.info,
        width=seen.width,
        height=seen.height,
        pixel_aspect=seen.pixel_aspect,
        fps=seen.fps,
        num_frames=None,
        pix_fmt=seen.pix_fmt,
        color_space=seen.color_space,
        color_range=seen.color_range,
        color_primaries=seen.color_primaries,
        color_transfer=seen.color_transfer,
        chroma_location=seen.chroma_location,
        alpha=seen.alpha,
        hdr=picture.info.hdr if seen.color_transfer in _HDR_TRANSFERS else None,
    )
    depth = 8 if eight_bits else _depth(info)
    tried = dataclasses.replace(picture, info=info, bit_depth=depth, filters_fps=seen.fps)
    return tried, stretched


def _off_rate(path: Path, fps: Fraction) -> bool:
    """Whether frames of a file take half a frame more or less than they would at a rate."""
    told = ffprobe(path, "-show_entries", "packet=pts_time")
    times = [float(packet["pts_time"]) for packet in told.get("packets", ())]
    return abs((max(times) - min(times)) * fps - (len(times) - 1)) > 0.5


def _telling(errors: list[str]) -> str:
    """The first thing that ffmpeg complained of: what comes after it follows from it."""
    return re.sub(r"^(\[[^\]]*\]\s*)+", "", errors[0]) if errors else ""


def _with_own_times(picture: Picture) -> Picture:
    """With the time of each frame, and their mean rate for the rate control's budget."""
    times, detail = _times(picture)
    if detail is not None:  # other errors end the decoding of the frames, which comes after this
        raise InputError(f"{picture.source.path} is damaged: {detail}")
    if len(times) < 2 or times[-1] <= times[0]:
        return picture  # one frame has no rate
    zero = times[0] if picture.source.rebased else 0
    own = tuple(time - zero for time in times)
    mean = _mean_rate(own)
    length = len(own) / float(mean)
    shown = dataclasses.replace(
        picture.info, fps=mean, duration_s=length, num_frames=len(own), varying=None, lost_slots=0
    )
    return dataclasses.replace(picture, info=shown, times_ms=own)


def _with_first_frame(picture: Picture) -> Picture:
    """With how long after the stretch's start the next frame comes, and how it is come to.

    Else that frame would be repeated until then: starts that people write are seldom a frame's.
    """
    if picture.start_s <= (picture.source.start_s or 0.0):
        return picture
    alone = dataclasses.replace(picture, filters=None, deinterlace=False)
    one = {"frames:v": 1}
    times, detail = _times(alone, **one)
    if detail is not None and not picture.source.rebased:
        picture = dataclasses.replace(picture, from_first=True)
        alone = dataclasses.replace(alone, from_first=True)
        times, _ = _times(alone, **one)  # the decoder tells better what is wrong
    late = times[0] if times else 0
    return dataclasses.replace(picture, late_s=late / 1000 if late >= _LEAST_LATE_MS else 0.0)


def _times(picture: Picture, **limit: int) -> tuple[list[int], str | None]:
    """Milliseconds after the stretch's start at which frames come, ascending; what failed."""
    keeping = dataclasses.replace(picture, times_ms=())
    output = ffmpeg.output(
        decoded(keeping), "pipe:1", format="mkvtimestamp_v2", vcodec="wrapped_avframe",
        fps_mode="passthrough",
        enc_time_base=-1,  # else times would be rounded to the rate that file or filters tell
        **limit,
    )  # fmt: skip
    times: list[int] = []

    def note(line: str) -> None:
        if line.lstrip("-").isdigit():
            times.append(int(line))

    with Child(with_filters(command_line(output, *picture.strict), picture)) as child:
        status = child.run(note)
        detail = child.error_line() or f"ffmpeg ended with status {status}"
    return sorted(times), detail if status else None


def _joins(info: VideoInfo) -> int:
    if info.transport_id is None:
        return 0
    try:
        status = info.path.stat()
        return _counted_joins(info.path, info.transport_id, status.st_size, status.st_mtime_ns)
    except OSError:  # the decoder tells it better
        return 0


@functools.lru_cache(maxsize=4)
def _counted_joins(path: Path, pid: int, size: int, changed_ns: int) -> int:
    """Of a file of this size, last changed then; it is settled several times."""
    return count_joins(path, pid) or 0


def _mean_rate(times_ms: Sequence[int]) -> Fraction:
    return Fraction((len(times_ms) - 1) * 1000, times_ms[-1] - times_ms[0]).limit_denominator(1001)


@functools.cache
def _maps_tones() -> bool:
    done = subprocess.run(
        [*ffmpeg_command(), "-filters"], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    return " zscale " in done.stdout and " tonemap " in done.stdout
