"""Perceiver IO against numpy, against published parameter counts, and its invariances."""

from __future__ import annotations

from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muzero_rc.agents.perceiver import (
    CrossAttention,
    PerceiverDecoder,
    PerceiverEncoder,
    PositionTable,
    SelfAttention,
    attend,
    fourier_features,
)


def _normal(seed: int, *shape: int) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_attention_matches_a_loop_in_numpy() -> None:
    query, key, value = _normal(0, 2, 3, 5, 7), _normal(1, 2, 4, 5, 7), _normal(2, 2, 4, 5, 11)
    mask = np.random.default_rng(3).random((2, 3, 4)) < 0.6
    mask[..., 0] = True
    expected = np.zeros((2, 3, 5, 11))
    for b in range(2):
        for q in range(3):
            for n in range(5):
                scores = [query[b, q, n] @ key[b, k, n] / np.sqrt(7) for k in range(4)]
                weights = np.exp(scores) * mask[b, q]
                expected[b, q, n] = (weights / weights.sum()) @ value[b, :, n]
    got = attend(query, key, value, jnp.asarray(mask))
    np.testing.assert_allclose(got, expected.reshape(2, 3, 55), rtol=2e-5, atol=2e-6)


def test_a_fully_masked_query_gets_zeros_and_finite_gradients() -> None:
    query, key, value = _normal(0, 1, 2, 1, 3), _normal(1, 1, 4, 1, 3), _normal(2, 1, 4, 1, 5)
    mask = jnp.asarray(np.array([[[True] * 4, [False] * 4]]))
    got = attend(query, key, value, mask)
    assert (got[0, 1] == 0).all() and (got[0, 0] != 0).all()
    gradient = jax.grad(lambda k: attend(query, k, value, mask).sum())(key)
    assert np.isfinite(gradient).all()


def _model(inputs: jax.Array, mask: jax.Array | None, queries: jax.Array) -> jax.Array:
    encoder = PerceiverEncoder(
        latents=5, channels=14, self_attends=2, blocks=2, cross_heads=7, self_heads=2,
        cross_widening=3, self_widening=2,
    )  # fmt: skip
    decoder = PerceiverDecoder(13, heads=7, use_query_residual=True)
    return decoder(queries, encoder(inputs, mask))


@pytest.fixture(scope="module")
def model() -> tuple[Any, Any]:
    transformed = hk.without_apply_rng(hk.transform(_model))
    inputs, queries = _normal(0, 3, 17, 11), _normal(1, 3, 19, 21)
    params = jax.jit(transformed.init)(jax.random.key(0), inputs, np.ones((3, 17), bool), queries)
    # Fresh biases are zero and would hide errors in them.
    params = jax.tree.map(
        lambda leaf: np.asarray(leaf) + 0.1 * _normal(leaf.size, *leaf.shape), params
    )
    return jax.jit(transformed.apply), params


def test_shapes_with_mutually_prime_sizes(model: tuple[Any, Any]) -> None:
    apply, params = model
    for batch, rows, queries in ((2, 17, 19), (3, 1, 1), (1, 23, 29)):
        inputs, asked = _normal(0, batch, rows, 11), _normal(1, batch, queries, 21)
        out = jax.eval_shape(apply, params, inputs, None, asked)
        assert out.shape == (batch, queries, 13)


def test_masked_rows_do_not_matter_wherever_they_stand(model: tuple[Any, Any]) -> None:
    apply, params = model
    rows, queries = _normal(2, 2, 9, 11), _normal(3, 2, 4, 21)
    bare = apply(params, rows, None, queries)
    padded = np.concatenate([rows, 100 * _normal(4, 2, 6, 11)], axis=1)
    mask = np.arange(15) < 9
    np.testing.assert_allclose(
        apply(params, padded, np.tile(mask, (2, 1)), queries), bare, rtol=1e-4, atol=1e-5
    )
    order = np.random.default_rng(5).permutation(15)
    np.testing.assert_allclose(
        apply(params, padded[:, order], np.tile(mask[order], (2, 1)), queries),
        bare,
        rtol=1e-4,
        atol=1e-5,
    )
    changed = apply(params, rows + 0.1 * _normal(6, 2, 9, 11), None, queries)
    assert np.abs(changed - bare).max() > 1e-3, "the rows that are seen must matter"


def test_a_batch_row_without_any_input_is_finite_and_leaves_the_others_alone(
    model: tuple[Any, Any],
) -> None:
    apply, params = model
    rows, queries = _normal(6, 2, 9, 11), _normal(7, 2, 4, 21)
    mask = np.ones((2, 9), bool)
    full = apply(params, rows, mask, queries)
    mask[1] = False
    half = apply(params, rows, mask, queries)
    assert np.isfinite(half).all()
    np.testing.assert_allclose(half[0], full[0], rtol=1e-5, atol=1e-6)


def test_self_and_cross_attention_keep_their_shapes() -> None:
    def both(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        cross = CrossAttention(3, qk_channels=6, v_channels=9, use_query_residual=False)
        return SelfAttention(5)(x), cross(x, y)

    transformed = hk.without_apply_rng(hk.transform(both))
    x, y = _normal(0, 2, 7, 10), _normal(1, 2, 3, 4)
    params = jax.eval_shape(transformed.init, jax.random.key(0), x, y)
    a, b = jax.eval_shape(transformed.apply, params, x, y)
    assert a.shape == b.shape == (2, 7, 10)


def test_the_papers_imagenet_model_has_its_published_size() -> None:
    """48,440,627 weights: Perceiver IO for ImageNet with 2D Fourier features."""

    def imagenet(image: jax.Array, grid: jax.Array) -> jax.Array:
        position = fourier_features(grid, 64, 224.0)
        inputs = jnp.concatenate([image, position], axis=-1)
        encoder = PerceiverEncoder(
            latents=512, channels=1024, self_attends=6, blocks=8, cross_heads=1, self_heads=8,
            cross_qk_channels=inputs.shape[-1],
        )  # fmt: skip
        query = PositionTable(1, 1024, name="query")()[None]
        decoder = PerceiverDecoder(1000, use_query_residual=True)
        return decoder(jnp.broadcast_to(query, (image.shape[0], 1, 1024)), encoder(inputs))

    transformed = hk.transform(imagenet)
    image = jax.ShapeDtypeStruct((1, 224 * 224, 3), jnp.float32)
    grid = jax.ShapeDtypeStruct((1, 224 * 224, 2), jnp.float32)
    params = jax.eval_shape(transformed.init, jax.random.key(0), image, grid)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 48_440_627


def test_fourier_features_by_hand() -> None:
    position = np.array([[0.25, -0.5]], np.float32)
    got = fourier_features(position, 2, 6.0)  # bands 1 and 3
    angles = np.pi * np.array([0.25, 0.75, -0.5, -1.5])
    expected = np.concatenate([[0.25, -0.5], np.sin(angles), np.cos(angles)])
    np.testing.assert_allclose(got[0], expected, rtol=1e-5, atol=1e-6)
    assert fourier_features(position, 5, 6.0, concat_position=False).shape == (1, 20)
