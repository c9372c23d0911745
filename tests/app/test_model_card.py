"""Policy cards: the committed one is the shipped file's, and no card says what is not known."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from muzero_rc.agents.muzero.networks import zero_params
from muzero_rc.agents.policy import load_policy, save_policy
from muzero_rc.checkpoint import read_arrays, write_arrays
from muzero_rc.cli.main import main
from muzero_rc.env.observation.builder import OBSERVATION_VERSION
from muzero_rc.errors import CheckpointError
from muzero_rc.model_card import read_card
from muzero_rc.policies.registry import make_policy
from muzero_rc.policies.shipped import shipped_policy_path
from muzero_rc.training.costs import StageCost
from muzero_rc.training.presets import PRESETS, configure

CARD = Path(__file__).resolve().parents[2] / "muzero_rc" / "policy_files" / "muzero.md"


def _save(path: Path, **changes: Any) -> Path:
    network = PRESETS["tiny"].agent.network
    values = {"observation_version": OBSERVATION_VERSION, "env_id": "e-v0", "training": {}}
    save_policy(path, zero_params(network), network, **{**values, **changes})
    return path


def test_the_committed_card_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy"]) == 0
    printed = capsys.readouterr().out
    assert CARD.read_text() == printed, (
        "the shipped policy has changed: muzero-rc policy > muzero_rc/policy_files/muzero.md"
    )


def test_the_card_is_of_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    path = shipped_policy_path()
    assert main(["policy", "--format", "json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["type"] == "policy" and card["file"] == "muzero.npz"
    assert card["file_bytes"] == path.stat().st_size
    assert card["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    tree, _ = read_arrays(path)
    weights = sum(np.size(leaf) for leaves in tree["params"].values() for leaf in leaves.values())
    assert sum(card["parameters"].values()) == weights
    assert set(card["parameters"]) == {"representation", "dynamics", "prediction"}
    policy = load_policy(path)
    assert card["network"] == policy.config.as_dict()
    assert card["config"] == policy.meta["training"]["config"]


def test_a_file_of_one_s_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    costs = {"collect": StageCost(22, 1234, 0, 0.5, 15.0, 0.0), "imitate": StageCost(updates=60)}
    path = _save(
        tmp_path / "mine.npz",
        training={
            "stage": "imitation",
            "studied_encodes": 20,
            "costs": {name: cost.as_dict() for name, cost in costs.items()},
            "config": configure("tiny", studies=5).as_dict(),
        },
        speed_profile="hierarchical",
    )
    assert main(["policy", str(path)]) == 0
    page = capsys.readouterr().out
    assert "| collect | 22 | 1,234 | 0 | 1,800.0 | 15.0 | 0.0 |" in page
    assert "| all | 22 | 1,234 | 60 | 1,800.0 | 15.0 | 0.0 |" in page
    assert "--preset tiny --studies 5" in page
    assert "muzero-rc evaluate CLIPS --policy mine.npz" in page
    assert "30 to 40 frames, scaled down to 96 lines, at speed 5 " in page
    assert "Studies of another run" not in page
    assert "cannot be used" not in page
    assert read_card(path).costs == costs


def test_what_a_file_does_not_say_is_said_to_be_missing(tmp_path: Path) -> None:
    path = _save(tmp_path / "bare.npz", observation_version=OBSERVATION_VERSION + 1)
    page = read_card(path).markdown()
    assert "Not recorded in the file" in page
    assert "does not say what it was trained on" in page
    assert "no configuration that this program can read" in page
    assert f"observations of version {OBSERVATION_VERSION + 1}" in page
    shared = _save(tmp_path / "b.npz", training={"studied_encodes": 20, "costs": {}})
    assert "Studies of another run were used" in read_card(shared).markdown()


def test_wrong_files_get_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damaged = _save(tmp_path / "d.npz", training={"costs": {"collect": {"encodes": -1}}})
    with pytest.raises(CheckpointError, match="damaged record of its training"):
        read_card(damaged)
    other = tmp_path / "other.npz"
    write_arrays(other, {"a": np.zeros(1)}, {"format": "something else"})
    text = tmp_path / "text.npz"
    text.write_text("no archive")
    for words, says, status in (
        (["vbr"], "has no file", 2),
        ([str(tmp_path / "gone.npz")], "does not exist", 2),
        ([str(other)], "not a policy", CheckpointError.exit_code),
        ([str(text)], "not a file of this program", CheckpointError.exit_code),
        (["--format", "html"], "--format must be md or json", 2),
    ):
        assert main(["policy", *words]) == status
        captured = capsys.readouterr()
        assert says in captured.err and captured.err.count("\n") == 1 and not captured.out


def test_the_card_of_the_plan_model_is_that_of_its_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "planned"]) == 0
    assert capsys.readouterr().out == CARD.with_name("planned.md").read_text(), (
        "the plan model has changed: muzero-rc policy planned > muzero_rc/policy_files/planned.md"
    )
    assert make_policy("const").name == "const" and make_policy("planned").name == "planned"
