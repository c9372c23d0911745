"""Encode one clip with one policy, once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from muzero_rc.env.codec.backend import Backend, ClipLike, FirstPassLike
from muzero_rc.env.codec.settings import EncoderSettings
from muzero_rc.env.control.gop import GopLimits
from muzero_rc.env.control.probe_record import ProbeRecord
from muzero_rc.env.control.rate.probe import off_target
from muzero_rc.env.passes.stepper import Episode
from muzero_rc.errors import InputError
from muzero_rc.types import KEEP, EpisodeScore, FrameInfo, FrameResult, Policy

if TYPE_CHECKING:
    from muzero_rc.env.codec.session import EncodedStream

__all__ = ["Rollout", "encode_once"]


@dataclass(frozen=True, slots=True)
class Rollout:
    """What encoding a clip with a policy gave.

    Attributes:
      score: the raw score.
      qindexes: the qindex used for each coded frame, in coding order.
      frames: description and result of every frame; the description is None for
        frames that only show an existing buffer.
      stream: the encoded stream.
      seconds: wall time of the whole second pass, the policy's and the probe's included, and
        of encodes made again.
      decision_seconds: wall time of observing and deciding.
      probe_seconds: wall time of the probe; 0 with two passes.
      refined: the probe with what its frames cost here, if another encode by that is worth
        its time.
    """

    score: EpisodeScore
    qindexes: list[int]
    frames: list[tuple[FrameInfo | None, FrameResult]]
    stream: EncodedStream
    seconds: float
    decision_seconds: float
    probe_seconds: float = 0.0
    refined: ProbeRecord | None = None


def encode_once(
    clip: ClipLike,
    settings: EncoderSettings,
    policy: Policy,
    first_pass: FirstPassLike,
    *,
    probe: ProbeRecord | None = None,
    gops: Sequence[GopLimits] = (),
    output: Path | None = None,
    on_frame: Callable[[FrameResult], None] | None,
    timeout_s: float,
    backend: Backend,
) -> Rollout:
    """One pass over the clip, the policy asked before each coded frame.

    Args:
      clip: what to encode.
      settings: how.
      policy: answers which qindex.
      first_pass: of this clip.
      probe: of this clip and settings, in the last of three passes.
      gops: limits of groups of pictures; with a probe they are its own.
      output: file for the encoded stream as it is made; None keeps it in memory.
      on_frame: called with each frame's result.
      timeout_s: longest wait for the encoder, seconds.
      backend: the encoder.

    Raises:
      EncoderError: the encoder failed or did not answer in time.
      InputError: settings, or what the policy answered, cannot be used.
    """
    start = time.perf_counter()
    session = backend.open(
        clip, settings, first_pass, probe=probe, gops=gops, output=output, timeout_s=timeout_s
    )
    decision_seconds = 0.0
    reported = 0
    landed = True
    with Episode(clip, settings, first_pass, session, probe) as episode:
        while episode.info is not None:
            asked = time.perf_counter()
            decisions = policy.decide([episode.observe()])
            if len(decisions) != 1:
                raise InputError(
                    f"policy {policy.name} gave {len(decisions)} decisions for one frame"
                )
            qindex = int(decisions[0])
            landed = landed and qindex != KEEP
            decision_seconds += time.perf_counter() - asked
            episode.step(qindex)
            if on_frame is not None:
                for _, result in episode.frames[reported:]:
                    on_frame(result)
                reported = len(episode.frames)
        stream = episode.finish()
        seconds = time.perf_counter() - start
        score = episode.score()
        return Rollout(
            score=score,
            qindexes=[result.qindex for info, result in episode.frames if info is not None],
            frames=episode.frames,
            stream=stream,
            seconds=seconds,
            decision_seconds=decision_seconds,
            # What libvpx decided by itself, it would decide again.
            refined=episode.refined_probe() if landed and off_target(score) else None,
        )
