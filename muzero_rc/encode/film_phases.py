"""The phases of a film in chunks: probe encodes, last passes, repairs, and the joined stream.

Each phase decodes the film once and hands its chunks to workers in their order. Where it needs
few of them, it seeks to them (`env.codec.parts`). What is finished is kept
(`encode.chunk_store`), and not made again by a later start.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from muzero_rc.compute import Compute
from muzero_rc.encode.chunk_jobs import (
    LastPass,
    LastPassTask,
    Probe,
    ProbeTask,
    RealtimeTask,
    Taken,
    taken_of,
)
from muzero_rc.encode.chunk_store import ChunkFiles, ChunkRecord
from muzero_rc.encode.coarsest import Coarsest, hardest
from muzero_rc.encode.cut import Chunk
from muzero_rc.encode.film_teller import FilmTeller
from muzero_rc.encode.frame_hashes import KeptHashes
from muzero_rc.encode.hold_back import HOLD_BACKS, cannot_be_kept, raised
from muzero_rc.encode.job_progress import OnAhead, OnChance, OnFrames
from muzero_rc.encode.repairs import Repairs
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
from muzero_rc.env.codec.settings import MAX_TARGET_KBPS
from muzero_rc.env.control.recipe import DEFAULT_RECIPE, Recipe
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.control.work_budget import FilmWork, WorkSpent, film_work
from muzero_rc.errors import EncoderError
from muzero_rc.leaky_bucket import Bucket, Excess
from muzero_rc.types import EncodeLog, Policy
from muzero_rc.video.ivf import ivf_packet_bits, join_ivf

__all__ = ["CONTROLLED_MISS", "MOST_REPAIRS", "TURNS", "FilmPhases", "Made", "Shape", "StartKbps"]

_Task = TypeVar("_Task", ProbeTask, RealtimeTask, LastPassTask)
MOST_REPAIRS = 6
"""How often chunks of constant quality are made again at most, for the film's target.

A bound, not tuned: they are few and short, and the film is to end within its tolerance.
"""

TURNS = 1 + max(MOST_REPAIRS, DEFAULT_RECIPE.retry.max_encodes) + HOLD_BACKS
"""How often a chunk is made at most for one bitrate of the film."""

_KBPS = (1, MAX_TARGET_KBPS)  # what libvpx takes
CONTROLLED_MISS = 0.03
"""What a chunk misses of what it is asked for, where its rate is controlled.

By it a film of 20 chunks has some made again as often as training films had
(docs/notes/2026-11-30-time-left-of-films.md).
"""


StartKbps = Callable[[Sequence[Curve], float], float | None]
"""The film's bitrate by the chunks' curves and its seconds; None for the settings' own."""


def _nothing_before(index: int) -> Sequence[int]:
    """A task that needs no answers."""
    return ()


@dataclass(frozen=True, slots=True)
class Shape:
    """Size, rate and length of a chunk that is not in memory."""

    width: int
    height: int
    fps: Any
    num_frames: int


@dataclass(frozen=True, slots=True)
class Made:
    """What the encodes of all chunks came to.

    Attributes:
      turns: how often each chunk was made before the encode of it that counts.
      probe_seconds: what went by before the last passes.
      work: what was counted, where the settings have a time.
    """

    turns: dict[int, int]
    probe_seconds: float = 0.0
    work: WorkSpent | None = None


