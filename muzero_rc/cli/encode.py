"""`muzero-rc encode`.

With `--json`, stdout carries one JSON object a line, told apart by `type`: `progress`
(title, phase, frames_done, frames, fps, eta_s; of a search encodes_done, encodes, psnr_avg
and gain instead of frames), then `result` (the fields of
`muzero_rc.encode.film.EncodeReport`) or `error` (message, exit_code).
"""

from __future__ import annotations

import dataclasses
import json as json_text
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import tyro

from muzero_rc.cli.bitrate import check_bitrate, parse_bitrate, parse_buffer, parse_size
from muzero_rc.cli.display import make_display, print_line
from muzero_rc.cli.jobs import PIPE, Job, as_files, jobs_of
from muzero_rc.cli.methods import split_spec
from muzero_rc.cli.options import naming_encoder_options
from muzero_rc.cli.picture import PictureArgs, picture_for
from muzero_rc.errors import InputError, MuzeroRcError, SomeFailedError, told
from muzero_rc.output_files import as_line
from muzero_rc.policies.shipped import DEFAULT_POLICY

if TYPE_CHECKING:
    from muzero_rc.encode.film import EncodeReport
    from muzero_rc.env.control.frame_speed import SpeedProfile
    from muzero_rc.env.control.settings import EncoderSettings
    from muzero_rc.leaky_bucket import Bucket
    from muzero_rc.video import AudioMode

# What people give, of the settings that are called otherwise.
_OPTION_OF_SETTING = {"kf_max_dist": "keyint", "target_kbps": "bitrate"}
_NO_TARGET_KBPS = 256  # libvpx's own where nobody gives one; nothing depends on it then

__all__ = ["EncodeArgs", "encoder_settings", "result_line", "rewrite", "run"]


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

    quality: Annotated[str | None, tyro.conf.arg(metavar="M=VALUE")] = None
    """Instead of a bitrate: mean over frames of psnr=42 (within 0.1 dB), ssim=0.98 (0.002) or
    vmaf=93 (0.5). Encoded again until it is met."""

    crf: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Instead of a bitrate: libvpx's constant quality, 0 (best) to 63, in two passes."""

    max_bitrate: Annotated[str | None, tyro.conf.arg(metavar="RATE")] = None
    """A line of this bitrate never keeps a player waiting whose buffer is --buffer."""

    buffer: Annotated[str | None, tyro.conf.arg(metavar="2s|BITS")] = None
    """Of --max-bitrate: seconds at that rate, or bits such as 800k; 1s if not given."""

    policy: Annotated[str, tyro.conf.arg(aliases=["-p"], metavar="NAME|FILE")] = DEFAULT_POLICY
    """planned, muzero (the network), vbr, proposal, cq[:LEVEL], constant[:Q], hindsight[:BUDGET],
    or a file."""

    simulations: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Simulations of a learned policy's search before each decision; 0 for no search."""

    effort: Annotated[str, tyro.conf.arg(metavar="normal|search")] = "normal"
    """search encodes many times, from the policy's own encode or plans, and keeps the best."""

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
    choose the groups of pictures; 2 is faster, and a film of planned's still meets its bitrate.
    Left out, the policy says: planned wants 3."""

    speed_profile: Annotated[str, tyro.conf.arg(metavar="auto|uniform|hierarchical")] = "auto"
    """uniform codes every frame at the stream's speed, which is quicker; hierarchical searches
    longest where most frames are predicted from, as planned does with auto."""

    scale: Annotated[int | None, tyro.conf.arg(metavar="H")] = None
    """Scale down to this height, keeping the aspect."""

    frames: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Encode only the first N frames."""

    threads: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Cores to use; all if not given. A film of more than 300 frames is encoded in chunks, so
    many at a time, which changes no byte. A shorter clip takes one thread, so that its bytes are
    the same on any machine: more than one change them a little."""

    no_resume: bool = False
    """Begin anew: throw away the chunks that a start before has finished."""

    auto_alt_ref: Annotated[int, tyro.conf.arg(metavar="N")] = 6
    """Alternate references: 0 none, 1 one layer, 2 to 6 several layers."""

    audio: Annotated[str, tyro.conf.arg(metavar="auto|copy|opus|none")] = "auto"
    """auto copies what the output's format takes and makes Opus of the rest."""

    audio_bitrate: Annotated[str | None, tyro.conf.arg(metavar="RATE")] = None
    """Bitrate of each track that becomes Opus, 6k to 510k; by its channels if not given, 96k of
    stereo."""

    keyint: Annotated[int, tyro.conf.arg(metavar="N")] = 128
    """Most frames from one key frame to the next: fewer for seeking, more for bits."""

    keyframes: Annotated[str | None, tyro.conf.arg(metavar="TIMES|chapters")] = None
    """Key frames also at these times, such as 1:00,2:30.5, or where chapters begin."""

    tile_columns: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """2^N tile columns, 0 to 6, for decoders with many cores; libvpx takes no more than fit."""

    row_mt: bool = False
    """Row-based threading within a clip also with one thread; more threads bring it anyway."""

    frame_parallel: bool = False
    """Entropy coding that starts anew with each frame, libvpx's default: decoders may
    overlap frames, for 1 to 3% more bits."""

    no_show_existing: bool = False
    """Code every frame: else the policy shows a frame again where nothing visibly moves and
    bits are better spent elsewhere."""

    json: bool = False
    """Print JSON lines on stdout instead of the result line; with -q without progress."""

    no_verify: bool = False
    """Do not decode the output to check its pictures."""

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
    speed_profile: SpeedProfile = "auto",
) -> EncoderSettings:
    """Settings from the command line's options; threads bring row-based threading.

    Raises:
      InputError: one of them is out of range.
    """
    from muzero_rc.env.control.settings import EncoderSettings

    with naming_encoder_options(_OPTION_OF_SETTING):
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
            speed_profile=speed_profile,
        )


