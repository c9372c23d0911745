"""The response model in JAX, and what its predictions are fitted by."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from muzero_rc.agents.world_model.gain_arrays import FAR_OCTAVES, GainArrays
from muzero_rc.agents.world_model.residual.arrays import StudyArrays

__all__ = ["LossWeights", "losses", "predicted"]


class LossWeights(NamedTuple):
    """Of the parts of the loss; rows of frames have the weight 1.

    Set by hand, so that the parts are of one size at the beginning.

    Attributes:
      gain: of the squared error of a clip's gain.
      contrast: of the same, less its mean over the encodes of the study.
    """

    gain: float = 20.0
    contrast: float = 20.0


_FRAME_SCALE, _GAIN_SCALE = 0.5, 0.1
"""Octaves above which an error counts by its size and not by its square. Set by hand."""


def predicted(coefficients: jax.Array, studies: StudyArrays) -> tuple[jax.Array, ...]:
    """B [B, K, N], E [B, K, N] and the gains [B, K] of every encode, errors passed on.

    The recursion of `linear.Response` as one triangular system, and `GainArrays.gain`.

    Args:
      coefficients: [B, NUM_OUTPUTS, N, NUM_TERMS].
      studies: whose steps count.
    """
    clip = studies.clip
    bits, sse = coefficients[:, 0], coefficients[:, 1]
    passed = sse[..., 2:] * clip.real
    passed /= jnp.maximum(jnp.abs(passed).sum(-1, keepdims=True), 1.0)
    size = passed.shape[1]
    hot = jax.nn.one_hot(clip.references, size) * clip.real[..., None]  # [B, N, 3, N]
    chain = jnp.eye(size) - jnp.einsum("bnr,bnrm->bnm", passed, hot)
    g = studies.octaves
    own = sse[:, None, :, 0] * g + sse[:, None, :, 1] * g**2  # [B, K, N]
    errors = jax.scipy.linalg.solve_triangular(
        chain, jnp.swapaxes(own, 1, 2), lower=True, unit_diagonal=True
    )
    errors = jnp.clip(jnp.swapaxes(errors, 1, 2), -FAR_OCTAVES, FAR_OCTAVES)
    takes = jnp.einsum("bnr,bnrm->bnm", bits[..., 2:] * clip.real, hot)
    change = bits[:, None, :, 0] * g + bits[:, None, :, 1] * g**2
    change += jnp.einsum("bnm,bkm->bkn", takes, errors)
    change = jnp.clip(change, -FAR_OCTAVES, FAR_OCTAVES)
    gains: GainArrays = jax.tree.map(lambda x: x[:, None], studies.gains)  # for every encode
    return change, errors, gains.gain(change, errors)


def losses(coefficients: jax.Array, studies: StudyArrays, weights: LossWeights) -> jax.Array:
    """The mean over encodes of what the predictions are off.

    Args:
      coefficients: [B, NUM_OUTPUTS, N, NUM_TERMS].
      studies: what came.
      weights: of the parts.
    """
    bits, sse, gain = predicted(coefficients, studies)
    kept, encodes = studies.kept, studies.encodes
    count = encodes.sum()

    def robust(x: jax.Array, scale: float) -> jax.Array:
        """x^2 near zero, 2 scale |x| far from it (pseudo-Huber)."""
        return scale**2 * (jnp.sqrt(1.0 + (x / scale) ** 2) - 1.0) * 2.0

    frames = (studies.gains.shares[:, None] * kept * robust(bits - studies.bits, _FRAME_SCALE)).sum(
        -1
    )
    frames += (studies.worth[:, None] * kept * robust(sse - studies.sse, _FRAME_SCALE)).sum(-1)
    off = (gain - studies.gain) * encodes
    mean = off.sum(-1, keepdims=True) / jnp.maximum(encodes.sum(-1, keepdims=True), 1.0)
    contrast = (off - mean) * encodes
    total = frames * encodes + weights.gain * robust(off, _GAIN_SCALE)
    return (total + weights.contrast * robust(contrast, _GAIN_SCALE)).sum() / count
