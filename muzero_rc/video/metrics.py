"""SSIM, MS-SSIM and VMAF of an encoded stream, by ffmpeg's filters.

The reference is decoded by the same command as the clip that was encoded, so its pixels
are the same whatever ffmpeg measures with; one ffmpeg's pipe is the other's input, and no
frame passes through Python.

Sources: SSIM is Wang et al. 2004 as in ffmpeg's `ssim` filter (8x8 windows, every 4
pixels), all planes weighted by their size; MS-SSIM is Wang et al. 2003, luma, and VMAF
(Li et al. 2016; models vmaf_v0.6.1 and its "no enhancement gain" variant) is Netflix's,
both as in libvmaf.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ffmpeg

from muzero_rc.errors import EncoderError, InputError, ToolMissingError
from muzero_rc.signals import raising_signals
from muzero_rc.types import MAX_PSNR_DB
from muzero_rc.video.decode import open_decoder
from muzero_rc.video.picture import Picture
from muzero_rc.video.tools import Child, command_line, file_url, find_tool

__all__ = ["MEASURES", "clean_end", "measurable", "measure", "measuring_program", "program_version"]

MEASURES = ("ssim", "ms_ssim", "vmaf", "vmaf_neg")
"""What can be measured beside PSNR."""

_NEEDS_LIBVMAF = frozenset({"ms_ssim", "vmaf", "vmaf_neg"})
_MODELS = {"vmaf": "vmaf_v0.6.1", "vmaf_neg": "vmaf_v0.6.1neg"}
_MS_SSIM_MIN_SIDE = 176
"""An 11x11 window at the fifth scale, where the picture is a sixteenth."""

_LOG_OF = {"psnr": "psnr.log", "ssim": "ssim.log", "libvmaf": "libvmaf.json"}
_VERSION_WAIT_S = 30.0


def measuring_program(metrics: Sequence[str]) -> str:
    """Path of an ffmpeg that has the filters.

    The package imageio-ffmpeg carries one with libvmaf; without it, the one on PATH must
    have the filters. The packaged one comes first for SSIM too, which any ffmpeg has:
    the filter of 5.1 differs from its own C code by up to 5e-4 in a frame, that of 9 does
    not, and a run must not mix the two.

    Raises:
      InputError: there is no such metric.
      ToolMissingError: no ffmpeg has what is needed; says how to get one.
    """
    for name in metrics:
        if name not in MEASURES:
            raise InputError(f"unknown metric {name!r}; give any of {', '.join(MEASURES)}")
    wanted = [m for m in metrics if m in _NEEDS_LIBVMAF]
    for candidate in (_packaged_program(), shutil.which("ffmpeg")):
        if candidate is not None and (not wanted or _has_libvmaf(candidate)):
            return candidate
    if not wanted:
        return find_tool("ffmpeg")
    raise ToolMissingError(
        f"{', '.join(wanted)} needs an ffmpeg with libvmaf, and the one on PATH has none;"
        " pip install imageio-ffmpeg (the extra vmaf) brings one"
    )


def measurable(metrics: Sequence[str], width: int, height: int) -> tuple[str, ...]:
    """Those of the metrics that frames of a size have: MS-SSIM needs 176 pixels a side."""
    small = min(width, height) < _MS_SSIM_MIN_SIDE
    return tuple(m for m in metrics if not (m == "ms_ssim" and small))


def program_version(program: str) -> str:
    """What `ffmpeg -version` says first, such as `5.1.6-0+deb12u1`.

    Raises:
      ToolMissingError: the program does not run.
    """
    match = re.match(r"ffmpeg version (\S+)", _ask(program, "-version"))
    return match[1] if match else "unknown"


def measure(
    stream: Path,
    source: Path,
    metrics: Sequence[str],
    *,
    height: int | None = None,
    max_frames: int | None = None,
    planes: bool = False,
    picture: Picture | None = None,
) -> dict[str, list[float]]:
    """Quality of every shown frame of an encoded stream.

    Args:
      stream: the encoded frames, any file that ffmpeg reads.
      source: the video that was encoded.
      metrics: any of `MEASURES`.
      height: as the source was decoded for the encode.
      max_frames: likewise.
      planes: also `psnr_y`, `psnr_u` and `psnr_v`.
      picture: how the source became frames; plain ones of 8 bits if not given.

    Returns:
      For each metric, and always for `psnr` (over Y, U and V together, dB), a list with a
      value for each frame in display order. `psnr` has two decimals, as ffmpeg prints it:
      it is there to show that the right frames were compared.

    Raises:
      InputError: the source cannot be read, or is too small for a metric.
      EncoderError: the stream cannot be decoded, or its frames are not the source's.
      ToolMissingError: there is no ffmpeg with a metric.
    """
    program = measuring_program(metrics)
    with (
        clean_end(),
        tempfile.TemporaryDirectory(prefix="muzero-rc-") as folder,
        open_decoder(source, height=height, max_frames=max_frames, picture=picture) as reference,
    ):
        size = (reference.width, reference.height)
        if set(metrics) - set(measurable(metrics, *size)):
            raise InputError(
                f"MS-SSIM needs {_MS_SSIM_MIN_SIDE} pixels a side, {source} has"
                f" {size[0]}x{size[1]}; leave ms_ssim out"
            )
        pix_fmt = "yuv420p" if picture is None else picture.pix_fmt
        command = _command(program, stream, size, metrics, pix_fmt)
        with Child(command, stdin=reference.fileno(), cwd=Path(folder)) as child:
            status = child.run()
            detail = child.error_line() or f"ffmpeg ended with status {status}"
        if status != 0:
            raise EncoderError(f"measuring {stream.name} against {source} failed: {detail}")
        reference.check()
        try:
            found = _read(Path(folder), metrics, "yuv" if planes else "")
        except (OSError, ValueError, KeyError) as error:
            raise EncoderError(
                f"ffmpeg's measurements of {source} cannot be read: {error}"
            ) from None
    lengths = {name: len(values) for name, values in found.items()}
    if len(set(lengths.values())) != 1:
        raise EncoderError(f"measuring {source} gave different numbers of frames: {lengths}")
    return found


@contextlib.contextmanager
def clean_end() -> Iterator[None]:
    """Lets SIGTERM unwind instead of ending the process at once.

    A worker of the evaluation is ended that way in the middle of its work, and would leave
    its temporary folder and two ffmpegs behind.
    """
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    with raising_signals((signal.SIGTERM,), lambda number: SystemExit(128 + number)):
        yield


def _command(
    program: str, stream: Path, size: tuple[int, int], metrics: Sequence[str], pix_fmt: str
) -> list[str]:
    filters: list[tuple[str, dict[str, Any]]] = [("psnr", {"stats_file": _LOG_OF["psnr"]})]
    if "ssim" in metrics:
        filters.append(("ssim", {"stats_file": _LOG_OF["ssim"]}))
    if _NEEDS_LIBVMAF & set(metrics):
        filters.append(("libvmaf", _libvmaf_options(metrics)))
    encoded = ffmpeg.input(file_url(stream), threads=1)
    reference = ffmpeg.input("pipe:0", format="rawvideo", pix_fmt=pix_fmt, video_size=size)
    outputs = []
    split = []
    for stream_in in (encoded["v:0"], reference["v:0"]):
        # The filters pair frames by time stamp, and their number is all that both inputs
        # have in common to the last bit.
        numbered = stream_in.filter("settb", "1/1000").filter("setpts", "N*40")
        # Raw frames tell no colour space. Where the stream tells one, recent ffmpegs convert
        # before they compare; under equal labels they leave the samples alone.
        labelled = numbered.filter("setparams", range="tv", colorspace="bt709")
        split.append(labelled.filter_multi_output("split", len(filters)))
    for i, (name, options) in enumerate(filters):
        outputs.append(ffmpeg.filter([split[0][i], split[1][i]], name, **options))
    null = ffmpeg.output(*outputs, "-", format="null", fps_mode="passthrough")
    return command_line(null, program=program)


def _libvmaf_options(metrics: Sequence[str]) -> dict[str, Any]:
    models = [m for m in metrics if m in _MODELS]
    options: dict[str, Any] = {
        "log_fmt": "json",
        "log_path": _LOG_OF["libvmaf"],
        # There is always a model, even if only MS-SSIM is asked for: the filter wants one.
        "model": "|".join(f"version={_MODELS[m]}:name={m}" for m in models or ["vmaf"]),
    }
    if "ms_ssim" in metrics:
        options["feature"] = "name=float_ms_ssim"
    return options


def _read(folder: Path, metrics: Sequence[str], planes: str = "") -> dict[str, list[float]]:
    log = folder / _LOG_OF["psnr"]
    columns = {"psnr": "psnr_avg", **{f"psnr_{plane}": f"psnr_{plane}" for plane in planes}}
    found = {
        name: [min(value, MAX_PSNR_DB) for value in _column(log, column)]
        for name, column in columns.items()
    }
    if "ssim" in metrics:
        found["ssim"] = _column(folder / _LOG_OF["ssim"], "All")
    if _NEEDS_LIBVMAF & set(metrics):
        frames = json.loads((folder / _LOG_OF["libvmaf"]).read_text())["frames"]
        for name in metrics:
            if name in _NEEDS_LIBVMAF:
                key = "float_ms_ssim" if name == "ms_ssim" else name
                found[name] = [float(frame["metrics"][key]) for frame in frames]
    for name, values in found.items():
        if not all(map(math.isfinite, values)):
            raise ValueError(f"{name} is not finite")
    return found


def _column(path: Path, name: str) -> list[float]:
    """`name:value` of every line of a filter's stats file."""
    return [
        float(dict(word.partition(":")[::2] for word in line.split())[name])
        for line in path.read_text().splitlines()
    ]


@functools.cache
def _packaged_program() -> str | None:
    try:
        import imageio_ffmpeg
    except ImportError:
        return None
    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError:  # the package without its program, on a platform it has none for
        return None


@functools.cache
def _has_libvmaf(program: str) -> bool:
    return " libvmaf " in _ask(program, "-filters")


@functools.cache
def _ask(program: str, option: str) -> str:
    try:
        done = subprocess.run(
            [program, "-hide_banner" if option != "-version" else "-nostdin", option],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_VERSION_WAIT_S,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolMissingError(f"{program} does not run: {error}") from None
    return done.stdout
