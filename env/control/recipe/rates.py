"""Constants of rate control: of two passes, of probe encodes, of retries, of a film's chunks."""

from __future__ import annotations

from dataclasses import dataclass

from muzero_rc.env.control.recipe.constant import BY_HAND, RATE_NOTE, SPEED_NOTE, constant

__all__ = [
    "EmptyFrame",
    "FilmShare",
    "ProbeEncodes",
    "ProbeRate",
    "RetryOffTarget",
    "TwoPassRate",
]

_TWO_PASS = f"chosen by what ten training clips had at speeds 2 and 5, {RATE_NOTE}"
_LAW_OF_BITS = f"fitted on 270 encodes of 15 training clips, {RATE_NOTE}"
_SHIFTS = "fitted on 200 encodes of 20 training clips, shifted by 0 and 16 qindexes"


@dataclass(frozen=True)
class EmptyFrame:
    """About what a frame without residual costs: the bits that no quantizer can save."""

    header_bits: float = constant(
        130.0,
        "bits",
        "of such a frame's headers",
        f"headers of 17 to 21 bytes, {SPEED_NOTE}",
    )
    bits_per_pixel: float = constant(
        1.0 / 2048.0,
        "bits per pixel",
        "two bits for each superblock of 64x64",
        "VP9's syntax: partition and skip of a superblock",
    )
    max_share: float = constant(
        0.5,
        "share of the budget",
        "most of a frame's budget that an empty frame is taken to cost",
        BY_HAND,
    )


@dataclass(frozen=True)
class TwoPassRate:
    """Rate control of two passes."""

    qindexes_per_octave: float = constant(
        28.0,
        "qindexes",
        "that about halve a frame's bits in the middle of the range",
        _TWO_PASS,
    )
    aim: float = constant(
        1.005,
        "share of the budget",
        "that is aimed at: early caution leaves more than it should",
        _TWO_PASS,
    )
    memory: float = constant(
        0.97,
        "per shown frame",
        "weight that what was paid keeps: about two groups of pictures",
        BY_HAND,
    )
    plan_memory: float = constant(
        0.99,
        "per coded frame",
        "weight that paid and planned bits keep",
        BY_HAND,
    )
    prior_frames: float = constant(
        8.0,
        "frames",
        "on plan, that both estimates start from",
        BY_HAND,
    )
    caution: float = constant(
        0.2,
        "ratio",
        "gain of the first frame's feedback",
        _TWO_PASS,
    )
    min_left: float = constant(
        0.02,
        "share of their plan",
        "that the bits left are taken to be at least",
        BY_HAND,
    )
    min_rest: float = constant(
        0.05,
        "share of their plan",
        "that the frames left are taken to cost at least",
        BY_HAND,
    )
    max_offset: int = constant(
        48,
        "qindexes",
        "largest rate offset",
        BY_HAND,
    )
    last_frames: int = constant(
        24,
        "shown frames",
        "at the end that may have the largest offset",
        BY_HAND,
    )
    part_of_offset: float = constant(
        0.6,
        "share of the largest offset",
        "that frames before those may have",
        BY_HAND,
    )
    max_finer: float = constant(
        9.0,
        "qindexes",
        "that frames may be finer: those near the end are a bad place to spend what is left",
        _TWO_PASS,
    )


@dataclass(frozen=True)
class ProbeEncodes:
    """Where probe encodes are run: how far from libvpx's proposals."""

    slope: float = constant(
        0.0643,
        "octaves per qindex",
        "of a whole clip's bits at one bit per pixel; less where headers are most of a frame",
        _SHIFTS,
    )
    slope_per_octave: float = constant(
        0.0057,
        "octaves per qindex",
        "that the slope grows by with each octave of bits per pixel",
        _SHIFTS,
    )
    min_slope: float = constant(0.012, "octaves per qindex", "floor of the slope", _SHIFTS)
    max_slope: float = constant(0.075, "octaves per qindex", "ceiling of the slope", _SHIFTS)
    plan_off: float = constant(
        -0.50,
        "octaves",
        "how far libvpx's plan ends off its target, if the first key frame has qindex 0",
        f"{_SHIFTS}; the line explains 42%, {RATE_NOTE}",
    )
    plan_off_per_qindex: float = constant(
        0.00674,
        "octaves per qindex",
        "likewise, for each qindex of the first key frame",
        f"{_SHIFTS}; the line explains 42%, {RATE_NOTE}",
    )
    far: int = constant(
        20,
        "qindexes",
        "from where it should have been, at which a probe encode is made again",
        f"111 probe encodes of training clips and screen recordings, {RATE_NOTE}",
    )
    way: float = constant(
        0.75,
        "share of that distance",
        "that it is moved by: frames that came out empty tell less of finer ones than the reverse",
        f"8 far probe encodes, and one validation clip, {RATE_NOTE}",
    )


