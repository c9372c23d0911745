"""What a file holds beside the video that is encoded: audio, subtitles, attachments, data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muzero_rc.video.tools import NOT_UTF8, ffprobe

__all__ = ["PICTURE_SUBTITLES", "TEXT_SUBTITLES", "Track", "tags_in_utf8", "tracks_of"]

TEXT_SUBTITLES = frozenset({"ass", "mov_text", "ssa", "subrip", "text", "webvtt"})
"""ffmpeg's codecs of subtitles that are text."""

PICTURE_SUBTITLES = frozenset({"dvb_subtitle", "dvd_subtitle", "hdmv_pgs_subtitle", "xsub"})
"""ffmpeg's codecs of subtitles that are pictures."""

_STATISTICS = frozenset({"BPS", "DURATION", "NUMBER_OF_BYTES", "NUMBER_OF_FRAMES"})
# Tags that tell of the stream as it was coded and stored, or that have an option of their own.
_FACTS = frozenset({
    "alpha_mode", "creation_time", "encoder", "filename", "handler_name", "language", "mimetype",
    "rotate", "stereo_mode", "title", "vendor_id",
})  # fmt: skip
_NO_DISPOSITION = frozenset({"attached_pic", "timed_thumbnails", "still_image"})


@dataclass(frozen=True, slots=True)
class Track:
    """One stream of a file.

    Attributes:
      index: ffmpeg's stream index in the file.
      kind: `video`, `audio`, `subtitle`, `attachment` or `data`.
      codec: ffmpeg's codec name, `unknown` if it has none.
      language: the language tag, None if not told.
      title: None without one.
      dispositions: what the track is for, as ffmpeg names it: `default`, `forced`, `comment`.
      start_s: time of its first packet, seconds; None if not told.
      filename: of an attachment.
      statistics: tags that tell its size and length in this file, as mkvmerge writes them.
      tags: others that somebody wrote, name and value; not language, title and the like.
      picture: it is a cover picture, or another one that does not move.
      cover: it is a cover picture.
      chapters: it has the titles of chapters, which MP4 keeps in a stream of text.
    """

    index: int
    kind: str
    codec: str
    language: str | None = None
    title: str | None = None
    dispositions: tuple[str, ...] = ()
    start_s: float | None = None
    filename: str | None = None
    statistics: tuple[str, ...] = ()
    tags: tuple[tuple[str, str], ...] = ()
    picture: bool = False
    cover: bool = False
    chapters: bool = False

    @property
    def name(self) -> str:
        """How messages call it."""
        told = [self.codec, *filter(None, (self.language, self.title, self.filename))]
        kind = "picture" if self.picture else f"{self.kind} stream"
        kind = "cover picture" if self.cover else kind
        return f"{kind} {self.index} ({', '.join(told)})"

    @property
    def is_text(self) -> bool:
        """Whether it is a subtitle of text."""
        return self.kind == "subtitle" and self.codec in TEXT_SUBTITLES


def tracks_of(streams: Sequence[Mapping[str, Any]]) -> tuple[Track, ...]:
    """The streams as ffprobe tells them."""
    return tuple(_track(stream) for stream in streams)


def _track(stream: Mapping[str, Any]) -> Track:
    # Muxers write tags in capitals as they like.
    tags = {name.lower(): value for name, value in stream.get("tags", {}).items()}
    disposition = stream.get("disposition", {})
    language = tags.get("language")
    return Track(
        index=int(stream["index"]),
        kind=str(stream.get("codec_type", "data")),
        codec=str(stream.get("codec_name", "unknown")),
        language=None if language in (None, "", "und") else str(language),
        title=tags.get("title") or None,
        dispositions=tuple(
            sorted(name for name, on in disposition.items() if on and name not in _NO_DISPOSITION)
        ),
        start_s=_number(stream.get("start_time")),
        filename=tags.get("filename"),
        statistics=tuple(name for name in stream.get("tags", {}) if _is_statistic(name)),
        tags=tuple(
            (name, str(value))
            for name, value in stream.get("tags", {}).items()
            if name.lower() not in _FACTS and not _is_statistic(name)
        ),
        picture=any(disposition.get(name) for name in _NO_DISPOSITION),
        cover=bool(disposition.get("attached_pic")) and not disposition.get("timed_thumbnails"),
        chapters=stream.get("codec_type") == "data" and stream.get("codec_tag_string") == "text",
    )


def _is_statistic(tag: str) -> bool:
    name = tag.upper().partition("-")[0]  # BPS-eng
    return name in _STATISTICS or name.startswith("_STATISTICS_")


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None


def tags_in_utf8(path: Path) -> list[str]:
    """Words for ffmpeg that set those tags of a file and its chapters that are no UTF-8.

    It copies bytes as they are, and players show them as question marks.
    """
    told = ffprobe(path, "-show_format", "-show_chapters", errors="surrogateescape")
    places = [("-metadata", told.get("format", {}))]
    places += [(f"-metadata:c:{n}", each) for n, each in enumerate(told.get("chapters", []))]
    words = []
    for option, thing in places:
        for name, value in thing.get("tags", {}).items():
            as_it_is = value.encode("utf-8", "surrogateescape")
            text = as_it_is.decode("utf-8", NOT_UTF8)
            if text != value:
                words += [option, f"{name}={text}"]
    return words
