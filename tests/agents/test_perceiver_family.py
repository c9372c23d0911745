"""HiP and Perceiver AR: published sizes, exact causality, masks, and what they can learn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from muzero_rc.agents.perceiver import (
    CrossAttention,
    HiP,
    HiPBlock,
    HiPBlockConfig,
    PerceiverAR,
    PerceiverEncoder,
    PositionTable,
    rotate,
)
from muzero_rc.agents.perceiver.hip import share_groups


def _normal(seed: int, *shape: int) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _shape(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def _count(function: Callable[..., Any], *arguments: Any) -> int:
    params = jax.eval_shape(hk.transform(function).init, jax.random.key(0), *arguments)
    return sum(leaf.size for leaf in jax.tree.leaves(params))


# ---------------------------------------------------------------- published sizes


def test_the_papers_language_model_has_its_published_size() -> None:
    """201,108,230 weights: Perceiver IO for masked language, 262 bytes, 2,048 positions."""

    def language(ids: jax.Array) -> jax.Array:
        words = hk.get_parameter("words", (262, 768), init=jnp.zeros)
        inputs = jnp.take(words, ids, axis=0) + PositionTable(2048, 768, name="positions")()
        encoder = PerceiverEncoder(
            latents=256, channels=1280, self_attends=26, cross_heads=8, self_heads=8,
            cross_qk_channels=256, cross_v_channels=1280, self_qk_channels=256,
        )  # fmt: skip
        latents = encoder(inputs)
        queries = PositionTable(2048, 768, name="queries")()
        queries = jnp.broadcast_to(queries, (ids.shape[0], 2048, 768))
        decoder = CrossAttention(8, qk_channels=256, v_channels=768, use_query_residual=False)
        bias = hk.get_parameter("bias", (262,), init=jnp.zeros)
        return decoder(queries, latents) @ words.T + bias

    assert _count(language, jax.ShapeDtypeStruct((1, 2048), jnp.int32)) == 201_108_230


_SIZES = {
    # groups, latents, channels, self-attends, heads; embedding
    "16": (
        (16, 4, 1, 1, 1, 4, 16), (128, 256, 256, 64, 256, 256, 128),
        (128, 256, 512, 1024, 512, 256, 128), (2, 2, 18, 2, 1, 1, 1), (4, 8, 16, 32, 16, 8, 4), 32,
    ),
    "256": (
        (256, 64, 16, 4, 1, 1, 1, 4, 16, 64, 256),
        (32, 64, 128, 256, 256, 64, 256, 256, 128, 64, 32),
        (64, 96, 128, 256, 512, 1024, 256, 128, 64, 32, 16), (1, 1, 2, 2, 18, 2, 1, 1, 1, 1, 1),
        (1, 2, 4, 8, 16, 32, 16, 8, 4, 2, 1), 16,
    ),
    "Mini": ((16, 1, 16), (128, 64, 128), (128, 1024, 128), (2, 1, 1), (4, 32, 4), 32),
}  # fmt: skip


@pytest.mark.parametrize(
    ("variant", "bottleneck", "expected"),
    [
        pytest.param("16", False, 99_224_996, marks=pytest.mark.slow),
        pytest.param("256", False, 95_585_188, marks=pytest.mark.slow),
        ("Mini", False, 18_709_668),
        ("Mini", True, 21_114_788),
    ],
)
def test_hip_has_its_published_sizes(variant: str, bottleneck: bool, expected: int) -> None:
    *columns, embedding = _SIZES[variant]
    blocks = [HiPBlockConfig(*row) for row in zip(*columns, strict=True)]
    labels = ("image_label", "audio_label") if bottleneck else ()

    def both(images: Any, sounds: Any) -> Any:
        model = HiP(blocks, embedding=embedding, bottleneck_inputs=labels)
        return model(images).reconstruction, model(sounds).reconstruction

    images = {"image": _shape(2, 1024, 3), "image_label": _shape(2, 32, 1)}
    sounds = {"audio": _shape(2, 128, 16), "audio_label": _shape(2, 16, 16)}
    assert _count(both, images, sounds) == expected
    transformed = hk.transform(both)
    params = jax.eval_shape(transformed.init, jax.random.key(0), images, sounds)
    out = jax.eval_shape(transformed.apply, params, jax.random.key(0), images, sounds)
    assert [{n: x.shape for n, x in part.items()} for part in out] == [
        {n: x.shape for n, x in part.items()} for part in (images, sounds)
    ]


# ---------------------------------------------------------------- HiP


def test_groups_go_where_the_rows_are() -> None:
    assert share_groups(16, [1024, 32]) == [15, 1]
    assert share_groups(4, [10, 10]) == [2, 2]
    assert share_groups(2, [1, 100]) == [1, 1]
    with pytest.raises(ValueError, match="as many groups"):
        share_groups(1, [3, 4])


@pytest.fixture(scope="module")
def hip() -> tuple[Any, Any]:
    blocks = [
        HiPBlockConfig(4, 2, 12, 1, 2), HiPBlockConfig(1, 4, 20, 1, 4),
        HiPBlockConfig(4, 2, 8, 1, 2),
    ]  # fmt: skip

    def model(inputs: Any, masks: Any) -> Any:
        return HiP(blocks, embedding=6)(inputs, masks)

    transformed = hk.without_apply_rng(hk.transform(model))
    inputs = {"a": _normal(0, 2, 13, 3), "b": _normal(1, 2, 5, 7)}
    params = jax.jit(transformed.init)(jax.random.key(0), inputs, {})
    params = jax.tree.map(
        lambda leaf: np.asarray(leaf) + 0.1 * _normal(leaf.size, *leaf.shape), params
    )
    return jax.jit(transformed.apply), params


def test_hidden_rows_do_not_matter_and_an_empty_group_is_finite(hip: tuple[Any, Any]) -> None:
    apply, params = hip
    inputs = {"a": _normal(0, 2, 13, 3), "b": _normal(1, 2, 5, 7)}
    masks = {"a": np.arange(13)[None] < np.array([[13], [4]]), "b": np.ones((2, 5), bool)}
    before = apply(params, inputs, masks)
    moved = {"a": np.where(masks["a"][..., None], inputs["a"], 50.0), "b": inputs["b"]}
    after = apply(params, moved, masks)
    for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        assert np.isfinite(a).all()
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    seen = apply(params, {"a": inputs["a"] + 0.5, "b": inputs["b"]}, masks)
    assert np.abs(seen.processor - before.processor).max() > 1e-3
    assert before.reconstruction["a"].shape == (2, 13, 3)


def test_groups_do_not_see_each_other_inside_a_block() -> None:
    config = HiPBlockConfig(3, 2, 8, 1, 2)
    transformed = hk.without_apply_rng(hk.transform(lambda x: HiPBlock(config)(x)))
    x = _normal(0, 1, 3, 5, 4)
    params, apply = jax.jit(transformed.init)(jax.random.key(0), x), jax.jit(transformed.apply)
    before = apply(params, x)
    y = np.array(x)
    y[0, 1] += _normal(1, 5, 4)  # a constant would be normalised away
    changed = np.abs(apply(params, y) - before).max(axis=(0, 2, 3))
    assert changed[1] > 1e-3 and changed[0] == changed[2] == 0


def test_shared_latents_read_every_group_alike_and_any_number_of_groups() -> None:
    def block(x: jax.Array) -> jax.Array:
        return HiPBlock(HiPBlockConfig(x.shape[1], 2, 8, 1, 2, shared=True))(x)

    transformed = hk.without_apply_rng(hk.transform(block))
    x = _normal(0, 1, 5, 7, 4)
    params = jax.jit(transformed.init)(jax.random.key(0), x[:, :1])
    apply = jax.jit(transformed.apply)
    together = apply(params, x)
    assert together.shape == (1, 5, 2, 8)
    for group in range(5):
        alone = apply(params, x[:, group : group + 1])
        np.testing.assert_allclose(together[:, group], alone[:, 0], atol=1e-5)


def test_blocks_that_do_not_fit_are_refused() -> None:
    good = HiPBlockConfig(2, 4, 8, 1)
    for blocks, message in (
        ([good, good], "odd number"),
        ([good, good, good], "not 1"),
        ([good, HiPBlockConfig(1, 4, 8, 1), HiPBlockConfig(2, 5, 8, 1)], "does not mirror"),
    ):
        with pytest.raises(ValueError, match=message):
            hk.transform(lambda x, b=blocks: HiP(b, embedding=4)({"x": x})).init(
                jax.random.key(0), _normal(0, 1, 8, 2)
            )


def _masked_reconstruction(positions: bool, steps: int = 400) -> float:
    """Error on hidden rows of smooth signals after training, relative to their variance."""
    blocks = [
        HiPBlockConfig(4, 4, 16, 1, 2), HiPBlockConfig(1, 8, 32, 1, 2),
        HiPBlockConfig(4, 4, 16, 1, 2),
    ]  # fmt: skip

    def model(x: jax.Array, mask: jax.Array) -> jax.Array:
        return HiP(blocks, embedding=8)({"x": x}, {"x": mask}).reconstruction["x"]

    def still(params: Any) -> Any:
        """Without positions: their parameters are held at zero."""
        return {
            module: {n: jnp.zeros_like(v) if n.startswith("position") else v for n, v in p.items()}
            for module, p in params.items()
        }

    transformed = hk.without_apply_rng(hk.transform(model))
    optimizer = optax.adam(3e-3)
    shown = np.linspace(0, 1, 32)

    def batch(seed: int) -> tuple[Any, Any]:
        rng = np.random.default_rng(seed)
        phase, speed = rng.uniform(0, 6.28, (64, 1)), rng.uniform(2, 6, (64, 1))
        signal = np.sin(speed * shown + phase)[..., None].astype(np.float32)
        return signal, rng.random((64, 32)) < 0.4  # 60% hidden

    def loss(params: Any, x: Any, mask: Any) -> jax.Array:
        params = params if positions else still(params)
        error = jnp.square(transformed.apply(params, x, mask) - x)[..., 0]
        return jnp.sum(error * ~mask) / jnp.sum(~mask)

    @jax.jit
    def update(params: Any, state: Any, x: Any, mask: Any) -> Any:
        gradient = jax.grad(loss)(params, x, mask)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state

    params = transformed.init(jax.random.key(0), *batch(0))
    state = optimizer.init(params)
    for step in range(steps):
        params, state = update(params, state, *batch(step))
    x, mask = batch(10**6)
    return float(loss(params, x, mask)) / float(np.var(x))


@pytest.mark.slow
def test_masked_reconstruction_trains_the_learned_positions() -> None:
    """The paper's self-supervised step: what is hidden is found from where it is.

    Without learned positions groups still know their place, and rows do not.
    """
    learned, without = _masked_reconstruction(True), _masked_reconstruction(False)
    # Far below it would have seen what is hidden.
    assert 0.01 < learned < 0.8 * without < 0.5


# ---------------------------------------------------------------- rotary positions


def test_rotation_by_hand_and_by_difference_alone() -> None:
    x = np.zeros((1, 1, 1, 8), np.float32)
    x[..., 0], x[..., 5] = 1.0, 3.0
    turned = np.asarray(rotate(jnp.asarray(x), jnp.array([[2]])))[0, 0, 0]
    # Two pairs turn: channels (0, 2) by 2 and (1, 3) by 0.02; the second half stays.
    np.testing.assert_allclose(turned[[0, 2]], [np.cos(2), np.sin(2)], atol=1e-6)
    assert turned[5] == 3.0
    query, key = _normal(0, 1, 1, 2, 12), _normal(1, 1, 1, 2, 12)
    products = [
        float(jnp.sum(rotate(query, jnp.array([[p + d]])) * rotate(key, jnp.array([[p]]))))
        for d in (0, 5)
        for p in (0, 17, 300)
    ]
    np.testing.assert_allclose(products[:3], products[0], rtol=1e-3)
    np.testing.assert_allclose(products[3:], products[3], rtol=1e-3)
    assert abs(products[0] - products[3]) > 1e-3
    with pytest.raises(ValueError, match="too few"):
        rotate(jnp.zeros((1, 1, 1, 3)), jnp.zeros((1, 1)))


# ---------------------------------------------------------------- Perceiver AR


def _ar(latents: int, self_attends: int = 2) -> Any:
    def model(x: Any, mask: Any = None, positions: Any = None, own_only: Any = None) -> Any:
        network = PerceiverAR(latents=latents, self_attends=self_attends, heads=2)
        return network(x, mask, positions, own_only)

    return hk.without_apply_rng(hk.transform(model))


@pytest.fixture(scope="module")
def ar() -> tuple[Any, Any]:
    transformed = _ar(5)
    params = jax.jit(transformed.init)(jax.random.key(0), _normal(0, 1, 9, 16))
    return jax.jit(transformed.apply), params


def test_the_future_changes_nothing_before_it(ar: tuple[Any, Any]) -> None:
    apply, params = ar
    x = _normal(1, 2, 12, 16)
    before = np.asarray(apply(params, x))
    for changed in range(12):
        y = np.array(x)
        y[:, changed] += _normal(changed, 2, 16)  # a constant would be normalised away
        after = np.asarray(apply(params, y))
        first = max(changed - 7, 0)  # latents are rows 7..11
        assert (after[:, :first] == before[:, :first]).all(), "exactly"
        assert (np.abs(after[:, first:] - before[:, first:]).max(axis=(0, 2)) > 1e-4).all()


def test_padding_and_order_do_not_matter_positions_do(ar: tuple[Any, Any]) -> None:
    apply, params = ar
    x = _normal(2, 1, 9, 16)
    positions = np.arange(9)[None]
    bare = apply(params, x, None, positions)
    padded = np.concatenate([100 * _normal(3, 1, 4, 16), x], axis=1)
    at = np.concatenate([[[3, 1, 4, 1]], positions], axis=1)
    mask = np.arange(13)[None] >= 4
    np.testing.assert_allclose(apply(params, padded, mask, at), bare, atol=1e-5)
    np.testing.assert_allclose(apply(params, x, None, positions + 1000), bare, atol=1e-3)
    order = np.array([2, 0, 3, 1, 4, 5, 6, 7, 8])  # those before the latents
    np.testing.assert_allclose(
        apply(params, x[:, order], None, positions[:, order]), bare, atol=1e-5
    )
    assert np.abs(apply(params, x[:, order], None, positions) - bare).max() > 1e-3


def test_questions_are_seen_by_themselves_alone(ar: tuple[Any, Any]) -> None:
    apply, params = ar
    x = _normal(4, 1, 9, 16)
    positions = np.arange(9)[None]
    own = np.zeros((1, 9), bool)
    own[0, 6] = True
    before = apply(params, x, None, positions, own)
    y = np.array(x)
    y[0, 6] += _normal(5, 16)
    changed = np.abs(apply(params, y, None, positions, own) - before).max(axis=(0, 2))
    assert changed[2] > 1e-3 and (np.delete(changed, 2) == 0).all()


def test_with_as_many_latents_as_rows_it_is_a_causal_transformer() -> None:
    """Row by row, each on its own prefix: the last state of the prefix is the row's state."""
    transformed = _ar(6)
    x = _normal(5, 1, 6, 16)
    params = jax.jit(transformed.init)(jax.random.key(1), x)
    whole = jax.jit(transformed.apply)(params, x)
    for rows in (1, 4):
        prefix = jax.jit(_ar(rows).apply)(params, x[:, :rows])
        np.testing.assert_allclose(prefix[:, -1], whole[:, rows - 1], atol=1e-5)
    with pytest.raises(ValueError, match="do not hold"):
        _ar(7).apply(params, x)


