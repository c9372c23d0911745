"""Attention blocks of the Perceiver family: pre-LayerNorm, masked, in haiku.

After Jaegle et al. 2021, "Perceiver IO" (arXiv 2107.14795), appendix E: queries and
keys/values are normalised, attended, added to the residual, and an MLP follows.
"""

from __future__ import annotations

from collections.abc import Callable

import haiku as hk
import jax
import jax.numpy as jnp

from muzero_rc.agents.perceiver.position import rotate

__all__ = [
    "MLP",
    "Activation",
    "Attention",
    "CrossAttention",
    "SelfAttention",
    "attend",
    "squared_relu",
]

Activation = Callable[[jax.Array], jax.Array]
"""What stands between the two layers of an MLP."""

_MASKED = -1e30


def attend(
    query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array | None = None
) -> jax.Array:
    """Multi-head scaled dot-product attention, softmax(q k^T / sqrt(D)) v.

    Vaswani et al. 2017 (arXiv 1706.03762), equation 1. A query that may see no key
    at all attends to nothing and gets zeros instead of NaN.

    Args:
      query: [B, Q, N, D], N heads.
      key: [B, K, N, D].
      value: [B, K, N, V].
      mask: [B, Q, K] bool, True where query may see key; None for everywhere.

    Returns:
      [B, Q, N * V].
    """
    scores = jnp.einsum("bqnd,bknd->bnqk", query, key) * query.shape[-1] ** -0.5
    if mask is not None:
        scores = jnp.where(mask[:, None], scores, _MASKED)
    # Sums of many small numbers: float32 whatever the rest computes with.
    weights = jax.nn.softmax(scores.astype(jnp.float32), axis=-1).astype(value.dtype)
    if mask is not None:
        weights = jnp.where(mask.any(-1)[:, None, :, None], weights, 0.0)
    summed = jnp.einsum("bnqk,bknv->bqnv", weights, value)
    return summed.reshape(*summed.shape[:2], -1)


def squared_relu(x: jax.Array) -> jax.Array:
    """max(0, x)^2 (So et al. 2021, "Primer", arXiv 2109.08668), as HiP and Perceiver AR use."""
    return jnp.square(jax.nn.relu(x))


def _initializer(scale: float = 1.0) -> hk.initializers.Initializer:
    return hk.initializers.VarianceScaling(scale)


def _layer_norm(x: jax.Array) -> jax.Array:
    return hk.LayerNorm(axis=-1, create_scale=True, create_offset=True)(x)


