"""A video file in, another one out: decode, passes, all other tracks, check, rename.

Everything is written into a hidden folder beside the output and renamed at the end, so the
output is either complete and checked, or not there. A film of more than
`encode.cut.WHOLE_FRAMES` frames is encoded in chunks (`encode.chunked`), which are kept until then.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from muzero_rc import video
from muzero_rc.compute import usable_cores
from muzero_rc.encode.aims import Aim, QualityAim, Try
from muzero_rc.encode.chunk_store import ChunkStore
from muzero_rc.encode.chunked import in_chunks, kind_of_probe
from muzero_rc.encode.cut import is_film, uncut_bytes
from muzero_rc.encode.encoded import Encoded
from muzero_rc.encode.finish import TooLargeError, finish, kept_stream
from muzero_rc.encode.first_pass_realtime import FirstPassInRealtime
from muzero_rc.encode.hold_back import check_fits, what_was_needed
from muzero_rc.encode.job_progress import JobProgress, phase_costs
from muzero_rc.encode.passes import Encoding, InChunks, Whole, chunk_store
from muzero_rc.encode.progress import PHASES, Progress, Teller
from muzero_rc.encode.report import EncodeReport, SearchSummary, TimeSummary
from muzero_rc.encode.trial import plan_mux, try_mux
from muzero_rc.encode.workplace import workplace
from muzero_rc.env.codec import _native
from muzero_rc.env.codec.clip import Clip, default_memory_limit
from muzero_rc.env.codec.first_pass import FirstPass, first_pass
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.control.work_budget import check_time
from muzero_rc.errors import AimMissedError, InputError, OutputError
from muzero_rc.leaky_bucket import Bucket
from muzero_rc.output_files import take_place
from muzero_rc.policies.hindsight.policy import HindsightPolicy
from muzero_rc.policies.registry import prepare, warm_up
from muzero_rc.types import Policy, needs_blocks

__all__ = [
    "PHASES",
    "EncodeReport",
    "Progress",
    "SearchSummary",
    "TimeSummary",
    "check_output",
    "encode",
]

_NO_MEMORY = 1  # bytes: less than any frame
_AUDIO_KBPS = 100  # rough, for the forecast of the space needed


def check_output(source: Path | str, out: Path | str) -> Path:
    """Where the output will really be, if it can be written there.

    Raises:
      OutputError: it is the input, a directory, not a regular file, or its folder is
        missing or cannot be written.
      InputError: its name does not end as one of the formats that are written.
    """
    out = Path(out)
    if out.is_dir():
        raise OutputError(f"the output {out} is a directory; give a file name in it")
    if out.exists() and os.path.exists(source) and os.path.samefile(source, out):
        raise OutputError(f"the output {out} is the input; give another name")
    if out.exists() and not out.is_file():
        raise OutputError(f"the output {out} is not a regular file; give another name")
    video.container_of(out)
    # Through a symbolic link, the file it points to is what gets replaced.
    out = Path(os.path.realpath(out))
    folder = out.parent
    if not folder.is_dir():
        raise OutputError(f"the output folder {folder} does not exist; create it first")
    if not os.access(folder, os.W_OK | os.X_OK) or (out.exists() and not os.access(out, os.W_OK)):
        raise OutputError(f"no permission to write {out}; write elsewhere")
    return out


def encode(
    source: Path | str,
    out: Path | str,
    settings: EncoderSettings,
    policy: Policy,
    *,
    height: int | None = None,
    max_frames: int | None = None,
    verify: bool = True,
    workers: int | None = None,
    policy_key: str | None = None,
    resume: bool = True,
    audio: video.AudioMode = "auto",
    aim: Aim | None = None,
    key_times: Sequence[float] = (),
    bucket: Bucket | None = None,
    picture: video.Picture | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_loss: Callable[[str], None] | None = None,
) -> EncodeReport:
    """Encodes a video file to VP9, all else in it carried over.

    Args:
      source: any file ffmpeg reads.
      out: the file, .webm, .mkv, .mp4 or .ivf; one that exists is replaced only when the new
        one is complete.
      settings: how to encode; the target bitrate is one of them.
      policy: chooses the qindexes.
      height: scale down to this height.
      max_frames: encode only the beginning.
      verify: decode the output, count its frames, and compare each with what the encoder made;
        its packets are counted in any case.
      workers: chunks of a film that are encoded at a time; all cores if not given.
      policy_key: what tells the policy from all others. With it a film that was stopped goes on
        where it was; without it the finished chunks are thrown away.
      resume: go on from chunks that an earlier start has finished; else they are thrown away.
      audio: what becomes of audio.
      aim: what is to be reached in the place of the target bitrate; it takes several encodes,
        which share what was decoded, the first pass and the probe encodes.
      key_times: seconds of the video at which there is a key frame; the clip is cut there, and
        encoded in chunks however short it is.
      bucket: leaky bucket that must never underflow; likewise in chunks.
      picture: how the source becomes frames; `video.picture_of` settles it, all of it with its
        own depth and times, if not given.
      on_progress: called often; must be quick.
      on_loss: told at once of each thing of the source that is left out or changed.

    Raises:
      InputError: the source cannot be used.
      OutputError: the output cannot be written, is too large, does not decode, or decodes to
        other pictures than the encoder made.
      EncoderError: libvpx failed.
      ToolMissingError: ffmpeg or ffprobe is not installed.
    """
    start = time.perf_counter()
    given, out = Path(out), check_output(source, out)
    info = video.probe(source)
    if height is not None:
        video.check_height(height)
    picture = (picture or video.picture_of(info)).first(max_frames)
    picture.source.check_unchanged()
    shape = picture.info
    plan = video.MuxPlan(
        container=video.container_of(out), audio=audio,
        start_s=picture.start_s, end_s=picture.end_s, picture=picture,
    )  # fmt: skip
    lines: list[str] = []

    def lose(line: str) -> None:
        lines.append(line)
        if on_loss is not None:
            on_loss(line)

    chunked = in_chunks(policy, settings)
    job: JobProgress | None = None
    if (key_times or bucket) and not chunked:
        what = "key frames at given times need" if key_times else "a largest bitrate needs"
        raise InputError(
            f"{what} a policy that encodes in chunks, {policy.name} does not; "
            "give planned, muzero or landed in three passes, or --crf"
        )
    if bucket and picture.times_ms is not None:
        raise InputError("a buffer is kept at a constant rate alone; give one with --fps")
    if chunked:
        # Else what encoders keep after a chunk would grow with the film's first pass.
        _native.hold_heap_thresholds()
    expected = _expected(shape, max_frames)
    film = chunked and (is_film(expected) or bool(key_times or bucket))
    # Key frames at given times are at other frames than the first pass cuts at.
    probe = kind_of_probe(policy, settings, film=film, beside=not key_times)
    if chunked and expected:
        cores = (workers or usable_cores()) if film else 1
        uniform = settings.speed_profile == "uniform"
        job = JobProgress(
            phase_costs(settings.speed, cores, probe=probe, uniform=uniform), expected
        )
    tell = Teller(on_progress, job)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_named(info))
        place = stack.enter_context(workplace(out))
        _check_space(out.parent, shape, settings, max_frames, copies=3 if film else 2,
                     known=not isinstance(aim, QualityAim))  # fmt: skip
        plan, told = plan_mux(info, plan, place)
        size = shape.coded_size(height)
        for line in told + video.left_at_edges(shape, size):
            lose(line)
        trial = time.perf_counter()
        try_mux(info, plan, place, size, shape.fps)
        tell.expect("mux", time.perf_counter() - trial)
        compiling = _start_warm_up(policy, size)
        tell("decode", 0, shape.expected_frames)

        def load(limit: int | None) -> Clip:
            return Clip.load(
                source,
                height=height,
                max_frames=max_frames,
                memory_limit_bytes=limit,
                on_frames=lambda count: tell("decode", count, shape.expected_frames),
                picture=picture,
            )

        limit = _memory_for(size, picture.bit_depth) if chunked else None
        # A film is streamed in any case: none of it is decoded to find that out.
        streamed = chunked and is_film(expected)
        clip = load(_NO_MEMORY if streamed else limit)
        planned = None if aim is None else aim.plan_kbps(clip.width * clip.height, float(clip.fps))
        if planned is not None:
            settings = settings.replace(target_kbps=planned)
        statistics = _first_pass(
            clip, settings, needs_blocks(policy), shape.expected_frames, tell,
            threads=(workers or usable_cores()) if film else 1,
            beside=probe == "beside" and not clip.in_memory,
        )  # fmt: skip
        info.check_unchanged()
        _tell_resized(clip, info.turned, lines, lose)
        if streamed and not is_film(clip.num_frames):
            clip = load(limit)  # the file has promised more frames than there are
        compiling.join()
        if bucket is not None and aim is None and settings.rc_mode != "q":
            check_fits(bucket, settings.target_kbps, clip.duration_s)
        store = None
        encoding: Encoding
        forced = video.frames_at(key_times, clip.fps, clip.num_frames, picture.times_ms)
        if chunked and (is_film(clip.num_frames) or forced or bucket):
            settings = prepare(policy, clip, settings, statistics)
            check_time(settings)
            store = stack.enter_context(
                chunk_store(out, clip, settings, policy_key, aim, forced, bucket)
            )
            stack.callback(_forget_if_changed, store, info)
            if not resume:
                store.clear()
            encoding = InChunks(
                clip, settings, policy, statistics, store, place.ivf,
                workers=workers or usable_cores(), aim=aim, forced=forced, bucket=bucket, tell=tell,
            )  # fmt: skip
        else:
            encoding = Whole(clip, settings, policy, statistics, place.ivf, aim=aim, tell=tell)

        def measure(metric: str) -> Sequence[float]:
            found = video.measure(
                place.ivf, Path(source), (metric,),
                height=height, max_frames=max_frames, picture=picture,
            )  # fmt: skip
            return found[metric]

        length = clip.duration_s if picture.cut or max_frames is not None else None

        def finished(done: Encoded) -> list[str]:
            info.check_unchanged()
            # Once more, as a first pass out of the cache has read no frame.
            _tell_resized(clip, info.turned, lines, lose)
            tell("mux")
            shown = done.score.shown_frames

            def checked(count: int) -> None:
                tell.is_over("mux")
                tell("check", count, shown)

            return finish(
                place, info, plan, given, shown,
                duration_s=length,
                decode=verify,
                on_check=checked,
                pictures=done.pictures() if verify else None,
                max_bytes=None if aim is None else aim.max_bytes,
            )  # fmt: skip

        tries = [] if store is None else [Try.from_dict(one) for one in store.files.tries()]
        try:
            done, found = _reach(encoding, aim, tries, measure, finished)
        except AimMissedError as error:
            info.check_unchanged()
            if store is not None:  # it would end the same way again
                store.remove()
            kept = kept_stream(place, info, plan, given, duration_s=length)
            raise AimMissedError(f"{error}{kept}") from None
        settings = encoding.settings
        shown = done.score.shown_frames
        for line in found:
            lose(line)
        tell("check", shown, shown)
        buffer = None if bucket is None else what_was_needed(bucket, place.ivf, clip.fps)
        file_bytes = place.file.stat().st_size
        info.check_unchanged()
        take_place(place.file, out)
        if store is not None:
            store.remove()
    seconds = time.perf_counter() - start
    score = done.score
    return EncodeReport(
        output=given,
        policy=policy.name,
        width=clip.width,
        height=clip.height,
        fps=str(clip.fps),
        frames=shown,
        coded_frames=score.coded_frames,
        duration_s=clip.duration_s,
        file_bytes=file_bytes,
        video_bytes=done.video_bytes,
        target_kbps=None if settings.rc_mode == "q" else score.target_kbps,
        actual_kbps=score.actual_kbps,
        deviation=None if settings.rc_mode == "q" else score.overshoot,
        psnr_avg=score.psnr_avg,
        psnr_overall=score.psnr_overall,
        psnr_y=score.psnr_y,
        seconds=seconds,
        second_pass_seconds=done.seconds,
        probe_seconds=done.probe_seconds,
        decision_seconds=done.decision_seconds,
        encode_fps=shown / seconds,
        pictures_compared=shown if verify else 0,
        qindexes=done.qindexes,
        sha256=done.sha256,
        chunks=done.chunks,
        chunks_again=done.chunks_again,
        settings=settings,
        search=_summary(policy),
        quality=tries[-1].quality,
        buffer=buffer,
        encodes=len(tries),
        time=_time(settings, done),
        losses=lines,
        results=done.results,
    )


def _tell_resized(
    clip: Clip, turned: bool, told: Sequence[str], lose: Callable[[str], None]
) -> None:
    """Says once that pictures have several sizes, as far as it is known."""
    line = (
        "pictures change their size or format on the way: all become "
        f"{clip.width}x{clip.height} in the format of the first"
    )
    if turned:  # ffmpeg turns them by filters that begin anew there, as does what keeps the rate
        line += "; the video is turned, so frames may be missing or come twice there"
    if clip.resized and line not in told:
        lose(line)


@contextlib.contextmanager
def _named(info: video.VideoInfo) -> Iterator[None]:
    """Says of a source that was changed that it was, whatever came of it."""
    try:
        yield
    except InputError:
        info.check_unchanged()
        raise


def _forget_if_changed(store: ChunkStore, info: video.VideoInfo) -> None:
    """Chunks of a source that was changed may be of either file: nobody goes on from them."""
    store.kept = store.kept and info.unchanged


def _reach(
    encoding: Encoding,
    aim: Aim | None,
    tries: list[Try],
    measure: Callable[[str], Sequence[float]],
    finished: Callable[[Encoded], list[str]],
) -> tuple[Encoded, list[str]]:
    """Encodes until the aim is reached: (what was encoded, what finishing it had to say).

    Args:
      encoding: makes a try.
      aim: what is to be reached.
      tries: those that were not good, of an earlier start; all that are made are added.
      measure: gives a metric of each frame of the stream.
      finished: makes the file.
    """
    kbps = aim.next_kbps(tries) if aim is not None and tries else None
    while True:
        done = encoding.encode(kbps)
        quality = None if aim is None else aim.look(done.results, measure)
        score = done.score
        tries.append(Try(score.target_kbps, score.actual_kbps, done.video_bytes, quality))
        kbps = None if aim is None else aim.next_kbps(tries)
        if kbps is None:
            try:
                return done, finished(done)
            except TooLargeError as error:
                if aim is None:
                    raise
                rest = error.file_bytes - error.video_bytes
                tries[-1] = dataclasses.replace(
                    tries[-1], file_bytes=error.file_bytes, rest_bytes=rest
                )
                kbps = aim.next_kbps(tries)
        encoding.note(tries)


def _time(settings: EncoderSettings, done: Encoded) -> TimeSummary | None:
    if settings.time is None or done.work is None:
        return None
    return TimeSummary(settings.time, done.work.times, done.work.vbr_seconds)


def _expected(info: video.VideoInfo, max_frames: int | None) -> int:
    """Frames of a film, as far as its file says; 0 if it does not."""
    expected = info.expected_frames or 0
    return expected if max_frames is None else min(expected, max_frames)


def _memory_for(size: tuple[int, int], bit_depth: int) -> int:
    """Bytes that a clip's frames may take that is not cut."""
    return min(uncut_bytes(*size, bit_depth), default_memory_limit())


