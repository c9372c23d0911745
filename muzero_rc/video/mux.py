"""Putting encoded frames and all else that a source holds into a file."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from muzero_rc.errors import InputError
from muzero_rc.video.containers import WEBM, AudioMode, Container
from muzero_rc.video.covers import Cover, file_type
from muzero_rc.video.ivf import refine_clock
from muzero_rc.video.matroska import write_matroska
from muzero_rc.video.mp4 import enable_subtitles
from muzero_rc.video.picture import Picture
from muzero_rc.video.probe import AudioStream, VideoInfo
from muzero_rc.video.subtitles import CleanText, null_output, shorter_cues
from muzero_rc.video.tools import (
    PROTOCOLS,
    Child,
    check_written,
    ffmpeg_command,
    file_url,
    last_error_line,
    literal,
)
from muzero_rc.video.tracks import Track, tags_in_utf8

__all__ = [
    "MOST_OPUS_CHANNELS",
    "MuxPlan",
    "audio_options",
    "labels",
    "mux",
    "mux_command",
    "opus_kbps",
    "wrap",
]

# Opus at these rates is close to transparent (Xiph's recommendations for music), kbit/s.
_OPUS_KBPS = {1: 64, 2: 96, 3: 160, 4: 192, 5: 224, 6: 256, 7: 320, 8: 320}
_LEAST_OPUS_KBPS, _MOST_OPUS_KBPS = 6, 510  # RFC 6716, 2.1.1
_MOST_OPUS_KBPS_A_CHANNEL = 256  # above it ffmpeg refuses a rate
_OPUS_LAYOUTS = {
    "mono": 1, "stereo": 2, "3.0": 3, "quad": 4, "5.0": 5, "5.1": 6, "6.1": 7, "7.1": 8,
}  # fmt: skip
MOST_OPUS_CHANNELS = 8
"""Channels of an Opus track that players know the places of."""

_LEAST_TICKS = 10_000  # a second; ffmpeg's own
# Facts of the source's container and video stream that are wrong in the new file.
_STALE_TAGS = ("major_brand", "minor_version", "compatible_brands")
# Numbers of ITU-T H.273: not every ffmpeg takes every name that another prints.
_PRIMARIES = {
    "bt709": 1, "bt470m": 4, "bt470bg": 5, "smpte170m": 6, "smpte240m": 7, "film": 8,
    "bt2020": 9, "smpte428": 10, "smpte431": 11, "smpte432": 12, "ebu3213": 22, "jedec-p22": 22,
}  # fmt: skip
_TRANSFERS = {
    "bt709": 1, "bt470m": 4, "gamma22": 4, "bt470bg": 5, "gamma28": 5, "smpte170m": 6,
    "smpte240m": 7, "linear": 8, "log100": 9, "log": 9, "log316": 10, "log_sqrt": 10,
    "iec61966-2-4": 11, "iec61966_2_4": 11, "bt1361e": 12, "bt1361": 12, "iec61966-2-1": 13,
    "iec61966_2_1": 13, "bt2020-10": 14, "bt2020_10bit": 14, "bt2020-12": 15,
    "bt2020_12bit": 15, "smpte2084": 16, "smpte428": 17, "arib-std-b67": 18,
}  # fmt: skip
_MATRICES = {
    "bt709": 1, "fcc": 4, "bt470bg": 5, "smpte170m": 6, "smpte240m": 7, "ycgco": 8, "ycocg": 8,
    "bt2020nc": 9, "bt2020_ncl": 9, "bt2020c": 10, "bt2020_cl": 10, "smpte2085": 11,
    "chroma-derived-nc": 12, "chroma-derived-c": 13, "ictcp": 14,
}  # fmt: skip
_CHROMA_LOCATIONS = {
    "left": 1, "center": 2, "topleft": 3, "top": 4, "bottomleft": 5, "bottom": 6,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class MuxPlan:
    """What goes into a file beside the video.

    Attributes:
      container: the file's format.
      audio: what becomes of audio.
      texts: text subtitles that are not copied, cleaned.
      covers: cover pictures, in files of their own; others do not go in.
      start_s: of the stretch that is encoded, seconds after the file's start.
      end_s: its end; None is the file's.
      picture: how the source became frames; in 8 bits at a constant rate if not given.
      audio_kbps: bitrate of each track that becomes Opus; by its channels if not given.

    Raises:
      InputError: no Opus has that bitrate, or no track becomes Opus.
    """

    container: Container = WEBM
    audio: AudioMode = "auto"
    texts: Sequence[CleanText] = field(default_factory=tuple)
    start_s: float = 0.0
    end_s: float | None = None
    picture: Picture | None = None
    audio_kbps: int | None = None
    covers: Sequence[Cover] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        if self.audio_kbps is None:
            return
        if self.audio in ("copy", "none"):
            raise InputError(
                f"a bitrate of audio is for what becomes Opus, --audio {self.audio} makes none; "
                "leave one of them out"
            )
        if not _LEAST_OPUS_KBPS <= self.audio_kbps <= _MOST_OPUS_KBPS:
            raise InputError(
                f"a bitrate of audio must be {_LEAST_OPUS_KBPS}k to {_MOST_OPUS_KBPS}k, "
                f"not {self.audio_kbps}k: Opus has no other"
            )

    def kept(self, info: VideoInfo) -> list[Track]:
        """The tracks beside the video that go in, in the order that they have there."""
        order = {"audio": 0, "subtitle": 1, "attachment": 2, "video": 3}
        covers = {cover.track.index for cover in self.covers}
        kept = [
            track
            for track in info.tracks
            if track.index != info.stream_index
            and self.container.keeps(track)
            and not (track.kind == "audio" and self.audio == "none")
            and not (track.cover and track.index not in covers)
        ]
        return sorted(kept, key=lambda track: order[track.kind])

    def takes_covers(self, info: VideoInfo) -> list[Track]:
        """The cover pictures that the format has a place for."""
        return [track for track in info.tracks if track.cover and self.container.keeps(track)]

    def cleaned(self, info: VideoInfo) -> list[Track]:
        """Those of them whose text is made another codec."""
        return [
            track
            for track in self.kept(info)
            if track.is_text and track.codec not in self.container.text
        ]


def mux(
    ivf: Path,
    source: VideoInfo,
    out: Path,
    plan: MuxPlan | None = None,
    *,
    duration_s: float | None = None,
) -> list[str]:
    """Writes a file: the video stream as it is, and all that the plan keeps of the source.

    Rotation is in the pixels by now and not written; a pixel aspect other than 1 is.

    Args:
      ivf: the encoded frames, with their constant frame rate; its clock may be made finer.
      source: the file that the frames came from.
      out: file to write, replaced if it is there.
      plan: what goes in; None is WebM with all audio and no subtitles.
      duration_s: cut everything that goes on for longer.

    Returns:
      What ffmpeg complained of, and went on.

    Raises:
      OutputError: no space, or no permission.
      InputError: something of the source cannot be put into the file.
      ToolMissingError: ffmpeg is not installed.
    """
    plan = plan or MuxPlan()
    shift = max(0.0, (source.start_s or 0.0) - plan.start_s)
    picture = plan.picture
    if picture is not None:
        shift = picture.first_s
    if duration_s is not None:
        plan = _with_shorter_cues(plan, duration_s + shift)
    if picture is not None and (picture.times_ms is not None or picture.info.hdr is not None):
        timed = out.with_name(f"{out.stem}.video.mkv")
        try:
            write_matroska(ivf, timed, times_ms=picture.times_from_zero, hdr=picture.info.hdr)
            command = mux_command(timed, source, out, plan, shift=shift, duration_s=duration_s)
            return _make(command, source, out, plan)
        finally:
            timed.unlink(missing_ok=True)
    if shift and Fraction(shift).limit_denominator(1000) % (1 / source.fps):
        refine_clock(ivf)
    command = mux_command(ivf, source, out, plan, shift=shift, duration_s=duration_s)
    return _make(command, source, out, plan)


def _make(command: list[str], source: VideoInfo, out: Path, plan: MuxPlan) -> list[str]:
    """Runs the command, and mends what no option of ffmpeg does."""
    complaints = _run(command, source, out)
    empty = {text.track.index for text in plan.texts if not text.cues}
    shown = [
        "default" in track.dispositions
        for track in plan.kept(source)
        if track.kind == "subtitle" and track.index not in empty
    ]
    off = plan.container.muxer == "mp4" and bool(shown) and not any(shown)
    if off and not enable_subtitles(out, shown):
        complaints.append("the first subtitle track is shown unasked")
    return complaints


def _with_shorter_cues(plan: MuxPlan, end_s: float) -> MuxPlan:
    """The plan with text subtitles, in files of their own, none of which goes on after the end."""
    texts = []
    for text in plan.texts:
        path = text.path.with_stem(f"{text.path.stem}.until")
        path.write_text(shorter_cues(text.path.read_text("utf-8"), end_s), "utf-8")
        texts.append(dataclasses.replace(text, path=path))
    return dataclasses.replace(plan, texts=tuple(texts))


def wrap(ivf: Path, source: VideoInfo, out: Path) -> None:
    """Writes a WebM file of the video stream alone: to be looked at, not to replace the source.

    Colours and pixel aspect are the source's; its audio, tags and chapters stay behind.

    Args:
      ivf: the encoded frames, with their constant frame rate.
      source: the file that the frames came from.
      out: file to write, replaced if it is there.

    Raises:
      OutputError: no space, or no permission.
      InputError: `ivf` is damaged.
      ToolMissingError: ffmpeg is not installed.
    """
    command = [*ffmpeg_command(), "-i", file_url(ivf)]
    command += [*_video_options(source, None), "-f", "webm"]
    command += ["-cues_to_front", "1", "-fflags", "+bitexact", file_url(out)]
    _run([literal(word) for word in command], source, out)


def _run(command: list[str], source: VideoInfo, out: Path) -> list[str]:
    with Child(command) as child:
        status = child.run()
        detail = child.error_line()
        complaints = [last_error_line([line]) or line for line in child.errors()]
    check_written(child, status, out.parent)
    if status:
        raise InputError(
            f"muxing {source.path} failed: {detail or f'ffmpeg ended with status {status}'}"
        )
    return complaints


def mux_command(
    ivf: Path,
    source: VideoInfo,
    out: Path,
    plan: MuxPlan,
    *,
    shift: float = 0.0,
    duration_s: float | None = None,
) -> list[str]:
    """The words of the command that `mux` runs; people can run it, too."""
    container = plan.container
    command = ffmpeg_command()
    if shift:
        command += ["-itsoffset", f"{shift:.6f}"]
    command += ["-i", file_url(ivf)]
    if plan.start_s:
        command += ["-ss", f"{plan.start_s:.6f}"]
    command += ["-protocol_whitelist", PROTOCOLS, "-i", file_url(source.path)]
    # ffmpeg takes a file without cues for a damaged one.
    some = [text for text in plan.texts if text.cues]
    texts = {text.track.index: number for number, text in enumerate(some, 2)}
    for text in some:
        command += ["-i", file_url(text.path)]
    kept = plan.kept(source)
    # A track that had nothing but empty cues has nothing to show.
    empty = {text.track.index for text in plan.texts if not text.cues}
    kept = [track for track in kept if track.index not in empty]
    command += ["-map", "0:v:0"]
    for track in kept:
        if track.cover and container.attachments:
            continue
        number = texts.get(track.index)
        command += ["-map", f"1:{track.index}" if number is None else f"{number}:0"]
    command += _video_options(source, plan.picture)
    if container.tracks:
        command += _track_options(source, kept, plan)
        command += ["-map_metadata", "1", "-map_chapters", "1", *tags_in_utf8(source.path)]
        for tag in (*_STALE_TAGS, *(("timecode",) if plan.start_s else ())):
            command += ["-metadata", f"{tag}="]
    if plan.start_s:
        # Seeking ends at a key frame before; else all would be moved by what comes from there.
        command += ["-copypriorss:a", "0", "-copypriorss:s", "0"]
    if duration_s is not None:
        end = f"{duration_s + shift:.6f}"
        command += ["-t", end]
        # A subtitle that begins before the end is not shown after it; cleaned text ends there.
        for number, track in enumerate(track for track in kept if track.kind == "subtitle"):
            if track.index not in texts:
                shorter = f"setts=duration='min(DURATION,{end}/TB-PTS)'"
                command += [f"-bsf:s:{number}", shorter]
    command += ["-f", container.muxer]
    if container.muxer in ("webm", "matroska"):
        command += ["-cues_to_front", "1"]
    if container.muxer == "mp4":
        # To this muxer FLAC is experimental, and a timecode that it cannot keep is an error.
        command += ["-movflags", "+faststart", "-strict", "experimental", "-write_tmcd", "0"]
        if plan.picture is not None and plan.picture.info.hdr is not None:
            command += _exact_clock(plan.picture)
    # The same input must give the same bytes: no random identifiers, no dates.
    command += ["-fflags", "+bitexact", "-flags:a", "+bitexact", file_url(out)]
    mapped = {track.index for track in kept if track.index not in texts}
    command += null_output(source, number=1, without=mapped) if container.tracks else []
    return [literal(word) for word in command]


def _video_options(source: VideoInfo, picture: Picture | None) -> list[str]:
    """Colour as it is after decoding: RGB became BT.709, and 8 bits limited range."""
    colours = {"color_range": 1}
    if picture is not None:
        source = picture.info
        colours["color_range"] = 2 if picture.out_range == "pc" else 1
        if source.chroma_location in _CHROMA_LOCATIONS and "420" in source.pix_fmt:
            colours["chroma_sample_location"] = _CHROMA_LOCATIONS[source.chroma_location]
    matrix = "bt709" if source.is_rgb else source.color_space
    tables = {
        "colorspace": (_MATRICES, matrix),
        "color_primaries": (_PRIMARIES, source.color_primaries),
        "color_trc": (_TRANSFERS, source.color_transfer),
    }
    for name, (table, value) in tables.items():
        if value in table:
            colours[name] = table[value]
    words = ["-c:v", "copy"]
    for name, number in colours.items():
        words += [f"-{name}:v", str(number)]
    if source.pixel_aspect != 1:
        words += ["-aspect", str(source.display_aspect).replace("/", ":")]
    return words


def _exact_clock(picture: Picture) -> list[str]:
    """Of an MP4 file whose frames come with times in microseconds: ticks that hit them all."""
    if picture.times_ms is not None:
        return []
    ticks = picture.info.fps.numerator
    while ticks < _LEAST_TICKS:
        ticks *= 2
    return ["-video_track_timescale", str(ticks)]


def _track_options(source: VideoInfo, kept: Sequence[Track], plan: MuxPlan) -> list[str]:
    words = labels("v:0", source.video_track, plan.container)
    words += _own_tags("v:0", source.video_track, plan)
    sounds = {stream.index: stream for stream in source.audio}
    covers = {cover.track.index: cover for cover in plan.covers}
    attached = plan.container.attachments
    numbers = {"audio": 0, "subtitle": 0, "attachment": 0, "video": 1}
    for track in kept:
        kind = "attachment" if track.cover and attached else track.kind
        number = numbers[kind]
        numbers[kind] += 1
        if track.cover:
            words += (
                _attachment(number, covers[track.index])
                if attached
                else [f"-disposition:v:{number}", "attached_pic"]
            )
            continue
        for tag in track.statistics:  # of the track as it was in the source
            words += [f"-metadata:s:{track.kind[0]}:{number}", f"{tag}="]
        match track.kind:
            case "audio":
                copied = plan.container.copies_audio(track, plan.audio)
                words += audio_options(
                    number, sounds.get(track.index), copied=copied, asked=plan.audio_kbps
                )
                words += labels(f"a:{number}", track, plan.container)
            case "subtitle":
                words += [f"-c:s:{number}", _subtitle_codec(track, plan)]
                words += labels(f"s:{number}", track, plan.container)
                if any(text.track.index == track.index for text in plan.texts):
                    words += _own_tags(f"s:{number}", track, plan)
            case _:
                words += [f"-c:t:{number}", "copy"]
    return words


def _own_tags(stream: str, track: Track, plan: MuxPlan) -> list[str]:
    """Tags of a stream that does not come out of the source's file itself."""
    # The timecode is that of the file's first frame.
    left = {"timecode"} if plan.start_s else set()
    return [
        word
        for name, value in track.tags
        if name.lower() not in left
        for word in (f"-metadata:s:{stream}", f"{name}={value}")
    ]


