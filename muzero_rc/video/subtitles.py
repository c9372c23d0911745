"""Text subtitles without cues that a player cannot show: empty ones, and drawings.

A WebVTT cue without text ends the file for everything that is built on libavformat, and a
drawing of ASS becomes a line of coordinates in a format that has no drawings. So the text is
taken out of the source, cleaned, and put into the output from a file of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from muzero_rc.errors import InputError
from muzero_rc.video.probe import VideoInfo, time_streams
from muzero_rc.video.tools import (
    PROTOCOLS,
    Child,
    check_written,
    ffmpeg_command,
    file_url,
    literal,
)
from muzero_rc.video.tracks import Track

__all__ = ["CleanText", "clean_ass", "clean_cues", "earlier_cues", "extract_text", "shorter_cues"]

_BLOCK = re.compile(r"\{[^}]*\}")
_DRAWING = re.compile(r"\\p(\d+)")
_MARKUP = re.compile(r"<[^>]*>")
_SPACE = re.compile(r"\\[Nnh]|&nbsp;")
# How a cue of SubRip or WebVTT begins: its number or name, then its times.
_CUE = re.compile(r"^(?:[^\n]*\n)?(?:\d+:)?\d\d:\d\d[.,]\d{3} --> [^\n]*(?:\n|\Z)", re.MULTILINE)
# The two times of a cue: of SubRip and WebVTT on a line of their own, of ASS in an event.
_TIMES = re.compile(
    r"^(?:(?:\d+:)?\d\d:\d\d[.,]\d{3} --> (?:\d+:)?\d\d:\d\d[.,]\d{3}"
    r"|Dialogue:[^,]*,\d+:\d\d:\d\d\.\d\d,\d+:\d\d:\d\d\.\d\d)",
    re.MULTILINE,
)
_TIME = re.compile(r"(?:(\d+):)?(\d\d):(\d\d[.,]\d+)")
_SUBRIP_TIME = re.compile(r"(\d+):(\d\d):(\d\d),(\d{3})")


@dataclass(frozen=True, slots=True)
class CleanText:
    """A subtitle track, in a file of its own.

    Attributes:
      track: of the source.
      path: the file.
      cues: that are left.
      empty: that had no text.
      drawings: that were drawings.
    """

    track: Track
    path: Path
    cues: int
    empty: int
    drawings: int


def extract_text(
    info: VideoInfo, tracks: Sequence[Track], folder: Path, *, start_s: float, end_s: float | None
) -> list[CleanText]:
    """Takes text subtitles out of a file, and cleans them.

    Args:
      info: the file.
      tracks: those that are wanted.
      folder: for the files.
      start_s: what is before is left out, and is time zero; seconds.
      end_s: what is after is left out.

    Raises:
      InputError: one cannot be read.
      OutputError: the folder takes no more.
    """
    if not tracks:
        return []
    command = ffmpeg_command()
    if start_s:
        command += ["-ss", f"{start_s:.6f}"]
    source = ["-protocol_whitelist", PROTOCOLS, "-i", file_url(info.path)]
    # Once more, not sought in: cues from before the start would move all that ffmpeg converts.
    command += [*source, *source] if start_s else source
    paths = []
    for track in tracks:
        form, codec = _form(track)
        whole = start_s > 0 and codec != "copy"
        paths.append(folder / f"{track.index}.{form}")
        command += ["-map", f"{int(whole)}:{track.index}", "-c:s", codec, "-copypriorss:s", "0"]
        if end_s is not None:
            command += ["-t", f"{end_s if whole else end_s - start_s:.6f}"]
        command += ["-f", {"vtt": "webvtt"}.get(form, form), file_url(paths[-1])]
    wanted = {track.index for track in tracks}
    command += null_output(info, number=0, without=wanted)
    with Child([literal(word) for word in command]) as child:
        status = child.run()
        detail = child.error_line()
    check_written(child, status, folder)
    if status:
        raise InputError(f"the subtitles of {info.path} cannot be read: {detail}")
    for track, path in zip(tracks, paths, strict=True):
        if start_s and _form(track)[1] != "copy":
            path.write_text(earlier_cues(path.read_text("utf-8", "replace"), start_s), "utf-8")
    return [_cleaned(track, path) for track, path in zip(tracks, paths, strict=True)]


def null_output(info: VideoInfo, *, number: int, without: set[int]) -> list[str]:
    """Words that map, to nowhere, the streams that a command does not map otherwise.

    Where ffmpeg counts time from the first stream that is mapped, all commands must map the
    same ones.
    """
    if not info.rebased:
        return []
    rest = [i for i in time_streams(info.tracks, info.stream_index) if i not in without]
    maps = [word for index in rest for word in ("-map", f"{number}:{index}")]
    return [*maps, "-c", "copy", "-f", "null", "-"] if maps else []


def _form(track: Track) -> tuple[str, str]:
    """Suffix of the file that holds a track without loss, and the codec of its making."""
    match track.codec:
        case "ass" | "ssa":
            return "ass", "copy"
        case "webvtt":
            return "vtt", "copy"
        case "subrip":  # ffmpeg's decoder would take the marks of drawings out, and leave them
            return "srt", "copy"
        case _:
            return "srt", "srt"


def _cleaned(track: Track, path: Path) -> CleanText:
    clean: Callable[[str], tuple[str, int, int, int]]
    clean = clean_ass if path.suffix == ".ass" else clean_cues
    text, cues, empty, drawings = clean(path.read_text("utf-8", "replace"))
    path.write_text(text, "utf-8")
    return CleanText(track, path, cues, empty, drawings)


def clean_ass(text: str) -> tuple[str, int, int, int]:
    """Text of an ASS file without drawings; (text, events left, empty ones, drawings)."""
    kept, counts, column = [], [0, 0, 0], 9
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip().lower() == "format" and "Text" in value:
            column = [field.strip() for field in value.split(",")].index("Text")
        if name.strip().lower() == "dialogue":
            fields = value.split(",", column)
            words, drawing = _without_drawings(fields[-1]) if len(fields) > column else ("", False)
            if not _visible(words):
                counts[2 if drawing else 1] += 1
                continue
            counts[0] += 1
            line = f"{name}:{','.join([*fields[:-1], words])}"
        kept.append(line)
    return "\n".join(kept) + "\n", *counts  # type: ignore[return-value]  # of three


def clean_cues(text: str) -> tuple[str, int, int, int]:
    """Text of a SubRip or WebVTT file without empty cues; as `clean_ass`."""
    found = list(_CUE.finditer(text))
    ends = [*(match.start() for match in found[1:]), len(text)]
    header = text[: found[0].start()].strip() if found else text.strip()
    kept, counts = [f"{header}\n\n" if header else ""], [0, 0, 0]
    for match, end in zip(found, ends, strict=False):
        words, drawing = _without_drawings(text[match.end() : end])
        if not _visible(words):
            counts[2 if drawing else 1] += 1
            continue
        counts[0] += 1
        kept.append(f"{match[0].lstrip()}{words.strip()}\n\n")
    return "".join(kept), *counts  # type: ignore[return-value]  # of three


def earlier_cues(text: str, by_s: float) -> str:
    """Text of a SubRip file with its cues moved so many seconds; without those before zero."""
    found = list(_CUE.finditer(text))
    ends = [*(match.start() for match in found[1:]), len(text)]
    kept: list[str] = []
    by_ms = round(by_s * 1000)
    for match, end in zip(found, ends, strict=False):
        times = [_milliseconds(*parts) - by_ms for parts in _SUBRIP_TIME.findall(match[0])]
        if len(times) == 2 and times[0] >= 0:
            head = f"{len(kept) + 1}\n{_subrip_time(times[0])} --> {_subrip_time(times[1])}\n"
            kept.append(f"{head}{text[match.end() : end].strip()}\n\n")
    return "".join(kept)


def shorter_cues(text: str, end_s: float) -> str:
    """Text of a SubRip, WebVTT or ASS file none of whose cues is shown after so many seconds."""

    def until(match: re.Match[str]) -> str:
        last = list(_TIME.finditer(match[0]))[-1]
        hours, minutes, seconds = (float((part or "0").replace(",", ".")) for part in last.groups())
        if 3600.0 * hours + 60.0 * minutes + seconds <= end_s:
            return match[0]
        # As many digits as there were: two after the point in ASS, three elsewhere.
        digits = len(last[0]) - 1 - max(last[0].rfind("."), last[0].rfind(","))
        units = int(end_s * 10**digits)
        whole, parts = divmod(units, 10**digits)
        width = last[0].find(":") if last[1] else 2
        told = f"{whole // 3600:0{width}}:{whole // 60 % 60:02}:{whole % 60:02}"
        mark = "," if "," in last[0] else "."
        return match[0][: last.start()] + f"{told}{mark}{parts:0{digits}}" + match[0][last.end() :]

    return _TIMES.sub(until, text)


def _milliseconds(hours: str, minutes: str, seconds: str, thousandths: str) -> int:
    return ((int(hours) * 60 + int(minutes)) * 60 + int(seconds)) * 1000 + int(thousandths)


def _subrip_time(milliseconds: int) -> str:
    seconds, thousandths = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02},{thousandths:03}"


def _without_drawings(text: str) -> tuple[str, bool]:
    """Text without what is drawn, which a block with p1 begins and one with p0 ends; had it any."""
    kept, drawing, found, at = [], False, False, 0
    for block in _BLOCK.finditer(text):
        if not drawing:
            kept.append(text[at : block.start()])
        kept.append(block[0])
        for scale in _DRAWING.findall(block[0]):
            drawing = int(scale) > 0
            found |= drawing
        at = block.end()
    if not drawing:
        kept.append(text[at:])
    return "".join(kept), found


def _visible(text: str) -> bool:
    return bool(_SPACE.sub(" ", _MARKUP.sub("", _BLOCK.sub("", text))).strip())
