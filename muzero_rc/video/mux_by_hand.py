"""The command by which people make the file themselves, after one could not be made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from muzero_rc.output_files import as_word
from muzero_rc.video.mux import MuxPlan, audio_options, labels
from muzero_rc.video.probe import VideoInfo
from muzero_rc.video.tracks import tags_in_utf8

__all__ = ["mux_by_hand"]


def mux_by_hand(
    ivf: Path,
    texts: Mapping[int, Path],
    source: VideoInfo,
    plan: MuxPlan,
    out: Path,
    *,
    duration_s: float | None = None,
) -> list[str]:
    """The words of a command of ffmpeg; shorter than that of `mux`, to be read and changed.

    ffmpeg takes cover pictures of Matroska and the mastering display of HDR10 from elsewhere than
    a command, so they stay behind. Of an MP4 file it enables the first subtitle track, always.

    Args:
      ivf: the encoded frames, with their times.
      texts: files of subtitle tracks whose text was made another codec, by index in the source.
      source: the file that the frames came from.
      plan: what goes in.
      out: file to write.
      duration_s: of what was encoded, if it is not all.
    """
    container, picture = plan.container, plan.picture
    end = [] if duration_s is None else ["-t", f"{duration_s:g}"]
    words = ["ffmpeg"]
    if picture is not None and picture.first_s:
        words += ["-itsoffset", f"{picture.first_s:g}"]
    words += ["-i", as_word(ivf)]
    # What came through a pipe is gone, and had no other tracks.
    more = len(source.tracks) > 1 or source.chapters
    if more:
        if plan.start_s:
            words += ["-ss", f"{plan.start_s:g}"]
        words += [*end, "-i", as_word(source.path)]
        for path in texts.values():
            words += [*end, "-i", as_word(path)]
    words += ["-map", "0:v"]
    inputs = {index: number for number, index in enumerate(texts, 2)}
    empty = {text.track.index for text in plan.texts if not text.cues}
    kept = [
        track
        for track in plan.kept(source)
        if track.index not in empty and not (track.cover and container.attachments)
    ]
    for track in kept:  # what a damaged source has no more is no reason to stop
        number = inputs.get(track.index)
        words += ["-map", f"1:{track.index}?" if number is None else f"{number}:0"]
    words += ["-c", "copy"]
    if more:
        words += ["-map_metadata", "1", "-map_chapters", "1", *tags_in_utf8(source.path)]
        words += labels("v:0", source.video_track, container)
    sounds = {stream.index: stream for stream in source.audio}
    audio = [track for track in kept if track.kind == "audio"]
    for number, track in enumerate(audio):
        if not container.copies_audio(track, plan.audio):
            sound = sounds.get(track.index)
            words += audio_options(number, sound, copied=False, asked=plan.audio_kbps)
    subtitles = [track for track in kept if track.kind == "subtitle"]
    for number, track in enumerate(subtitles):
        if track.index in inputs:
            words += [f"-c:s:{number}", str(container.text_codec)]
            words += labels(f"s:{number}", track, container)
    if picture is not None and picture.info.pixel_aspect != 1:
        words += ["-aspect", str(picture.info.display_aspect).replace("/", ":")]
    return [*words, as_word(out)]