def _attachment(number: int, cover: Cover) -> list[str]:
    stream = f"-metadata:s:t:{number}"
    words = ["-attach", file_url(cover.path), stream, f"filename={cover.filename}"]
    words += [stream, f"mimetype={file_type(cover.track)}"]
    if cover.track.title:
        words += [stream, f"title={cover.track.title}"]
    return words


def _subtitle_codec(track: Track, plan: MuxPlan) -> str:
    cleaned = any(text.track.index == track.index for text in plan.texts)
    if not cleaned or (track.codec == plan.container.text_codec == "webvtt"):
        return "copy"
    return plan.container.text_codec or "copy"


def opus_kbps(channels: int, asked: int | None) -> int:
    """Bitrate of a track of so many channels that becomes Opus, kbit/s."""
    if asked is None:
        return _OPUS_KBPS.get(channels, 320)
    return min(asked, _MOST_OPUS_KBPS_A_CHANNEL * max(1, channels))


def audio_options(
    number: int, sound: AudioStream | None, *, copied: bool, asked: int | None
) -> list[str]:
    """Codec of an audio track of the output, and bitrate and layout where it becomes Opus.

    Args:
      number: of the track among those of audio.
      sound: what it has.
      copied: it goes in as it is.
      asked: bitrate, kbit/s; None is by its channels.
    """
    if copied:
        return [f"-c:a:{number}", "copy"]
    kbps = opus_kbps(2 if sound is None else sound.channels, asked)
    return [
        f"-c:a:{number}", "libopus",
        f"-b:a:{number}", f"{kbps}k",
        # libopus refuses layouts such as 5.1(side); gaps are filled so that sync holds.
        f"-filter:a:{number}", f"aresample=48000:async=1:first_pts=0,{_opus_layout(sound)}",
    ]  # fmt: skip


