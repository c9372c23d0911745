"""Policies by name and by file: what speed profile they ask for, and what they decide."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pytest

from muzero_rc.agents.config import NetworkConfig
from muzero_rc.agents.muzero.networks import initial_params
from muzero_rc.agents.policy import save_policy
from muzero_rc.env.control.recipe import DEFAULT_RECIPE
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.observation.builder import (
    CLIP_FEATURES,
    FRAME_FEATURES,
    GLOBAL_FEATURES,
    HISTORY_FEATURES,
    OBSERVATION_VERSION,
)
from muzero_rc.errors import CheckpointError
from muzero_rc.policies.identity import program_identity
from muzero_rc.policies.registry import WithSpeedProfile, make_policy, prepare
from muzero_rc.types import FrameDecision, Observation

_SETTINGS = EncoderSettings(target_kbps=100)
_NETWORK = NetworkConfig(
    clip_features=CLIP_FEATURES, history_features=HISTORY_FEATURES,
    frame_features=FRAME_FEATURES, global_features=GLOBAL_FEATURES, width=16, latents=2,
    self_attends=1, heads=2, state_width=16, dynamics_width=16, head_width=16,
)  # fmt: skip


def _prepared(name: str, settings: EncoderSettings = _SETTINGS) -> EncoderSettings:
    nothing = cast(Any, None)
    return prepare(make_policy(name), nothing, settings, nothing)


def _observation(rate_offset: int) -> Observation:
    return Observation(
        clip=np.zeros((1, CLIP_FEATURES), np.float32),
        history=np.zeros((0, HISTORY_FEATURES), np.float32),
        frame=np.zeros(FRAME_FEATURES, np.float32),
        globals=np.zeros(GLOBAL_FEATURES, np.float32),
        show_index=0,
        proposal_qindex=100,
        rate_offset=rate_offset,
    )


def _file(folder: Path, **more: Any) -> Path:
    path = folder / "policy.npz"
    save_policy(
        path, initial_params(_NETWORK, 0), _NETWORK, observation_version=OBSERVATION_VERSION,
        env_id="x", training={}, identity=program_identity("network"), **more,
    )  # fmt: skip
    return path


@pytest.mark.parametrize("name", ["vbr", "proposal"])
def test_anchor_and_control_have_a_uniform_profile(name: str) -> None:
    assert _prepared(name) == _SETTINGS


@pytest.mark.parametrize(("name", "passes"), [("hierarchical", 2), ("landed", 3), ("muzero", 3)])
def test_the_others_ask_for_a_hierarchical_profile_and_passes_and_nothing_else(
    name: str, passes: Literal[2, 3]
) -> None:
    assert _prepared(name) == _SETTINGS.replace(speed_profile="hierarchical", passes=passes)


@pytest.mark.parametrize("passes", [2, 3])
def test_settings_have_the_last_word_on_passes(passes: Literal[2, 3]) -> None:
    assert _prepared("landed", _SETTINGS.replace(passes=passes)).passes == passes


def _qindexes(name: str, observations: list[Observation]) -> list[int]:
    base = [FrameDecision(o.base_qindex) for o in observations]
    return [decision.qindex for decision in make_policy(name).decide(observations, base)]


def test_landed_follows_the_rate_controller_and_hierarchical_does_not() -> None:
    observations = [_observation(0), _observation(7), _observation(-200)]
    assert _qindexes("hierarchical", observations) == [100, 100, 100]
    # A key frame's own step is the one that is best in the mean.
    key = int(DEFAULT_RECIPE.qp_offsets.key)
    assert _qindexes("landed", observations) == [100 + key, 107 + key, key]


def test_a_files_speed_profile_is_what_it_was_trained_with(tmp_path: Path) -> None:
    old = make_policy(str(_file(tmp_path)))
    assert isinstance(old, WithSpeedProfile) and old.speed_profile == "uniform"
    new = make_policy(str(_file(tmp_path, speed_profile="hierarchical")))
    assert isinstance(new, WithSpeedProfile) and new.speed_profile == "hierarchical"
    assert new.meta["speed_profile"] == "hierarchical" and new.config == _NETWORK


@pytest.mark.parametrize("speed_profile", ["huge", "probe"])
def test_an_unknown_speed_profile_is_one_line(tmp_path: Path, speed_profile: str) -> None:
    with pytest.raises(CheckpointError, match=f"program does not know: {speed_profile}"):
        make_policy(str(_file(tmp_path, speed_profile=speed_profile)))
