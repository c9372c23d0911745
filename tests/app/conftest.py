"""Videos made by ffmpeg for the application's tests."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

MakeVideo = Callable[..., Path]


@pytest.fixture(autouse=True)
def _private_cache(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUZERO_RC_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def ffmpeg(*words: str | Path) -> str:
    """Runs ffmpeg, which must succeed, and returns what it printed on both outputs."""
    done = subprocess.run(
        ["ffmpeg", "-nostdin", "-y", "-hide_banner", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="session")
def make_video(tmp_path_factory: pytest.TempPathFactory) -> MakeVideo:
    """make_video("name.mkv", *options, size=, rate=, seconds=, sound=): a moving test card."""
    folder = tmp_path_factory.mktemp("videos")

    def make(
        name: str,
        *options: str,
        size: str = "96x64",
        rate: str = "25",
        seconds: float = 1,
        sound: bool = False,
    ) -> Path:
        path = folder / name
        inputs = ["-f", "lavfi", "-i", f"testsrc2=s={size}:r={rate}:d={seconds}"]
        if sound:
            inputs += ["-f", "lavfi", "-i", f"sine=f=440:d={seconds}", "-c:a", "aac"]
        ffmpeg(*inputs, *(options or ("-c:v", "libx264", "-preset", "ultrafast")), path)
        return path

    return make


@pytest.fixture(scope="session")
def clip_file(make_video: MakeVideo) -> Path:
    """96x64, 25 frames, with sound."""
    return make_video("clip.mp4", sound=True)


@pytest.fixture(scope="session")
def scenes_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """160x90, 125 frames, 25 a second; scenes begin at 50 and 85, and the last stands still."""
    path = tmp_path_factory.mktemp("scenes") / "scenes.mp4"
    ffmpeg(
        "-f", "lavfi", "-i", "testsrc2=s=160x90:r=25:d=2",
        "-f", "lavfi", "-i", "testsrc2=s=160x90:r=25:d=1.4,negate,vflip",
        "-f", "lavfi", "-i", "smptebars=s=160x90:r=25:d=1.6",
        "-filter_complex", "[0:v][1:v][2:v]concat=n=3:v=1:a=0", "-pix_fmt", "yuv420p",
        "-c:v", "libx264", path,
    )  # fmt: skip
    return path


@pytest.fixture(scope="session")
def scenes_again_file(scenes_file: Path) -> Path:
    """A stretch of the first scene, smaller and compressed again."""
    path = scenes_file.with_name("again.mp4")
    ffmpeg("-i", scenes_file, "-ss", "0.2", "-t", "1.6", "-vf", "scale=128:72", "-crf", "32", path)
    return path


@pytest.fixture(scope="session")
def damaged_file(make_video: MakeVideo) -> Path:
    """A video whose index is fine and whose frames are not."""
    path = make_video(
        "damaged.mp4", "-c:v", "libx264", "-movflags", "+faststart", size="320x180", seconds=2
    )
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = bytes(range(256)) * 11 + bytes(184)
    path.write_bytes(data)
    return path
