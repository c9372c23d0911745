"""Encodes again, encodes shared, and encodes against the clock."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muzero_rc import disk_cache
from muzero_rc.cli.main import main
from muzero_rc.errors import InputError
from muzero_rc.evaluation.grid.store import EncodeStore
from muzero_rc.evaluation.measure.rate_time import rate_time
from muzero_rc.evaluation.results import Results


@pytest.fixture(scope="module")
def clip_path(tmp_path_factory, sample_clips: dict[str, Path]) -> Path:
    path = tmp_path_factory.mktemp("clips") / "carphone.mp4"
    shutil.copy(sample_clips["carphone_pristine"], path)
    return path


@pytest.fixture(scope="module")
def evaluated(clip_path, tmp_path_factory):
    """Folder of the cache, and of the results of a small evaluation."""
    folder = tmp_path_factory.mktemp("evaluated")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MUZERO_RC_CACHE", str(folder / "cache"))
        assert main(words_for(clip_path, folder / "out")) == 0
    return folder


@pytest.fixture(autouse=True)
def _cache(evaluated, monkeypatch) -> None:
    monkeypatch.setenv("MUZERO_RC_CACHE", str(evaluated / "cache"))


def words_for(clip: Path, out: Path) -> list[str]:
    return ["evaluate", str(clip), "-p", "landed", "-p", "cq:20", "-p", "vbr@speed=4",
            "--targets", "40,80,160,320", "--scale", "96", "--frames", "20", "--speed", "5",
            "-q", "-j", "1", "-o", str(out)]  # fmt: skip


def edited(source: Path, target: Path, change) -> Path:
    target.mkdir()
    data = json.loads((source / "results.json").read_text())
    change(data)
    (target / "results.json").write_text(json.dumps(data))
    return target


def test_replay_reproduces_every_byte(evaluated, capfd) -> None:
    assert main(["replay", str(evaluated / "out"), "-q"]) == 0
    assert "20 of 20 encodes have the recorded bytes" in capfd.readouterr().out
    layered = [e for e in Results.load(evaluated / "out").encodes if e.method == "landed"]
    assert {e.settings["speed_profile"] for e in layered} == {"hierarchical"}


def test_replay_tells_what_differs(evaluated, tmp_path, capfd) -> None:
    def spoil(data) -> None:
        one = next(e for e in data["encodes"] if e["method"] == "proposal")
        qindexes = one["decisions"]["qindex"]
        qindexes[3] = (qindexes[3] + 40) % 256
        two = next(e for e in data["encodes"] if e["method"] == "landed")
        two["decisions"] = None  # an older file has qindexes alone
        two["qindex"].pop()
        data["settings"]["build"] = "another"

    folder = edited(evaluated / "out", tmp_path / "spoilt", spoil)
    assert main(["replay", str(folder), "-q", "-j", "1"]) == 1
    told = capfd.readouterr()
    assert "18 of 20 encodes" in told.out
    assert "proposal, 40 kbit/s:" in told.out and "SHA-256" in told.out
    assert "more frames to code than were recorded" in told.out
    assert "of another build, another" in told.err
    assert main(["replay", str(folder), "-q", "--method", "vbr", "-j", "1"]) == 0
    assert "4 of 4" in capfd.readouterr().out


def test_replay_finds_moved_clips(evaluated, clip_path, sample_clips, tmp_path, capfd) -> None:
    def move(data) -> None:
        data["settings"]["clips"][0]["path"] = "/nowhere/carphone.mp4"

    folder = edited(evaluated / "out", tmp_path / "moved", move)
    words = ["replay", str(folder), "-q", "-j", "1", "--method", "proposal"]
    assert main(words) == 2
    assert "--clips DIR" in capfd.readouterr().err
    assert main([*words, "--clips", str(clip_path.parent)]) == 0
    assert main([*words, "--clip", "other"]) == 2
    assert "no clip 'other' in these results; there are carphone" in capfd.readouterr().err
    other = tmp_path / "wrong" / "carphone.mp4"
    other.parent.mkdir()
    shutil.copy(sample_clips["bikes"], other)
    assert main([*words, "--clips", str(other)]) == 1
    assert "does not have the recorded frames" in capfd.readouterr().out


def test_another_evaluation_takes_shared_encodes(evaluated, clip_path, tmp_path, capfd) -> None:
    out = tmp_path / "out"
    before = Results.load(evaluated / "out").encodes
    assert main(words_for(clip_path, out)) == 0
    # Times are measured: equal ones were not measured again.
    assert Results.load(out).encodes == before
    fresh = tmp_path / "fresh"
    assert main([*words_for(clip_path, fresh), "--no-cache"]) == 0
    again = Results.load(fresh).encodes
    assert [e.sha256 for e in again] == [e.sha256 for e in before]
    assert [e.seconds for e in again] != [e.seconds for e in before]


def test_cache_is_shown_and_cleared(evaluated, tmp_path, monkeypatch, capfd) -> None:
    root = tmp_path / "cache"
    shutil.copytree(evaluated / "cache", root)
    monkeypatch.setenv("MUZERO_RC_CACHE", str(root))
    (root / "xla").mkdir()
    (root / "xla" / "jit_update-00-cache").write_bytes(bytes(7))
    capfd.readouterr()
    assert main(["cache", "--json"]) == 0
    shown = {c["cache"]: c for c in json.loads(capfd.readouterr().out)["caches"]}
    assert shown["encodes"]["entries"] == 20
    files = list((root / "encodes").iterdir())
    assert shown["encodes"]["bytes"] == sum(p.stat().st_size for p in files)
    assert shown["first-passes"]["entries"] == 2
    assert (shown["networks"]["entries"], shown["networks"]["bytes"]) == (1, 7)
    # Whatever is written below the cache folder is shown.
    assert shown.keys() == {"first-passes", "encodes", "networks", "searches", "code"}
    assert {p.name for p in root.iterdir()} <= {Path(c["folder"]).name for c in shown.values()}
    assert all(c["limit_bytes"] > 2**20 for c in shown.values())
    assert main(["cache", "--clear", "encodes"]) == 0
    assert str(root) in capfd.readouterr().out.replace("\n", "")
    assert list((root / "encodes").iterdir()) == []
    assert len(list((root / "first_pass").iterdir())) == 2
    assert main(["cache", "--clear", "all", "--json"]) == 0
    shown = {c["cache"]: c for c in json.loads(capfd.readouterr().out)["caches"]}
    assert shown["first-passes"]["cleared"] == 2 and shown["first-passes"]["entries"] == 0
    assert shown["networks"]["cleared_bytes"] == 7 and not list((root / "xla").iterdir())


@given(st.lists(st.integers(0, 50), max_size=12, unique=True), st.integers(0, 300))
def test_trim_keeps_the_latest_within_the_limit(tmp_path_factory, ages, limit) -> None:
    folder = tmp_path_factory.mktemp("trim")
    for age in ages:
        path = folder / f"{age}.x"
        path.write_bytes(bytes(40))
        os.utime(path, (1000 - age, 1000 - age))
    disk_cache.trim(folder, limit)
    left = sorted(int(p.stem) for p in folder.iterdir())
    assert left == sorted(ages)[: limit // 40]
    shutil.rmtree(folder)


def test_shared_store_has_a_limit(evaluated, tmp_path) -> None:
    record = Results.load(evaluated / "out").encodes[0]
    store = EncodeStore(tmp_path / "own", tmp_path / "shared", limit_bytes=20_000)
    for number in range(100):
        store.put(dataclasses.replace(record, key=f"{number:040x}"))
    held = disk_cache.usage(tmp_path / "shared")
    size = held.size / held.entries
    assert held.size < 20_000 + 40 * size < 100 * size
    assert disk_cache.usage(tmp_path / "own").entries == 100
    other = EncodeStore(tmp_path / "other", tmp_path / "shared")
    kept = next((tmp_path / "shared").iterdir()).stem
    assert other.get(kept) == dataclasses.replace(record, key=kept)
    assert (tmp_path / "other" / f"{kept}.json").is_file()


def test_bits_against_time(evaluated) -> None:
    """The law of two methods, one 20% dearer in rate and half as long, at two speeds."""
    base = Results.load(evaluated / "out").encodes

    def made(method: str, speed: int, rate: float, seconds: float):
        return [
            dataclasses.replace(
                e, method=method, settings={**e.settings, "speed": speed},
                actual_kbps=e.actual_kbps * rate, seconds=seconds, preparation_seconds=0.0,
            )
            for e in base
            if e.method == "proposal"
        ]  # fmt: skip

    first = Results({}, [*made("vbr", 1, 1.0, 2.0), *made("mine@simulations=8", 1, 0.9, 3.0)])
    second = Results({}, [*made("vbr", 5, 1.2, 1.0), *made("vbr-aa", 5, 9.0, 9.0)])
    third = Results({}, made("mine@simulations=8,speed=5", 5, 1.1, 1.5))
    points = rate_time([first, second, third])
    found = [(p.method, p.speed, round(p.percent, 6), p.of_anchor, p.is_anchor) for p in points]
    assert found == [
        ("vbr", 1, 0.0, 1.0, True),
        ("vbr", 5, 20.0, 0.5, False),
        ("mine@simulations=8", 1, -10.0, 1.5, False),
        ("mine@simulations=8", 5, 10.0, 0.75, False),
    ]
    for metric in ("psnr_p5", "psnr_last_second"):
        same = rate_time([first, second, third], metric)
        assert [p.of_anchor for p in same] == [p.of_anchor for p in points]
        assert all(p.percent is None or p.percent == pytest.approx(q.percent, abs=1e-6)
                   for p, q in zip(same, points, strict=True))  # fmt: skip
        assert same[0].percent == 0.0
    with pytest.raises(InputError, match="no encode by vbr"):
        rate_time([third])
    with pytest.raises(InputError, match="have no vmaf"):
        rate_time([first], "vmaf")
