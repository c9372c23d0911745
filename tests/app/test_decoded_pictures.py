"""What a decoder sees is what the encoder said: pictures, not only their number."""

from __future__ import annotations

import os
import re
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest

from muzero_rc import video
from muzero_rc.encode.film import encode
from muzero_rc.env.codec.session import EncoderSession
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.errors import OutputError
from muzero_rc.policies.registry import make_policy

MakeVideo = Callable[..., Path]


@pytest.fixture(scope="module")
def still_start(make_video: MakeVideo) -> Path:
    """96x64: 13 frames that stand still, then noise."""
    return make_video(
        "still.mkv", "-vf", "loop=12:1:0,noise=alls=20:allf=t:enable=gte(n\\,13),fps=25",
        "-c:v", "ffv1", "-pix_fmt", "yuv420p", seconds=0.84,
    )  # fmt: skip


@pytest.mark.parametrize("auto_alt_ref", [0, 6])
@pytest.mark.parametrize("frame_parallel", [False, True])
def test_frames_shown_again_after_a_key_frame_leave_the_rest_right(
    still_start: Path, tmp_path: Path, auto_alt_ref: int, frame_parallel: bool
) -> None:
    """Without alternate references, all frames from the key frame on may be shown again."""
    settings = EncoderSettings(
        target_kbps=60, speed=8, auto_alt_ref=auto_alt_ref, frame_parallel=frame_parallel
    )
    out = tmp_path / "out.webm"
    report = encode(still_start, out, settings, make_policy("landed"))
    assert sum(result.shows_existing for result in report.results) > 5
    seen = video.measure(out, still_start, ())["psnr"]
    assert statistics.fmean(seen) == pytest.approx(report.psnr_avg, abs=0.02)
    assert report.pictures_compared == report.frames == 33


def test_an_encoder_at_odds_with_decoders_fails_the_check(
    still_start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the session's guard libvpx goes on with other entropy contexts than decoders."""
    never = property(lambda session: False, lambda session, value: None)
    monkeypatch.setattr(EncoderSession, "_only_key", never, raising=False)
    settings = EncoderSettings(target_kbps=60, speed=8, auto_alt_ref=0, frame_parallel=False)
    out = tmp_path / "out.webm"
    with pytest.raises(OutputError) as failed:
        encode(still_start, out, settings, make_policy("landed"))
    told = re.match(
        r"picture (\d+) \(0:0(\d\.\d{3})\) of the finished file is not what the encoder made: "
        r"decoded [0-9a-f]{8} instead of [0-9a-f]{8}; (\d+) of 33 pictures differ; "
        rf"the encoded video is kept as {tmp_path}/out.ivf",
        str(failed.value),
    )
    assert told is not None, failed.value
    first, seconds, wrong = (float(number) for number in told.groups())
    assert first > 13 and seconds == pytest.approx(first / 25) and wrong <= 33 - first
    assert os.listdir(tmp_path) == ["out.ivf"]
    report = encode(still_start, out, settings, make_policy("landed"), verify=False)
    assert report.pictures_compared == 0
