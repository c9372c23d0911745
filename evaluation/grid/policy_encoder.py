"""The real encoder of the runner: libvpx, steered by a policy."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muzero_rc import video
from muzero_rc.decision_columns import columns_of_log
from muzero_rc.encode.clip import encode_clip
from muzero_rc.env.codec.backend import Backend, ClipLike, FirstPassLike, LibvpxBackend
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.passes.one_pass import Rollout
from muzero_rc.env.passes.stepper import Stepper
from muzero_rc.errors import EncoderError
from muzero_rc.evaluation.grid.encoder import ClipInfo, ClipSource, Method
from muzero_rc.evaluation.measure.buffer import buffer_report
from muzero_rc.evaluation.measure.frame_trace import FrameTrace
from muzero_rc.evaluation.measure.quality import clip_quality, spread
from muzero_rc.evaluation.results import EncodeRecord
from muzero_rc.output_files import output
from muzero_rc.types import Policy, needs_blocks

if TYPE_CHECKING:
    from muzero_rc.env.codec.session import EncodedStream

__all__ = ["PolicyEncoder"]

_PSNR_TOLERANCE_DB = 0.006
"""ffmpeg prints a frame's PSNR with two decimals."""


class PolicyEncoder:
    """Encodes clips with policies by name; one per worker process.

    Keeps the clip it had last, with its first passes, and every policy it has made: a
    learned one takes seconds to load and compile. So what a policy answers must depend
    on its episode only, not on the encodes before.
    """

    def __init__(self, make_policy: Callable[..., Policy], backend: Backend | None = None) -> None:
        """Takes what makes policies.

        Args:
          make_policy: from a method's spec, and `simulations` if it has any, to its policy;
            a module's function, so that it can be sent to worker processes.
          backend: the encoder; None is libvpx. Picklable.
        """
        self._make_policy = make_policy
        self._backend: Backend = backend or LibvpxBackend()
        self._source: ClipSource | None = None
        self._clip: ClipLike | None = None
        self._policies: dict[tuple[str, int], Policy] = {}
        self._warm: set[tuple[str | int, ...]] = set()

    def __getstate__(self) -> dict[str, Any]:
        """Workers start empty: neither clips nor policies are sent."""
        return {"make_policy": self._make_policy, "backend": self._backend}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def open(self, source: ClipSource) -> ClipInfo:
        """Decodes a clip.

        Raises:
          InputError: it cannot be used.
        """
        clip = self._load(source)
        # A clip too large for memory learns its length from its first pass.
        if not clip.in_memory:
            self._backend.first_pass(clip, EncoderSettings(target_kbps=1))
        return ClipInfo(
            name=source.name,
            path=str(source.path),
            sha256=clip.sha256,
            width=clip.width,
            height=clip.height,
            fps=str(clip.fps),
            frames=clip.num_frames,
            duration_s=clip.duration_s,
        )

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
        """Encodes a clip with a method's policy.

        Raises:
          InputError: the clip, the policy or what it answers cannot be used.
          EncoderError: libvpx failed, or what it made does not decode to what it told.
          ToolMissingError: nothing here measures one of the metrics.
          OutputError: `stream` cannot be written.
        """
        clip = self._load(source)
        asked = (method.spec, method.simulations)
        policy = self._policies.get(asked)
        if policy is None:
            search = {"simulations": method.simulations} if method.simulations else {}
            policy = self._policies[asked] = self._make_policy(method.spec, **search)
        statistics = self._backend.first_pass(clip, settings, blocks=needs_blocks(policy))
        # Networks that read blocks are compiled for each size of frame, others once.
        compiled = (*asked, *((clip.width, clip.height) if needs_blocks(policy) else ()))

        def warm_up(used: EncoderSettings) -> None:
            if compiled not in self._warm:
                self._warm.add(compiled)
                self._warm_up(clip, used, statistics, policy)

        done = encode_clip(
            clip, settings, policy,
            first_pass=statistics, on_settings=warm_up, backend=self._backend,
        )  # fmt: skip
        result = done.rollout
        if stream is not None:
            _write_webm(result.stream, source.path, stream)
        score = result.score
        frames = [frame for _, frame in result.frames]
        quality = clip_quality(frames, clip.fps)
        return EncodeRecord(
            clip=source.name,
            method=method.name,
            target_kbps=settings.target_kbps,
            actual_kbps=score.actual_kbps,
            bytes=result.stream.size_bytes,
            psnr_avg=score.psnr_avg,
            psnr_overall=score.psnr_overall,
            psnr_y=score.psnr_y,
            psnr_worst=quality.worst,
            psnr_p5=quality.p5,
            psnr_deviation=quality.deviation,
            psnr_last_second=quality.last_second,
            seconds=result.seconds,
            decision_seconds=result.decision_seconds,
            preparation_seconds=done.preparation_seconds,
            frames=score.shown_frames,
            coded_frames=score.coded_frames,
            qindex=[int(q) for q in result.qindexes],
            sha256=result.stream.sha256,
            clip_sha256=clip.sha256,
            settings=done.settings.as_dict(),
            key=key,
            psnr_u=quality.u,
            psnr_v=quality.v,
            quality=_measure(result, source, clip, metrics) if metrics else {},
            buffer=buffer_report(frames, settings.target_kbps, clip.fps),
            trace=FrameTrace.of(result.frames).as_dict(),
            decisions=columns_of_log(result.log),
        )

    def _load(self, source: ClipSource) -> ClipLike:
        if self._clip is None or self._source != source:
            # The old clip goes first: two may not fit into memory.
            self._clip = self._source = None
            self._clip = self._backend.load(
                source.path, height=source.height, max_frames=source.max_frames
            )
            self._source = source
        return self._clip

    def _warm_up(
        self, clip: ClipLike, settings: EncoderSettings, statistics: FirstPassLike, policy: Policy
    ) -> None:
        """One decision that is thrown away: the first one compiles, none of the rest do."""
        with Stepper.open(self._backend, clip, settings, statistics) as stepper:
            policy.decide([stepper.observe()], [stepper.base])


def _measure(
    result: Rollout, source: ClipSource, clip: ClipLike, metrics: Sequence[str]
) -> dict[str, Any]:
    """`EncodeRecord.quality`: the decoded stream against the clip.

    A metric that a clip is too small for is left out.

    Raises:
      EncoderError: the decoded frames do not have the PSNR that the encoder told.
    """
    with tempfile.TemporaryDirectory(prefix="muzero-rc-") as folder:
        path = Path(folder) / "stream.ivf"
        result.stream.write_ivf(path)
        metrics = video.measurable(metrics, clip.width, clip.height)
        found = video.measure(
            path, source.path, metrics, height=source.height, max_frames=source.max_frames
        )
    shown = sorted((f for _, f in result.frames if f.shown), key=lambda f: f.show_index)
    measured = found.pop("psnr")
    # Also proves that frames were compared with the right ones.
    if len(measured) != len(shown) or any(
        abs(frame.psnr - db) > _PSNR_TOLERANCE_DB for frame, db in zip(shown, measured, strict=True)
    ):
        raise EncoderError(
            f"{source.name}: the decoded stream does not have the PSNR that the encoder told;"
            " the file may have changed since it was opened"
        )
    return {name: spread(values, clip.fps).as_dict() for name, values in found.items()}


def _write_webm(stream: EncodedStream, source: Path, out: Path) -> None:
    info = video.probe(source)
    with output(out) as webm:
        ivf = webm.with_suffix(".ivf")
        try:
            stream.write_ivf(ivf)
            video.wrap(ivf, info, webm)
        finally:
            ivf.unlink(missing_ok=True)
