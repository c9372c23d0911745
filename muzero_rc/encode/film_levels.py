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
from muzero_rc.encode.controlled_quality import Goal
from muzero_rc.encode.cut import Chunk
from muzero_rc.encode.film_phases import (
    CONTROLLED_MISS,
    MOST_REPAIRS,
    FilmPhases,
    Made,
    Shape,
    StartKbps,
)
from muzero_rc.encode.film_teller import chance_again
from muzero_rc.encode.level import Level, nearest_level
from muzero_rc.encode.offset_scale_model import OFFSET_SCALE_MODEL
from muzero_rc.encode.page_model import PAGE_MODEL
from muzero_rc.encode.quality_budget import (
    USUAL_MISS,
    QualityBudget,
    common_level,
    first_levels,
    with_stretches,
)
from muzero_rc.encode.realtime_model import REALTIME_MODEL
from muzero_rc.encode.realtime_probe import (
    START_LEVEL,
    ChunkForecast,
    RealtimeProbe,
    probe_of,
)
from muzero_rc.encode.share import FAR_OCTAVES, MOST_PROBES, Curve, curve_of, is_far, whole_of
from muzero_rc.encode.stretch_model import STRETCH_MODEL
from muzero_rc.encode.ways import Stretched, Ways
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.control.rate.two_pass import empty_frame
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.types import NUM_QINDEX

__all__ = ["FilmLevels"]

_LOSSLESS = MOST_PROBES  # what an encode in real time without loss is kept under


