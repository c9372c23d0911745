"""What the environment needs of an encoder, as protocols, and libvpx behind them.

The environment, the rollout and the rewards are written against these protocols, so
that they can be tested without the compiled encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from muzero_rc.env.codec.settings import CodecSettings
from muzero_rc.types import FrameDecision, FrameInfo, FrameResult, GopLimits

if TYPE_CHECKING:
    from muzero_rc.env.codec.session import EncodedStream

__all__ = ["Backend", "ClipLike", "ClipShape", "FirstPassLike", "LibvpxBackend", "Session"]


class ClipShape(Protocol):
    """What the normalisation needs to know of a clip; `muzero_rc.env.codec.clip.Clip` has it."""

    @property
    def width(self) -> int:
        """Pixels per row."""

    @property
    def height(self) -> int:
        """Rows."""

    @property
    def fps(self) -> Fraction:
        """Shown frames per second."""

    @property
    def num_frames(self) -> int:
        """Shown frames."""


class ClipLike(ClipShape, Protocol):
    """A decoded clip; `muzero_rc.env.codec.clip.Clip` is one."""

    @property
    def name(self) -> str:
        """For people."""

    @property
    def sha256(self) -> str:
        """Identity: hash of frames, size and frame rate."""

    @property
    def duration_s(self) -> float:
        """num_frames / fps."""

    @property
    def in_memory(self) -> bool:
        """False if it is decoded anew by every pass."""


class FirstPassLike(Protocol):
    """A finished first pass; `muzero_rc.env.codec.first_pass.FirstPass` is one."""

    @property
    def stats(self) -> npt.NDArray[np.float64]:
        """[T, 25] libvpx's first-pass statistics."""


class Session(Protocol):
    """A second pass that stops before each coded frame; `EncoderSession` is one."""

    @property
    def results(self) -> Sequence[FrameResult]:
        """All results so far, those of frames that only show a buffer included."""

    def next(self) -> FrameInfo | None:
        """Waits for the next frame to decide on; None after the last."""

    def submit(self, decision: FrameDecision) -> None:
        """Gives the decision without waiting for the frame."""

    def result(self) -> FrameResult:
        """Waits for the frame that was submitted."""

    def finish(self) -> EncodedStream:
        """The stream, after `next` returned None."""

    def close(self) -> None:
        """Frees everything; may be called at any moment, and again."""


class Backend(Protocol):
    """Loads clips, runs first passes and opens sessions."""

    def load(self, path: str | Path, *, height: int | None, max_frames: int | None) -> ClipLike:
        """Decodes a file, at most `max_frames` of it, scaled down to `height` rows."""

    def first_pass(
        self, clip: ClipLike, settings: CodecSettings, *, blocks: bool = False
    ) -> FirstPassLike:
        """The clip's first pass, from the cache where it is there.

        Args:
          clip: the clip.
          settings: of the encoder.
          blocks: keep the statistics of every block, too, for policies that need them.
        """

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
    ) -> Session:
        """Starts a second pass.

        Args:
          clip: what to encode.
          settings: how.
          first_pass: of this clip.
          gops: limits of groups of pictures.
          keep_partitions: results have how superblocks were split.
          checksums: results have a checksum of the picture that is shown.
          output: file for the encoded stream; None keeps it in memory.
          timeout_s: watchdog, seconds in which the encoder works on one frame or stands still.
        """


class LibvpxBackend:
    """The real encoder: patched libvpx in a native thread per session."""

    def load(self, path: str | Path, *, height: int | None, max_frames: int | None) -> ClipLike:
        """Decodes a file into native memory."""
        from muzero_rc.env.codec.clip import Clip

        return Clip.load(path, height=height, max_frames=max_frames)

    def first_pass(
        self, clip: ClipLike, settings: CodecSettings, *, blocks: bool = False
    ) -> FirstPassLike:
        """The clip's first pass, cached on disk by content."""
        from muzero_rc.env.codec.first_pass import first_pass

        return first_pass(cast(Any, clip), settings, blocks=blocks)

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
    ) -> Session:
        """Starts a pass in its own native thread."""
        from muzero_rc.env.codec.session import EncoderSession

        return EncoderSession(
            cast(Any, clip),
            settings,
            first_pass=cast(Any, first_pass),
            gops=gops,
            keep_partitions=keep_partitions,
            checksums=checksums,
            output=output,
            timeout_s=timeout_s,
        )
