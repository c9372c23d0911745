"""From a film's file to a WebM file by way of chunks, and what a stopped encode leaves."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from muzero_rc import video
from muzero_rc.cli import main as cli
from muzero_rc.encode import cut as cut_module
from muzero_rc.encode.chunk_store import ChunkStore
from muzero_rc.encode.clip import encode_clip
from muzero_rc.encode.film import EncodeReport, Progress, encode
from muzero_rc.encode.film_phases import FilmPhases
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.errors import EncoderError, InputError, OutputError
from muzero_rc.policies.registry import make_policy

MakeVideo = Callable[..., Path]
SETTINGS = EncoderSettings(target_kbps=60, speed=5, kf_max_dist=22)
FRAMES = 66

AFTER_A_LARGE_BLOCK = """
import re, sys
import numpy as np
from muzero_rc.encode import cut
from muzero_rc.encode.film import encode
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.policies.registry import make_policy

cut.WHOLE_FRAMES, cut.LEAST_FRAMES = 40, 20


def held():
    with open("/proc/self/status") as status:
        return 1024 * int(re.search(r"RssAnon:\\s+(\\d+)", status.read())[1])


before = held()
block = np.ones(int(sys.argv[3]), np.uint8)
del block
settings = EncoderSettings(target_kbps=60, speed=5, kf_max_dist=22)
encode(sys.argv[1], sys.argv[2], settings, make_policy("landed"), workers=2)
print(held() - before)
"""


@pytest.fixture(autouse=True)
def _short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 20 frames and more, of films above 40."""
    monkeypatch.setattr(cut_module, "WHOLE_FRAMES", 40)
    monkeypatch.setattr(cut_module, "LEAST_FRAMES", 20)


@pytest.fixture(scope="module")
def source(make_video: MakeVideo) -> Path:
    """48x32, 66 frames in noise, with sound."""
    return make_video(
        "film.mkv", "-vf", "noise=alls=12:allf=t", "-c:v", "ffv1", "-pix_fmt", "yuv420p",
        size="48x32", seconds=FRAMES / 25, sound=True,
    )  # fmt: skip


def run(source: Path, out: Path, **options: object) -> EncodeReport:
    policy = make_policy("landed")
    return encode(source, out, SETTINGS, policy, policy_key="landed", **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def undisturbed(
    source: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, EncodeReport]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cut_module, "WHOLE_FRAMES", 40)
        patch.setattr(cut_module, "LEAST_FRAMES", 20)
        out = tmp_path_factory.mktemp("films") / "out.webm"
        seen: list[Progress] = []
        report = run(source, out, on_progress=seen.append)
    assert os.listdir(out.parent) == ["out.webm"]
    assert report.chunks == 3 and report.frames == FRAMES == len(
        [r for r in report.results if r.shown]
    )
    assert abs(report.deviation) <= 0.005 and report.pictures_compared == FRAMES
    assert report.actual_kbps == pytest.approx(8 * report.video_bytes / 1000 / (FRAMES / 25))
    shares = [step.job.share for step in seen if step.job is not None]
    assert (
        len(shares) == len(seen) and shares == sorted(shares) and shares[-1] == pytest.approx(1.0)
    )
    return out, report


def frames_of(path: Path) -> list[npt.NDArray[np.int64]]:
    with video.open_decoder(path) as decoder:
        return [np.frombuffer(frame, np.uint8).astype(np.int64) for frame in decoder.frames()]


def test_frames_are_those_of_the_source_in_their_order(
    source: Path, undisturbed: tuple[Path, EncodeReport]
) -> None:
    out, report = undisturbed
    shown = [result for result in report.results if result.shown]
    errors = [
        int(((a - b) ** 2).sum()) for a, b in zip(frames_of(source), frames_of(out), strict=True)
    ]
    # To the bit what the encoder told of each frame: another order has other errors.
    assert errors == [sum(result.sse) for result in shown]
    assert len(set(errors)) > FRAMES / 2
    info = video.probe(out)
    assert info.has_audio and info.duration_s == pytest.approx(FRAMES / 25, abs=0.06)


