"""Methods by their words, other people's policies, and other people's encoders."""

import hashlib
import importlib
import re
import shlex
import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muzero_rc import video
from muzero_rc.cli.main import main
from muzero_rc.cli.methods import methods_of, split_spec
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import first_pass
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.passes.pipeline import rollout
from muzero_rc.errors import EncoderError, InputError, PolicyWarning, ToolMissingError
from muzero_rc.evaluation.grid.encoder import ClipInfo, ClipSource
from muzero_rc.evaluation.grid.external import (
    _SHELL,
    encode_external,
    external_method,
    split_command,
)
from muzero_rc.evaluation.results import Results
from muzero_rc.policies.for_target import OffsetsForTarget
from muzero_rc.policies.registry import make_policy, policy_package
from muzero_rc.types import QindexPolicy, UpdateType

pytestmark = pytest.mark.usefixtures("own_cache")

X264 = (
    "ffmpeg -v error -y -i {in} -c:v libx264 -preset ultrafast -threads 1 -b:v {kbps}k"
    " -pass 1 -passlogfile log -f null - && ffmpeg -v error -y -i {in} -c:v libx264"
    " -preset ultrafast -threads 1 -b:v {kbps}k -pass 2 -passlogfile log {out}"
)

# By number: time stamps of Matroska are rounded to milliseconds.
PAIRED = "[0:v]settb=1/1000,setpts=N*40[a];[1:v]settb=1/1000,setpts=N*40[b];[a][b]psnr"


@pytest.fixture(scope="module")
def clip_path(sample_clips: dict[str, Path]) -> Path:
    return sample_clips["carphone_pristine"]


@pytest.fixture(scope="module")
def clip(clip_path) -> Clip:
    return Clip.load(clip_path, height=96, max_frames=24)


def info_of(clip: Clip, path: Path) -> ClipInfo:
    return ClipInfo(
        name="clip", path=str(path), sha256=clip.sha256, width=clip.width, height=clip.height,
        fps=str(clip.fps), frames=clip.num_frames, duration_s=clip.duration_s,
    )  # fmt: skip


@given(st.fixed_dictionaries({}, optional={"speed": st.integers(0, 9), "tpl": st.booleans(),
       "auto_alt_ref": st.integers(0, 6), "rc_mode": st.sampled_from(["vbr", "cq"])}))  # fmt: skip
def test_changes_are_read_as_they_are_written(changes) -> None:
    tail = ",".join(f"{name}={value}" for name, value in changes.items())
    assert split_spec(f"cq:20@{tail}" if tail else "cq:20") == ("cq:20", 0, changes)


def test_methods_with_changes_and_speeds() -> None:
    found = {m.name: m for m in methods_of(["vbr@auto_alt_ref=1", "muzero@simulations=8,lag=19"],
                                           speeds=[3, 5, 3], noise=True)}  # fmt: skip
    assert list(found) == [
        "vbr", "proposal", "vbr-aa", "vbr@auto_alt_ref=1", "muzero@simulations=8,lag=19",
        *(f"{m}speed={s}" for s in (3, 5) for m in (
            "vbr@", "proposal@", "vbr@auto_alt_ref=1,", "muzero@simulations=8,lag=19,")),
    ]  # fmt: skip
    common = EncoderSettings(target_kbps=7, speed=1)
    one = found["vbr@auto_alt_ref=1,speed=5"]
    assert one.settings(common) == common.replace(auto_alt_ref=1, speed=5)
    assert one.fingerprint == found["vbr"].fingerprint
    searched = found["muzero@simulations=8,lag=19"]
    assert (searched.spec, searched.simulations) == ("muzero", 8)
    assert searched.changes == {"lag_in_frames": 19}
    assert split_spec("muzero@time=2.5").changes == {"time": 2.5}
    (plain,) = methods_of(["muzero"])[2:]
    assert plain.simulations == 0
    assert searched.fingerprint == f"{plain.fingerprint} 8 simulations"


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("vbr@colour=1", "unknown setting 'colour'"),
        ("vbr@target_kbps=9", "unknown setting 'target_kbps'"),
        ("vbr@speed=fast", "takes a whole number, not 'fast'"),
        ("muzero@simulations=many", "takes a whole number, not 'many'"),
        ("muzero@simulations=-1", "must be 0 or more"),
        ("vbr@tpl=2", "takes on or off"),
        ("vbr@speed=12", "speed in 'vbr@speed=12' must be between 0 and 9"),
        ("vbr@lag=99", "lag in 'vbr@lag=99' must be between 0 and 25"),
    ],
)
def test_bad_changes_are_told(spec, told) -> None:
    with pytest.raises(InputError, match=re.escape(told)):
        methods_of([spec])


