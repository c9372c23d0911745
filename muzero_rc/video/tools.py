"""Finding ffmpeg and ffprobe, and running them as children that cannot outlive us.

ffmpeg is always started with `-nostdin`, errors only, and in its own process group:
Ctrl-C in a terminal reaches this process alone, which then decides what to stop.
"""

from __future__ import annotations

import codecs
import contextlib
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence, Set
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import ffmpeg

from muzero_rc.errors import InputError, OutputError, ToolMissingError
from muzero_rc.output_files import shown

__all__ = [
    "NOT_UTF8",
    "PROTOCOLS",
    "WITH_WARNINGS",
    "Child",
    "check_written",
    "command_line",
    "each_packet",
    "ending_with_us",
    "ffmpeg_command",
    "ffprobe",
    "file_url",
    "find_tool",
    "last_error_line",
    "literal",
]

PROTOCOLS = "file,crypto,data"
"""Protocols that an input may lead ffmpeg to: playlists must not reach the network."""

WITH_WARNINGS = ("-loglevel", "level+warning")
"""Global options of an ffmpeg whose lines tell their level, see `Child`."""

_KEPT_LINES = 40
# Names of what this process has open, which mean something else to a child.
_OURS = ("/dev/stdin", "/dev/fd/", "/proc/self/")
_KILL_WAIT_S = 5.0
_PREFIX = re.compile(r"^(\[[^\]]*@ 0x[0-9a-f]+\]\s*)+")
_GENERIC = (
    "Conversion failed!",
    "Error while filtering:",
    "Error opening output files:",
    "Error initializing output stream",
    "Nothing was written into output file",
    # From ffmpeg 7 on every thread reports that it ends.
    "Terminating thread with return code",
    "Task finished with error code",
    "Could not open encoder before EOF",
    "Error reinitializing filters",
    "Failed to configure input pad",
)
_OURS_SAY = ("-hide_banner", "-nostdin")
_UNKNOWN_OPTION = "Unrecognized option '"
_OLDEST_FFMPEG = "5.1"
_WRITE_FAILED = ("Error writing trailer of", "Error closing file")
_NO_SPACE = ("No space left on device", "File too large", "Disk quota exceeded")
_LEVEL = re.compile(r"\[(warning|error|fatal|panic)\] ")
_REPEATED = "    Last message repeated"
_VAGUE = "Invalid data found when processing input"
_VAGUE_START = "Could not write header for output file"
# Stand for the bytes of names that are not UTF-8: ffmpeg-python hashes all words as UTF-8.
_BYTE_SIGNS = 0xF0000  # a private plane of Unicode
_SIGN = re.compile("[\U000f0000-\U000f00ff]")
_SURROGATES = 0xDC00  # Python's own signs for such bytes, from 0x80 on


def find_tool(name: str) -> str:
    """Path of `ffmpeg` or `ffprobe`.

    Raises:
      ToolMissingError: the program is not on PATH.
    """
    path = shutil.which(name)
    if path is None:
        raise ToolMissingError(
            f"{name} is not installed or not on PATH; install it (Debian: apt install ffmpeg)"
        )
    return path


def ending_with_us(command: Sequence[str]) -> Sequence[str]:
    """A command whose process is killed when the thread that starts it ends, however that ends.

    Nothing in this process can do that after a `kill -9`; Linux does, where `setpriv` asks.
    """
    setpriv = _setpriv()
    if setpriv is None or shutil.which(command[0]) is None:
        return command  # one that cannot be started has to fail in its own words
    return [setpriv, "--pdeathsig", "KILL", "--", *command]


@functools.cache
def _setpriv() -> str | None:
    """Path of util-linux's program; None where there is none that can do it."""
    path = shutil.which("setpriv")
    if path is None:
        return None
    tried = subprocess.run(
        [path, "--pdeathsig", "KILL", "--", path, "--version"],
        stdin=subprocess.DEVNULL, capture_output=True,
    )  # fmt: skip
    return None if tried.returncode else path


def ffmpeg_command(*global_options: str, program: str | None = None) -> list[str]:
    """Start of every ffmpeg command line: quiet, no questions, no reading of stdin.

    Args:
      global_options: more options of ffmpeg itself.
      program: path of another ffmpeg than the one on PATH.
    """
    return [
        program or find_tool("ffmpeg"), *_OURS_SAY, "-loglevel", "error",
        *global_options, "-y",
    ]  # fmt: skip


