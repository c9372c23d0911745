"""Every setting that libvpx is told, explicit; stored with each result.

Defaults are those of libvpx's `vpxenc --good` two-pass (design: auto-alt-ref 6, TPL
on, lag 25), one thread, so that a stock `vpxenc` with the same flags writes the same
bytes.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, Self

from muzero_rc.errors import InputError

__all__ = ["MAX_TARGET_KBPS", "CodecSettings"]

MAX_TARGET_KBPS = 1_000_000
"""The highest target bitrate that libvpx takes, kbit/s."""

_RANGES: dict[str, tuple[int, int]] = {
    "target_kbps": (1, MAX_TARGET_KBPS),
    "speed": (0, 9),
    "auto_alt_ref": (0, 6),
    "lag_in_frames": (0, 25),
    "aq_mode": (0, 4),
    "arnr_max_frames": (0, 15),
    "arnr_strength": (0, 6),
    "arnr_type": (1, 3),
    "kf_max_dist": (0, 100_000),
    "threads": (1, 64),
    "tile_columns": (0, 6),
    "tile_rows": (0, 2),
    "cq_level": (0, 63),
    "min_quantizer": (0, 63),
    "max_quantizer": (0, 63),
    "undershoot_pct": (0, 100),
    "overshoot_pct": (0, 100),
}


@dataclass(frozen=True, kw_only=True)
class CodecSettings:
    """Settings of a two-pass VP9 encode.

    Attributes:
      target_kbps: target bitrate, kbit/s.
      speed: libvpx's cpu-used, 0 (slow) to 9, deadline good.
      auto_alt_ref: 0 none, 1 one layer, 2..6 multi-layer alternate references.
      lag_in_frames: look-ahead, frames.
      tpl: temporal dependency model.
      aq_mode: adaptive quantization mode, 0 off.
      arnr_max_frames: frames in the alternate reference's temporal filter.
      arnr_strength: strength of that filter.
      arnr_type: 1 backward, 2 forward, 3 centred.
      kf_max_dist: largest distance between key frames, frames.
      threads: encoder threads.
      row_mt: row-based multi-threading.
      frame_parallel: each frame's entropy coding starts from what its header says, libvpx's
        default, so that decoders may overlap frames; False lets it go on from the frame
        before, for 1 to 3% fewer bits.
      tile_columns: log2 of tile columns.
      tile_rows: log2 of tile rows.
      rc_mode: vbr, cq (constrained quality) or q (constant quality).
      cq_level: quantizer 0..63 of cq and q.
      min_quantizer: lowest quantizer 0..63 that libvpx itself may take.
      max_quantizer: highest quantizer 0..63 that libvpx itself may take.
      undershoot_pct: libvpx's undershoot tolerance, percent.
      overshoot_pct: libvpx's overshoot tolerance, percent.
    """

    target_kbps: int
    speed: int = 1
    auto_alt_ref: int = 6
    lag_in_frames: int = 25
    tpl: bool = True
    aq_mode: int = 0
    arnr_max_frames: int = 7
    arnr_strength: int = 5
    arnr_type: int = 3
    kf_max_dist: int = 128
    threads: int = 1
    row_mt: bool = False
    frame_parallel: bool = True
    tile_columns: int = 0
    tile_rows: int = 0
    rc_mode: Literal["vbr", "cq", "q"] = "vbr"
    cq_level: int = 10
    min_quantizer: int = 0
    max_quantizer: int = 63
    undershoot_pct: int = 25
    overshoot_pct: int = 25

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise InputError(f"{name} must be a whole number, not {value!r}")
            if not low <= value <= high:
                raise InputError(f"{name} must be between {low} and {high}, not {value}")
        for name in ("tpl", "row_mt", "frame_parallel"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"{name} must be True or False, not {getattr(self, name)!r}")
        if self.rc_mode not in ("vbr", "cq", "q"):
            raise InputError(f"rc_mode must be vbr, cq or q, not {self.rc_mode!r}")
        if self.min_quantizer > self.max_quantizer:
            raise InputError(
                f"min_quantizer {self.min_quantizer} is above max_quantizer {self.max_quantizer}"
            )

    def frame_budget(self, fps: Fraction) -> float:
        """Target bits per shown frame, at so many frames per second."""
        return self.target_kbps * 1000.0 / float(fps)

    def replace(self, **changes: Any) -> Self:
        """A copy with some settings changed."""
        return dataclasses.replace(self, **changes)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return dataclasses.asdict(self)

    def first_pass_key(self) -> dict[str, Any]:
        """The settings on which the first pass depends: it codes nothing, and has no rate."""
        steering = (
            "target_kbps", "rc_mode", "cq_level", "min_quantizer", "max_quantizer",
            "undershoot_pct", "overshoot_pct", "frame_parallel",
        )  # fmt: skip
        names = [field.name for field in dataclasses.fields(CodecSettings)]
        return {name: getattr(self, name) for name in names if name not in steering}
