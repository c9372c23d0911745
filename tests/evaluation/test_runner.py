"""The grid in real worker processes, with an encoder of known law."""

import dataclasses
import json
import math
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest
from fake_rd import FakeEncoder, square

from muzero_rc.compute import ProcessScheduler, TaskFailure
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.errors import InputError, OutputError
from muzero_rc.evaluation.grid.encoder import ClipSource, Method, encode_key, find_sources, jittered
from muzero_rc.evaluation.grid.runner import EvaluationPlan, Progress, run_evaluation
from muzero_rc.evaluation.results import Results

TARGETS = (128, 256, 512, 1024)


def method(spec: str) -> Method:
    return Method(spec, spec, f"fingerprint of {spec}")


@pytest.fixture
def make(tmp_path):
    """Builds a plan over clips whose files hold the given texts, and its encoder."""

    def build(clips: dict[str, str], *specs: str, targets=TARGETS, **options):
        for name, text in clips.items():
            (tmp_path / name).write_text(text)
        log = tmp_path / "log"
        log.mkdir(exist_ok=True)
        plan = EvaluationPlan(
            sources=tuple(ClipSource(tmp_path / name, name) for name in clips),
            methods=tuple(method(s) for s in ("vbr", "proposal", *specs)),
            settings=EncoderSettings(target_kbps=1, speed=1),
            targets_kbps=targets,
            build="fake 1",
            notes={"jobs": "not part of the key"},
        )
        return plan, FakeEncoder(log, **options)

    return build


def test_grid_is_complete_ordered_and_compared(make, tmp_path) -> None:
    plan, encoder = make({"b": "one", "a": "two"}, "save:0.1", "over:0.02")
    steps: list[Progress] = []
    found = run_evaluation(plan, encoder, tmp_path / "out", jobs=2, on_progress=steps.append)
    names = ["vbr", "proposal", "save:0.1", "over:0.02"]
    grid = [(c, m, t) for c in "ba" for t in TARGETS for m in names]
    assert [(e.clip, e.method, e.target_kbps) for e in found.encodes] == grid
    assert found.summary["save:0.1"]["psnr_avg"]["mean"] == pytest.approx(-10.0)
    assert found.failures == []
    assert [s.done for s in steps] == list(range(1, 2 + len(grid) + 1))
    assert {s.total for s in steps} == {2 + len(grid)}
    assert Results.load(tmp_path / "out").as_dict() == json.loads(json.dumps(found.as_dict()))
    pids = {p.name.split("-")[-2] for p in encoder.log.glob("open-*")}
    assert str(os.getpid()) not in pids
    # Each of the two workers decodes each clip at most once.
    assert len(encoder.calls("open")) <= 4
    assert found.settings["encoder"]["speed"] == 1
    assert "target_kbps" not in found.settings["encoder"]


def test_a_second_run_encodes_nothing_and_says_the_same(make, tmp_path) -> None:
    plan, encoder = make({"a": "one"}, "save:0.1")
    first = run_evaluation(plan, encoder, tmp_path / "out", jobs=1)
    made = len(encoder.calls("encode"))
    steps: list[Progress] = []
    again = run_evaluation(plan, encoder, tmp_path / "out", on_progress=steps.append)
    assert again == first
    assert len(encoder.calls("encode")) == made == 12
    assert sum(s.reused for s in steps) == 12


@pytest.mark.parametrize(
    "change",
    [
        {"build": "fake 2"},
        {"settings": EncoderSettings(target_kbps=1, speed=2)},
        {"methods": tuple(Method(s, s, "new") for s in ("vbr", "proposal"))},
    ],
)
def test_whatever_decides_an_encode_makes_it_anew(make, tmp_path, change) -> None:
    plan, encoder = make({"a": "one"}, targets=(100,))
    run_evaluation(plan, encoder, tmp_path / "out")
    run_evaluation(dataclasses.replace(plan, **change), encoder, tmp_path / "out")
    assert len(encoder.calls("encode")) == 4


def test_a_renamed_clip_and_method_are_found_again(make, tmp_path) -> None:
    plan, encoder = make({"a": "one"}, "save:0.1", targets=(100,))
    run_evaluation(plan, encoder, tmp_path / "out")
    (tmp_path / "moved").write_text("one")
    renamed = dataclasses.replace(
        plan,
        sources=(ClipSource(tmp_path / "moved", "moved"),),
        methods=(*plan.methods[:2], dataclasses.replace(plan.methods[2], name="mine")),
    )
    found = run_evaluation(renamed, encoder, tmp_path / "out")
    assert {(e.clip, e.method) for e in found.encodes} == {
        ("moved", "vbr"), ("moved", "proposal"), ("moved", "mine")
    }  # fmt: skip
    assert len(encoder.calls("encode")) == 3


