"""Files of an evaluation: they come back as they were written, damage is refused."""

import csv
import dataclasses
import json
import os
import stat
from pathlib import Path

import pytest
from fake_rd import FakeEncoder

from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.errors import InputError, OutputError
from muzero_rc.evaluation.grid.encoder import ClipSource, Method
from muzero_rc.evaluation.grid.store import EncodeStore
from muzero_rc.evaluation.measure.summary import compare, mark_targets, summarize
from muzero_rc.evaluation.report.table import make_console, results_report
from muzero_rc.evaluation.results import (
    BdEntry,
    EncodeRecord,
    Failure,
    Results,
)
from muzero_rc.output_files import write_text


def encode(tmp_path: Path, spec: str, target: int, clip: str = "a") -> EncodeRecord:
    path = tmp_path / clip
    path.write_text(clip)
    encoder = FakeEncoder(tmp_path, lowest_kbps=200.0)
    source = ClipSource(path, clip)
    method = Method(spec, spec, "1")
    return encoder.encode(source, method, EncoderSettings(target_kbps=target), f"k{spec}{target}")


METHODS = ["vbr", "proposal", "save:0.1", "over:0.02"]
TARGETS = [100, 256, 384, 512, 768, 1024]


def results(tmp_path: Path, methods: list[str] = METHODS, clips: str = "a") -> Results:
    encodes = [encode(tmp_path, m, t, c) for c in clips for t in TARGETS for m in methods]
    targets = mark_targets([(c, t) for c in clips for t in TARGETS], encodes)
    bd = compare(encodes, list(clips), methods)
    return Results(
        settings={"encoder": EncoderSettings(target_kbps=1).as_dict()},
        encodes=encodes,
        targets=targets,
        failures=[Failure(clip="a", method="save:0.1", target_kbps=5, error="it broke")],
        bd_rate=bd,
        summary=summarize(encodes, targets, bd, methods),
    )


def test_round_trip(tmp_path) -> None:
    written = results(tmp_path)
    written.save(tmp_path / "out")
    assert Results.load(tmp_path / "out") == written
    assert Results.load(tmp_path / "out" / "results.json") == written
    assert sorted(os.listdir(tmp_path / "out")) == ["results.csv", "results.json"]


def test_keys_of_the_json(tmp_path) -> None:
    results(tmp_path).save(tmp_path)
    data = json.loads((tmp_path / "results.json").read_text())
    assert set(data) >= {"settings", "encodes", "bd_rate", "summary"}
    encode_keys = (
        "clip method target_kbps actual_kbps bytes psnr_avg psnr_overall psnr_y seconds"
        " decision_seconds frames qindex sha256"
    )
    assert set(data["encodes"][0]) >= set(encode_keys.split())
    assert set(data["bd_rate"][0]) >= set("clip method metric percent overlap".split())
    for metric in ("psnr_avg", "psnr_overall", "psnr_y"):
        statistics = data["summary"]["save:0.1"][metric]
        assert set(statistics) >= set("mean median n n_undefined share_better".split())
    assert data["summary"]["vbr"]["landing"]["share_over_5"] == pytest.approx(1 / 6)


def test_csv_has_a_line_for_each_encode(tmp_path) -> None:
    written = results(tmp_path)
    rows = list(csv.DictReader(written.csv().splitlines()))
    assert len(rows) == len(written.encodes)
    for row, record in zip(rows, written.encodes, strict=True):
        assert float(row["psnr_avg"]) == record.psnr_avg
        assert row["sha256"] == record.sha256
        assert row["reachable"] == str(record.target_kbps != 100)


NEW_IN_ENCODES = ("psnr_u", "psnr_v", "quality", "buffer")


def test_files_of_before_the_new_fields_still_load_and_print(tmp_path) -> None:
    results(tmp_path, clips="abc").save(tmp_path)
    path = tmp_path / "results.json"
    data = json.loads(path.read_text())
    for record in data["encodes"]:
        for name in NEW_IN_ENCODES:
            del record[name]
    for entry in data["summary"].values():
        del entry["at_target"], entry["buffer"], entry["landing"]["percentiles"]
        for metric in ("psnr_avg", "psnr_overall", "psnr_y"):
            for name in ("tests", "interval_within", "n_sources", "n_low_overlap", "n_dropped"):
                entry.get(metric, {}).pop(name, None)
            entry.get(metric, {}).pop("mean_overlap", None)
    path.write_text(json.dumps(data))
    old = Results.load(path)
    assert old.encodes[0].psnr_u is None
    assert old.encodes[0].buffer == {}
    assert old.sources() == {"a": "a", "b": "b", "c": "c"}
    with (tmp_path / "report.txt").open("w") as file:
        make_console(file).print(results_report(old))
    text = (tmp_path / "report.txt").read_text()
    assert "rate accuracy" in text
    assert "at most" not in text
    # An encode kept by an earlier version is found again too.
    store = EncodeStore(tmp_path / "encodes")
    write_text(store.path("k"), json.dumps(data["encodes"][0] | {"key": "k"}))
    assert store.get("k") is not None
    data["encodes"][0]["psnr_u"] = "high"
    path.write_text(json.dumps(data))
    with pytest.raises(InputError, match="'psnr_u' should be float"):
        Results.load(path)


