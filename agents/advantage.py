"""What moving one frame's qindex is worth: a model of the teacher's measurements.

An encode in which many frames were moved tells one number, how much the clip gained.
The model explains it as a sum over its N decided frames, each a parabola in the frame's
own step x (in units of `STEP` qindexes) that depends on the frame's kind k and on what
was observed before it, phi:

    gain = 1/T sum_f (a_k . phi_f) x_f - b_k x_f^2

so that every encode is one linear equation in (a, b), and a few hundred encodes of
different clips label every frame of all of them. Ridge regression solves it; its
strength is chosen by cross-validation over sources of clips, since a source has its own
peculiarities, and over several ways to divide them, since with few sources one way can
say anything. The best step is (a_k . phi) / (2 b_k).

What all frames of a kind have in common, the first of phi, is not taken from the model:
a gain measured with the slope of one clip's own curve flatters what lowers or raises the
rate as a whole. Offsets by kind, tuned by BD-rate over several targets, stand in its place; the
recipe of control has them.

This additive value attribution is ours; the predecessor paper (arXiv 2012.05339)
searches each clip by evolution strategies instead. A network in place of the linear
form explained more of the encodes it saw and nothing of those it did not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from muzero_rc.types import NUM_QINDEX, Observation, QindexPolicy, UpdateType

__all__ = [
    "NUM_KINDS",
    "STEP",
    "AdvantageExample",
    "AdvantageModel",
    "AdvantagePolicy",
    "advantage_features",
]

STEP = 10.0
"""qindexes that make a step of one."""

NUM_KINDS = 6
"""Key, leaf, golden or shallow ARF, two deeper ARFs, overlays."""

_TYPES = len(UpdateType)  # the first columns of Observation.frame
_DEPTH_COLUMN = _TYPES + 1  # depth in the ARF pyramid over its greatest depth
_STRENGTHS = (0.03, 0.1, 0.3, 1.0, 3.0)
_WEAK = 0.01  # strength for what every frame of a kind shares, seen in every encode
_DIVISIONS = 6  # ways to divide the sources that the cross-validation takes the mean of
_SMALLEST_CURVATURE = 0.005  # below, a parabola's top is not where encodes were measured

_Array = npt.NDArray[np.float64]


def advantage_features(observation: Observation) -> npt.NDArray[np.float32]:
    """What the model looks at: frame and globals. [features] float32."""
    return np.concatenate([observation.frame, observation.globals])


@dataclass(frozen=True)
class AdvantageExample:
    """One measured encode.

    Attributes:
      source: source of its clip; cross-validation never divides one.
      features: [N, features] of the decided frames.
      steps: [N] qindex minus the base qindex.
      base_features: the same of the encode that it is compared with.
      base_steps: likewise.
      shown_frames: T, length of the clip.
      gain: what the encode won over the base, in octaves of rate.
    """

    source: str
    features: npt.NDArray[np.float32]
    steps: npt.NDArray[np.float32]
    base_features: npt.NDArray[np.float32]
    base_steps: npt.NDArray[np.float32]
    shown_frames: int
    gain: float


class AdvantageModel:
    """The parabolas of all kinds of frames, fitted to examples.

    Attributes:
      explained: share of the variance of gains explained on sources held out in turn, the
        mean over several ways to divide them; below zero a guess of none is better.
      strength: of the ridge that explains most.
    """

    def __init__(self, offsets: Sequence[float], columns: Sequence[int] | None = None) -> None:
        """Makes an unfitted model.

        Args:
          offsets: [NUM_KINDS] qindexes that frames of each kind are moved by in any case.
          columns: of the features, those that slopes may depend on; all if not given.
        """
        self._offsets = np.array(offsets, np.float64)
        self._columns = None if columns is None else list(columns)
        self.explained = float("nan")
        self.strength = float("nan")
        self._mean: _Array | None = None
        self._scale: _Array = np.ones(0)
        self._slopes: _Array = np.zeros((NUM_KINDS, 0))
        self._curvatures: _Array = np.zeros(NUM_KINDS)

    def fit(self, examples: Sequence[AdvantageExample], folds: int = 5) -> None:
        """Fits the model.

        Args:
          examples: measured encodes, of clips of several sources if possible.
          folds: of the cross-validation over sources.

        Raises:
          ValueError: no examples.
        """
        if not examples:
            raise ValueError("there is nothing to fit the advantage model to")
        rows = np.concatenate([self._chosen(e.features) for e in examples])
        self._mean = rows.mean(axis=0)
        self._scale = np.maximum(rows.std(axis=0), 1e-3)
        design = np.stack([self._equation(e) for e in examples])
        gains = np.array([e.gain for e in examples])
        divisions = list(_divisions([e.source for e in examples], folds))
        scores = [
            float(np.mean([_held_out(design, gains, fold, strength) for fold in divisions]))
            for strength in _STRENGTHS
        ]
        best = int(np.nanargmax(scores)) if np.isfinite(scores).any() else len(scores) - 1
        self.explained, self.strength = scores[best], _STRENGTHS[best]
        solution = _ridge(design, gains, self.strength)
        features = 1 + len(self._mean)
        self._slopes = solution[: features * NUM_KINDS].reshape(features, NUM_KINDS).T.copy()
        self._slopes[:, 0] = 0.0  # the offsets stand in its place
        self._curvatures = solution[features * NUM_KINDS :]

    def best_steps(
        self, features: npt.NDArray[np.float32], trust: float = 0.5, limit: float = 16.0
    ) -> npt.NDArray[np.float32]:
        """The steps from libvpx's proposal that gain most.

        Args:
          features: [N, features].
          trust: share of the model's step that is taken; on clips never seen 0.4 gained
            more than 0.7.
          limit: largest step away from the kind's own, qindexes: the parabola is not known
            further out.

        Returns:
          [N] float32, qindexes; the kind's own where its parabola has no top, and before
          the model is fitted.
        """
        kinds = _kinds(features)
        own = kinds @ self._offsets
        if self._mean is None:
            return np.asarray(own, np.float32)
        slopes = np.einsum("nf,nf->n", self._phi(features), kinds @ self._slopes)
        curvatures = kinds @ self._curvatures
        tops = np.where(
            curvatures > _SMALLEST_CURVATURE,
            slopes / (2.0 * np.maximum(curvatures, _SMALLEST_CURVATURE)),
            0.0,
        )
        steps = np.clip(trust * STEP * tops, -limit, limit) + own
        return np.asarray(steps, np.float32)

    def _phi(self, features: npt.NDArray[np.float32]) -> _Array:
        if self._mean is None:
            raise ValueError("the advantage model is not fitted")
        normal = np.clip((self._chosen(features) - self._mean) / self._scale, -3.0, 3.0)
        return np.concatenate([np.ones((len(features), 1)), normal], axis=1)

    def _chosen(self, features: npt.NDArray[np.float32]) -> _Array:
        chosen = features if self._columns is None else features[:, self._columns]
        return chosen.astype(np.float64)

    def _equation(self, example: AdvantageExample) -> _Array:
        def side(features: npt.NDArray[np.float32], steps: npt.NDArray[np.float32]) -> _Array:
            kinds, x = _kinds(features), steps[:, None] / STEP
            linear = self._phi(features).T @ (kinds * x)
            return np.concatenate([linear.ravel(), -(kinds * x * x).sum(axis=0)])

        moved = side(example.features, example.steps)
        return (moved - side(example.base_features, example.base_steps)) / example.shown_frames


class AdvantagePolicy(QindexPolicy):
    """The teacher: libvpx's proposal, brought back to the budget, plus the best step."""

    name = "teacher"

    def __init__(self, model: AdvantageModel) -> None:
        """Takes a model; unfitted it knows the steps of kinds."""
        self._model = model

    def qindexes(self, observations: Sequence[Observation]) -> npt.NDArray[np.int32]:
        """qindex for each observation. [B] int32."""
        steps = self._model.best_steps(np.stack([advantage_features(o) for o in observations]))
        anchors = np.array([o.base_qindex for o in observations])
        bounds = np.array([o.reach for o in observations])
        steps = np.clip(steps, -bounds, bounds)
        return np.clip(anchors + np.rint(steps), 0, NUM_QINDEX - 1).astype(np.int32)


