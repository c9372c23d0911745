"""The check of the finished file: it is read as a player does, all streams of it."""

from __future__ import annotations

import collections
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from muzero_rc.errors import InputError, OutputError
from muzero_rc.video.mux import MuxPlan
from muzero_rc.video.probe import VideoInfo
from muzero_rc.video.tools import (
    Child,
    each_packet,
    ffmpeg_command,
    ffprobe,
    file_url,
    literal,
)

__all__ = ["Promise", "promise_of", "verify"]

# Opus frames of 20 ms and what a decoder swallows at its start; a packet that was cut off or
# damaged in a source is longer than that for no codec in use.
_AUDIO_SLACK_S = 0.25
_PACKET = ("stream_index", "duration_time", "size")


@dataclass(frozen=True, slots=True)
class Promise:
    """What a file must hold.

    Attributes:
      frames: of video.
      source_frames: packets of the source's video, None if they were not counted.
      tracks: kind of each other stream, in order, with what it must have at least: seconds
        of audio, cues of text; None where nothing is known. Of a `cover` it is the exact bytes.
      pictures: checksum of each frame as the encoder has it, by `ffmpeg -f framecrc`; None where
        nothing is known.
      may_lack: tracks of which nothing is known may be missing, as the format has no empty ones.
    """

    frames: int
    source_frames: int | None = None
    tracks: tuple[tuple[str, float | int | None], ...] = ()
    pictures: Sequence[int] | None = None
    may_lack: bool = False


def promise_of(
    info: VideoInfo,
    plan: MuxPlan,
    frames: int,
    *,
    cut: bool,
    pictures: Sequence[int] | None = None,
) -> Promise:
    """What a source promises of the file that is made of it.

    Reads the packets of the source once, if all of it was encoded.

    Args:
      info: the source.
      plan: what of it is kept.
      frames: that were encoded.
      cut: part of the source was encoded, so that lengths are not known.
      pictures: checksums of the frames, if they are known.

    Raises:
      InputError: the source cannot be read.
    """
    kept = plan.kept(info)
    cues = {text.track.index: text.cues for text in plan.texts}
    kept = [track for track in kept if cues.get(track.index, 1)]
    sizes = {cover.track.index: cover.size for cover in plan.covers}
    lengths, packets = _lengths(info) if not cut else ({}, None)
    told: list[tuple[str, float | int | None]] = []
    for track in kept:
        if track.kind == "audio":
            told.append(("audio", lengths.get(track.index) or None))
        elif track.cover:
            # Whether a picture of another codec in Matroska is a cover, versions of ffmpeg differ.
            sure = not plan.container.attachments or track.codec in ("mjpeg", "png")
            told.append(("cover", sizes[track.index]) if sure else ("attachment", None))
        elif track.kind == "subtitle":
            told.append(("subtitle", None if cut else cues.get(track.index)))
        else:
            told.append((track.kind, None))
    lacks = not plan.container.empty_tracks
    return Promise(frames, packets, tuple(told), pictures, lacks)


def _lengths(info: VideoInfo) -> tuple[Mapping[int, float], int]:
    """Seconds of all packets of each stream that are played, without gaps; packets of the video."""
    seconds: dict[int, float] = collections.defaultdict(float)
    frames = 0

    def note(fields: list[str]) -> None:
        nonlocal frames
        index, duration, _, flags = int(fields[0]), *fields[1:4]
        if "D" in flags:  # not played: an edit list of MP4 begins after it
            return
        seconds[index] += float(duration) if duration != "N/A" else 0.0
        frames += index == info.stream_index

    each_packet(info.path, (*_PACKET, "flags"), on_packet=note)
    return seconds, frames


def verify(
    path: Path,
    promise: Promise | int,
    *,
    decode: bool = True,
    on_progress: Callable[[int], None] | None = None,
) -> Sequence[str]:
    """Decodes a whole file, all its streams at once; counts what is in it, compares pictures.

    Args:
      path: the file to check.
      promise: what it must hold; a number is one of frames.
      decode: False reads its packets alone, which a damaged picture does not fail.
      on_progress: called with the number of frames decoded so far.

    Returns:
      Kinds of the tracks that are not in it, where they may be missing.

    Raises:
      OutputError: it does not decode without an error, something is missing, or a picture is
        another than was promised.
      ToolMissingError: ffmpeg is not installed.
    """
    if isinstance(promise, int):
        promise = Promise(promise)
    if decode:
        shown = _decoded(path, on_progress)
        frames = len(shown.checksums)
        if frames != promise.frames:
            raise OutputError(f"the encoded video has {frames} frames instead of {promise.frames}")
        if promise.pictures is not None:
            _compare(shown, promise.pictures)
    return _check_packets(path, promise)


class _Shown:
    """What a decoder shows of a file.

    Attributes:
      checksums: of each picture.
      times: of each picture, in ticks.
      tick: seconds.
    """

    def __init__(self) -> None:
        self.checksums = array("I")
        self.times = array("q")
        self.tick = Fraction(1)

    def add(self, line: str) -> bool:
        """Takes a line of ffmpeg's muxer framecrc; whether it told of a picture."""
        if line.startswith("#tb 0:"):
            self.tick = Fraction(line.partition(":")[2].strip())
        if line.startswith("#") or not line:
            return False
        # Number of the stream, time to decode, to show, duration, bytes, checksum.
        _, _, time, _, _, checksum, *_ = line.split(",")
        self.times.append(int(time))
        self.checksums.append(int(checksum, 16))
        return True

    def clock(self, picture: int) -> str:
        """Time of a picture, h:mm:ss with milliseconds, hours only where there are any."""
        milliseconds = round(self.times[picture] * self.tick * 1000)
        seconds, milliseconds = divmod(milliseconds, 1000)
        minutes, seconds = divmod(seconds, 60)
        hours, minutes = divmod(minutes, 60)
        start = f"{hours}:{minutes:02}" if hours else f"{minutes}"
        return f"{start}:{seconds:02}.{milliseconds:03}"