def test_measured_metrics_have_curves_of_their_own(tmp_path) -> None:
    (tmp_path / "a").write_text("a")
    encoder, source = FakeEncoder(tmp_path), ClipSource(tmp_path / "a", "a")
    metrics = ("ssim", "vmaf")
    encodes = [
        encoder.encode(source, Method(m, m, ""), EncoderSettings(target_kbps=t), "", metrics)
        for m in METHODS for t in (20, 40, 80, 160, 320)
    ]  # fmt: skip
    bd = {(b.method, b.metric): b for b in compare(encodes, ["a"], METHODS)}
    # The fake's SSIM is 1 - 10^(-db / 25): a straight line on the scale of -10 log10(1 - x).
    assert bd["save:0.1", "ssim"].percent == pytest.approx(-10.0)
    assert bd["save:0.1", "vmaf"].percent == pytest.approx(-10.0)
    assert bd["save:0.1", "vmaf"].db == pytest.approx(2.2 * 3.5 * 0.152003093)
    assert encodes[0].level("ssim") == pytest.approx(encodes[0].psnr_avg / 2.5)
    assert encodes[0].level("ms_ssim") is None
    perfect = dataclasses.replace(encodes[0], quality={"ssim": {"mean": 1.0}})
    assert perfect.level("ssim") == 100.0
    part = [dataclasses.replace(e, quality={}) for e in encodes[:6]] + encodes[6:]
    found = {(b.method, b.metric): b for b in compare(part, ["a"], METHODS)}
    assert "usable points" in found["save:0.1", "ssim"].reason
    none = [dataclasses.replace(e, clip="b", quality={}) for e in encodes]
    found = {(b.clip, b.metric): b for b in compare([*encodes, *none], ["a", "b"], METHODS)}
    assert found["b", "ssim"].reason == "not measured on this clip"
    assert found["b", "psnr_y"].percent is not None
    statistics = summarize(encodes, [], list(bd.values()), METHODS)["save:0.1"]
    assert statistics["at_target"]["vmaf"]["0.01"]["win_share"] == 1.0
    written = Results(settings={}, encodes=[*encodes, *none]).csv().splitlines()
    rows = list(csv.DictReader(written))
    assert float(rows[0]["vmaf"]) == encodes[0].quality["vmaf"]["mean"]
    assert float(rows[0]["ssim_p5"]) == encodes[0].quality["ssim"]["p5"]
    assert rows[-1]["vmaf"] == ""


def _entry(clip: str, method: str, metric: str, percent: float | None) -> BdEntry:
    return BdEntry(
        clip=clip, method=method, metric=metric, percent=percent, db=0.0, reason="",
        overlap=0.5 if clip == "c0" else 1.0, dropped=int(clip == "c1"),
    )  # fmt: skip


