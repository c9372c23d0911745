"""Results with a known rate-distortion law, and a small real evaluation with its streams."""

from __future__ import annotations

import hashlib
import math
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from muzero_rc.cli.main import main
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.evaluation.measure.summary import compare, mark_targets, summarize
from muzero_rc.evaluation.results import EncodeRecord, Failure, Results
from muzero_rc.types import UpdateType

MakeResults = Callable[..., Results]

TARGETS = (100, 200, 400, 800, 1600)
FRAMES = 12


def law_db(kbps: float, saving: float) -> float:
    """PSNR at a rate; `saving` 0.1 needs 10% less rate for the same PSNR."""
    return 34.0 + 3.5 * math.log2(kbps / (1.0 - saving) / 100.0)


def trace(qindex: int) -> dict[str, Any]:
    """A key frame, a hidden reference, leaves, and the reference shown again."""
    coded = FRAMES + 1
    types = [UpdateType.KEY, UpdateType.ARF, *[UpdateType.LEAF] * (FRAMES - 2), UpdateType.USE_BUF]
    return {
        "show_index": [0, FRAMES - 1, *range(1, FRAMES - 1), FRAMES - 1],
        "update_type": [int(t) for t in types],
        "shown": [1, 0, *[1] * (FRAMES - 1)],
        "layer": [0, 1, *[2] * (FRAMES - 2), -1],
        "qindex": [qindex] * FRAMES + [-1],
        "proposal": [qindex + 2] * FRAMES + [-1],
        "bits": [9000, 4000, *[700] * (coded - 3), 16],
        "psnr": [40.0 - 0.1 * i for i in range(coded)],
    }


@pytest.fixture(scope="session")
def make_results() -> MakeResults:
    """make_results({clip: {method: saving}}, over={method: share}, frames=True).

    By method: `specs`, the `changes` it was asked for, the settings that its policy `wished` for,
    and the `seconds` of an encode.
    """

    def make(
        clips: Mapping[str, Mapping[str, float]],
        *,
        over: Mapping[str, float] | None = None,
        frames: bool = True,
        failures: list[Failure] | None = None,
        specs: Mapping[str, str] | None = None,
        changes: Mapping[str, Mapping[str, Any]] | None = None,
        wished: Mapping[str, Mapping[str, Any]] | None = None,
        seconds: Mapping[str, float] | None = None,
        command: str = "muzero-rc evaluate clips",
    ) -> Results:
        over, specs, changes = over or {}, specs or {}, changes or {}
        wished, seconds = wished or {}, seconds or {}
        encodes = []
        for clip, savings in clips.items():
            for target in TARGETS:
                for method, saving in {"vbr": 0.0, **savings}.items():
                    kbps = target * (1.0 + over.get(method, 0.0))
                    db = law_db(kbps, saving)
                    text = f"{clip} {method} {target}"
                    used = EncoderSettings(target_kbps=target, speed=5).replace(
                        **{**wished.get(method, {}), **changes.get(method, {})}
                    )
                    encodes.append(
                        EncodeRecord(
                            clip=clip, method=method, target_kbps=target, actual_kbps=kbps,
                            bytes=round(kbps * 60), psnr_avg=db, psnr_overall=db - 0.5,
                            psnr_y=db - 1.0, psnr_worst=db - 3.0, psnr_p5=db - 2.0,
                            psnr_deviation=1.0, psnr_last_second=db,
                            seconds=seconds.get(method, 1.0), decision_seconds=0.05,
                            preparation_seconds=0.0, frames=FRAMES, coded_frames=FRAMES,
                            qindex=[100] * FRAMES,
                            sha256=hashlib.sha256(text.encode()).hexdigest(),
                            clip_sha256=hashlib.sha256(clip.encode()).hexdigest(),
                            settings=used.as_dict(),
                            key=hashlib.sha256(text.encode()).hexdigest()[:40],
                            trace=trace(60 + target // 20) if frames else None,
                        )
                    )  # fmt: skip
        methods = list(dict.fromkeys(e.method for e in encodes))
        targets = mark_targets([(c, t) for c in clips for t in TARGETS], encodes)
        bd = compare(encodes, list(clips), methods)
        described = [
            {
                "name": clip, "path": f"clips/{clip}.mp4", "width": 64, "height": 48,
                "fps": "25/1", "frames": FRAMES, "duration_s": FRAMES / 25,
                "sha256": hashlib.sha256(clip.encode()).hexdigest(),
            }
            for clip in clips
        ]  # fmt: skip
        return Results(
            settings={
                "encoder": EncoderSettings(target_kbps=1, speed=5).as_dict(),
                "build": "libvpx of a test", "targets": list(TARGETS), "clips": described,
                "methods": [
                    {
                        "name": m, "spec": specs.get(m, m), "fingerprint": m,
                        "changes": dict(changes.get(m, {})),
                    }
                    for m in methods
                ],
                "scale": 48, "max_frames": FRAMES, "jobs": 1, "command": command,
                "environment": {"python": "3.11"},
            },
            encodes=encodes,
            targets=targets,
            failures=failures or [],
            bd_rate=bd,
            summary=summarize(encodes, targets, bd, methods),
        )  # fmt: skip

    return make


THREE = {
    "one": {"proposal": 0.05, "mine": 0.10},
    "two": {"proposal": 0.02, "mine": 0.08},
    "three": {"proposal": 0.03, "mine": 0.12},
}


@pytest.fixture
def three(make_results: MakeResults) -> Results:
    """Three clips on which `mine` saves 8 to 12%, the control 2 to 5%."""
    return make_results(THREE, over={"mine": 0.02, "vbr": 0.08})


def _video(path: Path, source: str) -> None:
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", source, "-c:v", "libx264",
               "-preset", "ultrafast", str(path)]  # fmt: skip
    subprocess.run(command, check=True, timeout=240)


@pytest.fixture(scope="session")
def real_results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of an evaluation of three made clips, one with a hostile name, and streams."""
    folder = tmp_path_factory.mktemp("real")
    clips = folder / "clips"
    clips.mkdir()
    _video(clips / "alpha card.mp4", "testsrc2=s=160x96:r=25:d=2")
    _video(clips / "beta <img src=x onerror=hacked=1>.mp4", "mandelbrot=s=160x96:r=25,trim=end=2")
    _video(clips / "gamma.mp4", "testsrc=s=160x96:r=25:d=2,noise=alls=12:allf=t")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MUZERO_RC_CACHE", str(folder / "cache"))
        status = main(
            ["evaluate", str(clips), "--policy", "cq:20", "--frames", "40", "--speed", "7",
             "--targets", "50,90,160,280", "--jobs", "1", "--keep-streams", "--quiet",
             "--out", str(folder / "out")]
        )  # fmt: skip
    assert status == 0
    return folder / "out"
