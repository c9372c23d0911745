"""The open data set: what moving quantizers did to every frame, without an encoder.

    dataset = load_dataset("data.npz")
    for study in dataset.studies:
        for encode in study.encodes:
            encode["qindex"], encode["bits"], encode["sse"]

`muzero_rc.dataset.schema` has every column with its unit; numpy is all that it needs.
"""

from __future__ import annotations

from muzero_rc.dataset.reader import Dataset, EncodeView, StudyView, load_dataset, sources_of
from muzero_rc.dataset.schema import FRAME_COLUMNS, FrameColumn
from muzero_rc.dataset.writer import DatasetWriter, EncodeRow, StudyRow

__all__ = [
    "FRAME_COLUMNS",
    "Dataset",
    "DatasetWriter",
    "EncodeRow",
    "EncodeView",
    "FrameColumn",
    "StudyRow",
    "StudyView",
    "load_dataset",
    "sources_of",
]
