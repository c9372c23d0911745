"""Tokens: fixed sizes, masks, relative positions, one computation per clip."""

from __future__ import annotations

import gc
from collections.abc import Callable

import numpy as np
import pytest

from muzero_rc.agents.config import NetworkConfig
from muzero_rc.agents.tokens import ClipTokens, Tokenizer, token_shapes, zero_tokens
from muzero_rc.errors import InputError
from muzero_rc.types import Observation

MakeObservations = Callable[..., list[Observation]]


@pytest.mark.parametrize("frames", [1, 2, 3, 12, 1000])
def test_shapes_do_not_depend_on_the_clip(
    tiny: NetworkConfig, make_observations: MakeObservations, frames: int
) -> None:
    observations = make_observations(0, frames)
    batch = Tokenizer(tiny).batch([observations[0], observations[-1]], 3)
    for name, (shape, dtype) in token_shapes(tiny).items():
        assert batch[name].shape == (3, *shape), name
        assert batch[name].dtype == dtype, name
        assert np.isfinite(batch[name]).all(), name
        np.testing.assert_array_equal(batch[name][2], zero_tokens(tiny, 1)[name][0])


def test_window_holds_the_rows_around_the_frame_and_masks_the_rest(
    tiny: NetworkConfig, make_observations: MakeObservations
) -> None:
    observations = make_observations(1, 12)
    batch = Tokenizer(tiny).batch(observations)
    for step, observation in enumerate(observations):
        for slot in range(tiny.window_back + 1 + tiny.window_ahead):
            row = step - tiny.window_back + slot
            inside = 0 <= row < 12
            assert batch["window_mask"][step, slot] == inside
            expected = observation.clip[row] if inside else 0.0
            np.testing.assert_array_equal(batch["window"][step, slot], expected)


def test_segments_pool_the_whole_clip(
    tiny: NetworkConfig, make_observations: MakeObservations
) -> None:
    (observation, *_) = make_observations(2, 9)
    tokens = Tokenizer(tiny).batch([observation])
    clip = observation.clip
    for segment in range(3):
        rows = clip[3 * segment : 3 * segment + 3]
        expected = np.concatenate([rows.mean(0), rows.max(0)])
        np.testing.assert_allclose(tokens["segments"][0, segment], expected, rtol=1e-6)
        centre = 3 * segment + 1
        np.testing.assert_allclose(
            tokens["segment_position"][0, segment], [centre / 9, np.arcsinh(centre) / 3], rtol=1e-6
        )
    short = ClipTokens(clip[:2], tiny)
    assert short.segment_mask.sum() == 2
    assert (short.segments[~short.segment_mask] == 0).all()


def test_history_is_newest_first_with_positions_seen_from_now(
    tiny: NetworkConfig, make_observations: MakeObservations
) -> None:
    observation = make_observations(3, 30)[20]
    tokens = Tokenizer(tiny).batch([observation])
    assert tokens["history_mask"].all()
    for slot in range(4):
        row = 19 - slot
        np.testing.assert_array_equal(
            tokens["history"][0, slot, :-2], observation.history[row, :-2]
        )
        np.testing.assert_allclose(
            tokens["history"][0, slot, -2:], np.arcsinh([row - 20, row - 20]) / 3, rtol=1e-5
        )
    # Two frames back are in the window of 2 + 1 + 8, older ones lie before it.
    assert tokens["history_position"][0].tolist() == [1, 0, 11, 11]


def test_a_hidden_frame_far_ahead_lies_after_the_window(
    tiny: NetworkConfig, make_observations: MakeObservations
) -> None:
    observation = make_observations(4, 30)[2]
    history = observation.history.copy()
    history[:, -2] = np.array([0, 25]) / tiny.history_position_scale
    seen = Observation(observation.clip, history, observation.frame, observation.globals, 2, 100)
    tokens = Tokenizer(tiny).batch([seen])
    assert tokens["history_position"][0].tolist()[:2] == [12, 0]
    assert tokens["history_mask"][0].tolist() == [True, True, False, False]


def test_the_observation_is_not_changed(
    tiny: NetworkConfig, make_observations: MakeObservations
) -> None:
    observation = make_observations(5, 8)[6]
    before = [a.copy() for a in (observation.clip, observation.history, observation.frame)]
    Tokenizer(tiny).batch([observation])
    for kept, array in zip(
        before, (observation.clip, observation.history, observation.frame), strict=True
    ):
        np.testing.assert_array_equal(kept, array)


def test_a_clip_is_pooled_once_and_forgotten_with_its_array(
    tiny: NetworkConfig, make_observations: MakeObservations
) -> None:
    tokenizer = Tokenizer(tiny)
    observations = make_observations(6, 8)
    first = tokenizer.clip(observations[0].clip)
    assert tokenizer.clip(observations[5].clip) is first
    assert tokenizer.clip(observations[0].clip.copy()) is not first
    gc.collect()
    assert len(tokenizer._clips) == 1
    del observations
    gc.collect()
    assert len(tokenizer._clips) == 0


def test_other_columns_are_refused(
    tiny: NetworkConfig, make_observations: MakeObservations
) -> None:
    good = make_observations(7, 8)[5]
    tokenizer = Tokenizer(tiny)
    bad = [
        Observation(good.clip[:, 1:], good.history, good.frame, good.globals, 5, 9),
        Observation(good.clip[:0], good.history, good.frame, good.globals, 5, 9),
        Observation(good.clip, good.history[:, 1:], good.frame, good.globals, 5, 9),
        Observation(good.clip, good.history, good.frame[1:], good.globals, 5, 9),
        Observation(good.clip, good.history, good.frame, good.globals[1:], 5, 9),
    ]
    for observation in bad:
        with pytest.raises(InputError, match="the policy"):
            tokenizer.batch([observation])
    with pytest.raises(ValueError, match="do not fit"):
        tokenizer.batch([good, good], 1)
