"""A film in chunks: probe encodes on all cores, one share of bits, last passes on all cores.

1. Chunks end at libvpx's key frames (`encode.cut`), which the first pass tells.
2. Every chunk has a probe encode.
3. All probes together tell each chunk its share of the film's bits (`encode.share`); while
   chunks are finished, what is left is shared anew.
4. Every chunk has its last pass, with its own rate control on its share.
5. If the film is off its target by more than the recipe allows, as few chunks as can mend it
   are made again.
6. The streams are joined.

Steps 2, 4 and 5 decode the film once each. No more than a stated number of chunks is in memory
(`most_in_memory`). Which bytes come out depends neither on the number of workers nor on where
an earlier start was stopped.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from muzero_rc.compute import Compute, ThreadScheduler
from muzero_rc.encode.chunk_jobs import (
    LastPass,
    LastPassTask,
    Probe,
    ProbeTask,
    Taken,
    taken_of,
)
from muzero_rc.encode.chunk_store import ChunkFiles, ChunkRecord
from muzero_rc.encode.cut import Chunk, cut
from muzero_rc.encode.encoded import Encoded
from muzero_rc.encode.share import Curve, FilmBudget, curve_of, first_shares
from muzero_rc.env.codec.backend import LibvpxBackend
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import FirstPass
from muzero_rc.env.codec.key_frames import key_frames
from muzero_rc.env.control.baselines import ProposalPolicy, VbrPolicy
from muzero_rc.env.control.recipe import DEFAULT_RECIPE, Recipe
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.control.work_budget import FilmWork, WorkSpent, film_work
from muzero_rc.env.passes.stepper import episode_score
from muzero_rc.errors import EncoderError
from muzero_rc.log_columns import PackedResults
from muzero_rc.policies.registry import Prepared, WithSpeedProfile
from muzero_rc.types import EncodeLog, Policy
from muzero_rc.video.ivf import join_ivf

__all__ = ["encode_chunks", "in_chunks", "most_in_memory"]

_Task = TypeVar("_Task", ProbeTask, LastPassTask)
_KBPS = (1, 1_000_000)  # what libvpx takes for a target

OnFrames = Callable[[str, int, bool], None]
"""Told a phase, frames that are done in it, and whether an earlier start had done them."""


def _ignore(phase: str, frames: int, kept: bool) -> None:
    """For whoever wants to know nothing."""


def in_chunks(policy: Policy, settings: EncoderSettings) -> bool:
    """Whether a film that is long enough is encoded in chunks.

    It is if probe encodes tell what chunks cost, and the policy follows rate control and has no
    need to see the whole film first.
    """
    passes: int = settings.passes
    if isinstance(policy, WithSpeedProfile):
        passes, policy = settings.passes or policy.passes, policy.policy
    if isinstance(policy, VbrPolicy | ProposalPolicy | Prepared):
        return False
    return passes == 3 and settings.speed_profile != "probe"


def most_in_memory(workers: int, chunk_bytes: int, memory_bytes: int) -> tuple[int, int]:
    """(workers, chunks in memory at a time): one for each worker, and one that is read.

    Args:
      workers: cores that may be used.
      chunk_bytes: frames of the largest chunk.
      memory_bytes: that frames may take; two chunks fit in any case.
    """
    workers = max(1, min(workers, memory_bytes // chunk_bytes - 1))
    return workers, workers + 1


def encode_chunks(
    clip: Clip,
    settings: EncoderSettings,
    policy: Policy,
    statistics: FirstPass,
    files: ChunkFiles,
    output: Path,
    *,
    workers: int,
    memory_bytes: int,
    on_frames: OnFrames = _ignore,
    compute: Compute = ThreadScheduler,
    recipe: Recipe = DEFAULT_RECIPE,
) -> Encoded:
    """Encodes a film whose first pass is known.

    Args:
      clip: the film.
      settings: as the policy wants them; with a probe encode.
      policy: decides on each frame; an answer depends on one encode alone.
      statistics: the first pass.
      files: where chunks are kept; those that are there are not made again.
      output: written: the film's stream, an IVF file.
      workers: chunks in work at a time.
      memory_bytes: that frames may take.
      on_frames: told the phase, "probe" or "second pass", how many shown frames more are done,
        and whether an earlier start had done them.
      compute: where chunks are encoded.
      recipe: the constants of control.

    Raises:
      InputError: the film cannot be read any more, or the policy's answer cannot be used.
      EncoderError: the encoder failed.
      OSError: the disk is full.
    """
    chunks = cut(key_frames(statistics.stats, clip, settings).tolist(), clip.num_frames)
    largest = max(chunk.frames for chunk in chunks) * clip.frame_bytes
    workers, _ = most_in_memory(workers, largest, memory_bytes)
    film = _Film(
        clip, settings, policy, statistics, files, chunks, workers, on_frames, compute, recipe
    )
    start = time.perf_counter()
    curves = film.probes()
    work = film.plan_work()
    probe_seconds = time.perf_counter() - start
    budget = FilmBudget(curves, film.bits, recipe=recipe)
    taken = film.last_passes(budget)
    turns = film.repairs(budget, taken)
    size_bytes = join_ivf(
        ((files.stream(c.index, turns[c.index]), c.frames) for c in chunks), output
    )

    qindexes: list[int] = []
    decision_seconds = 0.0
    results = PackedResults()
    seconds_of_work = 0.0 if work is None else work.probes
    for chunk in chunks:
        for turn in range(turns[chunk.index] + 1):
            tried = files.record(chunk.index, turn)
            seconds_of_work += 0.0 if tried is None else tried.work
        record = _kept(files, chunk.index, turns[chunk.index])
        results.extend(record.log.frames)
        qindexes += record.log.qindexes
        decision_seconds += record.decision_seconds
    seconds = time.perf_counter() - start
    with output.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return Encoded(
        score=episode_score(clip, settings.target_kbps, results, size_bytes),
        video_bytes=size_bytes,
        sha256=sha256,
        seconds=seconds,
        probe_seconds=probe_seconds,
        decision_seconds=decision_seconds,
        qindexes=qindexes,
        results=results,
        chunks=len(chunks),
        chunks_again=sum(turn > 0 for turn in turns.values()),
        work=None if work is None else WorkSpent(seconds_of_work, work.vbr),
    )


@dataclass(frozen=True, slots=True)
class _Shape:
    """Size, rate and length of a chunk that is not in memory."""

    width: int
    height: int
    fps: Any
    num_frames: int


class _Film:
    """The phases of one film."""

    def __init__(
        self,
        clip: Clip,
        settings: EncoderSettings,
        policy: Policy,
        statistics: FirstPass,
        files: ChunkFiles,
        chunks: Sequence[Chunk],
        workers: int,
        on_frames: OnFrames,
        compute: Compute,
        recipe: Recipe,
    ) -> None:
        self._clip = clip
        self._settings = settings
        self._policy = policy
        self._statistics = statistics
        self._files = files
        self._chunks = chunks
        self._workers = workers
        self._on_frames = on_frames
        self._compute = compute
        self._recipe = recipe
        self._work: FilmWork | None = None
        self._backend = LibvpxBackend()
        self._frame_budget = settings.frame_budget(clip.fps)
        self.bits = self._frame_budget * clip.num_frames
        parts = first_shares(statistics.stats, [chunk.start for chunk in chunks])
        self._plans = [
            round(min(max(self._kbps(chunk, self.bits * part), _KBPS[0]), _KBPS[1]))
            for chunk, part in zip(chunks, parts, strict=True)
        ]

    def probes(self) -> list[Curve]:
        """What all chunks' bits buy; probes that are kept are not run again."""
        curves: dict[int, Curve] = {}
        for chunk in self._chunks:
            log = self._files.probe(chunk.index)
            if log is not None:
                shape = _Shape(self._clip.width, self._clip.height, self._clip.fps, chunk.frames)
                curves[chunk.index] = curve_of(log, shape, self._frame_budget, recipe=self._recipe)
                self._on_frames("probe", chunk.frames, True)

        def task(chunk: Chunk, clip: Clip) -> ProbeTask:
            return ProbeTask(chunk, clip, self._first_pass(chunk), self._settings_of(chunk))

        handle = Probe(self._files, self._frame_budget, self._backend, self._recipe)
        todo = [chunk for chunk in self._chunks if chunk.index not in curves]
        self._run("probe", handle, todo, task, curves)
        return [curves[chunk.index] for chunk in self._chunks]

    def plan_work(self) -> FilmWork | None:
        """Gives every chunk its share of the film's time, when all are probed; None without one.

        Raises:
          InputError: the time cannot be kept.
        """
        if self._settings.time is None:
            return None

        def probes() -> Iterator[EncodeLog]:
            for chunk in self._chunks:
                log = self._files.probe(chunk.index)
                if log is None:
                    raise EncoderError(f"a probe encode is gone from {self._files.folder}")
                yield log

        self._work = film_work(self._settings, probes(), self._plans, self._clip.fps)
        return self._work

    def last_passes(self, budget: FilmBudget) -> dict[int, Taken]:
        """Encodes all chunks for good, each with its share."""
        taken = self._kept("second pass", range(len(self._chunks)), 0)
        asked = {index: found.asked for index, found in taken.items()}

        def task(chunk: Chunk, clip: Clip) -> LastPassTask:
            bits = {index: float(found.bits) for index, found in taken.items()}
            asked[chunk.index] = budget.share(chunk.index, asked, bits)
            return self._last_pass(chunk, clip, 0, asked[chunk.index])

        todo = [chunk for chunk in self._chunks if chunk.index not in taken]
        self._run("second pass", self._handle(), todo, task, taken, budget.known_before)
        return taken

    def repairs(self, budget: FilmBudget, taken: dict[int, Taken]) -> dict[int, int]:
        """Makes chunks again until the film is near enough its target.

        Args:
          budget: of the film.
          taken: by all chunks; those that were made again change.

        Returns:
          How often each chunk was made before the one that counts.
        """
        turns = {chunk.index: 0 for chunk in self._chunks}
        for turn in range(1, self._recipe.retry.max_encodes + 1):
            asked = {index: found.asked for index, found in taken.items()}
            bits = {index: float(found.bits) for index, found in taken.items()}
            spare = budget.off_target(bits) < 0
            stuck = {i for i, found in taken.items() if (found.most if spare else found.least)}
            asks = budget.again(asked, bits, stuck)
            if not asks:
                break
            made = self._kept("second pass", asks, turn)

            def task(
                chunk: Chunk, clip: Clip, turn: int = turn, asks: Mapping[int, float] = asks
            ) -> LastPassTask:
                return self._last_pass(chunk, clip, turn, asks[chunk.index])

            todo = [self._chunks[index] for index in asks if index not in made]
            self._run("second pass", self._handle(), todo, task, made)
            new = bits | {index: float(found.bits) for index, found in made.items()}
            if abs(budget.off_target(new)) >= abs(budget.off_target(bits)):
                break
            taken.update(made)
            turns |= dict.fromkeys(made, turn)
        return turns

    def _run(
        self,
        phase: str,
        handle: Callable[[_Task], Any],
        todo: Sequence[Chunk],
        task_of: Callable[[Chunk, Clip], _Task],
        answers: dict[int, Any],
        known_before: Callable[[int], Sequence[int]] = lambda index: (),
    ) -> None:
        """Runs a task for each of some chunks, in their order, as the film is decoded once.

        Args:
          phase: that the tasks' frames count for.
          handle: what is done.
          todo: the chunks.
          task_of: makes a task, when everything is there that it needs to know.
          answers: gets the answers by chunk.
          known_before: chunks whose answers must be there before a task is made.
        """
        if not todo:
            return
        wanted = {chunk.index for chunk in todo}
        last = todo[-1].index

        def collect(scheduler: Any) -> None:
            for work in scheduler.wait():
                answers[work.task.chunk.index] = work.result()

        parts = self._clip.parts([chunk.frames for chunk in self._chunks])
        with contextlib.closing(parts), self._compute(self._workers) as scheduler:
            # The parts first: after the last one they look whether the film ends there.
            for clip, chunk in zip(parts, self._chunks, strict=False):
                if chunk.index not in wanted:
                    continue
                while not scheduler.room_for() or any(
                    index not in answers for index in known_before(chunk.index)
                ):
                    collect(scheduler)
                scheduler.submit(
                    handle,
                    task_of(chunk, clip),
                    on_progress=lambda task, frames: self._on_frames(phase, frames, False),
                )
                if chunk.index == last < len(self._chunks) - 1:
                    break
            while scheduler.running:
                collect(scheduler)

    def _kept(self, phase: str, indexes: Any, turn: int) -> dict[int, Taken]:
        """Chunks that an earlier start has finished."""
        found = {}
        for index in indexes:
            record = self._files.record(index, turn)
            if record is not None:
                found[index] = taken_of(record)
                self._on_frames(phase, self._chunks[index].frames, True)
        return found

    def _handle(self) -> LastPass:
        return LastPass(self._policy, self._files, self._backend, self._recipe)

    def _last_pass(self, chunk: Chunk, clip: Clip, turn: int, bits: float) -> LastPassTask:
        settings = self._settings_of(chunk).replace(budget_kbps=self._kbps(chunk, bits))
        if self._work is not None:
            settings = settings.replace(budget_work=self._work.budgets[chunk.index])
        return LastPassTask(chunk, clip, self._first_pass(chunk), settings, turn, bits)

    def _first_pass(self, chunk: Chunk) -> FirstPass:
        return self._statistics.part(chunk.start, chunk.end)

    def _settings_of(self, chunk: Chunk) -> EncoderSettings:
        """Of a chunk's encodes, whose plans must be alike; each has one thread."""
        return self._settings.replace(target_kbps=self._plans[chunk.index], threads=1, row_mt=False)

    def _kbps(self, chunk: Chunk, bits: float) -> float:
        return bits * float(self._clip.fps) / chunk.frames / 1000.0


def _kept(files: ChunkFiles, index: int, turn: int) -> ChunkRecord:
    record = files.record(index, turn)
    if record is None:
        raise EncoderError(f"chunk {index} is gone from {files.folder}")
    return record
