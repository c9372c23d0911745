"""A policy file that was made for something else is refused, or used with a warning."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from muzero_rc.agents.muzero.networks import zero_params
from muzero_rc.agents.policy import load_policy, save_policy
from muzero_rc.agents.world_model import features
from muzero_rc.agents.world_model.plan_model import PlanModel
from muzero_rc.checkpoint import read_arrays, write_arrays
from muzero_rc.cli.main import main
from muzero_rc.env.control.recipe import DEFAULT_RECIPE
from muzero_rc.env.observation import builder
from muzero_rc.env.observation.builder import OBSERVATION_VERSION
from muzero_rc.errors import CheckpointError, PolicyWarning
from muzero_rc.policies.identity import PolicyKind, check_identity, program_identity
from muzero_rc.policies.registry import make_policy
from muzero_rc.policies.shipped import SHIPPED_FILES, shipped_policy_path
from muzero_rc.policy_identity import PolicyIdentity
from muzero_rc.training.presets import PRESETS

Change = Callable[[PolicyIdentity], PolicyIdentity]


def _file(kind: PolicyKind, folder: Path, identity: PolicyIdentity | None) -> Path:
    path = folder / f"{kind}.npz"
    if kind == "plan":
        model = PlanModel.load(shipped_policy_path("planned"))
        dataclasses.replace(model, identity=identity).save(path)
        return path
    network = PRESETS["tiny"].agent.network
    save_policy(
        path, zero_params(network), network, observation_version=OBSERVATION_VERSION,
        env_id="x", training={}, identity=identity,
    )  # fmt: skip
    return path


def _other(name: str, place: int, by: float) -> Change:
    def change(identity: PolicyIdentity) -> PolicyIdentity:
        values = np.array(getattr(identity, name))
        values[place] += by
        return dataclasses.replace(identity, **{name: values})

    return change


KINDS: tuple[PolicyKind, ...] = ("network", "plan")
REFUSED: Mapping[str, tuple[Change, str]] = {
    "another libvpx": (
        lambda i: dataclasses.replace(i, encoder=i.encoder.replace(" 1.12.0", " 1.13.0")),
        "libvpx 1.13.0, this program has 1.12.0",
    ),
    "another column": (_other("told", 3, 0.1), "its inputs mean something else"),
    "fewer columns": (
        lambda i: dataclasses.replace(i, told=i.told[:-1]),
        "its inputs mean something else",
    ),
}
DOUBTED: Mapping[str, tuple[Change, str]] = {
    "other patches": (
        lambda i: dataclasses.replace(i, encoder=i.encoder + "0"),
        "made with the encoder libvpx",
    ),
    "another proposal": (_other("proposed", 0, 1.0), "proposals are others"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", REFUSED)
def test_a_policy_for_other_inputs_is_refused(kind: PolicyKind, case: str, tmp_path: Path) -> None:
    change, says = REFUSED[case]
    path = _file(kind, tmp_path, change(program_identity(kind)))
    with pytest.raises(CheckpointError, match=says) as caught:
        make_policy(str(path))
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", DOUBTED)
def test_where_only_costs_have_shifted_it_is_used_with_a_warning(
    kind: PolicyKind, case: str, tmp_path: Path
) -> None:
    change, says = DOUBTED[case]
    path = _file(kind, tmp_path, change(program_identity(kind)))
    with pytest.warns(PolicyWarning, match=says):
        assert make_policy(str(path)).name == ("muzero" if kind == "network" else "planned")


@pytest.mark.parametrize("kind", KINDS)
def test_one_that_does_not_say_what_it_is_for_is_used_with_a_warning(
    kind: PolicyKind, tmp_path: Path
) -> None:
    path = _file(kind, tmp_path, None)
    with pytest.warns(PolicyWarning, match="does not say what it was made for"):
        make_policy(str(path))
    again = _file(kind, tmp_path, program_identity(kind))
    make_policy(str(again))  # without a warning, which would be an error
    tree, meta = read_arrays(again)
    write_arrays(again, {**tree, "identity": {"told": tree["identity"]["told"]}}, meta)
    with pytest.raises(CheckpointError, match="identity of a policy is damaged"):
        make_policy(str(again))


def test_the_command_line_says_it_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], sample_clips: dict[str, Path]
) -> None:
    path = _file("plan", tmp_path, None)
    words = ["encode", str(sample_clips["bikes"]), "-o", str(tmp_path / "o.webm"), "-q",
             "--bitrate", "60k", "--speed", "5", "--frames", "6", "--scale", "48"]  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main([*words, "--policy", str(path)]) == 0
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if line.startswith(f"muzero-rc: warning: {path} may be worth")]
    assert len(said) == 1


@pytest.mark.parametrize("name", SHIPPED_FILES)
def test_shipped_files_are_for_this_program(name: str) -> None:
    path = shipped_policy_path(name)
    if name == "muzero":
        check_identity(path, "network", load_policy(path).identity)
    else:
        check_identity(path, "plan", PlanModel.load(path).identity)


@pytest.mark.parametrize("kind", KINDS)
def test_what_counts_is_what_is_told_and_what_is_proposed(kind: PolicyKind) -> None:
    ours = program_identity(kind)
    assert not ours.refusal(program_identity(kind)) and not ours.doubt(program_identity(kind))
    aside = program_identity(kind, DEFAULT_RECIPE.replace({"retry.over": 0.02}))
    assert not ours.refusal(aside) and not ours.doubt(aside)
    for recipe in (
        DEFAULT_RECIPE.replace({"probe_rate.aim": 0.9}),
        DEFAULT_RECIPE.replace({"show_existing.max_change": 1.0}),
        DEFAULT_RECIPE.with_speeds(2, leaf=4),
    ):
        shifted = program_identity(kind, recipe)
        assert not ours.refusal(shifted) and "proposals" in ours.doubt(shifted)
    # A plan's steps are added to those of `landed`; a network's are not.
    moved = program_identity(kind, DEFAULT_RECIPE.replace({"qp_offsets.key": 5.0}))
    assert bool(ours.refusal(moved)) == (kind == "plan") and not ours.doubt(moved)


@pytest.mark.parametrize(
    ("kind", "module", "name", "value"),
    [
        ("network", builder, "_PSNR_SHIFT", 37.0),
        ("network", builder, "_AGE_SCALE", 2.0),
        ("plan", features, "log2_step", lambda qindex: np.asarray(qindex, float)),
    ],
)
def test_another_meaning_of_an_input_is_noticed(
    kind: PolicyKind, module: Any, name: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = program_identity(kind)
    monkeypatch.setattr(module, name, value)
    assert ours.refusal(program_identity(kind)) == "its inputs mean something else in this program"
