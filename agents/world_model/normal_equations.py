"""The fit of the linear response model: normal equations that can be added and taken away.

Every encode gives linear equations in the coefficients, the true errors of its references in
the place of predicted ones:

- a row for each frame's bits, weighted by its share of the base's bits;
- a row for each frame's error, weighted by how often it is shown and by what passes on to
  frames that refer to it (`worth_of_errors`);
- three rows for the clip: the bits' rows summed by their shares, the errors' rows summed by
  what an error is worth to the clip, and the difference of the two, which is the gain to first
  order. The two sums nearly cancel, so that small errors that frames have in common become
  large errors of the gain (docs/notes, linear response model).

Sums over studies are the normal equations of all of them. A source that is held out is
subtracted, a clip's own encodes are added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from muzero_rc.agents.world_model.features import NUM_FEATURES, NUM_KINDS, features_of
from muzero_rc.agents.world_model.frames import EncodeFrames
from muzero_rc.agents.world_model.gain import FrameChanges, Objective
from muzero_rc.agents.world_model.linear import NUM_OUTPUTS, NUM_TERMS, LinearModel, terms
from muzero_rc.errors import InputError

__all__ = ["NormalEquations", "Ridge", "worth_of_errors"]

_COLUMNS = NUM_TERMS * NUM_FEATURES
_ALL = NUM_OUTPUTS * _COLUMNS
# Of an error, also where all is coded anew or nothing is shown. Set by hand.
_LEAST_PASSED = 0.2
_SYMMETRIC = ("frames_left", "clips_left")

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ridge:
    """What stands against the data; all three are to be chosen by leaving sources out.

    The defaults suit some ten clips of much the same kind; few clips that differ want a
    hundred times the strengths.

    The unit is encodes: frames' rows of an encode have the weight 1 together, as has each row
    of the clip before `clip_weight`.

    Attributes:
      features: strength on how coefficients depend on features, which are standardised.
      kinds: strength on what a coefficient is for a kind of frames in the mean. Little: every
        encode has all kinds.
      clip_weight: of the clip's rows beside the frames'.
    """

    features: float = 0.03
    kinds: float = 0.0003
    clip_weight: float = 1.0

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
          InputError: a strength is not positive, or the weight negative.
        """
        if not (self.features > 0.0 and self.kinds > 0.0 and self.clip_weight >= 0.0):
            raise InputError(f"strengths of a ridge are positive, weights not negative: {self}")


