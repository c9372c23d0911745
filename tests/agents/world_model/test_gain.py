"""The gain of a clip from the changes of its frames."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muzero_rc.agents.world_model.frames import EncodeFrames
from muzero_rc.agents.world_model.gain import DB_PER_OCTAVE, FrameChanges, Objective
from muzero_rc.errors import InputError
from muzero_rc.types import UpdateType

MakeColumns = Callable[..., dict[str, Any]]
SAMPLES = 176 * 144 * 1.5


def score(frames: EncodeFrames) -> tuple[float, float, float]:
    """Mean PSNR of shown frames, PSNR of their summed error, log2 of bits: from scratch."""
    shown = np.repeat(frames.shown_sse, frames.weight.astype(int))
    psnr = 10 * np.log10(255**2 * SAMPLES / shown)
    overall = 10 * np.log10(255**2 * SAMPLES * len(shown) / shown.sum())
    return float(psnr.mean()), float(overall), float(np.log2(frames.total_bits))


def true_gain(base: EncodeFrames, other: EncodeFrames, slope: float) -> float:
    (avg, overall, rate), (new_avg, new_overall, new_rate) = score(base), score(other)
    return (0.5 * (new_avg - avg) + 0.5 * (new_overall - overall)) / slope - (new_rate - rate)


def r2(came: np.ndarray, expected: np.ndarray) -> float:
    return 1 - ((came - expected) ** 2).sum() / ((came - came.mean()) ** 2).sum()


def gains_from_true_changes(bases: Any, studies: Any) -> tuple[np.ndarray, np.ndarray]:
    """True gains, and what the objective makes of the true changes of every frame."""
    pairs = [
        (
            true_gain(study.base, encode, study.slope),
            Objective(base, study.slope).gain(changes.bits, changes.shown_sse),
        )
        for base, study in zip(bases, studies, strict=True)
        for encode, changes in zip(study.encodes, study.changes(), strict=True)
    ]
    came, expected = np.array(pairs).T
    return came, expected


def test_true_changes_of_all_frames_give_the_true_gain(studies: Any) -> None:
    came, expected = gains_from_true_changes([study.base for study in studies], studies)
    assert r2(came, expected) > 0.9999
    np.testing.assert_allclose(expected, came, atol=1e-9)
    realised = np.concatenate([study.gains() for study in studies])
    np.testing.assert_allclose(realised, came, atol=1e-9)


def test_frames_that_are_shown_later_must_count(studies: Any) -> None:
    """Left out, the same changes say far less."""
    bases = [replace(study.base, weight=study.base.shown.astype(float)) for study in studies]
    came, expected = gains_from_true_changes(bases, studies)
    assert r2(came, expected) < 0.7


def test_errors_of_filtered_frames_pass_in_part(studies: Any) -> None:
    """Coded errors alone tell those that are shown, whatever the temporal filter took."""
    for study in studies[:3]:
        assert (study.base.passing < 1).any()
        objective = Objective(study.base, study.slope)
        for changes in study.changes():
            np.testing.assert_allclose(objective.shown(changes.sse), changes.shown_sse, atol=1e-9)


def test_frames_above_the_cap_gain_no_more(columns_of_rows: MakeColumns) -> None:
    rows = [
        {"update_type": int(UpdateType.KEY), "sse": (1.0, 0.0, 0.0)},
        {"coding_index": 1, "show_index": 1},
    ]
    objective = Objective(EncodeFrames.of_columns(columns_of_rows(rows), 176, 144), 4.0)
    assert objective.average(np.array([-3.0, 0.0])) == pytest.approx(0, abs=1e-12)
    assert objective.average(np.array([0.0, -1.0])) == pytest.approx(DB_PER_OCTAVE / 2)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_derivatives_are_those_of_finite_differences(
    studies: Any, seed: int, average_share: float
) -> None:
    rng = np.random.default_rng(seed)
    base = studies[seed % len(studies)].base
    objective = Objective(base, 4.5, average_share)
    bits, sse = rng.normal(0, 0.5, (2, len(base)))
    by_bits, by_sse = objective.gradient(bits, sse)
    (bits_d, bits_v), (sse_d, sse_v) = objective.curvature(bits, sse)
    small = 1e-5
    for frame in rng.integers(0, len(base), 4):
        move = np.zeros(len(base))
        move[frame] = small
        up, down = (objective.gain(b, objective.shown(sse)) for b in (bits + move, bits - move))
        assert (up - down) / (2 * small) == pytest.approx(by_bits[frame], abs=1e-7)
        up, down = (objective.gain(bits, objective.shown(e)) for e in (sse + move, sse - move))
        assert (up - down) / (2 * small) == pytest.approx(by_sse[frame], abs=1e-7)
        gradients = [objective.gradient(bits + m, sse + m) for m in (move, -move)]
        for part, d, v in ((0, bits_d, bits_v), (1, sse_d, sse_v)):
            row = (gradients[0][part] - gradients[1][part]) / (2 * small)
            expected = d[frame] * (np.arange(len(base)) == frame) - v[frame] * v
            np.testing.assert_allclose(-row, expected, atol=1e-6)


def test_what_cannot_be_scored(studies: Any) -> None:
    base = studies[0].base
    with pytest.raises(InputError, match="slope"):
        Objective(base, 0.0)
    with pytest.raises(InputError, match="shows no frame"):
        Objective(replace(base, weight=np.zeros(len(base))), 4.5)
    with pytest.raises(InputError, match="other frames"):
        FrameChanges.between(base, replace(base, shown=~base.shown))


def test_repeated_frames_answer_to_no_qindex(columns_of_rows: MakeColumns) -> None:
    key = {"update_type": int(UpdateType.KEY)}
    rows = [key, {"coding_index": 1, "show_index": 1, "bits": 8}]
    base = EncodeFrames.of_columns(columns_of_rows(rows), 176, 144)
    rows = [{**key, "qindex": 90}, {"coding_index": 1, "show_index": 1, "qindex": 90}]
    changes = FrameChanges.between(base, EncodeFrames.of_columns(columns_of_rows(rows), 176, 144))
    assert changes.octaves[0] < 0 and changes.octaves[1] == 0
    np.testing.assert_array_equal(changes.comparable, [True, False])
