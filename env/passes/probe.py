"""Probe encodes: near its target, and with the groups of pictures that suit the clip."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from muzero_rc.compute import ThreadScheduler, check_cancelled, report
from muzero_rc.env.codec.backend import Backend, ClipLike, FirstPassLike, LibvpxBackend
from muzero_rc.env.control.baselines import BasePolicy, ShiftedPolicy
from muzero_rc.env.control.gop import ProbePlan, better, probe_plan_of
from muzero_rc.env.control.probe_record import ProbeRecord
from muzero_rc.env.control.rate.probe import next_probe_step
from muzero_rc.env.control.recipe import DEFAULT_RECIPE, Recipe
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.passes.one_pass import encode_once
from muzero_rc.env.passes.stepper import episode_score
from muzero_rc.types import EncodeLog, EpisodeScore, FrameResult, GopLimits, Policy

__all__ = ["encode_probe", "first_probe", "probe_score", "run_probes"]


Choice = tuple[Policy, tuple[GopLimits, ...]]


@dataclass(frozen=True)
class _Prober:
    """Makes one probe encode; reports each frame's result."""

    clip: ClipLike
    settings: EncoderSettings
    first_pass: FirstPassLike
    timeout_s: float
    backend: Backend
    recipe: Recipe

    def __call__(self, choice: Choice) -> EncodeLog:
        """A probe encode with a policy and limits of groups."""
        policy, gops = choice
        done = encode_once(
            self.clip, self.settings.of_probe, policy, self.first_pass,
            gops=gops,
            output=Path(os.devnull),  # a film's probe would be hundreds of megabytes of memory
            on_frame=_tell, timeout_s=self.timeout_s, backend=self.backend,
            recipe=self.recipe,
        )  # fmt: skip
        return done.log


def _tell(result: FrameResult) -> None:
    check_cancelled()
    report(result)


def run_probes(
    clip: ClipLike,
    settings: EncoderSettings,
    first_pass: FirstPassLike,
    *,
    first: EncodeLog | None = None,
    jobs: int = 1,
    on_frame: Callable[[FrameResult], None] | None = None,
    on_encode: Callable[[EncodeLog], None] | None = None,
    timeout_s: float = 120.0,
    backend: Backend | None = None,
    recipe: Recipe = DEFAULT_RECIPE,
) -> EncodeLog:
    """Encodes a clip as fast as libvpx can, for the costs of its frames.

    At the slower speeds several times, for the choice of its groups; see `env.control.gop`.

    Args:
      clip: what is to be encoded.
      settings: of the encode that follows.
      first_pass: of this clip.
      first: the first of them, where `first_probe` has made it already.
      jobs: probe encodes at a time; the outcome is the same.
      on_frame: called with each frame's result, for a progress display; from the first
        frame again with every probe encode, in this thread.
      on_encode: called with the log of each probe encode, in this thread; the best one may be
        none of them, but sections of several.
      timeout_s: watchdog, seconds in which the encoder works on one frame or stands still.
      backend: the encoder; None is libvpx.
      recipe: the constants of control.

    Returns:
      The best probe encode; its stream is not kept, only its size.

    Raises:
      EncoderError: the encoder failed or did not answer in time.
    """
    backend = backend or LibvpxBackend()
    prober = _Prober(clip, settings, first_pass, timeout_s, backend, recipe)

    def tell(choice: Choice, result: FrameResult) -> None:
        if on_frame is not None:
            on_frame(result)

    def probe_encodes(policy: Policy, choices: Sequence[tuple[GopLimits, ...]]) -> list[EncodeLog]:
        with ThreadScheduler(jobs) as scheduler:
            tasks = [(policy, gops) for gops in choices]
            logs = scheduler.gather(prober, tasks, on_progress=tell)
        for log in logs:
            if on_encode is not None:
                on_encode(log)
        return logs

    probe_plan = probe_plan_of(settings, recipe=recipe)
    gops = _first_gops(probe_plan)
    best = first
    if best is None:
        (best,) = probe_encodes(BasePolicy(), [gops])
    probe = ProbeRecord.of(best)
    step = next_probe_step(
        probe,
        settings.frame_budget(clip.fps),
        clip.num_frames,
        clip.width * clip.height,
        recipe=recipe,
    )
    if step is not None:
        (best,) = probe_encodes(ShiftedPolicy(step), [gops])
    # All others as far from libvpx's proposals: then they cost about the same.
    policy = ShiftedPolicy(probe.shift if step is None else step)
    lengths = [(GopLimits(frames=length),) for length in probe_plan.lengths[1:]]
    for other in probe_encodes(policy, lengths):
        best = better(best, other, recipe=recipe)
    fewer = [tuple(gop._replace(layers=n) for gop in best.gops) for n in probe_plan.layers]
    for other in probe_encodes(policy, fewer):
        best = better(best, other, recipe=recipe)
    return best