def _decoded(path: Path, on_progress: Callable[[int], None] | None) -> _Shown:
    # A player reads all streams, and some damage ends the file only for those who do. Each has
    # an output of its own: in one, pictures wait as raw frames for sound that starts late, and
    # ffmpeg gives up when sound of an hour has waited. Pictures stay as they are coded, whatever
    # the file says of turning them.
    command = [*ffmpeg_command("-xerror"), "-err_detect", "explode", "-noautorotate"]
    command += ["-i", literal(file_url(path)), "-map", "0:v:0", "-fps_mode", "passthrough"]
    command += ["-flush_packets", "1", "-f", "framecrc", "pipe:1"]
    for number in _read_beside(path):
        command += ["-map", f"0:{number}", "-fps_mode", "passthrough", "-c:s", "copy"]
        command += ["-f", "null", "-"]
    shown = _Shown()

    def read(line: str) -> None:
        if shown.add(line) and on_progress is not None:
            on_progress(len(shown.checksums))

    with Child(command) as child:
        status = child.run(read)
        detail = child.error_line()
    if status != 0:
        raise OutputError(f"the encoded video does not decode: {detail or f'status {status}'}")
    return shown


def _read_beside(path: Path) -> list[int]:
    """Indexes of the streams that a player reads beside the first video.

    Not those of covers: a damaged one is as it was in the source, and ends nothing else.
    """
    entries = "stream=index,codec_type:stream_disposition=attached_pic"
    try:
        streams = ffprobe(path, "-show_entries", entries).get("streams", [])
    except InputError as error:
        raise OutputError(f"the encoded video does not decode: {error}") from None
    kinds = {
        int(s["index"]): s.get("codec_type")
        for s in streams
        if not s.get("disposition", {}).get("attached_pic")
    }
    video = next((number for number, kind in kinds.items() if kind == "video"), None)
    played = ("video", "audio", "subtitle")
    return [number for number, kind in kinds.items() if kind in played and number != video]


def _compare(shown: _Shown, pictures: Sequence[int]) -> None:
    pairs = enumerate(zip(shown.checksums, pictures, strict=True))
    wrong = [number for number, (seen, made) in pairs if seen != made]
    if wrong:
        first = wrong[0]
        raise OutputError(
            f"picture {first} ({shown.clock(first)}) of the finished file is not what the encoder "
            f"made: decoded {shown.checksums[first]:08x} instead of {pictures[first]:08x}; "
            f"{len(wrong)} of {len(pictures)} pictures differ"
        )


def _check_packets(path: Path, promise: Promise) -> Sequence[str]:
    kinds: list[str] = []
    counts: dict[int, int] = collections.defaultdict(int)
    sizes: dict[int, int] = collections.defaultdict(int)
    seconds: dict[int, float] = collections.defaultdict(float)

    def note(fields: list[str]) -> None:
        index, duration = int(fields[0]), fields[1]
        counts[index] += 1
        sizes[index] += int(fields[2])
        seconds[index] += float(duration) if duration != "N/A" else 0.0

    try:
        each_packet(path, _PACKET, on_packet=note, on_stream=kinds.append)
    except InputError as error:
        raise OutputError(f"the encoded file cannot be read: {error}") from None
    # Titles of chapters are a stream of an MP4 file, before its covers.
    numbers = [number for number, kind in enumerate(kinds) if kind != "data"]
    kinds = [kinds[number] for number in numbers]
    if kinds[:1] != ["video"] or counts[0] != promise.frames:
        raise OutputError(f"the encoded file has {counts[0]} frames instead of {promise.frames}")
    if not promise.tracks:
        return ()
    tracks, lacking = _there(promise, kinds[1:])
    promised = [kind for kind, _ in tracks]
    if len(promised) != len(kinds) - 1 or not all(map(_is, promised, kinds[1:])):
        raise OutputError(
            f"the encoded file has {', '.join(kinds[1:]) or 'nothing'} beside the video instead "
            f"of {', '.join(kind for kind, _ in promise.tracks)}"
        )
    for number, (kind, least) in zip(numbers[1:], tracks, strict=True):
        if kind == "cover" and sizes[number] != least:
            raise OutputError(
                f"cover picture {number} of the encoded file has {sizes[number]} bytes instead "
                f"of {least}"
            )
        if kind == "audio" and least is not None and seconds[number] < least - _AUDIO_SLACK_S:
            raise OutputError(
                f"audio stream {number} of the encoded file has {seconds[number]:.2f} s instead "
                f"of {least:.2f}; the source may be damaged"
            )
        # MP4 has a sample without text between cues.
        if kind == "subtitle" and least is not None and counts[number] < least:
            raise OutputError(
                f"subtitle stream {number} of the encoded file has {counts[number]} cues "
                f"instead of {least}"
            )
    return lacking


def _is(promised: str, found: str) -> bool:
    """Whether a stream of one kind is what was promised: some attachments are seen as covers."""
    return found == promised or (promised, found) == ("attachment", "cover")


def _there(
    promise: Promise, kinds: Sequence[str]
) -> tuple[list[tuple[str, float | int | None]], list[str]]:
    """The promised tracks without those that may be missing and are, and the kinds of these."""
    tracks, lacking = list(promise.tracks), []
    if promise.may_lack:
        told = collections.Counter(kinds)
        for track in promise.tracks:
            kind, least = track
            more = sum(other == kind for other, _ in tracks) > told[kind]
            if least is None and more:
                tracks.remove(track)
                lacking.append(kind)
    return tracks, lacking