def _kinds(features: npt.NDArray[np.float32]) -> _Array:
    """One-hot kind of each frame. [N, features] -> [N, NUM_KINDS]."""
    update = features[:, :_TYPES].argmax(axis=1)
    depth = features[:, _DEPTH_COLUMN]
    arf = update == UpdateType.ARF
    columns = [
        update == UpdateType.KEY,
        update == UpdateType.LEAF,
        # Golden frames are too few to stand alone.
        (update == UpdateType.GOLDEN) | (arf & (depth <= 0.34)),
        arf & (depth > 0.34) & (depth < 0.7),
        arf & (depth >= 0.7),
        update > UpdateType.ARF,
    ]
    return np.stack(columns, axis=1).astype(np.float64)


def _ridge(design: _Array, gains: _Array, strength: float) -> _Array:
    """Least squares with every column of unit deviation; see `_WEAK`."""
    scale = design.std(axis=0) + 1e-9
    unit = design / scale
    penalty = np.full(unit.shape[1], strength)
    penalty[:NUM_KINDS] = penalty[-NUM_KINDS:] = min(_WEAK, strength)
    gram = unit.T @ unit + len(unit) * np.diag(penalty)
    solution: _Array = np.linalg.solve(gram, unit.T @ gains) / scale
    return solution


def _divisions(sources: Sequence[str], folds: int) -> Iterator[npt.NDArray[np.int64]]:
    """The fold of each example, by its source, drawn a few times."""
    names = sorted(set(sources))
    for seed in range(_DIVISIONS):
        order = np.random.default_rng(seed).permutation(len(names))
        fold = dict(zip(names, order % folds, strict=True))
        yield np.array([fold[source] for source in sources], np.int64)


def _held_out(design: _Array, gains: _Array, fold: npt.NDArray[np.int64], strength: float) -> float:
    predicted = np.full(len(gains), np.nan)
    for number in np.unique(fold):
        seen = fold != number
        if seen.any():
            predicted[~seen] = design[~seen] @ _ridge(design[seen], gains[seen], strength)
    variance = float(np.var(gains))
    if variance == 0 or not np.isfinite(predicted).all():
        return float("nan")
    return float(1.0 - np.mean((gains - predicted) ** 2) / variance)
