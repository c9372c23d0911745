"""`muzero-rc encode`.

With `--json`, stdout carries one JSON object a line, told apart by `type`: `progress`
(title, phase, frames_done, frames, fps, eta_s; of a search encodes_done, encodes, psnr_avg
and gain instead of frames), then `result` (the fields of
`muzero_rc.encode.film.EncodeReport`) or `error` (message, exit_code).
"""

from __future__ import annotations

import dataclasses
import json as json_text
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import tyro

from muzero_rc.cli.bitrate import check_bitrate, parse_bitrate, parse_size
from muzero_rc.cli.display import make_display
from muzero_rc.cli.jobs import PIPE, Job, as_files, jobs_of
from muzero_rc.cli.methods import split_spec
from muzero_rc.cli.picture import PictureArgs, picture_for
from muzero_rc.errors import InputError, MuzeroRcError, SomeFailedError

if TYPE_CHECKING:
    from muzero_rc.encode.film import EncodeReport
    from muzero_rc.env.control.settings import EncoderSettings
    from muzero_rc.video import AudioMode

__all__ = ["EncodeArgs", "encoder_settings", "result_line", "run"]


@dataclass(frozen=True)
class EncodeArgs:
    """Encode a video as VP9 at a bitrate; audio, subtitles and chapters are carried over."""

    input: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IN")]
    """Video files: anything that ffmpeg reads; - is YUV4MPEG2 on stdin."""

    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="OUT.webm")]
    """File to write, .webm, .mkv, .mp4 or .ivf; one that is there is replaced when the new one
    is complete. A folder gets a file for each input; - is WebM on stdout."""

    bitrate: Annotated[str | None, tyro.conf.arg(aliases=["-b"], metavar="RATE")] = None
    """Bitrate of the video, such as 400k or 1.5M; bit/s without a letter."""

    size: Annotated[str | None, tyro.conf.arg(metavar="SIZE")] = None
    """Instead of a bitrate: bytes that the file has at most, such as 10M, all in it counted."""

    policy: Annotated[str, tyro.conf.arg(aliases=["-p"], metavar="NAME|FILE")] = "muzero"
    """muzero (shipped), vbr, proposal, cq[:LEVEL], constant[:Q], hindsight[:BUDGET], or a file."""

    simulations: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Simulations of a learned policy's search before each decision; 0 for no search."""

    effort: Annotated[str, tyro.conf.arg(metavar="normal|search")] = "normal"
    """search encodes many times, from the policy's own encode on, and keeps the best."""

    budget: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Encodes of a search; 30 if not given. Ctrl-C ends it with the best so far."""

    speed: Annotated[int, tyro.conf.arg(metavar="N")] = 1
    """libvpx's cpu-used: 0 slow and best, to 9."""

    time: Annotated[float | None, tyro.conf.arg(metavar="X")] = None
    """Take X times the CPU time of libvpx's VBR at this speed, probe encode included, first pass
    left out: frames are searched for longer or shorter. Counted in work, the same on any machine.
    At speeds 1, 2, 3 and 5. A clip's VBR is known within a tenth, half of the time."""

    passes: Annotated[int, tyro.conf.arg(metavar="2|3")] = 0
    """3 makes a quick probe encode first, to meet the bitrate, at speeds 0 and 1 several, to
    choose the groups of pictures; 2 is faster. Left out, the policy says: muzero wants 3."""

    scale: Annotated[int | None, tyro.conf.arg(metavar="H")] = None
    """Scale down to this height, keeping the aspect."""

    frames: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Encode only the first N frames."""

    threads: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Cores to use; all if not given. A film of more than 300 frames is encoded in chunks, so
    many at a time, which changes no byte. A shorter clip takes one thread, or N if given: more
    than one also change its bytes a little."""

    no_resume: bool = False
    """Begin anew: throw away the chunks that a start before has finished."""

    auto_alt_ref: Annotated[int, tyro.conf.arg(metavar="N")] = 6
    """Alternate references: 0 none, 1 one layer, 2 to 6 several layers."""

    audio: Annotated[str, tyro.conf.arg(metavar="auto|copy|opus|none")] = "auto"
    """auto copies what the output's format takes and makes Opus of the rest."""

    keyint: Annotated[int, tyro.conf.arg(metavar="N")] = 128
    """Most frames from one key frame to the next: fewer for seeking, more for bits."""

    frame_parallel: bool = False
    """Entropy coding that starts anew with each frame, libvpx's default: decoders may
    overlap frames, for 1 to 3% more bits."""

    no_show_existing: bool = False
    """Code every frame: else the policy shows a frame again where nothing visibly moves and
    bits are better spent elsewhere."""

    json: bool = False
    """Print JSON lines on stdout instead of the result line."""

    no_verify: bool = False
    """Do not decode the output to check it."""

    quiet: Annotated[bool, tyro.conf.arg(aliases=["-q"])] = False
    """Show no progress."""

    picture: Annotated[PictureArgs, tyro.conf.arg(name="")] = field(default_factory=PictureArgs)