def _start_warm_up(policy: Policy, size: tuple[int, int]) -> threading.Thread:
    """Compiles networks while the video is decoded and analysed."""

    def quietly() -> None:
        # What fails here fails again at the first decision, where it can be told.
        with contextlib.suppress(Exception):
            start = policy.start if isinstance(policy, HindsightPolicy) else policy
            if start is not None:
                warm_up(start, size)

    # Not a daemon: ending the process inside the compiler would crash it.
    thread = threading.Thread(target=quietly, name="warm-up")
    thread.start()
    return thread


def _first_pass(
    clip: Clip,
    settings: EncoderSettings,
    blocks: bool,
    expected_frames: int | None,
    tell: Teller,
    *,
    threads: int,
    beside: bool,
) -> FirstPass:
    # A clip that is streamed knows its length only after the first pass.
    expected = clip.num_frames if clip.in_memory else expected_frames
    tell("first pass", 0, expected)

    def told(count: int) -> None:
        tell("first pass", count, expected)

    chunks = FirstPassInRealtime(clip, settings, own_thread=threads > 1, on_frames=told)
    found = first_pass(
        clip,
        settings,
        blocks=blocks,
        threads=threads,
        run=chunks if beside else None,
        on_frames=told,
    )
    return dataclasses.replace(found, realtime=chunks.costs)