@pytest.mark.parametrize(("phase", "frames", "chunks"), [("second pass", 50, 2), ("mux", 0, 3)])
def test_ctrl_c_keeps_chunks_and_says_how_to_go_on(
    source: Path, undisturbed: tuple[Path, EncodeReport], tmp_path: Path,
    phase: str, frames: int, chunks: int,
) -> None:  # fmt: skip
    out = tmp_path / "out.webm"

    def stop(step: Progress) -> None:
        if step.phase == phase and step.done >= frames:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as stopped:
        run(source, out, on_progress=stop, workers=1)
    (note,) = stopped.value.__notes__
    assert note == f"{chunks} finished chunks are kept; the same command goes on"
    (folder,) = os.listdir(tmp_path)
    assert folder.startswith(".out.webm.") and folder.endswith(".muzero-rc")
    kept = []

    def note_kept(step: Progress) -> None:
        if step.phase == "second pass":
            kept.append(step.done)

    run(source, out, on_progress=note_kept)
    assert kept[0] >= 20
    assert os.listdir(tmp_path) == ["out.webm"]
    assert out.read_bytes() == undisturbed[0].read_bytes()


@pytest.mark.parametrize(
    ("phase", "stopped"),
    [("first pass", False), ("second pass", False), ("second pass", True), ("check", False)],
)
def test_a_source_that_is_replaced_gives_no_file(
    source: Path, make_video: MakeVideo, tmp_path: Path, phase: str, stopped: bool
) -> None:
    other = make_video("other.mkv", "-c:v", "ffv1", "-pix_fmt", "yuv420p",
                       size="48x32", seconds=FRAMES / 25, sound=True)  # fmt: skip
    (tmp_path / "in").mkdir()
    film = tmp_path / "in" / "film.mkv"
    film.write_bytes(source.read_bytes())
    done = False

    def replace(step: Progress) -> None:
        nonlocal done
        if step.phase == phase and not done:
            done = True
            film.write_bytes(other.read_bytes())
        if stopped and done and step.phase in ("second pass", "check"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt if stopped else InputError) as caught:
        run(film, tmp_path / "out.webm", on_progress=replace, workers=1)
    assert stopped or "was changed, replaced or removed" in str(caught.value)
    assert done and os.listdir(tmp_path) == ["in"]


def test_without_a_key_nothing_is_kept(source: Path, tmp_path: Path) -> None:
    def stop(step: Progress) -> None:
        if step.phase == "second pass":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode(
            source, tmp_path / "out.webm", SETTINGS, make_policy("landed"), on_progress=stop
        )  # fmt: skip
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="thresholds are glibc's")
def test_heaps_keep_nothing_for_a_large_block_that_was_freed(source: Path, tmp_path: Path) -> None:
    block = 24 * 2**20  # first-pass statistics of 80 minutes; glibc follows blocks up to 32 MiB
    command = [sys.executable, "-c", AFTER_A_LARGE_BLOCK, source, tmp_path / "out.webm", block]
    done = subprocess.run(
        [str(word) for word in command], check=True, stdout=subprocess.PIPE, text=True
    )
    # The heap of one thread alone would keep up to twice the block.
    assert int(done.stdout) < 2 * block


