"""Fitting plans on real studies: it learns, and only from what is there to learn from.

tests/data/studies.npz: studies of 24 training sources at 144 lines, from `muzero-rc train
--until collect` and `muzero-rc dataset`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from muzero_rc.agents.world_model.accuracy import explained, predict_held_out
from muzero_rc.agents.world_model.frames import EncodeFrames
from muzero_rc.agents.world_model.gain import FrameChanges, Objective
from muzero_rc.agents.world_model.normal_equations import Ridge
from muzero_rc.agents.world_model.plan_model import PlanModel
from muzero_rc.agents.world_model.planner import PlanSettings
from muzero_rc.agents.world_model.study import Study
from muzero_rc.checkpoint import write_arrays
from muzero_rc.cli.main import main
from muzero_rc.dataset import load_dataset
from muzero_rc.errors import CheckpointError, InputError
from muzero_rc.training.stages.plan import PlanStudy, fit_plan_model, plan_model_of, studies_of

DATA = Path(__file__).parents[1] / "data" / "studies.npz"
RIDGE = Ridge(features=0.3, kinds=0.003)
SETTINGS = PlanSettings(step_strength=0.3)
R2 = 0.4
"""What gains of sources held out are explained to at least."""


@pytest.fixture(scope="module")
def studies() -> list[PlanStudy]:
    return studies_of(load_dataset(DATA))


def _with(studies: Sequence[PlanStudy], change: Callable[[EncodeFrames], EncodeFrames]):
    return [
        dataclasses.replace(
            found.study,
            base=change(found.study.base),
            encodes=[change(encode) for encode in found.study.encodes],
        )
        for found in studies
    ]


def _outcomes_of_others(study: Study) -> Study:
    turned = [*study.encodes[1:], study.encodes[0]]
    return dataclasses.replace(
        study,
        encodes=[
            dataclasses.replace(encode, qindex=other.qindex)
            for encode, other in zip(study.encodes, turned, strict=True)
        ],
    )


def test_gains_of_sources_held_out_are_explained(studies: list[PlanStudy]) -> None:
    plain = [found.study for found in studies]
    assert len({study.source for study in plain}) == len(plain) == 24
    found = predict_held_out(plain, RIDGE)
    accuracy = found.accuracy()
    assert accuracy.gain_r2 > R2 and accuracy.within_clip > 0.7
    assert accuracy.bits_r2 > 0.7 and accuracy.sse_r2 > 0.6

    shuffled = predict_held_out([_outcomes_of_others(study) for study in plain], RIDGE)
    assert shuffled.accuracy().gain_r2 < 0.1

    none = _with(
        studies, lambda f: dataclasses.replace(f, references=np.full_like(f.references, -1))
    )
    assert predict_held_out(none, RIDGE).accuracy().gain_r2 < R2 - 0.1


def test_frames_say_what_an_encode_gained(studies: list[PlanStudy]) -> None:
    scored, counted, shown = [], [], []
    for found in studies:
        view, slope = found.view, found.view.slope
        base = view.encode("base")
        for encode in view.named("perturbed"):
            frames = EncodeFrames.of_columns(encode, view.width, view.height)
            if not found.study.base.same_structure(frames):
                continue
            # Of whole encodes: half by PSNR avg, half overall, at equal rate.
            quality = encode.psnr_avg - base.psnr_avg + encode.psnr_overall - base.psnr_overall
            scored.append(0.5 * quality / slope - np.log2(encode.kbps / base.kbps))
            pair = found.study.base, frames
            counted.append(_gain(*pair, slope))
            shown.append(_gain(*map(_without_hidden, pair), slope))
    # Gains of the size that plans have; a few large losses would hide all others.
    small = np.abs(scored) < 0.05
    came, full, left = (np.array(values)[small] for values in (scored, counted, shown))
    assert explained(came, full) > 0.999
    # Hidden frames that are shown later count.
    assert explained(came, left) < 0.95


def _gain(base: EncodeFrames, frames: EncodeFrames, slope: float) -> float:
    return Objective(base, slope).realised(FrameChanges.between(base, frames))


def _without_hidden(frames: EncodeFrames) -> EncodeFrames:
    return dataclasses.replace(frames, weight=np.where(frames.shown, frames.weight, 0.0))


def test_a_fit_chooses_its_ridge_and_plans(studies: list[PlanStudy]) -> None:
    few = studies[:8]
    ridges = [Ridge(features=s, kinds=s / 100.0) for s in (0.3, 1000.0)]
    fitted = fit_plan_model(few, SETTINGS, ridges=ridges)
    assert fitted.ridge == ridges[0] and len(fitted.tried) == 2
    assert fitted.accuracy == fitted.tried[0][1]
    probe = studies[-1].probe
    planned = fitted.model.plan(probe, studies[-1].speed)
    assert planned.gain > 0.0 and np.abs(planned.steps).max() <= SETTINGS.limit
    assert len(set(planned.steps.tolist())) > 3
    # About as many bits as without it.
    assert planned.bits.sum() == pytest.approx(probe.bits.sum(), rel=0.03)
    steps, bits = fitted.model.constant(probe, studies[-1].speed)
    assert len(set(steps.tolist())) < len(set(planned.steps.tolist())) and (bits > 0).all()
    with pytest.raises(InputError, match="leaving sources out"):
        fit_plan_model(studies[:1], SETTINGS)


def test_a_film_is_planned_in_stretches_of_whole_groups(
    studies: list[PlanStudy], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = plan_model_of(studies[:6], SETTINGS, RIDGE)
    probe = studies[-1].probe
    whole = model.plan(probe, 2)
    windows = probe.windows(30)
    assert len(windows) > 1 and windows[0][0] == 0 and windows[-1][1] == len(probe)
    for (_, stop), (start, _) in pairwise(windows):
        assert stop == start and probe.gop_index[start] <= probe.gop_index[start - 1]
    parts = [probe.part(*window) for window in windows]
    assert sum(part.total_bits for part in parts) == pytest.approx(probe.total_bits)
    assert all((part.references < np.arange(len(part))[:, None]).all() for part in parts)
    monkeypatch.setattr("muzero_rc.agents.world_model.plan_model.MOST_FRAMES", 30)
    cut = model.plan(probe, 2)
    # What lies in different stretches does not know of each other; most is the same.
    assert np.corrcoef(whole.steps, cut.steps)[0, 1] > 0.8
    assert cut.gain > 0.0


def test_a_model_survives_its_file(studies: list[PlanStudy], tmp_path: Path) -> None:
    model = plan_model_of(studies[:4], SETTINGS, RIDGE)
    model = dataclasses.replace(model, meta={"studies": 4})
    model.save(tmp_path / "plan.npz")
    again = PlanModel.load(tmp_path / "plan.npz")
    probe = studies[-1].probe
    for speed in (1, 5):
        np.testing.assert_array_equal(
            model.plan(probe, speed).steps, again.plan(probe, speed).steps
        )
    assert again.settings == SETTINGS and again.meta == {"studies": 4}
    write_arrays(tmp_path / "other.npz", {}, {"format": "other"})
    with pytest.raises(CheckpointError, match="no plan model"):
        PlanModel.load(tmp_path / "other.npz")


def test_what_is_not_of_the_same_structure_is_left_out(studies: list[PlanStudy]) -> None:
    for found in studies:
        assert found.study.base.same_structure(found.probe)
        for encode in found.study.encodes:
            assert found.study.base.same_structure(encode)


@pytest.mark.slow
def test_fit_from_the_command_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "plan.npz"
    assert main(["fit", str(DATA), "-o", str(out), "--json", "--quiet"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert told["held_out"]["gain_r2"] > R2
    assert PlanModel.load(out).meta["sources"] == told["sources"]
    assert main(["policy", str(out)]) == 0
    assert f"studies of {told['sources']} sources" in capfd.readouterr().out
    assert main(["policy", str(out), "--format", "json"]) == 0
    assert json.loads(capfd.readouterr().out)["about"]["held_out"] == told["held_out"]
    assert main(["fit", str(DATA), "-o", str(tmp_path / "plan.txt"), "--quiet"]) == 2
    assert main(["fit", str(tmp_path / "none.npz"), "-o", str(out), "--quiet"]) != 0
    work = ["-o", str(tmp_path / "work.json"), "--tiers", str(DATA)]
    assert main(["fit", str(DATA), *work, "--limit", "8"]) == 2  # there is no plan to limit
