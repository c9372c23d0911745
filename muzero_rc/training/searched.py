"""A search's encodes as a study: every try of the teacher is a measured correction."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from muzero_rc.agents.teacher import Anchor
from muzero_rc.frame_rows import info_row, result_row
from muzero_rc.teacher.log import LoggedEncode, LoggedSearch
from muzero_rc.training.explore import Encode, Study

__all__ = ["study_of_search"]

_NAMES = {Anchor.VBR: "vbr", Anchor.PROPOSAL: "base"}
_USUAL_SLOPE = 4.5  # dB per octave


def study_of_search(
    logged: LoggedSearch,
    stats: npt.NDArray[np.float64],
    *,
    source: str = "",
    part: tuple[int, int, int] = (0, 0, 0),
) -> Study | None:
    """The study that a search amounts to.

    libvpx's own encode is its "vbr", the verbatim proposals its "base"; all others are
    "perturbed": corrections to the proposals, each with what it gave.

    Args:
      logged: the search's file.
      stats: [T, 25] first-pass statistics of its clip.
      source: source that the clip belongs to.
      part: height it was scaled to, first frame and number of frames.

    Returns:
      The study; None if the search did not get as far as these two encodes.
    """
    encodes = [_encode(encode) for encode in logged.encodes]
    if {"vbr", "base"} - {encode.name for encode in encodes}:
        return None
    header = logged.header
    return Study(
        clip=header.name,
        source=source,
        part=part,
        shape=header.shape,
        settings=header.settings,
        stats=np.asarray(stats, np.float64),
        slope=_USUAL_SLOPE if logged.slope is None else logged.slope,
        encodes=encodes,
    )


def _encode(logged: LoggedEncode) -> Encode:
    plan, outcome = logged.plan, logged.outcome
    plain = not (plan.values or plan.by_kind or plan.shift) and plan.stretch == 1.0
    return Encode(
        name=_NAMES.get(plan.anchor, "perturbed") if plain else "perturbed",
        psnr_avg=outcome.score.psnr_avg,
        psnr_overall=outcome.score.psnr_overall,
        psnr_y=outcome.score.psnr_y,
        kbps=outcome.score.actual_kbps,
        infos=np.array([info_row(info) for info, _ in outcome.frames if info is not None]),
        results=np.array([result_row(result) for _, result in outcome.frames]),
    )
