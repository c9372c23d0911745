"""Fits what frames take and gain at each speed tier to the studies of data sets.

Five things, one after the other: seconds of each count; VBR's time from the probe encode; a
frame's work at each tier from its work in the probe; how far off that is for a whole clip; what a
slower tier gains frames of each role, with all that passes on through references.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from muzero_rc.agents.world_model.accuracy import explained
from muzero_rc.agents.world_model.features import features_of, matched_features
from muzero_rc.agents.world_model.frames import EncodeFrames
from muzero_rc.agents.world_model.gain import Objective
from muzero_rc.agents.world_model.linear import LinearModel, Response
from muzero_rc.agents.world_model.tiers import TierChanges, TierLevels, kinds_of
from muzero_rc.dataset import EncodeView, StudyView
from muzero_rc.env.control.work_model import (
    FRAME_FEATURES,
    NUM_KINDS,
    FrameWork,
    WorkModel,
)
from muzero_rc.errors import InputError
from muzero_rc.types import TIERS, FrameRole

__all__ = [
    "HeldOut",
    "TierStudy",
    "base_of",
    "fit_gain",
    "fit_tiers",
    "fit_vbr",
    "fit_work_model",
    "held_out_gains",
    "joined",
    "tier_study",
    "tiers_of",
]

RIDGES = (1.0, 3.0, 10.0, 30.0, 100.0)
"""Strengths that are tried, in studies."""

_FOLDS = 12
"""Of sources that are held out together."""

_LEAST_FRAMES = 50
"""Of a kind and tier, below which nothing is said of it."""

_MOST_ENCODES = 1500
"""That seconds of counts are fitted to: more only take memory."""

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """How VBR's time is foretold on sources held out, by speed.

    Attributes:
      median: of the relative miss.
      within_tenth: share of studies that are missed by a tenth at most.
      bias: mean of the log miss.
    """

    median: float
    within_tenth: float
    bias: float


def joined(studies: Sequence[StudyView], tiers: Sequence[StudyView]) -> list[StudyView]:
    """Studies with the encodes `tiered` that others made of the same part, target and speed.

    Args:
      studies: with a base.
      tiers: of the same encoder, with the same probe encode.

    Raises:
      InputError: one of `tiers` belongs to none of the studies, or its probe encode differs.
    """

    def key(study: StudyView) -> tuple[object, ...]:
        return study.clip, study.part, study.speed, study.target_kbps

    place = {key(study): number for number, study in enumerate(studies)}
    found = list(studies)
    for study in tiers:
        number = place.get(key(study))
        if number is None:
            raise InputError(f"{study.clip} at speed {study.speed} is in no study to join")
        known = found[number]
        if known.encode("probe").size_bytes != study.encode("probe").size_bytes:
            raise InputError(f"{study.clip} was encoded by another encoder: make its tiers again")
        encodes = [*known.encodes, *study.named("tiered")]
        found[number] = dataclasses.replace(known, encodes=encodes)
    return found


def base_of(study: StudyView) -> EncodeView:
    """The last pass that changes are told from: that of `landed`."""
    return next(iter([*study.named("landed"), *study.named("base")]))


def tiers_of(encode: EncodeView) -> _Ints:
    """[N] tiers that the coded frames of an encode were searched at."""
    coded = np.asarray(encode["update_type"]) >= 0
    asked = np.asarray(encode["decided_speed"]).astype(np.int64)[coded]
    return np.where(asked < 0, encode.stream_speed, asked)


def fit_work_model(
    studies: Sequence[StudyView], response: LinearModel, exclude: Set[str] = frozenset()
) -> WorkModel:
    """Fits everything.

    Args:
      studies: some with the encode `vbr`, some with the encodes `tiered`, each with a `probe`.
      response: how errors pass on through references.
      exclude: sources that are not fitted to.

    Raises:
      InputError: there are no such studies, or of two sources at least.
    """
    studies = [study for study in studies if study.source not in exclude]
    studies = [study for study in studies if study.named("probe")]
    if len({study.source for study in studies if study.named("vbr")}) < 2:
        raise InputError("the time of VBR is learned from studies of two sources or more")
    if not any(study.named("tiered") for study in studies):
        raise InputError("there is no encode with other speeds of frames to learn from")
    seconds = fit_seconds(studies)
    vbr, clips, held_out, ridge = fit_vbr(studies, seconds)
    tiers, noise, spread = fit_tiers(studies, seconds)
    gain, _ = fit_gain(studies, response)
    for kind in range(NUM_KINDS):
        if not np.isfinite(tiers[kind]).any():  # too rare to learn from: as leaf frames
            tiers[kind], gain[kind] = tiers[FrameRole.LEAF], gain[FrameRole.LEAF]
        elif not np.isfinite(gain[kind]).any():  # nothing is searched, nothing gained
            gain[kind] = np.where(np.isfinite(tiers[kind, :, 0]), 0.0, np.nan)
    found = [tier_study(study, response) for study in studies if study.named("tiered")]
    came, expected, _ = held_out_gains([study for study in found if study is not None])
    about = {
        "studies": len(studies),
        "sources": len({study.source for study in studies}),
        "tiered": sum(len(study.named("tiered")) for study in studies),
        "vbr_ridge": ridge,
        "vbr_held_out": {
            str(speed): {
                "median": round(found.median, 4),
                "within_tenth": round(found.within_tenth, 4),
                "bias": round(found.bias, 4),
            }
            for speed, found in held_out.items()
        },
        "log_deviation_of_encodes": round(spread, 4),
        "gain_r2_held_out": round(explained(came, expected), 3),
    }
    return WorkModel(seconds, vbr, clips, tiers, gain, noise, about)


def fit_seconds(studies: Sequence[StudyView]) -> _Floats:
    """[COUNTS] seconds of a count, none below zero; a frame's variance goes by its time."""
    encodes = [
        encode
        for study in studies
        for encode in study.encodes
        if encode.name in ("vbr", "probe", "base", "landed", "tiered")
    ]
    encodes = encodes[:: max(len(encodes) // _MOST_ENCODES, 1)]
    counts = np.concatenate([_counts(encode) for encode in encodes])
    seconds = np.concatenate([np.asarray(e["cpu_seconds"], np.float64) for e in encodes])
    scale = np.sqrt(np.maximum(seconds, np.median(seconds)))
    size = np.maximum(counts.max(axis=0), 1.0)
    weights, _ = nnls(counts / size / scale[:, None], seconds / scale)
    return np.asarray(weights / size, np.float64)


def fit_vbr(
    studies: Sequence[StudyView], seconds: _Floats
) -> tuple[dict[int, _Floats], _Floats, dict[int, HeldOut], float]:
    """By speed [1 + CLIP_FEATURES] of the log ratio to the probe.

    Returns:
      These; [2, CLIP_FEATURES] the range of features; how well it does held out; the ridge.
    """
    studies = [study for study in studies if study.named("vbr")]
    features, ratios, speeds, sources = [], [], [], []
    left_out: dict[int, list[float]] = {}
    for study in studies:
        probe, vbr = study.encode("probe"), study.encode("vbr")
        frames = FrameWork.of_columns(probe, seconds)
        features.append(frames.clip_features(study.target_kbps * 1000.0 / float(study.fps)))
        work = float((_counts(vbr) @ seconds).sum())
        ratios.append(np.log(work / frames.seconds.sum()))
        speeds.append(study.speed)
        sources.append(study.source)
        # What seconds of work leave out of VBR's time and of the last pass's is not the same.
        three = [probe, base_of(study)]
        ours = sum(float((_counts(encode) @ seconds).sum()) for encode in three)
        theirs = sum(float(np.sum(encode["cpu_seconds"])) for encode in three)
        own = float(np.sum(vbr["cpu_seconds"]))
        left_out.setdefault(study.speed, []).append(np.log(own / work) - np.log(theirs / ours))
    table, came = np.array(features), np.array(ratios)
    speed, source = np.array(speeds), np.array(sources)
    found: dict[int, _Floats] = {}
    best: dict[float, tuple[float, dict[int, HeldOut]]] = {}
    for ridge in RIDGES:
        missed = np.zeros(len(came))
        names = np.unique(source)
        for fold in range(min(_FOLDS, len(names))):
            out = np.isin(source, names[fold::_FOLDS])
            for own_speed in np.unique(speed[out]):
                row = _line(table, came, speed, int(own_speed), ~out, ridge)
                there = out & (speed == own_speed)
                missed[there] = row[0] + table[there] @ row[1:] - came[there]
        by_speed = {int(s): _held_out(missed[speed == s]) for s in np.unique(speed)}
        best[ridge] = float(np.square(missed).mean()), by_speed
    ridge = min(best, key=lambda strength: best[strength][0])
    for own_speed in np.unique(speed):
        row = _line(table, came, speed, int(own_speed), np.ones(len(came), np.bool_), ridge)
        row[0] += float(np.median(left_out[int(own_speed)]))
        found[int(own_speed)] = row
    return found, np.stack([table.min(axis=0), table.max(axis=0)]), best[ridge][1], ridge


def _line(
    table: _Floats,
    came: _Floats,
    speed: _Ints,
    own: int,
    known: npt.NDArray[np.bool_],
    ridge: float,
) -> _Floats:
    """[1 + F] of a speed: slopes of all speeds together, and what its own differ by."""
    mean, deviation = table[known].mean(axis=0), table[known].std(axis=0) + 1e-9
    scaled = (table - mean) / deviation
    speeds = np.unique(speed[known])
    hot = (speed[:, None] == speeds).astype(np.float64)
    own_slopes = (hot[:, :, None] * scaled[:, None, :]).reshape(len(table), -1)
    rows = np.concatenate([hot, scaled, own_slopes], axis=1)
    strength = np.full(rows.shape[1], ridge)
    strength[: len(speeds)] = 1e-6
    left = rows[known].T @ rows[known] + np.diag(strength)
    solved = np.linalg.solve(left, rows[known].T @ came[known])
    place = int(np.searchsorted(speeds, own))
    width = table.shape[1]
    start = len(speeds) + width + place * width
    slopes = (solved[len(speeds) : len(speeds) + width] + solved[start : start + width]) / deviation
    return np.concatenate([[solved[place] - slopes @ mean], slopes])


def _held_out(missed: _Floats) -> HeldOut:
    off = np.abs(np.expm1(missed))
    return HeldOut(float(np.median(off)), float((off <= 0.1).mean()), float(missed.mean()))


def fit_tiers(studies: Sequence[StudyView], seconds: _Floats) -> tuple[_Floats, float, float]:
    """Log ratios of frames' work to the probe's; noise; log deviation of whole encodes.

    Returns:
      [NUM_KINDS, TIERS, 1 + FRAME_FEATURES], nan for what was not seen; `TierOptions.noise`; the
      deviation of encodes' work from what is expected, in logs.
    """
    width = 1 + len(FRAME_FEATURES)
    left = np.zeros((NUM_KINDS, TIERS, width, width))
    right = np.zeros((NUM_KINDS, TIERS, width))
    seen = np.zeros((NUM_KINDS, TIERS))
    encodes = []
    for study in studies:
        probe = FrameWork.of_columns(study.encode("probe"), seconds)
        for encode in _last_passes(study):
            own = FrameWork.of_columns(encode, seconds)
            if not np.array_equal(own.coding_index, probe.coding_index):
                continue
            tiers = np.minimum(tiers_of(encode), TIERS - 1)
            rows = np.concatenate([np.ones((len(tiers), 1)), probe.features], axis=1)
            ratio = np.log(own.seconds / probe.seconds)
            share = own.seconds / own.seconds.sum()
            np.add.at(
                left,
                (probe.kind, tiers),
                share[:, None, None] * rows[:, :, None] * rows[:, None, :],
            )
            np.add.at(right, (probe.kind, tiers), (share * ratio)[:, None] * rows)
            np.add.at(seen, (probe.kind, tiers), 1.0)
            encodes.append((probe, own, tiers))
    if not encodes:
        raise InputError("no last pass has the frames of its probe encode")
    found = np.full((NUM_KINDS, TIERS, width), np.nan)
    for kind, tier in zip(*np.nonzero(seen >= _LEAST_FRAMES), strict=True):
        # A slope that says next to nothing stays near none.
        diagonal = np.diag(left[kind, tier])[1:]
        strength = np.diag([1e-9, *(0.01 * diagonal + 1e-6)])
        found[kind, tier] = np.linalg.solve(left[kind, tier] + strength, right[kind, tier])
    # The mean of a logarithm is less than the logarithm of the mean.
    came, foreseen = np.zeros((NUM_KINDS, TIERS)), np.zeros((NUM_KINDS, TIERS))
    for probe, own, tiers in encodes:
        expected = _expected(found, probe, tiers)
        known = np.isfinite(expected)
        np.add.at(came, (probe.kind[known], tiers[known]), own.seconds[known])
        np.add.at(foreseen, (probe.kind[known], tiers[known]), expected[known])
    found[:, :, 0] += np.log(
        np.where(foreseen > 0.0, came, 1.0) / np.where(foreseen > 0.0, foreseen, 1.0)
    )
    common, within = [], []
    for probe, own, tiers in encodes:
        expected = _expected(found, probe, tiers)
        known = np.isfinite(expected)
        factor = float(own.seconds[known].sum() / expected[known].sum())
        common.append(np.log(factor))
        rest = own.seconds[known] - factor * expected[known]
        within.append(float(known.sum() * np.square(rest).sum() / expected[known].sum() ** 2))
    deviation = float(np.std(common))
    return found, float(np.mean(within)) / max(deviation**2, 1e-6), deviation


def _expected(tiers: _Floats, probe: FrameWork, chosen: _Ints) -> _Floats:
    rows = tiers[probe.kind, chosen]
    log_ratio = rows[:, 0] + (rows[:, 1:] * probe.features).sum(axis=1)
    return np.asarray(probe.seconds * np.exp(log_ratio))


def fit_gain(studies: Sequence[StudyView], response: LinearModel) -> tuple[_Floats, TierLevels]:
    """[NUM_KINDS, TIERS] octaves of rate over the fastest tier, for all bits in a frame; levels.

    The first is what the levels are worth to frames of a kind in the mean over clips.
    """
    pairs = [(study, tier_study(study, response)) for study in studies if study.named("tiered")]
    levels = TierLevels.fit(
        changes for _, found in pairs if found is not None for changes in found.encodes
    )
    gain, share = np.zeros((NUM_KINDS, TIERS)), np.zeros(NUM_KINDS)
    for study, _ in pairs:
        probe = EncodeFrames.of_columns(study.encode("probe"), study.width, study.height)
        objective = Objective(probe, study.slope)
        own = levels.gains(response.response(probe, features_of(probe)), objective)
        kind = kinds_of(probe)
        np.add.at(gain, kind, own)
        np.add.at(share, kind, objective.shares)
    seen = share[:, None] > 0.0
    return np.where(seen, gain / np.where(seen, share[:, None], 1.0), np.nan), levels


@dataclass(frozen=True, slots=True, eq=False)
class TierStudy:
    """The encodes of a study with other speeds of frames.

    Attributes:
      source: of the clip.
      response: of the base's frames.
      objective: of the base.
      encodes: what each changed.
    """

    source: str
    response: Response
    objective: Objective
    encodes: list[TierChanges]


def tier_study(study: StudyView, response: LinearModel) -> TierStudy | None:
    """What other speeds of frames changed in a study; None without such encodes.

    Args:
      study: with them or without.
      response: how frames answer to their quantizers and references.
    """
    size = study.width, study.height
    probe = EncodeFrames.of_columns(study.encode("probe"), *size)
    base = EncodeFrames.of_columns(base_of(study), *size)
    if not study.named("tiered") or not base.same_structure(probe):
        return None
    answers = response.response(base, matched_features(base, probe))
    objective = Objective(base, study.slope)
    own = np.minimum(tiers_of(base_of(study)), TIERS - 1)
    found = []
    for encode in study.named("tiered"):
        other = EncodeFrames.of_columns(encode, *size)
        if base.same_structure(other):
            tier = np.minimum(tiers_of(encode), TIERS - 1)
            found.append(TierChanges.between(answers, objective, probe, other, own, tier))
    return TierStudy(study.source, answers, objective, found)


def held_out_gains(
    studies: Sequence[TierStudy], *, constant: bool = False, folds: int = _FOLDS
) -> tuple[_Floats, _Floats, _Ints]:
    """What encodes gained, and what levels of other sources expect. [E] each, and the study. [E].

    Args:
      studies: of several sources.
      constant: of each kind and tier the mean gain for all bits, whatever passes on in the clip.
      folds: of the sources.
    """
    names = sorted({study.source for study in studies})
    rows: list[tuple[float, float, int]] = []
    for fold in range(min(folds, len(names))):
        out = set(names[fold :: min(folds, len(names))])
        known = [study for study in studies if study.source not in out]
        levels = TierLevels.fit(encode for study in known for encode in study.encodes)
        worth, share = np.zeros((2, NUM_KINDS)), np.full(NUM_KINDS, 1e-12)
        for study in known:
            kind = study.encodes[0].kind
            by_bits, by_sse = study.objective.at_base()
            np.add.at(worth[0], kind, by_bits)
            np.add.at(worth[1], kind, study.response.total_by_sse(by_bits, by_sse))
            np.add.at(share, kind, study.objective.shares)
        for place, study in enumerate(studies):
            if study.source not in out:
                continue
            for encode in study.encodes:
                added = levels.added(encode)
                bits, sse = study.response.changes(encode.octaves, None if constant else added)
                gain = study.objective.gain(bits, study.objective.shown(sse))
                if constant:
                    mean = (worth / share)[:, encode.kind]
                    gain += float((mean * added).sum(axis=0) @ study.objective.shares)
                rows.append((encode.gain, gain, place))
    table = np.array(rows)
    return table[:, 0], table[:, 1], table[:, 2].astype(np.int64)


def _last_passes(study: StudyView) -> list[EncodeView]:
    return [e for e in study.encodes if e.name in ("landed", "base", "tiered")]


def _counts(encode: EncodeView | Mapping[str, npt.NDArray[np.generic]]) -> _Floats:
    """[M, COUNTS] of an encode's rows."""
    work = np.asarray(encode["work"], np.float64)
    coded = np.asarray(encode["qindex"]) >= 0
    samples = np.asarray(encode["samples"], np.float64).sum(axis=1) * coded
    return np.concatenate([work, samples[:, None]], axis=1)
