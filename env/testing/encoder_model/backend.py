"""The encoder model behind the encoder's protocols (`muzero_rc.env.codec.backend`).

A clip is a list of complexities, drawn by its seed. Its second pass is a key frame and then
groups of shown frames, each under one hidden alternate reference that is shown again at the
group's end. libvpx's proposal is replaced by the one qindex that meets the target, so that
whoever follows it is the best constant quantizer.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from muzero_rc.env.codec.backend import ClipLike, FirstPassLike
from muzero_rc.env.codec.first_pass import FIRST_PASS_FIELDS
from muzero_rc.env.codec.session import EncodedStream
from muzero_rc.env.codec.settings import CodecSettings
from muzero_rc.env.testing.encoder_model.formulas import (
    EncoderModel,
    FrameKind,
    complexity,
    kind_of,
)
from muzero_rc.env.testing.encoder_model.optimum import Tables, best_constant
from muzero_rc.errors import EncoderError, InputError, SessionClosedError
from muzero_rc.types import (
    KEEP,
    PEAK,
    SHOW_BITS,
    FrameDecision,
    FrameInfo,
    FrameResult,
    GopLimits,
    UpdateType,
)

__all__ = ["ModelBackend", "ModelClip", "ModelSession"]

_DB = 10.0 * np.log10(2.0)  # of an octave of error
_PEAK_DB = float(10.0 * np.log10(PEAK**2))
_INTRA, _CODED, _SECOND = (
    FIRST_PASS_FIELDS.index(n) for n in ("intra_error", "coded_error", "sr_coded_error")
)


@dataclass(frozen=True)
class ModelClip:
    """A clip of the model.

    Attributes:
      seed: of its complexities.
      num_frames: shown frames.
      group: shown frames under one alternate reference.
      width: pixels per row.
      height: rows.
      fps: shown frames per second.
    """

    seed: int = 0
    num_frames: int = 9
    group: int = 4
    width: int = 256
    height: int = 144
    fps: Fraction = Fraction(25)

    @property
    def name(self) -> str:
        """For people."""
        return f"model clip {self.seed}"

    @property
    def sha256(self) -> str:
        """Identity."""
        return hashlib.sha256(repr(self).encode()).hexdigest()

    @property
    def duration_s(self) -> float:
        """num_frames / fps."""
        return float(self.num_frames / self.fps)

    @property
    def in_memory(self) -> bool:
        """There is nothing to decode."""
        return True


@dataclass(frozen=True)
class _FirstPass:
    stats: npt.NDArray[np.float64]


@functools.lru_cache(maxsize=256)
def _stats(clip: ModelClip) -> npt.NDArray[np.float64]:
    """[T, 25] first-pass statistics within the ranges of real ones."""
    rng = np.random.default_rng(clip.seed)
    count = clip.num_frames
    stats = np.zeros((count, len(FIRST_PASS_FIELDS)))
    floor = 200.0 / np.sqrt(-(-clip.width // 16) * -(-clip.height // 16))
    detail, motion = 2.0 ** rng.uniform(10, 12), 2.0 ** rng.uniform(5, 8)
    stats[:, 0] = np.arange(count)
    stats[:, 1] = 1.0
    stats[:, _INTRA] = floor + detail * 2.0 ** rng.normal(0, 0.1, count)
    stats[:, _CODED] = floor + motion * 2.0 ** rng.normal(0, 0.25, count)
    stats[:, _SECOND] = stats[:, _CODED] * 1.2
    stats[:, FIRST_PASS_FIELDS.index("pcnt_inter")] = 0.9
    stats[:, FIRST_PASS_FIELDS.index("duration")] = 1e7 / float(clip.fps)
    stats[:, FIRST_PASS_FIELDS.index("count")] = 1.0
    stats.setflags(write=False)
    return stats


@dataclass(frozen=True)
class _Frame:
    """A planned frame: `info` is None where a buffer is shown again."""

    info: FrameInfo | None
    show_index: int
    reference: int  # coding index, -1 for none


@functools.lru_cache(maxsize=256)
def _plan(clip: ModelClip) -> tuple[_Frame, ...]:
    frames: list[_Frame] = []
    coded = 0

    def code(kind: UpdateType, at: int, shown: bool, place: int, size: int, refs: Any) -> None:
        nonlocal coded
        depth = {UpdateType.KEY: 0, UpdateType.ARF: 1}.get(kind, 2)
        info = FrameInfo(
            coding_index=coded, show_index=at, update_type=kind, shown=shown, gop_index=place,
            gop_size=size, layer_depth=depth, max_layer_depth=2,
            frames_to_key=clip.num_frames - at, ref_coding_indexes=refs, proposal_qindex=0,
            proposal_bits=0, min_qindex=0, max_qindex=255, boost=300,
        )  # fmt: skip
        frames.append(_Frame(info, at, max(refs)))
        coded += 1

    code(UpdateType.KEY, 0, True, 0, 1, (-1, -1, -1))
    first, anchor = 1, 0
    while first < clip.num_frames:
        size = min(clip.group, clip.num_frames - first)
        last = first + size - 1
        reference = coded
        code(UpdateType.ARF, last, False, 1, size, (anchor, anchor, -1))
        for at in range(first, last):
            code(UpdateType.LEAF, at, True, at - first + 2, size, (anchor, anchor, reference))
        frames.append(_Frame(None, last, reference))
        first, anchor = last + 1, reference
    return tuple(frames)


_Logs = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
"""Own log2 error [256] and bits [256] of a coded frame."""


class ModelBackend:
    """Opens sessions of the model, and computes what is best in it."""

    def __init__(self, model: EncoderModel | None = None) -> None:
        """Takes coefficients; None for the package's own."""
        self._model = model or EncoderModel.fitted()
        self._proposals: dict[tuple[ModelClip, int], int] = {}
        self._logs: dict[ModelClip, list[_Logs]] = {}

    def load(self, path: str | Path, *, height: int | None, max_frames: int | None) -> ModelClip:
        """A clip by its seed, the file's name.

        Raises:
          InputError: the name is no number.
        """
        try:
            seed = int(Path(path).name)
        except ValueError as error:
            raise InputError(f"{path}: the encoder model's clips are numbers") from error
        clip = ModelClip(seed=seed)
        return dataclasses.replace(clip, num_frames=min(clip.num_frames, max_frames or 10**9))

    def first_pass(
        self, clip: ClipLike, settings: CodecSettings, *, blocks: bool = False
    ) -> FirstPassLike:
        """The clip's statistics; the model has no blocks."""
        return cast(FirstPassLike, _FirstPass(_stats(_own(clip))))

    def open(
        self,
        clip: ClipLike,
        settings: CodecSettings,
        first_pass: FirstPassLike,
        *,
        gops: Sequence[GopLimits] = (),
        keep_partitions: bool = False,
        checksums: bool = False,
        output: Path | None = None,
        timeout_s: float = 120.0,
    ) -> ModelSession:
        """Starts a second pass; its plan never reacts, with or without a probe."""
        own = _own(clip)
        logs = self._tables_of_frames(own)
        return ModelSession(own, logs, self.proposal(own, settings), self._model)

    def proposal(self, clip: ModelClip, settings: CodecSettings) -> int:
        """The one qindex that meets the target."""
        key = (clip, settings.target_kbps)
        if key not in self._proposals:
            plan = best_constant(self.tables(clip), self.budget(clip, settings.target_kbps))
            self._proposals[key] = plan.qindexes[0]
        return self._proposals[key]

    @staticmethod
    def budget(clip: ModelClip, target_kbps: float) -> float:
        """Bits of the clip at a target."""
        return target_kbps * 1000.0 * clip.duration_s

    def tables(self, clip: ModelClip) -> Tables:
        """The clip for `optimum`."""
        frames = [f for f in _plan(clip) if f.info is not None]
        logs = self._tables_of_frames(clip)
        weights = np.zeros(len(frames))
        shares = [self._model.passed_on(_kind(f)) for f in frames]
        for frame in _plan(clip):
            index = frame.reference if frame.info is None else frame.info.coding_index
            if frame.info is None or frame.info.shown:
                weights[index] += 1.0 / clip.num_frames
        for index in reversed(range(len(frames))):  # references come before what refers
            if frames[index].reference >= 0:
                weights[frames[index].reference] += shares[index] * weights[index]
        gain = np.stack(
            [-_DB * weight * log_mse for weight, (log_mse, _) in zip(weights, logs, strict=True)]
        )
        bits = np.stack([bits for _, bits in logs])
        overhead = SHOW_BITS * sum(f.info is None for f in _plan(clip))
        return Tables(bits, gain, _PEAK_DB, overhead)

    def _tables_of_frames(self, clip: ModelClip) -> list[_Logs]:
        """Own log2 error [256] and bits [256] of each coded frame."""
        if clip not in self._logs:
            stats, pixels = _stats(clip), clip.width * clip.height
            found = []
            for frame in _plan(clip):
                if frame.info is None:
                    continue
                kind = _kind(frame)
                column = _INTRA if kind is FrameKind.KEY else _CODED
                error = stats[frame.show_index, column]
                c = float(complexity(error, clip.width, clip.height))
                bits = pixels * 2.0 ** self._model.log2_bpp(kind, c)
                found.append((self._model.log2_mse(kind, c), np.asarray(bits)))
            self._logs[clip] = found
        return self._logs[clip]