def test_failures_are_recorded_and_the_rest_is_finished(make, tmp_path) -> None:
    """An encoder that refuses, one with a bug, one that ends its process, a bad file."""
    plan, encoder = make({"a": "one", "bad": "corrupt"}, "fail", "bug", "die", targets=(100, 200))
    steps: list[Progress] = []
    found = run_evaluation(plan, encoder, tmp_path / "out", jobs=2, on_progress=steps.append)
    assert {(e.method, e.target_kbps) for e in found.encodes} == {
        (m, t) for m in ("vbr", "proposal") for t in (100, 200)
    }
    errors = {(f.clip, f.method, f.target_kbps): f.error for f in found.failures}
    assert len(errors) == 7
    assert errors["a", "fail", 100] == "the encoder refused"
    assert errors["a", "bug", 200].startswith("ZeroDivisionError: a bug in two lines")
    assert errors["a", "die", 100] == "the worker process ended with signal SIGABRT"
    assert errors["bad", "", 0].endswith("is not a video")
    assert "Traceback" in (tmp_path / "out" / "errors.log").read_text()
    assert steps[-1].done == steps[-1].total
    assert {b.method for b in found.bd_rate if b.percent is None} >= {"fail", "bug", "die"}
    again = run_evaluation(plan, encoder, tmp_path / "out")
    assert len(again.failures) == 7


def test_no_usable_clip_is_an_error_and_leaves_nothing(make, tmp_path) -> None:
    plan, encoder = make({"bad": "corrupt"})
    with pytest.raises(InputError, match="bad is not a video"):
        run_evaluation(plan, encoder, tmp_path / "new" / "out")
    assert not (tmp_path / "new").exists()


def test_an_output_that_cannot_be_written_is_an_error(make, tmp_path) -> None:
    plan, encoder = make({"a": "one"})
    with pytest.raises(OutputError, match="cannot write to the folder"):
        run_evaluation(plan, encoder, tmp_path / "a" / "out")
    assert encoder.calls("open") == []
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "encodes").write_text("in the way")
    with pytest.raises(OutputError, match="choose another --out"):
        run_evaluation(plan, encoder, tmp_path / "out")


