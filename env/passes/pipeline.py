"""Encode one clip with one policy, in as many passes as the settings say."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

from muzero_rc.env.codec.backend import Backend, ClipLike, FirstPassLike, LibvpxBackend
from muzero_rc.env.control.plan import DoubtsPlans, Plans
from muzero_rc.env.control.probe_record import ProbeRecord
from muzero_rc.env.control.recipe import DEFAULT_RECIPE, Recipe
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.control.work_budget import WorkSpent, check_time, plan_work
from muzero_rc.env.control.work_model import shipped_work_model
from muzero_rc.env.passes.one_pass import Rollout, encode_once
from muzero_rc.env.passes.probe import probe_score, run_probes
from muzero_rc.errors import InputError
from muzero_rc.output_files import take_place
from muzero_rc.types import EncodeLog, EpisodeScore, FrameResult, Policy, needs_blocks

__all__ = ["Pass", "Rollout", "pipeline", "rollout"]


class Pass(enum.Enum):
    """A step of the pipeline."""

    FIRST_PASS = "first pass"  # libvpx's statistics of every frame
    PROBE = "probe"  # quick encodes that tell what frames cost, see `env.passes.probe`
    FINAL = "final"
    UNPLANNED = "unplanned"  # the final pass without its plan, if the policy doubts that
    RETRY = "retry"  # the final pass again by what frames cost, if it ended off its target


def pipeline(
    settings: EncoderSettings,
    *,
    doubts_plans: bool = False,
    retry_off_target: bool = False,
    recipe: Recipe = DEFAULT_RECIPE,
) -> tuple[Pass, ...]:
    """The passes of an encode, in order.

    Args:
      settings: of the encode.
      doubts_plans: the policy plans, and may have its last pass made again; not with a budget
        of time.
      retry_off_target: make it again while it ends off its target.
      recipe: the constants of control.
    """
    if not settings.needs_probe:
        return Pass.FIRST_PASS, Pass.FINAL
    retries = (Pass.RETRY,) * (recipe.retry.max_encodes if retry_off_target else 0)
    unplanned = (Pass.UNPLANNED,) if doubts_plans and settings.time is None else ()
    return Pass.FIRST_PASS, Pass.PROBE, Pass.FINAL, *unplanned, *retries


def rollout(
    clip: ClipLike,
    settings: EncoderSettings,
    policy: Policy,
    *,
    first_pass: FirstPassLike | None = None,
    probe: ProbeRecord | None = None,
    first_probe: EncodeLog | None = None,
    output: Path | None = None,
    retry_off_target: bool = False,
    jobs: int = 1,
    on_frame: Callable[[FrameResult], None] | None = None,
    on_probe_frame: Callable[[FrameResult], None] | None = None,
    timeout_s: float = 120.0,
    backend: Backend | None = None,
    recipe: Recipe = DEFAULT_RECIPE,
) -> Rollout:
    """Encodes a clip, asking the policy before each coded frame.

    With three passes a probe is run first; a policy of `Plans` then plans the last pass.

    Args:
      clip: what to encode.
      settings: how; the target bitrate is one of them.
      policy: answers which qindex.
      first_pass: of this clip; None runs it, or takes it from the cache.
      probe: of this clip and settings, for three passes; None runs it.
      first_probe: the first one that is run, where `env.passes.probe.first_probe` has made it
        already.
      output: file for the encoded stream as it is made; None keeps it in memory. With a file,
        results have checksums of what is shown, to be compared with what is decoded of it.
      retry_off_target: encode again, knowing what frames cost, if three passes end off
        their target.
      jobs: probes that are run at a time, where there are several.
      on_frame: called with each frame's result, for a progress display; from the first
        frame again, if it is encoded again.
      on_probe_frame: likewise, of the probe, with every probe encode.
      timeout_s: watchdog, seconds in which the encoder works on one frame or stands still.
      backend: the encoder; None is libvpx.
      recipe: the constants of control.

    Raises:
      EncoderError: the encoder failed or did not answer in time.
      InputError: settings, or what the policy answered, cannot be used.
    """
    backend = backend or LibvpxBackend()
    passes = pipeline(
        settings,
        doubts_plans=isinstance(policy, DoubtsPlans),
        retry_off_target=retry_off_target,
        recipe=recipe,
    )
    if first_pass is None:
        first_pass = backend.first_pass(clip, settings, blocks=needs_blocks(policy))
    start = time.perf_counter()
    made: list[EncodeLog] = []  # probe encodes that are run here, if their work counts
    check_time(settings)
    if Pass.PROBE not in passes:
        probe = None
    elif probe is None:
        log = run_probes(
            clip, settings, first_pass,
            first=first_probe, jobs=jobs, on_frame=on_probe_frame,
            on_encode=None if settings.time is None else made.append,
            timeout_s=timeout_s, backend=backend, recipe=recipe,
        )  # fmt: skip
        probe = ProbeRecord.of(log)
    unplanned = probe
    if probe is not None and probe.log is not None and isinstance(policy, Plans):
        probe = probe.with_plan(policy.plan(clip, settings, probe.log))
    work: WorkSpent | None = None
    if probe is not None and settings.time is not None:
        probe, work = _with_work(probe, settings, clip.fps, made, first_probe)
    probe_seconds = time.perf_counter() - start
    final_pass = functools.partial(
        encode_once, clip, settings, policy, first_pass,
        checksums=output is not None,
        on_frame=on_frame, timeout_s=timeout_s, backend=backend, recipe=recipe,
    )  # fmt: skip
    done = final_pass(probe=probe, output=output)
    work = _and_encode(work, done)
    decision_seconds = done.decision_seconds
    if (
        Pass.UNPLANNED in passes
        and isinstance(policy, DoubtsPlans)
        and unplanned is not probe
        and unplanned is not None
        and unplanned.log is not None
        and policy.doubts(done.score, probe_score(clip, settings, unplanned.log), settings)
    ):
        with _beside(output) as path:
            again = final_pass(probe=unplanned, output=path)
            decision_seconds += again.decision_seconds
            if _is_better(again.score, done.score, policy, recipe):
                done = _in_place(again, path, output)
    for _ in range(passes.count(Pass.RETRY)):
        if done.refined is None:
            break
        with _beside(output) as path:
            again = final_pass(probe=done.refined, output=path)
            decision_seconds += again.decision_seconds
            work = _and_encode(work, again)
            if abs(again.score.overshoot) >= abs(done.score.overshoot):
                break
            done = _in_place(again, path, output)
    return dataclasses.replace(
        done,
        seconds=time.perf_counter() - start,
        decision_seconds=decision_seconds,
        probe_seconds=probe_seconds,
        work=work,
    )


def _with_work(
    probe: ProbeRecord,
    settings: EncoderSettings,
    fps: Fraction,
    made: Sequence[EncodeLog],
    first_probe: EncodeLog | None,
) -> tuple[ProbeRecord, WorkSpent]:
    """The probe with the last pass's budget of work, and the work that was done here so far."""
    if probe.log is None:
        raise InputError("a budget of time goes by the log of the probe encode")
    model = shipped_work_model()
    here = sum(model.work_of(log.results) for log in made)
    before = first_probe
    if before is None and not made:
        before = probe.log
    spent = here if before is None else here + model.work_of(before.results)
    plan, vbr = plan_work(settings, probe.log, fps, spent, model)
    return dataclasses.replace(probe, work=plan), WorkSpent(here, vbr)


def _and_encode(work: WorkSpent | None, done: Rollout) -> WorkSpent | None:
    """The work with that of a last pass."""
    if work is None:
        return None
    more = shipped_work_model().work_of(done.log.results)
    return dataclasses.replace(work, seconds=work.seconds + more)


def _is_better(
    score: EpisodeScore, other: EpisodeScore, policy: DoubtsPlans, recipe: Recipe
) -> bool:
    """Whether an encode is to stand in another one's place: by its target, then by its gain."""
    over, other_over = (s.overshoot > recipe.retry.over for s in (score, other))
    return other_over if over != other_over else policy.gained(score, other) > 0.0


def _in_place(done: Rollout, path: Path | None, output: Path | None) -> Rollout:
    """The encode, its stream moved to where the output is to be."""
    if path is None or output is None:
        return done
    take_place(path, output)
    return dataclasses.replace(done, stream=dataclasses.replace(done.stream, path=output))


@contextlib.contextmanager
def _beside(output: Path | None) -> Iterator[Path | None]:
    """A file beside another one for the while."""
    path = None if output is None else output.with_name(f"{output.name}.again")
    try:
        yield path
    finally:
        if path is not None:
            path.unlink(missing_ok=True)