def encoder_settings(
    target_kbps: int,
    *,
    speed: int,
    threads: int = 1,
    auto_alt_ref: int = 6,
    frame_parallel: bool = False,
    passes: int = 0,
    show_existing: bool = True,
    time: float | None = None,
) -> EncoderSettings:
    """Settings from the command line's options; threads bring row-based threading.

    Raises:
      InputError: one of them is out of range.
    """
    from muzero_rc.env.control.settings import EncoderSettings

    return EncoderSettings(
        target_kbps=target_kbps,
        speed=speed,
        threads=threads,
        row_mt=threads > 1,
        auto_alt_ref=auto_alt_ref,
        frame_parallel=frame_parallel,
        passes=cast(Literal[0, 2, 3], passes),
        show_existing=show_existing,
        time=time,
    )


def run(args: EncodeArgs) -> int:
    """Encodes; 0 if the output is there and checked."""
    # Cheap mistakes are told before anything heavy is loaded.
    if (args.bitrate is None) == (args.size is None):
        raise InputError("give a bitrate (-b 400k) or a size of the file (--size 10M)")
    max_bytes = None if args.size is None else parse_size(args.size)
    settings = encoder_settings(
        1 if args.bitrate is None else parse_bitrate(args.bitrate),
        speed=args.speed,
        threads=1 if args.threads is None else args.threads,
        auto_alt_ref=args.auto_alt_ref,
        frame_parallel=args.frame_parallel,
        passes=args.passes,
        show_existing=not args.no_show_existing,
        time=args.time,
    ).replace(kf_max_dist=args.keyint)
    _check_effort(args)
    _check_time(settings)
    if args.audio not in ("auto", "copy", "opus", "none"):
        raise InputError(f"--audio must be auto, copy, opus or none, not {args.audio!r}")
    spec = split_spec(args.policy)
    if spec.changes:
        raise InputError(f"give encoder settings as options, not in --policy {args.policy}")
    if args.json and args.output == PIPE:
        raise InputError("--json and -o - both want stdout; give one of them")
    if not args.input:
        raise InputError("no input; give a video file")
    jobs = jobs_of(args.input, args.output)
    if len(jobs) == 1:
        _encode(jobs[0], args, settings, max_bytes)
        return 0
    return _encode_all(jobs, args, settings, max_bytes)


def _encode_all(
    jobs: Sequence[Job], args: EncodeArgs, settings: EncoderSettings, max_bytes: int | None
) -> int:
    """Encodes one after the other; one that fails does not keep the rest from being done."""
    failed = 0
    status = 0
    for job in jobs:
        try:
            _encode(job, args, settings, max_bytes)
        except MuzeroRcError as error:
            failed += 1
            status = max(status, error.exit_code)
            print(f"muzero-rc: error: {job.source}: {error}", file=sys.stderr)
            if args.json:
                line = {"type": "failed", "input": str(job.source), "message": str(error)}
                print(json_text.dumps(line), flush=True)
    if failed:
        raise SomeFailedError(f"{failed} of {len(jobs)} encodes failed", status)
    return 0