def first_probe(
    clip: ClipLike,
    settings: EncoderSettings,
    first_pass: FirstPassLike,
    *,
    on_frame: Callable[[FrameResult], None] | None = None,
    timeout_s: float = 120.0,
    backend: Backend | None = None,
    recipe: Recipe = DEFAULT_RECIPE,
) -> EncodeLog:
    """The probe encode that `run_probes` begins with, alone; that one takes it as `first`.

    Args:
      clip: what is to be encoded.
      settings: of the encode that follows.
      first_pass: of this clip.
      on_frame: called with each frame's result.
      timeout_s: watchdog, seconds in which the encoder works on one frame or stands still.
      backend: the encoder; None is libvpx.
      recipe: the constants of control.

    Raises:
      EncoderError: the encoder failed or did not answer in time.
    """
    gops = _first_gops(probe_plan_of(settings, recipe=recipe))
    return encode_probe(
        clip, settings, BasePolicy(), first_pass,
        gops=gops, on_frame=on_frame, timeout_s=timeout_s, backend=backend, recipe=recipe,
    )  # fmt: skip


def _first_gops(probe_plan: ProbePlan) -> tuple[GopLimits, ...]:
    return tuple(GopLimits(frames=length) for length in probe_plan.lengths[:1])


def encode_probe(
    clip: ClipLike,
    settings: EncoderSettings,
    policy: Policy,
    first_pass: FirstPassLike,
    *,
    gops: Sequence[GopLimits] = (),
    on_frame: Callable[[FrameResult], None] | None = None,
    timeout_s: float = 120.0,
    backend: Backend | None = None,
    recipe: Recipe = DEFAULT_RECIPE,
) -> EncodeLog:
    """One probe encode with a policy and limits of groups, for whoever wants another one.

    Args:
      clip: what is to be encoded.
      settings: of the encode that follows.
      policy: decides on each frame.
      first_pass: of this clip.
      gops: limits of groups of pictures.
      on_frame: called with each frame's result, in this thread.
      timeout_s: watchdog, seconds in which the encoder works on one frame or stands still.
      backend: the encoder; None is libvpx.
      recipe: the constants of control.

    Raises:
      EncoderError: the encoder failed or did not answer in time.
    """
    backend = backend or LibvpxBackend()
    prober = _Prober(clip, settings, first_pass, timeout_s, backend, recipe)

    def tell(choice: Choice, result: FrameResult) -> None:
        if on_frame is not None:
            on_frame(result)

    with ThreadScheduler(1) as scheduler:
        (log,) = scheduler.gather(prober, [(policy, tuple(gops))], on_progress=tell)
    return log


def probe_score(clip: ClipLike, settings: EncoderSettings, log: EncodeLog) -> EpisodeScore:
    """The raw score of a probe encode, as of any other encode."""
    return episode_score(clip, settings.rate_kbps, log.results, log.size_bytes)