def rewrite(words: list[str]) -> list[str]:
    """Names of files that begin with a dash, such as -x.webm, as ./-x.webm; options have no dot.

    Raises:
      InputError: the output has no name, or that of a folder which is not there.
    """
    out: list[str] = []
    for word in words:
        if word == "--output=" or (word == "" and out and out[-1] in ("-o", "--output")):
            raise InputError("the output has no name; give -o NAME.webm, or a folder")
        if _is_folder_to_be(word, out):
            raise InputError(f"the output folder {as_line(word)} does not exist; create it first")
        dashed = word.startswith("-") and "." in word and "=" not in word
        out.append(f"./{word}" if dashed and _is_file_name(word) else word)
    return out


def _is_folder_to_be(word: str, before: list[str]) -> bool:
    """Whether an output ends like a folder and is none: a path would lose the last slash."""
    given, _, name = word.rpartition("=") if word.startswith("--output=") else ("", "", word)
    named = bool(given) or bool(before and before[-1] in ("-o", "--output"))
    return named and name.endswith(os.sep) and not os.path.isdir(name)


def _is_file_name(word: str) -> bool:
    from muzero_rc.video import CONTAINERS

    return os.path.isfile(word) or Path(word).suffix.lower() in CONTAINERS


def run(args: EncodeArgs) -> int:
    """Encodes; 0 if the output is there and checked."""
    # Cheap mistakes are told before anything heavy is loaded.
    aims = (args.bitrate, args.size, args.quality, args.crf)
    if sum(aim is not None for aim in aims) != 1:
        raise InputError(
            "give one of a bitrate (-b 400k), a size of the file (--size 10M), "
            "a quality (--quality psnr=42) and --crf 31"
        )
    max_bytes = None if args.size is None else parse_size(args.size)
    settings = encoder_settings(
        _NO_TARGET_KBPS if args.bitrate is None else parse_bitrate(args.bitrate),
        speed=args.speed,
        threads=1 if args.threads is None else args.threads,
        auto_alt_ref=args.auto_alt_ref,
        frame_parallel=args.frame_parallel,
        passes=args.passes,
        show_existing=not args.no_show_existing,
        time=args.time,
        speed_profile=_speed_profile(args),
    )
    with naming_encoder_options(_OPTION_OF_SETTING):
        settings = settings.replace(
            kf_max_dist=args.keyint,
            tile_columns=args.tile_columns,
            row_mt=settings.row_mt or args.row_mt,
        )
    if args.crf is not None:
        if args.time is not None:
            raise InputError("--time is kept by rate control, which --crf has none of; give one")
        settings = settings.replace(rc_mode="q", cq_level=_crf(args))
    _check_effort(args)
    _check_time(settings)
    if args.quality is not None:
        _check_quality(args.quality)
    _bucket(args)
    if args.audio not in ("auto", "copy", "opus", "none"):
        raise InputError(f"--audio must be auto, copy, opus or none, not {args.audio!r}")
    _audio_kbps(args)
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
        except BrokenPipeError:  # nobody reads what is told of the rest
            raise
        except (MuzeroRcError, OSError) as error:
            failed += 1
            message, code = told(error)
            status = max(status, code)
            print(f"muzero-rc: error: {as_line(job.source)}: {message}", file=sys.stderr)
            if args.json:
                line = {"type": "failed", "input": str(job.source), "message": message}
                print_line(json_text.dumps(line | {"exit_code": code}))
    if failed:
        raise SomeFailedError(f"{failed} of {len(jobs)} encodes failed", status)
    return 0


