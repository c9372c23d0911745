"""How well the response model predicts encodes of sources that it has not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from muzero_rc.agents.world_model.gain import Objective
from muzero_rc.agents.world_model.linear import FrameModel, LinearModel
from muzero_rc.agents.world_model.normal_equations import NormalEquations, Ridge
from muzero_rc.agents.world_model.study import Study, equations_by_source
from muzero_rc.errors import InputError

__all__ = [
    "Accuracy",
    "Calibration",
    "Predictions",
    "explained",
    "held_out",
    "models_outside",
    "predict_held_out",
    "within_group_correlation",
]

_Floats = npt.NDArray[np.float64]


def explained(came: _Floats, expected: _Floats, weights: _Floats | None = None) -> float:
    """R2: share of the variance of what came that the expectation explains. [n], [n].

    Below zero the mean is a better guess. nan if nothing varies.
    """
    weights = np.ones_like(came) if weights is None else weights
    total = weights.sum()
    if not total > 0.0:
        return float("nan")
    variance = weights @ (came - weights @ came / total) ** 2
    return float(1.0 - weights @ (came - expected) ** 2 / variance) if variance > 0 else np.nan


def within_group_correlation(
    came: _Floats, expected: _Floats, groups: npt.NDArray[np.generic]
) -> float:
    """Correlation after each group's means are taken away. [n], [n], [n].

    It tells whether a model orders the encodes of a clip, whatever it thinks of the clip. nan
    if nothing varies within groups.
    """
    _, group = np.unique(groups, return_inverse=True)
    came, expected = (
        values - (np.bincount(group, values) / np.bincount(group))[group]
        for values in (came, expected)
    )
    scale = float(np.sqrt((came @ came) * (expected @ expected)))
    return float(came @ expected) / scale if scale > 0.0 else float("nan")


@dataclass(frozen=True, slots=True)
class Calibration:
    """What promises are worth.

    Attributes:
      promised: mean.
      realised: mean.
      kept: slope of the realised gains over the promised ones, through the origin: 1 if plans
        give what they promise, a third for plans that are made without a penalty.
    """

    promised: float
    realised: float
    kept: float

    @classmethod
    def of(cls, promised: _Floats, realised: _Floats) -> Calibration:
        """Of plans with these gains. [n], [n].

        Raises:
          InputError: there are none, or not as many of both.
        """
        if promised.shape != realised.shape or promised.size == 0:
            raise InputError(
                f"{promised.size} promises cannot be compared with {realised.size} gains"
            )
        squares = float(promised @ promised)
        kept = float(promised @ realised) / squares if squares > 0.0 else float("nan")
        return cls(float(promised.mean()), float(realised.mean()), kept)


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Of predictions of encodes.

    Attributes:
      encodes: how many were predicted.
      gain_r2: `explained` of the clips' gains.
      within_clip: `within_group_correlation` of the gains by study.
      bits_r2: `explained` of frames' log2 bits, weighted by their share of the bits.
      sse_r2: of frames' log2 error where it is shown, weighted by how often that is.
      calibration: of the gains.
    """

    encodes: int
    gain_r2: float
    within_clip: float
    bits_r2: float
    sse_r2: float
    calibration: Calibration


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """What came of encodes and what was expected.

    Attributes:
      gains: [2, encodes] octaves of rate: realised, expected.
      study: [encodes] place of the encode's study.
      bits: [3, frames] change of log2 bits, what was expected of it, and the frame's weight.
      sse: [3, frames] likewise of log2 error where the frame is shown.
    """

    gains: _Floats
    study: npt.NDArray[np.int64]
    bits: _Floats
    sse: _Floats

    @classmethod
    def of(
        cls,
        models: Sequence[FrameModel],
        studies: Sequence[Study],
        first: int = 0,
        *,
        average_share: float = 0.5,
        calibrated: bool = False,
    ) -> Predictions:
        """A model's for each study, of its encodes from the first-th on.

        Args:
          models: one for each study.
          studies: whose encodes are predicted.
          first: encodes of each study that are left out.
          average_share: as of `Objective`.
          calibrated: to the slope of the clip, as of `Response.calibrated`.

        Raises:
          InputError: there is no encode to predict.
        """
        gains: list[tuple[float, float]] = []
        places: list[int] = []
        bits_rows: list[_Floats] = []
        sse_rows: list[_Floats] = []
        for place, (model, study) in enumerate(zip(models, studies, strict=True)):
            objective = Objective(study.base, study.slope, average_share)
            response = model.response(study.base, study.known_features)
            if calibrated:
                response = response.calibrated(*objective.at_base())
            shows = study.base.weight / study.base.weight.sum()
            for changes in study.changes()[first:]:
                bits, sse = response.changes(changes.octaves)
                shown = objective.shown(sse)
                gains.append((objective.realised(changes), objective.gain(bits, shown)))
                places.append(place)
                kept = changes.comparable
                bits_rows.append(np.stack([changes.bits, bits, objective.shares * kept]))
                sse_rows.append(np.stack([changes.shown_sse, shown, shows * kept]))
        if not gains:
            raise InputError("there is no encode to predict")
        return cls(
            np.array(gains).T,
            np.array(places),
            np.concatenate(bits_rows, axis=1),
            np.concatenate(sse_rows, axis=1),
        )

    def accuracy(self) -> Accuracy:
        """How well they agree."""
        came, expected = self.gains
        return Accuracy(
            encodes=len(came),
            gain_r2=explained(came, expected),
            within_clip=within_group_correlation(came, expected, self.study),
            bits_r2=explained(*self.bits),
            sse_r2=explained(*self.sse),
            calibration=Calibration.of(expected, came),
        )


