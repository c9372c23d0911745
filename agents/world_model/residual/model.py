"""An ensemble of residuals, and the response model that it corrects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from muzero_rc.agents.world_model.features import NUM_FEATURES
from muzero_rc.agents.world_model.frames import EncodeFrames
from muzero_rc.agents.world_model.linear import LinearModel, Response
from muzero_rc.agents.world_model.residual.arrays import Scale
from muzero_rc.agents.world_model.residual.config import NetworkConfig
from muzero_rc.agents.world_model.residual.plain import Parameters, forward
from muzero_rc.errors import InputError

__all__ = ["CorrectedModel", "Residual"]

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Residual:
    """What an ensemble of networks adds to the coefficients of frames.

    Attributes:
      members: parameters of each network.
      scale: of the features.
      config: sizes of the networks.
    """

    members: Sequence[Parameters]
    scale: Scale
    config: NetworkConfig

    def coefficients(self, features: _Floats) -> _Floats:
        """The mean of the members. [N, NUM_FEATURES] -> [NUM_OUTPUTS, N, NUM_TERMS]."""
        tokens = self.scale.tokens(features)
        return np.mean([forward(own, tokens, self.config) for own in self.members], axis=0)

    def responses(
        self, linear: LinearModel, base: EncodeFrames, features: _Floats
    ) -> list[Response]:
        """How the frames of a clip answer by each member alone. [members]."""
        known = _coefficients(linear.response(base, features))
        tokens = self.scale.tokens(features)
        return [Response(base, known + forward(own, tokens, self.config)) for own in self.members]

    def as_arrays(self) -> dict[str, Any]:
        """Plain arrays in a tree, for files: parameters in float16, which costs nothing."""
        members = {
            str(place): {
                module: {name: np.asarray(value, np.float16) for name, value in values.items()}
                for module, values in own.items()
            }
            for place, own in enumerate(self.members)
        }
        return {"members": members, "scale": dict(self.scale._asdict())}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, Any], config: NetworkConfig) -> Residual:
        """What `as_arrays` gave.

        Raises:
          InputError: an array is missing, has another shape or is not finite.
        """
        try:
            scale = Scale(**{name: np.asarray(arrays["scale"][name]) for name in Scale._fields})
            members = [
                {
                    module: {name: np.asarray(value, np.float32) for name, value in values.items()}
                    for module, values in own.items()
                }
                for _, own in sorted(arrays["members"].items())
            ]
            found = cls(members, scale, config)
            tried = found.coefficients(np.zeros((2, NUM_FEATURES)))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"the residual of the plan model is damaged: {error}") from error
        if not members or not np.isfinite(tried).all():
            raise InputError("the residual of the plan model has parameters that are not finite")
        return found


@dataclass(frozen=True, eq=False)
class CorrectedModel:
    """The linear response model, corrected by a residual.

    Attributes:
      linear: the skip path.
      residual: what is added to its coefficients.
    """

    linear: LinearModel
    residual: Residual

    def response(self, base: EncodeFrames, features: _Floats) -> Response:
        """How the frames of a clip answer, as `LinearModel.response`."""
        known = _coefficients(self.linear.response(base, features))
        return Response(base, known + self.residual.coefficients(features))


def _coefficients(response: Response) -> _Floats:
    """[NUM_OUTPUTS, N, NUM_TERMS]."""
    return np.stack([response.bits, response.sse])