def test_a_full_output_ends_the_run_and_leaves_nothing(make, tmp_path) -> None:
    """In the workers, a limit on the size of files acts as a full disk does."""
    plan, encoder = make({"a": "one"})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(OutputError, match="File too large; choose another --out"):
            run_evaluation(plan, encoder, tmp_path / "new" / "out", jobs=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert not (tmp_path / "new").exists()


def test_auto_targets_span_the_quality_range(make, tmp_path) -> None:
    plan, encoder = make({"a": "one"}, targets=None, lowest_kbps=80.0)
    found = run_evaluation(plan, encoder, tmp_path / "out")
    clip = found.settings["clips"][0]
    assert found.settings["targets"] == "auto"
    targets = clip["targets_kbps"]
    assert targets == sorted({e.target_kbps for e in found.encodes})
    assert len(targets) == 5
    # 45 dB by the law; below 80 kbit/s the encoder does not go.
    assert targets[0] == 84
    assert found.encodes[-1].psnr_avg == pytest.approx(45.0, abs=1.0)
    probes = [c for c in encoder.calls("encode") if c.startswith("a-vbr")]
    assert len(probes) == 5 + len(clip["auto"]["probes"])
    # What looked for the range is fast and stays out of the table.
    assert all(e.settings["speed"] == 1 for e in found.encodes)
    run_evaluation(plan, encoder, tmp_path / "out")
    assert len([c for c in encoder.calls("encode") if c.startswith("a-vbr")]) == len(probes)


def test_metrics_are_measured_where_asked_for_and_are_part_of_the_key(make, tmp_path) -> None:
    plan, encoder = make({"a": "one"}, targets=None)
    plain = run_evaluation(plan, encoder, tmp_path / "out")
    made = len(encoder.calls("encode"))
    assert all(e.quality == {} for e in plain.encodes)
    asked = dataclasses.replace(plan, metrics=("ssim", "vmaf"), measured_by="1")
    found = run_evaluation(asked, encoder, tmp_path / "out")
    # The grid anew, the probes of `auto` not: they need no metric.
    assert len(encoder.calls("encode")) == made + 10
    assert all(set(e.quality) == {"ssim", "vmaf"} for e in found.encodes)
    assert found.settings["metrics"] == ["ssim", "vmaf"]
    assert {b.metric for b in found.bd_rate} > {"ssim", "vmaf"}
    run_evaluation(asked, encoder, tmp_path / "out")
    assert run_evaluation(plan, encoder, tmp_path / "out") == plain
    assert len(encoder.calls("encode")) == made + 10
    newer = dataclasses.replace(asked, measured_by="2")
    run_evaluation(newer, encoder, tmp_path / "out")
    assert len(encoder.calls("encode")) == made + 20


def test_an_a_a_run_is_the_anchor_at_targets_beside_the_ladder(make, tmp_path) -> None:
    plan, encoder = make({"a": "one"})
    noise = dataclasses.replace(method("vbr"), name="vbr-aa", jitter=0.01)
    plan = dataclasses.replace(plan, methods=(*plan.methods, noise))
    found = run_evaluation(plan, encoder, tmp_path / "out")
    again = [e for e in found.encodes if e.method == "vbr-aa"]
    assert [e.target_kbps for e in again] == list(TARGETS)
    for record in again:
        moved = abs(record.asked_kbps - record.target_kbps)
        assert 1 <= moved <= max(1, 0.0101 * record.target_kbps)
        assert record.actual_kbps == record.asked_kbps
    # The fake's law has no noise, and landing is judged by what was asked for.
    assert found.summary["vbr-aa"]["psnr_avg"]["mean"] == pytest.approx(0.0, abs=1e-6)
    assert found.summary["vbr-aa"]["landing"]["mean_abs_deviation"] == 0.0
    made = len(encoder.calls("encode"))
    assert run_evaluation(plan, encoder, tmp_path / "out") == found
    assert len(encoder.calls("encode")) == made


def test_jitter_is_small_symmetric_and_never_nothing() -> None:
    moved = [jittered(1000, 0.01, f"clip {i}") for i in range(400)]
    assert all(990 <= m <= 1010 and m != 1000 for m in moved)
    assert abs(sum(moved) / len(moved) - 1000) < 5 * 10 / math.sqrt(3 * 400)
    assert {jittered(1, 0.01, f"clip {i}") for i in range(20)} == {2}
    assert jittered(1000, 0.0, "clip") == 1000


def test_sources_come_from_an_index_or_the_folder(make, tmp_path) -> None:
    for name in (
        "c/one.mp4",
        "c/two.mp4",
        "c/other.mp4",
        "d/film/x.mp4",
        "d/film/y.mp4",
        "d/z.mp4",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "c" / "index.csv").write_text("file,group\none.mp4,g\ntwo.mp4,g\n")
    found = find_sources([tmp_path / "c", tmp_path / "d"])
    assert {s.name: s.source for s in found} == {
        "one": "g", "two": "g", "other": "other", "x": "film", "y": "film", "z": "z",
    }  # fmt: skip
    # A file named outright is in the same index.
    assert [s.source for s in find_sources([tmp_path / "c" / "two.mp4"])] == ["g"]
    (tmp_path / "c" / "index.csv").write_text("title\nx\n")
    with pytest.raises(InputError, match="needs the columns file and group"):
        find_sources([tmp_path / "c"])
    assert [s.source for s in find_sources([tmp_path / "c" / "two.mp4"])] == ["two"]
    plan, encoder = make({"a": "one", "b": "two"})
    sources = (dataclasses.replace(plan.sources[0], source="film"), plan.sources[1])
    results = run_evaluation(dataclasses.replace(plan, sources=sources), encoder, tmp_path / "out")
    assert [c["source"] for c in results.settings["clips"]] == ["film", "b"]
    assert results.sources() == {"a": "film", "b": "b"}


def test_keys_do_not_depend_on_names(make) -> None:
    plan, encoder = make({"a": "one", "b": "one", "c": "two"})
    infos = [encoder.open(s) for s in plan.sources]
    settings = EncoderSettings(target_kbps=100)
    keys = [encode_key(i, method("vbr"), settings, "build") for i in infos]
    assert keys[0] == keys[1] != keys[2]
    assert keys[0] != encode_key(infos[0], method("proposal"), settings, "build")
    assert keys[0] != encode_key(
        infos[0], method("vbr"), settings.replace(lag_in_frames=24), "build"
    )


def test_plans_without_anchor_control_or_with_duplicates_are_refused(make) -> None:
    plan, _ = make({"a": "one"})
    odd = Method("odd", "vbr", "", changes={"speed": 11})
    for change, words in (
        ({"methods": (method("vbr"),)}, "needs the method proposal"),
        ({"methods": (method("proposal"),)}, "needs the method vbr"),
        ({"methods": plan.methods * 2}, "two methods .* same name"),
        ({"sources": plan.sources * 2}, "two clips .* same name"),
        ({"methods": (*plan.methods, odd)}, "speed must be between 0 and 9, not 11"),
        ({"sources": ()}, "at least one clip"),
        ({"targets_kbps": ()}, "at least one target"),
    ):
        with pytest.raises(InputError, match=words):
            dataclasses.replace(plan, **change)


def test_sources_are_found_and_named_apart(tmp_path) -> None:
    for name in ("x/clip.mp4", "y/clip.mp4", "y/clip.webm", "y/only.y4m", "y/notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    found = find_sources([tmp_path, tmp_path / "x" / "clip.mp4"], height=480, max_frames=150)
    assert [s.name for s in found] == ["x/clip.mp4", "y/clip.mp4", "clip.webm", "only"]
    assert {(s.height, s.max_frames) for s in found} == {(480, 150)}
    (tmp_path / "empty").mkdir()
    for path, words in ((tmp_path / "empty", "no video"), (tmp_path / "none", "no such file")):
        with pytest.raises(InputError, match=words):
            find_sources([path])


def living(group: int) -> list[psutil.Process]:
    """Processes of a group, given two minutes to go; zombies are gone."""
    deadline = time.monotonic() + 120
    while True:
        found = []
        for process in psutil.process_iter():
            try:
                if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (ProcessLookupError, psutil.NoSuchProcess):
                continue
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


def test_pool_knows_whose_fault_it_was() -> None:
    answers = {}
    todo = [2, 13, -1, 3, 13, 4]
    with ProcessScheduler(2) as pool:
        assert pool.wait() == []
        while todo or pool.running:
            while todo and pool.room_for():
                pool.submit(square, todo.pop(0))
            for done in pool.wait():
                answers.setdefault(done.task, []).append(done.answer)
        with pytest.raises(RuntimeError, match="no worker is free"):
            for _ in range(3):
                pool.submit(square, 2)
    died = TaskFailure("WorkerDied", "the worker process ended with exit code 3", "")
    assert answers == {
        2: [4], 3: [9], 4: [16], 13: [died, died],
        -1: [TaskFailure("InputError", "-1 is negative", "")],
    }  # fmt: skip
    with pytest.raises(InputError, match="jobs must be at least 1"):
        ProcessScheduler(0)


def test_ctrl_c_ends_the_workers_and_keeps_what_is_finished(tmp_path) -> None:
    (tmp_path / "a").write_text("one")
    (tmp_path / "log").mkdir()
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(f"""
            import sys
            from pathlib import Path
            sys.path.insert(0, {str(Path(__file__).parent)!r})
            from fake_rd import FakeEncoder
            from muzero_rc.env.control.settings import EncoderSettings
            from muzero_rc.evaluation.grid.encoder import ClipSource, Method
            from muzero_rc.evaluation.grid.runner import EvaluationPlan, run_evaluation

            if __name__ == "__main__":
                here = Path({str(tmp_path)!r})
                plan = EvaluationPlan(
                    (ClipSource(here / "a", "a"),),
                    (Method("vbr", "vbr", ""), Method("proposal", "proposal", "")),
                    EncoderSettings(target_kbps=1), tuple(range(100, 200)), "fake",
                )
                try:
                    run_evaluation(plan, FakeEncoder(here / "log", nap_s=0.2), here / "out", jobs=2)
                except KeyboardInterrupt:
                    sys.exit(77)
            """)
    )
    process = subprocess.Popen(
        [sys.executable, str(script)], start_new_session=True, stderr=subprocess.PIPE
    )
    stored = tmp_path / "out" / "encodes"
    deadline = time.monotonic() + 240
    while len(list(stored.glob("*.json")) if stored.is_dir() else []) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    # As the terminal does it: to the whole group, workers included.
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=240)
    assert process.returncode == 77
    assert b"Traceback" not in stderr
    assert not living(process.pid)
    finished = list(stored.glob("*.json"))
    assert 3 <= len(finished) < 200
    for path in finished:
        assert json.loads(path.read_text())["key"] == path.stem
    assert not (tmp_path / "out" / "results.json").exists()
