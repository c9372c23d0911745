"""One encode, stepped: a session, what was observed of it, and its raw score."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from muzero_rc.env.codec.backend import ClipLike, FirstPassLike, Session
from muzero_rc.env.codec.settings import EncoderSettings
from muzero_rc.env.control.probe_record import ProbeRecord
from muzero_rc.env.observation.builder import ObservationBuilder
from muzero_rc.errors import EncoderError, InputError
from muzero_rc.types import (
    KEEP,
    NUM_QINDEX,
    EpisodeScore,
    FrameInfo,
    FrameResult,
    Observation,
    psnr_db,
)

if TYPE_CHECKING:
    from muzero_rc.env.codec.session import EncodedStream

__all__ = ["Episode", "episode_score"]


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


class Episode:
    """Steps a session and keeps its observations and results.

    `info` is the frame to decide on, None when the encode is over. A context manager:
    leaving it closes the session.

    Attributes:
      clip: what is encoded.
      settings: the encoder's settings.
      info: the frame to decide on; None before the start and after the end.
      frames: description and result of every frame so far, in coding order; the
        description is None for frames that only show an existing buffer.
    """

    _last_info: FrameInfo

    def __init__(
        self,
        clip: ClipLike,
        settings: EncoderSettings,
        first_pass: FirstPassLike,
        session: Session,
        probe: ProbeRecord | None = None,
    ) -> None:
        """Waits for the first frame. Owns `session` from here on; `probe` as it was given."""
        self.clip = clip
        self.settings = settings
        self.info: FrameInfo | None = None
        self.frames: list[tuple[FrameInfo | None, FrameResult]] = []
        self._session = session
        self._stream: EncodedStream | None = None
        self._seen = 0
        try:
            self._builder = ObservationBuilder(clip, settings, first_pass, probe)
            self._advance()
            if self.info is None:
                raise EncoderError(f"the encoder found no frame to code in {clip.name}")
        except BaseException:
            session.close()
            raise

    @property
    def session(self) -> Session:
        """The encode itself, to wait for several at once."""
        return self._session

    def observe(self) -> Observation:
        """The observation now; after the end, of the last frame with the full history."""
        return self._builder.observe(self._last_info)

    def submit(self, qindex: int) -> None:
        """Gives the decision for `info` without waiting for the frame.

        Raises:
          InputError: not 0..255 or `KEEP`.
          EncoderError: the encode is over.
        """
        if not KEEP <= qindex < NUM_QINDEX:
            raise InputError(f"qindex must be 0 to {NUM_QINDEX - 1}, or {KEEP}, not {qindex}")
        if self.info is None:
            raise EncoderError("the encode is over: there is no frame left to decide on")
        self._session.submit(qindex)

    def collect(self) -> FrameResult:
        """Waits for the submitted frame, then for the next one to decide on."""
        result = self._session.result()
        self._take(self.info)
        self._advance()
        return result

    def step(self, qindex: int) -> FrameResult:
        """`submit`, then `collect`."""
        self.submit(qindex)
        return self.collect()

    def _advance(self) -> None:
        self.info = self._session.next()
        self._take(None)
        if self.info is not None:
            self._last_info = self.info

    def _take(self, info: FrameInfo | None) -> None:
        """Records the new results; `info` belongs to the one that was decided on."""
        results = self._session.results
        while self._seen < len(results):
            result = results[self._seen]
            owner = info if result.qindex >= 0 else None
            self._builder.record(owner, result)
            self.frames.append((owner, result))
            self._seen += 1

    def refined_probe(self) -> ProbeRecord | None:
        """The probe with what its frames cost in this encode; None if there was none."""
        return self._builder.refined_probe()

    def score(self) -> EpisodeScore:
        """The raw score, once `info` is None."""
        results = (result for _, result in self.frames)
        size_bytes = self.finish().size_bytes
        return episode_score(self.clip, self.settings.target_kbps, results, size_bytes)

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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes the session."""
        self.close()
