"""The check of a finished file in parts: the same verdict as of a decode of the whole."""

from __future__ import annotations

import os
import re
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from muzero_rc import video
from muzero_rc.encode.film import encode
from muzero_rc.env.control.baselines import ProposalPolicy
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.errors import OutputError
from muzero_rc.video import decoded
from muzero_rc.video.tools import Child

FRAMES, STEP = 1000, 50  # of the film, and between its key frames
IVF_HEADER, IVF_FRAME = struct.Struct("<32s"), struct.Struct("<IQ")  # bytes, time stamp
FORMATS = ("webm", "mkv", "mp4")
VP9 = ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-g", str(STEP),
       "-lag-in-frames", "0")  # fmt: skip
SRT = "1\n00:00:00,100 --> 00:00:30,000\nfirst\n\n2\n00:00:31,000 --> 00:00:32,000\nsecond\n"


def ffmpeg(*words: str | Path) -> None:
    subprocess.run(["ffmpeg", "-nostdin", "-y", "-v", "error", *words], check=True, timeout=120)


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1000 frames of a moving test card, a key frame at every fiftieth."""
    path = tmp_path_factory.mktemp("film") / "film.ivf"
    ffmpeg("-f", "lavfi", "-i", f"testsrc2=s=64x48:r=25:d={FRAMES // 25}", *VP9, path)
    return path


@pytest.fixture(scope="module")
def pictures(stream: Path) -> Sequence[int]:
    return decoded.decode_whole(stream).checksums


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """What is started to decode, in order."""
    started: list[Sequence[str]] = []

    class Noted(Child):
        def __init__(self, command: Sequence[str], **options: Any) -> None:
            started.append(command)
            super().__init__(command, **options)

    monkeypatch.setattr(decoded, "Child", Noted)
    return started


def verdict(path: Path, pictures: Sequence[int], workers: int) -> str:
    """What the check says; an empty text if nothing."""
    seen: list[int] = []
    promise = video.Promise(len(pictures), pictures=pictures)
    try:
        video.verify(path, promise, workers=workers, on_progress=seen.append)
    except OutputError as error:
        return str(error)
    finally:
        assert seen == sorted(set(seen))
    assert seen[-1] == len(pictures)
    return ""


def ways(commands: Sequence[Sequence[str]]) -> str:
    """`b` is what reads all beside the parts, `p` a part, `w` a decode of the whole."""
    whole = "b" if not commands else ""
    for command in commands:
        whole += "b" if "copy" in command and "framecrc" not in command else (
            "p" if "-copyts" in command else "w"
        )  # fmt: skip
    return whole


def edited(stream: Path, out: Path, change: Any) -> Path:
    """An IVF file of the packets that `change` makes of a list of them."""
    data = stream.read_bytes()
    packets, at = [], IVF_HEADER.size
    while at < len(data):
        size, _ = IVF_FRAME.unpack_from(data, at)
        packets.append(data[at : at + IVF_FRAME.size + size])
        at += IVF_FRAME.size + size
    out.write_bytes(data[: IVF_HEADER.size] + b"".join(change(packets)))
    return out


def with_packet(stream: Path, out: Path, number: int, data: bytes) -> Path:
    """An IVF file one of whose packets has other data."""

    def change(packets: list[bytes]) -> list[bytes]:
        _, time = IVF_FRAME.unpack_from(packets[number])
        packets[number] = IVF_FRAME.pack(len(data), time) + data
        return packets

    return edited(stream, out, change)


def packet(stream: Path, number: int) -> bytes:
    found: list[bytes] = []

    def change(packets: list[bytes]) -> list[bytes]:
        found.append(packets[number][IVF_FRAME.size :])
        return packets

    edited(stream, stream.with_name("same.ivf"), change)
    return found[0]


@pytest.mark.parametrize("late", ["0", "0.77"])
@pytest.mark.parametrize("suffix", FORMATS)
def test_parts_prove_a_film_with_all_tracks(
    stream: Path,
    pictures: Sequence[int],
    commands: list[Sequence[str]],
    tmp_path: Path,
    suffix: str,
    late: str,
) -> None:
    (tmp_path / "s.srt").write_text(SRT)
    codec = {"webm": "webvtt", "mkv": "subrip", "mp4": "mov_text"}[suffix]
    path = tmp_path / f"film.{suffix}"
    ffmpeg("-itsoffset", late, "-i", stream, "-f", "lavfi", "-i", "sine=d=40",
           "-i", tmp_path / "s.srt", "-map", "0", "-map", "1", "-map", "2", "-c:v", "copy",
           "-c:a", "libopus", "-c:s", codec, path)  # fmt: skip
    assert verdict(path, pictures, 1) == ""
    assert ways(commands) == "w"
    commands.clear()
    assert verdict(path, pictures, 3) == ""
    assert ways(commands) == "bppp"
    beside = commands[0]
    assert [beside[n + 1] for n, word in enumerate(beside) if word == "-map"] == [
        "0:v:0", "0:1", "0:2",
    ]  # fmt: skip


def test_what_has_no_proof_is_decoded_whole(
    stream: Path, pictures: Sequence[int], commands: list[Sequence[str]], tmp_path: Path
) -> None:
    path, short = tmp_path / "film.webm", tmp_path / "short.webm"
    ffmpeg("-i", stream, "-c", "copy", path)
    ffmpeg("-i", stream, "-c", "copy", "-frames:v", "599", short)
    video.verify(path, FRAMES, workers=4)
    assert verdict(short, pictures[:599], 4) == ""
    assert ways(commands) == "ww"


def test_a_picture_that_is_another_is_told_as_by_the_whole_decode(
    stream: Path, pictures: Sequence[int], commands: list[Sequence[str]], tmp_path: Path
) -> None:
    path = tmp_path / "film.webm"
    ffmpeg("-i", stream, "-c", "copy", path)
    for number in (500, 649, 650):
        promised = list(pictures)
        promised[number] ^= 1
        commands.clear()
        told = verdict(path, promised, 3)
        assert told.startswith(f"picture {number} (0:{number // 25:02}.")
        assert told.endswith("; 1 of 1000 pictures differ")
        assert ways(commands) == "bpppw"


@pytest.mark.parametrize(("suffix", "number"), [("webm", 800), ("mkv", 350), ("mp4", 640)])
def test_damage_is_told_as_by_the_whole_decode(
    stream: Path, pictures: Sequence[int], tmp_path: Path, suffix: str, number: int
) -> None:
    path = tmp_path / f"film.{suffix}"
    ffmpeg("-i", stream, "-c", "copy", path)
    good, damaged = path.read_bytes(), packet(stream, number)
    at = good.index(damaged)
    for start, junk in ((at + len(damaged) // 2, bytes(8)), (at, b"\xff" * 8)):
        path.write_bytes(good[:start] + junk + good[start + len(junk) :])
        told = verdict(path, pictures, 3)
        assert told != "" and told == verdict(path, pictures, 1)
    path.write_bytes(good[:at])
    told = verdict(path, pictures, 3)
    assert told != "" and told == verdict(path, pictures, 1)


def test_damaged_sound_is_told_as_by_the_whole_decode(
    stream: Path, pictures: Sequence[int], tmp_path: Path
) -> None:
    path, tone = tmp_path / "film.mkv", tmp_path / "tone.flac"
    ffmpeg("-f", "lavfi", "-i", "sine=d=40", tone)
    ffmpeg("-i", stream, "-i", tone, "-map", "0", "-map", "1", "-c", "copy", path)
    assert verdict(path, pictures, 3) == ""
    sound = tone.read_bytes()
    sample = sound[len(sound) * 3 // 4 :][:64]
    path.write_bytes(path.read_bytes().replace(sample, bytes(64)))
    told = verdict(path, pictures, 3)
    assert "does not decode" in told and told == verdict(path, pictures, 1)


# The first of them is the last one of a part.
@pytest.mark.parametrize(("suffix", "number"), [("webm", 649), ("mp4", 800)])
def test_a_missing_frame_is_told_as_by_the_whole_decode(
    stream: Path, pictures: Sequence[int], tmp_path: Path, suffix: str, number: int
) -> None:
    path = tmp_path / f"film.{suffix}"
    less = edited(stream, tmp_path / "less.ivf", lambda all: all[:number] + all[number + 1 :])
    ffmpeg("-i", less, "-c", "copy", path)
    told = verdict(path, pictures, 3)
    assert "999 frames instead of 1000" in told and told == verdict(path, pictures, 1)


def test_a_picture_too_many_between_two_parts_is_found(
    commands: list[Sequence[str]], tmp_path: Path
) -> None:
    """All pictures are alike, and one packet shows its picture twice, before a key frame."""
    still, path = tmp_path / "still.ivf", tmp_path / "still.webm"
    ffmpeg("-f", "lavfi", "-i", "color=gray:s=64x48:r=25:d=40", *VP9, still)
    ffmpeg("-i", still, "-c", "copy", path)
    alike = [decoded.decode_whole(still).checksums[0]] * FRAMES
    assert verdict(path, alike, 2) == ""
    assert ways(commands).endswith("bpp")
    cut = decoded.parts_at_keys([(n, n / 25) for n in range(0, FRAMES, STEP)], FRAMES, 2)[1].first
    frame = packet(still, cut - 1)
    # Frame marker, profile 0, show_existing_frame, buffer 0; then VP9's index of a superframe.
    again, mark = b"\x88", 0b11001001
    sizes = b"".join(len(one).to_bytes(2, "little") for one in (frame, again))
    index = bytes([mark]) + sizes + bytes([mark])
    twice = with_packet(still, tmp_path / "twice.ivf", cut - 1, frame + again + index)
    ffmpeg("-i", twice, "-c", "copy", path)
    commands.clear()
    told = verdict(path, alike, 2)
    assert told == "the encoded video has 1001 frames instead of 1000"
    assert ways(commands) == "bppw"


def without_cues(data: bytes) -> bytes:
    at = data.index(b"\x1c\x53\xbb\x6b")
    return data[:at] + b"\xec\x08" + data[at + 2 :]


def cues_of_other_times(data: bytes) -> bytes:
    start, end = data.index(b"\x1c\x53\xbb\x6b"), data.index(b"\x1f\x43\xb6\x75")
    times = re.compile(rb"\xb3(\x81.|\x82..)(?=\xb7)", re.DOTALL)
    found = [match[1] for match in times.finditer(data, start, end)]
    two = [time for time in found if time[:1] == b"\x82"]
    order = iter(two[-1:] + two[:-1])
    cues = times.sub(
        lambda match: b"\xb3" + (next(order) if match[1] in two else match[1]), data[start:end]
    )
    return data[:start] + cues + data[end:]


def keys_that_are_none(data: bytes) -> bytes:
    at = data.index(b"stss") + 8  # after the version and flags, the count of key frames
    count = int.from_bytes(data[at : at + 4], "big")
    numbers = [int.from_bytes(data[at + 4 + 4 * n :][:4], "big") for n in range(count)]
    wrong = b"".join((n if n == 1 else n + 7).to_bytes(4, "big") for n in numbers)
    return data[: at + 4] + wrong + data[at + 4 + len(wrong) :]


@pytest.mark.parametrize(
    ("suffix", "lie", "fails"),
    [("webm", without_cues, False), ("webm", cues_of_other_times, True),
     ("mp4", keys_that_are_none, True)],
)  # fmt: skip
def test_an_index_that_lies_costs_time_and_nothing_else(
    stream: Path,
    pictures: Sequence[int],
    commands: list[Sequence[str]],
    tmp_path: Path,
    suffix: str,
    lie: Any,
    fails: bool,
) -> None:
    path = tmp_path / f"film.{suffix}"
    front = ("-cues_to_front", "1") if suffix == "webm" else ()
    ffmpeg("-i", stream, "-c", "copy", *front, path)
    good = path.read_bytes()
    path.write_bytes(lie(good))
    assert path.read_bytes() != good
    assert verdict(path, pictures, 3) == ""
    assert ways(commands) == ("bpppw" if fails else "bppp")


def test_processes_that_cannot_be_started_are_not_needed(
    stream: Path, pictures: Sequence[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "film.webm"
    ffmpeg("-i", stream, "-c", "copy", path)
    made: list[Child] = []

    def few(command: Sequence[str]) -> Child:
        if len([child for child in made if child.process.poll() is None]) == 2:
            raise BlockingIOError("Resource temporarily unavailable")
        made.append(Child(command))
        return made[-1]

    monkeypatch.setattr(decoded, "Child", few)
    assert verdict(path, pictures, 3) == ""
    assert len(made) == 3


@pytest.mark.parametrize("part", [1, 2])
def test_a_part_that_ends_early_proves_nothing(
    stream: Path,
    pictures: Sequence[int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    part: int,
) -> None:
    path = tmp_path / "film.webm"
    ffmpeg("-i", stream, "-c", "copy", path)
    made: list[Sequence[str]] = []

    def less(command: Sequence[str]) -> Child:
        made.append(command)
        if len(made) == 2 + part:  # the first one reads what is beside
            command = [*command[:-1], "-frames:v", "200", command[-1]]
        return Child(command)

    monkeypatch.setattr(decoded, "Child", less)
    assert verdict(path, pictures, 3) == ""
    assert ways(made) == "bpppw"


def test_parts_are_about_alike() -> None:
    keys = [(n, n / 25) for n in range(0, 10_000, 130)]
    parts = decoded.parts_at_keys(keys, 10_000, 7)
    assert len(parts) == 7
    assert [part.first + part.frames for part in parts] == [
        *(part.first for part in parts[1:]), 10_000,
    ]  # fmt: skip
    assert parts[0].first == 0 and parts[0].key_s is None
    assert all((part.first, part.key_s) in keys for part in parts[1:])
    lengths = [part.frames for part in parts]
    assert max(lengths) - min(lengths) <= 2 * 130
    for known, frames, most in (
        ([], 5000, 4),
        (keys, 5000, 1),
        (keys, 599, 4),
        (keys[:1], 5000, 4),
    ):
        assert decoded.parts_at_keys(known, frames, most) == [decoded.Part(0, frames)]
    assert len(decoded.parts_at_keys([(0, 0.0), (900, 36.0)], 1000, 3)) == 1


def test_an_encode_checks_with_its_workers(
    stream: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    real = video.verify

    def verify(path: Path, promise: video.Promise, **options: Any) -> Any:
        if options.get("decode"):
            told.append(options["workers"])
        return real(path, promise, **options)

    monkeypatch.setattr(video, "verify", verify)
    settings = EncoderSettings(target_kbps=100, speed=8, passes=2)
    for suffix in ("webm", "mp4", "ivf"):
        encode(stream, tmp_path / f"out.{suffix}", settings, ProposalPolicy(), workers=3,
               max_frames=5)  # fmt: skip
    assert told == [3, 3, 1]


SCRIPT = """
import signal, sys
from pathlib import Path
from muzero_rc.signals import raising_signals
from muzero_rc.video import decoded

