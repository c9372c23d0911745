"""What is done to a chunk of a film, elsewhere: its probe encode, and its last pass.

Handlers and tasks of `muzero_rc.compute`. A task carries its frames. It writes what it made
into the chunks' folder itself, so that a finished chunk is kept whatever happens to the
process that asked for it.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from muzero_rc.compute import check_cancelled, report
from muzero_rc.encode.chunk_store import ChunkFiles, ChunkRecord
from muzero_rc.encode.controlled_quality import ControlledQualityPolicy, Goal, controlled_quality_at
from muzero_rc.encode.cut import Chunk
from muzero_rc.encode.level import Level, at_level
from muzero_rc.encode.realtime_probe import RealtimeProbe, realtime_probe
from muzero_rc.encode.share import Curve, curve_of
from muzero_rc.env.codec.backend import Backend, ClipLike, FirstPassLike
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.control.gop import probe_plan_of
from muzero_rc.env.control.probe_record import ProbeRecord
from muzero_rc.env.control.rate.probe import next_probe_step
from muzero_rc.env.control.recipe import Recipe
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.passes.pipeline import rollout
from muzero_rc.env.passes.probe import first_probe, run_probes
from muzero_rc.errors import EncoderError
from muzero_rc.policies.registry import WithSpeedProfile
from muzero_rc.types import (
    KEEP,
    NUM_QINDEX,
    EncodeLog,
    FrameDecision,
    FrameResult,
    Observation,
    Policy,
)

__all__ = [
    "LastPass",
    "LastPassTask",
    "Probe",
    "ProbeInRealtime",
    "ProbeTask",
    "RealtimeTask",
    "Taken",
    "taken_of",
]


@dataclass(frozen=True, slots=True)
class ProbeTask:
    """A chunk to be probed.

    Attributes:
      chunk: which one.
      clip: its frames.
      first_pass: of it.
      settings: of its encode; the target is what libvpx would give it.
      plan: how often it was probed before, for another bitrate of the film.
    """

    chunk: Chunk
    clip: ClipLike
    first_pass: FirstPassLike
    settings: EncoderSettings
    plan: int = 0


@dataclass(frozen=True, slots=True)
class RealtimeTask:
    """A chunk to be encoded in real time.

    Attributes:
      chunk: which one.
      clip: its frames.
      settings: of the film.
      levels: qindex of the constant quality of each encode, by the name that it is kept under.
    """

    chunk: Chunk
    clip: Clip
    settings: EncoderSettings
    levels: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class LastPassTask:
    """A chunk to be encoded for good.

    Attributes:
      chunk: which one.
      clip: its frames.
      first_pass: of it.
      settings: with the chunk's share as `budget_kbps`, if it has one.
      turn: how often it was encoded before.
      asked: its share, bits; 0 where libvpx's constant quality decides.
      plan: which of its probe encodes counts.
      floors: lowest qindex of each coded frame, in coding order; none if there are none.
      level: of constant quality, where that decides and no rate control does.
      goal: that the level follows, if it is to.
    """

    chunk: Chunk
    clip: ClipLike
    first_pass: FirstPassLike
    settings: EncoderSettings
    turn: int
    asked: float
    plan: int = 0
    floors: tuple[int, ...] = ()
    level: Level | None = None
    goal: Goal | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """What a finished chunk took.

    Attributes:
      asked: bits that it was to take.
      bits: that it took.
      most: it cannot take more: half of its frames have the lowest qindex, or its policy does
        not follow rate control.
      least: it cannot take less: half of them have the highest, or likewise.
    """

    asked: float
    bits: int
    most: bool
    least: bool


@dataclass(frozen=True, slots=True)
class Probe:
    """Handler: runs a chunk's probe encode, keeps it, and answers with the chunk's curve.

    Attributes:
      files: where it is kept.
      frame_budget: target bits per shown frame of the film.
      backend: the encoder.
      recipe: the constants of control.
    """

    files: ChunkFiles
    frame_budget: float
    backend: Backend
    recipe: Recipe

    def __call__(self, task: ProbeTask) -> Curve:
        """Runs a task; reports each shown frame."""
        log = first_probe(
            task.clip, task.settings, task.first_pass,
            on_frame=_tell, backend=self.backend, recipe=self.recipe,
        )  # fmt: skip
        self.files.add_probe(task.chunk.index, log, task.plan)
        return curve_of(log, task.clip, self.frame_budget, recipe=self.recipe)


@dataclass(frozen=True, slots=True)
class ProbeInRealtime:
    """Handler: encodes a chunk in real time, and keeps what that told.

    Attributes:
      files: where it is kept.
      recipe: the constants of control.
    """

    files: ChunkFiles
    recipe: Recipe

    def __call__(self, task: RealtimeTask) -> dict[int, RealtimeProbe]:
        """Runs a task; reports frames now and then."""
        return {name: self._encode(task, name, level) for name, level in task.levels.items()}

    def _encode(self, task: RealtimeTask, name: int, level: float) -> RealtimeProbe:
        told = 0

        def tell(done: int) -> None:
            nonlocal told
            check_cancelled()
            report(done - told)
            told = done

        found = realtime_probe(task.clip, task.settings, level, on_frames=tell, recipe=self.recipe)
        report(found.frames - told)
        self.files.add_realtime_probe(task.chunk.index, dataclasses.asdict(found), name)
        return found


@dataclass(frozen=True, slots=True)
class LastPass:
    """Handler: encodes a chunk for good and keeps it.

    The target of the film is met by shares, so a chunk that misses its own is not made again
    here.

    Attributes:
      policy: decides on each frame; its answers depend on one encode alone.
      files: where the probe is, and where the chunk is kept.
      backend: the encoder.
      recipe: the constants of control.
    """

    policy: Policy
    files: ChunkFiles
    backend: Backend
    recipe: Recipe

    def __call__(self, task: LastPassTask) -> Taken:
        """Runs a task; reports each shown frame of the last pass."""
        index = task.chunk.index
        settings, policy, level = task.settings, self.policy, task.level
        quality: ControlledQualityPolicy | None = None
        if level is not None:
            settings, policy = at_level(settings, level, recipe=self.recipe)
            if task.goal is not None:
                policy = quality = controlled_quality_at(
                    settings, level, task.goal, recipe=self.recipe
                )

        def tell(result: FrameResult) -> None:
            if quality is not None:
                quality.take(result)
            _tell(result)

        first = self.files.probe(index, task.plan)
        if first is None and settings.needs_probe:
            raise EncoderError(
                f"the probe encode of chunk {index} is gone from {self.files.folder}"
            )
        # Under a budget of time the work of all probe encodes is counted where they are run.
        counted = task.settings.time is not None
        best = None if first is None or counted else self._best_probe(task, first)
        with self.files.new_stream(index, task.turn) as output:
            done = rollout(
                task.clip, settings, HeldBack(policy, task.floors),
                first_pass=task.first_pass, probe=best, first_probe=first, output=output,
                on_frame=tell, on_probe_frame=_check, backend=self.backend, recipe=self.recipe,
            )  # fmt: skip
        if done.score.shown_frames != task.chunk.frames:
            shown = done.score.shown_frames
            raise EncoderError(f"chunk {index}: {shown} of {task.chunk.frames} frames were coded")
        controlled = all(decision.qindex != KEEP for decision in done.log.decisions)
        work = 0.0 if done.work is None else done.work.seconds
        # A chunk of constant quality is asked for what its level brings.
        asked = task.asked
        if task.level is not None and not asked:
            asked = float(8 * done.log.size_bytes)
        if level is not None and quality is not None:
            level = level._replace(qindex=quality.mean_level)
        record = ChunkRecord(done.log, asked, done.decision_seconds, controlled, work, level)
        self.files.add(index, task.turn, record)
        return taken_of(record)

    def _best_probe(self, task: LastPassTask, first: EncodeLog) -> ProbeRecord:
        """What probe encodes tell for this task: those of an earlier turn, if they are near."""
        index, clip = task.chunk.index, task.clip
        kept = self.files.best_probe(index, task.plan)
        if kept is not None:
            found = ProbeRecord.of(kept)
            budget, pixels = task.settings.frame_budget(clip.fps), clip.width * clip.height
            step = next_probe_step(found, budget, clip.num_frames, pixels, recipe=self.recipe)
            if step is None:
                return found
        best = run_probes(
            clip, task.settings, task.first_pass,
            first=first, on_frame=_check, backend=self.backend, recipe=self.recipe,
        )  # fmt: skip
        # Where one encode is all there is, and was near enough, it is kept already.
        if best is not first or probe_plan_of(task.settings, recipe=self.recipe).encodes > 1:
            self.files.add_best_probe(index, best, task.plan)
        return ProbeRecord.of(best)


class HeldBack(WithSpeedProfile):
    """A policy whose frames have lowest qindexes, for one encode."""

    def __init__(self, policy: Policy, floors: Sequence[int]) -> None:
        """Takes the policy, and the floors of coded frames in coding order."""
        super().__init__(policy, "hierarchical")
        self._floors = floors
        self._next = 0

    def decide(
        self, observations: Sequence[Observation], base: Sequence[FrameDecision]
    ) -> Sequence[FrameDecision]:
        """The policy's decisions, none below its floor."""
        decisions = list(self.policy.decide(observations, base))
        for place, decision in enumerate(decisions):
            floor = self._floors[self._next] if self._next < len(self._floors) else KEEP
            if decision.qindex < floor:
                decisions[place] = decision.with_qindex(floor)
            self._next += 1
        return decisions


def taken_of(record: ChunkRecord) -> Taken:
    """What a chunk took, from its record."""
    middle = statistics.median(record.log.qindexes)
    free = not record.controlled
    most, least = free or middle <= 0, free or middle >= NUM_QINDEX - 1
    return Taken(record.asked, record.bits, most, least)


def _tell(result: FrameResult) -> None:
    check_cancelled()
    if result.shown:
        report(1)


def _check(result: FrameResult) -> None:
    check_cancelled()