def file_url(path: Path) -> str:
    """How ffmpeg takes any file name literally, with colons or a leading dash too.

    Bytes that are not UTF-8 become signs that `command_line` turns back.
    """
    text = os.path.abspath(path)
    if text.startswith(_OURS) and os.path.isfile(text):
        text = os.path.realpath(text)
    if _SIGN.search(text):  # a name with these characters in it
        text = _SIGN.sub(lambda sign: _escaped(sign[0].encode()), text)
    return "file:" + re.sub("[\udc80-\udcff]", lambda byte: _escaped(os.fsencode(byte[0])), text)


def _escaped(data: bytes) -> str:
    return "".join(chr(_BYTE_SIGNS + byte) for byte in data)


def command_line(output: Any, *global_options: str, program: str | None = None) -> list[str]:
    """The words of an ffmpeg command that ffmpeg-python has built.

    Args:
      output: what `ffmpeg.output` gave.
      global_options: options of ffmpeg itself.
      program: path of another ffmpeg than the one on PATH.
    """
    words = ffmpeg.compile(output, cmd=ffmpeg_command(*global_options, program=program))
    return [literal(word) for word in words]


def literal(word: str) -> str:
    """A word of a command with the bytes that `file_url` has put signs for."""
    if not _SIGN.search(word):
        return word
    surrogates = _SIGN.sub(lambda sign: chr(ord(sign[0]) - _BYTE_SIGNS + _SURROGATES), word)
    return os.fsdecode(surrogates.encode("utf-8", "surrogateescape"))


NOT_UTF8 = "muzero_rc.not_utf8"
"""What `bytes.decode` does about bytes that are no UTF-8: it reads them as Windows-1252."""


def ffprobe(path: Path, *options: str, errors: str = NOT_UTF8) -> dict[str, Any]:
    """What ffprobe tells of a file.

    Bytes of tags that are no UTF-8 are read as Windows-1252, which old AVI files have.

    Args:
      path: the file.
      options: what to show.
      errors: what is done about those bytes, as `bytes.decode` has it.

    Raises:
      InputError: it cannot be read as video.
      ToolMissingError: ffprobe is not installed.
    """
    command = [
        find_tool("ffprobe"), "-v", "error", "-protocol_whitelist", PROTOCOLS,
        "-of", "json=sv=ignore", *options, literal(file_url(path)),
    ]  # fmt: skip
    done = subprocess.run(
        ending_with_us(command), stdin=subprocess.DEVNULL, capture_output=True, process_group=0
    )
    if done.returncode:
        line = last_error_line(done.stderr.decode("utf-8", "replace").splitlines())
        shown = str(path.absolute()).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        raise InputError(line.removeprefix(f"{shown}: ") or "unknown format")
    told: dict[str, Any] = json.loads(done.stdout.decode("utf-8", errors))
    return told


def _read_as_windows(error: UnicodeError) -> tuple[str, int]:
    """Text for bytes that are no UTF-8; those that Windows-1252 lacks are Latin-1."""
    assert isinstance(error, UnicodeDecodeError)
    each = [bytes([byte]) for byte in error.object[error.start : error.end]]
    return "".join(b.decode("cp1252", "ignore") or b.decode("latin1") for b in each), error.end


codecs.register_error(NOT_UTF8, _read_as_windows)


def each_packet(
    path: Path,
    entries: Sequence[str],
    *options: str,
    on_packet: Callable[[list[str]], None],
    on_stream: Callable[[str], None] | None = None,
) -> None:
    """Hands on what ffprobe tells of the packets of a file, one by one: there may be millions.

    Args:
      path: the file.
      entries: fields of a packet, two or more, in ffprobe's order.
      options: which packets.
      on_packet: gets the fields as text, `N/A` where there is none.
      on_stream: gets the kind of each stream, after all packets; that of a cover picture is
        `cover`.

    Raises:
      InputError: it cannot be read.
      ToolMissingError: ffprobe is not installed.
    """
    command = [find_tool("ffprobe"), "-v", "error", "-protocol_whitelist", PROTOCOLS, *options]
    kinds = "" if on_stream is None else ":stream=codec_type:stream_disposition=attached_pic"
    command += ["-show_entries", f"packet={','.join(entries)}{kinds}", "-of", "csv"]

    def read(line: str) -> None:
        # Each line has the name of its section first; side data has sections of its own.
        section, *fields = line.split(",")
        if section == "packet" and len(fields) >= len(entries):
            on_packet(fields)
        elif section == "stream" and on_stream is not None:
            on_stream("cover" if fields[1:] == ["1"] else fields[0])

    with Child([*command, literal(file_url(path))]) as child:
        if child.run(read):
            raise InputError(child.error_line() or f"{path} cannot be read")


def last_error_line(lines: Sequence[str]) -> str:
    """The last line of ffmpeg's stderr that says something, without its address prefix."""
    texts = [_PREFIX.sub("", line).strip().removeprefix("file:") for line in lines]
    texts = [text for text in texts if text and not text.startswith(_GENERIC)]
    telling = [
        text for text in texts if not (text.endswith(_VAGUE) or text.startswith(_VAGUE_START))
    ]
    return next(iter((telling or texts)[::-1]), "")


