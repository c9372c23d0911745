"""The recipe: every constant that decides an encode without being learned, as data.

Whoever controls takes a `Recipe`; `DEFAULT_RECIPE` is what a user gets. Two equal recipes are
interchangeable, so tables that follow from one are cached by it. Every field has its unit and
says where its number comes from; `python -m muzero_rc.env.control.recipe [PAGE]` prints them
all as a table, or writes it into docs/reference/recipe.md.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

from muzero_rc.errors import InputError
from muzero_rc.types import FrameRole, SpeedFeatures

__all__ = [
    "DEFAULT_RECIPE",
    "EmptyFrame",
    "FilmShare",
    "FrameSpeeds",
    "GopChoice",
    "PartitionReuse",
    "ProbeEncodes",
    "ProbeRate",
    "QpOffsets",
    "Recipe",
    "RetryOffTarget",
    "ShowExistingRule",
    "SpeedsByRole",
    "TwoPassRate",
    "markdown",
]

T = TypeVar("T")

_SPEED_NOTE = "docs/notes/2026-11-frame-speed-and-groups.md"
_GOP_NOTE = "docs/notes/2026-11-29-partition-reuse-and-groups.md"
_RATE_NOTE = "docs/notes/2026-11-rate-control.md"
_OFFSET_NOTE = "docs/notes/2026-11-qp-offsets-and-learning.md"
_BY_HAND = "set by hand, no measurement on record"
_TWO_PASS = f"chosen by what ten training clips had at speeds 2 and 5, {_RATE_NOTE}"
_LAW_OF_BITS = f"fitted on 270 encodes of 15 training clips, {_RATE_NOTE}"
_SHIFTS = "fitted on 200 encodes of 20 training clips, shifted by 0 and 16 qindexes"


def _constant(value: T, unit: str, about: str, source: str) -> T:
    """A field with its unit, what it is, and where its number comes from."""
    metadata = {"unit": unit, "about": about, "source": source}
    return dataclasses.field(default=value, metadata=metadata)


class SpeedsByRole(NamedTuple):
    """`cpu-used` of each role of frame.

    Attributes:
      stream: of what is done between frames: look-ahead, temporal filter, TPL.
      key: of key frames.
      base: of a group's first alternate reference, and of golden frames.
      second: of alternate references a layer below it.
      deeper: of all others.
      leaf: of frames that nothing is predicted from, and overlays.
    """

    stream: int
    key: int
    base: int
    second: int
    deeper: int
    leaf: int

    def of(self, role: FrameRole) -> int:
        """`cpu-used` of frames of a role."""
        match role:
            case FrameRole.KEY:
                return self.key
            case FrameRole.BASE_ARF:
                return self.base
            case FrameRole.SECOND_ARF:
                return self.second
            case FrameRole.DEEPER_ARF:
                return self.deeper
            case _:
                return self.leaf


@dataclass(frozen=True)
class FrameSpeeds:
    """How long frames are searched."""

    by_speed: tuple[SpeedsByRole, ...] = _constant(
        (
            SpeedsByRole(0, 0, 0, 0, 0, 0),
            SpeedsByRole(1, 0, 0, 0, 0, 0),
            SpeedsByRole(2, 0, 0, 0, 1, 1),
            SpeedsByRole(3, 0, 0, 0, 1, 1),
            SpeedsByRole(4, 0, 0, 1, 1, 1),
            SpeedsByRole(4, 1, 1, 1, 1, 3),
        ),
        "cpu-used",
        "speeds between frames, and of key frames, base, second and deeper alternate references, "
        "leaf frames; a row for each speed of the stream from 0, the last for all faster ones. "
        "No frame has libvpx's speed 5: it is slower than its speed 4, and worse.",
        f"BD-rate and time of single changes, benchmarks/bench_effort.py, {_SPEED_NOTE}",
    )
    leaf_features: SpeedFeatures = _constant(
        SpeedFeatures.ALL_MODES | SpeedFeatures.ALL_TRANSFORMS,
        "bits",
        "shortcuts of its speed that a leaf frame's search does not take: 1 modes, 2 transforms",
        f"benchmarks/bench_last_pass.py, {_SPEED_NOTE}",
    )
    probe: int = _constant(
        4,
        "cpu-used",
        "speed of all frames of a probe encode. Between frames it works at the speed of the "
        "encode that follows, as libvpx's plan goes by that.",
        "libvpx's speed 5 takes longer",
    )


@dataclass(frozen=True)
class ShowExistingRule:
    """When a reference is shown in the place of a frame."""

    max_change: float = _constant(
        6.0,
        "levels of luma",
        "mean difference of a 16x16 block from the frame as coded, above which it is coded: "
        "without it moving pictures stood still for up to a fifth of a second",
        f"benchmarks/bench_last_pass.py, variants change=N, {_SPEED_NOTE}; 6 rather than 4 is "
        "a choice of taste",
    )


@dataclass(frozen=True)
class PartitionReuse:
    """Which sizes of blocks are searched in a final pass after a probe encode."""

    coarser: int = _constant(
        1,
        "levels",
        "levels of 64x64, 32x32, 16x16, 8x8 that a block may be larger than the probe's",
        f"benchmarks/bench_last_pass.py, variants near=C,F, {_SPEED_NOTE}",
    )
    finer: int = _constant(
        1,
        "levels",
        "levels that a block may be smaller than the probe's",
        f"benchmarks/bench_last_pass.py, variants near=C,F, {_SPEED_NOTE}",
    )


@dataclass(frozen=True)
class GopChoice:
    """Which groups of pictures probe encodes try, and which are taken."""

    probe_encodes: tuple[tuple[int, int], ...] = _constant(
        ((4, 2), (4, 2), (0, 0)),
        "encodes",
        "lengths of groups and numbers of layers that are tried; a row for each speed from 0, "
        "the last for all faster ones. From 2 on a slower search of frames brings more for the "
        "time that the probe encodes take.",
        f"benchmarks/bench_last_pass.py, variants probes=L,N, {_SPEED_NOTE}, {_GOP_NOTE}",
    )
    deep_lengths: tuple[int, ...] = _constant(
        (17, 21, 19, 15),
        "frames",
        "longest groups that are tried, in this order, with layers of references",
        _SPEED_NOTE,
    )
    flat_lengths: tuple[int, ...] = _constant(
        (13, 15, 9, 17, 7, 11),
        "frames",
        "longest groups that are tried, in this order, with one layer of references",
        _SPEED_NOTE,
    )
    fewer_layers: tuple[int, ...] = _constant(
        (3, 2),
        "layers",
        "most layers of references that are tried with the best lengths",
        _SPEED_NOTE,
    )
    min_gain: float = _constant(
        0.004,
        "share of the bits",
        "gain that probe encodes must promise before another choice is made",
        _BY_HAND,
    )
    max_psnr: float = _constant(
        60.0,
        "dB",
        "PSNR that a frame counts with at most",
        "a frame without loss has 100 dB by libvpx's definition, which says nothing of quality",
    )


@dataclass(frozen=True)
class EmptyFrame:
    """About what a frame without residual costs: the bits that no quantizer can save."""

    header_bits: float = _constant(
        130.0,
        "bits",
        "of such a frame's headers",
        f"headers of 17 to 21 bytes, {_SPEED_NOTE}",
    )
    bits_per_pixel: float = _constant(
        1.0 / 2048.0,
        "bits per pixel",
        "two bits for each superblock of 64x64",
        "VP9's syntax: partition and skip of a superblock",
    )
    max_share: float = _constant(
        0.5,
        "share of the budget",
        "most of a frame's budget that an empty frame is taken to cost",
        _BY_HAND,
    )


@dataclass(frozen=True)
class TwoPassRate:
    """Rate control of two passes."""

    qindexes_per_octave: float = _constant(
        28.0,
        "qindexes",
        "that about halve a frame's bits in the middle of the range",
        _TWO_PASS,
    )
    aim: float = _constant(
        1.005,
        "share of the budget",
        "that is aimed at: early caution leaves more than it should",
        _TWO_PASS,
    )
    memory: float = _constant(
        0.97,
        "per shown frame",
        "weight that what was paid keeps: about two groups of pictures",
        _BY_HAND,
    )
    plan_memory: float = _constant(
        0.99,
        "per coded frame",
        "weight that paid and planned bits keep",
        _BY_HAND,
    )
    prior_frames: float = _constant(
        8.0,
        "frames",
        "on plan, that both estimates start from",
        _BY_HAND,
    )
    caution: float = _constant(
        0.2,
        "ratio",
        "gain of the first frame's feedback",
        _TWO_PASS,
    )
    min_left: float = _constant(
        0.02,
        "share of their plan",
        "that the bits left are taken to be at least",
        _BY_HAND,
    )
    min_rest: float = _constant(
        0.05,
        "share of their plan",
        "that the frames left are taken to cost at least",
        _BY_HAND,
    )
    max_offset: int = _constant(
        48,
        "qindexes",
        "largest rate offset",
        _BY_HAND,
    )
    last_frames: int = _constant(
        24,
        "shown frames",
        "at the end that may have the largest offset",
        _BY_HAND,
    )
    part_of_offset: float = _constant(
        0.6,
        "share of the largest offset",
        "that frames before those may have",
        _BY_HAND,
    )
    max_finer: float = _constant(
        9.0,
        "qindexes",
        "that frames may be finer: those near the end are a bad place to spend what is left",
        _TWO_PASS,
    )


@dataclass(frozen=True)
class ProbeEncodes:
    """Where probe encodes are run: how far from libvpx's proposals."""

    slope: float = _constant(
        0.0643,
        "octaves per qindex",
        "of a whole clip's bits at one bit per pixel; less where headers are most of a frame",
        _SHIFTS,
    )
    slope_per_octave: float = _constant(
        0.0057,
        "octaves per qindex",
        "that the slope grows by with each octave of bits per pixel",
        _SHIFTS,
    )
    min_slope: float = _constant(0.012, "octaves per qindex", "floor of the slope", _SHIFTS)
    max_slope: float = _constant(0.075, "octaves per qindex", "ceiling of the slope", _SHIFTS)
    plan_off: float = _constant(
        -0.50,
        "octaves",
        "how far libvpx's plan ends off its target, if the first key frame has qindex 0",
        f"{_SHIFTS}; the line explains 42%, {_RATE_NOTE}",
    )
    plan_off_per_qindex: float = _constant(
        0.00674,
        "octaves per qindex",
        "likewise, for each qindex of the first key frame",
        f"{_SHIFTS}; the line explains 42%, {_RATE_NOTE}",
    )
    far: int = _constant(
        20,
        "qindexes",
        "from where it should have been, at which a probe encode is made again",
        f"111 probe encodes of training clips and screen recordings, {_RATE_NOTE}",
    )
    way: float = _constant(
        0.75,
        "share of that distance",
        "that it is moved by: frames that came out empty tell less of finer ones than the reverse",
        f"8 far probe encodes, and one validation clip, {_RATE_NOTE}",
    )