def _encode(job: Job, args: EncodeArgs, settings: EncoderSettings, max_bytes: int | None) -> None:
    from muzero_rc import video
    from muzero_rc.cli.methods import fingerprint
    from muzero_rc.encode.film import check_output, encode
    from muzero_rc.encode.size import encode_to_size
    from muzero_rc.policies.registry import make_policy, searching

    if args.scale is not None:
        video.check_height(args.scale)
    video.check_frames(args.frames)
    with as_files(job) as files:
        source, out = files.source, files.out
        picture = picture_for(args.picture, video.probe(source))
        size = picture.info.coded_size(args.scale)
        if max_bytes is None:
            check_bitrate(settings.target_kbps, *size)
        check_output(source, out)
        spec = split_spec(args.policy)
        simulations = args.simulations or spec.simulations
        policy = make_policy(spec.policy, simulations=simulations)
        if args.effort == "search":
            policy = searching(policy, args.budget, threads=settings.threads)
        with make_display(job.out.name, quiet=args.quiet, as_json=args.json) as display:
            options: dict[str, Any] = {
                "height": args.scale,
                "max_frames": args.frames,
                "picture": picture,
                "verify": not args.no_verify,
                "workers": args.threads,
                "policy_key": fingerprint(spec.policy, simulations),
                "resume": not args.no_resume,
                "audio": cast("AudioMode", args.audio),
                "on_progress": display,
                "on_loss": lambda line: print(f"muzero-rc: {job.source}: {line}", file=sys.stderr),
            }
            if max_bytes is None:
                report = encode(source, out, settings, policy, **options)
            else:
                report = encode_to_size(
                    source, out, settings, policy, max_bytes,
                    check_kbps=lambda kbps: check_bitrate(kbps, *size), **options,
                )  # fmt: skip
    report = dataclasses.replace(report, output=job.out)
    if args.json:
        print(json_text.dumps({"type": "result", **report.as_dict()}), flush=True)
    else:
        # The file itself has stdout.
        print(result_line(report), file=sys.stderr if job.out == PIPE else sys.stdout, flush=True)


def _check_effort(args: EncodeArgs) -> None:
    if args.effort not in ("normal", "search"):
        raise InputError(f"--effort must be normal or search, not {args.effort!r}")
    if args.budget is not None and args.effort != "search":
        raise InputError("--budget is for a search: give --effort search, too")
    if args.time is not None and args.effort == "search":
        raise InputError("--time is for a single encode: leave out --effort search")


def _check_time(settings: EncoderSettings) -> None:
    if settings.time is not None:
        from muzero_rc.env.control.work_budget import check_speed

        check_speed(settings)


def result_line(report: EncodeReport) -> str:
    """The outcome in one line."""
    return (
        f"{report.output}: {report.file_bytes / 1000:.1f} kB, "
        f"{report.actual_kbps:.1f} kbit/s ({report.deviation:+.1%} of {report.target_kbps:g}), "
        f"PSNR {report.psnr_avg:.2f} dB (overall {report.psnr_overall:.2f}, "
        f"Y {report.psnr_y:.2f}), {report.frames} frames in {report.seconds:.1f} s "
        f"({report.encode_fps:.1f} fps; {_effort(report)}{_time(report)})"
    )


def _time(report: EncodeReport) -> str:
    if report.time is None:
        return ""
    return f"; {report.time.counted:.2f} times VBR's work, {report.time.asked:g} asked for"


def _effort(report: EncodeReport) -> str:
    found = report.search
    if found is None:
        return f"{report.policy} took {report.decision_seconds:.2f} s"
    ended = " until stopped" if found.interrupted else ""
    return f"{found.spent} encodes{ended} saved {found.gain:.1%} over the first"
