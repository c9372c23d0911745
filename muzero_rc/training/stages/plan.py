"""Fits what plans are made with to the studies of a data set; chooses by leaving sources out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from muzero_rc.agents.world_model.accuracy import Accuracy, models_outside, predict_held_out
from muzero_rc.agents.world_model.constant import MeanSteps, PlannedSteps
from muzero_rc.agents.world_model.features import matched_features
from muzero_rc.agents.world_model.frames import EncodeFrames
from muzero_rc.agents.world_model.gain import FrameChanges, Objective
from muzero_rc.agents.world_model.least_gain import LeastGain, octaves_gained
from muzero_rc.agents.world_model.normal_equations import NormalEquations, Ridge
from muzero_rc.agents.world_model.plan_model import PlanModel
from muzero_rc.agents.world_model.planner import PlanSettings, plan
from muzero_rc.agents.world_model.study import Study, equations_by_source
from muzero_rc.dataset import Dataset, EncodeView, StudyView
from muzero_rc.env.control.probe_record import SATURATED_DB
from muzero_rc.errors import InputError
from muzero_rc.policies.identity import program_identity

__all__ = [
    "EncodeScore",
    "PlanFit",
    "PlanStudy",
    "fit_dataset",
    "fit_plan_model",
    "plan_model_of",
    "studies_of",
]

RIDGES = tuple(
    Ridge(features=strength, kinds=strength / 100.0, clip_weight=weight)
    for strength in (0.3, 3.0, 10.0, 30.0)
    for weight in (0.0, 1.0)
)
"""Strengths that are tried."""

OWN_WEIGHTS = (10.0, 30.0, 100.0, 300.0)
"""Encodes of other clips that one of the clip's own may count for."""

_OWN_ENCODES = 4
"""Of a clip that are known when the weight of its own is chosen."""

_OWN_STUDIES = 60
"""Enough to choose it by: each needs a fit of its own."""

FAR_OCTAVES = 0.3
"""Gain or loss at equal quality, octaves of rate, above which an encode is left out."""


@dataclass(frozen=True, eq=False)
class PlanStudy:
    """A study as the response model sees it.

    Attributes:
      study: changes from the base, with features of the probe.
      probe: frames of the probe encode that went ahead.
      speed: of the encodes.
      view: where it comes from.
    """

    study: Study
    probe: EncodeFrames
    speed: int
    view: StudyView


@dataclass(frozen=True, eq=False)
class PlanFit:
    """A fitted model and what it was chosen by.

    Attributes:
      model: of all studies.
      ridge: that was chosen.
      accuracy: on sources held out, with the chosen ridge.
      tried: every ridge with its accuracy.
    """

    model: PlanModel
    ridge: Ridge
    accuracy: Accuracy
    tried: Sequence[tuple[Ridge, Accuracy]]


def studies_of(data: Dataset, names: Iterable[str] = ("perturbed",)) -> list[PlanStudy]:
    """The studies of a data set that something can be learned from.

    Left out are studies without a probe encode, saturated clips, encodes whose groups of pictures
    came out otherwise than the base's, and encodes that lost or gained so much that a linear
    model says nothing of them: a few of them would outweigh all others.

    Args:
      data: the data set.
      names: of the encodes that are learned from.
    """
    found = []
    for view in data.studies:
        size = view.width, view.height
        if not view.named("probe"):
            continue
        # Changes are told from `landed`, to which a plan's steps are added.
        base_encode, *rest = [*view.named("landed"), view.encode("base")]
        base = EncodeFrames.of_columns(base_encode, *size)
        probe = EncodeFrames.of_columns(view.encode("probe"), *size)
        if base_encode.psnr_avg > SATURATED_DB or not base.same_structure(probe):
            continue
        objective = Objective(base, view.slope)
        rest += [encode for name in names for encode in view.named(name)]
        moved = [EncodeFrames.of_columns(encode, *size) for encode in rest]
        encodes = [
            encode
            for encode in moved
            if base.same_structure(encode)
            and abs(objective.realised(FrameChanges.between(base, encode))) <= FAR_OCTAVES
        ]
        if encodes:
            features = matched_features(base, probe)
            study = Study(view.source, view.slope, base, encodes, features)
            found.append(PlanStudy(study, probe, view.speed, view))
    return found


def fit_dataset(
    data: Dataset,
    settings: PlanSettings,
    *,
    exclude: Set[str] = frozenset(),
    members: int = 0,
    on_step: Callable[[str], None] = lambda text: None,
) -> PlanFit:
    """Fits a plan model to a data set; what it was fitted on is in its `meta`.

    Args:
      data: of several sources.
      settings: of the plans.
      exclude: sources that are not fitted to.
      members: as of `fit_plan_model`.
      on_step: told what was done.

    Raises:
      InputError: studies of fewer than two sources can be used.
    """
    studies = [found for found in studies_of(data) if found.study.source not in exclude]
    about = {
        "studies": len(studies),
        "sources": len({found.study.source for found in studies}),
        "encodes": sum(len(found.study.encodes) for found in studies),
        "excluded": sorted(exclude),
        "identities": sorted({found.view.identity for found in studies}),
    }
    return fit_plan_model(studies, settings, members=members, meta=about, on_step=on_step)