@dataclass(frozen=True, slots=True, eq=False)
class NormalEquations:
    """Sums over encodes; P is NUM_TERMS * NUM_FEATURES, frames' features are not standardised.

    Attributes:
      encodes: how many.
      frames_left: [NUM_OUTPUTS, P, P] products of the frames' rows.
      frames_right: [NUM_OUTPUTS, P] of the rows and what came.
      clips_left: [NUM_OUTPUTS * P, NUM_OUTPUTS * P] products of the clips' rows.
      clips_right: [NUM_OUTPUTS * P].
      moments: [3, NUM_FEATURES] means over an encode's frames of 1, the features, and their
        squares, summed over encodes.
    """

    encodes: float
    frames_left: _Floats
    frames_right: _Floats
    clips_left: _Floats
    clips_right: _Floats
    moments: _Floats

    @classmethod
    def empty(cls) -> NormalEquations:
        """No encodes."""
        return cls(
            0.0,
            np.zeros((NUM_OUTPUTS, _COLUMNS, _COLUMNS)),
            np.zeros((NUM_OUTPUTS, _COLUMNS)),
            np.zeros((_ALL, _ALL)),
            np.zeros(_ALL),
            np.zeros((3, NUM_FEATURES)),
        )

    @classmethod
    def of(
        cls,
        base: EncodeFrames,
        encodes: Sequence[EncodeFrames],
        slope: float,
        features: _Floats | None = None,
        average_share: float = 0.5,
    ) -> NormalEquations:
        """Those of encodes of one clip.

        Args:
          base: what changes are relative to.
          encodes: of the same frames.
          slope: of the clip's curve of quality over rate, dB per octave.
          features: [N, NUM_FEATURES] of the base's frames; None takes the base's own.
          average_share: as of `Objective`.

        Raises:
          InputError: an encode has other frames than the base.
        """
        features = features_of(base) if features is None else features
        objective = Objective(base, slope, average_share)
        _, by_sse = objective.at_base()
        worth = worth_of_errors(base)
        frame_weights = np.stack([objective.shares, worth / worth.sum()])
        own_moments = np.stack([np.ones(NUM_FEATURES), features.mean(0), (features**2).mean(0)])
        sums = cls.empty()
        count = sums.encodes
        frames_left, frames_right = sums.frames_left, sums.frames_right
        clips_left, clips_right, moments = sums.clips_left, sums.clips_right, sums.moments
        for encode in encodes:
            changes = FrameChanges.between(base, encode)
            kept = changes.comparable
            parts = terms(base, changes.octaves, changes.sse)
            # [N, P]: terms times features
            rows = (parts[:, :, None] * features[:, None, :]).reshape(len(base), _COLUMNS)
            came = np.stack([changes.bits, changes.sse])
            weighted = (frame_weights * kept)[:, :, None] * rows
            bits_sum = (objective.shares * kept) @ rows
            sse_sum = (by_sse * kept) @ rows
            zero = np.zeros(_COLUMNS)
            clip_rows = np.stack(
                [
                    np.concatenate([bits_sum, zero]),
                    np.concatenate([zero, sse_sum]),
                    np.concatenate([-bits_sum, sse_sum]),
                ]
            )
            bits_came = float((objective.shares * kept) @ changes.bits)
            sse_came = float((by_sse * kept) @ changes.sse)
            clip_came = np.array([bits_came, sse_came, sse_came - bits_came])
            # In place: the sums are large, and fresh ones for every encode take most of the time.
            count += 1.0
            frames_left += np.swapaxes(weighted, 1, 2) @ rows
            frames_right += np.einsum("onp,on->op", weighted, came)
            clips_left += clip_rows.T @ clip_rows
            clips_right += clip_rows.T @ clip_came
            moments += own_moments
        return cls(count, frames_left, frames_right, clips_left, clips_right, moments)

    def __add__(self, other: NormalEquations) -> NormalEquations:
        return self._combined(other, 1.0)

    def __sub__(self, other: NormalEquations) -> NormalEquations:
        return self._combined(other, -1.0)

    def scaled(self, weight: float) -> NormalEquations:
        """Every encode counted `weight` times."""
        return NormalEquations.empty()._combined(self, weight)

    def _combined(self, other: NormalEquations, weight: float) -> NormalEquations:
        return NormalEquations(
            *(
                getattr(self, field.name) + weight * getattr(other, field.name)
                for field in fields(self)
            )
        )

    def solve(self, ridge: Ridge | None = None) -> LinearModel:
        """The model that fits best.

        Raises:
          InputError: there is no encode in the sums.
        """
        if not self.encodes > 0.0:
            raise InputError("a linear model cannot be fitted to no encodes")
        ridge = ridge or Ridge()
        left = ridge.clip_weight * self.clips_left
        right = ridge.clip_weight * self.clips_right
        for output in range(NUM_OUTPUTS):
            own = slice(output * _COLUMNS, (output + 1) * _COLUMNS)
            left[own, own] += self.frames_left[output]
            right[own] += self.frames_right[output]
        standard = self._standardisation()
        blocks = NUM_OUTPUTS * NUM_TERMS
        strength = np.full(NUM_FEATURES, float(ridge.features))
        strength[:NUM_KINDS] = ridge.kinds
        # The same block for every output and term: their products one by one are far fewer.
        left = np.matmul(standard.T, left.reshape(blocks, NUM_FEATURES, _ALL))
        left = left.reshape(-1, NUM_FEATURES) @ standard
        left = left.reshape(_ALL, _ALL) + np.diag(np.tile(strength, blocks))
        right = right.reshape(blocks, NUM_FEATURES) @ standard
        found = np.linalg.solve(left, right.ravel()).reshape(blocks, NUM_FEATURES) @ standard.T
        return LinearModel(found.reshape(NUM_OUTPUTS, NUM_TERMS, NUM_FEATURES))

    def _standardisation(self) -> _Floats:
        """[F, F] T for which features @ T has kinds as they are, all else standardised."""
        count, sums, squares = self.moments
        mean = sums / count
        deviation = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
        # What never varies is left as it is; rounding leaves a little of its square.
        varies = deviation > 1e-6 * np.maximum(np.abs(mean), 1.0)
        scale = np.where(varies, 1.0 / np.where(varies, deviation, 1.0), 1.0)
        standard = np.diag(np.where(np.arange(NUM_FEATURES) < NUM_KINDS, 1.0, scale))
        # The kinds of a frame sum to one, so they carry the mean.
        standard[:NUM_KINDS, NUM_KINDS:] = -(mean * scale)[NUM_KINDS:]
        return standard

    def as_arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """Plain arrays, for files; of symmetric matrices the upper triangles."""
        return {
            field.name: _packed(field.name, np.asarray(getattr(self, field.name)))
            for field in fields(self)
        }

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, npt.NDArray[np.generic]]) -> NormalEquations:
        """What `as_arrays` gave.

        Raises:
          InputError: an array is missing or has another shape.
        """
        pattern = cls.empty()
        values: list[_Floats] = []
        for field in fields(cls):
            full = np.asarray(getattr(pattern, field.name))
            shape = _packed(field.name, full).shape
            value = np.asarray(arrays.get(field.name, ()), np.float64)
            if value.shape != shape:
                raise InputError(
                    f"normal equations have {field.name} of shape {shape}, not {value.shape}"
                )
            values.append(_unpacked(field.name, value, full.shape))
        return cls(float(values[0]), *values[1:])


def worth_of_errors(frames: EncodeFrames) -> _Floats:
    """How often the error of each frame is shown, by itself and in what refers to it. [N].

    A reference's error is taken to pass on where blocks are skipped, as far as it makes up the
    frame's. Rough, and only a weight: most of what a plan wins or loses is in the few frames
    that all others refer to.
    """
    skipped = np.where(frames.repeated, 1.0, frames.skip_share)
    passed = frames.error_shares * np.maximum(skipped, _LEAST_PASSED)[:, None]
    passed /= np.maximum(passed.sum(axis=1, keepdims=True), 1.0)
    worth = np.maximum(frames.weight, _LEAST_PASSED)
    for frame in range(len(worth) - 1, -1, -1):
        np.add.at(worth, frames.references[frame], passed[frame] * worth[frame])
    return worth


def _packed(name: str, values: _Floats) -> _Floats:
    """The upper triangles of [..., n, n]; all else as it is."""
    if name not in _SYMMETRIC:
        return values
    return values[(..., *np.triu_indices(values.shape[-1]))]


def _unpacked(name: str, values: _Floats, shape: tuple[int, ...]) -> _Floats:
    if name not in _SYMMETRIC:
        return values
    full = np.zeros(shape)
    above = np.triu_indices(shape[-1])
    full[(..., *above)] = values
    full[(..., *above[::-1])] = values
    return full
