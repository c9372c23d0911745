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
import dataclasses
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
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
from muzero_rc.encode.hold_back import HOLD_BACKS, raised
from muzero_rc.encode.share import (
    MOST_PROBES,
    Curve,
    FilmBudget,
    curve_of,
    first_shares,
    is_far,
)
from muzero_rc.env.codec.backend import LibvpxBackend
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import FirstPass
from muzero_rc.env.codec.key_frames import key_frames
from muzero_rc.env.control.baselines import ProposalPolicy, VbrPolicy
from muzero_rc.env.control.recipe import DEFAULT_RECIPE, Recipe
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.control.work_budget import FilmWork, WorkSpent, film_work
from muzero_rc.env.passes.stepper import episode_score
from muzero_rc.errors import AimMissedError, EncoderError
from muzero_rc.leaky_bucket import Bucket, Excess
from muzero_rc.log_columns import PackedResults
from muzero_rc.policies.registry import Prepared, WithSpeedProfile
from muzero_rc.types import EncodeLog, Policy
from muzero_rc.video.ivf import ivf_packet_bits, join_ivf

__all__ = ["TURNS", "as_settings", "encode_chunks", "in_chunks", "most_in_memory"]

_Task = TypeVar("_Task", ProbeTask, LastPassTask)
TURNS = 1 + DEFAULT_RECIPE.retry.max_encodes + HOLD_BACKS
"""How often a chunk is made at most for one bitrate of the film."""

_KBPS = (1, 1_000_000)  # what libvpx takes for a target

OnFrames = Callable[[str, int, bool], None]
"""Told a phase, frames that are done in it, and whether an earlier start had done them."""


StartKbps = Callable[[Sequence[Curve], float], float | None]


def as_settings(curves: Sequence[Curve], seconds: float) -> None:
    """The settings' own bitrate."""


def _ignore(phase: str, frames: int, kept: bool) -> None:
    """For whoever wants to know nothing."""