@pytest.mark.slow
def test_kill_9_loses_the_chunks_in_work_alone(
    source: Path, undisturbed: tuple[Path, EncodeReport], tmp_path: Path
) -> None:
    out = tmp_path / "out.webm"
    script = (
        "import sys\n"
        "from muzero_rc.encode import cut\n"
        "cut.WHOLE_FRAMES, cut.LEAST_FRAMES = 40, 20\n"
        "from muzero_rc.encode.film import encode\n"
        "from muzero_rc.env.control.settings import EncoderSettings\n"
        "from muzero_rc.policies.registry import make_policy\n"
        "encode(sys.argv[1], sys.argv[2],"
        " EncoderSettings(target_kbps=60, speed=5, kf_max_dist=22),"
        " make_policy('landed'), policy_key='landed')\n"
    )
    killed = subprocess.Popen([sys.executable, "-c", script, source, out], cwd=tmp_path)
    while killed.poll() is None and not list(tmp_path.glob(".out.webm.*/*.0.npz")):
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    kept: list[int] = []

    def note_kept(step: Progress) -> None:
        if step.phase == "second pass":
            kept.append(step.done)

    run(source, out, on_progress=note_kept)
    assert kept[0] >= 20
    assert out.read_bytes() == undisturbed[0].read_bytes()


