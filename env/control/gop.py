"""Groups of pictures, chosen by probes: how long they may be, how many layers deep.

libvpx's rule for the length goes by the quantizer alone and ends at 17 frames. What a clip
wants differs by percents of the bits, in either direction, and nothing that was tried
foretells it but to encode it: what a length gains in probes (`env.passes.probe`) correlates by 0.5
to 0.8 with what it gains in the last pass (`docs/results.md`). So at the slower speeds, where
a probe is cheap, several are run, and of each section from key frame to key frame the best
one's groups are taken, and its record of costs with them. Ours, not the paper's.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from muzero_rc.env.control.recipe import DEFAULT_RECIPE, Recipe
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.types import (
    EncodeLog,
    FrameInfo,
    FrameRecord,
    FrameResult,
    GopLimits,
    UpdateType,
)

__all__ = [
    "ProbePlan",
    "better",
    "gops_of_rows",
    "probe_plan_of",
]


def gops_of_rows(rows: Iterable[Iterable[float]]) -> tuple[GopLimits, ...]:
    """Limits as files keep them, each a row of its numbers."""
    return tuple(GopLimits(*map(int, row)) for row in rows)


class ProbePlan(NamedTuple):
    """What probes are run with.

    Attributes:
      lengths: most frames of a group, the first one first.
      layers: most layers of alternate references, tried with the best lengths.
    """

    lengths: tuple[int, ...] = ()
    layers: tuple[int, ...] = ()

    @property
    def encodes(self) -> int:
        """Probes that are run, if the first one is not too far from its target."""
        return max(len(self.lengths) + len(self.layers), 1)


def probe_plan_of(settings: EncoderSettings, *, recipe: Recipe = DEFAULT_RECIPE) -> ProbePlan:
    """What an encode with these settings is worth trying; empty without any choice.

    A group that is not shorter than the look-ahead would go without an alternate reference.

    Args:
      settings: of the encode that follows.
      recipe: the constants.
    """
    choice = recipe.gop
    if settings.speed_profile != "hierarchical" or settings.auto_alt_ref == 0:
        return ProbePlan()
    if settings.time is not None:
        # A budget of time goes to the search of frames: it brings more than other groups.
        return ProbePlan()
    row = min(settings.speed, len(choice.probe_encodes) - 1)
    lengths, layers = choice.probe_encodes[row]
    if settings.auto_alt_ref == 1:
        probe_plan = ProbePlan(choice.flat_lengths[: lengths + layers])
    else:
        probe_plan = ProbePlan(choice.deep_lengths[:lengths], choice.fewer_layers[:layers])
    fitting = tuple(frames for frames in probe_plan.lengths if frames < settings.lag_in_frames)
    if not fitting:
        return ProbePlan()
    return ProbePlan(fitting, tuple(n for n in probe_plan.layers if n < settings.auto_alt_ref))


@dataclasses.dataclass(frozen=True, slots=True)
class _Section:
    """The frames from one key frame to the next."""

    frames: Sequence[FrameRecord]
    first_coded: int
    coded: int  # buffers shown again included, as libvpx counts
    first_shown: int
    bits: float
    psnr_sum: float


def better(best: EncodeLog, other: EncodeLog, *, recipe: Recipe = DEFAULT_RECIPE) -> EncodeLog:
    """The better one of two probe encodes, section by section.

    By the sum over frames of PSNR, in which what a section spends more is charged at what
    bits are worth for the whole clip: with PSNR = a + s log2(B), s N / (B ln 2) dB for a bit,
    over N frames.

    Args:
      best: what is kept where the other one promises little more.
      other: of the same clip and settings; no limits but its own.
      recipe: the constants.
    """
    ours, theirs = _sections(best, recipe), _sections(other, recipe)
    if [s.first_shown for s in ours] != [s.first_shown for s in theirs]:
        return best  # key frames go by the first pass, so this is another clip
    shown = sum(result.shown for result in best.results)
    worth = recipe.db_per_octave * shown / (8.0 * best.size_bytes * math.log(2.0))
    pairs = list(zip(ours, theirs, strict=True))
    gains = [t.psnr_sum - o.psnr_sum - worth * (t.bits - o.bits) for o, t in pairs]
    switched = [
        g > recipe.gop.min_gain * worth * o.bits for g, (o, _) in zip(gains, pairs, strict=True)
    ]
    if not any(switched):
        return best
    taken = [their if s else our for s, (our, their) in zip(switched, pairs, strict=True)]
    gops = [
        _limits(other if s else best, section.first_shown)
        for s, section in zip(switched, taken, strict=True)
    ]
    size_bytes = round(sum(section.bits for section in taken) / 8.0)
    return EncodeLog(_joined(taken), size_bytes, best.speed, _merged(gops))


def _limits(log: EncodeLog, first_shown: int) -> GopLimits:
    """What holds in the section that starts there."""
    held = [gop for gop in log.gops if gop.first <= first_shown]
    return held[-1]._replace(first=first_shown) if held else GopLimits(first_shown)


def _merged(gops: Sequence[GopLimits]) -> tuple[GopLimits, ...]:
    """Without those that change nothing."""
    kept: list[GopLimits] = []
    for gop in gops:
        if not kept or kept[-1][1:] != gop[1:]:
            kept.append(gop)
    return tuple(kept)


def _sections(log: EncodeLog, recipe: Recipe) -> list[_Section]:
    frames = log.frames
    hidden = sum(not result.shown for result in log.results)
    binding = log.superframe_index_bits / max(hidden, 1)
    keys = [
        (place, info)
        for place, (info, _, _) in enumerate(frames)
        if info is not None and info.update_type is UpdateType.KEY
    ]
    sections = []
    for number, (start, key) in enumerate(keys):
        end, after = keys[number + 1] if number + 1 < len(keys) else (len(frames), key)
        part = frames[start:end]
        sections.append(
            _Section(
                frames=part,
                first_coded=key.coding_index,
                coded=after.coding_index - key.coding_index,
                first_shown=key.show_index,
                bits=sum(r.bits if r.shown else r.bits + binding for _, _, r in part),
                psnr_sum=sum(min(r.psnr, recipe.gop.max_psnr) for _, _, r in part if r.shown),
            )
        )
    return sections


def _joined(sections: Sequence[_Section]) -> list[FrameRecord]:
    """The sections one after the other, their frames numbered as in one encode."""
    joined: list[FrameRecord] = []
    first = 0
    for section in sections:
        by = first - section.first_coded
        joined += [
            FrameRecord(_moved_info(info, by), decision, _moved(result, by))
            for info, decision, result in section.frames
        ]
        first += section.coded
    return joined


def _moved_info(info: FrameInfo | None, by: int) -> FrameInfo | None:
    if info is None or by == 0:
        return info
    last, golden, altref = (ref + by if ref >= 0 else ref for ref in info.ref_coding_indexes)
    return dataclasses.replace(
        info, coding_index=info.coding_index + by, ref_coding_indexes=(last, golden, altref)
    )


def _moved(result: FrameResult, by: int) -> FrameResult:
    if result.coding_index < 0 or by == 0:
        return result
    return dataclasses.replace(result, coding_index=result.coding_index + by)
