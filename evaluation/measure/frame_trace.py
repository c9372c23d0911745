"""What became of every coded frame of an encode, in columns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

from muzero_rc.errors import InputError
from muzero_rc.types import FrameInfo, FrameResult, UpdateType, is_show_existing

__all__ = ["FrameTrace"]

_PSNR_DIGITS = 3  # a thousandth of a dB is far below what anyone reads off a curve


@dataclass(frozen=True, slots=True)
class FrameTrace:
    """One number for each frame in every column, in coding order; F frames.

    Frames that only show an existing buffer are in it: they cost bits and are seen.

    Attributes:
      show_index: [F] position in display order.
      update_type: [F] number of the frame's `UpdateType`.
      shown: [F] 1 for frames with a display time, 0 for hidden references.
      layer: [F] depth in the group of pictures: 0 key, 1 base ARF, deeper for others; -1
        if unknown.
      qindex: [F] qindex used; -1 for a frame that only shows an existing buffer.
      proposal: [F] qindex that libvpx's two-pass VBR would have taken; -1 likewise.
      bits: [F] bits of the coded frame.
      psnr: [F] PSNR over Y, U and V, dB; of hidden references against the filtered source.
    """

    show_index: list[int]
    update_type: list[int]
    shown: list[int]
    layer: list[int]
    qindex: list[int]
    proposal: list[int]
    bits: list[int]
    psnr: list[float]

    @property
    def shows_existing(self) -> int:
        """Frames in whose place a reference is shown again: one display position each.

        A leaf frame of one byte, or a hidden one that was left out, in the place of which
        something else is shown later.
        """
        return sum(map(is_show_existing, self.qindex, self.bits))

    @classmethod
    def of(cls, frames: Iterable[tuple[FrameInfo | None, FrameResult]]) -> FrameTrace:
        """From the frames of a rollout, in coding order."""
        rows = [
            (
                result.show_index,
                int(UpdateType.USE_BUF if info is None else info.update_type),
                int(result.shown),
                -1 if info is None else info.layer_depth,
                result.qindex,
                -1 if info is None else info.proposal_qindex,
                result.bits,
                round(result.psnr, _PSNR_DIGITS),
            )
            for info, result in frames
        ]
        columns = zip(*rows, strict=True) if rows else [()] * len(fields(cls))
        return cls(*(list(column) for column in columns))

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> FrameTrace:
        """Inverse of `as_dict`.

        Raises:
          InputError: a column is missing, holds something else than numbers, or is of
            another length.
        """
        columns = {entry.name: data.get(entry.name) for entry in fields(cls)}
        for name, column in columns.items():
            numbers = (int, float) if name == "psnr" else (int,)
            if not isinstance(column, list) or not all(type(value) in numbers for value in column):
                raise InputError(f"the frames are damaged: {name!r} should be a list of numbers")
        if len({len(column) for column in columns.values() if column is not None}) > 1:
            raise InputError("the frames are damaged: the columns differ in length")
        return cls(**columns)  # type: ignore[arg-type]