class FilmPhases:
    """The phases of one film at one bitrate, and the chunks that they leave."""

    def __init__(
        self,
        clip: Clip,
        settings: EncoderSettings,
        policy: Policy,
        statistics: FirstPass,
        files: ChunkFiles,
        chunks: Sequence[Chunk],
        workers: int,
        read_ahead: bool,
        first_turn: int,
        on_frames: OnFrames,
        on_ahead: OnAhead,
        on_chance: OnChance,
        compute: Compute,
        recipe: Recipe,
    ) -> None:
        self._clip = clip
        self._settings = settings
        self._policy = policy
        self._statistics = statistics
        self._files = files
        self._hashes = KeptHashes(clip, files)
        self._chunks = chunks
        self._workers = workers
        self._read_ahead = read_ahead
        self._first_turn = first_turn
        uniform = settings.speed_profile == "uniform"
        self._teller = FilmTeller(chunks, workers, uniform, on_frames, on_ahead, on_chance)
        self._compute = compute
        self._recipe = recipe
        self._work: FilmWork | None = None
        self._backend = LibvpxBackend()
        self._round = 0
        self._plan(settings.target_kbps)

    @property
    def _repairs(self) -> int:
        """How often chunks are made again at most, for one bitrate of the film."""
        return self._recipe.retry.max_encodes

    def _plan(self, kbps: int) -> None:
        """libvpx's targets of all chunks, of a film at a bitrate in kbit/s."""
        self._planned = kbps
        self._spend(kbps)
        starts = [chunk.start for chunk in self._chunks]
        parts = first_shares(self._statistics.stats, starts)
        self._plans = [
            round(min(max(self._kbps(chunk, self.bits * part), _KBPS[0]), _KBPS[1]))
            for chunk, part in zip(self._chunks, parts, strict=True)
        ]
        self._teller.weigh(parts)

    def _plan_nearer(self, kbps: float) -> bool:
        """Plans anew for a bitrate that is far from the plan's; False if that is near enough."""
        if not is_far(kbps, self._planned) or self._round + 1 >= MOST_PROBES:
            return False
        self._round += 1
        self._plan(max(1, round(kbps)))
        return True

    def _spend(self, kbps: float | None) -> None:
        """The film's bitrate from here on, kbit/s; None leaves it as it is."""
        if kbps is not None:
            self.kbps = kbps
            self._frame_budget = kbps * 1000.0 / float(self._clip.fps)
            self.bits = self._frame_budget * self._clip.num_frames

    def encode_all(self, start_kbps: StartKbps) -> Made:
        """Encodes all chunks for good, at the film's bitrate.

        Args:
          start_kbps: tells it by the probe encodes, where settings have no `budget_kbps`.
        """
        if self._settings.rc_mode == "q":  # nothing is shared
            return Made(dict.fromkeys(self._last_passes(None), self._first_turn))
        start = time.perf_counter()
        curves = self._probes()
        wanted = start_kbps(curves, self._clip.duration_s)
        while wanted is not None and self._plan_nearer(wanted):
            curves = self._probes()
            wanted = start_kbps(curves, self._clip.duration_s)
        work = self._plan_work()
        probe_seconds = time.perf_counter() - start
        given = self._settings.budget_kbps
        self._spend(wanted if given is None else given)
        taken = self._last_passes(FilmBudget(curves, self.bits, recipe=self._recipe))
        turns = self._repair(curves, taken)
        spent = None
        if work is not None:
            spent = WorkSpent(work.probes + self._work_of_last_passes(), work.vbr)
        return Made(turns, probe_seconds, spent)

    def _probes(self) -> list[Curve]:
        """What all chunks' bits buy; probes that are kept are not run again."""
        curves: dict[int, Curve] = {}
        for chunk in self._chunks:
            log = self._files.probe(chunk.index, self._round)
            if log is not None:
                shape = Shape(self._clip.width, self._clip.height, self._clip.fps, chunk.frames)
                curves[chunk.index] = curve_of(log, shape, self._frame_budget, recipe=self._recipe)
                self._teller.add_kept("probe", chunk.index)

        def task(chunk: Chunk, clip: Clip) -> ProbeTask:
            settings = self._settings_of(chunk)
            return ProbeTask(chunk, clip, self._first_pass(chunk), settings, self._round)

        handle = Probe(self._files, self._frame_budget, self._backend, self._recipe)
        todo = [chunk for chunk in self._chunks if chunk.index not in curves]
        self._run("probe", handle, todo, task, curves)
        return [curves[chunk.index] for chunk in self._chunks]

    def _plan_work(self) -> FilmWork | None:
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

    def _last_passes(self, budget: FilmBudget | None) -> dict[int, Taken]:
        """Encodes all chunks for good, each with its share; without a budget all alike."""
        if budget is not None:
            self._teller.weigh(budget.first_shares(), budget.seconds)
        taken = self._kept("second pass", range(len(self._chunks)), self._first_turn)
        asked = {index: found.asked for index, found in taken.items()}

        def doubt() -> None:
            if budget is not None:
                self._doubt(asked, taken, budget.unsettled, CONTROLLED_MISS)

        doubt()

        def task(chunk: Chunk, clip: Clip) -> LastPassTask:
            if budget is None:
                return self._last_pass(chunk, clip, self._first_turn, 0.0)
            bits = {index: float(found.bits) for index, found in taken.items()}
            asked[chunk.index] = budget.share(chunk.index, asked, bits)
            return self._last_pass(chunk, clip, self._first_turn, asked[chunk.index])

        todo = [chunk for chunk in self._chunks if chunk.index not in taken]
        before = _nothing_before if budget is None else budget.known_before
        self._run("second pass", self._handle(), todo, task, taken, before, doubt)
        return taken

    def _doubt(
        self,
        expected: Mapping[int, float],
        taken: Mapping[int, Taken],
        unsettled: Collection[int],
        usual: float,
        alike: bool = True,
    ) -> None:
        """Tells how likely chunks are made again, by what finished ones took."""
        self._teller.doubt(
            "second pass", expected, taken, self.bits, unsettled, usual,
            self._recipe.film_share.tolerance, alike=alike,
        )  # fmt: skip

    def _repair(self, curves: Sequence[Curve], taken: Mapping[int, Taken]) -> dict[int, int]:
        """Makes chunks again until the film is near enough its target, or all turns are used.

        Args:
          curves: of all chunks.
          taken: by all chunks.

        Returns:
          How often each chunk was made before the encode of it that counts.
        """
        first = self._first_turn
        found = Repairs(curves, self.bits, taken, turn=first, recipe=self._recipe)
        last = first + self._repairs
        for turn in range(first + 1, last + 1):
            asks = found.asks(last=turn == last)
            if not asks:
                break
            self._teller.add_ahead("second pass", asks)
            made = self._kept("second pass", asks, turn)

            def task(
                chunk: Chunk, clip: Clip, turn: int = turn, asks: Mapping[int, float] = asks
            ) -> LastPassTask:
                return self._last_pass(chunk, clip, turn, asks[chunk.index])

            todo = [self._chunks[index] for index in asks if index not in made]
            self._run("second pass", self._handle(), todo, task, made)
            found.add(turn, made)
        return found.turns

    def _work_of_last_passes(self) -> float:
        """Seconds of work in all last passes, those that do not count included."""
        # One record at a time: those of a long film would fill the memory.
        made = (
            self._files.record(chunk.index, turn)
            for chunk in self._chunks
            for turn in range(self._first_turn + TURNS)
        )
        return sum(record.work for record in made if record is not None)

    def record(self, index: int, turn: int) -> ChunkRecord:
        """Of a chunk that is finished.

        Raises:
          EncoderError: it is gone, or its stream is not what was written.
        """
        record = self._files.record(index, turn)
        if record is None:
            raise EncoderError(
                f"chunk {index} in {self._files.folder} is gone or damaged; start again"
            )
        return record

    def join(self, turns: Mapping[int, int], output: Path) -> int:
        """Writes the film's stream; its bytes."""
        streams = ((self._files.stream(c.index, turns[c.index]), c.frames) for c in self._chunks)
        return join_ivf(streams, output)

    def check_bucket(self, bucket: Bucket) -> None:
        """Refuses a bucket that cannot be kept, before chunks are encoded for good.

        As many chunks as are encoded at a time are looked at, see `encode.coarsest`.

        Raises:
          AimMissedError: it underflows however coarse the frames are.
        """
        last = (self._files.record(chunk.index, self._first_turn) for chunk in self._chunks)
        if any(record is not None for record in last):
            return  # it was looked at
        fps = self._clip.fps
        todo = hardest(self._statistics.stats, self._chunks, bucket, fps, self._workers)
        found: dict[int, list[int]] = {}
        handle = Coarsest(self._policy, self._backend, self._recipe)
        self._run("second pass", handle, todo, self._coarsest_task, found)
        for chunk in todo:
            for excess in bucket.excesses(found[chunk.index], fps):
                first, last_one = excess.first + chunk.start, excess.last + chunk.start
                raise cannot_be_kept(excess._replace(first=first, last=last_one))

    def _coarsest_task(self, chunk: Chunk, clip: Clip) -> LastPassTask:
        return self._last_pass(chunk, clip, self._first_turn, 0.0)

    def hold_back(self, bucket: Bucket, turns: dict[int, int], output: Path) -> int:
        """Makes chunks again, coarser, until the bucket never underflows; the film's bytes.

        Args:
          bucket: that the film goes through.
          turns: of the chunks that count; those that were made again change.
          output: the film's stream, written anew each time.
        """
        size = sum(ivf_packet_bits(output)) // 8
        floors: dict[int, tuple[int, ...]] = {}
        first = self._first_turn + 1 + self._repairs
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
                    record = self.record(chunk.index, turns[chunk.index])
                    before = floors.get(chunk.index, ())
                    floors[chunk.index] = raised(record.log, before, own, round_)
                    concerned[chunk.index] = record.asked
            turn = first + round_
            self._teller.add_ahead("second pass", concerned)
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
        raise cannot_be_kept(excesses[0])

    def _run(
        self,
        phase: str,
        handle: Callable[[_Task], Any],
        todo: Sequence[Chunk],
        task_of: Callable[[Chunk, Clip], _Task],
        answers: dict[int, Any],
        known_before: Callable[[int], Sequence[int]] = _nothing_before,
        on_answer: Callable[[], None] = lambda: None,
    ) -> None:
        """Runs a task for each of some chunks, in their order, as the film is decoded once.

        Nothing is decoded behind the last of them, unless the film ends with it.

        Args:
          phase: that the tasks' frames count for.
          handle: what is done.
          todo: the chunks.
          task_of: makes a task, when everything is there that it needs to know.
          answers: gets the answers by chunk.
          known_before: chunks whose answers must be there before a task is made.
          on_answer: called when an answer is there.
        """
        if not todo:
            return
        todo = sorted(todo, key=lambda chunk: chunk.index)

        def collect(scheduler: Any) -> None:
            for work in scheduler.wait():
                answers[work.task.chunk.index] = work.result()
                on_answer()

        lengths = [chunk.frames for chunk in self._chunks]
        parts = self._clip.parts(lengths, [chunk.index for chunk in todo])
        with contextlib.closing(parts), self._compute(self._workers) as scheduler:
            for chunk in todo:
                clip = None  # else the chunk before would stay while this one is read
                while not (self._read_ahead or scheduler.room_for()):
                    collect(scheduler)
                clip = next(parts)
                self._hashes.keep()
                while not scheduler.room_for() or any(
                    index not in answers for index in known_before(chunk.index)
                ):
                    collect(scheduler)
                scheduler.submit(
                    handle,
                    task_of(chunk, clip),
                    on_progress=lambda task, frames: self._teller.add(
                        phase, task.chunk.index, frames
                    ),
                )
            clip = None
            next(parts, None)  # whether the film ends there, if the last chunk was read
            while scheduler.running:
                collect(scheduler)

    def _kept(self, phase: str, indexes: Any, turn: int) -> dict[int, Taken]:
        """Chunks that an earlier start has finished."""
        found = {}
        for index in indexes:
            record = self._files.record(index, turn)
            if record is not None:
                found[index] = taken_of(record)
                self._teller.add_kept(phase, index)
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
