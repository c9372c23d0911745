"""From the studies of a run to the open data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from muzero_rc.dataset import FRAME_COLUMNS, DatasetWriter, EncodeRow, StudyRow
from muzero_rc.errors import InputError
from muzero_rc.log_columns import BytesPool, columns_of_frames
from muzero_rc.training.studies import study_files
from muzero_rc.training.study import Encode, Study

__all__ = ["Published", "publish"]

_SETS = {"training": "train", "validation": "dev"}


@dataclass(frozen=True)
class Published:
    """What a data set holds.

    Attributes:
      studies: in it.
      encodes: likewise.
      frames: likewise.
      size_bytes: of the file.
    """

    studies: int
    encodes: int
    frames: int
    size_bytes: int


def publish(
    run: Path, out: Path, on_study: Callable[[int, int], None] = lambda done, total: None
) -> Published:
    """Makes the data set of a run's studies.

    Args:
      run: folder of the run, or of studies.
      out: the file.
      on_study: told how many of how many studies are read.

    Raises:
      InputError: there is no study, or one is not of the training set.
      CheckpointError: a study is damaged.
      OutputError: the file cannot be written.
    """
    files = study_files(run / "studies" if (run / "studies").is_dir() else run)
    if not files:
        raise InputError(f"{run} holds no study; make some: muzero-rc train --until collect")
    writer, encodes = DatasetWriter(), 0
    for number, path in enumerate(files, 1):
        row = _row(Study.load(path))
        writer.add(row)
        encodes += len(row.encodes)
        on_study(number, len(files))
    writer.write(out, {})
    return Published(writer.studies, encodes, writer.frames, out.stat().st_size)


def _row(study: Study) -> StudyRow:
    width, height, fps_num, fps_den = study.shape
    return StudyRow(
        clip=study.clip,
        source=study.source,
        set=_SETS[study.split],
        part=study.part,
        width=width,
        height=height,
        fps=(fps_num, fps_den),
        speed=study.settings.speed,
        target_kbps=study.settings.target_kbps,
        slope=study.slope,
        stats=study.stats,
        identity=study.identity,
        encodes=[_encode_row(encode) for encode in study.encodes],
    )


def _encode_row(encode: Encode) -> EncodeRow:
    columns = columns_of_frames(encode.log.frames, BytesPool())
    pattern = encode.pattern
    return EncodeRow(
        name=encode.name,
        size_bytes=encode.log.size_bytes,
        target_kbps=encode.target_kbps,
        kbps=encode.kbps,
        psnr_avg=encode.psnr_avg,
        psnr_overall=encode.psnr_overall,
        psnr_y=encode.psnr_y,
        stream_speed=encode.log.speed,
        columns={column.name: columns[column.name] for column in FRAME_COLUMNS},
        gops=encode.log.gops,
        pattern="" if pattern is None else pattern.kind,
        step_size=0 if pattern is None else pattern.size,
        pair=-1 if pattern is None else pattern.pair,
        sign=0 if pattern is None else pattern.sign,
    )
