"""From the encoded stream to the checked file; what was encoded is never thrown away."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from muzero_rc import video
from muzero_rc.encode.workplace import Workplace, keep_beside
from muzero_rc.errors import EncoderError, InputError, OutputError
from muzero_rc.video.ivf import refine_clock

__all__ = ["TooLargeError", "finish", "kept_stream"]


class TooLargeError(OutputError):
    """The file is larger than it may be.

    Attributes:
      file_bytes: of the file.
      video_bytes: of the stream in it, its container included.
    """

    def __init__(self, file_bytes: int, video_bytes: int) -> None:
        super().__init__(f"the file would have {file_bytes} bytes")
        self.file_bytes = file_bytes
        self.video_bytes = video_bytes


def finish(
    place: Workplace,
    info: video.VideoInfo,
    plan: video.MuxPlan,
    out: Path,
    frames: int,
    *,
    duration_s: float | None,
    decode: bool,
    workers: int = 1,
    on_check: Callable[[int], None],
    pictures: Sequence[int] | None = None,
    max_bytes: int | None = None,
) -> list[str]:
    """Makes the file of the encoded stream, and checks it as a player reads it.

    Args:
      place: where the stream is, and the file goes.
      info: the source.
      plan: what of it goes into the file.
      out: the name that the file will have.
      frames: shown frames of the stream.
      duration_s: of what was encoded, if it is not all.
      decode: decode the file, too, and do not only count its packets.
      workers: parts of the file that are decoded at a time.
      on_check: called with the number of frames checked.
      pictures: checksums of the shown frames, that those of decoded ones are compared with.
      max_bytes: of the file.

    Returns:
      What was lost on the way, a line each.

    Raises:
      InputError: the source is damaged; the message names the stream that is kept. Or it was
        changed; nothing is kept then.
      OutputError: no space, or the file is not what was promised; likewise.
      TooLargeError: it is larger than `max_bytes`; nothing is kept.
    """
    try:
        complaints = video.mux(place.ivf, info, place.file, plan, duration_s=duration_s)
        if plan.picture is not None:
            complaints = plan.picture.errors(complaints)
        lines = _complaints(complaints)
        size = place.file.stat().st_size
        if max_bytes is not None and size > max_bytes:
            raise TooLargeError(size, place.ivf.stat().st_size)
        promise = video.promise_of(
            info, plan, frames, cut=duration_s is not None, pictures=pictures
        )
        lines += _missing(info, plan, promise, frames)
        on_check(0)
        lacking = video.verify(
            place.file, promise,
            decode=decode, workers=workers if plan.container.index else 1, on_progress=on_check,
        )  # fmt: skip
        lines += [
            f"a track of kind {kind} that has nothing in it is left out: "
            f"{plan.container.name} keeps no empty ones"
            for kind in lacking
        ]
    except TooLargeError:
        raise
    except (InputError, OutputError) as error:
        info.check_unchanged()  # else the stream may be of two files, and is not worth keeping
        kept = kept_stream(place, info, plan, out, duration_s=duration_s)
        if not kept:
            raise
        raise type(error)(f"{error}{kept}") from None
    return lines


def kept_stream(
    place: Workplace,
    source: video.VideoInfo,
    plan: video.MuxPlan,
    out: Path,
    *,
    duration_s: float | None,
) -> str:
    """Keeps the stream beside the output, and says where, and how to go on; empty if it can't.

    So it does with subtitles whose text was made another codec.

    Args:
      place: where the stream is.
      source: the input.
      plan: what was to go into the file.
      out: the name that the file would have had.
      duration_s: of what was encoded, if it is not all.
    """
    # The file that could not be made may have taken the space that the stream needs.
    place.file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        if not place.ivf.stat().st_size:
            return ""  # nothing was encoded for good yet
        times = None if plan.picture is None else plan.picture.times_from_zero
        if times is not None:  # its own are those of the mean rate
            with contextlib.suppress(EncoderError):
                video.set_times(place.ivf, times)
        elif plan.picture is not None and plan.picture.first_s:
            refine_clock(place.ivf)  # the command shifts it, and ffmpeg rounds that to its clock
        kept = keep_beside(place.ivf, out)
        if not plan.container.tracks:
            return f"; the encoded video is kept as {kept}"
        texts: dict[int, Path] = {}
        for text in plan.texts:
            if text.cues:
                with contextlib.suppress(OSError):  # a command without them is better than none
                    texts[text.track.index] = keep_beside(text.path, out)
        names = "".join(f" and {path}" for path in texts.values())
        words = video.mux_by_hand(kept, texts, source, plan, out, duration_s=duration_s)
        return f"; the encoded video is kept as {kept}{names}, go on with: {shlex.join(words)}"
    return ""


def _complaints(errors: list[str]) -> list[str]:
    if not errors:
        return []
    count = f" and {len(errors) - 1} more" if len(errors) > 1 else ""
    return [f"something in the source is damaged: ffmpeg says {errors[0]!r}{count}"]


def _missing(
    info: video.VideoInfo, plan: video.MuxPlan, promise: video.Promise, frames: int
) -> list[str]:
    packets, picture = promise.source_frames, plan.picture
    if picture is not None and (picture.filters is not None or picture.info.fps < info.fps):
        return []  # fewer were asked for
    # A VP8 stream has packets that are not shown, an interlaced one may have packets of fields.
    countable = info.codec != "vp8" and not info.interlaced and info.varying is None
    if packets is None or not countable or frames >= packets - 1:
        return []
    return [f"the source has {packets} frames, and {frames} of them could be decoded"]
