"""One encode, stepped: a session, its controller, what is observed of it, and its log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

from muzero_rc.env.codec.backend import Backend, ClipLike, FirstPassLike, Session
from muzero_rc.env.control.controller import Controller, Proposal
from muzero_rc.env.control.frame_speed import stream_speed
from muzero_rc.env.control.probe_record import ProbeRecord
from muzero_rc.env.control.recipe import DEFAULT_RECIPE, Recipe
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.observation.builder import ObservationBuilder
from muzero_rc.errors import EncoderError
from muzero_rc.types import (
    EncodeLog,
    EpisodeScore,
    FrameDecision,
    FrameInfo,
    FrameRecord,
    FrameResult,
    GopLimits,
    Observation,
    psnr_db,
)

if TYPE_CHECKING:
    from muzero_rc.env.codec.session import EncodedStream

__all__ = ["Stepper", "episode_score"]


def episode_score(
    clip: ClipLike, target_kbps: float, results: Iterable[FrameResult], size_bytes: int
) -> EpisodeScore:
    """The raw score of an encode from the results of all its frames.

    Args:
      clip: what was encoded.
      target_kbps: bitrate asked for, kbit/s.
      results: of all frames, hidden ones and shown buffers included.
      size_bytes: of the stream's packets. It is what a file and vpxenc count: the frames
        and the few bytes that bind a hidden frame to a shown one.

    Raises:
      EncoderError: no frame was shown.
    """
    coded = shown = 0
    psnr_sum = psnr_y_sum = sse = samples = 0.0
    for result in results:
        coded += result.qindex >= 0
        if result.shown:
            shown += 1
            psnr_sum += result.psnr
            psnr_y_sum += result.psnr_y
            sse += sum(result.sse)
            samples += sum(result.samples)
    if shown == 0:
        raise EncoderError(f"the encoder showed no frame of {clip.name}")
    bits = 8 * size_bytes
    return EpisodeScore(
        clip=clip.sha256,
        target_kbps=float(target_kbps),
        actual_kbps=bits / clip.duration_s / 1000.0,
        bits=bits,
        psnr_avg=psnr_sum / shown,
        psnr_overall=psnr_db(sse, samples),
        psnr_y=psnr_y_sum / shown,
        shown_frames=shown,
        coded_frames=coded,
    )


class Stepper:
    """Steps an encode: training, the environment, `encode` and `evaluate` all step this.

    `info` is the frame to decide on, None when the encode is over; `base` is the controller's
    proposal for it. A context manager: leaving it closes the session.

    Attributes:
      clip: what is encoded.
      settings: of the encode.
      info: the frame to decide on; None before the start and after the end.
      frames: all frames so far, in coding order.
    """

    _last_info: FrameInfo
    _proposal: Proposal

    def __init__(
        self,
        clip: ClipLike,
        settings: EncoderSettings,
        first_pass: FirstPassLike,
        session: Session,
        probe: ProbeRecord | None = None,
        gops: Sequence[GopLimits] = (),
        *,
        recipe: Recipe = DEFAULT_RECIPE,
    ) -> None:
        """Waits for the first frame. Owns `session` from here on; see `open`."""
        self.clip = clip
        self.settings = settings
        self.info: FrameInfo | None = None
        self.frames: list[FrameRecord] = []
        self._session = session
        self._gops = tuple(gops)
        self._recipe = recipe
        self._stream: EncodedStream | None = None
        self._seen = 0
        self._decision: FrameDecision | None = None
        try:
            self._builder = ObservationBuilder(clip, settings, first_pass)
            self._controller = Controller(clip, settings, first_pass, probe, recipe=recipe)
            self._advance()
            if self.info is None:
                raise EncoderError(f"the encoder found no frame to code in {clip.name}")
        except BaseException:
            session.close()
            raise

    @classmethod
    def open(
        cls,
        backend: Backend,
        clip: ClipLike,
        settings: EncoderSettings,
        first_pass: FirstPassLike,
        *,
        probe: ProbeRecord | None = None,
        gops: Sequence[GopLimits] = (),
        checksums: bool = False,
        output: Path | None = None,
        timeout_s: float = 120.0,
        recipe: Recipe = DEFAULT_RECIPE,
    ) -> Self:
        """Opens a session and waits for its first frame.

        Args:
          backend: the encoder.
          clip: what to encode.
          settings: how.
          first_pass: of this clip.
          probe: what the probe encode told, in the final one of three passes.
          gops: limits of groups of pictures; with a probe they are its own.
          checksums: results have a checksum of the picture that is shown.
          output: file for the encoded stream as it is made; None keeps it in memory.
          timeout_s: watchdog, seconds in which the encoder works on one frame or stands still.
          recipe: the constants of control.

        Raises:
          EncoderError: the encoder failed or did not answer in time.
        """
        gops = tuple(gops if probe is None else probe.gops)
        speed = stream_speed(settings.speed_profile, settings.speed, recipe=recipe)
        session = backend.open(
            clip,
            settings.replace(speed=speed),
            first_pass,
            gops=gops,
            keep_partitions=settings.speed_profile == "probe",
            checksums=checksums,
            output=output,
            timeout_s=timeout_s,
        )
        return cls(clip, settings, first_pass, session, probe, gops, recipe=recipe)

    @property
    def session(self) -> Session:
        """The encode itself, to wait for several at once."""
        return self._session

    @property
    def base(self) -> FrameDecision:
        """The controller's proposal for `info`; after the end, for the last frame."""
        return self._proposal.decision

    @property
    def reach(self) -> int:
        """How far from the proposal's qindex a policy may go."""
        return self._proposal.reach

    def observe(self) -> Observation:
        """The observation now; after the end, of the last frame with the full history."""
        proposal = self._proposal
        return self._builder.observe(self._last_info, proposal.rate_offset, proposal.reach)

    def submit(self, decision: FrameDecision | int) -> None:
        """Gives the decision for `info` without waiting for the frame.

        Args:
          decision: a qindex alone stands for the proposal with that qindex.

        Raises:
          InputError: the qindex is not 0..255 or `KEEP`.
          EncoderError: the encode is over.
        """
        if not isinstance(decision, FrameDecision):
            decision = self.base.with_qindex(decision)
        if self.info is None:
            raise EncoderError("the encode is over: there is no frame left to decide on")
        self._session.submit(decision)
        self._decision = decision

    def collect(self) -> FrameResult:
        """Waits for the submitted frame, then for the next one to decide on."""
        result = self._session.result()
        self._take(self.info)
        self._advance()
        return result

    def step(self, decision: FrameDecision | int) -> FrameResult:
        """`submit`, then `collect`."""
        self.submit(decision)
        return self.collect()

    def refined_probe(self) -> ProbeRecord | None:
        """The probe's record with what its frames cost here, for another final pass."""
        return self._controller.refined_probe()

    def log(self) -> EncodeLog:
        """The record of the encode, once `info` is None."""
        settings = self.settings
        speed = stream_speed(settings.speed_profile, settings.speed, recipe=self._recipe)
        return EncodeLog(tuple(self.frames), self.finish().size_bytes, speed, self._gops)

    def score(self) -> EpisodeScore:
        """The raw score, once `info` is None."""
        results = (frame.result for frame in self.frames)
        size_bytes = self.finish().size_bytes
        return episode_score(self.clip, self.settings.rate_kbps, results, size_bytes)

    def finish(self) -> EncodedStream:
        """The encoded stream, once `info` is None."""
        if self._stream is None:
            self._stream = self._session.finish()
        return self._stream

    def close(self) -> None:
        """Drops the encode; may be called at any moment, and again."""
        self._session.close()

    def __enter__(self) -> Self:
        """The episode itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Closes the session."""
        self.close()

    def _advance(self) -> None:
        self.info = self._session.next()
        self._take(None)
        if self.info is not None:
            self._last_info = self.info
            self._proposal = self._controller.propose(self.info)

    def _take(self, info: FrameInfo | None) -> None:
        """Records the new results; `info` belongs to the one that was decided on."""
        results = self._session.results
        while self._seen < len(results):
            result = results[self._seen]
            coded = result.qindex >= 0
            owner = info if coded else None
            self._controller.update(owner, result)
            self._builder.record(owner, result)
            self.frames.append(FrameRecord(owner, self._decision if coded else None, result))
            self._seen += 1
