"""The check of the finished file: it is read as a player does, all streams of it."""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from muzero_rc.errors import InputError, OutputError
from muzero_rc.video.decoded import Shown, decode_whole, parts_at_keys, shows_in_parts
from muzero_rc.video.mux import MuxPlan
from muzero_rc.video.probe import VideoInfo
from muzero_rc.video.tools import each_packet

__all__ = ["Promise", "promise_of", "verify"]

# Opus frames of 20 ms and what a decoder swallows at its start; a packet that was cut off or
# damaged in a source is longer than that for no codec in use.
_AUDIO_SLACK_S = 0.25
_LENGTH = ("stream_index", "duration_time", "size", "flags")
_PACKET = ("stream_index", "pts_time", "duration_time", "size", "flags")


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

    each_packet(info.path, _LENGTH, on_packet=note)
    return seconds, frames


def verify(
    path: Path,
    promise: Promise | int,
    *,
    decode: bool = True,
    workers: int = 1,
    on_progress: Callable[[int], None] | None = None,
) -> Sequence[str]:
    """Decodes a whole file, all its streams at once; counts what is in it, compares pictures.

    The verdict does not depend on the number of workers, only the time does.

    Args:
      path: the file to check.
      promise: what it must hold; a number is one of frames.
      decode: False reads its packets alone, which a damaged picture does not fail.
      workers: parts of the video that are decoded at a time, where its pictures are promised.
      on_progress: called with the number of frames decoded so far, which only grows.

    Returns:
      Kinds of the tracks that are not in it, where they may be missing.

    Raises:
      OutputError: it does not decode without an error, something is missing, or a picture is
        another than was promised.
      ToolMissingError: ffmpeg is not installed.
    """
    if isinstance(promise, int):
        promise = Promise(promise)
    packets = _Packets(path)
    tell = None if on_progress is None else _growing(on_progress)
    if decode and not _as_promised_in_parts(path, promise, packets, workers, tell):
        shown = decode_whole(path, tell)
        frames = len(shown.checksums)
        if frames != promise.frames:
            raise OutputError(f"the encoded video has {frames} frames instead of {promise.frames}")
        if promise.pictures is not None:
            _compare(shown, promise.pictures)
    return _check_packets(packets, promise)


def _growing(on_progress: Callable[[int], None]) -> Callable[[int], None]:
    """Tells nothing that it has told before: a decode in parts may end in one of the whole."""
    most = 0

    def tell(frames: int) -> None:
        nonlocal most
        if frames > most:
            most = frames
            on_progress(frames)

    return tell


def _as_promised_in_parts(
    path: Path,
    promise: Promise,
    packets: _Packets,
    workers: int,
    on_progress: Callable[[int], None] | None,
) -> bool:
    """Whether a decode in parts proves the pictures; False where there is none, too."""
    pictures = promise.pictures
    if pictures is None or not packets.video_frames == promise.frames == len(pictures):
        return False
    parts = parts_at_keys(packets.keys, promise.frames, workers)
    return len(parts) > 1 and shows_in_parts(path, parts, pictures, on_progress)


def _compare(shown: Shown, pictures: Sequence[int]) -> None:
    pairs = enumerate(zip(shown.checksums, pictures, strict=True))
    wrong = [number for number, (seen, made) in pairs if seen != made]
    if wrong:
        first = wrong[0]
        raise OutputError(
            f"picture {first} ({shown.clock(first)}) of the finished file is not what the encoder "
            f"made: decoded {shown.checksums[first]:08x} instead of {pictures[first]:08x}; "
            f"{len(wrong)} of {len(pictures)} pictures differ"
        )


class _Packets:
    """What the packets of a file tell without decoding them.

    Attributes:
      error: why they could not be read, if they could not.
      numbers: of the streams but those of data.
      kinds: of these streams.
      counts: packets of each stream.
      sizes: of each stream, bytes.
      seconds: of each stream, without gaps.
      keys: number and time in seconds of each key frame of the first stream.
      hidden: packets of the first stream that are not played.
    """

    def __init__(self, path: Path) -> None:
        """Reads a file.

        Raises:
          ToolMissingError: ffprobe is not installed.
        """
        kinds: list[str] = []
        self.error: InputError | None = None
        self.counts: dict[int, int] = collections.defaultdict(int)
        self.sizes: dict[int, int] = collections.defaultdict(int)
        self.seconds: dict[int, float] = collections.defaultdict(float)
        self.keys: list[tuple[int, float]] = []
        self.hidden = 0
        try:
            each_packet(path, _PACKET, on_packet=self._note, on_stream=kinds.append)
        except InputError as error:
            self.error = error
        # Titles of chapters are a stream of an MP4 file, before its covers.
        self.numbers = [number for number, kind in enumerate(kinds) if kind != "data"]
        self.kinds = [kinds[number] for number in self.numbers]

    def _note(self, fields: list[str]) -> None:
        index, (time, duration, size, flags) = int(fields[0]), fields[1:5]
        if index == 0:
            if "K" in flags and time != "N/A":
                self.keys.append((self.counts[0], float(time)))
            self.hidden += "D" in flags
        self.counts[index] += 1
        self.sizes[index] += int(size)
        self.seconds[index] += float(duration) if duration != "N/A" else 0.0

    @property
    def video_frames(self) -> int | None:
        """Packets of the video, if it is the first stream and all of it is played."""
        plain = self.error is None and self.kinds[:1] == ["video"] and not self.hidden
        return self.counts[0] if plain else None


def _check_packets(packets: _Packets, promise: Promise) -> Sequence[str]:
    if packets.error is not None:
        raise OutputError(f"the encoded file cannot be read: {packets.error}")
    kinds, counts = packets.kinds, packets.counts
    sizes, seconds = packets.sizes, packets.seconds
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
    for number, (kind, least) in zip(packets.numbers[1:], tracks, strict=True):
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