def test_search_repeats_itself_and_wants_a_network(clip) -> None:
    settings = EncoderSettings(target_kbps=60, speed=5)
    policy = make_policy("muzero", simulations=4)
    short = Clip.from_frames(np.stack([clip.frame(i) for i in range(6)]), clip.width, clip.height,
                             clip.fps)  # fmt: skip
    first, second = (rollout(short, settings, policy).qindexes for _ in range(2))
    assert first == second
    with pytest.raises(InputError, match="no network to search with"):
        make_policy("vbr", simulations=4)
    with pytest.raises(InputError, match="0 or more"):
        make_policy("muzero", simulations=-1)


def test_offsets_are_kept_and_the_size_is_met(clip) -> None:
    settings = EncoderSettings(target_kbps=80, speed=5)
    policy = make_policy("offsets:40")
    assert isinstance(policy, OffsetsForTarget)
    with pytest.raises(InputError, match="must be prepared"):
        policy.qindexes([])
    policy.prepare(clip, settings, first_pass(clip, settings))
    done = rollout(clip, settings, policy)
    by_type: dict[UpdateType, set[int]] = {}
    for info, result in done.frames:
        if info is not None:
            by_type.setdefault(info.update_type, set()).add(result.qindex)
    (leaf,) = by_type[UpdateType.LEAF]
    for kind in (UpdateType.KEY, UpdateType.GOLDEN, UpdateType.ARF):
        assert by_type.get(kind, {leaf - 40}) == {max(leaf - 40, 0)}
    for kind in (UpdateType.OVERLAY, UpdateType.MID_OVERLAY):
        assert by_type.get(kind, {leaf + 13}) == {leaf + 13}
    assert {UpdateType.KEY, UpdateType.ARF} <= set(by_type)
    assert 0.9 < done.score.actual_kbps / 80 <= 1.0
    with pytest.raises(InputError, match="between 0 and 255"):
        make_policy("offsets:256")


class _Mine(QindexPolicy):
    name = "mine"

    def qindexes(self, observations):
        return np.full(len(observations), 99, np.int32)


_Text = str


class _Broken:
    def __init__(self) -> None:
        raise ZeroDivisionError("half\nway")


