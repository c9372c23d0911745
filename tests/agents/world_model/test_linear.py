"""The recursion over references, its derivatives, and the model as arrays."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muzero_rc.agents.world_model.features import NUM_FEATURES, NUM_KINDS, features_of
from muzero_rc.agents.world_model.frames import EncodeFrames
from muzero_rc.agents.world_model.gain import Objective
from muzero_rc.agents.world_model.linear import LinearModel, octaves_of_steps
from muzero_rc.agents.world_model.quantizer import SMALLEST
from muzero_rc.errors import InputError
from muzero_rc.types import UpdateType

MakeColumns = Callable[..., dict[str, Any]]
KEY = {"update_type": int(UpdateType.KEY), "layer_depth": 0}


def same_for_all_kinds(bits: list[float], sse: list[float]) -> LinearModel:
    theta = np.zeros((2, 5, NUM_FEATURES))
    theta[:, :, :NUM_KINDS] = np.array([bits, sse])[:, :, None]
    return LinearModel(theta)


@pytest.fixture
def chain(columns_of_rows: MakeColumns) -> EncodeFrames:
    """Key frame, a frame that refers to it, one that refers to both."""
    rows = [
        KEY,
        {"coding_index": 1, "show_index": 1, "ref_coding_indexes": (0, -1, -1)},
        {"coding_index": 2, "show_index": 2, "ref_coding_indexes": (1, 0, -1)},
    ]
    return EncodeFrames.of_columns(columns_of_rows(rows), 176, 144)


def test_three_frames_by_hand(chain: EncodeFrames) -> None:
    """Change of log2 step 1, 0, -1."""
    model = same_for_all_kinds([-1.0, 0.2, 0.3, 0.1, 0.7], [1.0, 0.1, 0.5, 0.25, 0.7])
    response = model.response(chain)
    # The absolute p of frame 2 are 0.5 and 0.25; the third reference is none.
    bits, sse = response.changes(np.array([1.0, 0.0, -1.0]))
    # E0 = 1 + 0.1; E1 = 0.5 E0; E2 = -1 + 0.1 + 0.5 E1 + 0.25 E0
    np.testing.assert_allclose(sse, [1.1, 0.55, -0.35])
    # B0 = -1 + 0.2; B1 = 0.3 E0; B2 = 1 + 0.2 + 0.3 E1 + 0.1 E0
    np.testing.assert_allclose(bits, [-0.8, 0.33, 1.475])


def test_an_error_travels_through_references(chain: EncodeFrames) -> None:
    """Only the key frame is moved; what refers to it follows, what it does not reach does not."""
    model = same_for_all_kinds([-1.0, 0, 0.3, 0.1, 0], [1.0, 0, 0.5, 0.25, 0])
    bits, sse = model.predict(chain, [8, 0, 0])
    g = float(octaves_of_steps(chain, [8, 0, 0])[0])
    assert g == pytest.approx(np.log2((128 + SMALLEST) / (112 + SMALLEST)))  # qindex 108, 100
    np.testing.assert_allclose(sse, np.array([1, 0.5, 0.5]) * g)
    np.testing.assert_allclose(bits, np.array([-1, 0.3, 0.25]) * g)
    last_only, _ = model.predict(chain, [0, 0, 8])
    np.testing.assert_allclose(last_only[:2], 0)


def test_no_frame_takes_over_more_than_all_of_its_references_error(chain: EncodeFrames) -> None:
    response = same_for_all_kinds([0] * 5, [1.0, 0, 3.0, -1.0, 5.0]).response(chain)
    np.testing.assert_allclose(response.sse[1, 2:], [1, 0, 0])
    np.testing.assert_allclose(response.sse[2, 2:], [0.75, -0.25, 0])


def test_the_law_of_the_made_up_encoder(synthetic: Any, law: Any) -> None:
    clip = synthetic(5)
    steps = np.random.default_rng(0).integers(-16, 17, len(clip.base))
    encode = clip.encode(law, steps)
    bits, sse = LinearModel(law.coefficients).predict(clip.base, steps)
    np.testing.assert_allclose(bits, encode.log2_bits - clip.base.log2_bits, atol=1e-9)
    np.testing.assert_allclose(sse, encode.log2_sse - clip.base.log2_sse, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.randoms(use_true_random=False))
def test_order_of_frames_that_do_not_refer_to_each_other(
    columns_of_rows: MakeColumns, law: Any, random: Any
) -> None:
    """Any order in which references come first gives every frame the same changes."""
    names = {0: (), 1: (0,), 2: (0, 1), 3: (0, 1), 4: (2, 1), 5: (3, 1), 6: (4, 5), 7: (1,)}
    steps = {name: random.randint(-16, 16) for name in names}
    model = LinearModel(law.coefficients)

    def run(order: list[int]) -> dict[int, tuple[float, float]]:
        place = {name: index for index, name in enumerate(order)}
        rows = []
        for name in order:
            refs = [place[r] for r in names[name]]
            rows.append(
                {
                    "coding_index": place[name], "show_index": name, "qindex": 80 + name,
                    "bits": 900 + 50 * name, "skip_blocks": 40 * name,
                    "ref_coding_indexes": (*refs, -1, -1, -1)[:3], **(KEY if not name else {}),
                }
            )  # fmt: skip
        base = EncodeFrames.of_columns(columns_of_rows(rows), 176, 144)
        bits, sse = model.predict(base, [steps[name] for name in order])
        return {name: (bits[place[name]], sse[place[name]]) for name in order}

    order: list[int] = []
    while len(order) < len(names):
        ready = [n for n in names if n not in order and all(r in order for r in names[n])]
        order.append(random.choice(ready))
    expected, found = run(sorted(names)), run(order)
    for name in names:
        assert found[name] == pytest.approx(expected[name], abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_gradient_is_that_of_finite_differences(studies: Any, law: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    base = studies[seed % len(studies)].base
    noise = rng.normal(0, 0.05, law.coefficients.shape) * (np.arange(NUM_FEATURES) < NUM_KINDS)
    response = LinearModel(law.coefficients + noise).response(base)
    objective = Objective(base, 4.5)
    octaves = rng.normal(0, 0.3, len(base))

    def gain(at: np.ndarray) -> float:
        bits, sse = response.changes(at)
        return objective.gain(bits, objective.shown(sse))

    gradient = response.pull_back(octaves, *objective.gradient(*response.changes(octaves)))
    small = 1e-5
    for frame in rng.integers(0, len(base), 5):
        move = np.zeros(len(base))
        move[frame] = small
        numeric = (gain(octaves + move) - gain(octaves - move)) / (2 * small)
        assert gradient[frame] == pytest.approx(numeric, abs=1e-7)


def test_propagation_is_the_recursion_in_one_matrix(studies: Any, law: Any) -> None:
    base = studies[0].base
    theta = np.array(law.coefficients)
    theta[:, 1] = 0.0  # linear, so that matrices say all
    response = LinearModel(theta).response(base)
    octaves = np.random.default_rng(1).normal(0, 0.3, len(base))
    bits, sse = response.changes(octaves)
    bits_by, sse_by = response.propagation()
    own = response.sse[:, 0] * octaves
    np.testing.assert_allclose(sse, sse_by @ own, atol=1e-12)
    np.testing.assert_allclose(bits, response.bits[:, 0] * octaves + bits_by @ own, atol=1e-12)


def test_a_common_step_gains_nothing_where_the_slope_is_held_to(studies: Any, law: Any) -> None:
    theta = np.array(law.coefficients)
    theta[1] *= 0.6
    base = studies[2].base
    objective = Objective(base, studies[2].slope)
    by_bits, by_sse = objective.at_base()
    model = LinearModel(theta).response(base)
    held = model.calibrated(by_bits, by_sse)
    common = np.full(len(base), 1e-6)
    wanted = []
    for response in (model, held):
        bits, sse = response.changes(common)
        wanted.append(abs(by_bits @ bits + by_sse @ sse) / 1e-6)
    assert wanted[0] > 0.1 and wanted[1] < 1e-5
    again = held.calibrated(by_bits, by_sse)
    np.testing.assert_allclose(again.sse, held.sse)


def test_damaged_models(law: Any, studies: Any) -> None:
    with pytest.raises(InputError, match="finite coefficients"):
        LinearModel(law.coefficients * np.nan)
    with pytest.raises(InputError, match="features have the shape"):
        LinearModel(law.coefficients).response(studies[0].base, features_of(studies[0].base)[:-1])


def test_steps_end_with_the_qindexes(chain: EncodeFrames) -> None:
    """The step is 112 at qindex 100."""
    np.testing.assert_allclose(
        octaves_of_steps(chain, [500, -500, 0]),
        np.log2((np.array([1828, 4, 112]) + SMALLEST) / (112 + SMALLEST)),
        atol=1e-12,
    )