@dataclass(frozen=True)
class ProbeRate:
    """Rate control of the final pass after a probe encode."""

    steepness: tuple[float, float, float] = constant(
        (0.73, 0.95, 1.24),
        "octaves per octave",
        "how steeply bits of key, hidden and shown frames fall with the quantizer's step; the "
        "bits of all frames of a kind are off by 0.12, 0.17 and 0.25 octaves then",
        _LAW_OF_BITS,
    )
    steeper_key: float = constant(
        0.25,
        "per octave of the step",
        "more for key frames above qindex 96, where more and more blocks have no residual",
        _LAW_OF_BITS,
    )
    cheaper: tuple[float, float, float] = constant(
        (0.95, 0.925, 0.9),
        "ratio",
        "price of key, hidden and shown frames over the probe's before the first frame: the "
        "final pass searches longer",
        RATE_NOTE,
    )
    prior_frames: float = constant(
        40.0,
        "frames",
        "at that price, that the estimate starts from if the first step is 0",
        BY_HAND,
    )
    sure_step: float = constant(
        6.0,
        "qindexes",
        "first step from the probe at which half of these frames count, and so on",
        BY_HAND,
    )
    kind_frames: float = constant(
        10.0,
        "frames",
        "at the price of all, that the price of a kind starts from",
        BY_HAND,
    )
    memory: float = constant(0.98, "per coded frame", "weight that what was paid keeps", BY_HAND)
    max_coarser: int = constant(96, "qindexes", "coarser than the probe, at most", BY_HAND)
    max_finer: int = constant(
        90,
        "qindexes",
        "finer than the probe, at most; still screen recordings at high targets want that",
        BY_HAND,
    )
    finer_than_before: float = constant(
        8.0,
        "qindexes",
        "that the last frame may be finer than those before: the end is a bad place to spend "
        "what is left",
        BY_HAND,
    )
    finer_per_frame: float = constant(
        0.25,
        "qindexes per frame",
        "more for each frame that is left",
        BY_HAND,
    )
    finer_at_once: float = constant(
        3.0,
        "qindexes",
        "finer from one coded frame to the next, at most",
        BY_HAND,
    )
    frames_before: float = constant(
        40.0,
        "frames",
        "that the mean of those before is over",
        BY_HAND,
    )
    aim: float = constant(
        0.998,
        "share of the budget",
        "that is aimed at: what is left is a smaller miss than what is lacking",
        BY_HAND,
    )
    min_left: float = constant(
        0.02,
        "share of the budget",
        "that the bits left are taken to be at least",
        BY_HAND,
    )
    not_worth: float = constant(
        0.004,
        "share of the budget",
        "no step is taken for the last of what could be saved",
        f"without it a point worse in PSNR overall, {RATE_NOTE}",
    )
    bin_width: int = constant(
        8,
        "qindexes",
        "frames that near are taken for alike, those at the end of the range apart",
        BY_HAND,
    )


@dataclass(frozen=True)
class RetryOffTarget:
    """When an encode is made again."""

    max_encodes: int = constant(
        2, "encodes", "that are made again at most, the nearest kept", BY_HAND
    )
    over: float = constant(
        0.01, "share of the target", "above it, at which an encode is made again", BY_HAND
    )
    under: float = constant(
        0.03, "share of the target", "below it, at which an encode is made again", BY_HAND
    )


@dataclass(frozen=True)
class FilmShare:
    """How the chunks of a film share its bits."""

    tolerance: float = constant(
        0.005,
        "share of the target",
        "that a film may miss it by before chunks are made again",
        "asked for, not tuned",
    )