def _check_options(command: Sequence[str], lines: Iterable[str]) -> None:
    """Says that ffmpeg is too old, where it does not know an option that it was given.

    Raises:
      ToolMissingError: it is.
    """
    if tuple(command[1 : 1 + len(_OURS_SAY)]) != _OURS_SAY:
        return  # somebody else's command: its options are theirs
    for line in lines:
        if line.startswith(_UNKNOWN_OPTION):
            option = line.removeprefix(_UNKNOWN_OPTION).strip(" '.")
            raise ToolMissingError(
                f"{command[0]} does not know the option -{option}: it is too old; install ffmpeg "
                f"{_OLDEST_FFMPEG} or a later one, and put it first on PATH"
            )


def check_written(child: Child, status: int, folder: Path) -> None:
    """Raises if ffmpeg, which has ended, could not write; its status alone does not tell.

    ffmpeg 5 ends with status 0 when the disk is full; only its words tell.

    Raises:
      OutputError: no space, or no permission.
    """
    detail, errors = child.error_line(), "\n".join(child.errors())
    if status == -signal.SIGXFSZ or any(text in errors for text in _NO_SPACE):
        raise OutputError(f"no space left in {shown(folder)}; free some or write elsewhere")
    if any(text in errors for text in _WRITE_FAILED):
        raise OutputError(f"cannot write in {shown(folder)}: {detail}; write elsewhere")


class Child:
    """A child process whose stderr is drained and which is killed on leaving the context.

    It does not outlive the thread that starts it, see `ending_with_us`.

    Attributes:
      process: the child; its stdout is a pipe of bytes, and so is stdin if asked for.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        stdin: int = subprocess.DEVNULL,
        cwd: Path | None = None,
        levels: bool = False,
    ) -> None:
        """Starts it.

        Args:
          command: the program and its arguments.
          stdin: a file descriptor that the child reads from; nothing if not given.
          cwd: the folder it runs in.
          levels: it is an ffmpeg with the words of `WITH_WARNINGS`, so that each line tells
            whether it is a warning.
        """
        self._command = command
        self._levels = levels
        self._warnings: set[str] = set()
        self.process = subprocess.Popen(
            ending_with_us(command),
            stdin=stdin,
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,
        )
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._drain = threading.Thread(target=self._read_stderr, name="ffmpeg-stderr", daemon=True)
        self._drain.start()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()

    @property
    def stdout(self) -> IO[bytes]:
        """The child's output."""
        assert self.process.stdout is not None
        return self.process.stdout

    def _read_stderr(self) -> None:
        stderr = self.process.stderr
        assert stderr is not None
        # A kill closes the pipe under the reader; what was read by then is enough.
        with contextlib.suppress(ValueError, OSError):
            for line in stderr:
                self._take(line.decode("utf-8", "replace").rstrip())

    def _take(self, line: str) -> None:
        found = _LEVEL.search(line) if self._levels else None
        if found is not None and found[1] == "warning":
            if len(self._warnings) < _KEPT_LINES:
                self._warnings.add(line[found.end() :])
        elif not (self._levels and line.startswith(_REPEATED)):
            self._lines.append(line if found is None else line.replace(found[0], "", 1))

    def warnings(self) -> Set[str]:
        """Different warnings so far, the first of them, without ffmpeg's part that speaks."""
        return self._warnings

    def wait(self, timeout_s: float | None = None) -> int:
        """Exit status, once the child has ended and its stderr is read.

        Raises:
          subprocess.TimeoutExpired: the child still runs after `timeout_s`.
          ToolMissingError: it is an ffmpeg that does not know an option.
        """
        status = self.process.wait(timeout_s)
        self._drain.join(_KILL_WAIT_S)
        if status:
            _check_options(self._command, self._lines)
        return status

    def error_line(self) -> str:
        """The last meaningful line of stderr so far, or an empty string."""
        return last_error_line(self.errors())

    def errors(self) -> list[str]:
        """The last lines of stderr so far."""
        return list(self._lines)

    def kill(self) -> None:
        """Ends the child at once and frees its pipes; may be called again."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(_KILL_WAIT_S)
        self._drain.join(_KILL_WAIT_S)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):  # what it had not read is no matter
                    pipe.close()

    def run(self, on_line: Callable[[str], None] | None = None) -> int:
        """Reads stdout to its end, line by line, and returns the exit status."""
        for line in self.stdout:
            if on_line is not None:
                on_line(line.decode("utf-8", "replace").strip())
        return self.wait()
