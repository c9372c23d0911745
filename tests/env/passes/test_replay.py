"""Replay: the log alone gives the same bytes again."""

from __future__ import annotations

import json

import pytest

from muzero_rc.decision_columns import columns_of_log, log_settings_of_columns
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.control.baselines import BasePolicy, ProposalPolicy, VbrPolicy
from muzero_rc.env.control.recipe import DEFAULT_RECIPE
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.passes.one_pass import Rollout
from muzero_rc.env.passes.pipeline import rollout
from muzero_rc.env.passes.replay import replay_decisions
from muzero_rc.errors import InputError
from muzero_rc.types import Policy

THREE = EncoderSettings(target_kbps=60, speed=5, speed_profile="hierarchical", passes=3)


def _replayed(clip: Clip, settings: EncoderSettings, done: Rollout) -> str:
    columns = json.loads(json.dumps(columns_of_log(done.log)))
    speed, gops, decisions = log_settings_of_columns(columns)
    return replay_decisions(clip, settings.replace(speed=speed), decisions, gops=gops).sha256


@pytest.mark.parametrize("policy", [BasePolicy(), VbrPolicy(), ProposalPolicy()])
@pytest.mark.parametrize("speed", [pytest.param(1, marks=pytest.mark.slow), 5])
def test_a_log_gives_the_same_bytes(carphone: Clip, policy: Policy, speed: int) -> None:
    settings = THREE.replace(speed=speed)
    done = rollout(carphone, settings, policy)
    assert _replayed(carphone, settings, done) == done.stream.sha256


def test_a_log_outlives_a_change_of_control(carphone: Clip) -> None:
    other = DEFAULT_RECIPE.replace({"show_existing.max_change": 1.0}).with_speeds(5, leaf=4, key=2)
    done = rollout(carphone, THREE, BasePolicy(), recipe=other)
    assert rollout(carphone, THREE, BasePolicy()).stream.sha256 != done.stream.sha256
    assert _replayed(carphone, THREE, done) == done.stream.sha256


def test_a_log_of_another_length_is_told(carphone: Clip) -> None:
    done = rollout(carphone, THREE.replace(passes=2), BasePolicy())
    decisions = done.log.decisions
    how = THREE.replace(speed=done.log.speed)
    with pytest.raises(InputError, match="more frames to code"):
        replay_decisions(carphone, how, decisions[:-1])
    with pytest.raises(InputError, match="were recorded"):
        replay_decisions(carphone, how, [*decisions, decisions[-1]])
