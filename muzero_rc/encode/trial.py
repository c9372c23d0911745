"""What can fail at the end of an encode, tried on one frame before it begins."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import numpy as np

from muzero_rc import video
from muzero_rc.encode.workplace import Workplace
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import first_pass
from muzero_rc.env.control.baselines import VbrPolicy
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.passes.pipeline import rollout
from muzero_rc.errors import InputError, OutputError

__all__ = ["plan_mux", "rest_bytes", "try_mux"]

_SECONDS = 1.0  # of audio and subtitles; ffmpeg has opened all coders by then
_SETTINGS = EncoderSettings(target_kbps=100, speed=8, auto_alt_ref=0, lag_in_frames=0)


def plan_mux(
    info: video.VideoInfo, plan: video.MuxPlan, place: Workplace
) -> tuple[video.MuxPlan, list[str]]:
    """The plan with text subtitles and covers taken out of the source, and what is lost by it.

    Raises:
      InputError: audio cannot be copied as asked for, or subtitles cannot be read.
      OutputError: there is no space for the subtitles.
    """
    for track in plan.kept(info):
        if track.kind == "audio":
            plan.container.copies_audio(track, plan.audio)
    texts = video.extract_text(
        info, plan.cleaned(info), place.folder, start_s=plan.start_s, end_s=plan.end_s
    )
    covers = video.extract_covers(info, plan.takes_covers(info), place.folder)
    plan = dataclasses.replace(plan, texts=tuple(texts), covers=tuple(covers))
    return plan, video.losses(info, plan)


def try_mux(
    info: video.VideoInfo,
    plan: video.MuxPlan,
    place: Workplace,
    size: tuple[int, int],
    fps: Fraction,
) -> list[str]:
    """Encodes one grey frame, and makes a file of it and of the first second of all else.

    Args:
      info: the source.
      plan: what goes into the file.
      place: where it is written.
      size: width and height of the encode, pixels.
      fps: frames per second of the encode.

    Returns:
      Which tags the file lacks, a line each.

    Raises:
      InputError: it cannot be done.
      OutputError: the file is not what was planned, or cannot be written.
    """
    plan = _encode_grey(place, size, fps, plan)
    try:
        video.mux(place.ivf, info, place.file, plan, duration_s=_SECONDS)
        video.verify(place.file, video.promise_of(info, plan, 1, cut=True), decode=False)
        return video.lost_tags(info, plan, place.file)
    except InputError as error:
        raise InputError(
            f"{error} (tried on one frame before the encode); "
            "leave out what is damaged, audio by --audio none"
        ) from None
    except OutputError as error:
        raise OutputError(f"{error} (tried on one frame before the encode)") from None
    finally:
        _clear(place)


def rest_bytes(
    info: video.VideoInfo,
    plan: video.MuxPlan,
    place: Workplace,
    size: tuple[int, int],
    fps: Fraction,
    *,
    duration_s: float | None,
) -> int:
    """Bytes of a file without its video: all else in it is muxed with one grey frame.

    Args:
      info: the source.
      plan: what goes into the file.
      place: where it is written.
      size: width and height of the encode, pixels.
      fps: frames per second of the encode.
      duration_s: what goes on for longer is cut.

    Raises:
      InputError: it cannot be done.
      OutputError: no space.
    """
    plan = _encode_grey(place, size, fps, plan)
    try:
        grey = place.ivf.stat().st_size
        video.mux(place.ivf, info, place.file, plan, duration_s=duration_s)
        return max(0, place.file.stat().st_size - grey)
    finally:
        _clear(place)


def _encode_grey(
    place: Workplace, size: tuple[int, int], fps: Fraction, plan: video.MuxPlan
) -> video.MuxPlan:
    """Encodes one frame; returns the plan for it."""
    width, height = size
    depth = 8 if plan.picture is None else plan.picture.bit_depth
    kind = np.uint8 if depth == 8 else np.uint16
    samples = width * height + 2 * (width // 2) * (height // 2)
    grey = np.full((1, samples), 1 << (depth - 1), kind)
    clip = Clip.from_frames(grey, width, height, fps, bit_depth=depth)
    rollout(
        clip, _SETTINGS, VbrPolicy(),
        first_pass=first_pass(clip, _SETTINGS, cache=False), output=place.ivf,
    )  # fmt: skip
    return (
        plan if plan.picture is None else dataclasses.replace(plan, picture=plan.picture.first(1))
    )


def _clear(place: Workplace) -> None:
    for path in (place.ivf, place.file):
        with path.open("r+b") as file:
            file.truncate()
