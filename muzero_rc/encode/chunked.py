"""A film in chunks: probe encodes on all cores, one share of bits, last passes on all cores.

1. Chunks end at libvpx's key frames (`encode.cut`), which the first pass tells.
2. Every chunk has a probe encode.
3. All probes together tell each chunk its share of the film's bits (`encode.share`); while
   chunks are finished, what is left is shared anew.
4. Every chunk has its last pass, with its own rate control on its share.
5. If the film is off its target by more than the recipe allows, chunks that can mend it are
   made again (`encode.repairs`).
6. The streams are joined.

Steps 2 to 6 are in `encode.film_phases`.

Steps 2, 4 and 5 decode the film once each, or what they need of it. No more than a stated number
of chunks is in memory (`most_in_memory`). Which bytes come out depends neither on the number of
workers nor on where an earlier start was stopped.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from muzero_rc.compute import Compute, ThreadScheduler
from muzero_rc.encode.chunk_store import ChunkFiles
from muzero_rc.encode.cut import Chunk, cut
from muzero_rc.encode.encoded import Encoded
from muzero_rc.encode.film_levels import FilmLevels
from muzero_rc.encode.film_phases import FilmPhases, StartKbps
from muzero_rc.encode.job_progress import OnAhead, OnChance, OnFrames, ProbeKind
from muzero_rc.encode.share import Curve
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import FirstPass
from muzero_rc.env.codec.key_frames import key_frames
from muzero_rc.env.control.baselines import ProposalPolicy, VbrPolicy
from muzero_rc.env.control.qp_offsets import QpOffsetPolicy
from muzero_rc.env.control.recipe import DEFAULT_RECIPE, Recipe
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.passes.stepper import episode_score
from muzero_rc.leaky_bucket import Bucket
from muzero_rc.log_columns import PackedResults
from muzero_rc.policies.planned import PlannedPolicy
from muzero_rc.policies.registry import Prepared, WithSpeedProfile
from muzero_rc.types import Policy

__all__ = ["as_settings", "encode_chunks", "in_chunks", "kind_of_probe", "most_in_memory"]


def as_settings(curves: Sequence[Curve], seconds: float) -> None:
    """The settings' own bitrate."""


def _ignore(phase: str, frames: int, kept: bool, weight: float) -> None:
    """For whoever wants to know nothing."""


def _ignore_ahead(phase: str, frames: int, weight: float) -> None:
    """Likewise."""


def _ignore_chance(phase: str, chance: float) -> None:
    """Likewise."""


def in_chunks(policy: Policy, settings: EncoderSettings) -> bool:
    """Whether a film that is long enough is encoded in chunks.

    It is if probe encodes tell what chunks cost, and the policy follows rate control and has no
    need to see the whole film first; if nothing is to be shared, with constant quality; or by
    levels of constant quality in two passes (`by_levels`).
    """
    passes: int = settings.passes
    if isinstance(policy, WithSpeedProfile):
        passes, policy = settings.passes or policy.passes, policy.policy
    if settings.rc_mode == "q":
        return isinstance(policy, VbrPolicy | ProposalPolicy)
    if isinstance(policy, VbrPolicy | ProposalPolicy | Prepared):
        return False
    if settings.speed_profile == "probe":
        return False
    return passes == 3 or by_levels(policy, settings)


def by_levels(policy: Policy, settings: EncoderSettings) -> bool:
    """Whether chunks meet the film's bitrate by levels of constant quality.

    They do in two passes: a policy that plans by a probe encode has none there, and would leave
    all to rate control, which does not know the chunk.
    """
    if isinstance(policy, WithSpeedProfile):
        policy = policy.policy
    plans = isinstance(policy, PlannedPolicy | QpOffsetPolicy)
    return plans and settings.passes == 2 and settings.rc_mode == "vbr"


def kind_of_probe(
    policy: Policy, settings: EncoderSettings, *, film: bool, beside: bool = False
) -> ProbeKind | None:
    """The kind of probe encode of an encode, whose policy encodes films in chunks.

    Args:
      policy: of the encode.
      settings: of the encode.
      film: it is one that goes in chunks.
      beside: chunks are encoded in real time beside the first pass.
    """
    if settings.rc_mode == "q":
        return None
    if by_levels(policy, settings):
        return ("beside" if beside else "realtime") if film else None
    return "whole"


READ_AHEAD_BYTES = 1_500_000_000
"""Frames in memory, with those that are read ahead, above which nothing is read ahead.

What a film of 1080 lines may take, by the issue on films and files. A worker then waits while its
next chunk is read.
"""


