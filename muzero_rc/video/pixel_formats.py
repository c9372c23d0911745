"""What ffmpeg's names of pixel formats say: depth, subsampling, RGB, transparency."""

from __future__ import annotations

import re

__all__ = ["bit_depth_of", "has_alpha", "is_rgb", "subsampling_of"]

# What is before the depth: yuv420p10, p010, p416, y210, gray12, ya16, xyz12, x2rgb10, bayer_rggb16.
_DEPTH = re.compile(r"(?:p|p[024]|y2|gray|ya|xyz|x2rgb|x2bgr|bayer_[bgr]{4})(9|10|12|14|16)$")
# Names that count the bits of a pixel, or none at all.
_DEPTHS = {
    "ayuv64": 16, "nv20": 10, "v30x": 10, "xv30": 10, "xv36": 12,
    "bgr48": 16, "bgra64": 16, "rgb48": 16, "rgba64": 16,
}  # fmt: skip
_RGB = re.compile(r"^(?:pal|bayer|xyz)|rgb|bgr|gbr")
_ALPHA = ("abgr", "argb", "ayuv", "bgra", "gbrap", "pal8", "rgba", "vuya", "ya16", "ya8", "yuva")
_PACKED = {
    "ayuv": "444", "nv16": "422", "nv20": "422", "nv24": "444", "nv42": "444", "p21": "422",
    "p41": "444", "vuya": "444", "vuyx": "444", "y21": "422", "xv3": "444",
}  # fmt: skip


def bit_depth_of(pix_fmt: str) -> int:
    """Bits of a sample, 8 at the least; 16 and 32 of floating point."""
    name = pix_fmt.removesuffix("le").removesuffix("be")
    if name in _DEPTHS:
        return _DEPTHS[name]
    if name.endswith(("f16", "f32")):
        return int(name[-2:])
    found = _DEPTH.search(name)
    return int(found[1]) if found else 8


def is_rgb(pix_fmt: str) -> bool:
    """Whether samples are RGB, or XYZ, so that decoding chooses the YUV matrix."""
    return _RGB.search(pix_fmt) is not None


def has_alpha(pix_fmt: str) -> bool:
    """Whether there is transparency."""
    return pix_fmt.startswith(_ALPHA)


def subsampling_of(pix_fmt: str) -> str | None:
    """Of chroma, such as 422, where it is not 420; None for that, for grey and for RGB."""
    if is_rgb(pix_fmt):
        return None
    packed = next((found for start, found in _PACKED.items() if pix_fmt.startswith(start)), None)
    return packed or next((s for s in ("444", "440", "422", "411", "410") if s in pix_fmt), None)