def test_tests_pair_clips_within_sources_and_correct_for_their_number() -> None:
    """Eight sources of two clips: 2 / 2^8 if all agree; 4 tests in the family, not the A/A's."""
    clips = [f"c{i}" for i in range(16)]
    sources = {c: f"s{i // 2}" for i, c in enumerate(clips)}
    bd = []
    for i, clip in enumerate(clips):
        for method, percent in (("proposal", -1.0 - i), ("vbr-aa", 0.1), ("mine", -2.0 - i)):
            bd.append(_entry(clip, method, "psnr_avg", percent))
    bd.append(_entry("c16", "mine", "psnr_avg", None))
    methods = ["vbr", "proposal", "vbr-aa", "mine"]
    summary = summarize([], [], bd, methods, sources)
    mine = summary["mine"]["psnr_avg"]
    assert set(mine["tests"]) == {"vbr", "proposal"}
    for other in ("vbr", "proposal"):
        assert mine["tests"][other]["n"] == 8
        assert mine["tests"][other]["p"] == pytest.approx(2 / 2**8)
        assert mine["tests"][other]["p_holm"] == pytest.approx(3 * 2 / 2**8)
    assert set(summary["proposal"]["psnr_avg"]["tests"]) == {"vbr"}
    noise = summary["vbr-aa"]["psnr_avg"]["tests"]["vbr"]
    assert (noise["n"], noise["p_holm"]) == (8, None)
    assert (mine["n"], mine["n_undefined"], mine["n_sources"]) == (16, 1, 8)
    assert (mine["n_low_overlap"], mine["n_dropped"]) == (1, 1)
    assert mine["mean_overlap"] == pytest.approx(15.5 / 16)
    low, high = mine["interval"]
    within = mine["interval_within"]
    assert low < within[0] < mine["mean"] < within[1] < high


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda d: d.pop("encodes"), "no list 'encodes'"),
        (lambda d: d.update(summary=[]), "no object 'summary'"),
        (lambda d: d.update(format=99), "format 99"),
        (lambda d: d["encodes"][1].pop("sha256"), "'sha256' should be str"),
        (lambda d: d["encodes"][0].update(psnr_avg="high"), "'psnr_avg' should be float"),
        (lambda d: d["encodes"][0].update(bytes=True), "'bytes' should be int"),
        (lambda d: d["encodes"][0].update(qindex=[1.5]), "'qindex' should be list"),
        (lambda d: d["encodes"].append(7), "not an object"),
        (lambda d: d["bd_rate"][0].update(percent=float("nan")), "'percent' should be"),
        (lambda d: d["failures"][0].update(error=None), "'error' should be str"),
    ],
)
def test_damage_is_refused_by_name(tmp_path, damage, words) -> None:
    results(tmp_path).save(tmp_path)
    path = tmp_path / "results.json"
    data = json.loads(path.read_text())
    damage(data)
    path.write_text(json.dumps(data))
    with pytest.raises(InputError, match=words) as caught:
        Results.load(path)
    assert "\n" not in str(caught.value)


def test_what_is_no_results_file_is_refused(tmp_path) -> None:
    path = tmp_path / "results.json"
    with pytest.raises(InputError, match="cannot read"):
        Results.load(path)
    for content in (b"", b"{", b"[1]", b"\xff\xfe\x00", b"[" * 100_000):
        path.write_bytes(content)
        with pytest.raises(InputError):
            Results.load(path)