def _summary(policy: Policy) -> SearchSummary | None:
    found = policy.result if isinstance(policy, HindsightPolicy) else None
    if found is None or not isinstance(policy, HindsightPolicy):
        return None
    return SearchSummary(
        budget=policy.budget,
        spent=found.spent,
        encodes=found.encodes,
        gain=found.gain,
        on_target=found.on_target,
        stopped_early=found.stopped_early,
        interrupted=found.interrupted,
    )


def _check_space(
    folder: Path,
    info: video.VideoInfo,
    settings: EncoderSettings,
    max_frames: int | None,
    *,
    copies: int,
    known: bool,
) -> None:
    """Better to hear of a full disk now than after hours."""
    seconds = info.duration_s or 0.0
    if max_frames is not None:
        seconds = min(seconds, float(max_frames / info.fps))
    audio_kbps = _AUDIO_KBPS * len(info.audio)
    # The frames are there in the WebM file and as encoded, of a film also in chunks, until the
    # rename.
    # What constant quality or a quality will take nobody knows.
    video_kbps = 0 if settings.rc_mode == "q" or not known else settings.target_kbps
    needed = seconds * (copies * video_kbps + audio_kbps) * 125
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OutputError(
            f"{folder} has {free / 1e6:.3g} MB free, this encode needs about "
            f"{needed / 1e6:.3g} MB; free some or write elsewhere"
        )
