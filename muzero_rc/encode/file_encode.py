"""One encode of a video file: what it is told, what it finds out, and its stages in order."""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from muzero_rc import video
from muzero_rc.compute import usable_cores
from muzero_rc.encode.aims import Aim, QualityAim, Try
from muzero_rc.encode.chunk_store import ChunkStore, remove_left
from muzero_rc.encode.chunked import in_chunks, kind_of_probe
from muzero_rc.encode.cut import is_film, uncut_bytes
from muzero_rc.encode.encoded import Encoded
from muzero_rc.encode.finish import TooLargeError, finish, kept_stream
from muzero_rc.encode.first_pass_realtime import FirstPassInRealtime
from muzero_rc.encode.hold_back import check_fits, what_was_needed
from muzero_rc.encode.passes import Encoding, InChunks, Whole, chunk_store
from muzero_rc.encode.progress import Progress, Teller
from muzero_rc.encode.report import EncodeReport, SearchSummary, TimeSummary
from muzero_rc.encode.trial import plan_mux, try_mux
from muzero_rc.encode.workplace import Workplace, check_space, workplace
from muzero_rc.env.codec import _native
from muzero_rc.env.codec.clip import Clip, default_memory_limit
from muzero_rc.env.codec.first_pass import FirstPass, first_pass
from muzero_rc.env.control.recipe import DEFAULT_RECIPE
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.control.work_budget import check_time
from muzero_rc.errors import AimMissedError, InputError
from muzero_rc.leaky_bucket import Bucket
from muzero_rc.output_files import take_place
from muzero_rc.policies.hindsight.policy import HindsightPolicy
from muzero_rc.policies.registry import prepare, warm_up
from muzero_rc.types import NUM_QINDEX, Policy, needs_blocks

__all__ = ["FileEncode"]

_NO_MEMORY = 1  # bytes: less than any frame
_AUDIO_KBPS = 100  # rough, for the forecast of the space needed


