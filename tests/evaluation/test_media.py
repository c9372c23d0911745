"""What an evaluation keeps for its report: frames, streams, thumbnails."""

import dataclasses
import json
import shlex
import subprocess
from pathlib import Path

import pytest
import tyro
from hypothesis import given
from hypothesis import strategies as st

from muzero_rc.cli.evaluate import EvaluateArgs
from muzero_rc.cli.main import main
from muzero_rc.cli.provenance import command_line, environment
from muzero_rc.errors import InputError, OutputError
from muzero_rc.evaluation.measure.frame_trace import FrameTrace
from muzero_rc.evaluation.media import MediaFolder
from muzero_rc.evaluation.results import EncodeRecord, Results
from muzero_rc.output_files import output
from muzero_rc.types import FrameInfo, FrameResult, UpdateType
from muzero_rc.video import probe, wrap, write_thumbnail


def ffprobe(path: Path, *words: str) -> str:
    command = ["ffprobe", "-v", "error", *words, "-of", "csv=p=0", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def frame(index: int, qindex: int, *, hidden: bool = False) -> tuple[FrameInfo, FrameResult]:
    info = FrameInfo(
        coding_index=index, show_index=index, update_type=UpdateType.ARF if hidden else
        UpdateType.LEAF, shown=not hidden, gop_index=index, gop_size=9, layer_depth=1 + index,
        max_layer_depth=4, frames_to_key=5, ref_coding_indexes=(0, 0, -1),
        proposal_qindex=qindex + 3, proposal_bits=100, min_qindex=0, max_qindex=255, boost=0,
    )  # fmt: skip
    result = FrameResult(
        coding_index=index, show_index=index, shown=not hidden, qindex=qindex, bits=800 + index,
        sse=(400, 100, 100), samples=(400, 100, 100), intra_blocks=1, inter_blocks=2,
        skip_blocks=3, cpu_seconds=0.1,
    )  # fmt: skip
    return info, result


def test_trace_has_a_number_for_every_frame() -> None:
    shown_again = dataclasses.replace(frame(2, 7)[1], qindex=-1, bits=16)
    trace = FrameTrace.of([frame(0, 40), frame(1, 60, hidden=True), (None, shown_again)])
    assert trace == FrameTrace(
        show_index=[0, 1, 2],
        update_type=[UpdateType.LEAF, UpdateType.ARF, UpdateType.USE_BUF],
        shown=[1, 0, 1],
        layer=[1, 2, -1],
        qindex=[40, 60, -1],
        proposal=[43, 63, -1],
        bits=[800, 801, 16],
        psnr=[48.131, 48.131, 48.131],  # 20 log10 255
    )
    assert FrameTrace.from_dict(json.loads(json.dumps(trace.as_dict()))) == trace
    assert FrameTrace.of([]).bits == []
    # One frame of one byte, one that was left out; a buffer shown as planned is no repeat.
    again = (frame(3, 90)[0], dataclasses.replace(frame(3, 90)[1], bits=8))
    absent = (
        frame(4, 90, hidden=True)[0],
        dataclasses.replace(frame(4, 90, hidden=True)[1], bits=0),
    )
    as_planned = (None, dataclasses.replace(shown_again, bits=8))
    assert trace.shows_existing == 0
    assert FrameTrace.of([frame(0, 40), again, absent, as_planned]).shows_existing == 2


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda d: d.pop("bits"), "'bits' should be a list"),
        (lambda d: d["bits"].append("1"), "'bits' should be a list"),
        (lambda d: d["qindex"].append(True), "'qindex' should be a list"),
        (lambda d: d["show_index"].__setitem__(0, 0.5), "'show_index' should be"),
        (lambda d: d["psnr"].append(3.5), "differ in length"),
    ],
)
def test_damaged_trace_is_refused(damage, words) -> None:
    data = FrameTrace.of([frame(0, 40), frame(1, 50)]).as_dict()
    damage(data)
    with pytest.raises(InputError, match=words):
        FrameTrace.from_dict(data)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False,
        allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)  # fmt: skip
def test_lists_on_one_line_are_the_same_json(value) -> None:
    from muzero_rc.evaluation.results import _lists_on_one_line

    assert json.loads(_lists_on_one_line(json.dumps(value, indent=1))) == value


def test_numbers_stand_on_one_line() -> None:
    from muzero_rc.evaluation.results import _lists_on_one_line

    text = json.dumps({"a": [1, -2, 3.5e-07], "b": ["1,\n 2"], "c": []}, indent=1)
    assert _lists_on_one_line(text) == (
        '{\n "a": [1,-2,3.5e-07],\n "b": [\n  "1,\\n 2"\n ],\n "c": []\n}'
    )


def test_an_output_is_the_old_or_the_new(tmp_path) -> None:
    path = tmp_path / "deep" / "file"
    with output(path) as temporary:
        temporary.write_text("old")
    with pytest.raises(ZeroDivisionError), output(path) as temporary:
        temporary.write_text("half")
        _ = 1 / 0
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]
    with pytest.raises(OutputError, match="cannot write"), output(path / "under a file"):
        pass


