"""`muzero-rc evaluate`: the grid of clips, targets and policies against two-pass VBR."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from muzero_rc.cli.display import clock
from muzero_rc.cli.methods import methods_of
from muzero_rc.cli.options import naming_encoder_options
from muzero_rc.errors import InputError

if TYPE_CHECKING:
    from muzero_rc.env.control.settings import EncoderSettings
    from muzero_rc.evaluation.grid.runner import EvaluationPlan, Progress

__all__ = ["EvaluateArgs", "parse_metrics", "run"]

_LOG_INTERVAL_S = 10.0


@dataclass(frozen=True)
class EvaluateArgs:
    """Compare policies with two-pass VBR on clips at a ladder of bitrates.

    The anchor vbr and the control proposal are always encoded too. Finished encodes stay
    in DIR/encodes, so the same command goes on after an interruption.
    """

    clips: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="CLIP|DIR...")]
    """Videos, or folders of them."""

    out: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="DIR")]
    """Folder for results.json, results.csv and the finished encodes."""

    policy: Annotated[
        tuple[str, ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(aliases=["-p"], metavar="NAME|FILE"),
    ] = ()
    """Policy to evaluate, by name or file; may be given again. muzero if none is. With other
    settings than the rest: vbr@auto_alt_ref=1, muzero@simulations=8,speed=3."""

    external: Annotated[
        tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="NAME:COMMAND")
    ] = ()
    """Another encoder, run without a shell; {in} is a .y4m file, {out} an .mkv, {kbps} the
    target, {fps} the frame rate; && between passes. May be given again."""

    speeds: Annotated[tuple[int, ...], tyro.conf.arg(metavar="N...")] = ()
    """Every method at these speeds, too, and a picture of BD-rate over encoding time."""

    targets: Annotated[str, tyro.conf.arg(metavar="auto|KBPS,KBPS,...")] = "auto"
    """Bitrates in kbit/s; auto takes five per clip where VBR reaches about 30 to 45 dB."""

    metrics: Annotated[str, tyro.conf.arg(metavar="M,M,...")] = "psnr"
    """Measured: psnr always, and any of ssim, ms-ssim, vmaf, vmaf-neg; they cost time."""

    aa: bool = False
    """Also encode VBR at targets moved by up to 1% (method vbr-aa): what noise looks like."""

    format: Annotated[
        Literal["text", "md", "csv", "latex"], tyro.conf.arg(metavar="text|md|csv|latex")
    ] = "text"
    """Form of the printed tables."""

    scale: Annotated[int | None, tyro.conf.arg(metavar="H")] = 480
    """Scale clips down to this height; None keeps theirs."""

    frames: Annotated[int | None, tyro.conf.arg(metavar="N")] = 150
    """Use the first N frames of each clip; None uses all."""

    jobs: Annotated[int, tyro.conf.arg(aliases=["-j"], metavar="N")] = min(2, os.cpu_count() or 1)
    """Encodes at a time. Times are only comparable while each has a core to itself."""

    speed: Annotated[int, tyro.conf.arg(metavar="N")] = 1
    """libvpx's cpu-used: 0 slow and best, to 9."""

    auto_alt_ref: Annotated[int, tyro.conf.arg(metavar="N")] = 6
    """Alternate references: 0 none, 1 one layer, 2 to 6 several layers."""

    no_tpl: bool = False
    """Without libvpx's temporal dependency model (TPL)."""

    no_frame_parallel: bool = False
    """Entropy coding goes on from frame to frame, as encode has it and libvpx has not."""

    lag: Annotated[int, tyro.conf.arg(metavar="N")] = 25
    """Frames of look-ahead."""

    threads: Annotated[int, tyro.conf.arg(metavar="N")] = 1
    """Encoder threads of each encode."""

    aq_mode: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Adaptive quantization mode, 0 off."""

    arnr_max_frames: Annotated[int, tyro.conf.arg(metavar="N")] = 7
    """Frames in the temporal filter of alternate references."""

    arnr_strength: Annotated[int, tyro.conf.arg(metavar="N")] = 5
    """Strength of that filter."""

    kf_max_dist: Annotated[int, tyro.conf.arg(metavar="N")] = 128
    """Largest distance between key frames, frames."""

    tile_columns: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """log2 of tile columns."""

    keep_streams: bool = False
    """Keep every encode as WebM, and a picture of each clip, for muzero-rc report."""

    no_cache: bool = False
    """Do not look into the encodes that evaluations share, and add none (muzero-rc cache)."""

    quiet: Annotated[bool, tyro.conf.arg(aliases=["-q"])] = False
    """Show no progress."""


def run(args: EvaluateArgs) -> int:
    """Evaluates and prints the tables; 1 if an encode failed."""
    plan = _plan(args)
    # Heavy imports come after the cheap mistakes.
    from muzero_rc.cli.speeds import draw
    from muzero_rc.evaluation.grid.external import GridEncoder
    from muzero_rc.evaluation.grid.policy_encoder import PolicyEncoder
    from muzero_rc.evaluation.grid.runner import run_evaluation
    from muzero_rc.evaluation.grid.store import shared_folder
    from muzero_rc.evaluation.measure.bd_rate import MIN_POINTS
    from muzero_rc.evaluation.measure.rate_time import rate_time
    from muzero_rc.evaluation.report.table import make_console, results_document, results_report
    from muzero_rc.policies.registry import make_policy

    for method in plan.methods:
        # A policy that cannot be loaded is told now, not by every one of its encodes.
        if not method.is_external:
            make_policy(method.spec, simulations=method.simulations)
    few = set(plan.targets_kbps or ())
    if few and len(few) < MIN_POINTS and not args.quiet:
        # Hours of encodes must not end in a table without its figure.
        print(
            f"a BD-rate takes {MIN_POINTS} targets and there are {len(few)}: the tables will "
            "have none",
            file=sys.stderr,
        )
    encoder = GridEncoder(PolicyEncoder(make_policy))
    shared = None if args.no_cache else shared_folder()
    try:
        with _Display(quiet=args.quiet) as display:
            results = run_evaluation(
                plan, encoder, args.out, jobs=args.jobs, on_progress=display, shared=shared
            )
    except BaseException as stop:
        # Ctrl-C or a signal, which main turns into its own line and status.
        if not isinstance(stop, Exception) and any(args.out.glob("encodes/*.json")):
            print(
                f"finished encodes are kept in {args.out}; the same command goes on from there",
                file=sys.stderr,
            )
        raise
    files = f"{args.out / 'results.json'}\n{args.out / 'results.csv'}"
    if args.speeds:
        draw(args.out / "speeds.png", rate_time([results]), "psnr_avg")
        files += f"\n{args.out / 'speeds.png'}"
    if args.format == "text":
        make_console(sys.stdout).print(results_report(results))
        print(f"\n{files}")
    else:
        # The document alone on stdout, so that it can be put into a file.
        print(results_document(results, args.format), end="")
        if not args.quiet:
            print(files, file=sys.stderr)
    if results.failures:
        count = len(results.failures)
        print(f"muzero-rc: {count} failed, see above; run again to retry", file=sys.stderr)
    return 1 if results.failures else 0


def _plan(args: EvaluateArgs) -> EvaluationPlan:
    from muzero_rc import __version__, video
    from muzero_rc.cli.provenance import command_line, environment
    from muzero_rc.evaluation.grid.encoder import find_sources
    from muzero_rc.evaluation.grid.runner import EvaluationPlan
    from muzero_rc.evaluation.measure.targets import parse_targets
    from muzero_rc.identity import build_identity

    if not args.clips:
        raise InputError("no clip given; name a video file or a folder of them")
    if args.frames is not None and args.frames < 1:
        raise InputError(f"--frames must be at least 1, not {args.frames}")
    if args.jobs < 1:
        raise InputError(f"--jobs must be at least 1, not {args.jobs}")
    if args.scale is not None:
        video.check_height(args.scale, "--scale")
    targets = parse_targets(args.targets)
    metrics = parse_metrics(args.metrics)
    measured_by = video.program_version(video.measuring_program(metrics)) if metrics else ""
    with naming_encoder_options({"lag_in_frames": "lag"}):
        settings = _settings(args)
    with naming_encoder_options({"speed": "speeds"}):
        for speed in args.speeds:
            settings.replace(speed=speed)
    return EvaluationPlan(
        sources=tuple(find_sources(args.clips, height=args.scale, max_frames=args.frames)),
        methods=methods_of(
            args.policy or ("muzero",),
            noise=args.aa,
            speeds=[speed for speed in args.speeds if speed != args.speed],
            external=args.external,
        ),
        settings=settings,
        targets_kbps=targets,
        build=build_identity(),
        metrics=metrics,
        measured_by=measured_by,
        notes={
            "scale": args.scale,
            "max_frames": args.frames,
            "jobs": args.jobs,
            "version": __version__,
            "command": command_line("evaluate", args),
            "environment": environment(),
        },
        keep_streams=args.keep_streams,
    )


def _settings(args: EvaluateArgs) -> EncoderSettings:
    from muzero_rc.env.control.settings import EncoderSettings

    return EncoderSettings(
        target_kbps=1,  # the plan sets each
        speed=args.speed,
        auto_alt_ref=args.auto_alt_ref,
        lag_in_frames=args.lag,
        tpl=not args.no_tpl,
        frame_parallel=not args.no_frame_parallel,
        aq_mode=args.aq_mode,
        arnr_max_frames=args.arnr_max_frames,
        arnr_strength=args.arnr_strength,
        kf_max_dist=args.kf_max_dist,
        threads=args.threads,
        row_mt=args.threads > 1,
        tile_columns=args.tile_columns,
    )


def parse_metrics(text: str) -> tuple[str, ...]:
    """Reads a list as `psnr,ssim,vmaf-neg`; those beside PSNR, each once, in a fixed order.

    Raises:
      InputError: there is no such metric.
    """
    from muzero_rc.evaluation.results import MEASURED_METRICS

    names = {part.strip().lower().replace("-", "_") for part in text.split(",")} - {"psnr", ""}
    unknown = sorted(names - set(MEASURED_METRICS))
    if unknown:
        known = ", ".join(["psnr", *(m.replace("_", "-") for m in MEASURED_METRICS)])
        raise InputError(f"unknown metric {unknown[0]!r} in --metrics; give any of {known}")
    return tuple(m for m in MEASURED_METRICS if m in names)


class _Display:
    """Encodes done, the latest one, and the time left; a context manager.

    A bar in a terminal, a line now and then elsewhere.
    """

    def __init__(self, *, quiet: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._quiet = quiet
        self._start = self._last = time.monotonic()
        self._made = 0
        self._bar = Progress(
            TextColumn("evaluate"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            console=Console(stderr=True),
            transient=True,
            disable=quiet or not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task("decoding", total=None)

    def __enter__(self) -> _Display:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def __call__(self, step: Progress) -> None:
        self._made += not step.reused
        text = self._describe(step)
        self._bar.update(self._task, completed=step.done, total=step.total, description=text)
        now = time.monotonic()
        due = step.error or step.done == step.total or now - self._last >= _LOG_INTERVAL_S
        if self._bar.disable and not self._quiet and due:
            self._last = now
            print(f"evaluate: {step.done}/{step.total} {text}", file=sys.stderr, flush=True)

    def _describe(self, step: Progress) -> str:
        what = f"{step.clip} {step.method} {step.target_kbps} kbit/s" if step.method else step.clip
        if step.error:
            return f"{what} failed: {step.error}"
        # Encodes found on disk took no time: they say nothing about the rest.
        left = (time.monotonic() - self._start) / max(self._made, 1) * (step.total - step.done)
        return f"{what}, {clock(left)} left"
