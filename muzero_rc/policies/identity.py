"""What this program tells a policy, and proposes to it, by one small encode that never changes.

The encode is made up: it has a frame of each kind, a hidden frame that is shown later, and one
that a reference took the place of. It must stay as it is, or every policy file is refused.
"""

from __future__ import annotations

import functools
import os
import warnings
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from muzero_rc.agents.world_model.features import features_of
from muzero_rc.agents.world_model.frames import EncodeFrames
from muzero_rc.env.codec import _native
from muzero_rc.env.codec.statistics import FIRST_PASS_FIELDS
from muzero_rc.env.control.controller import Controller
from muzero_rc.env.control.probe_record import ProbeRecord
from muzero_rc.env.control.qp_offsets import steps_by_level
from muzero_rc.env.control.recipe import DEFAULT_RECIPE, Recipe
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.observation.builder import ObservationBuilder
from muzero_rc.errors import CheckpointError, PolicyWarning
from muzero_rc.policy_identity import PolicyIdentity
from muzero_rc.types import (
    PEAK,
    SHOW_BITS,
    EncodeLog,
    FrameInfo,
    FrameResult,
    Observation,
    UpdateType,
)

__all__ = ["PolicyKind", "check_identity", "program_identity"]

PolicyKind = Literal["network", "plan"]