class Attention(hk.Module):
    """Projections to queries, keys and values, attention, projection of the result."""

    def __init__(
        self,
        heads: int,
        *,
        qk_channels: int | None = None,
        v_channels: int | None = None,
        output_channels: int | None = None,
        name: str | None = None,
    ) -> None:
        """Configures the block.

        Args:
          heads: attention heads; divides both channel counts.
          qk_channels: channels of queries and keys; default the query input's.
          v_channels: channels of values; default `qk_channels`.
          output_channels: channels of the result; default `v_channels`.
          name: haiku's name.
        """
        super().__init__(name=name)
        self._heads = heads
        self._qk_channels = qk_channels
        self._v_channels = v_channels
        self._output_channels = output_channels

    def __call__(
        self,
        inputs_q: jax.Array,
        inputs_kv: jax.Array,
        mask: jax.Array | None = None,
        positions: tuple[jax.Array, jax.Array] | None = None,
    ) -> jax.Array:
        """Lets `inputs_q` look at `inputs_kv`.

        Args:
          inputs_q: [B, Q, C].
          inputs_kv: [B, K, E].
          mask: [B, Q, K] bool.
          positions: [B, Q] and [B, K] of queries and keys, which are turned by them
            (`position.rotate`); None for no positions.

        Returns:
          [B, Q, output_channels].
        """
        qk = self._qk_channels or inputs_q.shape[-1]
        v = self._v_channels or qk
        for channels in (qk, v):
            if channels % self._heads:
                raise ValueError(f"{channels} channels do not divide into {self._heads} heads")

        def project(x: jax.Array, channels: int, name: str) -> jax.Array:
            y = hk.Linear(channels, w_init=_initializer(), name=name)(x)
            return y.reshape(*x.shape[:2], self._heads, channels // self._heads)

        query = project(inputs_q, qk, "query")
        key = project(inputs_kv, qk, "key")
        value = project(inputs_kv, v, "value")
        if positions is not None:
            query, key = rotate(query, positions[0]), rotate(key, positions[1])
        summed = attend(query, key, value, mask)
        output = self._output_channels or v
        return hk.Linear(output, w_init=_initializer(), name="output")(summed)


class MLP(hk.Module):
    """Two linear layers, GELU between if nothing else is given, on each row alone."""

    def __init__(
        self, widening: int, *, activation: Activation = jax.nn.gelu, name: str | None = None
    ) -> None:
        """Configures the block: `widening` times the channels in between."""
        super().__init__(name=name)
        self._widening = widening
        self._activation = activation

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, Q, C] -> [B, Q, C]."""
        channels = x.shape[-1]
        hidden = hk.Linear(self._widening * channels, w_init=_initializer())(x)
        return hk.Linear(channels, w_init=_initializer())(self._activation(hidden))


class SelfAttention(hk.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(
        self,
        heads: int,
        *,
        widening: int = 4,
        qk_channels: int | None = None,
        v_channels: int | None = None,
        activation: Activation = jax.nn.gelu,
        name: str | None = None,
    ) -> None:
        """Configures the block.

        Args:
          heads: attention heads.
          widening: the MLP's.
          qk_channels: channels of queries and keys; default the input's.
          v_channels: channels of values; default the input's.
          activation: the MLP's.
          name: haiku's name.
        """
        super().__init__(name=name)
        self._heads = heads
        self._widening = widening
        self._qk_channels = qk_channels
        self._v_channels = v_channels
        self._activation = activation

    def __call__(
        self,
        x: jax.Array,
        mask: jax.Array | None = None,
        positions: jax.Array | None = None,
    ) -> jax.Array:
        """[B, Q, C], mask [B, Q, Q], rotary positions [B, Q] -> [B, Q, C]."""
        attention = Attention(
            self._heads,
            qk_channels=self._qk_channels,
            v_channels=self._v_channels or x.shape[-1],
            output_channels=x.shape[-1],
        )
        normed = _layer_norm(x)
        pair = None if positions is None else (positions, positions)
        x = x + attention(normed, normed, mask, pair)
        return x + MLP(self._widening, activation=self._activation)(_layer_norm(x))


class CrossAttention(hk.Module):
    """Queries look at other rows: q + attention(norm(q), norm(kv)), then the MLP."""

    def __init__(
        self,
        heads: int,
        *,
        widening: int = 1,
        qk_channels: int | None = None,
        v_channels: int | None = None,
        use_query_residual: bool = True,
        activation: Activation = jax.nn.gelu,
        name: str | None = None,
    ) -> None:
        """Configures the block.

        Args:
          heads: attention heads.
          widening: the MLP's.
          qk_channels: channels of queries and keys; default the queries'.
          v_channels: channels of values; default `qk_channels`.
          use_query_residual: add the queries themselves to the result.
          activation: the MLP's.
          name: haiku's name.
        """
        super().__init__(name=name)
        self._heads = heads
        self._widening = widening
        self._qk_channels = qk_channels
        self._v_channels = v_channels
        self._use_query_residual = use_query_residual
        self._activation = activation

    def __call__(
        self,
        queries: jax.Array,
        inputs: jax.Array,
        mask: jax.Array | None = None,
        positions: tuple[jax.Array, jax.Array] | None = None,
    ) -> jax.Array:
        """Lets `queries` look at `inputs`.

        Args:
          queries: [B, Q, C].
          inputs: [B, K, E].
          mask: [B, Q, K] bool.
          positions: rotary, [B, Q] of the queries and [B, K] of the inputs.

        Returns:
          [B, Q, C].
        """
        attention = Attention(
            self._heads,
            qk_channels=self._qk_channels,
            v_channels=self._v_channels,
            output_channels=queries.shape[-1],
        )
        x = attention(_layer_norm(queries), _layer_norm(inputs), mask, positions)
        if self._use_query_residual:
            x = queries + x
        return x + MLP(self._widening, activation=self._activation)(_layer_norm(x))