@pytest.fixture
def registered(tmp_path, monkeypatch):
    """A package of somebody else's on sys.path that registers policies."""
    folder = tmp_path / "theirs-1.2.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.2\n")
    lines = [
        f"{name} = {__name__}:{thing}"
        for name, thing in (
            ("mine", "_Mine"),
            ("broken", "_Broken"),
            ("text", "_Text"),
            ("gone", "_Gone"),
            ("landed", "_Mine"),
        )
    ]
    (folder / "entry_points.txt").write_text("[muzero_rc.policies]\n" + "\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()


def test_a_registered_policy_is_a_method(registered, clip) -> None:
    assert make_policy("mine").name == "mine"
    assert policy_package("mine") == "theirs 1.2"
    (method,) = methods_of(["mine@speed=5"])[2:]
    assert (method.name, method.spec) == ("mine@speed=5", "mine")
    assert "theirs 1.2" in method.fingerprint
    done = rollout(clip, EncoderSettings(target_kbps=60, speed=5), make_policy("mine"))
    assert set(done.qindexes) == {99}
    with pytest.raises(InputError, match=r"unknown policy 'nine'.*mine"):
        make_policy("nine")


def test_a_registered_policy_with_a_name_of_ours_is_not_taken_in_silence(registered) -> None:
    with pytest.warns(PolicyWarning, match="_Mine is registered as landed, .* another name"):
        assert make_policy("landed").name == "landed"
    assert policy_package("landed") == ""


def _fingerprint(name: str) -> str:
    importlib.invalidate_caches()
    return methods_of([name])[2].fingerprint


@pytest.mark.parametrize("module", ["solo", "whole.inner.policy", "shared.own.policy"])
def test_encodes_of_a_registered_policy_end_with_a_change_of_its_files(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = tmp_path / "site"
    *folders, last = module.split(".")
    inner = top.joinpath(*folders)
    inner.mkdir(parents=True)
    # The topmost folder of the third has no __init__: it may belong to several packages.
    for depth in range(0 if folders[:1] == ["whole"] else 1, len(folders)):
        top.joinpath(*folders[: depth + 1], "__init__.py").touch()
    code = inner / f"{last}.py"
    code.write_text("from muzero_rc.types import QindexPolicy as Policy\n")
    info = top / "theirs-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[muzero_rc.policies]\nours = {module}:Policy\n")
    monkeypatch.syspath_prepend(str(top))
    first = _fingerprint("ours")
    assert first == _fingerprint("ours") and "theirs 1.2" in first
    code.write_text(code.read_text() + "answer = 2\n")
    second = _fingerprint("ours")
    assert second != first
    if folders:
        (inner / "weights.bin").write_bytes(b"1")
        third = _fingerprint("ours")
        (inner / "weights.bin").write_bytes(b"2")
        assert len({first, second, third, _fingerprint("ours")}) == 4
    code.unlink()
    if not folders:
        with pytest.raises(InputError, match="has no files to read"):
            _fingerprint("ours")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("broken", "cannot be made: ZeroDivisionError: half"),
        ("gone", "cannot be made: AttributeError"),
        ("text", "is no Policy but str"),
    ],
)
def test_a_broken_registration_is_one_line(registered, name, told, tmp_path, capfd) -> None:
    assert main(["evaluate", str(tmp_path), "-p", name, "-o", str(tmp_path / "out")]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    if "no video" not in line:
        assert told in line
    with pytest.raises(InputError, match=told):
        make_policy(name)


WORDS = st.text(min_size=1).filter(lambda w: "{" not in w and w != "&&" and w not in _SHELL)


@given(st.lists(st.lists(WORDS, min_size=1), min_size=1))
def test_passes_are_split_as_a_shell_would(passes) -> None:
    passes = [*passes, ["cp", "{in}", "{out}", "{kbps}"]]
    text = " && ".join(shlex.join(words) for words in passes)
    assert split_command(text) == passes


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("no name", "has no name"),
        (":cat {in} {out} {kbps}", "has no name"),
        ("x:cat {in} {out}", "lacks {kbps}"),
        ("x:cat {in} {out} {kbps} {crf}", "unknown placeholder {crf}"),
        ("x:cat {in} {kbps} > {out}", "without a shell"),
        ("x:cat {in} {kbps} {out} &&", "on one side of &&"),
        ("x:cat '{in} {kbps} {out}", "cannot be read"),
    ],
)
def test_bad_external_commands_are_told(text, told) -> None:
    with pytest.raises(InputError, match=re.escape(told)):
        external_method(text)


def test_a_missing_program_is_told() -> None:
    with pytest.raises(ToolMissingError, match="no-such-encoder is not on PATH"):
        external_method("x:no-such-encoder {in} {out} {kbps}")


def test_y4m_holds_exactly_the_frames(clip, clip_path, tmp_path) -> None:
    path = tmp_path / "in.y4m"
    assert video.write_y4m(path, clip_path, height=96, max_frames=24) == 24
    again = Clip.load(path)
    assert again.sha256 == clip.sha256
    head = path.read_bytes().split(b"\n", 1)[0].split()
    assert head[:3] == [b"YUV4MPEG2", b"W%d" % clip.width, b"H96"]