_RATE_OFFSET = 5  # that observations are made with, whatever the controller would add
_PIXELS = 160 * 96
_SAMPLES = (_PIXELS, _PIXELS // 4, _PIXELS // 4)


@dataclass(frozen=True)
class _Shape:
    width: int = 160
    height: int = 96
    fps: Fraction = Fraction(25)
    num_frames: int = 8


@dataclass(frozen=True)
class _Stats:
    stats: npt.NDArray[np.float64]


class _Row(NamedTuple):
    """A frame of the reference encode."""

    kind: UpdateType | None  # None: only shows a buffer
    show_index: int
    shown: bool
    depth: int
    references: tuple[int, int, int]
    proposal: int
    qindex: int
    bits: int
    psnr: float


_NONE = (-1, -1, -1)
_ROWS = (
    _Row(UpdateType.KEY, 0, True, 0, _NONE, 60, 66, 42_000, 39.0),
    _Row(UpdateType.ARF, 7, False, 1, (0, 0, 0), 80, 86, 21_000, 37.5),
    _Row(UpdateType.ARF, 4, False, 2, (0, 0, 1), 96, 88, 9_000, 36.5),
    _Row(UpdateType.ARF, 2, False, 3, (0, 2, 1), 108, 100, 5_200, 36.0),
    _Row(UpdateType.LEAF, 1, True, 4, (0, 3, 1), 128, 130, 1_900, 35.5),
    _Row(None, 2, True, 0, _NONE, 0, -1, SHOW_BITS, 36.0),
    _Row(UpdateType.LEAF, 3, True, 4, (4, 3, 1), 132, 131, 1_400, 35.2),
    _Row(None, 4, True, 0, _NONE, 0, -1, SHOW_BITS, 36.4),
    _Row(UpdateType.LEAF, 5, True, 4, (6, 2, 1), 130, 134, SHOW_BITS, 34.9),
    _Row(UpdateType.GOLDEN, 6, True, 1, (8, 2, 1), 90, 94, 7_700, 36.8),
    _Row(UpdateType.OVERLAY, 7, True, 1, (9, 9, 1), 120, 121, 800, 37.0),
)


class _Reference(NamedTuple):
    shape: _Shape
    settings: EncoderSettings
    stats: _Stats
    log: EncodeLog


@functools.cache
def _reference() -> _Reference:
    shape = _Shape()
    settings = EncoderSettings(
        target_kbps=300, speed=2, speed_profile="hierarchical", passes=3
    )  # fmt: skip
    times = np.arange(shape.num_frames)[:, None]
    stats = 0.02 * np.arange(1, 1 + len(FIRST_PASS_FIELDS)) + 0.03 * times
    for name, error in (("intra_error", 900.0), ("coded_error", 260.0), ("sr_coded_error", 330.0),
                        ("frame_noise_energy", 12.0)):  # fmt: skip
        stats[:, FIRST_PASS_FIELDS.index(name)] = error * (1.0 + 0.1 * times[:, 0])
    stats[:, FIRST_PASS_FIELDS.index("weight")] = 1.0 + 0.01 * times[:, 0]
    pairs = [_pair(place, row) for place, row in enumerate(_ROWS)]
    size = sum(result.bits for _, result in pairs) // 8 + 40
    return _Reference(shape, settings, _Stats(stats), EncodeLog.of_pairs(pairs, size))


def _pair(place: int, row: _Row) -> tuple[FrameInfo | None, FrameResult]:
    error = sum(_SAMPLES) * PEAK**2 * 10.0 ** (-row.psnr / 10.0)
    result = FrameResult(
        coding_index=place,
        show_index=row.show_index,
        shown=row.shown,
        qindex=row.qindex,
        bits=row.bits,
        sse=(round(0.7 * error), round(0.2 * error), round(0.1 * error)),
        samples=_SAMPLES,
        intra_blocks=max(200 - 20 * place, 5),
        inter_blocks=40 + 20 * place,
        skip_blocks=15 * place,
        cpu_seconds=0.01,
    )
    if row.kind is None:
        return None, result
    info = FrameInfo(
        coding_index=place,
        show_index=row.show_index,
        update_type=row.kind,
        shown=row.shown,
        gop_index=place,
        gop_size=9,
        layer_depth=row.depth,
        max_layer_depth=4,
        frames_to_key=8 - row.show_index,
        ref_coding_indexes=row.references,
        proposal_qindex=row.proposal,
        proposal_bits=3_000 + 11 * row.bits // 10,
        min_qindex=row.proposal // 2,
        max_qindex=min(row.proposal + 60, 255),
        boost=300 if row.depth else 1_500,
        tpl_intra_cost=90_000 - 5_000 * place,
        tpl_mc_dep_cost=200_000 // (1 + place) if row.depth < 4 else 0,
    )
    return info, result


def program_identity(kind: PolicyKind, recipe: Recipe = DEFAULT_RECIPE) -> PolicyIdentity:
    """What this program is to a policy.

    Args:
      kind: a network is told observations; a plan model features of a probe encode, and what
        its steps are added to.
      recipe: the constants of control.
    """
    observations, proposed = _played(recipe)
    told: list[npt.NDArray[Any]] = []
    if kind == "plan":
        frames = EncodeFrames.of_log(_reference().log)
        told = [features_of(frames), steps_by_level(observations, recipe.qp_offsets)]
    else:
        for observation in observations:
            told += [observation.frame, observation.globals]
        told += [observations[0].clip, observations[-1].history]
    flat = np.concatenate([part.ravel() for part in told]).astype(np.float32)
    return PolicyIdentity(_native.build_id(), flat, proposed.astype(np.float32))


def _played(recipe: Recipe) -> tuple[list[Observation], npt.NDArray[np.float64]]:
    """Observations of the reference encode's coded frames, and what is proposed for them."""
    shape, settings, stats, log = _reference()
    builder = ObservationBuilder(shape, settings, stats)
    controller = Controller(shape, settings, stats, ProbeRecord.of(log), recipe=recipe)
    observations, proposed = [], []
    for info, result in log.pairs:
        if info is not None:
            observations.append(builder.observe(info, _RATE_OFFSET))
            proposal = controller.propose(info)
            decision = proposal.decision
            proposed.append(
                [
                    float(decision.qindex), float(decision.speed), float(decision.features),
                    float(decision.show_existing), decision.show_existing_price,
                    decision.show_existing_change, float(proposal.reach),
                ]
            )  # fmt: skip
        controller.update(info, result)
        builder.record(info, result)
    return observations, np.array(proposed).ravel()


def check_identity(
    path: str | os.PathLike[str], kind: PolicyKind, found: PolicyIdentity | None
) -> None:
    """Holds a policy file to the program's identity.

    Args:
      path: of the file.
      kind: of the policy in it.
      found: what the file says it was made for.

    Raises:
      CheckpointError: the file was made for another libvpx or other inputs.

    Warns:
      PolicyWarning: only costs have shifted, or the file does not say what it was made for.
    """
    doubt = "it does not say what it was made for"
    if found is not None:
        program = program_identity(kind)
        if refusal := found.refusal(program):
            raise CheckpointError(f"{path} cannot be used: {refusal}; train it again")
        doubt = found.doubt(program)
    if doubt:
        warnings.warn(
            f"{path} may be worth less here: {doubt}; train it again to be sure",
            PolicyWarning,
            stacklevel=2,
        )
