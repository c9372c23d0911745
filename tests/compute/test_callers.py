"""Whoever uses schedulers assumes no more than the protocol: all of them on a cluster."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from pathlib import Path

import pytest
from fake_cluster import FakeCluster

from muzero_rc.agents.hindsight import (
    Outcome,
    Plan,
    PlanBase,
    ResponseModel,
    TrialRunner,
    search,
    start_plans,
)
from muzero_rc.agents.muzero.networks import initial_params
from muzero_rc.agents.world_model.plan_model import PlanModel
from muzero_rc.compute import ProcessScheduler, Scheduler, ThreadScheduler
from muzero_rc.corpus import CorpusClip
from muzero_rc.corpus.build import Step, build_corpus
from muzero_rc.corpus.manifest import MANIFEST
from muzero_rc.corpus.plan import BuildSettings
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import first_pass
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.testing.encoder_model import ModelBackend, ModelClip
from muzero_rc.evaluation.grid.encoder import ClipSource, Method
from muzero_rc.evaluation.grid.replay import Replayed, Replayer, plan_replays, run_replays
from muzero_rc.evaluation.grid.runner import EvaluationPlan, run_evaluation
from muzero_rc.evaluation.results import Results
from muzero_rc.policies.hindsight.player import PlanPlayer
from muzero_rc.policies.shipped import shipped_policy_path
from muzero_rc.training.actors import Actors
from muzero_rc.training.costs import CostLedger
from muzero_rc.training.log import RunLog
from muzero_rc.training.presets import PRESETS
from muzero_rc.training.stages.collect import CollectConfig
from muzero_rc.training.studies import Studies
from muzero_rc.training.tasks import Task

sys.path.insert(0, str(Path(__file__).parents[1] / "evaluation"))

from fake_rd import FakeEncoder  # noqa: E402

COLLECT = CollectConfig(
    heights=(96,), min_frames=30, max_frames=40, speeds=(5,), psnr_range=(30, 44), pairs=1
)


def test_an_evaluation_and_its_replay(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one")
    specs = ("vbr", "proposal", "save:0.1", "die", "fail")
    plan = EvaluationPlan(
        (ClipSource(tmp_path / "a", "a"),),
        tuple(Method(spec, spec, "") for spec in specs),
        EncoderSettings(target_kbps=1), (100, 200), "fake",
    )  # fmt: skip

    def evaluate(where: type[Scheduler]) -> Results:
        log = tmp_path / f"log {where.__name__}"
        log.mkdir()
        out = tmp_path / where.__name__
        return run_evaluation(plan, FakeEncoder(log), out, jobs=2, compute=where)

    there, here = evaluate(FakeCluster), evaluate(ProcessScheduler)
    assert there.as_dict() == here.as_dict()
    assert len(there.encodes) == 6
    assert [failure.method for failure in there.failures] == ["die", "fail"] * 2
    tasks, _ = plan_replays(there)
    done: list[Replayed] = []
    found = run_replays(tasks, Replayer(), jobs=2, on_done=done.append, compute=FakeCluster)
    assert [replayed.record for replayed in found] == [task.record for task in tasks]
    assert sorted(map(id, done)) == sorted(map(id, found))
    assert all(replayed.problem for replayed in found), "the fake clip is no video"


def test_trials_of_a_search() -> None:
    clip, backend = ModelClip(seed=5, num_frames=25), ModelBackend()
    settings = EncoderSettings(target_kbps=400)
    player = PlanPlayer(clip, settings, backend.first_pass(clip, settings), backend=backend)
    model = PlanModel.load(shipped_policy_path("hindsight"))
    there, here = (
        search(TrialRunner(player, 10, jobs=2, compute=where), start_plans(), ResponseModel(model))
        for where in (FakeCluster, ThreadScheduler)
    )
    assert there.plan == here.plan and there.outcome == here.outcome


def test_encodes_of_a_real_clip(sample_clips: dict[str, Path]) -> None:
    clip = Clip.load(sample_clips["bikes"], height=96, max_frames=20)
    settings = EncoderSettings(target_kbps=100, speed=5)
    player = PlanPlayer(clip, settings, first_pass(clip, settings))
    plans = [Plan(PlanBase.PROPOSAL), Plan(PlanBase.PROPOSAL, shift=8.0)]
    there, here = (
        TrialRunner(player, 2, jobs=2, compute=where).run(plans)
        for where in (FakeCluster, ThreadScheduler)
    )
    assert None not in here and [_bits(outcome) for outcome in there] == [
        _bits(outcome) for outcome in here
    ]


def _bits(outcome: Outcome | None) -> list[tuple[int, int]]:
    assert outcome is not None
    return [(result.qindex, result.bits) for _, result in outcome.frames]


def test_a_corpus(sample_clips: dict[str, Path], tmp_path: Path) -> None:
    settings = BuildSettings(height=72, min_frames=20, max_frames=40, augment=1)
    steps: list[Step] = []
    for where in (FakeCluster, ThreadScheduler):
        build_corpus(
            [sample_clips["carphone_pristine"]], tmp_path / where.__name__, settings,
            jobs=2, on_step=steps.append, compute=where,
        )  # fmt: skip
    there, here = (tmp_path / w.__name__ / MANIFEST for w in (FakeCluster, ThreadScheduler))
    assert there.read_bytes() == here.read_bytes()
    assert {step.phase for step in steps} == {"look", "cut", "augment"}
    half = len(steps) // 2
    for told in (lambda s: (s.phase, s.done, s.total, s.made), lambda s: s.name):
        assert sorted(map(told, steps[:half])) == sorted(map(told, steps[half:]))


@pytest.mark.slow
def test_studies_and_actors(sample_clips: dict[str, Path], tmp_path: Path) -> None:
    clip = CorpusClip(sample_clips["bikes"], "bikes")
    tiny = PRESETS["tiny"]
    config = dataclasses.replace(tiny, collect=COLLECT, studies=2, jobs=2)
    found = {}
    for where in (FakeCluster, ThreadScheduler):
        folder = tmp_path / where.__name__
        folder.mkdir()
        costs = CostLedger(tmp_path / f"{where.__name__}.json")
        with costs.stage("collect") as meter, RunLog(tmp_path, quiet=True) as log:
            studies = Studies(folder, config, [clip], log, meter, compute=where).get()
        found[where] = studies, json.loads((tmp_path / f"{where.__name__}.json").read_text())
    (there, _), (here, _) = found.values()
    for one, other in zip(there, here, strict=True):
        assert one.settings == other.settings
        assert [e.kbps for e in one.encodes] == [e.kbps for e in other.encodes]
    task = Task(0, there[0], clip.path)
    params = initial_params(tiny.agent.network, 0)
    with Actors(
        [task], tiny.agent, params, 1, 0, actors=1, folder=tmp_path, compute=FakeCluster
    ) as actors:
        versions = [_next(actors)]
        actors.publish(params, 7)
        while versions[-1] != 7:
            versions.append(_next(actors))
        assert versions[0] == 0 and actors.crashes == 0


def _next(actors: Actors, seconds: float = 240.0) -> int:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for finished in actors.poll(1.0):
            return finished.version
    raise AssertionError("no episode in time")
