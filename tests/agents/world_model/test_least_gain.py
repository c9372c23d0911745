"""The least gain over a probe encode: a quantile for each speed, by hand and from a file."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from muzero_rc.agents.world_model.least_gain import LeastGain, octaves_gained
from muzero_rc.errors import InputError


class _Score(NamedTuple):
    psnr_avg: float
    psnr_overall: float
    actual_kbps: float


def test_gain_by_hand() -> None:
    ours, theirs = _Score(41.0, 39.5, 200.0), _Score(40.0, 40.0, 100.0)
    # A dB of four an octave by avg, less an eighth by overall, for an octave more of rate.
    assert octaves_gained(ours, theirs, 4.0, 1.0) == pytest.approx(0.25 - 1.0)
    assert octaves_gained(ours, theirs, 4.0, 0.0) == pytest.approx(-0.125 - 1.0)
    assert octaves_gained(ours, theirs, 4.0, 0.5) == pytest.approx(0.0625 - 1.0)
    there, back = (octaves_gained(a, b, 4.0, 0.5) for a, b in ((ours, theirs), (theirs, ours)))
    assert there == pytest.approx(-back)


def test_a_quantile_for_each_speed() -> None:
    gains = [(5, float(gain)) for gain in np.linspace(0.0, 1.0, 101)]
    found = LeastGain.fit([*gains, (2, 0.3)], share=0.05)
    assert found.speeds.tolist() == [2, 5]
    assert found.at(5) == pytest.approx(0.05) and found.at(2) == 0.3
    assert found.at(8) == found.at(5) and found.at(0) == found.at(2), "the nearest one stands in"
    again = LeastGain.of_arrays(found.as_arrays())
    assert again.octaves.tolist() == found.octaves.tolist()


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"speeds": np.array([5])},
        {"speeds": np.array([5, 2]), "octaves": np.array([0.1])},
        {"speeds": np.array([5]), "octaves": np.array([np.nan])},
        {"speeds": np.array([], np.int64), "octaves": np.array([])},
    ],
)
def test_damaged_arrays_are_refused(arrays: dict[str, np.ndarray]) -> None:
    with pytest.raises(InputError, match="damaged"):
        LeastGain.of_arrays(arrays)


def test_nothing_to_fit_to_is_refused() -> None:
    with pytest.raises(InputError, match="no encodes"):
        LeastGain.fit([])