def test_writing_leaves_the_old_or_the_new(tmp_path, monkeypatch) -> None:
    path = tmp_path / "file"
    write_text(path, "old")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OutputError, match="No space left on device; choose another --out"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_store_forgets_what_is_damaged(tmp_path) -> None:
    store = EncodeStore(tmp_path / "encodes")
    record = encode(tmp_path, "vbr", 300)
    assert store.get(record.key) is None
    store.put(record)
    assert store.get(record.key) == record
    whole = store.path(record.key).read_text()
    store.path(record.key).write_text(whole[: len(whole) // 2])
    assert store.get(record.key) is None
    store.path("other").write_text(whole)
    assert store.get("other") is None


def test_comparison_knows_the_law(tmp_path) -> None:
    found = results(tmp_path)
    for metric in ("psnr_avg", "psnr_overall", "psnr_y"):
        by_method = {b.method: b for b in found.bd_rate if b.metric == metric}
        assert list(by_method) == METHODS[1:]
        assert by_method["proposal"].percent == pytest.approx(0.0)
        assert by_method["save:0.1"].percent == pytest.approx(-10.0)
        assert by_method["save:0.1"].db == pytest.approx(3.5 * 0.152003093)
        assert by_method["over:0.02"].percent == pytest.approx(0.0)
    saves = found.summary["save:0.1"]
    assert saves["psnr_avg"]["mean"] == pytest.approx(-10.0)
    assert saves["psnr_avg"]["share_better"] == 1.0
    assert saves["psnr_avg"]["interval"] is None
    assert found.summary["over:0.02"]["landing"]["share_over_1"] == 1.0
    assert found.summary["over:0.02"]["landing_reachable"]["mean_deviation"] == pytest.approx(0.02)
    assert [t.target_kbps for t in found.targets if not t.reachable] == [100]


def test_show_existing_frames_are_counted(tmp_path) -> None:
    found = results(tmp_path)
    assert {entry["repeated_share"] for entry in found.summary.values()} == {None}
    trace = dict.fromkeys(("show_index", "update_type", "layer", "proposal", "psnr"), [0, 0, 0, 0])
    trace |= {"qindex": [9, 9, 9, -1], "bits": [800, 8, 0, 8], "shown": [1, 1, 0, 1]}
    traced = [
        dataclasses.replace(e, frames=8, trace=trace if e.method == "proposal" else None)
        for e in found.encodes
    ]
    summary = summarize(traced, found.targets, found.bd_rate, METHODS)
    assert summary["proposal"]["repeated_share"] == 2 / 8
    assert summary["vbr"]["repeated_share"] is None


def test_undefined_rates_are_counted_never_dropped(tmp_path) -> None:
    found = results(tmp_path, clips="abc")
    hole = [e for e in found.encodes if (e.clip, e.method) != ("b", "save:0.1")]
    bd = compare(hole, list("abc"), METHODS)
    assert len(bd) == 3 * 3 * 3
    missing = [b for b in bd if b.percent is None]
    assert {(b.clip, b.method) for b in missing} == {("b", "save:0.1")}
    assert all("0 usable points" in b.reason for b in missing)
    statistics = summarize(hole, found.targets, bd, METHODS)["save:0.1"]["psnr_y"]
    assert (statistics["n"], statistics["n_undefined"]) == (2, 1)
    assert summarize(hole, found.targets, bd, METHODS)["save:0.1"]["time"]["of_anchor"] is None
    nothing = summarize([], [], [dataclasses.replace(b, percent=None) for b in bd], METHODS)
    assert nothing["proposal"]["psnr_avg"]["n_undefined"] == 3
    assert nothing["proposal"]["landing"] is None


def test_repeated_points_count_once(tmp_path) -> None:
    """Below 200 kbit/s the fake cannot go: two targets, one stream."""
    encodes = [encode(tmp_path, m, t) for m in METHODS for t in (50, *TARGETS)]
    bd = compare(encodes, ["a"], METHODS)
    assert {b.dropped for b in bd if b.method == "proposal"} == {2}
    assert next(b for b in bd if b.method == "proposal").percent == pytest.approx(0.0)


@pytest.mark.parametrize("variable", ["FORCE_COLOR", "TTY_COMPATIBLE", "unset"])
def test_report_says_everything_in_plain_text(tmp_path, monkeypatch, variable) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "1")
    found = results(tmp_path, clips="abc")
    hole = [e for e in found.encodes if (e.clip, e.method) != ("b", "save:0.1")]
    bd = compare(hole, list("abc"), METHODS)
    found = dataclasses.replace(
        found, bd_rate=bd, summary=summarize(hole, found.targets, bd, METHODS)
    )
    path = tmp_path / "report.txt"
    with path.open("w") as file:
        make_console(file).print(results_report(found))
    text = path.read_text()
    assert "\x1b" not in text
    lines = text.splitlines()
    assert max(map(len, lines)) <= 160
    row = next(line for line in lines if line.startswith("b "))
    assert row.split()[1:] == ["+0.00"] * 3 + ["n/a"] * 3 + ["+0.00"] * 3
    assert next(x for x in lines if x.startswith("mean ")).split()[4] == "-10.00"
    assert next(x for x in lines if x.startswith("clips (und")).split()[8:10] == ["2", "(1)"]
    assert "undefined BD-rates: 1" in text
    assert "b, save:0.1 (avg, overall, Y): the test curve has 0 usable points" in text
    assert "(they count everywhere else), of 18: 3" in text
    assert "a: 100 kbit/s, VBR gives 200" in text
    assert "failed: 1\n  a, save:0.1, 5 kbit/s: it broke" in text
    vbr = next(x for x in lines if x.startswith("vbr "))
    assert vbr.split()[1:4] == ["17%", "17%", "17%"]
    # Without the three targets that VBR missed.
    reachable = lines[next(i for i, x in enumerate(lines) if x.startswith("VBR within 10%")) :]
    vbr = next(x for x in reachable if x.startswith("vbr "))
    assert vbr.split()[1:] == ["0%", "0%", "0%", "0.0%", "+0.0%", "+0.0%", "+0.0%", "15"]
    over = next(x for x in reachable if x.startswith("over:0.02 "))
    assert over.split()[1:5] == ["100%", "100%", "0%", "2.0%"]


def test_report_shows_intervals_from_three_clips(tmp_path) -> None:
    few, more = tmp_path / "few", tmp_path / "more"
    for path, clips in ((few, "ab"), (more, "abc")):
        with path.open("w") as file:
            make_console(file).print(results_report(results(tmp_path, clips=clips)))
    assert "95% interval" not in few.read_text()
    assert "95% interval, low" in more.read_text()
