"""What a worker process does: opening a clip, with its targets, and one encode.

Apart from the runner, so that workers do not load what only comparing needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from muzero_rc import video
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.evaluation.grid.encoder import ClipEncoder, ClipInfo, ClipSource, Method, encode_key
from muzero_rc.evaluation.grid.store import EncodeStore
from muzero_rc.evaluation.measure.targets import AutoTargets, Probe, auto_targets, first_guess
from muzero_rc.evaluation.media import MediaFolder
from muzero_rc.evaluation.results import EncodeRecord
from muzero_rc.output_files import output

__all__ = ["PROBE_SPEED", "Encoding", "Handler", "Opened", "Opening"]

PROBE_SPEED = 5
"""Slowest speed of the encodes that look for the range of `auto` targets.

They only say where about 30 and 45 dB lie; speed 1 would say the same in twice the time.
"""


@dataclass(frozen=True, slots=True)
class Opening:
    """Task: decode a clip and choose its targets.

    Attributes:
      source: the clip.
      anchor: two-pass VBR, which finds the range of `auto` targets.
      settings: of every encode but for the target.
      targets_kbps: given targets, None for `auto`.
    """

    source: ClipSource
    anchor: Method
    settings: EncoderSettings
    targets_kbps: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Opened:
    """Answer to `Opening`; `auto` says how the targets were chosen, if they were."""

    info: ClipInfo
    targets_kbps: tuple[int, ...]
    auto: AutoTargets | None


@dataclass(frozen=True, slots=True)
class Encoding:
    """Task: one encode.

    Attributes:
      source: the clip.
      method: how.
      settings: with the target that is asked for.
      key: hash of all that determines the encode.
      target_kbps: the target that it stands for, which A/A runs move before they ask.
      metrics: to measure beside PSNR.
    """

    source: ClipSource
    method: Method
    settings: EncoderSettings
    key: str
    target_kbps: int
    metrics: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Handler:
    """Does tasks; what is finished goes to the store at once.

    Attributes:
      encoder: makes the encodes.
      store: keeps them.
      build: identity of the encoder library.
      media: keeps streams and a thumbnail of each clip, None to keep none.
    """

    encoder: ClipEncoder
    store: EncodeStore
    build: str
    media: MediaFolder | None = None

    def __call__(self, task: Opening | Encoding) -> Opened | EncodeRecord:
        """Does one task.

        Raises:
          InputError: the clip cannot be used.
          EncoderError: libvpx failed.
          OutputError: the store cannot be written.
        """
        if isinstance(task, Encoding):
            return self._encode(
                task.source, task.method, task.settings, task.key, task.metrics, self.media
            )
        info = self.encoder.open(task.source)
        if self.media is not None:
            _keep_thumbnail(self.media, task.source, info)
        if task.targets_kbps is not None:
            return Opened(info, task.targets_kbps, None)
        settings = task.settings.replace(speed=max(task.settings.speed, PROBE_SPEED))

        def probe(kbps: int) -> Probe:
            at = settings.replace(target_kbps=kbps)
            key = encode_key(info, task.anchor, at, self.build)
            record = self.store.get(key) or self._encode(task.source, task.anchor, at, key)
            return Probe(kbps, record.actual_kbps, record.psnr_avg)

        chosen = auto_targets(
            probe, first_guess(info.width, info.height, float(Fraction(info.fps)))
        )
        return Opened(info, chosen.targets_kbps, chosen)

    def _encode(
        self,
        source: ClipSource,
        method: Method,
        settings: EncoderSettings,
        key: str,
        metrics: tuple[str, ...] = (),
        media: MediaFolder | None = None,
    ) -> EncodeRecord:
        stream = None if media is None else media.stream(key)
        record = self.encoder.encode(source, method, settings, key, metrics, stream=stream)
        self.store.put(record)
        return record


def _keep_thumbnail(media: MediaFolder, source: ClipSource, info: ClipInfo) -> None:
    path = media.thumbnail(info.sha256)
    if path.is_file():
        return
    # A third into the clip there is seldom a fade or a title.
    with output(path) as temporary:
        video.write_thumbnail(source.path, temporary, at_s=info.duration_s / 3)
