"""What the data set holds: columns with units, and how numbers are made small.

    python -m muzero_rc.dataset docs/reference/dataset.md

writes the tables of that page.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from muzero_rc.errors import InputError

__all__ = [
    "ENCODE_COLUMNS",
    "FORMAT",
    "FRAME_COLUMNS",
    "STUDY_COLUMNS",
    "VERSION",
    "FrameColumn",
    "TableColumn",
    "markdown",
    "pack",
    "unpack",
]

FORMAT = "muzero_rc data set"
VERSION = 1

Kind = Literal["int", "back", "log2", "seconds"]

_SCALES = (2048, 1024)  # steps of an octave, the first that does not overflow
_MICRO = 1e6

KIND_MEANS: dict[Kind, str] = {
    "int": "exact, in the smallest type of integers that holds the column",
    "back": "exact, as the distance back in coding order, 0 for none",
    "log2": "2048 log2(1 + x), rounded, 16 bits: within 0.017% and half a unit",
    "seconds": "as log2, of microseconds",
}
"""How a kind of column is stored."""


@dataclass(frozen=True)
class FrameColumn:
    """A column with a row for each frame.

    Attributes:
      name: as the field of `FrameInfo` or `FrameResult`; `decided_` begins the decision's.
      unit: of its values.
      kind: how it is stored.
      text: what it says.
      width: values in a row.
    """

    name: str
    unit: str
    kind: Kind
    text: str
    width: int = 1


@dataclass(frozen=True)
class TableColumn:
    """A column with a row for each encode or each study.

    Attributes:
      name: of the attribute.
      unit: of its values.
      text: what it says.
    """

    name: str
    unit: str
    text: str


FRAME_COLUMNS = (
    FrameColumn("coding_index", "frames", "int", "place in coding order, the number of the row; "
                "-1 if a reference is shown again by plan"),
    FrameColumn("show_index", "frames", "int", "place in display order"),
    FrameColumn("update_type", "0..6", "int", "libvpx's reason to code the frame; -1: not coded, "
                "a reference is shown again, and the columns of the description are 0"),
    FrameColumn("shown", "bool", "int", "False for hidden alternate references"),
    FrameColumn("gop_index", "frames", "int", "place in the group of pictures"),
    FrameColumn("gop_size", "frames", "int", "coded frames of the group"),
    FrameColumn("layer_depth", "layers", "int", "0 key and golden, 1 base reference, "
                "deeper below; 5 overlay, in all groups"),
    FrameColumn("max_layer_depth", "layers", "int", "depth of the group's leaf frames"),
    FrameColumn("frames_to_key", "frames", "int", "shown frames left until the next key frame"),
    FrameColumn("ref_coding_indexes", "frames", "back", "LAST, GOLDEN, ALTREF in coding order; "
                "-1: none", 3),
    FrameColumn("proposal_qindex", "0..255", "int", "libvpx's own choice"),
    FrameColumn("proposal_bits", "bits", "int", "libvpx's target for the frame"),
    FrameColumn("min_qindex", "0..255", "int", "libvpx's lower bound"),
    FrameColumn("max_qindex", "0..255", "int", "libvpx's upper bound"),
    FrameColumn("boost", "percent", "int", "libvpx's boost of the group's reference"),
    FrameColumn("tpl_intra_cost", "libvpx's", "log2", "intra cost in the TPL model; 0: not run"),
    FrameColumn("tpl_mc_dep_cost", "libvpx's", "log2", "cost of all that depends on the frame"),
    FrameColumn("qindex", "0..255", "int", "what it was coded with; -1: a buffer was shown"),
    FrameColumn("bits", "bits", "int", "that the frame took; 8 or 0: a reference took its place"),
    FrameColumn("sse", "levels²", "log2", "squared error of Y, U, V; of hidden frames against "
                "the filtered source", 3),
    FrameColumn("samples", "samples", "int", "of Y, U, V", 3),
    FrameColumn("intra_blocks", "8x8 blocks", "int", "predicted from within the frame"),
    FrameColumn("inter_blocks", "8x8 blocks", "int", "predicted from references"),
    FrameColumn("skip_blocks", "8x8 blocks", "int", "without residual"),
    FrameColumn("cpu_seconds", "s", "seconds", "CPU time of libvpx's thread since the result "
                "before"),
    FrameColumn("work", "counts", "log2", "modes, searched, inter, intra, transformed, "
                "coefficients, optimized, deblocked, propagated", 9),
    FrameColumn("decided", "bool", "int", "whether the frame was decided on"),
    FrameColumn("decided_qindex", "0..255", "int", "what was asked for; -1: left to libvpx"),
    FrameColumn("decided_speed", "0..9", "int", "`cpu-used` of the frame; -1: the stream's"),
    FrameColumn("decided_features", "flags", "int", "speed features switched off for it"),
    FrameColumn("decided_show_existing", "0..2", "int", "never, if cheaper, always"),
)  # fmt: skip
"""Columns of frames, in the order of `FrameInfo`, `FrameResult`, `FrameDecision`."""

ENCODE_COLUMNS = (
    TableColumn("name", "", "what it is for, see [Train](../guide/train.md#studies)"),
    TableColumn("size_bytes", "bytes", "of the stream's packets"),
    TableColumn("target_kbps", "kbit/s", "asked for"),
    TableColumn("kbps", "kbit/s", "of the packets"),
    TableColumn("psnr_avg", "dB", "mean over shown frames of PSNR over Y, U and V"),
    TableColumn("psnr_overall", "dB", "of the summed squared error"),
    TableColumn("psnr_y", "dB", "mean over shown frames of luma PSNR"),
    TableColumn("stream_speed", "0..9", "`cpu-used` that libvpx was opened with"),
    TableColumn(
        "pattern", "", "of its steps: empty, blocks, arfs, hadamard or all; of tiers: tiers, mix"
    ),
    TableColumn("step_size", "qindexes", "of those steps, or tiers"),
    TableColumn("pair", "", "number of the pair of encodes with opposite steps; -1: none"),
    TableColumn("sign", "-1, 0, 1", "of the encode in its pair"),
    TableColumn("gops", "frames", "rows of first frame, most frames, most layers"),
)
"""Attributes of an encode."""

STUDY_COLUMNS = (
    TableColumn("clip", "", "file in the corpus"),
    TableColumn("source", "", "group that the clip belongs to; hold out whole sources"),
    TableColumn("set", "", "set of the corpus: train"),
    TableColumn("part", "", "height that it was scaled to, first frame, frames"),
    TableColumn("width", "pixels", "of a row"),
    TableColumn("height", "pixels", "rows"),
    TableColumn("fps", "1/s", "frame rate, a fraction"),
    TableColumn("speed", "0..5", "`cpu-used` asked for"),
    TableColumn("target_kbps", "kbit/s", "of all encodes but vbr_aim and vbr_high"),
    TableColumn(
        "slope", "dB", "of PSNR avg for a doubling of rate, from vbr to vbr_high; clipped to 1..8"
    ),
    TableColumn("stats", "libvpx's", "[T, 25] first-pass statistics, 32-bit floats"),
    TableColumn("identity", "", "of the encoder that made it: library, code, recipe"),
)
"""Attributes of a study."""


def pack(column: FrameColumn, values: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], int]:
    """A column made small.

    Args:
      column: which one.
      values: [N] or [N, width]; of `back` the distances, not the references.

    Returns:
      What is stored, and the steps of an octave if those are rounded, else 0.

    Raises:
      InputError: a value is out of range.
    """
    if column.kind in ("int", "back"):
        return _smallest(np.asarray(values).astype(np.int64)), 0
    scaled = np.asarray(values, np.float64) * (_MICRO if column.kind == "seconds" else 1.0)
    if scaled.size and not scaled.min() >= 0:
        raise InputError(f"{column.name} must not be negative, found {scaled.min()}")
    octaves = np.log2(1.0 + scaled)
    for scale in _SCALES:
        steps = np.rint(scale * octaves)
        if not steps.size or steps.max() <= np.iinfo(np.uint16).max:
            return steps.astype(np.uint16), scale
    raise InputError(f"{column.name} is too large: {scaled.max()}")


def unpack(column: FrameColumn, stored: npt.NDArray[Any], scale: int) -> npt.NDArray[Any]:
    """What `pack` was given, within the precision of its kind."""
    if column.kind in ("int", "back"):
        return stored.astype(np.bool_ if column.unit == "bool" else np.int64)
    values = np.exp2(stored.astype(np.float64) / scale) - 1.0
    return values / _MICRO if column.kind == "seconds" else np.rint(values).astype(np.int64)


def _smallest(values: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    for kind in (np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32):
        limits = np.iinfo(kind)
        if limits.min <= low and high <= limits.max:
            return values.astype(kind)
    return values


def markdown() -> str:
    """The tables of the reference page."""
    lines = ["### Studies", "", "| attribute | unit | meaning |", "|---|---|---|"]
    lines += [f"| `{c.name}` | {c.unit} | {c.text} |" for c in STUDY_COLUMNS]
    lines += ["", "### Encodes", "", "| attribute | unit | meaning |", "|---|---|---|"]
    lines += [f"| `{c.name}` | {c.unit} | {c.text} |" for c in ENCODE_COLUMNS]
    lines += ["", "### Frames", "", "| column | unit | stored | meaning |", "|---|---|---|---|"]
    for column in FRAME_COLUMNS:
        name = f"`{column.name}`" + (f" [{column.width}]" if column.width > 1 else "")
        lines.append(f"| {name} | {column.unit} | {column.kind} | {column.text} |")
    lines += ["", "| stored | how |", "|---|---|"]
    lines += [f"| {kind} | {text} |" for kind, text in KIND_MEANS.items()]
    return "\n".join(lines) + "\n"