class FilmLevels(FilmPhases):
    """The phases of such a film."""

    _forecasts: Sequence[ChunkForecast] = ()
    _ways: Mapping[int, Ways] = {}
    _curves: Mapping[int, Curve] = {}
    _budget: QualityBudget | None = None
    _starts: Mapping[int, RealtimeProbe] = {}

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

        A chunk that may have a lossless base layer is encoded so without loss. Any other one is
        encoded so again where the level that it needs is far from the encode's. At last the QP
        offsets of each chunk are scaled as suits its level.
        """
        pixels = self._clip.width * self._clip.height
        header = empty_frame(self._frame_budget, pixels, recipe=self._recipe)
        stats = [self._first_pass(chunk).stats for chunk in self._chunks]
        asked = {chunk.index: {0: START_LEVEL} for chunk in self._chunks}
        starts: dict[int, RealtimeProbe] = {}
        found: dict[int, ChunkForecast] = {}
        hopeful: set[int] = set()  # chunks that may have stretches without loss
        lossless: dict[int, RealtimeProbe] = {}
        stretched: dict[int, list[Stretched]] = {}
        pages: set[int] = set()
        seen: dict[int, float] = {}  # levels of the latest encodes with loss
        round_ = 0
        while asked:
            told = self._realtime_probes(asked)
            for index, probes in told.items():
                if round_ in probes:
                    probe = probes[round_]
                    if index not in starts:
                        starts[index] = probe
                        if STRETCH_MODEL.may_gain(probe, pixels):
                            hopeful.add(index)
                    seen[index] = probe.level
                    found[index] = REALTIME_MODEL.forecast(probe, stats[index], pixels, header)
                if _LOSSLESS in probes:
                    lossless[index] = probes[_LOSSLESS]
                    stretched[index] = STRETCH_MODEL.look(lossless[index], pixels)
                if index in lossless:
                    found[index] = found[index].with_lossless(lossless[index].bits)
                    page = PAGE_MODEL.forecast(found[index], starts[index], lossless[index])
                    if page is not None:
                        pages.add(index)
                        found[index] = page
            constant = [found[chunk.index] for chunk in self._chunks]
            forecasts, wanted, _ = self._shared(constant, stretched)
            # Without loss first: what they take moves the levels of all others.
            asked = {
                index: {_LOSSLESS: 0.0}
                for index, (forecast, level) in enumerate(zip(constant, wanted, strict=True))
                if index not in lossless
                and (
                    (index in hopeful and level <= STRETCH_MODEL.levels[1])
                    or _is_fine(forecast, level)
                )
            }
            if not asked and round_ + 1 < MOST_PROBES:
                round_ += 1
                asked = {
                    index: {round_: level}
                    for index, (forecast, level) in enumerate(zip(constant, wanted, strict=True))
                    if index not in pages
                    and is_far(forecast.bits_at(level), forecast.bits_at(seen[index]))
                }
        for index, forecast in enumerate(constant):
            level = forecast.level_for(forecasts[index].bits_at(wanted[index]))
            found[index] = OFFSET_SCALE_MODEL.scaled(forecast, starts[index], level)
        constant = [found[chunk.index] for chunk in self._chunks]
        forecasts, wanted, self._ways = self._shared(constant, stretched)
        self._teller.weigh(
            [f.fixed + f.bits_at(level) for f, level in zip(forecasts, wanted, strict=True)]
        )
        self._forecasts = forecasts
        self._starts = starts
        return forecasts

    def _shared(
        self, constant: Sequence[ChunkForecast], stretched: Mapping[int, Sequence[Stretched]]
    ) -> tuple[list[ChunkForecast], list[float], dict[int, Ways]]:
        """What is expected of all chunks as they are to be coded, their levels, and all ways."""
        ways = {
            index: STRETCH_MODEL.ways(constant[index], some) for index, some in stretched.items()
        }
        forecasts = with_stretches(constant, ways, self.bits, recipe=self._recipe)
        return forecasts, first_levels(forecasts, self.bits, recipe=self._recipe), ways

    def _constant_quality(self) -> tuple[list[Curve], dict[int, Taken]]:
        """Encodes all chunks with constant quality, each at its level, after `_forecast_all`.

        Returns:
          What all chunks' bits buy, and what they took.
        """
        ratio = REALTIME_MODEL.own_to_common
        budget = QualityBudget(
            self._forecasts, self._ways, self.bits, ratio,
            closing=self._closing(), recipe=self._recipe,
        )  # fmt: skip
        self._budget = budget
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
            level = levels[chunk.index] = budget.level(chunk.index, levels, known)
            bits = budget.goals[chunk.index] if chunk.index == budget.closing else 0.0
            return self._at_level(chunk, clip, self._first_turn, bits, level)

        def doubt() -> None:
            closes = budget.closing is not None
            usual = CONTROLLED_MISS if closes else USUAL_MISS
            # What others miss tells nothing of a chunk whose rate is controlled.
            self._doubt(budget.goals, taken, budget.unsettled, usual, alike=not closes)

        if budget.closing is not None and budget.closing not in taken:
            self._teller.close("second pass", budget.closing)
        doubt()
        todo = [chunk for chunk in self._chunks if chunk.index not in taken]
        closing = [chunk for chunk in todo if chunk.index == budget.closing]
        if todo[-1:] != closing:  # it lies before others
            todo = [chunk for chunk in todo if chunk.index != budget.closing]
        for some in (todo, [chunk for chunk in closing if chunk not in todo]):
            self._run("second pass", self._handle(), some, task, taken, budget.known_before, doubt)
        self._curves = {chunk.index: curve(chunk.index) for chunk in self._chunks}
        return list(self._curves.values()), taken

    def _closing(self) -> int | None:
        """The chunk that comes after all others and takes what they leave, if one is needed.

        Else chunks would be made again, more likely than not. It has constant quality and takes as
        much as chunks take on average, or more. Of those whose own miss is within what the film
        may miss it takes most, as it makes up for most then; else it takes least.
        """
        levels = first_levels(self._forecasts, self.bits, recipe=self._recipe)
        takes = [
            f.fixed + f.bits_at(level) for f, level in zip(self._forecasts, levels, strict=True)
        ]
        whole = sum(takes)
        lag = QualityBudget(self._forecasts, {}, self.bits, 0.0, recipe=self._recipe).unsettled
        tolerance = self._recipe.film_share.tolerance
        parts = [bits / whole for bits in takes]
        if chance_again({}, parts, lag, USUAL_MISS, tolerance) <= 0.5:
            return None
        able = [
            index
            for index, (forecast, level) in enumerate(zip(self._forecasts, levels, strict=True))
            if not forecast.stretches
            and 1.0 <= level < NUM_QINDEX - 1.0
            and takes[index] * len(takes) >= whole
        ]
        near = [index for index in able if CONTROLLED_MISS * parts[index] <= tolerance]
        least = min(able, key=lambda index: takes[index], default=None)
        return max(near, key=lambda index: takes[index], default=least)

    def _realtime_probes(
        self, asked: Mapping[int, Mapping[int, float]]
    ) -> dict[int, dict[int, RealtimeProbe]]:
        """Encodes of some chunks in real time; those that are kept stay.

        Args:
          asked: by chunk, levels by the names that the encodes are kept under: how often the
            chunk was encoded so before, or `_LOSSLESS`.

        Returns:
          What they told, by chunk and name.
        """
        made: dict[int, dict[int, RealtimeProbe]] = {}
        for index, levels in asked.items():
            kept = {name: self._kept_probe(index, name, level) for name, level in levels.items()}
            found = {name: probe for name, probe in kept.items() if probe is not None}
            if len(found) == len(levels):
                made[index] = found
                self._teller.add_kept("probe", index)

        def task(chunk: Chunk, clip: Clip) -> RealtimeTask:
            return RealtimeTask(chunk, clip, self._film_settings(), asked[chunk.index])

        todo = [self._chunks[index] for index in asked if index not in made]
        self._run("probe", ProbeInRealtime(self._files, self._recipe), todo, task, made)
        return made

    def _kept_probe(self, index: int, name: int, level: float) -> RealtimeProbe | None:
        """What an earlier start, or the first pass, has told of a chunk at a level."""
        told = self._files.realtime_probe(index, name)
        if told is not None and told.get("level") == nearest_level(level):
            return RealtimeProbe(**told | {"frame_bits": tuple(told["frame_bits"])})
        if name != 0 or level != START_LEVEL:
            return None
        beside = self._beside_first_pass(self._chunks[index])
        if beside is not None:
            self._files.add_realtime_probe(index, dataclasses.asdict(beside), name)
        return beside

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
            assert self._budget is not None
            own = self._budget.forecast(chunk.index, level)
            octaves = math.log2(max(bits - curve.fixed, 1.0) / curve.bits)
            level = level._replace(qindex=own.level_from(level.qindex, octaves))
            if level.lossless and not self._pays(chunk.index, curve):
                own = self._ways[chunk.index].constant
                level = Level(own.level_for(bits - own.fixed), (), own.offset_scale)
        return self._at_level(chunk, clip, turn, bits, level)

    def _pays(self, index: int, made: Curve) -> bool:
        """Whether a film gains by the lossless base layer of a chunk, as it was made."""
        whole = whole_of(list(self._curves.values()), self.bits, recipe=self._recipe)
        return self._ways[index].gain_of(made, whole) > 0.0

    def _coarsest_task(self, chunk: Chunk, clip: Clip) -> LastPassTask:
        return self._at_level(chunk, clip, self._first_turn, 0.0, Level(NUM_QINDEX - 1.0))

    def _at_level(
        self, chunk: Chunk, clip: Clip, turn: int, bits: float, level: Level
    ) -> LastPassTask:
        """A chunk at a level; its rate is controlled where its bits are known and can be met."""
        goal = None
        if bits > 0.0 and not level.lossless and 1.0 <= level.qindex < NUM_QINDEX - 1.0:
            own = self._forecasts[chunk.index]
            each = self._starts[chunk.index].frame_bits
            goal = Goal(bits, own.fixed, each, own.bits[1], FAR_OCTAVES)
        return LastPassTask(
            chunk, clip, self._first_pass(chunk), self._film_settings(), turn, bits,
            level=level, goal=goal,
        )  # fmt: skip

    def _level(self, index: int) -> Level:
        """The level of a chunk's first encode."""
        return self.record(index, self._first_turn).level or Level(0.0)

    def _film_settings(self) -> EncoderSettings:
        """Of all chunks alike: a frame is shown again by the film's price; each has one thread."""
        kbps = max(1, round(self.kbps))
        return self._settings.replace(target_kbps=kbps, budget_kbps=None, threads=1, row_mt=False)

    def _shape(self, index: int) -> Shape:
        clip = self._clip
        return Shape(clip.width, clip.height, clip.fps, self._chunks[index].frames)


def _is_fine(forecast: ChunkForecast, level: float) -> bool:
    """Whether a chunk at a level may be worth coding without loss, or all of its base layer.

    The forecast may be far off itself.
    """
    bits, most = forecast.bits_at(level), forecast.bits_at(0.0)
    return not is_far(math.sqrt(bits * most), most)
