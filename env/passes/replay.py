"""Replay: an encode made again from its log alone, without controller or policy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from muzero_rc.env.codec.backend import Backend, ClipLike, LibvpxBackend
from muzero_rc.env.codec.settings import CodecSettings
from muzero_rc.errors import InputError
from muzero_rc.types import FrameDecision, GopLimits

if TYPE_CHECKING:
    from muzero_rc.env.codec.session import EncodedStream

__all__ = ["replay_decisions"]


def replay_decisions(
    clip: ClipLike,
    settings: CodecSettings,
    decisions: Sequence[FrameDecision],
    *,
    gops: Sequence[GopLimits] = (),
    backend: Backend | None = None,
    timeout_s: float = 120.0,
) -> EncodedStream:
    """Encodes a clip by recorded decisions.

    Args:
      clip: what was encoded.
      settings: as libvpx was told, its speed that of the log.
      decisions: of all coded frames, in coding order.
      gops: limits of groups of pictures.
      backend: the encoder; None is libvpx.
      timeout_s: watchdog, seconds in which the encoder works on one frame or stands still.

    Raises:
      InputError: there are more frames to code, or fewer, than decisions.
      EncoderError: the encoder failed or did not answer in time.
    """
    backend = backend or LibvpxBackend()
    statistics = backend.first_pass(clip, settings)
    session = backend.open(clip, settings, statistics, gops=gops, timeout_s=timeout_s)
    try:
        coded = 0
        while session.next() is not None:
            if coded == len(decisions):
                raise InputError("there are more frames to code than were recorded")
            session.submit(decisions[coded])
            session.result()
            coded += 1
        if coded < len(decisions):
            raise InputError(f"there are {coded} frames to code, {len(decisions)} were recorded")
        return session.finish()
    finally:
        session.close()
