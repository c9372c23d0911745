"""Putting encoded frames, the source's audio and its other data into a WebM file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ffmpeg

from muzero_rc.errors import InputError, OutputError
from muzero_rc.video.probe import VideoInfo
from muzero_rc.video.tools import PROTOCOLS, Child, check_written, ffmpeg_command, file_url

__all__ = ["check_audio", "mux", "verify", "wrap"]

# Opus at these rates is close to transparent (Xiph's recommendations for music), kbit/s.
_OPUS_KBPS = {1: 64, 2: 96, 3: 160, 4: 192, 5: 224, 6: 256, 7: 320, 8: 320}
_OPUS_LAYOUTS = "mono|stereo|3.0|quad|5.0|5.1|6.1|7.1"
_AUDIO_CHECK_S = 2
# Facts of the source's container and video stream that are wrong in the new file.
_STALE_TAGS = ("major_brand", "minor_version", "compatible_brands")


def check_audio(info: VideoInfo) -> None:
    """Decodes the first seconds of audio: a long encode must not end in "unknown codec".

    Raises:
      InputError: an audio stream cannot be decoded.
      ToolMissingError: ffmpeg is not installed.
    """
    for stream in info.audio:
        source = ffmpeg.input(file_url(info.path), t=_AUDIO_CHECK_S, protocol_whitelist=PROTOCOLS)
        output = ffmpeg.output(source[str(stream.index)], "-", format="null")
        with Child(ffmpeg.compile(output, cmd=ffmpeg_command())) as child:
            if child.run() != 0:
                raise InputError(
                    f"audio stream {stream.index} ({stream.codec}) of {info.path} cannot be "
                    f"decoded: {child.error_line()}; remove it first: ffmpeg -i IN -c copy -an OUT"
                )


def mux(
    ivf: Path,
    source: VideoInfo,
    out: Path,
    *,
    duration_s: float | None = None,
) -> None:
    """Writes a WebM file: the video stream as it is, audio as Opus, tags and chapters.

    Audio that is Opus already is copied. Text subtitles become WebVTT; others cannot be in
    a WebM file. Rotation is in the pixels by now and not written; a pixel aspect
    other than 1 is.

    Args:
      ivf: the encoded frames, with their constant frame rate.
      source: the file that the frames came from.
      out: file to write, replaced if it is there.
      duration_s: cut everything that goes on for longer, if only part was encoded.

    Raises:
      OutputError: no space, or no permission.
      InputError: the source's audio is damaged.
      ToolMissingError: ffmpeg is not installed.
    """
    _run(_mux_command(ivf, source, out, duration_s), source, out)


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
    options = {"c:v": "copy", "f": "webm", "cues_to_front": 1, "fflags": "+bitexact"}
    options |= _colour_options(source)
    if source.pixel_aspect != 1:
        options["aspect"] = str(source.display_aspect).replace("/", ":")
    stream = ffmpeg.input(file_url(ivf))["0"]
    output = ffmpeg.output(stream, file_url(out), **options)
    _run(ffmpeg.compile(output, cmd=ffmpeg_command()), source, out)


def _run(command: list[str], source: VideoInfo, out: Path) -> None:
    with Child(command) as child:
        status = child.run()
        detail = child.error_line()
    check_written(child, status, out.parent)
    if status == 0:
        return
    raise InputError(
        f"muxing {source.path} failed: {detail or f'ffmpeg ended with status {status}'}; "
        "its audio or subtitles may be damaged"
    )


def _mux_command(ivf: Path, source: VideoInfo, out: Path, duration_s: float | None) -> list[str]:
    start = {"itsoffset": f"{source.start_s:.6f}"} if source.start_s else {}
    video = ffmpeg.input(file_url(ivf), **start)
    other = ffmpeg.input(file_url(source.path), protocol_whitelist=PROTOCOLS)
    streams = [video["0"]]
    options: dict[str, Any] = {"c:v": "copy", "f": "webm", "cues_to_front": 1}
    # The same input must give the same bytes: no random identifiers, no dates.
    options |= {"fflags": "+bitexact", "flags:a": "+bitexact"}
    options |= _colour_options(source)
    if source.pixel_aspect != 1:
        options["aspect"] = str(source.display_aspect).replace("/", ":")
    if source.language:
        options["metadata:s:v:0"] = f"language={source.language}"
    for number, audio in enumerate(source.audio):
        streams.append(other[str(audio.index)])
        options |= _audio_options(number, audio.codec, audio.channels)
    for index in source.text_subtitles:
        streams.append(other[str(index)])
        options["c:s"] = "webvtt"
    if duration_s is not None:
        options["t"] = f"{duration_s + (source.start_s or 0.0):.6f}"
    command = list(
        ffmpeg.compile(ffmpeg.output(*streams, file_url(out), **options), cmd=ffmpeg_command())
    )
    # Tags and chapters come from the source; its number among the inputs is ffmpeg-python's
    # choice, and a source without mapped streams is not an input yet.
    inputs = [command[i + 1] for i, word in enumerate(command) if word == "-i"]
    if file_url(source.path) not in inputs:
        at = command.index("-i") + 2
        command[at:at] = ["-protocol_whitelist", PROTOCOLS, "-i", file_url(source.path)]
        inputs.append(file_url(source.path))
    number_of_source = str(inputs.index(file_url(source.path)))
    tags = ["-map_metadata", number_of_source, "-map_chapters", number_of_source]
    for tag in _STALE_TAGS:
        tags += ["-metadata", f"{tag}="]
    command[-1:-1] = tags
    return command


def _colour_options(source: VideoInfo) -> dict[str, str]:
    """Colour as it is after decoding: always limited range; RGB became BT.709."""
    colour = {"color_range": "tv"}
    space = "bt709" if source.is_rgb else source.color_space
    if space is not None and space not in ("gbr", "rgb"):
        colour["colorspace"] = space
    if source.color_primaries is not None:
        colour["color_primaries"] = source.color_primaries
    if source.color_transfer is not None:
        colour["color_trc"] = source.color_transfer
    return {f"{name}:v": value for name, value in colour.items()}


def _audio_options(number: int, codec: str, channels: int) -> dict[str, Any]:
    if codec == "opus":
        return {f"c:a:{number}": "copy"}
    return {
        f"c:a:{number}": "libopus",
        f"b:a:{number}": f"{_OPUS_KBPS.get(channels, 320)}k",
        # libopus refuses layouts such as 5.1(side); gaps are filled so that sync holds.
        f"filter:a:{number}": f"aresample=48000:async=1:first_pts=0,"
        f"aformat=channel_layouts={_OPUS_LAYOUTS}",
    }


def verify(
    path: Path, expected_frames: int, *, on_progress: Callable[[int], None] | None = None
) -> None:
    """Decodes a whole video file and counts its frames.

    Args:
      path: the file to check.
      expected_frames: how many frames it must have.
      on_progress: called with the number of frames decoded so far.

    Raises:
      OutputError: it does not decode without an error, or the number is another.
      ToolMissingError: ffmpeg is not installed.
    """
    source = ffmpeg.input(file_url(path), err_detect="explode")
    output = ffmpeg.output(source["v:0"], "-", format="null", fps_mode="passthrough")
    command = ffmpeg.compile(output, cmd=ffmpeg_command("-xerror", "-progress", "pipe:1"))
    frames = 0

    def read(line: str) -> None:
        nonlocal frames
        key, _, value = line.partition("=")
        if key == "frame" and value.strip().isdigit():
            frames = int(value)
            if on_progress is not None:
                on_progress(frames)

    with Child(command) as child:
        status = child.run(read)
        detail = child.error_line()
    if status != 0:
        raise OutputError(f"the encoded video does not decode: {detail or f'status {status}'}")
    if frames != expected_frames:
        raise OutputError(f"the encoded video has {frames} frames instead of {expected_frames}")
