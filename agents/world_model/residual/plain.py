"""The network in numpy, for one clip: an encode needs no JAX and compiles nothing for it.

It is the network of `network.py` without dropout; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from muzero_rc.agents.world_model.linear import NUM_OUTPUTS, NUM_TERMS
from muzero_rc.agents.world_model.residual.config import POSITION_BANDS, NetworkConfig

__all__ = ["Parameters", "forward"]

Parameters = Mapping[str, Mapping[str, npt.NDArray[np.float32]]]
"""Haiku's, by module and name."""

_EPSILON = 1e-5  # haiku's, of LayerNorm
_Floats = npt.NDArray[np.float64]


def forward(params: Parameters, tokens: npt.ArrayLike, config: NetworkConfig) -> _Floats:
    """What to add to the coefficients of a clip's frames.

    Args:
      params: of `network(config)`.
      tokens: [N, F] standardised features of the frames, in coding order.
      config: sizes of the network.

    Returns:
      [NUM_OUTPUTS, N, NUM_TERMS].
    """
    tokens = np.asarray(tokens, np.float64)
    place = np.arange(1, len(tokens) + 1)
    angle = place[:, None] * 2.0 ** -np.arange(POSITION_BANDS) * np.pi
    inputs = np.concatenate([tokens, np.sin(angle), np.cos(angle)], axis=1)
    rows = _gelu(_linear(params, "linear", inputs))
    encoder = "perceiver_encoder/~"
    latents = np.asarray(params[f"{encoder}/latents"]["table"], np.float64)
    latents = _cross(params, f"{encoder}/cross_attention", latents, rows, config.heads)
    for layer in range(config.self_attends):
        name = f"{encoder}/self_attention" + (f"_{layer}" if layer else "")
        normed = _norm(params, f"{name}/layer_norm", latents)
        latents = latents + _attend(params, f"{name}/attention", normed, normed, config.heads)
        latents = latents + _mlp(params, name, _norm(params, f"{name}/layer_norm_1", latents))
    seen = _cross(params, "cross_attention", rows, latents, config.heads)
    out = _linear(params, "linear_1", seen)
    return np.moveaxis(out.reshape(len(out), NUM_OUTPUTS, NUM_TERMS), 1, 0)


def _linear(params: Parameters, name: str, x: _Floats) -> _Floats:
    found = params[name]
    return x @ np.asarray(found["w"], np.float64) + found["b"]


def _norm(params: Parameters, name: str, x: _Floats) -> _Floats:
    found = params[name]
    centred = x - x.mean(axis=-1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + _EPSILON)
    return centred / deviation * found["scale"] + found["offset"]


def _gelu(x: _Floats) -> _Floats:
    """jax.nn.gelu's default, the tanh approximation (arXiv 1606.08415, section 2)."""
    return 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)))


def _mlp(params: Parameters, name: str, x: _Floats) -> _Floats:
    return _linear(params, f"{name}/mlp/linear_1", _gelu(_linear(params, f"{name}/mlp/linear", x)))


def _cross(params: Parameters, name: str, x: _Floats, inputs: _Floats, heads: int) -> _Floats:
    x = x + _attend(
        params,
        f"{name}/attention",
        _norm(params, f"{name}/layer_norm", x),
        _norm(params, f"{name}/layer_norm_1", inputs),
        heads,
    )
    return x + _mlp(params, name, _norm(params, f"{name}/layer_norm_2", x))


def _attend(params: Parameters, name: str, x: _Floats, inputs: _Floats, heads: int) -> _Floats:
    def split(part: str, of: _Floats) -> _Floats:
        """[rows, C] -> [heads, rows, C / heads]."""
        projected = _linear(params, f"{name}/{part}", of)
        return np.moveaxis(projected.reshape(len(of), heads, -1), 1, 0)

    query, key, value = split("query", x), split("key", inputs), split("value", inputs)
    scores = query @ np.swapaxes(key, 1, 2) * query.shape[-1] ** -0.5
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    summed = (weights / weights.sum(axis=-1, keepdims=True)) @ value
    return _linear(params, f"{name}/output", np.moveaxis(summed, 0, 1).reshape(len(x), -1))
