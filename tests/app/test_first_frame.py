"""What pixel formats and first frames tell, held to ffprobe's words."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from muzero_rc import video
from muzero_rc.video.pixel_formats import bit_depth_of, has_alpha, is_rgb, subsampling_of
from tests.app.test_whole_file import ffmpeg

MakeVideo = Callable[..., Path]
_SUBSAMPLING = {(0, 0): "444", (0, 1): "440", (1, 0): "422", (2, 0): "411", (2, 2): "410"}


def test_names_of_pixel_formats_say_what_ffprobe_says() -> None:
    done = subprocess.run(
        ["ffprobe", "-v", "error", "-show_pixel_formats", "-of", "json"],
        capture_output=True, check=True,
    )  # fmt: skip
    wrong = []
    for told in json.loads(done.stdout)["pixel_formats"]:
        name, flags = told["name"], told["flags"]
        if flags["hwaccel"]:
            continue
        depth = max(8, *(part["bit_depth"] for part in told["components"][:3]), 0)
        if name.startswith("bayer") and "16" in name:
            depth = 16  # ffmpeg counts its components by quarters
        rgb = bool(flags["rgb"] or flags["palette"]) or name.startswith("xyz")
        chroma = None
        if told["nb_components"] >= 3 and not rgb:
            chroma = _SUBSAMPLING.get((told["log2_chroma_w"], told["log2_chroma_h"]))
        right = (depth, rgb, bool(flags["alpha"]), chroma)
        ours = (bit_depth_of(name), is_rgb(name), has_alpha(name), subsampling_of(name))
        if ours != right:
            wrong.append((name, ours, right))
    assert not wrong


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("quiet.avi", ("-c:v", "mpeg4")),
        ("wrong.mkv", ("-c:v", "libx264", "-x264opts", "tff=1")),
        ("wrong.mov", ("-c:v", "prores_ks", "-profile:v", "0")),
    ],
)
def test_interlaced_frames_under_a_header_that_says_otherwise(
    make_video: MakeVideo, name: str, codec: tuple[str, ...]
) -> None:
    fields = ("-vf", "tinterlace=4,setfield=tff", "-flags", "+ilme+ildct")
    source = make_video(name, *codec, *fields, rate="50", seconds=0.4)
    plain = make_video(f"plain-{name}", *codec[:2], seconds=0.2)
    assert "interlaced video is deinterlaced" in video.losses(video.probe(source), video.MuxPlan())
    assert not video.probe(plain).interlaced


@pytest.fixture(scope="module")
def captioned_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MPEG-2 with EIA-608 in the user data of each picture."""
    folder = tmp_path_factory.mktemp("captions")
    card = ("-f", "lavfi", "-i", "testsrc2=s=96x64:r=30000/1001:d=0.4")
    ffmpeg(*card, "-c:v", "mpeg2video", "-bf", "0", folder / "bare.m2v")
    said = b"\x00\x00\x01\xb2GA94\x03\x41\xff\xfc\x94\x20\xff"
    coding = re.compile(rb"(\x00\x00\x01\xb5[\x80-\x8f].*?)(?=\x00\x00\x01)", re.DOTALL)
    data = coding.sub(lambda found: found[1] + said, (folder / "bare.m2v").read_bytes())
    (folder / "cc.m2v").write_bytes(data)
    ffmpeg("-i", folder / "cc.m2v", "-c", "copy", folder / "cc.mov")
    return folder / "cc.mov"


def test_what_pictures_tell_beside_themselves_is_named(
    captioned_file: Path, make_video: MakeVideo, tmp_path: Path
) -> None:
    def told(path: Path) -> list[str]:
        return video.losses(video.probe(path), video.MuxPlan())

    line = "closed captions in the pictures are left out: no output has a place for that"
    assert told(captioned_file) == [line]
    deep = tmp_path / "deep.mkv"
    card = make_video("flat.mkv", size="64x48", seconds=0.1)
    ffmpeg("-i", card, "-c", "copy", "-metadata:s:v", "stereo_mode=left_right", deep)
    assert told(deep) == ["the layout of a 3D video is left out: no output has a place for that"]
    assert told(card) == []
