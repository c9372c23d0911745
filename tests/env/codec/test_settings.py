"""The encoder's settings: every value that libvpx would refuse is refused in words."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

import pytest

from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.errors import InputError

RANGES = {
    "target_kbps": (1, 1_000_000),
    "speed": (0, 9),
    "auto_alt_ref": (0, 6),
    "lag_in_frames": (0, 25),
    "aq_mode": (0, 4),
    "arnr_max_frames": (0, 15),
    "arnr_strength": (0, 6),
    "arnr_type": (1, 3),
    "kf_max_dist": (0, 100_000),
    "threads": (1, 64),
    "tile_columns": (0, 6),
    "tile_rows": (0, 2),
    "cq_level": (0, 63),
    "min_quantizer": (0, 63),
    "max_quantizer": (0, 63),
    "undershoot_pct": (0, 100),
    "overshoot_pct": (0, 100),
}


def test_every_setting_is_tried_here() -> None:
    switches = {"tpl", "row_mt", "frame_parallel", "show_existing"}
    others = {"rc_mode", "speed_profile", "passes", "budget_kbps", "time", "budget_work"}
    assert {*RANGES, *switches, *others} == set(EncoderSettings(target_kbps=1).as_dict())


def test_rate_control_meets_the_budget_where_there_is_one() -> None:
    settings = EncoderSettings(target_kbps=100)
    assert settings.rate_kbps == 100 and settings.frame_budget(Fraction(25)) == 4000
    part = settings.replace(budget_kbps=80.5)
    assert part.target_kbps == 100 and part.frame_budget(Fraction(25)) == 3220
    with pytest.raises(InputError, match="unknown encoder setting budget_kbps"):
        EncoderSettings.named(100, {"budget_kbps": 80})


def test_passes_are_two_three_or_left_open() -> None:
    assert [EncoderSettings(target_kbps=1, passes=n).passes for n in (0, 2, 3)] == [0, 2, 3]
    for bad in (1, 4, -1, True, "3"):
        with pytest.raises(InputError, match="passes must be 2, 3"):
            EncoderSettings(target_kbps=1, passes=bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", RANGES)
def test_numbers_have_their_range(name: str) -> None:
    low, high = RANGES[name]
    for good in (low, high):
        assert getattr(EncoderSettings(**{"target_kbps": 100, name: good}), name) == good
    for bad in (low - 1, high + 1, -(10**9), 10**12):
        with pytest.raises(InputError, match=f"{name} must be between {low} and {high}"):
            EncoderSettings(**{"target_kbps": 100, name: bad})
    for wrong in (float(low), float("nan"), str(low), True, None, [low]):
        with pytest.raises(InputError, match=f"{name} must be a whole number"):
            EncoderSettings(**{"target_kbps": 100, name: wrong})


@pytest.mark.parametrize(
    "bad",
    [
        {"tpl": "no"},
        {"tpl": 1},
        {"row_mt": None},
        {"frame_parallel": 0},
        {"show_existing": "no"},
        {"rc_mode": "cbr"},
        {"speed_profile": "much"},
        {"rc_mode": 0},
        {"min_quantizer": 40, "max_quantizer": 39},
        {"budget_kbps": 0},
        {"budget_kbps": float("nan")},
        {"budget_kbps": float("inf")},
        {"budget_kbps": "80"},
        {"budget_kbps": True},
        {"time": 0.0},
        {"budget_work": -1.0},
    ],
)
def test_other_bad_values_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(bad))):
        EncoderSettings(target_kbps=100, **bad)
    with pytest.raises(InputError, match=next(iter(bad))):
        EncoderSettings(target_kbps=100).replace(**bad)


def test_settings_survive_json() -> None:
    settings = EncoderSettings(target_kbps=321, speed=3, tpl=False, rc_mode="cq")
    assert EncoderSettings(**json.loads(json.dumps(settings.as_dict()))) == settings
