"""What an encode of a file gave, for the caller, the command line and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from muzero_rc.encode.aims import Quality
from muzero_rc.encode.encoded import Encoded
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.types import FrameResult

__all__ = ["EncodeReport", "SearchSummary", "TimeSummary"]


@dataclass(frozen=True, slots=True)
class SearchSummary:
    """What a search for the qindexes gave.

    Attributes:
      budget: encodes that it was given.
      spent: encodes of it that were used, those known from an earlier run included.
      encodes: encodes that were really made.
      gain: share of bits saved over the first encode at the same PSNR avg.
      on_target: it met the target.
      stopped_early: nothing was gained for a while.
      interrupted: by Ctrl-C.
    """

    budget: int
    spent: int
    encodes: int
    gain: float
    on_target: bool
    stopped_early: bool
    interrupted: bool


@dataclass(frozen=True, slots=True)
class TimeSummary:
    """What `time` asked for, and what was spent.

    Attributes:
      asked: times VBR's time.
      counted: work of probe encodes and last passes, encodes made again included, over what
        VBR is expected to take.
      vbr_seconds: that VBR is expected to take, of the machine that work was weighted on.
    """

    asked: float
    counted: float
    vbr_seconds: float


@dataclass(frozen=True, slots=True)
class EncodeReport:
    """What an encode gave.

    Attributes:
      output: the file.
      policy: name of the policy.
      width: of the coded video, pixels.
      height: of the coded video, pixels.
      fps: frames per second of the video.
      frames: shown frames.
      coded_frames: coded frames, hidden ones included.
      duration_s: length of the video, seconds.
      file_bytes: size of the file with audio and container.
      video_bytes: size of the video's packets, without container.
      target_kbps: bitrate asked for, kbit/s; of a size or quality, in the encode that met it.
        None for constant quality.
      actual_kbps: bitrate of `video_bytes`, kbit/s.
      deviation: actual_kbps / target_kbps - 1; None for constant quality.
      psnr_avg: mean over frames of the PSNR over Y, U and V, dB.
      psnr_overall: PSNR of the summed squared error, dB.
      psnr_y: mean over frames of the luma PSNR, dB.
      seconds: wall time of everything.
      second_pass_seconds: wall time of the second pass, decisions, the probe and encodes made
        again for the target's sake included.
      probe_seconds: wall time of the probe, 0 without one.
      decision_seconds: wall time of observing and deciding.
      encode_fps: frames over `seconds`.
      pictures_compared: pictures of the file, decoded, that were compared with the encoder's.
      qindexes: qindex of each coded frame, in coding order.
      sha256: of the coded frames.
      chunks: that the film was encoded in; 1 for one that was not cut.
      chunks_again: of them, those that were made again for the film's target.
      settings: what the frames were encoded with.
      search: what the search for the qindexes gave; None if there was none.
      quality: what was measured for a quality that was asked for; None if none was.
      buffer: the leaky bucket that was kept to, `kbps` and `size_s`, and what was needed of it,
        `needed_s`; None if none was asked for.
      encodes: of the whole, until size or quality was right.
      time: what a budget of time asked for and what was spent; None without one.
      losses: what of the source is left out or changed, a line each.
      results: of every frame, in coding order; not part of `as_dict`.
    """

    output: Path
    policy: str
    width: int
    height: int
    fps: str
    frames: int
    coded_frames: int
    duration_s: float
    file_bytes: int
    video_bytes: int
    target_kbps: float | None
    actual_kbps: float
    deviation: float | None
    psnr_avg: float
    psnr_overall: float
    psnr_y: float
    seconds: float
    second_pass_seconds: float
    probe_seconds: float
    decision_seconds: float
    encode_fps: float
    pictures_compared: int
    qindexes: list[int]
    sha256: str
    chunks: int
    chunks_again: int
    settings: EncoderSettings
    search: SearchSummary | None
    quality: Quality | None
    buffer: dict[str, float] | None
    encodes: int
    time: TimeSummary | None
    losses: list[str]
    results: Sequence[FrameResult]

    @classmethod
    def of(
        cls,
        done: Encoded,
        settings: EncoderSettings,
        *,
        seconds: float,
        verified: bool,
        **told: Any,
    ) -> EncodeReport:
        """What an encode gave, from what was encoded.

        Args:
          done: what was encoded.
          settings: of the encode.
          seconds: wall time of everything.
          verified: the file's pictures were compared with the encoder's.
          told: all other attributes.
        """
        score = done.score
        controlled = settings.rc_mode != "q"
        return cls(
            frames=score.shown_frames,
            coded_frames=score.coded_frames,
            video_bytes=done.video_bytes,
            target_kbps=score.target_kbps if controlled else None,
            actual_kbps=score.actual_kbps,
            deviation=score.overshoot if controlled else None,
            psnr_avg=score.psnr_avg,
            psnr_overall=score.psnr_overall,
            psnr_y=score.psnr_y,
            seconds=seconds,
            second_pass_seconds=done.seconds,
            probe_seconds=done.probe_seconds,
            decision_seconds=done.decision_seconds,
            encode_fps=score.shown_frames / seconds,
            pictures_compared=score.shown_frames if verified else 0,
            qindexes=done.qindexes,
            sha256=done.sha256,
            chunks=done.chunks,
            chunks_again=done.chunks_again,
            settings=settings,
            results=done.results,
            **told,
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "results"}
        return values | {
            "output": str(self.output),
            "settings": self.settings.as_dict(),
            "search": None if self.search is None else asdict(self.search),
            "quality": None if self.quality is None else asdict(self.quality),
            "time": None if self.time is None else asdict(self.time),
        }
