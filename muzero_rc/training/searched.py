"""A search's encodes as a study: every try of the teacher is a measured correction."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from muzero_rc.agents.hindsight import Anchor, Plan
from muzero_rc.policies.hindsight.log import LoggedSearch
from muzero_rc.training.stages.collect import Encode, Study

__all__ = ["study_of_search"]

_NAMES = {Anchor.VBR: "vbr", Anchor.PROPOSAL: "base"}
_PROBED_NAMES = {Anchor.VBR: "vbr", Anchor.FEEDBACK: "base"}
_USUAL_SLOPE = 4.5  # dB per octave


def study_of_search(
    logged: LoggedSearch,
    stats: npt.NDArray[np.float64],
    *,
    source: str = "",
    part: tuple[int, int, int] = (0, 0, 0),
) -> Study | None:
    """The study that a search amounts to.

    libvpx's own encode is its "vbr", the verbatim proposals its "base", after a probe
    these with the feedback; all others are "perturbed": corrections to the proposals,
    each with what it gave.

    Args:
      logged: the search's file.
      stats: [T, 25] first-pass statistics of its clip.
      source: source that the clip belongs to.
      part: height it was scaled to, first frame and number of frames.

    Returns:
      The study; None if the search did not get as far as these two encodes.
    """
    names = _NAMES if logged.probe is None else _PROBED_NAMES
    encodes = [
        Encode.of(_name(e.plan, names), e.outcome.score, e.outcome.frames) for e in logged.encodes
    ]
    if {"vbr", "base"} - {encode.name for encode in encodes}:
        return None
    if logged.probe is not None:
        encodes.append(Encode.of("probe", logged.probe.score, logged.probe.frames))
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
        gops=logged.gops,
    )


def _name(plan: Plan, names: Mapping[Anchor, str]) -> str:
    plain = not (plan.values or plan.by_kind or plan.shift) and plan.stretch == 1.0
    return names.get(plan.anchor, "perturbed") if plain else "perturbed"
