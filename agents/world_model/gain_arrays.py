"""A clip's gain in JAX: `gain.Objective` as arrays, for what is compiled or has a gradient.

    rate     = log2(overhead + sum_f share_f 2^B_f)
    S_f      = log2(1 + passing_f (2^E_f - 1))
    average  = -sum_f shows_f S_f
    overall  = -log2 sum_f error_f 2^S_f
    gain     = quality . (average, overall) - rate

Unlike `Objective` it has no cap on the PSNR of a frame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from muzero_rc.agents.world_model.frames import EncodeFrames
from muzero_rc.agents.world_model.gain import DB_PER_OCTAVE, Objective

if TYPE_CHECKING:
    import jax

__all__ = ["FAR_OCTAVES", "GainArrays", "padded"]

FAR_OCTAVES = 8.0
"""Changes of a frame's bits and error are cut off here: no encode is further off."""

_LEAST_SHOWN = 1e-9  # an error that no encode reaches: the logarithm stays finite


def padded(values: npt.NDArray[Any], size: int, fill: float = 0.0) -> npt.NDArray[np.float32]:
    """The last axis filled up to `size`."""
    widths = [(0, 0)] * (values.ndim - 1) + [(0, size - values.shape[-1])]
    return np.pad(values, widths, constant_values=fill).astype(np.float32)


class GainArrays(NamedTuple):
    """What gains are computed from; N frames, any axes before.

    Attributes:
      shares: [..., N] of the base's bits; 0 in padding, as those that follow.
      overhead: [...] share of the bits that showing buffers costs.
      shows: [..., N] share of shown frames.
      error: [..., N] share of the clip's summed error.
      passing: [..., N] as of `EncodeFrames.passing`.
      quality: [..., 2] octaves of rate that an octave of error is worth, avg and overall.
    """

    shares: npt.NDArray[np.float32] | jax.Array
    overhead: npt.NDArray[np.float32] | jax.Array
    shows: npt.NDArray[np.float32] | jax.Array
    error: npt.NDArray[np.float32] | jax.Array
    passing: npt.NDArray[np.float32] | jax.Array
    quality: npt.NDArray[np.float32] | jax.Array

    @classmethod
    def of(cls, base: EncodeFrames, slope: float, average_share: float, size: int) -> GainArrays:
        """Of one clip, padded to `size` frames; the rest as for `Objective`.

        Raises:
          InputError: no frame is shown, or the slope is not positive.
        """
        objective = Objective(base, slope, average_share)
        error = base.weight * base.shown_sse
        weights = np.array([average_share, 1.0 - average_share])
        return cls(
            shares=padded(objective.shares, size),
            overhead=np.array(base.overhead_bits / base.total_bits, np.float32),
            shows=padded(base.weight / base.weight.sum(), size),
            error=padded(error / error.sum(), size),
            passing=padded(base.passing, size),
            quality=(weights * DB_PER_OCTAVE / slope).astype(np.float32),
        )

    def rate(self, bits: jax.Array) -> jax.Array:
        """Change of log2 of all bits for the frames' changes B. [..., N] -> [...]."""
        import jax.numpy as jnp  # here: a plan without a search needs none of it

        return jnp.log2(self.overhead + jnp.einsum("...n,...n->...", self.shares, jnp.exp2(bits)))

    def gain(self, bits: jax.Array, errors: jax.Array) -> jax.Array:
        """Octaves of rate saved at equal quality for B and E. [..., N] -> [...]."""
        import jax.numpy as jnp

        grown = 1.0 + self.passing * (jnp.exp2(errors) - 1.0)
        shown = jnp.log2(jnp.maximum(grown, _LEAST_SHOWN))
        average = -jnp.einsum("...n,...n->...", self.shows, shown)
        overall = -jnp.log2(jnp.einsum("...n,...n->...", self.error, jnp.exp2(shown)))
        both = jnp.asarray(self.quality)
        return both[..., 0] * average + both[..., 1] * overall - self.rate(bits)
