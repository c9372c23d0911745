"""The environment and the passes step the same encode: equal to the byte."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.control.baselines import BasePolicy
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.gym.env import VP9RateControlEnv
from muzero_rc.env.passes.pipeline import rollout
from muzero_rc.policies.registry import make_policy, prepare
from muzero_rc.types import QindexPolicy


@pytest.mark.parametrize("passes", [2, 3])
def test_the_environment_is_a_rollout(carphone: Clip, passes: int) -> None:
    settings = EncoderSettings(
        target_kbps=60, speed=5, speed_profile="hierarchical", passes=3 if passes == 3 else 2
    )
    done = rollout(carphone, settings, BasePolicy())
    env = VP9RateControlEnv(
        [carphone], 60, speed=5, speed_profile="hierarchical", passes=passes, action="full"
    )
    env.reset(seed=0)
    over = False
    while not over:
        *_, over, _, _ = env.step([128, 0, 0, 0, 0])  # the controller's own proposal
    assert env._episode is not None
    assert env._episode.finish().sha256 == done.stream.sha256
    env.close()


@pytest.mark.parametrize("name", ["landed", "planned", "const", "muzero", "hierarchical"])
def test_a_policy_by_name_answers_in_the_environment_as_in_a_rollout(
    carphone: Clip, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy: Any = make_policy(name)
    assert isinstance(policy, QindexPolicy)
    monkeypatch.setattr(policy, "doubts", lambda *_: False)  # one last pass alone
    settings = prepare(policy, carphone, EncoderSettings(target_kbps=60, speed=5), None)  # type: ignore[arg-type]
    done = rollout(carphone, settings, policy)
    passes = settings.passes
    env = VP9RateControlEnv(
        [carphone], 60, speed=5, speed_profile="hierarchical", passes=passes,
        plans=policy if passes == 3 else None,
    )  # fmt: skip
    env.reset(seed=0)
    over = False
    while not over:
        (qindex,) = policy.qindexes([env.observation])
        *_, over, _, _ = env.step(qindex)
    assert env._episode is not None
    assert env._episode.finish().sha256 == done.stream.sha256
    env.close()


def test_the_code_of_the_guide_prints_what_the_guide_says(
    carphone_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(carphone_path, tmp_path / "carphone.mp4")
    monkeypatch.chdir(tmp_path)
    page = Path(__file__).parents[3] / "docs" / "guide" / "environment.md"
    blocks = re.findall(r"```(python|text)\n(.*?)```", page.read_text(), re.DOTALL)
    assert [kind for kind, _ in blocks] == ["python", "text"] * 2
    names: dict[str, Any] = {}
    for (_, code), (_, said) in zip(blocks[::2], blocks[1::2], strict=True):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, names)  # noqa: S102
        assert printed.getvalue() == said