def _opus_layout(sound: AudioStream | None) -> str:
    """A filter to a layout of Opus that has a place for every channel, or for eight of more.

    Of all layouts ffmpeg would take the one nearest by name, and leave channels out.
    """
    channels, layout = (2, None) if sound is None else (sound.channels, sound.layout)
    if layout is None and channels > MOST_OPUS_CHANNELS:  # nobody knows how to mix them
        return "pan=7.1|" + "|".join(f"c{n}=c{n}" for n in range(MOST_OPUS_CHANNELS))
    lowest = ".1" in (layout or "")  # a channel of low frequencies
    least = 1 if sound is None else min(channels, MOST_OPUS_CHANNELS)
    names = [
        name
        for name, places in _OPUS_LAYOUTS.items()
        if places >= least and (not lowest or name.endswith(".1"))
    ]
    return f"aformat=channel_layouts={'|'.join(names)}"


def labels(stream: str, track: Track, container: Container) -> list[str]:
    """Language, title and dispositions of a stream of the output."""
    words = [f"-disposition:{stream}", "+".join(track.dispositions) or "0"]
    if track.language:
        words += [f"-metadata:s:{stream}", f"language={track.language}"]
    if track.title:
        # An MP4 file has no other place for it that players read.
        tag = "handler_name" if container.muxer == "mp4" else "title"
        words += [f"-metadata:s:{stream}", f"{tag}={track.title}"]
    return words