def predict_held_out(
    studies: Sequence[Study],
    ridge: Ridge | None = None,
    *,
    own_encodes: int = 0,
    own_weight: float = 1.0,
    average_share: float = 0.5,
    calibrated: bool = False,
    by_source: Mapping[str, NormalEquations] | None = None,
    folds: int = 24,
) -> Predictions:
    """Predictions of every encode by a model that has not seen its source.

    Args:
      studies: of two sources at least.
      ridge: of the fit.
      own_encodes: k; the first k encodes of a study are added to the others' equations and
        only the rest of the study is predicted.
      own_weight: how many encodes of other clips each of them counts for.
      average_share: as of `Objective`.
      calibrated: as of `Predictions.of`.
      by_source: normal equations of each source of these studies, if they are known.
      folds: most models; with more sources than that several are held out together.

    Raises:
      InputError: there is one source only, or no encode to predict.
    """
    if by_source is None:
        by_source = equations_by_source(studies, average_share)
    if len(by_source) < 2:
        raise InputError("to hold a source out takes studies of two")
    outside = _outside_folds(by_source, folds)
    models: list[LinearModel] = []
    known = {} if own_encodes else models_outside(by_source, ridge, folds)
    for study in studies:
        if own_encodes:
            own = study.equations(slice(own_encodes), average_share).scaled(own_weight)
            models.append((outside[study.source] + own).solve(ridge))
        else:
            models.append(known[study.source])
    return Predictions.of(
        models, studies, own_encodes, average_share=average_share, calibrated=calibrated
    )


def _outside_folds(
    by_source: Mapping[str, NormalEquations], folds: int
) -> dict[str, NormalEquations]:
    """For each source the sum of all that are not in its fold; one object for a fold."""
    everything = sum(by_source.values(), NormalEquations.empty())
    names = sorted(by_source)
    found = {}
    for fold in range(min(folds, len(names))):
        own = names[fold :: min(folds, len(names))]
        others = everything - sum((by_source[name] for name in own), NormalEquations.empty())
        found.update(dict.fromkeys(own, others))
    return found


def models_outside(
    by_source: Mapping[str, NormalEquations], ridge: Ridge | None = None, folds: int = 24
) -> dict[str, LinearModel]:
    """For each source a model that has seen none of its fold.

    Args:
      by_source: normal equations of each source.
      ridge: of the fit.
      folds: most models; with more sources than that several share one.
    """
    solved: dict[int, LinearModel] = {}
    found = {}
    for source, equations in _outside_folds(by_source, folds).items():
        if id(equations) not in solved:
            solved[id(equations)] = equations.solve(ridge)
        found[source] = solved[id(equations)]
    return found


def held_out(
    studies: Sequence[Study],
    ridge: Ridge | None = None,
    *,
    own_encodes: int = 0,
    own_weight: float = 1.0,
    average_share: float = 0.5,
    calibrated: bool = False,
) -> Accuracy:
    """The accuracy of `predict_held_out`, with the same arguments and errors."""
    return predict_held_out(
        studies, ridge,
        own_encodes=own_encodes, own_weight=own_weight, average_share=average_share,
        calibrated=calibrated,
    ).accuracy()  # fmt: skip