@dataclass(frozen=True)
class ProbeRate:
    """Rate control of the final pass after a probe encode."""

    steepness: tuple[float, float, float] = _constant(
        (0.73, 0.95, 1.24),
        "octaves per octave",
        "how steeply bits of key, hidden and shown frames fall with the quantizer's step; the "
        "bits of all frames of a kind are off by 0.12, 0.17 and 0.25 octaves then",
        _LAW_OF_BITS,
    )
    steeper_key: float = _constant(
        0.25,
        "per octave of the step",
        "more for key frames above qindex 96, where more and more blocks have no residual",
        _LAW_OF_BITS,
    )
    cheaper: tuple[float, float, float] = _constant(
        (0.95, 0.925, 0.9),
        "ratio",
        "price of key, hidden and shown frames over the probe's before the first frame: the "
        "final pass searches longer",
        _RATE_NOTE,
    )
    prior_frames: float = _constant(
        40.0,
        "frames",
        "at that price, that the estimate starts from if the first step is 0",
        _BY_HAND,
    )
    sure_step: float = _constant(
        6.0,
        "qindexes",
        "first step from the probe at which half of these frames count, and so on",
        _BY_HAND,
    )
    kind_frames: float = _constant(
        10.0,
        "frames",
        "at the price of all, that the price of a kind starts from",
        _BY_HAND,
    )
    memory: float = _constant(0.98, "per coded frame", "weight that what was paid keeps", _BY_HAND)
    max_coarser: int = _constant(96, "qindexes", "coarser than the probe, at most", _BY_HAND)
    max_finer: int = _constant(
        90,
        "qindexes",
        "finer than the probe, at most; still screen recordings at high targets want that",
        _BY_HAND,
    )
    finer_than_before: float = _constant(
        8.0,
        "qindexes",
        "that the last frame may be finer than those before: the end is a bad place to spend "
        "what is left",
        _BY_HAND,
    )
    finer_per_frame: float = _constant(
        0.25,
        "qindexes per frame",
        "more for each frame that is left",
        _BY_HAND,
    )
    finer_at_once: float = _constant(
        3.0,
        "qindexes",
        "finer from one coded frame to the next, at most",
        _BY_HAND,
    )
    frames_before: float = _constant(
        40.0,
        "frames",
        "that the mean of those before is over",
        _BY_HAND,
    )
    aim: float = _constant(
        0.998,
        "share of the budget",
        "that is aimed at: what is left is a smaller miss than what is lacking",
        _BY_HAND,
    )
    min_left: float = _constant(
        0.02,
        "share of the budget",
        "that the bits left are taken to be at least",
        _BY_HAND,
    )
    not_worth: float = _constant(
        0.004,
        "share of the budget",
        "no step is taken for the last of what could be saved",
        f"without it a point worse in PSNR overall, {_RATE_NOTE}",
    )
    bin_width: int = _constant(
        8,
        "qindexes",
        "frames that near are taken for alike, those at the end of the range apart",
        _BY_HAND,
    )