class FileEncode:
    """An encode of a file; `run` makes it, once."""

    def __init__(
        self,
        source: Path | str,
        given: Path,
        out: Path,
        settings: EncoderSettings,
        policy: Policy,
        *,
        height: int | None,
        max_frames: int | None,
        verify: bool,
        workers: int | None,
        policy_key: str | None,
        resume: bool,
        audio: video.AudioMode,
        audio_kbps: int | None,
        aim: Aim | None,
        key_times: Sequence[float],
        bucket: Bucket | None,
        picture: video.Picture | None,
        on_progress: Callable[[Progress], None] | None,
        on_loss: Callable[[str], None] | None,
    ) -> None:
        """Takes what to do, see `encode.film.encode`, and refuses what cannot be.

        The output is `given` as it was named, `out` as it really is.

        Raises:
          InputError: the source cannot be used, or the options not with each other.
        """
        self._source, self._given, self._out = source, given, out
        self._settings, self._policy = settings, policy
        self._height, self._max_frames = height, max_frames
        self._verify, self._resume = verify, resume
        self._policy_key = policy_key
        self._aim, self._key_times, self._bucket = aim, key_times, bucket
        self._on_loss = on_loss
        self._losses: list[str] = []
        self._info = video.probe(source)
        if height is not None:
            video.check_height(height)
        self._picture = (picture or video.picture_of(self._info)).first(max_frames)
        self._picture.source.check_unchanged()
        self._shape = self._picture.info
        self._plan = video.MuxPlan(
            container=video.container_of(out), audio=audio, audio_kbps=audio_kbps,
            picture=self._picture, start_s=self._picture.start_s, end_s=self._picture.end_s,
        )  # fmt: skip
        self._chunked = in_chunks(policy, settings)
        self._check_options()
        self._expected = _expected(self._shape, max_frames)
        self._film = self._chunked and (is_film(self._expected) or bool(key_times or bucket))
        self._workers = workers or usable_cores()
        # Key frames at given times are at other frames than the first pass cuts at.
        probe = kind_of_probe(policy, settings, film=self._film, beside=not key_times)
        self._beside = probe == "beside"
        self._size = self._shape.coded_size(height)
        self._tell = Teller(on_progress)
        if self._chunked and self._expected:
            self._tell.begin(
                self._expected, settings, self._workers if self._film else 1,
                probe=probe, film=self._film,
                bits_per_pixel=None if aim else _bits_per_pixel(settings, self._shape, self._size),
            )  # fmt: skip

    def run(self) -> EncodeReport:
        """Encodes the file.

        Raises:
          InputError, OutputError, EncoderError, ToolMissingError: see `encode.film.encode`.
        """
        start = time.perf_counter()
        if self._chunked:
            # Else what encoders keep after a chunk would grow with the film's first pass.
            _native.hold_heap_thresholds()
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._named())
            place = stack.enter_context(workplace(self._out))
            self._check_space()
            self._try_mux(place)
            compiling = _start_warm_up(self._policy, self._size)
            clip, first = self._analyse()
            compiling.join()
            store, encoding = self._encoding(stack, clip, first, place)
            tries = [] if store is None else [Try.from_dict(one) for one in store.files.tries()]
            done = self._reach(encoding, place, clip, store, tries)
            shown = done.score.shown_frames
            self._tell("check", shown, shown)
            self._tell_missed(done, encoding.settings)
            bucket = self._bucket
            buffer = None if bucket is None else what_was_needed(bucket, place.ivf, clip.fps)
            file_bytes = place.file.stat().st_size
            self._info.check_unchanged()
            take_place(place.file, self._out)
            if store is not None:
                store.remove()
            remove_left(self._out)
        return EncodeReport.of(
            done, encoding.settings,
            output=self._given, policy=self._policy.name,
            width=clip.width, height=clip.height, fps=str(clip.fps), duration_s=clip.duration_s,
            file_bytes=file_bytes, seconds=time.perf_counter() - start, verified=self._verify,
            search=_search(self._policy), quality=tries[-1].quality, buffer=buffer,
            encodes=len(tries), time=_time(encoding.settings, done), losses=self._losses,
        )  # fmt: skip

    def _check_options(self) -> None:
        """Refuses those that do not go together."""
        if (self._key_times or self._bucket) and not self._chunked:
            needs = (
                "key frames at given times need" if self._key_times else "a largest bitrate needs"
            )
            raise InputError(
                f"{needs} a policy that encodes in chunks, {self._policy.name} does not; "
                "give planned, muzero or landed in three passes, or --crf"
            )
        if self._bucket and self._picture.times_ms is not None:
            raise InputError("a buffer is kept at a constant rate alone; give one with --fps")

    def _lose(self, line: str) -> None:
        """Tells what of the source is left out or changed."""
        self._losses.append(line)
        if self._on_loss is not None:
            self._on_loss(line)

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Says of a source that was changed that it was, whatever came of it."""
        try:
            yield
        except InputError:
            self._info.check_unchanged()
            raise

    def _check_space(self) -> None:
        """Better to hear of a full disk now than after hours."""
        seconds = self._shape.duration_s or 0.0
        if self._max_frames is not None:
            seconds = min(seconds, float(self._max_frames / self._shape.fps))
        audio_kbps = (self._plan.audio_kbps or _AUDIO_KBPS) * len(self._shape.audio)
        # What constant quality or a quality will take nobody knows.
        unknown = self._settings.rc_mode == "q" or isinstance(self._aim, QualityAim)
        video_kbps = 0 if unknown else self._settings.target_kbps
        # The frames are there in the output and as encoded, of a film also in chunks, until the
        # rename.
        copies = 3 if self._film else 2
        check_space(self._out.parent, seconds * (copies * video_kbps + audio_kbps) * 125)

    def _try_mux(self, place: Workplace) -> None:
        """Settles what the output has, and tries all of it that can fail on one frame."""
        self._plan, told = plan_mux(self._info, self._plan, place)
        for line in told + video.left_at_edges(self._shape, self._size):
            self._lose(line)
        begun = time.perf_counter()
        for line in try_mux(self._info, self._plan, place, self._size, self._shape.fps):
            self._lose(line)
        self._tell.expect("mux", time.perf_counter() - begun)

    def _load(self, limit: int | None) -> Clip:
        """The clip; its frames stay on disk where they are more than so many bytes."""
        return Clip.load(
            self._source,
            height=self._height,
            max_frames=self._max_frames,
            memory_limit_bytes=limit,
            on_frames=lambda count: self._tell("decode", count, self._shape.expected_frames),
            picture=self._picture,
        )

    def _analyse(self) -> tuple[Clip, FirstPass]:
        """The clip and its first pass; the settings have a bitrate afterwards."""
        limit = _memory_for(self._size, self._picture.bit_depth) if self._chunked else None
        self._tell("decode", 0, self._shape.expected_frames)
        # A film is streamed in any case: none of it is decoded to find that out.
        streamed = self._chunked and is_film(self._expected)
        clip = self._load(_NO_MEMORY if streamed else limit)
        aim = self._aim
        planned = None if aim is None else aim.plan_kbps(clip.width * clip.height, float(clip.fps))
        if planned is not None:
            self._settings = self._settings.replace(target_kbps=planned)
        first = self._first_pass(clip)
        self._info.check_unchanged()
        self._tell_resized(clip)
        if streamed and not is_film(clip.num_frames):
            clip = self._load(limit)  # the file has promised more frames than there are
        if self._bucket is not None and aim is None and self._settings.rc_mode != "q":
            check_fits(self._bucket, self._settings.target_kbps, clip.duration_s)
        return clip, first

    def _first_pass(self, clip: Clip) -> FirstPass:
        """The first pass, in two passes with encodes in real time beside it."""
        # A clip that is streamed knows its length only after the first pass.
        expected = clip.num_frames if clip.in_memory else self._shape.expected_frames
        self._tell("first pass", 0, expected)

        def told(count: int) -> None:
            self._tell("first pass", count, expected)

        threads = self._workers if self._film else 1
        chunks = FirstPassInRealtime(clip, self._settings, own_thread=threads > 1, on_frames=told)
        found = first_pass(
            clip,
            self._settings,
            blocks=needs_blocks(self._policy),
            threads=threads,
            run=chunks if self._beside and not clip.in_memory else None,
            on_frames=told,
        )
        return dataclasses.replace(found, realtime=chunks.costs)

    def _encoding(
        self, stack: contextlib.ExitStack, clip: Clip, first: FirstPass, place: Workplace
    ) -> tuple[ChunkStore | None, Encoding]:
        """How the clip is encoded, in one piece or in chunks, and where these are kept."""
        policy, aim, bucket, tell = self._policy, self._aim, self._bucket, self._tell
        times = self._picture.times_ms
        forced = video.frames_at(self._key_times, clip.fps, clip.num_frames, times)
        if not self._chunked or not (is_film(clip.num_frames) or forced or bucket):
            whole = Whole(clip, self._settings, policy, first, place.ivf, aim=aim, tell=tell)
            return None, whole
        settings = prepare(policy, clip, self._settings, first)
        check_time(settings)
        store = stack.enter_context(
            chunk_store(self._out, clip, settings, self._policy_key, aim, forced, bucket)
        )
        stack.callback(self._forget_if_changed, store)
        if not self._resume:
            store.clear()
        return store, InChunks(
            clip, settings, policy, first, store, place.ivf,
            workers=self._workers, aim=aim, forced=forced, bucket=bucket, tell=tell,
        )  # fmt: skip

    def _forget_if_changed(self, store: ChunkStore) -> None:
        """Chunks of a source that was changed may be of either file: nobody goes on from them."""
        store.kept = store.kept and self._info.unchanged

    def _reach(
        self,
        encoding: Encoding,
        place: Workplace,
        clip: Clip,
        store: ChunkStore | None,
        tries: list[Try],
    ) -> Encoded:
        """Encodes until the aim is reached, and makes the file.

        Args:
          encoding: makes a try.
          place: of the stream and the file.
          clip: what is encoded.
          store: of its chunks, if there are any.
          tries: those that were not good, of an earlier start; all that are made are added.
        """
        length = clip.duration_s if self._picture.cut or self._max_frames is not None else None
        aim = self._aim
        kbps = aim.next_kbps(tries) if aim is not None and tries else None
        try:
            while True:
                done = encoding.encode(kbps)
                quality = None if aim is None else aim.look(done.results, self._measure_in(place))
                score = done.score
                tries.append(Try(score.target_kbps, score.actual_kbps, done.video_bytes, quality))
                kbps = None if aim is None else aim.next_kbps(tries)
                if kbps is None:
                    try:
                        self._finish(done, place, clip, length)
                        return done
                    except TooLargeError as error:
                        if aim is None:
                            raise
                        rest = error.file_bytes - error.video_bytes
                        tries[-1] = dataclasses.replace(
                            tries[-1], file_bytes=error.file_bytes, rest_bytes=rest
                        )
                        kbps = aim.next_kbps(tries)
                encoding.note(tries)
        except AimMissedError as error:
            self._info.check_unchanged()
            if store is not None:  # it would end the same way again
                store.remove()
            kept = kept_stream(place, self._info, self._plan, self._given, duration_s=length)
            raise AimMissedError(f"{error}{kept}") from None

    def _measure_in(self, place: Workplace) -> Callable[[str], Sequence[float]]:
        """Measures a metric of each frame of the stream."""

        def measure(metric: str) -> Sequence[float]:
            found = video.measure(
                place.ivf, Path(self._source), (metric,),
                height=self._height, max_frames=self._max_frames, picture=self._picture,
            )  # fmt: skip
            return found[metric]

        return measure

    def _finish(self, done: Encoded, place: Workplace, clip: Clip, length: float | None) -> None:
        """Makes the file and checks it."""
        self._info.check_unchanged()
        # Once more, as a first pass out of the cache has read no frame.
        self._tell_resized(clip)
        self._tell("mux")
        shown = done.score.shown_frames

        def checked(count: int) -> None:
            self._tell.is_over("mux")
            self._tell("check", count, shown)

        lines = finish(
            place, self._info, self._plan, self._given, shown,
            duration_s=length,
            decode=self._verify,
            workers=self._workers,
            on_check=checked,
            pictures=done.pictures() if self._verify else None,
            max_bytes=None if self._aim is None else self._aim.max_bytes,
        )  # fmt: skip
        for line in lines:
            self._lose(line)

    def _tell_missed(self, done: Encoded, settings: EncoderSettings) -> None:
        """Says that the video takes more than was asked for, where nothing coarser is left."""
        over = settings.rc_mode != "q" and done.score.overshoot > DEFAULT_RECIPE.retry.over
        if over and statistics.median(done.qindexes) >= NUM_QINDEX - 1:
            score = done.score
            self._lose(
                f"the video takes {score.actual_kbps:.1f} kbit/s, not {score.target_kbps:g}, with "
                "the coarsest quantizer; scale it down (--scale) or ask for more"
            )

    def _tell_resized(self, clip: Clip) -> None:
        """Says once that pictures have several sizes, as far as it is known."""
        line = (
            "pictures change their size or format on the way: all become "
            f"{clip.width}x{clip.height} in the format of the first"
        )
        # ffmpeg turns them by filters that begin anew there, as does what keeps the rate.
        if self._info.turned:
            line += "; the video is turned, so frames may be missing or come twice there"
        if clip.resized and line not in self._losses:
            self._lose(line)


def _expected(info: video.VideoInfo, max_frames: int | None) -> int:
    """Frames of a film, as far as its file says; 0 if it does not."""
    expected = info.expected_frames or 0
    return expected if max_frames is None else min(expected, max_frames)


def _bits_per_pixel(
    settings: EncoderSettings, shape: video.VideoInfo, size: tuple[int, int]
) -> float | None:
    """Bits of a pixel that are asked for; None where constant quality decides."""
    if settings.rc_mode == "q":
        return None
    return settings.target_kbps * 1000.0 / float(shape.fps) / (size[0] * size[1])


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


def _search(policy: Policy) -> SearchSummary | None:
    """What a search gave, of a policy that searches."""
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


def _time(settings: EncoderSettings, done: Encoded) -> TimeSummary | None:
    """What a budget of time came to, where there was one."""
    if settings.time is None or done.work is None:
        return None
    return TimeSummary(settings.time, done.work.times, done.work.vbr_seconds)
