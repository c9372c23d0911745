"""Actions 0..255 and the qindexes that they stand for, in two frames.

In the "proposal" frame an action is a step from libvpx's own proposal for the frame,
qindex = proposal + action - 128, so that 128 is the proposal itself. Actions that leave
0..255 are invalid, so that each qindex within reach is reached by exactly one valid
action; qindexes further than 128 below or 127 above the proposal are out of reach.
In the "absolute" frame the action is the qindex, and all are valid.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from muzero_rc.types import NUM_QINDEX

__all__ = [
    "CENTRE",
    "NUM_ACTIONS",
    "action_of_qindex",
    "imitation_target",
    "valid_actions",
    "qindex_of_action",
]

NUM_ACTIONS = NUM_QINDEX
"""Size of the action space in both frames."""

CENTRE = 128
"""The action that means "the proposal itself" in the "proposal" frame."""

_ACTIONS = np.arange(NUM_ACTIONS, dtype=np.int32)


def qindex_of_action(
    action: npt.ArrayLike, proposal_qindex: npt.ArrayLike, action_frame: str
) -> npt.NDArray[np.int32]:
    """The qindex of each action, clipped to 0..255.

    Args:
      action: [...] int, 0..255.
      proposal_qindex: [...] int, libvpx's proposal; unused in the "absolute" frame.
      action_frame: "proposal" or "absolute".

    Returns:
      [...] int32 qindex.
    """
    qindex = np.asarray(action, dtype=np.int32)
    if action_frame == "proposal":
        qindex = qindex + np.asarray(proposal_qindex, dtype=np.int32) - CENTRE
    clipped: npt.NDArray[np.int32] = np.clip(qindex, 0, NUM_QINDEX - 1)
    return clipped


def action_of_qindex(
    qindex: npt.ArrayLike, proposal_qindex: npt.ArrayLike, action_frame: str
) -> npt.NDArray[np.int32]:
    """The valid action that comes closest to each qindex: exact within reach.

    Args:
      qindex: [...] int, 0..255.
      proposal_qindex: [...] int, libvpx's proposal; unused in the "absolute" frame.
      action_frame: "proposal" or "absolute".

    Returns:
      [...] int32 action.
    """
    action = np.asarray(qindex, dtype=np.int32)
    if action_frame == "proposal":
        action = action - np.asarray(proposal_qindex, dtype=np.int32) + CENTRE
    clipped: npt.NDArray[np.int32] = np.clip(action, 0, NUM_ACTIONS - 1)
    return clipped


def valid_actions(
    proposal_qindex: npt.ArrayLike, action_frame: str, reach: npt.ArrayLike = NUM_QINDEX
) -> npt.NDArray[np.bool_]:
    """Which actions stand for a qindex in 0..255 that is near enough to the proposal.

    Args:
      proposal_qindex: [...] int, 0..255.
      action_frame: "proposal" or "absolute".
      reach: [...] int, largest step from the proposal, 0 or more.

    Returns:
      [..., 256] bool, at least one of each row true.
    """
    proposal = np.asarray(proposal_qindex, dtype=np.int32)[..., None]
    bound = np.asarray(reach, dtype=np.int32)[..., None]
    qindex = _ACTIONS if action_frame == "absolute" else proposal + _ACTIONS - CENTRE
    near = np.abs(qindex - proposal) <= bound
    valid: npt.NDArray[np.bool_] = near & (qindex >= 0) & (qindex < NUM_QINDEX)
    return valid


def imitation_target(
    qindex: int, proposal_qindex: int, action_frame: str, sigma: float = 1.5
) -> npt.NDArray[np.float32]:
    """A teacher's qindex as a distribution over actions: a Gaussian bump, valid only.

    p(a) is proportional to exp(-(a - a*)^2 / (2 sigma^2)): neighbours of a good qindex
    are nearly as good, which plain one-hot targets do not say.

    Args:
      qindex: the teacher's choice, 0..255.
      proposal_qindex: libvpx's proposal for the frame.
      action_frame: "proposal" or "absolute".
      sigma: width in qindex steps; 0 gives one-hot.

    Returns:
      [256] float32, sums to 1.
    """
    best = int(action_of_qindex(qindex, proposal_qindex, action_frame))
    weights: npt.NDArray[Any]
    if sigma <= 0:
        weights = (_ACTIONS == best).astype(np.float64)
    else:
        weights = np.exp(-0.5 * ((_ACTIONS - best) / sigma) ** 2)
    weights = weights * valid_actions(proposal_qindex, action_frame)
    return np.asarray(weights / weights.sum(), np.float32)
