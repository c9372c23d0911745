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

__all__ = ["KeyFrameFinder", "key_frames"]


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


class _NotYetError(Exception):
    """The rule looks at a frame that has not come yet."""


class _Frames:
    """Frames so far."""

    def __init__(self) -> None:
        self.ended = False
        self._frames: list[_Frame] = []

    def extend(self, stats: npt.NDArray[np.float64]) -> None:
        rows = stats[:, [column(name) for name in _Frame._fields]].tolist()
        self._frames += [_Frame(*row) for row in rows]

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, place: int) -> _Frame:
        return self._frames[place]

    def has(self, place: int) -> bool:
        """Whether the whole film has such a frame."""
        if place >= len(self._frames) and not self.ended:
            raise _NotYetError
        return place < len(self._frames)


class KeyFrameFinder:
    """Finds the key frames of an encode while its first pass runs.

    Attributes:
      keys: show indexes of those that are known, the first frame's included, ascending.
    """

    def __init__(self, clip: Clip, settings: CodecSettings) -> None:
        """Takes what is encoded, and how.

        Args:
          clip: size and frame rate.
          settings: the largest distance between key frames is one of them.
        """
        self.keys = [0]
        self._frames = _Frames()
        self._most = settings.kf_max_dist
        self._settled = _least_group(clip)
        self._start()

    def _start(self) -> None:
        """What is known of the key frame after the last one: nothing."""
        self._distance = 1
        self._recent = [1.0] * 8

    @property
    def known(self) -> int:
        """Of the frames before this one it is known which are key frames."""
        return min(self.keys[-1] + self._distance, len(self._frames))

    def add(self, stats: npt.NDArray[np.float64], *, ended: bool = False) -> None:
        """Takes more of the first pass.

        Args:
          stats: [N, 25] of the frames that follow; N may be 0.
          ended: they are the last ones.
        """
        self._frames.extend(stats)
        self._frames.ended = ended
        try:
            while True:
                self._go_to_next_key()
                key = self.keys[-1] + self._distance
                if not self._frames.has(key):
                    break
                self.keys.append(key)
                self._start()
        except _NotYetError:
            pass

    def _go_to_next_key(self) -> None:
        """Moves `_distance` to the next key frame, or the film's end."""
        frames, key = self._frames, self.keys[-1]
        while self._distance < self._most and frames.has(key + self._distance):
            place = key + self._distance
            if frames.has(place + 1):
                if _is_scene_cut(frames, place):
                    return
                decay = _decay_rate(frames[place + 1])
                self._recent[(self._distance - 1) % 8] = decay
                product = 1.0
                for rate in self._recent:
                    product *= rate
                # A transition, or much motion, and then a still picture.
                if (
                    self._distance - 1 > self._settled
                    and decay >= 0.999
                    and product < 0.9
                    and _stays_still(frames, place, self._most - (self._distance - 1))
                ):
                    return
            self._distance += 1


def key_frames(
    stats: npt.NDArray[np.float64], clip: Clip, settings: CodecSettings
) -> npt.NDArray[np.int64]:
    """Show indexes of the key frames of an encode, the first frame's included.

    Args:
      stats: [T, 25] of the clip's first pass.
      clip: size and frame rate of what is encoded.
      settings: the largest distance between key frames is one of them.
    """
    finder = KeyFrameFinder(clip, settings)
    finder.add(stats, ended=True)
    return np.array(finder.keys if len(stats) else [], np.int64)


def _least_group(clip: Clip) -> int:
    """libvpx's shortest group of pictures, `vp9_rc_get_default_min_gf_interval`."""
    rate = float(clip.fps)
    pixels = clip.width * clip.height * rate
    safe = 3840 * 2160 * 20.0
    least = min(max(int(rate * 0.125), 4), 16)
    return least if pixels <= safe else max(least, int(4 * pixels / safe + 0.5))


def _ratio(above: float, below: float) -> float:
    return above / (below - 0.000001 if below < 0 else below + 0.000001)


def _is_scene_cut(frames: _Frames, place: int) -> bool:
    before, here, after = (frames[place + offset] for offset in (-1, 0, 1))
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


def _predicts_well(frames: _Frames, place: int) -> bool:
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
        if not frames.has(place + 2 + seen):
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


def _stays_still(frames: _Frames, place: int, interval: int) -> bool:
    return all(
        frames.has(ahead) and frames[ahead].pcnt_inter - frames[ahead].pcnt_motion >= 0.999
        for ahead in range(place, place + interval)
    )