@dataclass(frozen=True)
class RetryOffTarget:
    """When an encode is made again."""

    max_encodes: int = _constant(
        2, "encodes", "that are made again at most, the nearest kept", _BY_HAND
    )
    over: float = _constant(
        0.01, "share of the target", "above it, at which an encode is made again", _BY_HAND
    )
    under: float = _constant(
        0.03, "share of the target", "below it, at which an encode is made again", _BY_HAND
    )


@dataclass(frozen=True)
class FilmShare:
    """How the chunks of a film share its bits."""

    error_power: float = _constant(
        0.5,
        "power",
        "of a frame's mean squared error, whose sum over the film is made least: towards 0 that "
        "is the best PSNR avg, 1 is the best PSNR overall",
        "half way between both; benchmarks/bench_films.py --powers, "
        "docs/notes/2026-11-29-films-in-chunks.md",
    )
    tolerance: float = _constant(
        0.005,
        "share of the target",
        "that a film may miss it by before chunks are made again",
        "asked for, not tuned",
    )


@dataclass(frozen=True)
class QpOffsets:
    """Offsets from the controller's qindex by level of the pyramid, without a network.

    Tuned on five training clips: -1.3% BD-rate in PSNR avg and -1.5% in overall at speed 5,
    -0.8% and -1.2% at speed 2, against libvpx's proposals; on eight others, with rate control
    on both sides, -1.0% and -1.7% at speed 5.
    """

    key: float = _constant(6.0, "qindexes", "key frames", _OFFSET_NOTE)
    leaf: float = _constant(0.0, "qindexes", "leaf frames", _OFFSET_NOTE)
    base: float = _constant(
        6.0, "qindexes", "golden frames and shallow alternate references", _OFFSET_NOTE
    )
    second: float = _constant(
        -8.0, "qindexes", "alternate references in the middle of the pyramid", _OFFSET_NOTE
    )
    deeper: float = _constant(-8.0, "qindexes", "the deepest alternate references", _OFFSET_NOTE)
    overlay: float = _constant(0.0, "qindexes", "overlays and all others", _OFFSET_NOTE)


