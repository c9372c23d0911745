"""What a video says of the screen that it was made on: HDR10's static metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from muzero_rc.video.timing import parse_ratio

__all__ = ["HdrMetadata", "dynamic_metadata", "hdr_metadata"]

_MASTERING = "Mastering display metadata"
_LIGHT = "Content light level metadata"
# What ffprobe calls metadata that changes from scene to scene, and what people call it.
_DYNAMIC = {
    "DOVI configuration record": "Dolby Vision",
    "Dolby Vision RPU Data": "Dolby Vision",
    "Dolby Vision Metadata": "Dolby Vision",
    "HDR Dynamic Metadata SMPTE2094-40 (HDR10+)": "HDR10+",
    "HDR Dynamic Metadata CUVA 005.1 2021 (Vivid)": "HDR Vivid",
}
_PRIMARIES = (
    "red_x", "red_y", "green_x", "green_y", "blue_x", "blue_y", "white_point_x", "white_point_y",
)  # fmt: skip
_LUMINANCES = ("min_luminance", "max_luminance")


@dataclass(frozen=True, slots=True)
class HdrMetadata:
    """SMPTE ST 2086 mastering display and CTA-861.3 light levels.

    Attributes:
      primaries: CIE 1931 x and y of red, green, blue and white; None if not told.
      luminances: lowest and highest of the display, cd/m2; None if not told.
      max_content: of the brightest pixel, cd/m2; None if not told.
      max_average: of the brightest frame's mean, cd/m2; None if not told.
    """

    primaries: tuple[float, ...] | None = None
    luminances: tuple[float, float] | None = None
    max_content: int | None = None
    max_average: int | None = None


def hdr_metadata(side_data: Sequence[Mapping[str, Any]]) -> HdrMetadata | None:
    """What ffprobe's `side_data_list` of a stream or a frame tells; None if nothing."""
    primaries = luminances = content = average = None
    for data in side_data:
        if data.get("side_data_type") == _MASTERING:
            primaries = _ratios(data, _PRIMARIES)
            luminances = _ratios(data, _LUMINANCES)
        elif data.get("side_data_type") == _LIGHT:
            content, average = int(data.get("max_content", 0)), int(data.get("max_average", 0))
    if primaries is None and luminances is None and content is None:
        return None
    pair = None if luminances is None else (luminances[0], luminances[1])
    return HdrMetadata(primaries, pair, content, average)


def dynamic_metadata(side_data: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Names of metadata that changes with the picture, which VP9 has no place for."""
    found = (_DYNAMIC.get(str(data.get("side_data_type"))) for data in side_data)
    return tuple(dict.fromkeys(name for name in found if name is not None))


def _ratios(data: Mapping[str, Any], names: Sequence[str]) -> tuple[float, ...] | None:
    values = [parse_ratio(data.get(name)) for name in names]
    if any(value is None for value in values):
        return None
    return tuple(float(value) for value in values if value is not None)