def test_command_line_is_the_one_that_gives_these_arguments() -> None:
    args = EvaluateArgs(
        clips=(Path("a clip.mp4"), Path("dir")), out=Path("out"), policy=("cq:20", "mine.npz"),
        scale=None, no_tpl=True, quiet=True, speed=5, speeds=(1, 3),
    )  # fmt: skip
    command = command_line("evaluate", args)
    assert command == (
        "muzero-rc evaluate 'a clip.mp4' dir --out out --policy cq:20 --policy mine.npz"
        " --speeds 1 3 --scale None --speed 5 --no-tpl"
    )
    read = tyro.cli(EvaluateArgs, args=shlex.split(command)[2:])
    assert read == dataclasses.replace(args, quiet=False)


def test_command_line_takes_names_for_what_they_are() -> None:
    args = EvaluateArgs(clips=(Path("--dash; ls.mkv"), Path("Part: 2.mkv")), out=Path("-o"))
    read = tyro.cli(EvaluateArgs, args=shlex.split(command_line("evaluate", args))[2:])
    assert read == args


def test_environment_names_versions() -> None:
    found = environment()
    assert found["ffmpeg"][0].isdigit() or found["ffmpeg"].startswith("n")
    assert {"python", "system", "processor", "numpy"} <= set(found)
    assert all(found.values())


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """An evaluation with its streams: results, folder, and the words that made it."""
    folder = tmp_path_factory.mktemp("kept")
    clip = folder / "card.mkv"
    command = [
        "ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=160x96:r=25:d=1",
        "-c:v", "libx264", "-preset", "ultrafast", "-metadata", "title=private",
        "-colorspace", "bt709", str(clip),
    ]  # fmt: skip
    subprocess.run(command, check=True)
    out = folder / "out"
    words = [
        "evaluate", str(clip), "--policy", "constant:90", "--targets", "60,90,150,240",
        "--frames", "20", "--speed", "6", "--jobs", "1", "--out", str(out), "--quiet",
    ]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MUZERO_RC_CACHE", str(folder / "cache"))
        assert main([*words, "--keep-streams"]) == 0
    return Results.load(out), out, words


def test_streams_are_kept_as_webm(kept) -> None:
    results, out, _ = kept
    media = MediaFolder(out)
    assert len(results.encodes) == 12
    for record in results.encodes:
        path = media.stream(record.key)
        shown = ffprobe(path, "-count_frames", "-show_entries", "stream=codec_name,nb_read_frames")
        assert shown.split() == ["vp9,20"]
        # Container apart, it holds what was measured.
        assert record.bytes < path.stat().st_size < record.bytes + 3000
        assert "private" not in ffprobe(path, "-show_entries", "format_tags")
        trace = FrameTrace.from_dict(record.trace)
        # Frames that only show a buffer are seen and cost bits, but are not coded.
        assert sum(q >= 0 for q in trace.qindex) == record.coded_frames
        assert sum(trace.shown) == record.frames == 20
        assert [q for q in trace.qindex if q >= 0] == record.qindex
        shown_psnr = [p for p, s in zip(trace.psnr, trace.shown, strict=True) if s]
        assert sum(shown_psnr) / 20 == pytest.approx(record.psnr_avg, abs=2e-3)
    assert len(list((out / "streams").iterdir())) == len({e.key for e in results.encodes})
    control = next(e for e in results.encodes if e.method == "proposal")
    assert control.trace["proposal"] == control.trace["qindex"]


def test_a_thumbnail_of_each_clip_is_kept(kept) -> None:
    results, out, _ = kept
    (clip,) = results.settings["clips"]
    path = MediaFolder(out).thumbnail(clip["sha256"])
    assert ffprobe(path, "-show_entries", "stream=codec_name,width,height").split() == [
        "mjpeg,160,96"
    ]


def test_results_say_how_they_were_made(kept) -> None:
    results, out, _ = kept
    command = results.settings["command"]
    assert command.startswith("muzero-rc evaluate ")
    assert f"--out {out}" in command and "--policy constant:90" in command
    assert results.settings["environment"]["numpy"]


def test_a_missing_stream_is_made_again(kept, monkeypatch) -> None:
    results, out, words = kept
    monkeypatch.setenv("MUZERO_RC_CACHE", str(out.parent / "cache"))
    streams = sorted((out / "streams").iterdir())
    before = {path: path.stat().st_mtime_ns for path in streams}
    lost, rest = streams[0], streams[1:]
    content = lost.read_bytes()
    lost.unlink()
    assert main(words) == 0  # nobody asks for streams: nothing to do
    assert not lost.exists()
    assert main([*words, "--keep-streams"]) == 0
    assert lost.read_bytes() == content
    assert {path: path.stat().st_mtime_ns for path in rest} == {p: before[p] for p in rest}


def test_records_of_before_have_no_trace(kept) -> None:
    results, _, _ = kept
    data = dataclasses.asdict(results.encodes[0])
    del data["trace"]
    assert EncodeRecord.from_dict(data, "here").trace is None
    with pytest.raises(InputError, match="'trace' should be"):
        EncodeRecord.from_dict(data | {"trace": 7}, "here")


def test_no_picture_is_an_error(tmp_path, kept) -> None:
    _, out, _ = kept
    stream = next((out / "streams").iterdir())
    with pytest.raises(InputError, match="no picture could be taken"):
        write_thumbnail(stream, tmp_path / "late.jpg", at_s=99.0)
    (tmp_path / "text.ivf").write_text("no video")
    with pytest.raises(InputError):
        wrap(tmp_path / "text.ivf", probe(stream), tmp_path / "x.webm")
