"""Other encoders in the grid: a command line, its file measured as ours are.

The command reads the clip's frames from a YUV4MPEG2 file, which every encoder reads, so
that all methods code the same pixels. What it wrote is decoded by ffmpeg and compared with
the same frames; its size is that of its packets, without the container.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import shutil
import tempfile
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from muzero_rc import video
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.errors import EncoderError, InputError, ToolMissingError
from muzero_rc.evaluation.grid.encoder import EXTERNAL, ClipInfo, ClipSource, Method
from muzero_rc.evaluation.grid.policy_encoder import PolicyEncoder
from muzero_rc.evaluation.measure.quality import spread
from muzero_rc.evaluation.results import EncodeRecord
from muzero_rc.types import PEAK, psnr_db

__all__ = ["GridEncoder", "encode_external", "external_method", "split_command"]

_PLACEHOLDERS = ("in", "out", "kbps", "fps")
_NEEDED = ("in", "out", "kbps")
_SHELL = frozenset({"|", "||", "&", ";", ">", ">>", "<", "2>", "2>&1"})
_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*")


def external_method(text: str) -> Method:
    """The method of `NAME:COMMAND`.

    Its fingerprint is the command and the content of the programs that it starts; the
    libraries that those load are not seen.

    Raises:
      InputError: there is no name, or the command cannot be used.
      ToolMissingError: a program is not on PATH.
    """
    name, colon, command = text.partition(":")
    if not (colon and _NAME.fullmatch(name)):
        raise InputError(
            f"--external {text!r:.60} has no name; give NAME:COMMAND as in 'x264:ffmpeg -i {{in}}"
            " -c:v libx264 -b:v {kbps}k {out}'"
        )
    digest = hashlib.sha256(command.encode())
    for words in split_command(command):
        program = shutil.which(words[0])
        if program is None:
            raise ToolMissingError(f"--external {name}: {words[0]} is not on PATH")
        with Path(program).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return Method(name, EXTERNAL + command, f"external {digest.hexdigest()}")


def split_command(command: str) -> list[list[str]]:
    """Argument lists of a command line; `&&` separates the passes. No shell is involved.

    Raises:
      InputError: it is no command line, wants a shell, or has no or unknown placeholders.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise InputError(f"the external command {command!r:.60} cannot be read: {error}") from None
    for word in words:
        if word in _SHELL:
            raise InputError(
                f"external commands run without a shell, which {word} needs; put it into a script"
            )
    known = "{" + "}, {".join(_PLACEHOLDERS) + "}"
    for name in re.findall(r"\{(\w+)\}", command):
        if name not in _PLACEHOLDERS:
            raise InputError(f"unknown placeholder {{{name}}} in --external; known are {known}")
    for name in _NEEDED:
        if f"{{{name}}}" not in command:
            raise InputError(f"the external command lacks {{{name}}}; give {known}")
    passes: list[list[str]] = [[]]
    for word in words:
        if word == "&&":
            passes.append([])
        else:
            passes[-1].append(word)
    if not all(passes):
        raise InputError("the external command has nothing on one side of &&")
    return passes


class GridEncoder:
    """Policies and other encoders behind one face; one per worker process."""

    def __init__(self, policies: PolicyEncoder) -> None:
        """Takes what encodes with policies and opens the clips of all."""
        self._policies = policies

    def open(self, source: ClipSource) -> ClipInfo:
        """Decodes a clip.

        Raises:
          InputError: it cannot be used.
        """
        return self._policies.open(source)

    def encode(
        self,
        source: ClipSource,
        method: Method,
        settings: EncoderSettings,
        key: str,
        metrics: Sequence[str] = (),
        *,
        stream: Path | None = None,
    ) -> EncodeRecord:
        """Encodes a clip by a method; see `PolicyEncoder.encode` and `encode_external`.

        Other encoders' streams are not kept: what they wrote need not play in a page.
        """
        if method.is_external:
            info = self._policies.open(source)
            return encode_external(source, info, method, settings.target_kbps, key, metrics)
        return self._policies.encode(source, method, settings, key, metrics, stream=stream)