def fit_plan_model(
    studies: Sequence[PlanStudy],
    settings: PlanSettings,
    *,
    ridges: Sequence[Ridge] = RIDGES,
    members: int = 0,
    meta: dict[str, Any] | None = None,
    on_step: Callable[[str], None] = lambda text: None,
) -> PlanFit:
    """Fits the response model, and the mean steps of the plans that it makes.

    Args:
      studies: of several sources.
      settings: of the plans.
      ridges: strengths to choose from, by R2 of gains on sources held out.
      members: networks of the residual (`agents.world_model.residual`); none by default.
      meta: kept with the model.
      on_step: told what was done.

    Raises:
      InputError: there are fewer than two sources.
    """
    plain = [found.study for found in studies]
    if len({study.source for study in plain}) < 2:
        raise InputError("a plan model is chosen by leaving sources out: it needs two or more")
    sums = equations_by_source(plain, average_share=settings.average_share)
    tried = []
    for ridge in ridges:
        accuracy = predict_held_out(
            plain, ridge,
            average_share=settings.average_share, calibrated=settings.calibrated, by_source=sums,
        ).accuracy()  # fmt: skip
        on_step(f"{ridge}: R2 {accuracy.gain_r2:.3f}, within clips {accuracy.within_clip:.3f}")
        tried.append((ridge, accuracy))
    ridge, accuracy = max(tried, key=lambda entry: entry[1].gain_r2)
    model = plan_model_of(studies, settings, ridge, sums)
    own_weight = _best_own_weight(plain, ridge, settings, sums)
    on_step(f"one own encode counts for {own_weight:g} of other clips")
    known = {**(meta or {}), "ridge": asdict(ridge), "held_out": asdict(accuracy)}
    residual = None
    if members:
        from muzero_rc.agents.world_model.residual.train import TrainSettings, fit_residual

        residual = fit_residual(plain, sums, ridge, TrainSettings(), range(members), on_step)
    model = dataclasses.replace(
        model, own_weight=own_weight, residual=residual, meta=known,
        identity=program_identity("plan"),
    )  # fmt: skip
    return PlanFit(model, ridge, accuracy, tried)


def _best_own_weight(
    studies: Sequence[Study],
    ridge: Ridge,
    settings: PlanSettings,
    sums: Mapping[str, NormalEquations],
) -> float:
    """The weight with which the rest of a clip's encodes is predicted best."""
    rich = [study for study in studies if len(study.encodes) > _OWN_ENCODES]
    if not rich:
        return OWN_WEIGHTS[0]
    rich = rich[:: math.ceil(len(rich) / _OWN_STUDIES)]
    scores = [
        predict_held_out(
            rich, ridge, own_encodes=_OWN_ENCODES, own_weight=weight,
            average_share=settings.average_share, by_source=sums,
        ).accuracy().gain_r2
        for weight in OWN_WEIGHTS
    ]  # fmt: skip
    return OWN_WEIGHTS[int(np.argmax(scores))]


def plan_model_of(
    studies: Sequence[PlanStudy],
    settings: PlanSettings,
    ridge: Ridge,
    sums: Mapping[str, NormalEquations] | None = None,
) -> PlanModel:
    """The model of all of these studies.

    The mean steps are those of plans that shrink to no steps, each made without its source's fold.

    Args:
      studies: of two sources or more.
      settings: of the plans.
      ridge: of the fit.
      sums: normal equations of each source of these studies, if they are known.
    """
    if sums is None:
        plain = [found.study for found in studies]
        sums = equations_by_source(plain, average_share=settings.average_share)
    total = sum(sums.values(), NormalEquations.empty())
    slope = float(np.median([found.study.slope for found in studies]))
    models = models_outside(sums, ridge)
    examples = []
    for found in studies:
        made = plan(models[found.study.source], found.probe, slope, settings)
        examples.append(PlannedSteps(found.probe, made.steps, found.speed))
    least = LeastGain.fit(
        (found.speed, octaves_gained(*_unplanned(found.view), slope, settings.average_share))
        for found in studies
    )
    return PlanModel(total, ridge, MeanSteps.fit(examples), settings, slope, least=least)


class EncodeScore(NamedTuple):
    """What `octaves_gained` compares, of an encode of a data set: dB, dB, kbit/s."""

    psnr_avg: float
    psnr_overall: float
    actual_kbps: float

    @classmethod
    def of(cls, encode: EncodeView) -> EncodeScore:
        """Of an encode."""
        return cls(encode.psnr_avg, encode.psnr_overall, encode.kbps)


def _unplanned(view: StudyView) -> tuple[EncodeScore, EncodeScore]:
    """Scores of a study's last pass without a plan, and of its probe encode."""
    last = next(iter(view.named("landed")), None) or view.encode("base")
    return EncodeScore.of(last), EncodeScore.of(view.encode("probe"))