@dataclass(frozen=True)
class Recipe:
    """All constants of control."""

    frame_speed: FrameSpeeds = FrameSpeeds()
    show_existing: ShowExistingRule = ShowExistingRule()
    partition: PartitionReuse = PartitionReuse()
    gop: GopChoice = GopChoice()
    empty_frame: EmptyFrame = EmptyFrame()
    two_pass: TwoPassRate = TwoPassRate()
    probe_encodes: ProbeEncodes = ProbeEncodes()
    probe_rate: ProbeRate = ProbeRate()
    retry: RetryOffTarget = RetryOffTarget()
    film_share: FilmShare = FilmShare()
    qp_offsets: QpOffsets = QpOffsets()
    db_per_octave: float = _constant(
        3.5,
        "dB per octave",
        "of PSNR avg that an octave of all bits is worth: the price of a bit where a frame is "
        "to be shown again, and in the choice of groups",
        "the middle one of 17 training clips, from 2.9 to 5",
    )
    max_moving_group: int = _constant(
        30,
        "coded frames",
        "of a group, above which it is static and keeps the controller's qindexes: there one "
        "wrong step costs the whole group, and films have next to none to learn from",
        "libvpx makes longer groups of static pictures only; one step cost a fifth of the rate "
        "of a clip that was tried",
    )

    @functools.cached_property
    def digest(self) -> str:
        """Hash of all values."""
        text = json.dumps(self.as_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def as_dict(self) -> dict[str, Any]:
        """Plain values by topic, for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """Reads what `as_dict` gave, also by way of JSON; what is missing is the default's.

        Raises:
          InputError: there is no such field, or its value is of another form.
        """
        return cast(Recipe, _restored(cls(), values, ""))

    def replace(self, changes: Mapping[str, Any]) -> Recipe:
        """A copy with some fields changed.

        Args:
          changes: by topic and name, such as `frame_speed.probe`.

        Raises:
          InputError: there is no such field.
        """
        recipe = self
        for place, value in changes.items():
            topic, _, name = place.rpartition(".")
            try:
                if not topic:
                    recipe = dataclasses.replace(recipe, **{name: value})
                    continue
                changed = dataclasses.replace(getattr(recipe, topic), **{name: value})
                recipe = dataclasses.replace(recipe, **{topic: changed})
            except (AttributeError, TypeError):
                raise InputError(f"the recipe has no {place}") from None
        return recipe

    def with_speeds(self, speed: int, **speeds: int) -> Recipe:
        """A copy with some speeds of a stream's frames changed.

        Args:
          speed: the stream's, `cpu-used`.
          speeds: by role, such as leaf=4.
        """
        table = list(self.frame_speed.by_speed)
        row = min(speed, len(table) - 1)
        table[row] = table[row]._replace(**speeds)
        return self.replace({"frame_speed.by_speed": tuple(table)})


def _restored(default: Any, value: Any, place: str) -> Any:
    """A value in the form of its default."""
    try:
        if dataclasses.is_dataclass(default) and not isinstance(default, type):
            known = {
                field.name: getattr(default, field.name) for field in dataclasses.fields(default)
            }
            if unknown := sorted(set(value) - set(known)):
                raise InputError(f"the recipe has no {place}{unknown[0]}")
            given = {name: _restored(known[name], value[name], f"{place}{name}.") for name in value}
            return dataclasses.replace(default, **given)
        if isinstance(default, tuple):
            if hasattr(default, "_fields"):
                return type(default)(*value)
            # Rows alike, of any number.
            return tuple(_restored(default[0], part, place) for part in value)
        return type(default)(value)
    except (TypeError, ValueError, AttributeError):
        raise InputError(f"{place.rstrip('.')} of a recipe cannot be {value!r}") from None


DEFAULT_RECIPE = Recipe()
"""What a user gets."""


def markdown(recipe: Recipe = DEFAULT_RECIPE) -> str:
    """A table of every field with its value, unit, meaning and source."""
    lines = [
        "| setting | value | unit | what it is | where it comes from |",
        "|---|---|---|---|---|",
    ]
    for field in dataclasses.fields(recipe):
        value = getattr(recipe, field.name)
        if not dataclasses.is_dataclass(value):
            lines.append(_row(field.name, value, field.metadata))
            continue
        for part in dataclasses.fields(value):
            name = f"{field.name}.{part.name}"
            lines.append(_row(name, getattr(value, part.name), part.metadata))
    return "\n".join(lines) + "\n"


def _row(name: str, value: Any, metadata: Mapping[str, str]) -> str:
    cells = (f"`{name}`", _text(value), metadata["unit"], metadata["about"], metadata["source"])
    return f"| {' | '.join(cells)} |"


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        parts = [f"({_text(part)})" if isinstance(part, tuple) else _text(part) for part in value]
        return ", ".join(parts)
    return f"{float(value):g}" if isinstance(value, float) else str(int(value))


def main() -> None:
    """Prints the table, or writes it into the page that is named, between its marks."""
    if len(sys.argv) == 1:
        print(markdown(), end="")
        return
    page = Path(sys.argv[1])
    before, begin, rest = page.read_text().partition("<!-- table:recipe -->\n")
    _, end, after = rest.partition("<!-- /table -->")
    if not end:
        sys.exit(f"{page} has no table:recipe")
    page.write_text(f"{before}{begin}{markdown()}{end}{after}")


if __name__ == "__main__":
    main()
