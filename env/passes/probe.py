"""Flying a pilot: near its target, and with the groups of pictures that suit the clip."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from muzero_rc.env.codec.backend import Backend, ClipLike, FirstPassLike, LibvpxBackend
from muzero_rc.env.codec.settings import EncoderSettings
from muzero_rc.env.control.gop import Flight, GopLimits, better, survey_of
from muzero_rc.env.control.probe_record import PILOT_POLICY, Pilot, ShiftedPolicy, pilot_settings
from muzero_rc.env.control.rate.probe import next_flight
from muzero_rc.env.passes.one_pass import encode_once
from muzero_rc.env.passes.stepper import episode_score
from muzero_rc.types import EpisodeScore, FrameResult, Policy

__all__ = ["flight_score", "fly_pilot"]


class _Stopped(Exception):
    """Another flight has failed, or somebody pressed Ctrl-C."""


def fly_pilot(
    clip: ClipLike,
    settings: EncoderSettings,
    first_pass: FirstPassLike,
    *,
    jobs: int = 1,
    on_frame: Callable[[FrameResult], None] | None = None,
    timeout_s: float = 120.0,
    backend: Backend | None = None,
) -> Flight:
    """Encodes a clip as fast as libvpx can, for the costs of its frames; see `env.pilot`.

    At the slower speeds several times, for the choice of its groups; see `env.gops`.

    Args:
      clip: what is to be encoded.
      settings: of the encode that follows.
      first_pass: of this clip.
      jobs: flights at a time; the outcome is the same.
      on_frame: called with each frame's result, for a progress display; from the first
        frame again with every flight, and from as many threads as there are jobs.
      timeout_s: longest wait for the encoder, seconds.
      backend: the encoder; None is libvpx.

    Returns:
      The best flight; its stream is not kept, only its size.

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

    def flight(policy: Policy, gops: tuple[GopLimits, ...]) -> Flight:
        done = encode_once(
            clip, pilot_settings(settings), policy, first_pass,
            gops=gops,
            output=Path(os.devnull),  # a film's pilot would be hundreds of megabytes of memory
            on_frame=watch, timeout_s=timeout_s, backend=backend,
        )  # fmt: skip
        return Flight(done.frames, done.stream.size_bytes, gops)

    def flights(choices: Sequence[tuple[GopLimits, ...]]) -> Iterator[Flight]:
        if jobs == 1 or len(choices) < 2:
            yield from (flight(policy, gops) for gops in choices)
            return
        with ThreadPoolExecutor(min(jobs, len(choices))) as pool:
            try:
                yield from pool.map(lambda gops: flight(policy, gops), choices)
            except BaseException:
                stopped.set()  # Ctrl-C arrives here, not in the threads
                raise

    survey = survey_of(settings)
    gops = tuple(GopLimits(frames=length) for length in survey.lengths[:1])
    best = flight(PILOT_POLICY, gops)
    pilot = Pilot.of(best)
    step = next_flight(
        pilot,
        settings.frame_budget(clip.fps),
        clip.num_frames,
        clip.width * clip.height,
    )
    if step is not None:
        best = flight(ShiftedPolicy(step), gops)
    # All others as far from libvpx's proposals: then they cost about the same.
    policy = ShiftedPolicy(pilot.shift if step is None else step)
    for other in flights([(GopLimits(frames=length),) for length in survey.lengths[1:]]):
        best = better(best, other)
    fewer = [tuple(gop._replace(layers=n) for gop in best.gops) for n in survey.layers]
    for other in flights(fewer):
        best = better(best, other)
    return best


def flight_score(clip: ClipLike, settings: EncoderSettings, flight: Flight) -> EpisodeScore:
    """The raw score of a flight, as of any other encode."""
    results = (result for _, result in flight.frames)
    return episode_score(clip, settings.target_kbps, results, flight.size_bytes)
