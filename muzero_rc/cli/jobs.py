"""Which input becomes which output, and what comes from or goes to a pipe."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from muzero_rc.cli.display import writing_stdout
from muzero_rc.errors import InputError, OutputError
from muzero_rc.output_files import WORKING_ENDING

__all__ = ["PIPE", "Job", "as_files", "jobs_of"]

PIPE = Path("-")
"""Stands for stdin and stdout."""


@dataclass(frozen=True, slots=True)
class Job:
    """An encode.

    Attributes:
      source: the input, or `PIPE` for YUV4MPEG2 on stdin.
      out: the output, or `PIPE` for WebM on stdout.
    """

    source: Path
    out: Path


def jobs_of(inputs: Sequence[Path], output: Path) -> list[Job]:
    """One job for each input; a folder as output gets a WebM file of the name of each.

    Raises:
      InputError: several inputs and no folder, two of them would become one file, or an output
        is one of the inputs.
    """
    if not output.is_dir():
        if len(inputs) > 1:
            raise InputError(f"several inputs need a folder: {output} is none; create it first")
        return [Job(inputs[0], output)]
    if PIPE in inputs:
        raise InputError("the output of stdin needs a name; give a file instead of a folder")
    jobs = [Job(source, output / f"{source.stem}.webm") for source in inputs]
    seen: dict[Path, Path] = {}
    for job in jobs:
        if job.out in seen:
            raise InputError(f"{seen[job.out]} and {job.source} would both become {job.out}")
        seen[job.out] = job.source
    for job in jobs:
        # Else the first encode would replace what the second is to read.
        if job.out.exists() and (
            read := [one for one in inputs if one.exists() and one.samefile(job.out)]
        ):
            raise InputError(f"the output {job.out} is the input {read[0]}; give another folder")
    return jobs


@contextlib.contextmanager
def as_files(job: Job) -> Iterator[Job]:
    """The job with files in the place of pipes: stdin is read to its end, stdout written last.

    Video is decoded more than once, and a file is checked before it is shipped. The stream of an
    encode that failed is kept beside the file for stdout, so that folder stays then.

    Raises:
      InputError: stdin is no YUV4MPEG2, closed, or a terminal.
      OutputError: there is no space for it, or stdout takes no file.
    """
    if PIPE not in (job.source, job.out):
        yield job
        return
    _check_pipes(job)
    from muzero_rc import video

    folder = Path(tempfile.mkdtemp(suffix=WORKING_ENDING))
    source, out = job.source, job.out
    try:
        if source == PIPE:
            source = folder / "stdin.mkv"
            video.store_y4m(sys.stdin.fileno(), source)
        if out == PIPE:
            out = folder / "stdout.webm"
        yield Job(source, out)
        if job.out == PIPE:
            with out.open("rb") as file, writing_stdout():
                shutil.copyfileobj(file, sys.stdout.buffer)
                sys.stdout.buffer.flush()
    finally:
        if any(folder.glob("*.ivf")):
            (folder / "stdin.mkv").unlink(missing_ok=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _check_pipes(job: Job) -> None:
    """Before anything is read or encoded.

    Raises:
      InputError: nothing can come from stdin.
      OutputError: stdout takes no file.
    """
    # Python has no object for a stream that is closed.
    if job.source == PIPE and (sys.stdin is None or sys.stdin.isatty()):
        what = "closed" if sys.stdin is None else "a terminal"
        raise InputError(f"stdin is {what}; pipe YUV4MPEG2 into it, or give a file")
    if job.out == PIPE and (sys.stdout is None or sys.stdout.isatty()):
        what = "closed" if sys.stdout is None else "a terminal"
        raise OutputError(f"stdout is {what}; send it to a file or a program, or give -o a name")
