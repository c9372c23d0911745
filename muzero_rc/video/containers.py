"""File formats that a video is written to, and what each of them takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from muzero_rc.errors import InputError
from muzero_rc.video.tracks import PICTURE_SUBTITLES, Track

__all__ = ["AUDIO_MODES", "CONTAINERS", "WEBM", "AudioMode", "Container", "container_of"]

AudioMode = Literal["auto", "copy", "opus", "none"]
"""What becomes of audio: auto copies what the format takes and makes Opus of the rest."""

AUDIO_MODES: tuple[str, ...] = get_args(AudioMode)


@dataclass(frozen=True, slots=True)
class Container:
    """A file format.

    Attributes:
      name: what people call it.
      suffix: of its files.
      muxer: ffmpeg's name.
      audio: ffmpeg's codecs of audio that it takes as they are.
      text: the codecs of text subtitles that it takes as they are.
      text_codec: what other text subtitles become; None if there is no room for any.
      pictures: codecs of picture subtitles that it takes.
      attachments: it takes fonts and other files.
      covers: codecs of cover pictures that it takes.
      tracks: it takes more than the video.
      empty_tracks: a track without a packet stays in it.
      index: it tells where its key frames are.
    """

    name: str
    suffix: str
    muxer: str
    audio: frozenset[str] = frozenset()
    text: frozenset[str] = frozenset()
    text_codec: str | None = None
    pictures: frozenset[str] = frozenset()
    attachments: bool = False
    covers: frozenset[str] = frozenset()
    tracks: bool = True
    empty_tracks: bool = True
    index: bool = True

    def keeps(self, track: Track) -> bool:
        """Whether a track that is not the video goes in, as it is or made another codec."""
        if not self.tracks:
            return False
        if track.picture:
            return track.cover and track.codec in self.covers
        match track.kind:
            case "audio":
                return track.codec != "unknown"
            case "subtitle":
                return track.codec in self.pictures or (
                    track.is_text and self.text_codec is not None
                )
            case "attachment":
                return self.attachments
            case _:
                return False

    def copies_audio(self, track: Track, mode: AudioMode) -> bool:
        """Whether audio goes in as it is.

        Raises:
          InputError: it must, and the format does not take it.
        """
        takes = track.codec in self.audio
        if mode == "copy" and not takes:
            raise InputError(
                f"{track.name} cannot be copied into {self.name}; give --audio opus, "
                "or an output that ends in .mkv"
            )
        return takes and (mode != "opus" or track.codec == "opus")


# Text is never taken as it is: an empty cue of WebVTT ends the file for many players.
WEBM = Container("WebM", ".webm", "webm", frozenset({"opus", "vorbis"}), text_codec="webvtt")
_MKV = Container(
    "Matroska", ".mkv", "matroska",
    frozenset({
        "aac", "ac3", "eac3", "dts", "flac", "mp1", "mp2", "mp3", "opus", "vorbis", "truehd",
        "mlp", "tta", "wavpack", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_u8",
    }),
    frozenset({"ass", "ssa", "subrip", "text", "webvtt"}), "subrip",
    frozenset({"dvb_subtitle", "dvd_subtitle", "hdmv_pgs_subtitle"}), attachments=True,
    covers=frozenset({"mjpeg", "png", "bmp", "gif", "tiff", "webp"}),
)  # fmt: skip
_MP4 = Container(
    "MP4", ".mp4", "mp4",
    frozenset({"aac", "ac3", "eac3", "alac", "flac", "mp3", "opus"}),
    frozenset({"mov_text"}), "mov_text", frozenset({"dvd_subtitle"}),
    covers=frozenset({"mjpeg", "png", "bmp"}), empty_tracks=False,
)  # fmt: skip
_IVF = Container("IVF", ".ivf", "ivf", tracks=False, index=False)

CONTAINERS: dict[str, Container] = {c.suffix: c for c in (WEBM, _MKV, _MP4, _IVF)}
"""By the suffix of their files."""

assert _MKV.pictures <= PICTURE_SUBTITLES


def container_of(path: Path) -> Container:
    """The format that a file's name asks for.

    Raises:
      InputError: its suffix is none of those that are written.
    """
    found = CONTAINERS.get(path.suffix.lower())
    if found is None:
        *most, last = CONTAINERS
        folder = "" if path.suffix else "; a folder must be there before"
        raise InputError(f"the output {path} must end in {', '.join(most)} or {last}{folder}")
    return found
