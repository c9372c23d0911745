"""One encode as flat arrays, a row for each coded frame.

A hidden frame that is shown later without being coded again counts in the clip's quality.
Rows of the log that only show a buffer are therefore folded into the frame that they show.
Left out, they take most of what the changes of frames say about the gain of the clip
(docs/notes, linear response model).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from muzero_rc.errors import InputError
from muzero_rc.types import PEAK, SHOW_BITS, EncodeLog, FrameRole, UpdateType

__all__ = ["MAX_FRAME_PSNR_DB", "NO_REFERENCE", "REFERENCES", "EncodeFrames", "columns_of"]

MAX_FRAME_PSNR_DB = 60.0
"""Frames above it count as it, so that saturated clips do not outweigh all others."""

NO_REFERENCE = -1
"""Position of a reference that there is none of."""

REFERENCES = 3
"""LAST, GOLDEN, ALTREF."""

_NO_INFO = -1
_INFO_COLUMNS = (
    "gop_index", "gop_size", "layer_depth", "max_layer_depth", "frames_to_key",
    "ref_coding_indexes", "proposal_qindex", "proposal_bits", "boost", "tpl_intra_cost",
    "tpl_mc_dep_cost",
)  # fmt: skip
_RESULT_COLUMNS = (
    "coding_index", "show_index", "shown", "qindex", "bits", "sse", "samples", "intra_blocks",
    "inter_blocks", "skip_blocks", "cpu_seconds",
)  # fmt: skip
_WIDE = ("ref_coding_indexes", "sse", "samples")

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]
_Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class EncodeFrames:
    """The N coded frames of an encode, in coding order.

    Attributes:
      coding_index: [N] as in the log; it has gaps where a buffer is only shown.
      show_index: [N] position in display order.
      update_type: [N] of `UpdateType`.
      role: [N] of `FrameRole`.
      shown: [N] whether the frame is shown when it is coded.
      repeated: [N] whether a reference took the frame's place (`is_show_existing`).
      weight: [N] how many shown frames show this frame, itself and later ones.
      references: [N, REFERENCES] positions of LAST, GOLDEN, ALTREF among the N frames,
        `NO_REFERENCE` for none; one that is named twice counts once, in the first place.
      qindex: [N] 0..255.
      bits: [N] bits, `SHOW_BITS` at least.
      sse: [N] squared error of all planes of the coded frame, that of `MAX_FRAME_PSNR_DB` at
        least. Of hidden frames it is against the temporally filtered source.
      shown_sse: [N] the same where the frame is shown, against the source itself; the mean if
        it is shown more than once, `sse` if never.
      samples: [N] of all planes.
      gop_index: [N] position in the group of pictures in coding order.
      gop_size: [N] coded frames of the group.
      layer_depth: [N] in the pyramid.
      tpl_intra_cost: [N] of libvpx's TPL model, 0 if it did not run.
      tpl_mc_dep_cost: [N] likewise.
      blocks: [N] 8x8 blocks with a prediction, intra or inter.
      intra_blocks: [N] of them intra.
      skip_blocks: [N] of them without residual.
      cpu_seconds: [N].
      pixels: luma samples of a frame.
      overhead_bits: bits of the rows that only show a buffer.
    """

    coding_index: _Ints
    show_index: _Ints
    update_type: _Ints
    role: _Ints
    shown: _Bools
    repeated: _Bools
    weight: _Floats
    references: _Ints
    qindex: _Ints
    bits: _Floats
    sse: _Floats
    shown_sse: _Floats
    samples: _Floats
    gop_index: _Ints
    gop_size: _Ints
    layer_depth: _Ints
    tpl_intra_cost: _Floats
    tpl_mc_dep_cost: _Floats
    blocks: _Floats
    intra_blocks: _Floats
    skip_blocks: _Floats
    cpu_seconds: _Floats
    pixels: int
    overhead_bits: float

    def __len__(self) -> int:
        """N."""
        return len(self.qindex)

    @property
    def log2_bits(self) -> _Floats:
        """[N] log2 of bits."""
        return np.log2(self.bits)

    @property
    def log2_sse(self) -> _Floats:
        """[N] log2 of the coded frames' error."""
        return np.log2(self.sse)

    @property
    def psnr(self) -> _Floats:
        """[N] dB of the coded frames, at most `MAX_FRAME_PSNR_DB`."""
        return _psnr(self.sse, self.samples)

    @property
    def shown_psnr(self) -> _Floats:
        """[N] dB where the frames are shown."""
        return _psnr(self.shown_sse, self.samples)

    @property
    def passing(self) -> _Floats:
        """[N] share of the shown error that the coded frame's error makes up, 0..1.

        What the temporal filter took from the source is taken for independent of the coding
        error: shown error = coded error + a part that no qindex changes. 1 where the frame is
        shown as it was coded.
        """
        return np.minimum(self.sse / self.shown_sse, 1.0)

    @property
    def skip_share(self) -> _Floats:
        """[N] share of blocks without residual; 0 where the encode has no counts."""
        return self.skip_blocks / np.maximum(self.blocks, 1.0)

    @property
    def error_shares(self) -> _Floats:
        """[N, REFERENCES] error of each reference over the frame's own, 1 at most; 0 for none."""
        real = self.references != NO_REFERENCE
        return np.where(real, np.minimum(self.sse[self.references] / self.sse[:, None], 1.0), 0.0)

    @property
    def total_bits(self) -> float:
        """Of all rows of the log."""
        return float(self.bits.sum()) + self.overhead_bits

    def same_structure(self, other: EncodeFrames) -> bool:
        """Whether the other encode has the same frames in the same order."""
        return len(self) == len(other) and all(
            np.array_equal(getattr(self, name), getattr(other, name))
            for name in ("show_index", "update_type", "shown")
        )

    def part(self, start: int, stop: int) -> EncodeFrames:
        """Some frames as an encode of their own; references before them are none."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        cut: dict[str, Any] = {
            name: value[start:stop]
            for name, value in values.items()
            if isinstance(value, np.ndarray)
        }
        moved = cut["references"] - start
        cut["references"] = np.where(moved >= 0, moved, NO_REFERENCE)
        share = float(cut["bits"].sum()) / float(self.bits.sum())
        return replace(self, **cut, overhead_bits=share * self.overhead_bits)

    def windows(self, most: int) -> list[tuple[int, int]]:
        """Start and stop of stretches of whole groups of pictures, about `most` frames each.

        Args:
          most: frames after which a stretch ends with its group.
        """
        begins = np.flatnonzero(np.diff(self.gop_index, prepend=np.iinfo(np.int64).max) <= 0)
        starts = [0]
        for begin in begins:
            if begin - starts[-1] >= most:
                starts.append(int(begin))
        # A last stretch of a few frames goes with the one before it.
        if len(starts) > 1 and len(self) - starts[-1] < most // 2:
            starts.pop()
        return list(zip(starts, [*starts[1:], len(self)], strict=True))

    @classmethod
    def of_log(cls, log: EncodeLog) -> EncodeFrames:
        """The frames of an encode's log.

        Raises:
          InputError: the log is damaged, or empty.
        """
        if not log.frames:
            raise InputError("an encode without frames says nothing")
        pixels = log.frames[0].result.samples[0]
        return cls.of_columns(columns_of(log), pixels, 1)

    @classmethod
    def of_columns(
        cls, columns: Mapping[str, npt.ArrayLike], width: int, height: int
    ) -> EncodeFrames:
        """The frames of an encode from columns with a row for each result.

        Args:
          columns: arrays of M rows in coding order, named as the fields of `FrameInfo` and
            `FrameResult`; `update_type` is -1 where a row only shows a buffer. Those with three
            parts are [M, 3].
          width: of luma, in samples.
          height: likewise.

        Raises:
          InputError: a column is missing or of another length, a frame refers to a later one,
            or a row shows a buffer that no coded frame has filled.
        """
        table = _checked(columns)
        coded = table["update_type"] != _NO_INFO
        if not coded.any():
            raise InputError("an encode without coded frames says nothing")
        rows = {name: values[coded] for name, values in table.items()}
        samples = rows["samples"].sum(axis=1)
        floor = samples * PEAK**2 * 10.0 ** (-MAX_FRAME_PSNR_DB / 10.0)
        sse = np.maximum(rows["sse"].sum(axis=1), floor)
        shown = rows["shown"].astype(np.bool_)
        weight, shown_sse = _shown(table, coded, sse, floor)
        update_type = rows["update_type"].astype(np.int64)
        depth = rows["layer_depth"].astype(np.int64)
        bits = rows["bits"]
        return cls(
            coding_index=rows["coding_index"].astype(np.int64),
            show_index=rows["show_index"].astype(np.int64),
            update_type=update_type,
            role=np.array(
                [
                    FrameRole.of(UpdateType(kind), int(layer))
                    for kind, layer in zip(update_type, depth, strict=True)
                ],
                np.int64,
            ),
            shown=shown,
            repeated=(rows["qindex"] >= 0) & (bits <= SHOW_BITS),
            weight=weight,
            references=_references(rows["coding_index"], rows["ref_coding_indexes"]),
            qindex=np.maximum(rows["qindex"], 0.0).astype(np.int64),
            bits=np.maximum(bits, SHOW_BITS),
            sse=sse,
            shown_sse=shown_sse,
            samples=samples,
            gop_index=rows["gop_index"].astype(np.int64),
            gop_size=rows["gop_size"].astype(np.int64),
            layer_depth=depth,
            tpl_intra_cost=rows["tpl_intra_cost"],
            tpl_mc_dep_cost=rows["tpl_mc_dep_cost"],
            blocks=rows["intra_blocks"] + rows["inter_blocks"],
            intra_blocks=rows["intra_blocks"],
            skip_blocks=rows["skip_blocks"],
            cpu_seconds=rows["cpu_seconds"],
            pixels=width * height,
            overhead_bits=float(table["bits"][~coded].sum()),
        )


def columns_of(log: EncodeLog) -> dict[str, npt.NDArray[np.float64]]:
    """The columns that `EncodeFrames.of_columns` reads, [M] or [M, 3] for the log's M rows."""
    empty = {name: (0.0,) * REFERENCES if name in _WIDE else 0.0 for name in _INFO_COLUMNS}
    columns: dict[str, list[object]] = {
        name: [getattr(result, name) for result in log.results] for name in _RESULT_COLUMNS
    }
    for name in _INFO_COLUMNS:
        columns[name] = [
            empty[name] if info is None else getattr(info, name) for info, _ in log.pairs
        ]
    columns["update_type"] = [
        _NO_INFO if info is None else int(info.update_type) for info, _ in log.pairs
    ]
    return {name: np.array(values, np.float64) for name, values in columns.items()}