def _encode(job: Job, args: EncodeArgs, settings: EncoderSettings, max_bytes: int | None) -> None:
    from muzero_rc import video
    from muzero_rc.cli.methods import fingerprint
    from muzero_rc.encode.aims import QualityAim
    from muzero_rc.encode.film import check_output, encode
    from muzero_rc.encode.size import encode_to_size
    from muzero_rc.policies.registry import make_policy, searching

    if args.scale is not None:
        video.check_height(args.scale, "--scale")
    video.check_frames(args.frames, "--frames")
    source_name = as_line(job.source)
    with as_files(job) as files:
        source, out = files.source, files.out
        picture = picture_for(args.picture, video.probe(source))
        size = picture.info.coded_size(args.scale)
        if args.bitrate is not None:
            check_bitrate(settings.target_kbps, *size)
        check_output(source, out)
        key_times: tuple[float, ...] = ()
        if args.keyframes is not None:
            key_times = video.key_times(args.keyframes, picture, max_frames=args.frames)
        # Constant quality leaves all to libvpx; by default only the speeds are the policy's.
        shipped = args.policy == EncodeArgs.policy
        spec = split_spec("hierarchical" if args.crf is not None and shipped else args.policy)
        simulations = args.simulations or spec.simulations
        policy = make_policy(spec.policy, simulations=simulations)
        if args.effort == "search":
            policy = searching(policy, args.budget, threads=settings.threads)
        with make_display(as_line(job.out.name), quiet=args.quiet, as_json=args.json) as display:
            options: dict[str, Any] = {
                "height": args.scale,
                "max_frames": args.frames,
                "picture": picture,
                "verify": not args.no_verify,
                "workers": args.threads,
                # Chunks beside a temporary file are found by no later start.
                "policy_key": None if job.out == PIPE else fingerprint(spec.policy, simulations),
                "resume": not args.no_resume,
                "key_times": key_times,
                "bucket": _bucket(args),
                "audio": cast("AudioMode", args.audio),
                "audio_kbps": _audio_kbps(args),
                "on_progress": display,
                "on_loss": lambda line: print(f"muzero-rc: {source_name}: {line}", file=sys.stderr),
            }
            if args.quality is not None:
                options["aim"] = QualityAim.parse(args.quality)
            if max_bytes is None:
                report = encode(source, out, settings, policy, **options)
            else:
                report = encode_to_size(
                    source, out, settings, policy, max_bytes,
                    check_kbps=lambda kbps: check_bitrate(kbps, *size), **options,
                )  # fmt: skip
    report = dataclasses.replace(report, output=job.out)
    if args.json:
        print_line(json_text.dumps({"type": "result", **report.as_dict()}))
    elif job.out == PIPE:  # the file itself has stdout
        print(result_line(report), file=sys.stderr, flush=True)
    else:
        print_line(result_line(report))


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


