"""An encode that fits into a size: never a byte over it, audio and container counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from muzero_rc import video
from muzero_rc.encode.aims import SizeAim
from muzero_rc.encode.film import EncodeReport, check_output, encode
from muzero_rc.encode.trial import plan_mux, rest_bytes
from muzero_rc.encode.workplace import workplace
from muzero_rc.env.codec.settings import MAX_TARGET_KBPS
from muzero_rc.env.control.recipe import DEFAULT_RECIPE
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.errors import InputError
from muzero_rc.types import Policy

__all__ = ["encode_to_size", "video_kbps"]

# Of a video packet in Matroska: a SimpleBlock's identifier, length, track, time and flags.
_FRAME_BYTES = 9


def encode_to_size(
    source: Path,
    out: Path,
    settings: EncoderSettings,
    policy: Policy,
    max_bytes: int,
    *,
    height: int | None = None,
    max_frames: int | None = None,
    audio: video.AudioMode = "auto",
    audio_kbps: int | None = None,
    picture: video.Picture | None = None,
    check_kbps: Callable[[int], None] | None = None,
    **options: Any,
) -> EncodeReport:
    """Encodes at the bitrate that leaves the file just below a size.

    All else that goes into the file is muxed first, to know what is left for the video. The
    target is below that by as much as an encode may exceed its target without being made
    again; a file that is still too large is encoded once more, by what this one took.

    Args:
      source: any file ffmpeg reads.
      out: the file.
      settings: how to encode; the target bitrate is replaced.
      policy: chooses the qindexes.
      max_bytes: of the file.
      height: scale down to this height.
      max_frames: encode only the beginning.
      audio: what becomes of audio.
      audio_kbps: bitrate of each track that becomes Opus; by its channels if not given.
      picture: how the source becomes frames.
      check_kbps: told the bitrate of the video before it is encoded, to refuse it.
      options: more of `encode`.

    Raises:
      InputError: the size leaves nothing for the video, or as `encode`.
      OutputError: no encode is small enough, or as `encode`.
    """
    picture = picture or video.picture_of(video.probe(source))
    kbps = video_kbps(
        source, out, max_bytes,
        height=height, max_frames=max_frames, audio=audio, audio_kbps=audio_kbps,
        picture=picture,
    )  # fmt: skip
    if check_kbps is not None:
        check_kbps(kbps)
    return encode(
        source, out, settings.replace(target_kbps=kbps), policy, height=height,
        max_frames=max_frames, audio=audio, audio_kbps=audio_kbps, picture=picture,
        aim=SizeAim(max_bytes), **options,
    )  # fmt: skip


def video_kbps(
    source: Path,
    out: Path,
    max_bytes: int,
    *,
    height: int | None,
    max_frames: int | None,
    audio: video.AudioMode,
    audio_kbps: int | None = None,
    picture: video.Picture,
) -> int:
    """Bitrate of the video, kbit/s, with which a file ends below a size.

    Raises:
      InputError: nothing is left for it.
    """
    info, real = video.probe(source), check_output(source, out)
    picture = picture.first(max_frames)
    shape = picture.info
    frames = shape.expected_frames if max_frames is None else max_frames
    if frames is None:
        raise InputError(f"{source} does not tell its length, so --size cannot be met; use -b")
    if shape.expected_frames is not None:
        frames = min(frames, shape.expected_frames)
    seconds = float(frames / shape.fps)
    plan = video.MuxPlan(
        container=video.container_of(real), audio=audio, audio_kbps=audio_kbps,
        start_s=picture.start_s, end_s=picture.end_s, picture=picture,
    )  # fmt: skip
    with workplace(real) as place:
        plan, _ = plan_mux(info, plan, place)
        rest = rest_bytes(
            info, plan, place, shape.coded_size(height), shape.fps,
            duration_s=seconds if picture.cut or max_frames is not None else None,
        )  # fmt: skip
    room = max_bytes - rest - _FRAME_BYTES * frames
    kbps = int(room / (1 + DEFAULT_RECIPE.retry.over) * 8 / 1000 / seconds)
    if kbps < 1:
        raise InputError(
            f"a size of {max_bytes} bytes leaves nothing for the video: all else takes {rest}; "
            "give more, or --audio none"
        )
    return min(kbps, MAX_TARGET_KBPS)  # no clip needs as much as it may have