def encode_external(
    source: ClipSource,
    info: ClipInfo,
    method: Method,
    target_kbps: int,
    key: str,
    metrics: Sequence[str] = (),
) -> EncodeRecord:
    """Encodes a clip by a command line and measures the file that it wrote.

    `seconds` is the wall time of the command, all passes together. There are no qindexes
    and no buffer report. `sha256` is that of the packets. ffmpeg prints a frame's PSNR with
    two decimals, so the aggregates are good to about 0.005 dB.

    Raises:
      InputError: the clip or the command cannot be used.
      EncoderError: the command failed, or wrote no video of the clip's length.
      ToolMissingError: a program is missing.
    """
    command = method.spec.removeprefix(EXTERNAL)
    passes = split_command(command)
    with video.clean_end(), tempfile.TemporaryDirectory(prefix="muzero-rc-") as name:
        folder = Path(name)
        values = {
            "in": str(folder / "in.y4m"),
            "out": str(folder / "out.mkv"),
            "kbps": str(target_kbps),
            "fps": info.fps,
        }
        video.write_y4m(
            Path(values["in"]), source.path, height=source.height, max_frames=source.max_frames
        )
        start = time.perf_counter()
        for words in passes:
            _run(method.name, [_filled(word, values) for word in words], folder)
        seconds = time.perf_counter() - start
        out = Path(values["out"])
        if not out.is_file():
            raise EncoderError(f"{method.name} ended well but wrote no file {{out}}")
        packets = video.packets(out)
        # ffmpeg's filters would repeat the last frame of a shorter one.
        if packets.frames != info.frames:
            raise EncoderError(f"{method.name} wrote {packets.frames} frames of {info.frames}")
        metrics = video.measurable(metrics, info.width, info.height)
        found = video.measure(
            out, source.path, metrics, height=source.height, max_frames=source.max_frames,
            planes=True,
        )  # fmt: skip
    psnr = found.pop("psnr")
    planes = {plane: found.pop(f"psnr_{plane}") for plane in "yuv"}
    fps = Fraction(info.fps)
    joint = spread(psnr, fps)
    mean_error = sum(PEAK**2 / 10 ** (db / 10) for db in psnr) / len(psnr)
    size = sum(packets.sizes)
    settings: dict[str, Any] = {"target_kbps": target_kbps, "command": command}
    return EncodeRecord(
        clip=source.name,
        method=method.name,
        target_kbps=target_kbps,
        actual_kbps=8 * size / info.duration_s / 1000.0,
        bytes=size,
        psnr_avg=joint.mean,
        psnr_overall=psnr_db(mean_error, 1.0),
        psnr_y=spread(planes["y"], fps).mean,
        psnr_worst=joint.worst,
        psnr_p5=joint.p5,
        psnr_deviation=joint.deviation,
        psnr_last_second=joint.last_second,
        seconds=seconds,
        decision_seconds=0.0,
        preparation_seconds=0.0,
        frames=info.frames,
        coded_frames=len(packets.sizes),
        qindex=[],
        sha256=packets.sha256,
        clip_sha256=info.sha256,
        settings=settings,
        key=key,
        psnr_u=spread(planes["u"], fps).mean,
        psnr_v=spread(planes["v"], fps).mean,
        quality={name: spread(values, fps).as_dict() for name, values in found.items()},
    )


def _filled(word: str, values: dict[str, str]) -> str:
    # In one go, so that a path with braces in it is left alone.
    return re.sub(r"\{(\w+)\}", lambda match: values[match[1]], word)


def _run(name: str, words: list[str], folder: Path) -> None:
    try:
        child = video.Child(words, cwd=folder)
    except OSError as error:
        raise ToolMissingError(
            f"{name}: {words[0]} cannot be started: {error.strerror or error}"
        ) from error
    with child:
        status = child.run()
        if status != 0:
            detail = child.error_line() or "without a word"
            raise EncoderError(f"{name}: {words[0]} ended with status {status}: {detail}")
