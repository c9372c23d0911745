"""Probe encodes: near its target, and with the groups of pictures that suit the clip."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from muzero_rc.env.codec.backend import Backend, ClipLike, FirstPassLike, LibvpxBackend
from muzero_rc.env.control.baselines import BasePolicy, ShiftedPolicy
from muzero_rc.env.control.gop import better, probe_plan_of
from muzero_rc.env.control.probe_record import ProbeRecord
from muzero_rc.env.control.rate.probe import next_probe_step
from muzero_rc.env.control.recipe import DEFAULT_RECIPE, Recipe
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.passes.one_pass import encode_once
from muzero_rc.env.passes.stepper import episode_score
from muzero_rc.types import EncodeLog, EpisodeScore, FrameResult, GopLimits, Policy

__all__ = ["probe_score", "run_probes"]


class _Stopped(Exception):
    """Another probe encode has failed, or somebody pressed Ctrl-C."""


def run_probes(
    clip: ClipLike,
    settings: EncoderSettings,
    first_pass: FirstPassLike,
    *,
    jobs: int = 1,
    on_frame: Callable[[FrameResult], None] | None = None,
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
      jobs: probe encodes at a time; the outcome is the same.
      on_frame: called with each frame's result, for a progress display; from the first
        frame again with every probe encode, and from as many threads as there are jobs.
      timeout_s: longest wait for the encoder, seconds.
      backend: the encoder; None is libvpx.
      recipe: the constants of control.

    Returns:
      The best probe encode; its stream is not kept, only its size.

    Raises:
      EncoderError: the encoder failed or did not answer in time.
    """
    backend = backend or LibvpxBackend()
    stopped = threading.Event()

    def watch(result: FrameResult) -> None:
        if stopped.is_set():
            raise _Stopped
        if on_frame is not None:
            on_frame(result)

    def probe_encode(policy: Policy, gops: tuple[GopLimits, ...]) -> EncodeLog:
        done = encode_once(
            clip, settings.of_probe, policy, first_pass,
            gops=gops,
            output=Path(os.devnull),  # a film's probe would be hundreds of megabytes of memory
            on_frame=watch, timeout_s=timeout_s, backend=backend, recipe=recipe,
        )  # fmt: skip
        return done.log

    def probe_encodes(choices: Sequence[tuple[GopLimits, ...]]) -> Iterator[EncodeLog]:
        if jobs == 1 or len(choices) < 2:
            yield from (probe_encode(policy, gops) for gops in choices)
            return
        with ThreadPoolExecutor(min(jobs, len(choices))) as pool:
            try:
                yield from pool.map(lambda gops: probe_encode(policy, gops), choices)
            except BaseException:
                stopped.set()  # Ctrl-C arrives here, not in the threads
                raise

    probe_plan = probe_plan_of(settings, recipe=recipe)
    gops = tuple(GopLimits(frames=length) for length in probe_plan.lengths[:1])
    best = probe_encode(BasePolicy(), gops)
    probe = ProbeRecord.of(best)
    step = next_probe_step(
        probe,
        settings.frame_budget(clip.fps),
        clip.num_frames,
        clip.width * clip.height,
        recipe=recipe,
    )
    if step is not None:
        best = probe_encode(ShiftedPolicy(step), gops)
    # All others as far from libvpx's proposals: then they cost about the same.
    policy = ShiftedPolicy(probe.shift if step is None else step)
    for other in probe_encodes([(GopLimits(frames=length),) for length in probe_plan.lengths[1:]]):
        best = better(best, other, recipe=recipe)
    fewer = [tuple(gop._replace(layers=n) for gop in best.gops) for n in probe_plan.layers]
    for other in probe_encodes(fewer):
        best = better(best, other, recipe=recipe)
    return best


def probe_score(clip: ClipLike, settings: EncoderSettings, log: EncodeLog) -> EpisodeScore:
    """The raw score of a probe encode, as of any other encode."""
    return episode_score(clip, settings.target_kbps, log.results, log.size_bytes)