def _psnr(sse: _Floats, samples: _Floats) -> _Floats:
    return 10.0 * np.log10(samples * PEAK**2 / sse)


def _checked(columns: Mapping[str, npt.ArrayLike]) -> dict[str, _Floats]:
    """All columns as floats: 53 bits hold every squared error of a frame."""
    names = (*_RESULT_COLUMNS, *_INFO_COLUMNS, "update_type")
    missing = [name for name in names if name not in columns]
    if missing:
        raise InputError(f"the record of an encode lacks the columns {', '.join(missing)}")
    table = {name: np.asarray(columns[name], np.float64) for name in names}
    count = len(table["qindex"])
    for name, values in table.items():
        shape = (count, REFERENCES) if name in _WIDE else (count,)
        if values.shape != shape:
            raise InputError(f"column {name} has the shape {values.shape}, not {shape}")
    return table


def _references(coding_index: _Floats, named: _Floats) -> _Ints:
    """[N, REFERENCES] positions of what is named by coding index."""
    position = {int(index): place for place, index in enumerate(coding_index)}
    found = np.full(named.shape, NO_REFERENCE, np.int64)
    for place, row in enumerate(named):
        for slot, index in enumerate(row):
            reference = position.get(int(index), NO_REFERENCE)
            if reference > place:
                raise InputError(f"frame {int(coding_index[place])} refers to a later one")
            if reference != place and reference not in found[place]:
                found[place, slot] = reference
    return found


def _shown(
    table: Mapping[str, _Floats], coded: _Bools, sse: _Floats, floor: _Floats
) -> tuple[_Floats, _Floats]:
    """[N] how often each coded frame is shown, and its mean error there."""
    weight = np.zeros(len(sse))
    error = np.zeros(len(sse))
    latest: dict[int, int] = {}  # show index -> coded frame
    place = -1
    for row, is_coded in enumerate(coded):
        show_index = int(table["show_index"][row])
        if is_coded:
            place += 1
            latest[show_index] = place
            if table["shown"][row]:
                weight[place] += 1.0
                error[place] += sse[place]
            continue
        if show_index not in latest:
            raise InputError(f"frame {show_index} shows a buffer that was never coded")
        frame = latest[show_index]
        weight[frame] += 1.0
        error[frame] += max(float(table["sse"][row].sum()), floor[frame])
    return weight, np.where(weight > 0.0, error / np.maximum(weight, 1.0), sse)
