"""Encode one clip with one policy."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from muzero_rc.env.backend import Backend, ClipLike, FirstPassLike, LibvpxBackend
from muzero_rc.env.episode import Episode
from muzero_rc.env.pilot import (
    PILOT_POLICY,
    Pilot,
    ShiftedPolicy,
    needs_pilot,
    pilot_settings,
)
from muzero_rc.env.piloted_landing import next_flight, off_target
from muzero_rc.env.settings import EncoderSettings
from muzero_rc.errors import InputError
from muzero_rc.types import KEEP, EpisodeScore, FrameInfo, FrameResult, Policy, needs_blocks

if TYPE_CHECKING:
    from muzero_rc.env.session import EncodedStream

__all__ = ["Rollout", "fly_pilot", "rollout"]

_MOST_AGAIN = 2
"""Encodes that are made again for their target's sake."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """What encoding a clip with a policy gave.

    Attributes:
      score: the raw score.
      qindexes: the qindex used for each coded frame, in coding order.
      frames: description and result of every frame; the description is None for
        frames that only show an existing buffer.
      stream: the encoded stream.
      seconds: wall time of the whole second pass, the policy's and the pilot's included, and
        of encodes made again.
      decision_seconds: wall time of observing and deciding.
      pilot_seconds: wall time of the pilot; 0 with two passes.
      informed: the pilot with what its frames cost here, if another encode by that is worth
        its time.
    """

    score: EpisodeScore
    qindexes: list[int]
    frames: list[tuple[FrameInfo | None, FrameResult]]
    stream: EncodedStream
    seconds: float
    decision_seconds: float
    pilot_seconds: float = 0.0
    informed: Pilot | None = None

    def as_pilot(self) -> Pilot:
        """The record of this encode for the last pass, if it was a pilot's."""
        return Pilot.of(self.frames, self.stream.size_bytes)


def fly_pilot(
    clip: ClipLike,
    settings: EncoderSettings,
    first_pass: FirstPassLike,
    *,
    on_frame: Callable[[FrameResult], None] | None = None,
    timeout_s: float = 120.0,
    backend: Backend | None = None,
) -> Rollout:
    """Encodes a clip as fast as libvpx can, for the costs of its frames; see `env.pilot`.

    Args:
      clip: what is to be encoded.
      settings: of the encode that follows.
      first_pass: of this clip.
      on_frame: called with each frame's result, for a progress display; from the first
        frame again, if the pilot is flown again.
      timeout_s: longest wait for the encoder, seconds.
      backend: the encoder; None is libvpx.

    Returns:
      The last flight; its stream is not kept, only its size.

    Raises:
      EncoderError: the encoder failed or did not answer in time.
    """

    def flight(policy: Policy) -> Rollout:
        return _encode(
            clip, pilot_settings(settings), policy, first_pass,
            output=Path(os.devnull),  # a film's pilot would be hundreds of megabytes of memory
            on_frame=on_frame, timeout_s=timeout_s, backend=backend or LibvpxBackend(),
        )  # fmt: skip

    flown = flight(PILOT_POLICY)
    step = next_flight(
        flown.as_pilot(),
        settings.target_kbps * 1000.0 / float(clip.fps),
        clip.num_frames,
        clip.width * clip.height,
    )
    return flown if step is None else flight(ShiftedPolicy(step))


def rollout(
    clip: ClipLike,
    settings: EncoderSettings,
    policy: Policy,
    *,
    first_pass: FirstPassLike | None = None,
    pilot: Pilot | None = None,
    output: Path | None = None,
    insist: bool = False,
    on_frame: Callable[[FrameResult], None] | None = None,
    on_pilot_frame: Callable[[FrameResult], None] | None = None,
    timeout_s: float = 120.0,
    backend: Backend | None = None,
) -> Rollout:
    """Encodes a clip, asking the policy before each coded frame.

    With three passes a pilot is flown first.

    Args:
      clip: what to encode.
      settings: how; the target bitrate is one of them.
      policy: answers which qindex.
      first_pass: of this clip; None runs it, or takes it from the cache.
      pilot: of this clip and settings, for three passes; None flies it.
      output: file for the encoded stream as it is made; None keeps it in memory.
      insist: encode again, knowing what frames cost, if three passes end off their target.
      on_frame: called with each frame's result, for a progress display; from the first
        frame again, if it is encoded again.
      on_pilot_frame: likewise, of the pilot.
      timeout_s: longest wait for the encoder, seconds.
      backend: the encoder; None is libvpx.

    Raises:
      EncoderError: the encoder failed or did not answer in time.
      InputError: settings, or what the policy answered, cannot be used.
    """
    backend = backend or LibvpxBackend()
    if first_pass is None:
        first_pass = backend.first_pass(clip, settings, blocks=needs_blocks(policy))
    start = time.perf_counter()
    if not needs_pilot(settings):
        pilot = None
    elif pilot is None:
        pilot = fly_pilot(
            clip, settings, first_pass,
            on_frame=on_pilot_frame, timeout_s=timeout_s, backend=backend,
        ).as_pilot()  # fmt: skip
    pilot_seconds = time.perf_counter() - start
    last_pass = functools.partial(
        _encode, clip, settings, policy, first_pass,
        on_frame=on_frame, timeout_s=timeout_s, backend=backend,
    )  # fmt: skip
    done = last_pass(pilot=pilot, output=output)
    decision_seconds = done.decision_seconds
    for _ in range(_MOST_AGAIN if insist else 0):
        if done.informed is None:
            break
        with _beside(output) as path:
            again = last_pass(pilot=done.informed, output=path)
            decision_seconds += again.decision_seconds
            if abs(again.score.overshoot) >= abs(done.score.overshoot):
                break
            if path is not None and output is not None:
                os.replace(path, output)
                stream = dataclasses.replace(again.stream, path=output)
                again = dataclasses.replace(again, stream=stream)
        done = again
    return dataclasses.replace(
        done,
        seconds=time.perf_counter() - start,
        decision_seconds=decision_seconds,
        pilot_seconds=pilot_seconds,
    )


@contextlib.contextmanager
def _beside(output: Path | None) -> Iterator[Path | None]:
    """A file beside another one for the while."""
    path = None if output is None else output.with_name(f"{output.name}.again")
    try:
        yield path
    finally:
        if path is not None:
            path.unlink(missing_ok=True)


def _encode(
    clip: ClipLike,
    settings: EncoderSettings,
    policy: Policy,
    first_pass: FirstPassLike,
    *,
    pilot: Pilot | None = None,
    output: Path | None = None,
    on_frame: Callable[[FrameResult], None] | None,
    timeout_s: float,
    backend: Backend,
) -> Rollout:
    start = time.perf_counter()
    session = backend.open(
        clip, settings, first_pass, pilot=pilot, output=output, timeout_s=timeout_s
    )
    decision_seconds = 0.0
    reported = 0
    landed = True
    with Episode(clip, settings, first_pass, session, pilot) as episode:
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
            informed=episode.informed_pilot() if landed and off_target(score) else None,
        )
