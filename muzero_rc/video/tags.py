"""Which tags of a source a file has no more, by what ffprobe tells of both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from muzero_rc.video.mux import MuxPlan
from muzero_rc.video.probe import VideoInfo
from muzero_rc.video.tools import ffprobe

__all__ = ["lost_tags", "written_tags"]

# A file has them that nobody gave any.
_OF_MUXERS = frozenset({
    "compatible_brands", "creation_time", "duration", "encoder", "major_brand", "minor_version",
    "software",
})  # fmt: skip

# What ffmpeg calls a program that nobody gave a name.
_UNNAMED = frozenset({("service_name", "Service01"), ("service_provider", "FFmpeg")})


def written_tags(path: Path) -> set[str]:
    """Names of a file's own tags that somebody wrote, in small letters."""
    told = ffprobe(path, "-show_format", "-show_programs")
    return (_names([told.get("format", {})]) - _OF_MUXERS) | _of_programs(told)


def lost_tags(info: VideoInfo, plan: MuxPlan, made: Path) -> list[str]:
    """Sentences without a full stop on tags of the source that a file made of it lacks.

    Formats have tags of their own, and pass over others without a word.

    Args:
      info: the source.
      plan: what went into the file.
      made: the file, of one frame at the least.

    Raises:
      InputError: one of the two cannot be read.
    """
    if not plan.container.tracks:
        return []  # it has no tags at all, which is told apart
    source = ffprobe(info.path, "-show_format", "-show_chapters", "-show_programs")
    told = ffprobe(made, "-show_format", "-show_streams")
    lost = _names([source.get("format", {})]) - _OF_MUXERS - _names([told.get("format", {})])
    lost -= {"timecode"}  # told apart
    streams = told.get("streams", [])
    kept = [info.video_track, *(t for t in plan.kept(info) if t.kind in ("audio", "subtitle"))]
    for track in kept:
        has = _names(s for s in streams if s.get("codec_type") == track.kind)
        lost |= {name.lower() for name, _ in track.tags} - has - {"timecode"}
    lines = []
    if lost:
        one = len(lost) == 1
        lines.append(
            f"{'the tag' if one else 'the tags'} {', '.join(sorted(lost))} "
            f"{'is' if one else 'are'} left out: {plan.container.name} has no place for "
            f"{'it' if one else 'them'}{_elsewhere(plan)}"
        )
    # Only a file of full length has all chapters; what these formats keep of each is known.
    of_chapters = _names(source.get("chapters", [])) - {"title"}
    if of_chapters and plan.container.muxer != "matroska":
        lines.append(
            f"of chapters the tags {', '.join(sorted(of_chapters))} are left out: "
            f"{plan.container.name} keeps their titles alone{_elsewhere(plan)}"
        )
    if of_programs := _of_programs(source):
        lines.append(
            f"of programs the tags {', '.join(sorted(of_programs))} are left out: no output has a "
            "place for them"
        )
    lines += _of_timecode(info, source, [told.get("format", {}), *streams], plan)
    return lines


def _of_programs(told: Mapping[str, Any]) -> set[str]:
    """Names of the tags of programs in a transport stream, but for those that ffmpeg writes."""
    tags = [program.get("tags", {}).items() for program in told.get("programs", [])]
    return {name.lower() for each in tags for name, value in each if (name, value) not in _UNNAMED}


def _of_timecode(
    info: VideoInfo, source: Mapping[str, Any], made: Iterable[Mapping[str, Any]], plan: MuxPlan
) -> list[str]:
    of_video = {name.lower() for name, _ in info.video_track.tags}
    had = "timecode" in of_video | _names([source.get("format", {})])
    if not had or "timecode" in _names(made):
        return []
    if plan.start_s:
        return ["the timecode is left out: it is that of the file's first frame"]
    return [f"the timecode is left out: {plan.container.name} keeps none beside VP9"]


def _elsewhere(plan: MuxPlan) -> str:
    if plan.container.muxer == "matroska":
        return ""
    return "; an output that ends in .mkv keeps them"


def _names(things: Iterable[Mapping[str, Any]]) -> set[str]:
    return {name.lower() for thing in things for name in thing.get("tags", {})}
