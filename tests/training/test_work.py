"""What slower searches gain is learned from real encodes, and only from what is there to learn.

benchmarks/data/tiers.npz has the encodes with other speeds of frames, for studies that
benchmarks/data/studies.npz holds the rest of.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from muzero_rc.agents.world_model.accuracy import explained
from muzero_rc.agents.world_model.plan_model import PlanModel
from muzero_rc.cli.main import main
from muzero_rc.dataset import StudyView, load_dataset
from muzero_rc.env.control.work_model import WorkModel
from muzero_rc.errors import InputError
from muzero_rc.policies.shipped import shipped_policy_path
from muzero_rc.training.stages.work import (
    TierStudy,
    held_out_gains,
    joined,
    tier_study,
)

DATA = Path(__file__).parents[2] / "benchmarks" / "data"
R2 = 0.6
"""What gains of sources held out are explained to at least."""


@pytest.fixture(scope="module")
def studies() -> list[StudyView]:
    whole = load_dataset(DATA / "studies.npz").studies
    return joined(whole, load_dataset(DATA / "tiers.npz").studies)


@pytest.fixture(scope="module")
def tiers(studies: list[StudyView]) -> list[TierStudy]:
    response = PlanModel.load(shipped_policy_path("planned")).linear
    found = [tier_study(study, response) for study in studies if study.named("tiered")]
    return [study for study in found if study is not None]


def _tiers_of_others(study: TierStudy) -> TierStudy:
    turned = [*study.encodes[1:], study.encodes[0]]
    moved = [
        dataclasses.replace(encode, tier=other.tier)
        for encode, other in zip(study.encodes, turned, strict=True)
    ]
    return dataclasses.replace(study, encodes=moved)


def test_gains_of_sources_held_out_are_explained(tiers: list[TierStudy]) -> None:
    assert len({study.source for study in tiers}) >= 16
    came, expected, _ = held_out_gains(tiers)
    assert explained(came, expected) > R2
    came, expected, _ = held_out_gains([_tiers_of_others(study) for study in tiers])
    assert explained(came, expected) < R2 - 0.2
    # What it is worth differs from clip to clip.
    came, expected, _ = held_out_gains(tiers, constant=True)
    assert explained(came, expected) < R2


@pytest.mark.slow
def test_the_command_writes_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "work.json"
    options = ["--tiers", str(DATA / "tiers.npz")]
    assert main(["fit", str(DATA / "studies.npz"), *options, "-o", str(out)]) == 0
    assert "VBR's time is missed by a median of" in capsys.readouterr().out
    model = WorkModel.of_text(out.read_text())
    assert set(model.vbr) == {1, 2, 3, 5}
    # Half of all clips are within about a tenth.
    missed = [found["median"] for found in model.about["vbr_held_out"].values()]
    assert np.mean(missed) < 0.13
    assert main(["fit", str(DATA / "studies.npz"), *options, "-o", str(tmp_path / "x.npz")]) == 2


def test_tiers_of_clips_that_no_study_has_are_refused(studies: list[StudyView]) -> None:
    strange = dataclasses.replace(studies[0], clip="other.mp4")
    with pytest.raises(InputError, match="in no study to join"):
        joined(studies, [strange])