def most_in_memory(workers: int, chunk_bytes: int, memory_bytes: int) -> tuple[int, int]:
    """(workers, chunks in memory at a time): one for each worker, and one that is read ahead.

    Nothing is read ahead where that would make more than `READ_AHEAD_BYTES`.

    Args:
      workers: cores that may be used.
      chunk_bytes: frames of the largest chunk.
      memory_bytes: that frames may take; two chunks fit in any case.
    """
    workers = max(1, min(workers, memory_bytes // chunk_bytes - 1))
    ahead = (workers + 1) * chunk_bytes <= READ_AHEAD_BYTES
    return workers, workers + ahead


def encode_chunks(
    clip: Clip,
    settings: EncoderSettings,
    policy: Policy,
    statistics: FirstPass,
    files: ChunkFiles,
    output: Path,
    *,
    workers: int,
    memory_bytes: int,
    on_frames: OnFrames = _ignore,
    on_ahead: OnAhead = _ignore_ahead,
    on_chance: OnChance = _ignore_chance,
    start_kbps: StartKbps = as_settings,
    first_turn: int = 0,
    forced: Sequence[int] = (),
    bucket: Bucket | None = None,
    compute: Compute = ThreadScheduler,
    recipe: Recipe = DEFAULT_RECIPE,
) -> Encoded:
    """Encodes a film whose first pass is known.

    Args:
      clip: the film.
      settings: as the policy wants them; with a probe encode, or of constant quality.
      policy: decides on each frame; an answer depends on one encode alone.
      statistics: the first pass.
      files: where chunks are kept; those that are there are not made again.
      output: written: the film's stream, an IVF file.
      workers: chunks in work at a time.
      memory_bytes: that frames may take.
      on_frames: told the phase, "probe" or "second pass", how many shown frames more are done,
        whether an earlier start had done them, and what each of them weighs.
      on_ahead: told what is made again.
      on_chance: told how likely that is.
      start_kbps: the film's bitrate by the probe encodes' curves and its seconds, where
        settings have no `budget_kbps`; None for the settings' own.
      first_turn: how often all chunks were made before, for another bitrate.
      forced: frames that must be key frames, ascending, the first one not among them; chunks
        begin there, whatever their length.
      bucket: that must never underflow; chunks that make it do are made again, coarser.
      compute: where chunks are encoded.
      recipe: the constants of control.

    Raises:
      InputError: the film cannot be read any more, or the policy's answer cannot be used.
      EncoderError: the encoder failed.
      AimMissedError: the bucket underflows however coarse the frames are; the stream is there
        if that is known at the end alone.
      OSError: the disk is full.
    """
    chunks: list[Chunk] = []
    for first, end in pairwise([0, *forced, clip.num_frames]):
        keys = key_frames(statistics.stats[first:end], clip, settings)
        for chunk in cut(keys.tolist(), end - first):
            chunks.append(Chunk(len(chunks), first + chunk.start, chunk.frames))
    largest = max(chunk.frames for chunk in chunks) * clip.frame_bytes
    workers, in_memory = most_in_memory(workers, largest, memory_bytes)
    kind = FilmLevels if by_levels(policy, settings) else FilmPhases
    film = kind(
        clip, settings, policy, statistics, files, chunks, workers, in_memory > workers,
        first_turn, on_frames, on_ahead, on_chance, compute, recipe,
    )  # fmt: skip
    start = time.perf_counter()
    if bucket is not None and not first_turn:
        film.check_bucket(bucket)
    made = film.encode_all(start_kbps)
    turns = made.turns
    size_bytes = film.join(turns, output)
    if bucket is not None:
        size_bytes = film.hold_back(bucket, turns, output)

    qindexes: list[int] = []
    decision_seconds = 0.0
    results = PackedResults()
    for chunk in chunks:
        record = film.record(chunk.index, turns[chunk.index])
        results.extend(record.log.frames)
        qindexes += record.log.qindexes
        decision_seconds += record.decision_seconds
    seconds = time.perf_counter() - start
    with output.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return Encoded(
        score=episode_score(clip, film.kbps, results, size_bytes),
        video_bytes=size_bytes,
        sha256=sha256,
        seconds=seconds,
        probe_seconds=made.probe_seconds,
        decision_seconds=decision_seconds,
        qindexes=qindexes,
        results=results,
        chunks=len(chunks),
        chunks_again=sum(turn > first_turn for turn in turns.values()),
        work=made.work,
    )