def test_a_clip_removes_what_a_killed_film_left(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.webm"
    left = [ChunkStore(name, "a" * 16) for name in (out, tmp_path / "other.webm")]
    for store in left:  # of a film that kill -9 has ended: no lock, and chunks
        store.folder.mkdir()
        (store.folder / "00000.0.ivf").touch()
    encode(source, out, SETTINGS.replace(speed=8, passes=2), make_policy("vbr"), max_frames=5)
    assert sorted(os.listdir(tmp_path)) == [left[1].folder.name, "out.webm"]


@pytest.mark.parametrize("frames", [None, 20])
def test_another_encode_to_the_same_output_is_refused(
    frames: int | None, source: Path, undisturbed: tuple[Path, EncodeReport], tmp_path: Path
) -> None:
    out = tmp_path / "out.webm"
    refused: list[str] = []

    def meanwhile(step: Progress) -> None:
        if step.phase == "second pass" and step.done >= 20 and not refused:
            settings = SETTINGS.replace(target_kbps=90)
            policy = make_policy("landed")
            with pytest.raises(OutputError, match="another encode is writing") as error:
                encode(source, out, settings, policy, policy_key="landed", max_frames=frames)
            refused.append(str(error.value))

    run(source, out, on_progress=meanwhile)
    # The chunks of the first were not taken away.
    assert refused and out.read_bytes() == undisturbed[0].read_bytes()
    assert os.listdir(tmp_path) == ["out.webm"]


def damage(stream: Path) -> None:
    """Changes one byte in the middle of a stream, as a disk might."""
    data = bytearray(stream.read_bytes())
    data[len(data) // 2] ^= 0x55
    stream.write_bytes(data)


def test_a_chunk_that_is_not_what_was_written_is_made_again(
    source: Path, undisturbed: tuple[Path, EncodeReport], tmp_path: Path
) -> None:
    def stop(step: Progress) -> None:
        if step.phase == "mux":
            raise KeyboardInterrupt

    out = tmp_path / "out.webm"
    with pytest.raises(KeyboardInterrupt):
        run(source, out, on_progress=stop)
    (stream,) = tmp_path.glob(".out.webm.*/00001.0.ivf")
    damage(stream)
    kept: list[int] = []

    def note_kept(step: Progress) -> None:
        if step.phase == "second pass":
            kept.append(step.done)

    run(source, out, on_progress=note_kept)
    assert 40 <= max(count for count in kept if count < FRAMES) < FRAMES
    assert out.read_bytes() == undisturbed[0].read_bytes()


@pytest.mark.parametrize("what", ["chunk", "joined stream"])
def test_what_is_damaged_later_is_found(
    source: Path, undisturbed: tuple[Path, EncodeReport], tmp_path: Path, what: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    join = FilmPhases.join

    def joined(self: FilmPhases, turns: Mapping[int, int], output: Path) -> int:
        if what == "chunk":
            damage(self._files.stream(1, turns[1]))
        size = join(self, turns, output)
        if what == "joined stream":
            damage(output)
        return size

    out = tmp_path / "out.webm"
    with monkeypatch.context() as patch:
        patch.setattr(FilmPhases, "join", joined)
        if what == "chunk":
            with pytest.raises(EncoderError, match=r"chunk 1 in .* is gone or damaged"):
                run(source, out)
        else:
            with pytest.raises(OutputError, match=r"picture \d+ .* is not what the encoder made"):
                run(source, out)
            (tmp_path / "out.ivf").unlink()
    run(source, out)
    assert os.listdir(tmp_path) == ["out.webm"]
    assert out.read_bytes() == undisturbed[0].read_bytes()


def test_a_clip_that_is_not_cut_has_the_bytes_of_one_encode(source: Path, tmp_path: Path) -> None:
    report = run(source, tmp_path / "out.webm", max_frames=40, workers=2)
    clip = Clip.load(source, max_frames=40)
    whole = encode_clip(clip, SETTINGS, make_policy("landed")).rollout
    assert report.chunks == 1 and report.sha256 == whole.stream.sha256


@pytest.mark.parametrize(("passes", "decoded"), [(2, 3), (3, 4)])
def test_a_film_is_decoded_once_a_pass(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, passes: Any, decoded: int
) -> None:
    monkeypatch.setenv("MUZERO_RC_CACHE", str(tmp_path / "cache"))
    opened: list[str] = []
    phase = "start"
    plain = video.open_decoder

    def counted(*args: Any, **options: Any) -> Any:
        opened.append(phase)
        return plain(*args, **options)

    def on_progress(step: Progress) -> None:
        nonlocal phase
        phase = step.phase

    monkeypatch.setattr(video, "open_decoder", counted)
    settings, policy = SETTINGS.replace(target_kbps=60, passes=passes), make_policy("landed")
    out = tmp_path / "out.webm"
    done = encode(source, out, settings, policy, workers=2, on_progress=on_progress)
    assert done.chunks == 3
    # The first one decodes no more than a frame, for size and depth; further ones are of repairs.
    assert sum(phase != "second pass" for phase in opened) == decoded


def test_a_file_that_promises_too_many_frames_is_a_clip(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cut_module, "WHOLE_FRAMES", 70)
    plain = run(source, tmp_path / "plain.webm")
    monkeypatch.setattr("muzero_rc.encode.file_encode._expected", lambda info, most: 71)
    for passes in (2, 3):
        settings = SETTINGS.replace(passes=passes)
        policy = make_policy("landed")
        done = encode(source, tmp_path / f"{passes}.webm", settings, policy)
        assert done.chunks == plain.chunks == 1 and done.frames == FRAMES
    assert (tmp_path / "3.webm").read_bytes() == (tmp_path / "plain.webm").read_bytes()


def test_parts_of_a_streamed_clip_are_its_frames(source: Path) -> None:
    whole = Clip.load(source)
    streamed = Clip.load(source, memory_limit_bytes=10_000)
    with pytest.raises(InputError, match="may be changing"):
        list(streamed.parts([30, 20]))
    with pytest.raises(InputError, match="it had more before"):
        list(streamed.parts([30, 40]))
    for clip in (whole, streamed):
        parts = list(clip.parts([30, 36]))
        frames = [part.frame(i) for part in parts for i in range(part.num_frames)]
        assert all((frame == whole.frame(i)).all() for i, frame in enumerate(frames))
        assert len({part.sha256 for part in parts}) == 2


def test_the_command_says_what_is_kept(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from muzero_rc.encode import passes

    finished = 0

    def stopped(*given: Any, **_: object) -> None:
        for index in range(finished):
            given[4].stream(index, 0).touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(passes, "encode_chunks", stopped)
    words = ["encode", str(source), "-o", str(tmp_path / "o.webm"), "-b", "60k", "--speed", "5"]
    words += ["-p", "landed", "-q"]
    assert cli.main(words) == 130
    assert "error: stopped\n" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []
    finished = 1
    assert cli.main(words) == 130
    assert "stopped; 1 finished chunks are kept; the same command" in capsys.readouterr().err
    (folder,) = tmp_path.glob(".o.webm.*")
    assert os.listdir(folder) == ["00000.0.ivf"]
    finished = 0
    assert cli.main([*words, "--no-resume"]) == 130
    assert "error: stopped\n" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


@pytest.fixture(scope="module")
def varying(make_video: MakeVideo) -> Path:
    """48x32, 10 bits, in noise, with sound: 70 frames at 25 a second, then every third of 60."""
    return make_video(
        "varying.mp4", "-vf", "noise=alls=12:allf=t,select='lt(n,70)+not(mod(n,3))'",
        "-fps_mode", "vfr", "-c:v", "libx264", "-preset", "ultrafast", "-qp", "4",
        "-pix_fmt", "yuv420p10le", "-c:a", "aac", size="48x32", seconds=5.2, sound=True,
    )  # fmt: skip


def times_and_depth(path: Path) -> tuple[list[float], str]:
    """Times of the frames and their pixel format, as ffprobe tells them."""
    words = ["ffprobe", "-v", "error", "-select_streams", "v", "-of", "csv=p=0", "-show_entries"]
    asked = [["packet=pts_time"], ["stream=pix_fmt"]]
    told = [
        subprocess.run([*words, *what, path], check=True, capture_output=True, text=True).stdout
        for what in asked
    ]
    return sorted(float(line.strip(",")) for line in told[0].split()), told[1].strip()


def first_picture(path: Path, start_s: float = 0.0) -> npt.NDArray[np.int16]:
    """Luma of the first frame from a time on, 48x32 in 8 bits, by stock ffmpeg."""
    words = ["ffmpeg", "-v", "error", "-ss", f"{start_s}", "-i", path, "-frames:v", "1"]
    raw = subprocess.run(
        [*words, "-f", "rawvideo", "-pix_fmt", "gray", "-"], check=True, capture_output=True
    ).stdout
    return np.frombuffer(raw, np.uint8).reshape(32, 48).astype(np.int16)


@pytest.mark.slow
def test_a_filtered_stretch_of_varying_rate_and_ten_bits_goes_on_after_kill_9(
    varying: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each of these is part of what a film is known by, and of how it is read a second time."""
    script = (
        "import sys\n"
        "from muzero_rc.encode import cut\n"
        "cut.WHOLE_FRAMES, cut.LEAST_FRAMES = 40, 20\n"
        "from muzero_rc.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    outs = [tmp_path / name / "out.mkv" for name in ("killed", "undisturbed")]
    words = ["-b", "60k", "--speed", "5", "--keyint", "22", "--start", "0.4", "--vf", "hflip"]
    commands = []
    for out in outs:
        out.parent.mkdir()
        commands.append(["encode", str(varying), "-o", str(out), *words])
    killed = subprocess.Popen([sys.executable, "-c", script, *commands[0], "-q"])
    while killed.poll() is None and not list(outs[0].parent.glob(".out.mkv.*/*.0.npz")):
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL and not outs[0].exists()
    capsys.readouterr()
    assert cli.main([*commands[0], "--json"]) == 0
    *steps, result = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert next(s["frames_done"] for s in steps if s["phase"] == "second pass") >= 20
    assert result["chunks"] == 3
    assert cli.main([*commands[1], "-q"]) == 0
    assert outs[0].read_bytes() == outs[1].read_bytes()
    assert [os.listdir(out.parent) for out in outs] == [["out.mkv"]] * 2
    found, depth = times_and_depth(outs[0])
    source = [t for t in times_and_depth(varying)[0] if t >= 0.4 - 1e-6]
    assert depth == "yuv420p10le" and len(found) == len(source) == result["frames"]
    assert np.diff(found) == pytest.approx(np.diff(source), abs=0.0011)
    seen, right = first_picture(outs[0]), first_picture(varying, start_s=0.4)
    assert np.abs(seen - right[:, ::-1]).mean() < 0.3 * np.abs(seen - right).mean()
