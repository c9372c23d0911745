"""An encoder with a known rate-distortion law, for the tests; picklable by import."""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.errors import EncoderError, InputError
from muzero_rc.evaluation.grid.encoder import ClipInfo, ClipSource, Method
from muzero_rc.evaluation.results import EncodeRecord

DB_PER_DOUBLING = 3.5
DB_AT_100_KBPS = 34.0


def law_db(kbps: float, saving: float = 0.0) -> float:
    """PSNR at a rate; `saving` 0.1 needs 10 % less rate for the same PSNR."""
    return DB_AT_100_KBPS + DB_PER_DOUBLING * math.log2(kbps / (1.0 - saving) / 100.0)


def measured(metric: str, db: float) -> dict[str, float]:
    """A metric that follows PSNR: SSIM by 1 - 10^(-db / 25), VMAF by 2.2 points a dB."""
    mean = 1 - 10 ** (-db / 25) if "ssim" in metric else min(2.2 * db, 100.0)
    return {"mean": mean, "worst": mean / 2, "p5": mean / 2, "deviation": 0.1, "last_second": mean}


@dataclass
class FakeEncoder:
    """Follows `law_db`; files of the sources hold their content as text.

    The method's spec says how: `save:0.1` saves 10 %, `over:0.02` overshoots by 2 %,
    `fail` raises, `die` ends the process, `bug` raises a plain exception; anything else
    is VBR. `log` collects a file for each call, so calls can be counted across processes.
    """

    log: Path
    nap_s: float = 0.0
    lowest_kbps: float = 1.0
    highest_kbps: float = 1e9
    contents: dict[str, str] = field(default_factory=dict)

    def open(self, source: ClipSource) -> ClipInfo:
        self._note("open", source.name)
        text = source.path.read_text()
        if text == "corrupt":
            raise InputError(f"{source.path} is not a video")
        self.contents[source.name] = hashlib.sha256(text.encode()).hexdigest()
        return ClipInfo(
            name=source.name, path=str(source.path), sha256=self.contents[source.name],
            width=176, height=144, fps="25/1", frames=50, duration_s=2.0,
        )  # fmt: skip

    def encode(
        self,
        source: ClipSource,
        method: Method,
        settings: EncoderSettings,
        key: str,
        metrics: Sequence[str] = (),
        *,
        stream: Path | None = None,
    ) -> EncodeRecord:
        self._note("encode", f"{source.name}-{method.name}-{settings.target_kbps}")
        time.sleep(self.nap_s)
        if source.name not in self.contents:
            self.open(source)
        what, _, value = method.spec.partition(":")
        if what == "fail":
            raise EncoderError("the encoder refused")
        if what == "bug":
            raise ZeroDivisionError("a bug\nin two lines")
        if what == "die":
            os.abort()
        wanted = settings.target_kbps * (1.0 + (float(value) if what == "over" else 0.0))
        kbps = min(max(wanted, self.lowest_kbps), self.highest_kbps)
        db = law_db(kbps, float(value) if what == "save" else 0.0)
        return EncodeRecord(
            clip=source.name, method=method.name, target_kbps=settings.target_kbps,
            actual_kbps=kbps, bytes=round(kbps * 250.0), psnr_avg=db, psnr_overall=db - 0.5,
            psnr_y=db - 1.0, psnr_worst=db - 3.0, psnr_p5=db - 2.0, psnr_deviation=1.0,
            psnr_last_second=db, seconds=1.0, decision_seconds=0.0 if what == "vbr" else 0.05,
            preparation_seconds=0.0, frames=50, coded_frames=60, qindex=[100] * 60,
            sha256=hashlib.sha256(f"{kbps} {db}".encode()).hexdigest(),
            clip_sha256=self.contents[source.name], settings=settings.as_dict(), key=key,
            quality={name: measured(name, db) for name in metrics},
        )  # fmt: skip

    def _note(self, kind: str, what: str) -> None:
        (self.log / f"{kind}-{what}-{os.getpid()}-{time.monotonic_ns()}").touch()

    def calls(self, kind: str) -> list[str]:
        """What was called, over all processes, in order of time."""
        found = sorted(self.log.glob(f"{kind}-*"), key=lambda p: int(p.name.rsplit("-", 1)[1]))
        return [p.name.rsplit("-", 2)[0].split("-", 1)[1] for p in found]


def square(value: int) -> int:
    """A task: 13 ends its process, a negative number is refused."""
    if value == 13:
        os._exit(3)
    if value < 0:
        raise InputError(f"{value} is\nnegative")
    return value * value
