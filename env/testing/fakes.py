"""An encoder made of formulas, behind the protocols of `muzero_rc.env.codec.backend`.

Key frame, then groups of up to eight shown frames under one hidden reference, which the
group's last frame shows again. Rate and error follow the quantizer step as in
rate-distortion theory; a frame is dearer the coarser its reference was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from muzero_rc.env.codec.backend import ClipShape
from muzero_rc.env.codec.settings import CodecSettings
from muzero_rc.types import KEEP, FrameDecision, FrameInfo, FrameResult, GopLimits, UpdateType

GROUP = 8
BOOST = 50  # qindex by which references are finer in the fake's own proposal


@dataclass(frozen=True)
class FakeClip:
    width: int = 176
    height: int = 144
    fps: Fraction = Fraction(25)
    num_frames: int = 30
    name: str = "fake"
    in_memory: bool = True

    @property
    def sha256(self) -> str:
        return hashlib.sha256(repr(self).encode()).hexdigest()

    @property
    def duration_s(self) -> float:
        return float(self.num_frames / self.fps)


@dataclass(frozen=True)
class FakeFirstPass:
    stats: npt.NDArray[np.float64]


def fake_stats(clip: ClipShape, seed: int = 0) -> npt.NDArray[np.float64]:
    """[T, 25] statistics within the ranges of real ones."""
    rng = np.random.default_rng(seed)
    stats = rng.uniform(0.0, 1.0, (clip.num_frames, 25))
    stats[:, 0] = np.arange(clip.num_frames)
    stats[:, 1] += 1.0
    floor = 200.0 / np.sqrt(-(-clip.width // 16) * -(-clip.height // 16))
    stats[:, 2] = floor + rng.uniform(100, 2000, clip.num_frames)
    stats[:, 3] = floor + rng.uniform(1, 200, clip.num_frames)
    stats[:, 4] = stats[:, 3] + rng.uniform(0, 50, clip.num_frames)
    stats[:, 5] = 200.0
    stats[:, 14:16] = 0.0
    stats[:, 16:22] *= 60.0
    stats[:, 23] = 400_000.0
    stats[:, 24] = 1.0
    return stats


@dataclass
class FakeStream:
    num_packets: int
    size_bytes: int
    sha256: str


@dataclass
class Planned:
    info: FrameInfo | None  # None shows the reference again
    show_index: int
    complexity: float


def _step(qindex: int) -> float:
    return 4.0 * 1.02**qindex


def _plan(clip: ClipShape, stats: npt.NDArray[np.float64]) -> list[Planned]:
    """Frames in coding order; proposals are filled in when they are asked for."""
    out: list[Planned] = []
    index = 0

    def code(kind: UpdateType, at: int, shown: bool, place: int, size: int, refs: Any) -> None:
        nonlocal index
        depth = {UpdateType.KEY: 0, UpdateType.ARF: 1}.get(kind, 2)
        info = FrameInfo(
            index, at, kind, shown, place, size, depth, 2, clip.num_frames - at, refs,
            0, 1, 0, 255, 300,
        )  # fmt: skip
        out.append(Planned(info, at, float(stats[at, 2 if index == 0 else 3])))
        index += 1

    code(UpdateType.KEY, 0, True, 0, 1, (-1, -1, -1))
    first = 1
    while first < clip.num_frames:
        last = min(first + GROUP, clip.num_frames) - 1
        size = last - first + 1
        previous = index - 1
        if size > 1:
            arf = index
            code(UpdateType.ARF, last, False, 1, size, (previous, 0, -1))
            for at in range(first, last):
                code(UpdateType.LEAF, at, True, at - first + 2, size, (index - 1, 0, arf))
            out.append(Planned(None, last, 0.0))
        else:
            code(UpdateType.LEAF, first, True, 1, 1, (previous, 0, -1))
        first = last + 1
    return out


class FakeSession:
    """Steps through the plan; calls out of order are errors, as in the real one."""

    def __init__(self, clip: ClipShape, settings: CodecSettings, first_pass: Any) -> None:
        self.results: list[FrameResult] = []
        self.closed = False
        self.finished = False
        self._clip = clip
        self._plan = _plan(clip, first_pass.stats)
        self._at = 0
        self._waiting: FrameInfo | None = None
        self._submitted: int | None = None
        self._mse: dict[int, float] = {}
        self._budget = settings.target_kbps * 1000.0 * clip.num_frames / float(clip.fps)
        self._base = min(range(256), key=self._miss)

    def _offset(self, info: FrameInfo) -> int:
        return 0 if info.update_type is UpdateType.LEAF else -BOOST

    def _proposal(self, info: FrameInfo, base: int) -> int:
        return int(np.clip(base + self._offset(info), 0, 255))

    def _miss(self, base: int) -> float:
        total = 0.0
        for planned in self._plan:
            if planned.info is not None:
                total += self._bits(planned, self._proposal(planned.info, base), 0.0)
        return abs(total - self._budget)

    def _bits(self, planned: Planned, qindex: int, reference_mse: float) -> float:
        pixels = self._clip.width * self._clip.height
        energy = planned.complexity / 16.0 + reference_mse
        return 64.0 + 0.5 * pixels * np.log2(1.0 + energy / _step(qindex) ** 2 * 12.0)

    def next(self) -> FrameInfo | None:
        assert not self.closed, "next() after close()"
        assert self._submitted is None, "next() before result()"
        while self._at < len(self._plan) and self._plan[self._at].info is None:
            planned = self._plan[self._at]
            last = self.results[-1]
            self.results.append(
                FrameResult(
                    -1, planned.show_index, True, -1, 8, last.sse, last.samples, 0, 0, 0, 0.0
                )
            )
            self._at += 1
        if self._at == len(self._plan):
            return None
        planned = self._plan[self._at]
        assert planned.info is not None
        info = planned.info
        proposal = self._proposal(info, self._base)
        self._waiting = FrameInfo(
            info.coding_index, info.show_index, info.update_type, info.shown, info.gop_index,
            info.gop_size, info.layer_depth, info.max_layer_depth, info.frames_to_key,
            info.ref_coding_indexes, proposal, int(self._bits(planned, proposal, 0.0)),
            max(proposal - 30, 0), min(proposal + 30, 255), info.boost,
        )  # fmt: skip
        return self._waiting

    def submit(self, decision: FrameDecision) -> None:
        assert not self.closed, "submit() after close()"
        assert self._waiting is not None, "submit() before next()"
        assert self._submitted is None, "submit() twice"
        qindex = decision.qindex
        self._submitted = self._waiting.proposal_qindex if qindex == KEEP else qindex

    def result(self) -> FrameResult:
        assert not self.closed, "result() after close()"
        assert self._submitted is not None and self._waiting is not None
        qindex, info, planned = self._submitted, self._waiting, self._plan[self._at]
        known = [self._mse[i] for i in info.ref_coding_indexes if i in self._mse]
        bits = int(self._bits(planned, qindex, min(known, default=0.0)) / 8) * 8
        mse = min(_step(qindex) ** 2 / 12.0, planned.complexity)
        self._mse[info.coding_index] = mse
        luma = self._clip.width * self._clip.height
        chroma = luma // 4
        blocks = luma // 64
        given = FrameResult(
            info.coding_index, info.show_index, info.shown, qindex, bits,
            (int(mse * luma), int(mse * chroma / 2), int(mse * chroma / 2)),
            (luma, chroma, chroma), blocks // 4, blocks - blocks // 4, blocks // 2, 0.001,
        )  # fmt: skip
        self.results.append(given)
        self._submitted = self._waiting = None
        self._at += 1
        return given

    def finish(self) -> Any:
        assert self._at == len(self._plan), "finish() before the last frame"
        self.finished = self.closed = True
        what = repr([(r.qindex, r.bits) for r in self.results])
        size = sum(r.bits for r in self.results) // 8
        return FakeStream(self._clip.num_frames, size, hashlib.sha256(what.encode()).hexdigest())

    def close(self) -> None:
        self.closed = True


@dataclass
class FakeBackend:
    """Opens fake sessions and remembers them."""

    clips: dict[str, FakeClip] = field(default_factory=dict)
    sessions: list[FakeSession] = field(default_factory=list)
    loads: int = 0

    def load(self, path: str | Path, *, height: int | None, max_frames: int | None) -> FakeClip:
        self.loads += 1
        clip = self.clips[str(path)]
        frames = min(clip.num_frames, max_frames or clip.num_frames)
        return FakeClip(clip.width, height or clip.height, clip.fps, frames, clip.name)

    def first_pass(
        self, clip: ClipShape, settings: CodecSettings, *, blocks: bool = False
    ) -> FakeFirstPass:
        return FakeFirstPass(fake_stats(clip))

    def open(
        self,
        clip: ClipShape,
        settings: CodecSettings,
        first_pass: Any,
        *,
        gops: Sequence[GopLimits] = (),
        keep_partitions: bool = False,
        checksums: bool = False,
        output: Path | None = None,
        timeout_s: float = 120.0,
    ) -> FakeSession:
        self.sessions.append(FakeSession(clip, settings, first_pass))
        return self.sessions[-1]
