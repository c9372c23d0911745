"""An encode to a size: not a byte over it, audio and container counted."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from muzero_rc.cli.bitrate import parse_size
from muzero_rc.encode import size as size_module
from muzero_rc.encode.film import Progress
from muzero_rc.encode.size import encode_to_size
from muzero_rc.env.control.baselines import ProposalPolicy
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.errors import InputError, OutputError

FAST = EncoderSettings(target_kbps=1, speed=8, passes=3)


@pytest.fixture(scope="module")
def noisy_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64x48, 30 frames that need bits, with sound."""
    path = tmp_path_factory.mktemp("noise") / "in.mkv"
    subprocess.run(
        ["ffmpeg", "-v", "error", "-f", "lavfi", "-i",
         "testsrc2=s=64x48:r=25:d=1.2,noise=alls=60:allf=t", "-f", "lavfi", "-i", "sine=d=1.2",
         "-c:v", "ffv1", "-c:a", "aac", path],
        check=True,
    )  # fmt: skip
    return path


def test_a_file_is_just_below_its_size(noisy_file: Path, tmp_path: Path) -> None:
    for most in (25_000, 30_001):
        out = tmp_path / "out.webm"
        report = encode_to_size(noisy_file, out, FAST, ProposalPolicy(), most)
        # libvpx's own proposals for a second of video are often low, but never may it be over.
        assert 0.5 * most < out.stat().st_size == report.file_bytes <= most
    assert os.listdir(tmp_path) == ["out.webm"]


def test_one_more_encode_rather_than_a_byte_too_many(
    noisy_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, first = size_module.video_kbps, []

    def far_too_much(*words: object, **options: object) -> int:
        first.append(30 * real(*words, **options))  # type: ignore[arg-type]
        return first[0]

    monkeypatch.setattr(size_module, "video_kbps", far_too_much)
    muxes: list[Progress] = []

    def note(step: Progress) -> None:
        if step.phase == "mux":
            muxes.append(step)

    out = tmp_path / "out.webm"
    report = encode_to_size(noisy_file, out, FAST, ProposalPolicy(), 30_000, on_progress=note)
    assert len(muxes) >= 2
    assert out.stat().st_size <= 30_000
    assert report.target_kbps < first[0]
    assert os.listdir(tmp_path) == ["out.webm"]


def test_a_size_that_cannot_be_is_told(noisy_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.webm"
    with pytest.raises(InputError, match="leaves nothing for the video: all else takes"):
        encode_to_size(noisy_file, out, FAST, ProposalPolicy(), 5_000)
    with pytest.raises((InputError, OutputError), match=r"leaves nothing|no encode fits"):
        encode_to_size(noisy_file, out, FAST, ProposalPolicy(), 1_500, audio="none")
    assert os.listdir(tmp_path) == []


def test_far_more_than_the_clip_needs_is_no_mistake(noisy_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.webm"
    report = encode_to_size(noisy_file, out, FAST, ProposalPolicy(), 2_000_000_000)
    assert report.frames == 30 and out.stat().st_size < 2_000_000
    assert report.target_kbps == 1_000_000


@pytest.mark.parametrize(
    ("text", "size"),
    [("10M", 10_000_000), ("700k", 700_000), ("1.5 GB", 1_500_000_000), ("8MiB", 8 << 20),
     ("1234", 1234), ("2kib", 2048)],
)  # fmt: skip
def test_sizes_as_people_write_them(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "ten", "-5M", "0", "5T", "10 M k", "9" * 310, "99999999999G"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(InputError, match="like 10M or 700k"):
        parse_size(text)