decoded._streams_beside = lambda path: []
parts = [decoded.Part(0, 400), decoded.Part(400, 600, 16.0)]
with raising_signals([signal.SIGTERM]):
    decoded.shows_in_parts(Path(sys.argv[1]), parts, [0] * 1000)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_decoder_outlives_the_check(tmp_path: Path, number: signal.Signals) -> None:
    pipe = tmp_path / "never-written.webm"  # whoever reads it waits for ever
    os.mkfifo(pipe)
    below: list[psutil.Process] = []
    words = [sys.executable, "-c", SCRIPT, pipe]
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as checking:
        try:
            deadline = time.monotonic() + 60
            while sum(child.name() == "ffmpeg" for child in below) < 3:
                assert time.monotonic() < deadline and checking.poll() is None
                time.sleep(0.02)
                below = psutil.Process(checking.pid).children(recursive=True)
            checking.send_signal(number)
            _, living = psutil.wait_procs(below, timeout=20)
            assert not living
            assert checking.wait(20) != 0
        finally:
            checking.kill()
            for child in below:
                if child.is_running():
                    child.kill()


def test_an_error_ends_all_decoders(
    stream: Path, pictures: Sequence[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "film.webm"
    ffmpeg("-i", stream, "-c", "copy", path)
    made: list[Child] = []

    def noted(command: Sequence[str]) -> Child:
        made.append(Child(command))
        return made[-1]

    def stop(frames: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(decoded, "Child", noted)
    with pytest.raises(KeyboardInterrupt):
        video.verify(path, video.Promise(FRAMES, pictures=pictures), workers=3, on_progress=stop)
    assert len(made) == 4 and all(child.process.poll() is not None for child in made)
