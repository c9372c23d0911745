"""A pass, one frame at a time: `next()`, `encode(decision)`, ..., `finish()`."""

from __future__ import annotations

import contextlib
import hashlib
import operator
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muzero_rc.env.codec import _native
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import FirstPass, native_settings
from muzero_rc.env.codec.first_pass import first_pass as run_first_pass
from muzero_rc.env.codec.settings import CodecSettings
from muzero_rc.errors import EncoderTimeoutError, InputError, OutputError
from muzero_rc.types import (
    FrameDecision,
    FrameInfo,
    FrameResult,
    GopLimits,
    ShowExisting,
    UpdateType,
    Work,
)

__all__ = ["EncodedStream", "EncoderSession", "encode_plain", "wait_any"]


@dataclass(frozen=True)
class EncodedStream:
    """A finished VP9 stream.

    Attributes:
      num_packets: packets, one per shown frame.
      size_bytes: bytes of all packets, container not included.
      path: the IVF file, if the session wrote one.
    """

    num_packets: int
    size_bytes: int
    path: Path | None
    _ivf: bytes | None

    def ivf(self) -> bytes:
        """The stream as an IVF file."""
        if self._ivf is not None:
            return self._ivf
        assert self.path is not None
        return self.path.read_bytes()

    @property
    def sha256(self) -> str:
        """SHA-256 of the IVF file."""
        if self._ivf is not None:
            return hashlib.sha256(self._ivf).hexdigest()
        assert self.path is not None
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def write_ivf(self, path: str | os.PathLike[str]) -> None:
        """Writes the IVF file.

        Raises:
          OutputError: it cannot be written.
        """
        try:
            Path(path).write_bytes(self.ivf())
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}") from error


