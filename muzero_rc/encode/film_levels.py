"""A film in two passes: each chunk has the constant quality of a level of its own.

A whole probe encode is half of what a film costs at a uniform speed. Here an encode in real time
tells what a chunk will take (`encode.realtime_probe`), shares lead to levels, and what chunks
took more than expected is learned on the way (`encode.quality_budget`).
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence

from muzero_rc.encode.chunk_jobs import LastPassTask, ProbeInRealtime, RealtimeTask, Taken
from muzero_rc.encode.cut import Chunk
from muzero_rc.encode.film_phases import MOST_REPAIRS, FilmPhases, Made, Shape, StartKbps
from muzero_rc.encode.quality_budget import QualityBudget, common_level, first_levels
from muzero_rc.encode.realtime_model import REALTIME_MODEL
from muzero_rc.encode.realtime_probe import (
    START_LEVEL,
    ChunkForecast,
    RealtimeProbe,
    nearest_level,
    probe_of,
)
from muzero_rc.encode.share import MOST_PROBES, Curve, curve_of, is_far
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.control.rate.two_pass import empty_frame
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.types import NUM_QINDEX

__all__ = ["FilmLevels"]


class FilmLevels(FilmPhases):
    """The phases of such a film."""

    _forecasts: Sequence[ChunkForecast] = ()
    _curves: Mapping[int, Curve] = {}

    @property
    def _repairs(self) -> int:
        return MOST_REPAIRS

    def encode_all(self, start_kbps: StartKbps) -> Made:
        """Encodes all chunks for good, at levels that meet the film's bitrate.

        Args:
          start_kbps: tells it by what is expected, where settings have no `budget_kbps`.
        """
        start = time.perf_counter()
        self._spend(self._settings.budget_kbps)
        forecasts = self._forecast_all()
        level = START_LEVEL  # where all chunks were measured
        for _ in range(MOST_PROBES if self._settings.budget_kbps is None else 0):
            wanted = start_kbps([f.curve(level) for f in forecasts], self._clip.duration_s)
            if wanted is None:
                break
            far = is_far(wanted, self.kbps)
            self._spend(wanted)
            forecasts = self._forecast_all()
            if not far:  # else the curves tell little of what is wanted
                break
            level = common_level(forecasts, self.bits)
        probe_seconds = time.perf_counter() - start
        return Made(self._repair(*self._constant_quality()), probe_seconds)

    def _forecast_all(self) -> list[ChunkForecast]:
        """What is expected of all chunks by encodes of them in real time.

        A chunk is encoded so again where the level that it needs is far from the encode's.
        """
        pixels = self._clip.width * self._clip.height
        header = empty_frame(self._frame_budget, pixels, recipe=self._recipe)
        stats = [self._first_pass(chunk).stats for chunk in self._chunks]
        levels = dict.fromkeys(range(len(self._chunks)), START_LEVEL)
        found: dict[int, ChunkForecast] = {}
        seen: dict[int, float] = {}
        fine: dict[int, float] = {}
        for round_ in range(MOST_PROBES):
            for index, probe in self._realtime_probes(levels, round_, fine).items():
                found[index] = REALTIME_MODEL.forecast(probe, stats[index], pixels, header)
                seen[index] = probe.level
            forecasts = [found[chunk.index] for chunk in self._chunks]
            wanted = first_levels(forecasts, self.bits, recipe=self._recipe)
            levels = {
                index: level
                for index, level in enumerate(wanted)
                if is_far(found[index].bits_at(level), found[index].bits_at(seen[index]))
            }
            if not levels:
                break
            fine = self._fine(forecasts, wanted, doubted=True)
        self._weigh(
            [f.fixed + f.bits_at(level) for f, level in zip(forecasts, wanted, strict=True)]
        )
        self._forecasts = self._with_lossless(forecasts, wanted)
        return list(self._forecasts)

    def _with_lossless(
        self, forecasts: Sequence[ChunkForecast], levels: Sequence[float]
    ) -> list[ChunkForecast]:
        """With what it takes to code chunks without loss that may be worth it.

        The model knows lossy encodes alone; without loss a chunk takes in real time what it takes
        with a thorough search.
        """
        probes = self._realtime_probes(self._fine(forecasts, levels), MOST_PROBES)
        return [
            dataclasses.replace(
                forecast, lossless=2.0 ** probes[index].bits * forecast.frames * forecast.pixels
            )
            if index in probes
            else forecast
            for index, forecast in enumerate(forecasts)
        ]

    def _fine(
        self, forecasts: Sequence[ChunkForecast], levels: Sequence[float], *, doubted: bool = False
    ) -> dict[int, float]:
        """Level 0 of chunks whose levels are not far from it.

        Args:
          forecasts: of all chunks.
          levels: of them.
          doubted: forecasts may be far off themselves.
        """
        found = {}
        for index, (forecast, level) in enumerate(zip(forecasts, levels, strict=True)):
            bits, most = forecast.bits_at(level), forecast.bits_at(0.0)
            if not is_far(math.sqrt(bits * most) if doubted else bits, most):
                found[index] = 0.0
        return found

    def _constant_quality(self) -> tuple[list[Curve], dict[int, Taken]]:
        """Encodes all chunks with constant quality, each at its level, after `_forecast_all`.

        Returns:
          What all chunks' bits buy, and what they took.
        """
        ratio = REALTIME_MODEL.own_to_common
        budget = QualityBudget(self._forecasts, self.bits, ratio, recipe=self._recipe)
        taken = self._kept("second pass", range(len(self._chunks)), self._first_turn)
        levels = {index: self._level(index) for index in taken}
        curves: dict[int, Curve] = {}

        def curve(index: int) -> Curve:
            if index not in curves:
                log = self.record(index, self._first_turn).log
                curves[index] = curve_of(
                    log, self._shape(index), self._frame_budget, last=True, recipe=self._recipe
                )
            return curves[index]

        def task(chunk: Chunk, clip: Clip) -> LastPassTask:
            known = {index: curve(index) for index in budget.known_before(chunk.index)}
            levels[chunk.index] = budget.level(chunk.index, levels, known)
            return self._at_level(chunk, clip, self._first_turn, 0.0, levels[chunk.index])

        todo = [chunk for chunk in self._chunks if chunk.index not in taken]
        self._run("second pass", self._handle(), todo, task, taken, budget.known_before)
        self._curves = {chunk.index: curve(chunk.index) for chunk in self._chunks}
        return list(self._curves.values()), taken

    def _realtime_probes(
        self, levels: Mapping[int, float], round_: int, fine: Mapping[int, float] | None = None
    ) -> dict[int, RealtimeProbe]:
        """Encodes of some chunks in real time, at these levels; those that are kept stay.

        Args:
          levels: by chunk.
          round_: how often chunks were encoded so before; `MOST_PROBES` for those without loss.
          fine: chunks among them that may be encoded without loss later, and are in the same
            decode of the film.
        """
        fine = fine or {}
        probes: dict[int, RealtimeProbe] = {}
        for index, level in levels.items():
            told = self._files.realtime_probe(index, round_)
            if told is not None and told.get("level") == nearest_level(level):
                probes[index] = RealtimeProbe(**told)
            elif level == START_LEVEL and round_ == 0:
                beside = self._beside_first_pass(self._chunks[index])
                if beside is not None:
                    self._files.add_realtime_probe(index, dataclasses.asdict(beside), round_)
                    probes[index] = beside
            if index in probes:
                self._on_frames("probe", self._chunks[index].frames, True, self._weights[index])

        def task(chunk: Chunk, clip: Clip) -> RealtimeTask:
            wanted = {round_: levels[chunk.index]}
            if chunk.index in fine:
                wanted[MOST_PROBES] = fine[chunk.index]
            return RealtimeTask(chunk, clip, self._film_settings(), wanted)

        todo = [self._chunks[index] for index in levels if index not in probes]
        made: dict[int, dict[int, RealtimeProbe]] = {}
        self._run("probe", ProbeInRealtime(self._files, self._recipe), todo, task, made)
        return probes | {index: found[round_] for index, found in made.items()}

    def _beside_first_pass(self, chunk: Chunk) -> RealtimeProbe | None:
        """What the first pass has told of a chunk, if that was encoded beside it."""
        costs = self._statistics.realtime.get((chunk.start, chunk.end))
        if costs is None:
            return None
        settings = self._film_settings()
        return probe_of(costs, self._clip, settings, START_LEVEL, recipe=self._recipe)

    def _last_pass(self, chunk: Chunk, clip: Clip, turn: int, bits: float) -> LastPassTask:
        """A chunk that is made again, at the level of so many bits by its first encode."""
        first, curve = self.record(chunk.index, self._first_turn), self._curves[chunk.index]
        level = self._level(chunk.index)
        if round(bits) != first.bits:
            octaves = math.log2(max(bits - curve.fixed, 1.0) / curve.bits)
            level = self._forecasts[chunk.index].level_from(level, octaves)
        return self._at_level(chunk, clip, turn, bits, level)

    def _coarsest_task(self, chunk: Chunk, clip: Clip) -> LastPassTask:
        return self._at_level(chunk, clip, self._first_turn, 0.0, NUM_QINDEX - 1.0)

    def _at_level(
        self, chunk: Chunk, clip: Clip, turn: int, bits: float, level: float
    ) -> LastPassTask:
        first_pass = self._first_pass(chunk)
        return LastPassTask(chunk, clip, first_pass, self._film_settings(), turn, bits, level=level)

    def _level(self, index: int) -> float:
        """The level of a chunk's first encode."""
        return self.record(index, self._first_turn).level or 0.0

    def _film_settings(self) -> EncoderSettings:
        """Of all chunks alike: a frame is shown again by the film's price; each has one thread."""
        kbps = max(1, round(self.kbps))
        return self._settings.replace(target_kbps=kbps, budget_kbps=None, threads=1, row_mt=False)

    def _shape(self, index: int) -> Shape:
        clip = self._clip
        return Shape(clip.width, clip.height, clip.fps, self._chunks[index].frames)