class ModelSession:
    """A second pass of the model; calls out of order are errors, as in the encoder's.

    Attributes:
      results: all results so far.
    """

    def __init__(
        self,
        clip: ModelClip,
        logs: list[_Logs],
        proposal: int,
        model: EncoderModel,
    ) -> None:
        """Takes the clip's tables and the qindex that it proposes for every frame."""
        self.results: list[FrameResult] = []
        self._clip = clip
        self._frames = _plan(clip)
        self._logs = logs
        self._proposal = proposal
        self._log2_mse: list[float] = []
        self._at = 0
        self._waiting: FrameInfo | None = None
        self._submitted: int | None = None
        self._closed = False
        self._model = model

    def next(self) -> FrameInfo | None:
        """The next frame to decide on; None after the last."""
        self._check(self._submitted is None, "next() before result()")
        while self._at < len(self._frames) and self._frames[self._at].info is None:
            self._show_again(self._frames[self._at])
        if self._at == len(self._frames):
            return None
        info = self._frames[self._at].info
        assert info is not None
        bits = self._logs[info.coding_index][1][self._proposal]
        self._waiting = dataclasses.replace(
            info, proposal_qindex=self._proposal, proposal_bits=int(bits)
        )
        return self._waiting

    def submit(self, decision: FrameDecision) -> None:
        """The decision for the frame."""
        self._check(self._waiting is not None, "submit() before next()")
        qindex = decision.qindex
        self._submitted = self._proposal if qindex == KEEP else qindex

    def result(self) -> FrameResult:
        """What coding the frame gives."""
        info, qindex = self._waiting, self._submitted
        self._check(info is not None and qindex is not None, "result() before submit()")
        assert info is not None and qindex is not None
        own, bits = self._logs[info.coding_index]
        error = float(own[qindex])
        reference = self._frames[self._at].reference
        if reference >= 0:
            share = self._model.passed_on(_kind(self._frames[self._at]))
            error += share * self._log2_mse[reference]
        self._log2_mse.append(error)
        found = self._result(info.coding_index, info.show_index, info.shown, qindex, bits[qindex])
        self.results.append(found)
        self._waiting = self._submitted = None
        self._at += 1
        return found

    def _show_again(self, frame: _Frame) -> None:
        found = self._result(frame.reference, frame.show_index, True, -1, SHOW_BITS)
        self.results.append(found)
        self._at += 1

    def _result(
        self, coding_index: int, show_index: int, shown: bool, qindex: int, bits: float
    ) -> FrameResult:
        luma = self._clip.width * self._clip.height
        chroma, blocks = luma // 4, luma // 64
        mse = 2.0 ** self._log2_mse[coding_index]
        return FrameResult(
            coding_index, show_index, shown, qindex, round(bits),
            (round(mse * luma), round(mse * chroma), round(mse * chroma)),
            (luma, chroma, chroma), blocks // 4, blocks - blocks // 4, blocks // 2, 0.0,
        )  # fmt: skip

    def finish(self) -> EncodedStream:
        """The stream's size; there are no bytes behind it."""
        self._check(self._at == len(self._frames), "finish() before the last frame")
        self._closed = True
        what = repr([(r.qindex, r.bits) for r in self.results]).encode()
        size = round(sum(r.bits for r in self.results) / 8)
        return EncodedStream(len(self._frames), size, None, what)

    def close(self) -> None:
        """Ends it."""
        self._closed = True

    def _check(self, right: bool, what: str) -> None:
        if self._closed:
            raise SessionClosedError("the session of the encoder model is closed")
        if not right:
            raise EncoderError(f"the encoder model was asked out of order: {what}")


def _own(clip: ClipLike) -> ModelClip:
    if not isinstance(clip, ModelClip):
        raise InputError(f"{clip.name} is no clip of the encoder model")
    return clip


def _kind(frame: _Frame) -> FrameKind:
    assert frame.info is not None
    return kind_of(frame.info.update_type)
