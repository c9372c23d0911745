"""Where libvpx will put its key frames: a function of the first pass, known before any encode.

Whoever cuts a film there, and codes the parts apart, has no key frame more than libvpx has
in the whole film. The rule is that of libvpx 1.12 (`vp9_get_frames_to_next_key` and what it
calls, vp9/encoder/vp9_firstpass.c), repeated here because the library does not answer the
question. Its arithmetic is kept, so that both sides of a threshold are the same ones.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.settings import CodecSettings
from muzero_rc.env.codec.statistics import column

__all__ = ["key_frames"]


class _Frame(NamedTuple):
    """The statistics of a frame that the rule looks at."""

    intra_error: float
    coded_error: float
    sr_coded_error: float
    pcnt_inter: float
    pcnt_motion: float
    pcnt_second_ref: float
    pcnt_neutral: float
    pcnt_intra_low: float


def key_frames(
    stats: npt.NDArray[np.float64], clip: Clip, settings: CodecSettings
) -> npt.NDArray[np.int64]:
    """Show indexes of the key frames of an encode, the first frame's included.

    Args:
      stats: [T, 25] of the clip's first pass.
      clip: size and frame rate of what is encoded.
      settings: the largest distance between key frames is one of them.
    """
    rows = stats[:, [column(name) for name in _Frame._fields]].tolist()
    frames = [_Frame(*row) for row in rows]
    settled = _least_group(clip)
    keys = [0]
    while keys[-1] < len(frames):
        keys.append(keys[-1] + _to_next_key(frames, keys[-1], settings.kf_max_dist, settled))
    return np.array(keys[:-1], np.int64)


def _least_group(clip: Clip) -> int:
    """libvpx's shortest group of pictures, `vp9_rc_get_default_min_gf_interval`."""
    rate = float(clip.fps)
    pixels = clip.width * clip.height * rate
    safe = 3840 * 2160 * 20.0
    least = min(max(int(rate * 0.125), 4), 16)
    return least if pixels <= safe else max(least, int(4 * pixels / safe + 0.5))


def _to_next_key(frames: list[_Frame], key: int, most: int, settled: int) -> int:
    count = len(frames)
    farthest = min(count - key, most)
    recent = [1.0] * 8
    distance = 1
    while distance < farthest:
        place = key + distance
        if place + 1 < count:
            if _is_scene_cut(frames, place):
                break
            decay = _decay_rate(frames[place + 1])
            recent[(distance - 1) % 8] = decay
            product = 1.0
            for rate in recent:
                product *= rate
            # A transition, or much motion, and then a still picture.
            if (
                distance - 1 > settled
                and decay >= 0.999
                and product < 0.9
                and _stays_still(frames, place, most - (distance - 1))
            ):
                break
        distance += 1
    return distance


def _ratio(above: float, below: float) -> float:
    return above / (below - 0.000001 if below < 0 else below + 0.000001)


def _is_scene_cut(frames: list[_Frame], place: int) -> bool:
    before, here, after = frames[place - 1 : place + 2]
    intra = 1.0 - here.pcnt_inter
    if _after_flash(here) or _after_flash(after) or here.pcnt_second_ref >= 0.2:
        return False
    spike = here.coded_error > after.coded_error * 1.2
    spike = spike and here.coded_error > before.coded_error * 1.2
    cut = (
        here.pcnt_inter < 0.05
        or _changes_slide(before, here, after)
        or _steps_in_intra(before, here, after)
        or (
            spike
            and intra > 0.25
            and intra + here.pcnt_neutral > 0.5
            and _ratio(here.intra_error, here.coded_error) < 2.5
        )
    )
    return cut and _predicts_well(frames, place)


def _predicts_well(frames: list[_Frame], place: int) -> bool:
    """Whether what follows a candidate can be predicted from it."""
    score = before = 0.0
    decay = 1.0
    seen = 0
    while seen < 16:
        frame = frames[place + 1 + seen]
        ratio = min(_ratio(12.5 * frame.intra_error, frame.coded_error), 128.0)
        inter = frame.pcnt_inter
        decay *= inter if inter > 0.85 else (0.85 + inter) / 2.0
        score += decay * ratio
        if (
            inter < 0.05
            or ratio < 1.5
            or (inter - frame.pcnt_neutral < 0.20 and ratio < 3.0)
            or score - before < 3.0
            or frame.intra_error < 0.5
        ):
            break
        before = score
        if place + 1 + seen == len(frames) - 1:
            break
        seen += 1
    return score > 30.0 and seen > 3


def _after_flash(frame: _Frame) -> bool:
    return frame.sr_coded_error < frame.coded_error or (
        frame.pcnt_second_ref > frame.pcnt_inter and frame.pcnt_second_ref >= 0.5
    )


def _changes_slide(before: _Frame, here: _Frame, after: _Frame) -> bool:
    return (
        here.intra_error < here.coded_error * 1.5
        and here.coded_error > before.coded_error * 5.0
        and here.coded_error > after.coded_error * 5.0
    )


def _steps_in_intra(before: _Frame, here: _Frame, after: _Frame) -> bool:
    share, of_before, of_after = (1.0 - frame.pcnt_inter for frame in (here, before, after))
    with_neutral = share + here.pcnt_neutral
    ratio, at_before, at_after = (
        _ratio(frame.intra_error, frame.coded_error) for frame in (here, before, after)
    )
    if (
        ratio < 2.0
        and at_before > 2.25
        and at_after > 2.25
        and share > 3 * of_before
        and share > 3 * of_after
        and (share > 0.075 or with_neutral > 0.85)
    ):
        return True
    worse = ratio < at_before * 0.9 and ratio < at_after * 0.9
    return ratio < 1.25 and with_neutral > 0.85 and worse


def _decay_rate(frame: _Frame) -> float:
    """How much of a prediction's quality survives a frame."""
    difference = frame.sr_coded_error - frame.coded_error
    rate = 1.0
    if difference > 0.1:
        part = _over(difference * 0.25, frame.intra_error)
        inter = frame.pcnt_inter
        if frame.coded_error > 10.0 and _ratio(frame.intra_error, frame.coded_error) < 6.0:
            inter = frame.pcnt_inter + frame.pcnt_intra_low - frame.pcnt_neutral
        rate = 1.0 - part - 0.005 * (100 * (1.0 - inter))
    rate = max(rate, 0.75)
    still = 0.5 * (frame.pcnt_inter - frame.pcnt_motion)
    return max(still, rate + (1.0 - rate) * still)


def _over(above: float, below: float) -> float:
    """A quotient as C has it, for a picture without any detail."""
    return above / below if below else float("inf")


def _stays_still(frames: list[_Frame], place: int, interval: int) -> bool:
    if place + interval > len(frames):
        return False
    return all(f.pcnt_inter - f.pcnt_motion >= 0.999 for f in frames[place : place + interval])
