"""Encode one clip with one policy, once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muzero_rc.env.codec.backend import Backend, ClipLike, FirstPassLike
from muzero_rc.env.control.probe_record import ProbeRecord
from muzero_rc.env.control.rate.probe import off_target
from muzero_rc.env.control.recipe import DEFAULT_RECIPE, Recipe
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.control.work_budget import WorkSpent
from muzero_rc.env.passes.stepper import Stepper
from muzero_rc.errors import InputError
from muzero_rc.types import (
    KEEP,
    EncodeLog,
    EpisodeScore,
    FrameDecision,
    FrameInfo,
    FrameResult,
    GopLimits,
    Policy,
)

if TYPE_CHECKING:
    from muzero_rc.env.codec.session import EncodedStream

__all__ = ["Rollout", "encode_once"]


@dataclass(frozen=True, slots=True)
class Rollout:
    """What encoding a clip with a policy gave.

    Attributes:
      score: the raw score.
      log: all decisions and results.
      stream: the encoded stream.
      seconds: wall time of the whole second pass, the policy's and the probe's included, and
        of encodes made again.
      decision_seconds: wall time of observing and deciding.
      probe_seconds: wall time of the probe; 0 with two passes.
      refined: the probe with what its frames cost here, if another encode by that is worth
        its time.
      work: of the probe encodes that were run here and of the last passes, under a budget of
        time; else None.
    """

    score: EpisodeScore
    log: EncodeLog
    stream: EncodedStream
    seconds: float
    decision_seconds: float
    probe_seconds: float = 0.0
    refined: ProbeRecord | None = None
    work: WorkSpent | None = None

    @property
    def qindexes(self) -> list[int]:
        """The qindex used for each coded frame, in coding order."""
        return self.log.qindexes

    @property
    def frames(self) -> list[tuple[FrameInfo | None, FrameResult]]:
        """Description and result of every frame; no description if it only shows a buffer."""
        return self.log.pairs


def _only(decisions: Any, policy: Policy) -> FrameDecision:
    """The one decision in what a policy answered; somebody else's may answer anything."""
    if isinstance(decisions, Sequence) and len(decisions) == 1:
        (decision,) = decisions
        if isinstance(decision, FrameDecision):
            return decision
    raise InputError(f"policy {policy.name} must give one FrameDecision, not {decisions!r}")


def encode_once(
    clip: ClipLike,
    settings: EncoderSettings,
    policy: Policy,
    first_pass: FirstPassLike,
    *,
    probe: ProbeRecord | None = None,
    gops: Sequence[GopLimits] = (),
    checksums: bool = False,
    output: Path | None = None,
    on_frame: Callable[[FrameResult], None] | None,
    timeout_s: float,
    backend: Backend,
    recipe: Recipe = DEFAULT_RECIPE,
) -> Rollout:
    """One pass over the clip, the policy asked before each coded frame.

    Args:
      clip: what to encode.
      settings: how.
      policy: decides on each frame.
      first_pass: of this clip.
      probe: of this clip and settings, in the last of three passes.
      gops: limits of groups of pictures; with a probe they are its own.
      checksums: results have a checksum of the picture that is shown.
      output: file for the encoded stream as it is made; None keeps it in memory.
      on_frame: called with each frame's result.
      timeout_s: watchdog, seconds in which the encoder works on one frame or stands still.
      backend: the encoder.
      recipe: the constants of control.

    Raises:
      EncoderError: the encoder failed or did not answer in time.
      InputError: settings, or what the policy answered, cannot be used.
    """
    start = time.perf_counter()
    decision_seconds = 0.0
    reported = 0
    controlled = True
    with Stepper.open(
        backend, clip, settings, first_pass,
        probe=probe, gops=gops, checksums=checksums, output=output, timeout_s=timeout_s,
        recipe=recipe,
    ) as stepper:  # fmt: skip
        while stepper.info is not None:
            asked = time.perf_counter()
            decisions = policy.decide([stepper.observe()], [stepper.base])
            decision = _only(decisions, policy)
            controlled = controlled and decision.qindex != KEEP
            decision_seconds += time.perf_counter() - asked
            stepper.step(decision)
            if on_frame is not None:
                for frame in stepper.frames[reported:]:
                    on_frame(frame.result)
                reported = len(stepper.frames)
        stream = stepper.finish()
        seconds = time.perf_counter() - start
        score = stepper.score()
        # What libvpx decided by itself, it would decide again.
        again = controlled and off_target(score, recipe=recipe)
        refined = stepper.refined_probe() if again else None
        return Rollout(
            score=score,
            log=stepper.log(),
            stream=stream,
            seconds=seconds,
            decision_seconds=decision_seconds,
            refined=refined,
        )