def test_an_external_encode_is_measured_as_ours(clip, clip_path, tmp_path) -> None:
    """Lossless through the same path, and VP9 by libvpx in ffmpeg against ffmpeg's own words."""
    source = ClipSource(clip_path, "clip", 96, 24)
    method = external_method("x264:" + X264)
    record = encode_external(source, info_of(clip, clip_path), method, 150, "key", ("ssim",))
    assert record.frames == 24 and record.qindex == [] and record.seconds > 0
    assert record.quality["ssim"]["mean"] > 0.7
    again = encode_external(source, info_of(clip, clip_path), method, 150, "key")
    assert (again.sha256, again.bytes) == (record.sha256, record.bytes)

    y4m, out = tmp_path / "in.y4m", tmp_path / "out.mkv"
    video.write_y4m(y4m, clip_path, height=96, max_frames=24)
    for words in split_command(X264):
        filled = [w.format(**{"in": y4m, "out": out, "kbps": 150}) for w in words]
        subprocess.run(filled, check=True, cwd=tmp_path, capture_output=True)
    raw = tmp_path / "out.264"
    subprocess.run(["ffmpeg", "-v", "error", "-i", out, "-c", "copy", "-f", "data", "-map", "0:v",
                    raw], check=True)  # fmt: skip
    assert record.bytes == raw.stat().st_size
    assert record.sha256 == hashlib.sha256(raw.read_bytes()).hexdigest()
    assert record.actual_kbps == pytest.approx(
        record.bytes * 8 / float(24 / Fraction(clip.fps)) / 1000
    )
    told = subprocess.run(["ffmpeg", "-i", out, "-i", y4m, "-lavfi", PAIRED, "-f", "null", "-"],
                          check=True, capture_output=True, text=True).stderr  # fmt: skip
    overall = float(re.findall(r"average:([\d.]+)", told)[-1])
    assert record.psnr_overall == pytest.approx(overall, abs=0.006)

    lossless = external_method("ffv1:ffmpeg -v error -i {in} -metadata rate={kbps} -c:v ffv1 {out}")
    perfect = encode_external(source, info_of(clip, clip_path), lossless, 150, "key")
    assert perfect.psnr_avg == perfect.psnr_y == perfect.psnr_overall == 100.0


def test_what_goes_wrong_outside_is_one_line(clip, clip_path) -> None:
    source, info = ClipSource(clip_path, "clip", 96, 24), info_of(clip, clip_path)
    wrong = external_method("bad:ffmpeg -v error -i {in} -c:v no-such {out} -b:v {kbps}k")
    with pytest.raises(EncoderError, match=r"bad: ffmpeg ended with status \d+: .*no-such"):
        encode_external(source, info, wrong, 100, "key")
    idle = external_method("idle:true {in} {out} {kbps}")
    with pytest.raises(EncoderError, match="wrote no file"):
        encode_external(source, info, idle, 100, "key")
    short = external_method(
        "short:ffmpeg -v error -i {in} -frames:v 5 -c:v ffv1 -metadata r={kbps} {out}"
    )
    with pytest.raises(EncoderError, match="short wrote 5 frames of 24"):
        encode_external(source, info, short, 100, "key")


def test_external_and_changed_methods_in_one_table(clip_path, tmp_path, capfd) -> None:
    out = tmp_path / "out"
    words = ["evaluate", str(clip_path), "-p", "vbr@auto_alt_ref=1", "--external", "x264:" + X264,
             "--external", "bad:ffmpeg -v error -i {in} -c:v no-such {out} -b:v {kbps}k",
             "--targets", "40,80,160,320", "--scale", "64", "--frames", "12", "--speed", "5",
             "--speeds", "5", "4", "--out", str(out), "-j", "1"]  # fmt: skip
    assert main(words) == 1  # bad fails, the rest is finished
    results = Results.load(out)
    assert {f.method for f in results.failures} == {"bad"} and len(results.failures) == 4
    by_method = {e.method: e for e in results.encodes}
    assert list(by_method) == ["vbr", "proposal", "vbr@auto_alt_ref=1", "vbr@speed=4",
                               "proposal@speed=4", "vbr@auto_alt_ref=1,speed=4",
                               "x264"]  # fmt: skip
    assert by_method["vbr@auto_alt_ref=1,speed=4"].settings["speed"] == 4
    assert by_method["vbr"].settings["auto_alt_ref"] == 6
    assert {b.method for b in results.bd_rate if b.percent is not None} >= {"x264", "proposal"}
    assert (out / "speeds.png").read_bytes()[:4] == b"\x89PNG"
    capfd.readouterr()
    assert main(["speeds", str(out), "-o", str(tmp_path / "again.png")]) == 0
    printed = capfd.readouterr().out
    assert "anchor" in printed and "x264" in printed
    # Nothing but what failed is encoded again.
    stored = {p: p.stat().st_mtime_ns for p in (out / "encodes").iterdir()}
    assert main([*words, "-q"]) == 1
    assert {p: p.stat().st_mtime_ns for p in (out / "encodes").iterdir()} == stored

    # Other encoders are left out of a replay; the rest has the recorded bytes.
    assert main(["replay", str(out), "-q", "-j", "1"]) == 0
    told = capfd.readouterr()
    assert "24 of 24 encodes have the recorded bytes" in told.out
    assert "x264 is another encoder" in told.err
