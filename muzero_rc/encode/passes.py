"""From a clip and its first pass to a stream in a file: in one piece, or in chunks.

An `Encoding` encodes as often as it is asked to, each time at another bitrate; what does not
depend on that is done once.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from muzero_rc.code_digest import digest_of_code
from muzero_rc.encode.aims import Aim, Try
from muzero_rc.encode.chunk_store import IDENTITY_DIGITS, ChunkStore
from muzero_rc.encode.chunked import as_settings, encode_chunks, in_chunks, kind_of_probe
from muzero_rc.encode.clip import encode_clip
from muzero_rc.encode.encoded import Encoded
from muzero_rc.encode.film_phases import TURNS
from muzero_rc.encode.progress import Teller
from muzero_rc.encode.share import MOST_PROBES, curve_of, is_far
from muzero_rc.env.codec.clip import Clip, default_memory_limit
from muzero_rc.env.codec.first_pass import FirstPass
from muzero_rc.env.control.gop import probe_plan_of
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.passes.probe import first_probe
from muzero_rc.errors import InputError
from muzero_rc.identity import build_identity
from muzero_rc.leaky_bucket import Bucket
from muzero_rc.policies.hindsight.policy import HindsightPolicy, search_jobs
from muzero_rc.policies.registry import prepare
from muzero_rc.types import EncodeLog, FrameResult, Policy

__all__ = ["Encoding", "InChunks", "Whole", "chunk_store"]


class Encoding(Protocol):
    """A clip or film that is encoded, again if it must be."""

    @property
    def settings(self) -> EncoderSettings:
        """As the policy wants them; known after an encode."""
        ...

    def encode(self, kbps: float | None) -> Encoded:
        """Encodes at a bitrate, kbit/s; None for the first one.

        Raises:
          InputError: the source has changed, or what the policy decided cannot be used.
          EncoderError: the encoder failed.
        """
        ...

    def note(self, tries: list[Try]) -> None:
        """Writes tries down, the last of which was not good."""
        ...


class Whole:
    """Encodes a clip in one piece."""

    def __init__(
        self,
        clip: Clip,
        settings: EncoderSettings,
        policy: Policy,
        statistics: FirstPass,
        ivf: Path,
        *,
        aim: Aim | None,
        tell: Teller,
    ) -> None:
        """Takes what to encode.

        Args:
          clip: what to encode.
          settings: how; the policy may change them.
          policy: decides on each frame.
          statistics: the clip's first pass.
          ivf: file for the stream.
          aim: what may want several encodes.
          tell: told how far it is.
        """
        self.settings = settings
        self._given = settings
        self._clip = clip
        self._policy = policy
        self._statistics = statistics
        self._ivf = ivf
        self._aim = aim
        self._tell = tell
        self._probe: EncodeLog | None = None
        self._probe_frames = self._probed = 0

    def encode(self, kbps: float | None) -> Encoded:
        """Encodes at a bitrate, kbit/s; None for the first one.

        Raises:
          InputError: the clip has changed, or what the policy decided cannot be used.
          EncoderError: the encoder failed.
        """
        clip, policy, tell = self._clip, self._policy, self._tell
        total = clip.num_frames
        tell("search")
        if isinstance(policy, HindsightPolicy):
            policy.on_progress = lambda step: tell("search", step.spent, step.budget, step)
        # Other policies follow libvpx's target, and a probe encode is of one target.
        shared = self._aim is not None and in_chunks(policy, self._given)
        if self._aim is not None and shared and self._probe is None:
            kbps = self._first_probe(self._aim)
        settings = self._given
        if kbps is not None:
            if self._probe is None:  # nothing was made for another bitrate
                settings = settings.replace(target_kbps=max(1, int(kbps)))
            else:
                settings = settings.replace(budget_kbps=kbps)

        def on_frame(frame: FrameResult) -> None:
            # Not counted: an encode that missed starts again.
            if frame.shown:
                tell("second pass", frame.show_index + 1, total)

        done = encode_clip(
            clip, settings, policy,
            first_pass=self._statistics, first_probe=self._probe, output=self._ivf,
            jobs=search_jobs(settings.threads), on_settings=self._on_settings,
            on_frame=on_frame, on_probe_frame=self._on_probe_frame,
        )  # fmt: skip
        result, self.settings = done.rollout, done.settings
        if result.score.shown_frames != total:
            raise InputError(
                f"{clip.name} gave {result.score.shown_frames} frames in the second pass, "
                f"{total} in the first; the file may be changing"
            )
        return Encoded(
            score=result.score,
            video_bytes=result.stream.size_bytes,
            sha256=result.stream.sha256,
            seconds=result.seconds,
            probe_seconds=result.probe_seconds,
            decision_seconds=result.decision_seconds,
            qindexes=result.qindexes,
            results=[frame for _, frame in result.frames],
            work=result.work,
        )

    def note(self, tries: list[Try]) -> None:
        """Nothing is written down of a clip."""

    def _first_probe(self, aim: Aim) -> float | None:
        """The probe encode that all tries share, and the bitrate that it leads to."""
        clip = self._clip
        kbps: float | None = None
        for _ in range(MOST_PROBES):
            settings = prepare(self._policy, clip, self._given, self._statistics)
            self._on_settings(settings)
            self._probe = first_probe(
                clip, settings, self._statistics, on_frame=self._on_probe_frame
            )
            curve = curve_of(self._probe, clip, settings.frame_budget(clip.fps))
            kbps = aim.start_kbps([curve], clip.duration_s)
            if kbps is None or not is_far(kbps, settings.target_kbps):
                break
            self._given = self._given.replace(target_kbps=max(1, round(kbps)))
        return kbps

    def _on_settings(self, used: EncoderSettings) -> None:
        total = self._clip.num_frames
        if used.rc_mode == "q" or (self._tell.job and not used.needs_probe):
            self._tell.begin(total, used, 1, probe=None)
            self._tell.know(total)
        if not used.needs_probe:
            self._tell("second pass", 0, total)
            return
        self._probe_frames = total * probe_plan_of(used).encodes
        self._probed = 0 if self._probe is None else total
        self._tell.begin(total, used, 1)
        self._tell.know(total)
        self._tell("probe", self._probed, self._probe_frames)

    def _on_probe_frame(self, frame: FrameResult) -> None:
        if frame.shown:
            self._probed += 1
            if self._probed > self._probe_frames:  # the first was too far off: one more
                self._probe_frames += self._clip.num_frames
            self._tell("probe", self._probed, self._probe_frames)


class InChunks:
    """Encodes a film in chunks."""

    def __init__(
        self,
        clip: Clip,
        settings: EncoderSettings,
        policy: Policy,
        statistics: FirstPass,
        store: ChunkStore,
        ivf: Path,
        *,
        workers: int,
        aim: Aim | None,
        forced: Sequence[int],
        bucket: Bucket | None,
        tell: Teller,
    ) -> None:
        """Takes what to encode.

        Args:
          clip: the film.
          settings: as the policy wants them.
          policy: decides on each frame.
          statistics: the film's first pass.
          store: open folder of the chunks.
          ivf: file for the stream.
          workers: chunks that are encoded at a time.
          aim: what may want several encodes.
          forced: frames that must be key frames.
          bucket: that must never underflow.
          tell: told how far it is.
        """
        self.settings = settings
        self._clip = clip
        self._policy = policy
        self._statistics = statistics
        self._files = store.files
        self._ivf = ivf
        self._workers = workers
        self._forced = forced
        self._bucket = bucket
        self._aim = aim
        self._tell = tell
        self._tries = len(store.files.tries())

    def encode(self, kbps: float | None) -> Encoded:
        """Encodes at a bitrate, kbit/s; None for the first one.

        Raises:
          InputError: the film has changed, or what the policy decided cannot be used.
          EncoderError: the encoder failed.
        """
        probe = kind_of_probe(
            self._policy, self.settings, film=True, beside=bool(self._statistics.realtime)
        )
        frames = self._clip.num_frames
        self._tell.begin(frames, self.settings, self._workers, probe=probe, film=True)
        self._tell.know(frames)
        start = as_settings if self._aim is None else self._aim.start_kbps
        return encode_chunks(
            self._clip, self.settings.replace(budget_kbps=kbps), self._policy,
            self._statistics, self._files, self._ivf, workers=self._workers,
            memory_bytes=default_memory_limit(),
            on_frames=self._tell.add, on_ahead=self._tell.add_ahead,
            on_chance=self._tell.doubt, first_turn=self._turn, start_kbps=start,
            forced=self._forced, bucket=self._bucket,
        )  # fmt: skip

    def note(self, tries: list[Try]) -> None:
        """Writes tries down, the last of which was not good."""
        self._tries = len(tries)
        self._files.add_try(self._turn, [one.as_dict() for one in tries])

    @property
    def _turn(self) -> int:
        """The first turn of this try."""
        return self._tries * TURNS


def chunk_store(
    out: Path,
    clip: Clip,
    settings: EncoderSettings,
    policy_key: str | None,
    aim: Aim | None,
    forced: Sequence[int],
    bucket: Bucket | None,
) -> ChunkStore:
    """The folder for a film's chunks, named by all that decides their bytes.

    Args:
      out: the output file.
      clip: the film.
      settings: as the policy wants them.
      policy_key: what tells the policy from all others; without it nobody finds the folder
        again.
      aim: what is to be reached.
      forced: frames that must be key frames.
      bucket: that must never underflow.
    """
    what = {
        "clip": clip.sha256,
        "settings": settings.as_dict(),
        "policy": policy_key or secrets.token_hex(8),
        "aim": None if aim is None else aim.key,
        "forced": list(forced),
        "bucket": None if bucket is None else [bucket.kbps, bucket.size_s],
        "build": build_identity(),
        "chunks": digest_of_code("muzero_rc.encode.chunked", "muzero_rc.encode.aims"),
    }
    identity = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
    return ChunkStore(out, identity[:IDENTITY_DIGITS], keep=policy_key is not None)
