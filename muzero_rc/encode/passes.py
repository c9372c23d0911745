"""From a clip and its first pass to a stream in a file: in one piece, or in chunks."""

from __future__ import annotations

import hashlib
import json
import secrets
from pathlib import Path

from muzero_rc.code_digest import digest_of_code
from muzero_rc.encode.chunk_store import IDENTITY_DIGITS, ChunkStore
from muzero_rc.encode.chunked import encode_chunks
from muzero_rc.encode.clip import encode_clip
from muzero_rc.encode.encoded import Encoded
from muzero_rc.encode.progress import Teller
from muzero_rc.env.codec.clip import Clip, default_memory_limit
from muzero_rc.env.codec.first_pass import FirstPass
from muzero_rc.env.control.gop import probe_plan_of
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.errors import InputError
from muzero_rc.identity import build_identity
from muzero_rc.policies.hindsight.policy import HindsightPolicy, search_jobs
from muzero_rc.types import FrameResult, Policy

__all__ = ["chunk_store", "encode_in_chunks", "encode_whole"]


def encode_whole(
    clip: Clip,
    settings: EncoderSettings,
    policy: Policy,
    statistics: FirstPass,
    ivf: Path,
    *,
    tell: Teller,
) -> tuple[Encoded, EncoderSettings]:
    """Encodes a clip in one piece.

    Args:
      clip: what to encode.
      settings: how; the policy may change them.
      policy: decides on each frame.
      statistics: the clip's first pass.
      ivf: file for the stream.
      tell: told how far it is.

    Returns:
      The stream, and the settings that were used.

    Raises:
      InputError: the clip has changed, or what the policy decided cannot be used.
      EncoderError: the encoder failed.
    """
    total = clip.num_frames
    tell("search")
    if isinstance(policy, HindsightPolicy):
        policy.on_progress = lambda step: tell("search", step.spent, step.budget, step)
    probe_frames = run = 0

    def on_settings(used: EncoderSettings) -> None:
        nonlocal probe_frames
        probe_frames = total * probe_plan_of(used).encodes
        if used.needs_probe:
            tell("probe", 0, probe_frames)
        else:
            tell("second pass", 0, total)

    def on_frame(frame: FrameResult) -> None:
        # Not counted: an encode that missed starts again.
        if frame.shown:
            tell("second pass", frame.show_index + 1, total)

    def on_probe_frame(frame: FrameResult) -> None:
        nonlocal run, probe_frames
        if frame.shown:
            run += 1
            if run > probe_frames:  # the first was too far from the target: one more
                probe_frames += total
            tell("probe", run, probe_frames)

    done = encode_clip(
        clip, settings, policy,
        first_pass=statistics, output=ivf, jobs=search_jobs(settings.threads),
        on_settings=on_settings, on_frame=on_frame, on_probe_frame=on_probe_frame,
    )  # fmt: skip
    result, settings = done.rollout, done.settings
    if result.score.shown_frames != total:
        raise InputError(
            f"{clip.name} gave {result.score.shown_frames} frames in the second pass, "
            f"{total} in the first; the file may be changing"
        )
    encoded = Encoded(
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
    return encoded, settings


def chunk_store(
    out: Path, clip: Clip, settings: EncoderSettings, policy_key: str | None
) -> ChunkStore:
    """The folder for a film's chunks, named by all that decides their bytes.

    Args:
      out: the output file.
      clip: the film.
      settings: as the policy wants them.
      policy_key: what tells the policy from all others; without it nobody finds the folder
        again.
    """
    what = {
        "clip": clip.sha256,
        "settings": settings.as_dict(),
        "policy": policy_key or secrets.token_hex(8),
        "build": build_identity(),
        "chunks": digest_of_code("muzero_rc.encode.chunked"),
    }
    identity = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
    return ChunkStore(out, identity[:IDENTITY_DIGITS], keep=policy_key is not None)


def encode_in_chunks(
    clip: Clip,
    settings: EncoderSettings,
    policy: Policy,
    statistics: FirstPass,
    store: ChunkStore,
    ivf: Path,
    *,
    workers: int,
    tell: Teller,
) -> Encoded:
    """Encodes a film in chunks; a failure says how many of them are kept.

    Args:
      clip: the film.
      settings: as the policy wants them.
      policy: decides on each frame.
      statistics: the film's first pass.
      store: open folder of the chunks.
      ivf: file for the stream.
      workers: chunks that are encoded at a time.
      tell: told how far it is.

    Raises:
      InputError: the film has changed, or what the policy decided cannot be used.
      EncoderError: the encoder failed.
    """
    tell.cut(clip.num_frames, settings.speed, workers)
    try:
        return encode_chunks(
            clip, settings, policy, statistics, store.files, ivf,
            workers=workers, memory_bytes=default_memory_limit(), on_frames=tell.add,
        )  # fmt: skip
    except BaseException as error:
        finished = store.files.finished()
        if store.kept and finished:
            error.add_note(f"{finished} finished chunks are kept; the same command goes on")
        raise
