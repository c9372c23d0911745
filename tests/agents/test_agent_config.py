"""Configurations: round trip through plain values, and errors that name the key."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from muzero_rc.agents.config import AgentConfig, LossConfig, NetworkConfig, SearchConfig
from muzero_rc.errors import InputError

COLUMNS = {"clip_features": 3, "history_features": 4, "frame_features": 5, "global_features": 6}


def test_round_trip_through_json() -> None:
    config = AgentConfig(
        network=NetworkConfig(**COLUMNS, width=32, action_frame="absolute"),
        search=SearchConfig(simulations=4, rescale_values=True),
    )
    assert AgentConfig.from_dict(json.loads(json.dumps(config.as_dict()))) == config


def test_absent_keys_take_defaults_and_whole_numbers_become_floats() -> None:
    assert LossConfig.from_dict({}) == LossConfig()
    weight = LossConfig.from_dict({"policy": 2}).policy
    assert weight == 2.0 and isinstance(weight, float)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"widht": 64}, "network.widht"),
        ({"width": 0}, "network.width"),
        ({"width": 64.0}, "network.width"),
        ({"width": True}, "network.width"),
        ({"width": "64"}, "network.width"),
        ({"width": 30, "heads": 4}, "network.heads"),
        ({"action_frame": "relative"}, "network.action_frame"),
        ({"representation": ["perceiver_io"]}, "network.representation"),
        ({"policy_sigma": float("nan")}, "network.policy_sigma"),
        ({"history_features": 1}, "network.history_features"),
    ],
)
def test_a_bad_value_is_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named) as caught:
        NetworkConfig.from_dict({**COLUMNS, **change})
    assert "\n" not in str(caught.value)


def test_missing_and_unknown_sections_are_named() -> None:
    with pytest.raises(InputError, match="network.clip_features is missing"):
        NetworkConfig.from_dict({})
    with pytest.raises(InputError, match="section network"):
        AgentConfig.from_dict({})
    with pytest.raises(InputError, match="unknown section sarch"):
        AgentConfig.from_dict({"network": COLUMNS, "sarch": {}})
    with pytest.raises(InputError, match="search must be a table"):
        AgentConfig.from_dict({"network": COLUMNS, "search": 5})


def test_every_number_has_bounds_and_every_word_choices() -> None:
    for section in dataclasses.fields(AgentConfig):
        values = AgentConfig.from_dict({"network": COLUMNS}).as_dict()[section.name]
        kind = type(getattr(AgentConfig.from_dict({"network": COLUMNS}), section.name))
        for key, value in values.items():
            if not isinstance(value, bool):
                with pytest.raises(InputError, match=f"{section.name}.{key}"):
                    kind.from_dict({**values, key: -1})