@pytest.mark.parametrize("family", ["io", "ar", "hip"])
def test_cost_grows_linearly_with_the_input(family: str) -> None:
    def io(x: Any) -> Any:
        return PerceiverEncoder(
            latents=8, channels=16, self_attends=2, cross_heads=2, self_heads=2
        )(x)

    def hip(x: Any) -> Any:
        blocks = [HiPBlockConfig(g, 8, 16, 1, 2) for g in (8, 1, 8)]
        return HiP(blocks, embedding=8)({"x": x}).processor

    def ar(x: Any) -> Any:
        return PerceiverAR(latents=8, self_attends=2, heads=2)(x)

    transformed = hk.without_apply_rng(hk.transform({"io": io, "hip": hip, "ar": ar}[family]))
    flops = []
    for rows in (1000, 2000, 4000):
        x = _shape(1, rows, 16)
        params = jax.eval_shape(transformed.init, jax.random.key(0), x)
        cost = jax.jit(transformed.apply).lower(params, x).compile().cost_analysis()
        flops.append(cost["flops"])
    assert flops[2] - flops[1] == pytest.approx(2 * (flops[1] - flops[0]), rel=0.05)


def _mirrored(far: bool, steps: int) -> float:
    """Accuracy on the second half of random symbols followed by their mirror image."""
    symbols, half, latents = 16, 16, 16
    width = 64

    def model(ids: jax.Array) -> jax.Array:
        x = hk.Embed(symbols + 1, width)(ids) + PositionTable(2 * half, width, name="at")()
        mask = jnp.ones(ids.shape, jnp.bool_)
        if not far:
            mask = mask & (jnp.arange(2 * half) >= 2 * half - latents)
        states = PerceiverAR(latents=latents, self_attends=2, heads=4)(x, mask)
        return hk.Linear(symbols)(states)

    transformed = hk.without_apply_rng(hk.transform(model))
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))

    def batch(seed: int) -> tuple[Any, Any]:
        first = np.random.default_rng(seed).integers(0, symbols, (64, half))
        whole = np.concatenate([first, first[:, ::-1]], axis=1)
        ids = np.concatenate([np.full((64, 1), symbols), whole[:, :-1]], axis=1)  # shifted
        return ids, whole[:, -latents:]

    def loss(params: Any, ids: Any, wanted: Any) -> jax.Array:
        logits = transformed.apply(params, ids)
        return optax.softmax_cross_entropy_with_integer_labels(logits, wanted).mean()

    @jax.jit
    def update(params: Any, state: Any, ids: Any, wanted: Any) -> Any:
        gradient = jax.grad(loss)(params, ids, wanted)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state

    params = transformed.init(jax.random.key(0), batch(0)[0])
    state = optimizer.init(params)
    apply = jax.jit(transformed.apply)
    accuracy = 0.0
    for step in range(steps):
        params, state = update(params, state, *batch(step))
        if step % 200 == 199:
            ids, wanted = batch(10**6 + step)
            accuracy = float((apply(params, ids).argmax(-1) == wanted).mean())
            if accuracy > 0.995:
                break
    return accuracy


@pytest.mark.slow
def test_the_mirrored_copy_task_is_solved_and_needs_the_long_input() -> None:
    """The paper's task of 32 positions: half of them must be looked up outside the latents."""
    assert _mirrored(far=True, steps=6000) > 0.98
    assert _mirrored(far=False, steps=600) < 0.3
