"""Perceiver AR against a causal transformer written out in numpy, and its dropout."""

from __future__ import annotations

from typing import Any

import haiku as hk
import jax
import numpy as np
import pytest

from muzero_rc.agents.perceiver import HiP, HiPBlockConfig, PerceiverAR

_HEADS = 2


def _normal(seed: int, *shape: int) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _network(latents: int, dropout: float = 0.0) -> Any:
    def model(x: Any, mask: Any = None) -> Any:
        network = PerceiverAR(latents=latents, self_attends=2, heads=_HEADS, cross_dropout=dropout)
        return network(x, mask)

    return hk.transform(model)


def _params(latents: int, rows: int) -> Any:
    params = jax.jit(_network(latents).init)(jax.random.key(0), _normal(0, 1, rows, 16))
    # Fresh biases and offsets are zero and would hide errors in them.
    return jax.tree.map(
        lambda leaf: np.asarray(leaf) + 0.1 * _normal(leaf.size, *leaf.shape), params
    )


def _norm(x: Any, p: Any) -> Any:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * p["scale"] + p["offset"]


def _linear(x: Any, p: Any) -> Any:
    return x @ p["w"] + p["b"]


def _turned(row: Any, position: int) -> Any:
    """Rotation of one head's channels as multiplication of complex numbers."""
    pairs = len(row) // 4
    angles = position * 10_000.0 ** (-np.arange(pairs) / pairs)
    z = (row[:pairs] + 1j * row[pairs : 2 * pairs]) * np.exp(1j * angles)
    return np.concatenate([z.real, z.imag, row[2 * pairs :]])


def _layer(params: Any, prefix: str, queries: Any, keys: Any, first: int) -> Any:
    """One pre-norm layer, each query over the keys up to its own position, in loops.

    The cross-attention has a norm for either side; a self-attention has one for both.
    """
    p = {n.removeprefix(prefix): v for n, v in params.items() if n.startswith(prefix)}
    cross = "cross" in prefix
    q_in = _norm(queries, p["layer_norm"])
    kv_in = _norm(keys, p["layer_norm_1"]) if cross else q_in
    query, key, value = (
        _linear(x, p[f"attention/{n}"])
        for x, n in ((q_in, "query"), (kv_in, "key"), (kv_in, "value"))
    )
    offset = 0 if cross else first  # position of the first key
    size = query.shape[-1] // _HEADS
    found = np.zeros_like(query)
    for i in range(len(query)):
        at = first + i
        for h in range(_HEADS):
            part = slice(h * size, (h + 1) * size)
            seen = range(at - offset + 1)
            turned = _turned(query[i, part], at)
            scores = np.array([turned @ _turned(key[j, part], offset + j) for j in seen])
            weights = np.exp((scores - scores.max()) / np.sqrt(size))
            found[i, part] = weights / weights.sum() @ value[: len(weights), part]
    x = queries + _linear(found, p["attention/output"])
    hidden = _linear(_norm(x, p["layer_norm_2" if cross else "layer_norm_1"]), p["mlp/linear"])
    return x + _linear(np.maximum(hidden, 0) ** 2, p["mlp/linear_1"])


def _by_hand(params: Any, x: Any, latents: int) -> Any:
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    layers = sorted(
        {n.split("/attention")[0] + "/" for n in params if "/attention/" in n},
        key=lambda n: ("cross" not in n, n),
    )
    first = len(x) - latents
    states = x[first:].astype(np.float64)
    for layer in layers:
        states = _layer(params, layer, states, x.astype(np.float64), first)
    return states


@pytest.mark.parametrize(("latents", "rows"), [(6, 6), (3, 7)])
def test_it_equals_a_causal_transformer_in_numpy(latents: int, rows: int) -> None:
    """All rows as latents: a plain causal transformer. Fewer: only the first layer sees all."""
    params, x = _params(latents, rows), _normal(5, 1, rows, 16)
    got = jax.jit(_network(latents).apply)(params, None, x)
    np.testing.assert_allclose(got[0], _by_hand(params, x[0], latents), rtol=1e-4, atol=1e-4)


def test_dropout_hides_rows_before_the_latents_and_no_others() -> None:
    params, x = _params(3, 9), _normal(6, 1, 9, 16)
    apply = jax.jit(_network(3).apply)
    seen = apply(params, None, x)
    alone = apply(params, None, x, np.arange(9)[None] >= 6)
    none_kept = jax.jit(_network(3, 1.0).apply)(params, jax.random.key(0), x)
    np.testing.assert_allclose(none_kept, alone, atol=1e-6)
    half = jax.jit(_network(3, 0.5).apply)(params, jax.random.key(1), x)
    assert min(np.abs(half - seen).max(), np.abs(half - alone).max()) > 1e-4


@pytest.mark.slow
def test_gradients_are_finite_where_a_group_is_empty() -> None:
    blocks = [HiPBlockConfig(4, 2, 8, 1, 2), HiPBlockConfig(1, 4, 8, 1, 2),
              HiPBlockConfig(4, 2, 8, 1, 2)]  # fmt: skip
    transformed = hk.without_apply_rng(
        hk.transform(lambda x, m: HiP(blocks, embedding=6)({"a": x}, {"a": m}))
    )
    x, mask = _normal(0, 1, 12, 3), np.arange(12)[None] < 3  # three of four groups are empty
    params = jax.jit(transformed.init)(jax.random.key(0), x, mask)
    params = jax.tree.map(
        lambda leaf: np.asarray(leaf) + 0.1 * _normal(leaf.size, *leaf.shape), params
    )
    gradient = jax.jit(
        jax.grad(lambda p: (transformed.apply(p, x, mask).reconstruction["a"] ** 2).sum())
    )
    gradients = gradient(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