class EncoderSession:
    """A second pass that stops before each coded frame and asks for its `FrameDecision`.

    It has no opinions: whoever steps it decides everything that libvpx leaves open.

    libvpx runs in a native thread without the GIL; frames go to it in C. The session is
    a context manager; closing it at any moment, mid-frame included, frees everything
    within a frame's time.

        with EncoderSession(clip, CodecSettings(target_kbps=250)) as session:
            while (frame := session.next()) is not None:
                session.encode(FrameDecision(frame.proposal_qindex))
            stream = session.finish()

    Args:
      clip: what to encode.
      settings: how.
      first_pass: its statistics; run (or taken from the cache) if not given.
      gops: limits of groups of pictures, in ascending order.
      keep_partitions: results have how superblocks were split.
      checksums: results have a checksum of the picture that is shown.
      output: write the IVF file there while encoding, instead of keeping it in memory.
      timeout_s: watchdog: longest time for one frame, seconds in which the encoder works or stands
        still. Those in which the process is stopped do not count, nor those in which a busy machine
        keeps it waiting; pictures of more than 1080 lines have more, in proportion.

    Attributes:
      clip: as given.
      settings: as given.
      first_pass: the statistics used.
      results: all frames so far in coding order; frames that only show an existing
        buffer are among them with qindex -1.
    """

    def __init__(
        self,
        clip: Clip,
        settings: CodecSettings,
        *,
        first_pass: FirstPass | None = None,
        gops: Sequence[GopLimits] = (),
        keep_partitions: bool = False,
        checksums: bool = False,
        output: str | os.PathLike[str] | None = None,
        timeout_s: float = 120.0,
    ) -> None:
        self.clip = clip
        self.settings = settings
        self.first_pass = first_pass or run_first_pass(clip, settings)
        if len(self.first_pass.stats) != clip.num_frames:
            raise InputError(
                f"{clip.name}: first pass of {len(self.first_pass.stats)} frames "
                f"for a clip of {clip.num_frames}"
            )
        self.results: list[FrameResult] = []
        self._waiting: UpdateType | None = None
        self._only_key = False  # no frame has been coded since the last key frame
        self._output = None if output is None else Path(output)
        self._resources = contextlib.ExitStack()
        native = native_settings(clip, settings)
        try:
            reader = self._resources.enter_context(clip.reader())
            self._native = _native.Session(
                native,
                reader,
                self.first_pass.packed,
                b"" if self._output is None else os.fsencode(self._output),
                timeout_s,
                keep_partitions=keep_partitions,
                checksums=checksums,
                gops=list(gops),
            )
            self._resources.callback(self._native.close)
        except BaseException:
            self._resources.close()
            raise

    def next(self) -> FrameInfo | None:
        """The frame to code now, None after the last one. Waits for the encoder.

        Raises:
          EncoderError: libvpx failed; EncoderTimeoutError: it does not answer;
          SessionClosedError: the session is closed.
        """
        given: Any = self._native.next()
        self._collect_uncoded()
        info = None if given is None else _frame_info(given)
        self._waiting = None if info is None else info.update_type
        return info

    def submit(self, decision: FrameDecision | int) -> None:
        """Answers the waiting frame without waiting for its result.

        Args:
          decision: a qindex alone leaves all else to libvpx.

        Raises:
          InputError: the qindex is not 0..255 or `KEEP`.
        """
        if not isinstance(decision, FrameDecision):
            decision = FrameDecision(operator.index(decision))
        account, hint = decision.rate_account, decision.partition
        show_existing = decision.show_existing
        if self._only_key and not self.settings.frame_parallel:
            # The frame after adapts its entropy coding as one after a key frame does, in a
            # decoder. In libvpx's encoder it would not, and all that follows would be garbage.
            show_existing = ShowExisting.NEVER
        told: dict[str, Any] = {}
        if account is not None:
            told = {
                "frozen_rate_account": True,
                "model_qindex": account.model_qindex,
                "model_bits": account.model_bits,
            }
        if hint is not None:
            told |= {"partition": hint.packed, "coarser": hint.coarser, "finer": hint.finer}
        self._native.submit(
            _native.FrameDecision(
                decision.qindex,
                speed=decision.speed,
                features=int(decision.features),
                show_existing=int(show_existing),
                show_existing_price=decision.show_existing_price,
                show_existing_change=decision.show_existing_change,
                next_gop_frames=decision.next_gop.frames,
                next_gop_layers=decision.next_gop.layers,
                **told,
            )
        )

    def result(self) -> FrameResult:
        """The result of the frame last submitted. Waits for the encoder."""
        given = _frame_result(self._native.result())
        self.results.append(given)
        if self._waiting is UpdateType.KEY:
            self._only_key = True
        elif not given.shows_existing:
            self._only_key = False
        return given

    def encode(self, decision: FrameDecision | int) -> FrameResult:
        """Codes the waiting frame: `submit` and `result`."""
        self.submit(decision)
        return self.result()

    def ready(self) -> bool:
        """True if `next()` would not wait."""
        return bool(self._native.ready)

    @property
    def encode_seconds(self) -> float:
        """CPU time of libvpx's thread up to its last question or result, seconds.

        The sum of its frames' and of what came after the last one. With `threads` above 1
        libvpx's other threads are not in it.
        """
        return float(self._native.encode_cpu_s)

    def finish(self) -> EncodedStream:
        """The stream, after `next()` has returned None; closes the session."""
        stream = self._native.finish()
        self._collect_uncoded()
        ivf = None if self._output is not None else stream.ivf()
        done = EncodedStream(stream.packets, stream.bytes, self._output, ivf)
        self.close()
        return done

    def close(self) -> None:
        """Stops the encoder and frees its memory; may be called at any time."""
        self._resources.close()

    def __enter__(self) -> EncoderSession:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _collect_uncoded(self) -> None:
        self.results.extend(_frame_result(given) for given in self._native.take_uncoded())


def wait_any(sessions: Sequence[EncoderSession], timeout_s: float = 120.0) -> list[int]:
    """Waits until a session is ready for `next()`; indices of all that are.

    Raises:
      EncoderTimeoutError: none was in time.
    """
    if not _native.wait_any([session._native for session in sessions], timeout_s):
        raise EncoderTimeoutError(f"no encoder answered within {timeout_s:g} s")
    return [index for index, session in enumerate(sessions) if session.ready()]


def encode_plain(
    clip: Clip, settings: CodecSettings, stats: FirstPass | None
) -> tuple[bytes, float]:
    """Stock encoding in C without any hook, one-pass if `stats` is None: (IVF file, seconds)."""
    packed = None if stats is None else stats.packed
    with clip.reader() as reader:
        ivf, seconds = _native.encode_plain(native_settings(clip, settings), reader, packed)
    return ivf, seconds


def _frame_info(given: tuple[Any, ...]) -> FrameInfo:
    return FrameInfo(given[0], given[1], UpdateType(given[2]), *given[3:])


def _frame_result(given: tuple[Any, ...]) -> FrameResult:
    *plain, work, checksum = given
    fields: tuple[Any, ...] = (*plain, Work(*work), checksum)
    return FrameResult(*fields)
