"""The exception family: every error a user can meet is a `MuzeroRcError`.

Each class also inherits the builtin that a caller would expect, and carries the
exit code that the command line answers with. Messages are one line and say what
failed and, where there is something to be done, what to do.
"""

from __future__ import annotations

__all__ = [
    "AimMissedError",
    "CheckpointError",
    "EncoderError",
    "EncoderTimeoutError",
    "InputError",
    "MuzeroRcError",
    "OutputError",
    "PolicyWarning",
    "SessionClosedError",
    "SomeFailedError",
    "ToolMissingError",
    "noted",
    "told",
]


class MuzeroRcError(Exception):
    """Base class of all errors raised on purpose by this package."""

    exit_code = 1


class InputError(MuzeroRcError, ValueError):
    """Something given from outside (file, flag, bitrate, config) cannot be used."""

    exit_code = 2


class OutputError(MuzeroRcError, OSError):
    """An output cannot be written: no permission, no space, or it is the input."""

    exit_code = 2


class AimMissedError(MuzeroRcError):
    """No encode has what was asked for: a quality, or a buffer that never underflows."""


class CheckpointError(InputError):
    """A policy file or checkpoint is missing, damaged or of another format."""


class ToolMissingError(MuzeroRcError, FileNotFoundError):
    """A program this package needs (ffmpeg, ffprobe) is not on the machine."""

    exit_code = 2


class SomeFailedError(MuzeroRcError):
    """Of several pieces of work some failed, and what failed has been told.

    Attributes:
      exit_code: the highest of theirs.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class EncoderError(MuzeroRcError, RuntimeError):
    """libvpx refused or failed.

    Attributes:
      code: libvpx's `vpx_codec_err_t` as a number, 0 if the error is not libvpx's.
      detail: libvpx's own text for it, possibly empty.
    """

    def __init__(self, message: str, code: int = 0, detail: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.detail = detail


class EncoderTimeoutError(EncoderError, TimeoutError):
    """The encoder did not answer within the session's watchdog time."""


class SessionClosedError(EncoderError):
    """A session was used after `close()` or `finish()`."""


class PolicyWarning(UserWarning):
    """A policy may not be what is expected: its file is of other costs, or its name is taken."""


def told(error: MuzeroRcError | OSError) -> tuple[str, int]:
    """The one line that people get of an error, with what was noted on the way; its exit status."""
    if isinstance(error, MuzeroRcError):
        message, code = " ".join(str(error).split()), error.exit_code
    else:
        name = error.filename2 or error.filename  # of a rename, the new name
        where = f"{name}: " if name else ""
        message, code = f"{where}{error.strerror or error}", 1
    return noted(message, error), code


def noted(message: str, error: BaseException) -> str:
    """A message with what was noted on the way of an error: how to go on."""
    return "; ".join([message, *getattr(error, "__notes__", [])])
