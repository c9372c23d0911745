"""The fit: what adds up, what is found again, what it weighs."""

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muzero_rc.agents.world_model.features import NUM_FEATURES
from muzero_rc.agents.world_model.normal_equations import NormalEquations, Ridge
from muzero_rc.agents.world_model.study import equations_by_source
from muzero_rc.errors import InputError

WEAK = Ridge(features=1e-6, kinds=1e-8)


def total(equations: Any) -> NormalEquations:
    return sum(equations, NormalEquations.empty())


def same(one: NormalEquations, other: NormalEquations) -> None:
    for field in fields(NormalEquations):
        left, right = getattr(one, field.name), getattr(other, field.name)
        scale = np.abs(right).max() + 1e-9
        np.testing.assert_allclose(left / scale, right / scale, atol=1e-12, err_msg=field.name)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 6), st.integers(0, 11))
def test_parts_add_up_to_the_whole(studies: Any, cut: int, which: int) -> None:
    study = studies[which]
    parts = study.equations(slice(cut)) + study.equations(slice(cut, None))
    same(parts, study.equations())
    same(parts - study.equations(slice(cut)), study.equations(slice(cut, None)))


def test_fit_of_a_sum_is_the_fit_of_all(studies: Any) -> None:
    by_source = equations_by_source(studies)
    assert list(by_source) == [study.source for study in studies]
    held_out = total(by_source.values()) - by_source["source 3"]
    others = total(s.equations() for s in studies if s.source != "source 3")
    np.testing.assert_allclose(
        held_out.solve().coefficients, others.solve().coefficients, atol=1e-8
    )


def test_studies_of_one_source_are_held_out_together(studies: Any) -> None:
    pair = [replace(study, source="same") for study in studies[:2]]
    assert equations_by_source(pair)["same"].encodes == 12


def test_an_encode_that_counts_twice(studies: Any) -> None:
    one = studies[0].equations(slice(1))
    same(one.scaled(2.0), one + one)


def test_the_law_is_found_again(synthetic: Any, law: Any) -> None:
    """Without noise, and with a ridge too weak to matter, coefficients of all frames agree."""
    clips = [synthetic(seed) for seed in range(12)]
    model = total(
        clip.study(law, 6, seed, noise=0.0).equations() for seed, clip in enumerate(clips)
    ).solve(WEAK)
    unseen = synthetic(77)
    response = model.response(unseen.base)
    truth = type(model)(law.coefficients).response(unseen.base)
    np.testing.assert_allclose(response.bits, truth.bits, atol=2e-3)
    np.testing.assert_allclose(response.sse, truth.sse, atol=2e-3)


def test_clip_rows_make_the_sums_right(studies: Any, law: Any) -> None:
    """With features forbidden the frames' law is out of reach; clip rows still fit the gain."""
    equations = total(study.equations() for study in studies)

    def error(clip_weight: float) -> float:
        model = equations.solve(Ridge(features=1e6, kinds=1e-6, clip_weight=clip_weight))
        theta = model.coefficients.ravel()
        left, right = equations.clips_left, equations.clips_right
        return float(theta @ left @ theta - 2 * theta @ right)

    assert error(30.0) < error(1.0) < error(0.0)


def test_units_of_features_do_not_matter(studies: Any) -> None:
    """Features of another unit and origin give the same predictions."""
    scale = np.ones(NUM_FEATURES)
    scale[7:] = np.linspace(0.2, 5, NUM_FEATURES - 7)
    shift = np.zeros(NUM_FEATURES)
    shift[7:] = np.linspace(-3, 3, NUM_FEATURES - 7)
    moved = [replace(s, features=s.known_features * scale + shift) for s in studies]
    steps = np.arange(len(studies[0].base)) % 7 - 3
    found = [
        total(s.equations() for s in group)
        .solve()
        .predict(group[0].base, steps, group[0].known_features)
        for group in (studies, moved)
    ]
    np.testing.assert_allclose(found[0], found[1], atol=1e-8)


def test_frames_that_only_one_encode_repeated_do_not_count(studies: Any) -> None:
    study = studies[0]
    first = study.encodes[0]
    repeated = np.array(first.repeated)
    repeated[-1] = True
    wild = replace(first, repeated=repeated, bits=np.where(repeated, 8.0, first.bits))
    calm = replace(first, repeated=repeated)
    same(replace(study, encodes=[wild]).equations(), replace(study, encodes=[calm]).equations())


def test_arrays_there_and_back(studies: Any) -> None:
    equations = studies[0].equations()
    again = NormalEquations.of_arrays(equations.as_arrays())
    same(again, equations)
    with pytest.raises(InputError, match="moments of shape"):
        NormalEquations.of_arrays({**equations.as_arrays(), "moments": np.zeros(3)})


def test_whole_strengths_are_numbers_too(studies: Any) -> None:
    """An integer strength once rounded that of the kinds to zero."""
    equations = studies[0].equations()
    np.testing.assert_array_equal(
        equations.solve(Ridge(features=1, kinds=0.01)).coefficients,
        equations.solve(Ridge(features=1.0, kinds=0.01)).coefficients,
    )


def test_what_cannot_be_fitted(studies: Any) -> None:
    with pytest.raises(InputError, match="no encodes"):
        NormalEquations.empty().solve()
    with pytest.raises(InputError, match="strengths"):
        Ridge(features=0.0)
    base = studies[0].base
    with pytest.raises(InputError, match="other frames"):
        NormalEquations.of(base, [replace(base, show_index=base.show_index + 1)], 4.5)
