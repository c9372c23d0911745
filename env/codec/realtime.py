"""What the frames of a clip take in libvpx's real-time encoder, at a constant quantizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from muzero_rc.env.codec import _native
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import native_settings
from muzero_rc.env.codec.settings import CodecSettings

__all__ = ["RealtimeCosts", "RealtimeEncoder", "encode_in_realtime"]


class RealtimeCosts(NamedTuple):
    """What frames took.

    Attributes:
      bits: [T] int64, of each frame.
      squared_error: [T] float64, of all samples of a frame, on the scale of 8 bits.
    """

    bits: npt.NDArray[np.int64]
    squared_error: npt.NDArray[np.float64]


class RealtimeEncoder:
    """libvpx's real-time encoder at cpu-used 8, of which only the costs are kept.

    One pass, one key frame, no frame ahead, no alternate references. It takes about a fifteenth
    of the CPU of a second pass at cpu-used 4.
    """

    def __init__(self, clip: Clip, settings: CodecSettings, quantizer: int) -> None:
        """Opens the encoder.

        Args:
          clip: size, rate and depth of the frames.
          settings: of which the target bitrate alone is taken.
          quantizer: libvpx's, 0 to 63, of all frames.

        Raises:
          EncoderError: libvpx failed.
        """
        self._native = _native.RealtimeEncoder(native_settings(clip, settings), quantizer)
        self._told: list[tuple[int, float]] = []

    def encode(
        self,
        frames: Any,
        first: int,
        count: int,
        *,
        on_frames: Callable[[int], None] | None = None,
    ) -> None:
        """Codes frames that follow what was coded so far.

        Args:
          frames: a native store of frames.
          first: the first one of them there.
          count: of them.
          on_frames: told now and then how many of them are done.

        Raises:
          EncoderError: libvpx failed.
        """
        self._told += self._native.encode(frames, first, count, on_frames=on_frames)

    @property
    def costs(self) -> RealtimeCosts:
        """Of all frames so far; there must be one."""
        bits, errors = zip(*self._told, strict=True)
        return RealtimeCosts(np.array(bits, np.int64), np.array(errors, np.float64))


def encode_in_realtime(
    clip: Clip,
    settings: CodecSettings,
    quantizer: int,
    *,
    on_frames: Callable[[int], None] | None = None,
) -> RealtimeCosts:
    """Encodes a clip in real time, see `RealtimeEncoder`.

    Args:
      clip: in memory.
      settings: of which the target bitrate alone is taken.
      quantizer: libvpx's, 0 to 63, of all frames.
      on_frames: told now and then how many frames are done.

    Raises:
      InputError: the clip is streamed.
      EncoderError: the encoder failed.
    """
    store = clip.store()
    encoder = RealtimeEncoder(clip, settings, quantizer)
    encoder.encode(store, 0, len(store), on_frames=on_frames)
    return encoder.costs
