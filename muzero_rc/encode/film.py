"""A video file in, another one out: decode, passes, all other tracks, check, rename.

Everything is written into a hidden folder beside the output and renamed at the end, so the
output is either complete and checked, or not there. A film of more than
`encode.cut.WHOLE_FRAMES` frames is encoded in chunks (`encode.chunked`), which are kept until then.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from muzero_rc import video
from muzero_rc.encode.aims import Aim
from muzero_rc.encode.file_encode import FileEncode
from muzero_rc.encode.progress import PHASES, Progress
from muzero_rc.encode.report import EncodeReport, SearchSummary, TimeSummary
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.errors import OutputError
from muzero_rc.leaky_bucket import Bucket
from muzero_rc.types import Policy

__all__ = [
    "PHASES",
    "EncodeReport",
    "Progress",
    "SearchSummary",
    "TimeSummary",
    "check_output",
    "encode",
]


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
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"the output cannot lie in {folder}, which is a file; write elsewhere")
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
    audio_kbps: int | None = None,
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
      audio_kbps: bitrate of each track that becomes Opus; by its channels if not given.
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
    out = Path(out)
    return FileEncode(
        source, out, check_output(source, out), settings, policy,
        height=height, max_frames=max_frames, verify=verify, workers=workers,
        policy_key=policy_key, resume=resume, audio=audio, audio_kbps=audio_kbps,
        aim=aim, key_times=key_times, bucket=bucket, picture=picture,
        on_progress=on_progress, on_loss=on_loss,
    ).run()  # fmt: skip