def _speed_profile(args: EncodeArgs) -> SpeedProfile:
    """How speeds differ between frames.

    Raises:
      InputError: an unknown name, or `--time` decides that itself.
    """
    from muzero_rc.env.control.frame_speed import POLICY_SPEED_PROFILES

    if args.speed_profile not in ("auto", *POLICY_SPEED_PROFILES):
        known = ", ".join(("auto", *POLICY_SPEED_PROFILES))
        raise InputError(f"--speed-profile must be one of {known}, not {args.speed_profile!r}")
    if args.time is not None and args.speed_profile != "auto":
        raise InputError("--time chooses the speed of every frame; leave --speed-profile out")
    return cast("SpeedProfile", args.speed_profile)


def _crf(args: EncodeArgs) -> int:
    """The level of constant quality.

    Raises:
      InputError: it is out of range, or the policy decides quantizers itself.
    """
    assert args.crf is not None
    if not 0 <= args.crf <= 63:
        raise InputError(f"--crf must be between 0 and 63, not {args.crf}")
    if args.policy not in (EncodeArgs.policy, "hierarchical", "proposal", "vbr"):
        raise InputError(
            f"--crf leaves quantizers to libvpx, --policy {args.policy} chooses them; "
            "give one of them, or --policy hierarchical, proposal or vbr"
        )
    return args.crf


def _bucket(args: EncodeArgs) -> Bucket | None:
    """The buffer that must never underflow.

    Raises:
      InputError: it cannot be read, or there is no bitrate to fill it.
    """
    from muzero_rc.leaky_bucket import Bucket

    if args.max_bitrate is None:
        if args.buffer is not None:
            raise InputError("--buffer is filled by --max-bitrate: give that, too")
        return None
    kbps = parse_bitrate(args.max_bitrate, "--max-bitrate")
    return Bucket(kbps, parse_buffer(args.buffer or "1s", kbps))


def _audio_kbps(args: EncodeArgs) -> int | None:
    """Bitrate of audio that becomes Opus.

    Raises:
      InputError: it cannot be read, no Opus has it, or no track becomes Opus.
    """
    if args.audio_bitrate is None:
        return None
    from muzero_rc import video

    kbps = parse_bitrate(args.audio_bitrate, "--audio-bitrate")
    return video.MuxPlan(audio=cast("AudioMode", args.audio), audio_kbps=kbps).audio_kbps


def _check_quality(text: str) -> None:
    """Before anything is encoded.

    Raises:
      InputError: the quality cannot be read, or cannot be.
      ToolMissingError: there is no ffmpeg to measure it with.
    """
    from muzero_rc import video
    from muzero_rc.encode.aims import QualityAim

    metric = QualityAim.parse(text).metric
    if metric != "psnr":
        video.measuring_program((metric,))


def result_line(report: EncodeReport) -> str:
    """The outcome in one line."""
    aim = ""
    if report.quality is not None:
        found = report.quality
        aim = f" ({found.metric} {found.mean:.4g}, 5th percentile {found.p5:.4g})"
    elif report.deviation is not None:
        aim = f" ({report.deviation:+.1%} of {report.target_kbps:g})"
    return (
        f"{as_line(report.output)}: {report.file_bytes / 1000:.1f} kB, "
        f"{report.actual_kbps:.1f} kbit/s{aim}, "
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