def in_chunks(policy: Policy, settings: EncoderSettings) -> bool:
    """Whether a film that is long enough is encoded in chunks.

    It is if probe encodes tell what chunks cost, and the policy follows rate control and has no
    need to see the whole film first; or if nothing is to be shared, with constant quality.
    """
    passes: int = settings.passes
    if isinstance(policy, WithSpeedProfile):
        passes, policy = settings.passes or policy.passes, policy.policy
    if settings.rc_mode == "q":
        return isinstance(policy, VbrPolicy | ProposalPolicy)
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
    start_kbps: StartKbps = as_settings,
    first_turn: int = 0,
    forced: Sequence[int] = (),
    bucket: Bucket | None = None,
    compute: Compute = ThreadScheduler,
    recipe: Recipe = DEFAULT_RECIPE,
) -> Encoded:
    """Encodes a film whose first pass is known.

    Args:
      clip: the film.
      settings: as the policy wants them; with a probe encode, or of constant quality.
      policy: decides on each frame; an answer depends on one encode alone.
      statistics: the first pass.
      files: where chunks are kept; those that are there are not made again.
      output: written: the film's stream, an IVF file.
      workers: chunks in work at a time.
      memory_bytes: that frames may take.
      on_frames: told the phase, "probe" or "second pass", how many shown frames more are done,
        and whether an earlier start had done them.
      start_kbps: the film's bitrate by the probe encodes' curves and its seconds, where
        settings have no `budget_kbps`; None for the settings' own.
      first_turn: how often all chunks were made before, for another bitrate.
      forced: frames that must be key frames, ascending, the first one not among them; chunks
        begin there, whatever their length.
      bucket: that must never underflow; chunks that make it do are made again, coarser.
      compute: where chunks are encoded.
      recipe: the constants of control.

    Raises:
      InputError: the film cannot be read any more, or the policy's answer cannot be used.
      EncoderError: the encoder failed.
      AimMissedError: the bucket underflows however coarse the frames are; the stream is there.
      OSError: the disk is full.
    """
    chunks: list[Chunk] = []
    for first, end in pairwise([0, *forced, clip.num_frames]):
        keys = key_frames(statistics.stats[first:end], clip, settings)
        for chunk in cut(keys.tolist(), end - first):
            chunks.append(Chunk(len(chunks), first + chunk.start, chunk.frames))
    largest = max(chunk.frames for chunk in chunks) * clip.frame_bytes
    workers, _ = most_in_memory(workers, largest, memory_bytes)
    film = _Film(
        clip, settings, policy, statistics, files, chunks, workers, first_turn, on_frames, compute,
        recipe,
    )  # fmt: skip
    start = time.perf_counter()
    probe_seconds = 0.0
    work = None
    if settings.rc_mode == "q":  # nothing is shared
        taken = film.last_passes(None)
        turns = {chunk.index: first_turn for chunk in chunks}
    else:
        curves = film.probes()
        wanted = start_kbps(curves, clip.duration_s)
        while wanted is not None and film.plan_nearer(wanted):
            curves = film.probes()
            wanted = start_kbps(curves, clip.duration_s)
        work = film.plan_work()
        probe_seconds = time.perf_counter() - start
        film.spend(wanted if settings.budget_kbps is None else settings.budget_kbps)
        budget = FilmBudget(curves, film.bits, recipe=recipe)
        taken = film.last_passes(budget)
        turns = film.repairs(budget, taken)
    size_bytes = film.join(turns, output)
    if bucket is not None:
        size_bytes = film.hold_back(bucket, turns, output)

    qindexes: list[int] = []
    decision_seconds = 0.0
    results = PackedResults()
    for chunk in chunks:
        record = _kept(files, chunk.index, turns[chunk.index])
        results.extend(record.log.frames)
        qindexes += record.log.qindexes
        decision_seconds += record.decision_seconds
    seconds = time.perf_counter() - start
    with output.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return Encoded(
        score=episode_score(clip, film.kbps, results, size_bytes),
        video_bytes=size_bytes,
        sha256=sha256,
        seconds=seconds,
        probe_seconds=probe_seconds,
        decision_seconds=decision_seconds,
        qindexes=qindexes,
        results=results,
        chunks=len(chunks),
        chunks_again=sum(turn > first_turn for turn in turns.values()),
        work=None if work is None else WorkSpent(work.probes + film.work_of(turns), work.vbr),
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
        first_turn: int,
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
        self._first_turn = first_turn
        self._on_frames = on_frames
        self._compute = compute
        self._recipe = recipe
        self._work: FilmWork | None = None
        self._backend = LibvpxBackend()
        self._round = 0
        self._plan(settings.target_kbps)

    def _plan(self, kbps: int) -> None:
        """libvpx's targets of all chunks, of a film at a bitrate in kbit/s."""
        self._planned = kbps
        self.spend(kbps)
        starts = [chunk.start for chunk in self._chunks]
        parts = first_shares(self._statistics.stats, starts)
        self._plans = [
            round(min(max(self._kbps(chunk, self.bits * part), _KBPS[0]), _KBPS[1]))
            for chunk, part in zip(self._chunks, parts, strict=True)
        ]

    def plan_nearer(self, kbps: float) -> bool:
        """Plans anew for a bitrate that is far from the plan's; False if that is near enough."""
        if not is_far(kbps, self._planned) or self._round + 1 >= MOST_PROBES:
            return False
        self._round += 1
        self._plan(max(1, round(kbps)))
        return True

    def spend(self, kbps: float | None) -> None:
        """The film's bitrate from here on, kbit/s; None leaves it as it is."""
        if kbps is not None:
            self.kbps = kbps
            self._frame_budget = kbps * 1000.0 / float(self._clip.fps)
            self.bits = self._frame_budget * self._clip.num_frames

    def probes(self) -> list[Curve]:
        """What all chunks' bits buy; probes that are kept are not run again."""
        curves: dict[int, Curve] = {}
        for chunk in self._chunks:
            log = self._files.probe(chunk.index, self._round)
            if log is not None:
                shape = _Shape(self._clip.width, self._clip.height, self._clip.fps, chunk.frames)
                curves[chunk.index] = curve_of(log, shape, self._frame_budget, recipe=self._recipe)
                self._on_frames("probe", chunk.frames, True)

        def task(chunk: Chunk, clip: Clip) -> ProbeTask:
            settings = self._settings_of(chunk)
            return ProbeTask(chunk, clip, self._first_pass(chunk), settings, self._round)

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
                log = self._files.probe(chunk.index, self._round)
                if log is None:
                    raise EncoderError(f"a probe encode is gone from {self._files.folder}")
                yield log

        self._work = film_work(self._settings, probes(), self._plans, self._clip.fps)
        return self._work

    def last_passes(self, budget: FilmBudget | None) -> dict[int, Taken]:
        """Encodes all chunks for good, each with its share; without a budget all alike."""
        taken = self._kept("second pass", range(len(self._chunks)), self._first_turn)
        asked = {index: found.asked for index, found in taken.items()}

        def task(chunk: Chunk, clip: Clip) -> LastPassTask:
            if budget is None:
                return self._last_pass(chunk, clip, self._first_turn, 0.0)
            bits = {index: float(found.bits) for index, found in taken.items()}
            asked[chunk.index] = budget.share(chunk.index, asked, bits)
            return self._last_pass(chunk, clip, self._first_turn, asked[chunk.index])

        todo = [chunk for chunk in self._chunks if chunk.index not in taken]
        before = () if budget is None else (budget.known_before,)
        self._run("second pass", self._handle(), todo, task, taken, *before)
        return taken

    def repairs(self, budget: FilmBudget, taken: dict[int, Taken]) -> dict[int, int]:
        """Makes chunks again until the film is near enough its target.

        Args:
          budget: of the film.
          taken: by all chunks; those that were made again change.

        Returns:
          How often each chunk was made before the one that counts.
        """
        first = self._first_turn
        turns = {chunk.index: first for chunk in self._chunks}
        for turn in range(first + 1, first + self._recipe.retry.max_encodes + 1):
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

    def work_of(self, turns: Mapping[int, int]) -> float:
        """Seconds of work in all last passes that are kept, those that do not count included."""
        # One record at a time: those of a long film would fill the memory.
        made = (
            self._files.record(chunk.index, turn)
            for chunk in self._chunks
            for turn in range(turns[chunk.index] + 1)
        )
        return sum(record.work for record in made if record is not None)

    def join(self, turns: Mapping[int, int], output: Path) -> int:
        """Writes the film's stream; its bytes."""
        streams = ((self._files.stream(c.index, turns[c.index]), c.frames) for c in self._chunks)
        return join_ivf(streams, output)

    def hold_back(self, bucket: Bucket, turns: dict[int, int], output: Path) -> int:
        """Makes chunks again, coarser, until the bucket never underflows; the film's bytes.

        Args:
          bucket: that the film goes through.
          turns: of the chunks that count; those that were made again change.
          output: the film's stream, written anew each time.
        """
        size = sum(ivf_packet_bits(output)) // 8
        floors: dict[int, tuple[int, ...]] = {}
        first = self._first_turn + 1 + self._recipe.retry.max_encodes
        for round_ in range(HOLD_BACKS + 1):
            excesses = bucket.excesses(ivf_packet_bits(output), self._clip.fps)
            if not excesses:
                return size
            if round_ == HOLD_BACKS:
                break
            concerned = {}
            for chunk in self._chunks:
                own = [
                    Excess(e.first - chunk.start, e.last - chunk.start, e.share)
                    for e in excesses
                    if e.first < chunk.end and e.last >= chunk.start
                ]
                if own:
                    record = _kept(self._files, chunk.index, turns[chunk.index])
                    before = floors.get(chunk.index, ())
                    floors[chunk.index] = raised(record.log, before, own, round_)
                    concerned[chunk.index] = record.asked
            turn = first + round_
            made = self._kept("second pass", concerned, turn)

            def task(
                chunk: Chunk, clip: Clip, turn: int = turn,
                asked: Mapping[int, float] = concerned,
            ) -> LastPassTask:  # fmt: skip
                found = self._last_pass(chunk, clip, turn, asked[chunk.index])
                return dataclasses.replace(found, floors=floors[chunk.index])

            todo = [self._chunks[index] for index in concerned if index not in made]
            self._run("second pass", self._handle(), todo, task, made)
            turns |= dict.fromkeys(concerned, turn)
            size = self.join(turns, output)
        worst = excesses[0]
        raise AimMissedError(
            f"--max-bitrate and --buffer cannot be kept: the frames from {worst.first} to "
            f"{worst.last} take {1 / worst.share - 1:.1%} too much however coarse they are; "
            "give more of one of them"
        )

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
        settings = self._settings_of(chunk)
        if bits > 0:
            settings = settings.replace(budget_kbps=self._kbps(chunk, bits))
        if self._work is not None:
            settings = settings.replace(budget_work=self._work.budgets[chunk.index])
        first_pass = self._first_pass(chunk)
        return LastPassTask(chunk, clip, first_pass, settings, turn, bits, self._round)

    def _first_pass(self, chunk: Chunk) -> FirstPass:
        return self._statistics.part(chunk.start, chunk.end)

    def _settings_of(self, chunk: Chunk) -> EncoderSettings:
        """Of a chunk's encodes, whose plans must be alike; each has one thread."""
        plan = self._plans[chunk.index]
        return self._settings.replace(target_kbps=plan, budget_kbps=None, threads=1, row_mt=False)

    def _kbps(self, chunk: Chunk, bits: float) -> float:
        return bits * float(self._clip.fps) / chunk.frames / 1000.0


def _kept(files: ChunkFiles, index: int, turn: int) -> ChunkRecord:
    record = files.record(index, turn)
    if record is None:
        raise EncoderError(f"chunk {index} is gone from {files.folder}")
    return record
