"""The pictures of a finished file as a player decodes them: whole, or in parts at a time.

VP9 adapts its entropy coding from frame to frame, so one decoder uses little more than one core.
With a key frame it forgets all before, so decoders can begin at several of them. Whether they
have shown what one decoder shows is proven each time, see `shows_in_parts`.
"""

from __future__ import annotations

import contextlib
import os
import selectors
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from muzero_rc.errors import InputError, OutputError
from muzero_rc.video.tools import Child, ffmpeg_command, ffprobe, file_url, literal

__all__ = ["Part", "Shown", "decode_whole", "parts_at_keys", "shows_in_parts"]

LEAST_FRAMES = 300
"""Of a part. By hand: at 854x480 their decode takes several times as long as ffmpeg's start."""

# Times are told to the microsecond, formats round them to ticks of up to a millisecond, and
# ffmpeg takes the last key frame before the time that it is told.
_AFTER_KEY_S = 0.0005
_READ_BYTES = 1 << 16
_CHECKSUMS = ("-fps_mode", "passthrough", "-flush_packets", "1", "-f", "framecrc")


@dataclass(frozen=True, slots=True)
class Part:
    """Pictures from a key frame up to another one, or to the end of the file.

    Attributes:
      first: number of its first picture.
      frames: how many there are.
      key_s: time of its key frame in the file, seconds; None where the file begins.
    """

    first: int
    frames: int
    key_s: float | None = None


def parts_at_keys(keys: Sequence[tuple[int, float]], frames: int, most: int) -> list[Part]:
    """Cuts a video at key frames into parts of about as many frames each.

    Args:
      keys: number and time in seconds of each key frame, ascending.
      frames: of the video.
      most: parts there may be.

    Returns:
      The parts in order; one alone where the video is short, or has no key frame to cut at.
    """
    most = min(most, frames // LEAST_FRAMES)
    starts: list[tuple[int, float | None]] = [(0, None)]
    for left in range(most, 1, -1):
        before = starts[-1][0]
        least, last = before + LEAST_FRAMES, frames - LEAST_FRAMES
        wanted = before + (frames - before) / left
        fit = [key for key in keys if least <= key[0] <= last]
        if not fit:
            break
        starts.append(min((abs(first - wanted), first, key_s) for first, key_s in fit)[1:])
    ends = [first for first, _ in starts[1:]] + [frames]
    return [
        Part(first, end - first, key_s) for (first, key_s), end in zip(starts, ends, strict=True)
    ]


class Shown:
    """What a decoder shows of a file.

    Attributes:
      checksums: of each picture.
      times: of each picture, in ticks.
      tick: seconds.
    """

    def __init__(self) -> None:
        self.checksums = array("I")
        self.times = array("q")
        self.tick = Fraction(1)

    def add(self, line: str) -> bool:
        """Takes a line of ffmpeg's muxer framecrc; whether it told of a picture."""
        if line.startswith("#tb 0:"):
            self.tick = Fraction(line.partition(":")[2].strip())
        if line.startswith("#") or not line:
            return False
        # Number of the stream, time to decode, to show, duration, bytes, checksum.
        _, _, time, _, _, checksum, *_ = line.split(",")
        self.times.append(int(time))
        self.checksums.append(int(checksum, 16))
        return True

    def clock(self, picture: int) -> str:
        """Time of a picture, h:mm:ss with milliseconds, hours only where there are any."""
        milliseconds = round(self.times[picture] * self.tick * 1000)
        seconds, milliseconds = divmod(milliseconds, 1000)
        minutes, seconds = divmod(seconds, 60)
        hours, minutes = divmod(minutes, 60)
        start = f"{hours}:{minutes:02}" if hours else f"{minutes}"
        return f"{start}:{seconds:02}.{milliseconds:03}"


def decode_whole(path: Path, on_progress: Callable[[int], None] | None = None) -> Shown:
    """Decodes all of a file, from its start to its end, in one process.

    Args:
      path: the file.
      on_progress: called with the number of frames decoded so far.

    Raises:
      OutputError: it does not decode without an error.
      ToolMissingError: ffmpeg is not installed.
    """
    # Pictures stay as they are coded, whatever the file says of turning them.
    command = [*_reading(path), "-map", "0:v:0", *_CHECKSUMS, "pipe:1", *_beside(path)]
    shown = Shown()

    def read(line: str) -> None:
        if shown.add(line) and on_progress is not None:
            on_progress(len(shown.checksums))

    with Child(command) as child:
        status = child.run(read)
        detail = child.error_line()
    if status != 0:
        raise OutputError(f"the encoded video does not decode: {detail or f'status {status}'}")
    return shown


def shows_in_parts(
    path: Path,
    parts: Sequence[Part],
    pictures: Sequence[int],
    on_progress: Callable[[int], None] | None = None,
) -> bool:
    """Whether parts of a file, decoded at a time, prove that the whole of it is what was promised.

    Each part goes on to the first picture of the next one. So there is proof that no picture lies
    between the two. All other streams are decoded beside them by a process of its own, which
    reads the packets of the video, too.

    Args:
      path: the file.
      parts: of its video, all of it in order.
      pictures: the checksum of each picture that it must show.
      on_progress: called with the number of frames decoded so far, of all parts together.

    Returns:
      False if anything is not as promised, or could not be decoded. That may be for want of an
      index in the file, so only `decode_whole` tells what is wrong.

    Raises:
      OutputError: the file cannot be read.
      ToolMissingError: ffmpeg is not installed.
    """
    beside = [*_reading(path), "-map", "0:v:0", "-c:v", "copy", "-f", "null", "-", *_beside(path)]
    readings = [_Reading(path, part, pictures) for part in parts]
    done = 0
    with contextlib.ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        try:
            # All of them in this thread: a child ends with the thread that has started it.
            for reading in [None, *readings]:
                child = stack.enter_context(Child(beside if reading is None else reading.command))
                selector.register(child.stdout, selectors.EVENT_READ, (child, reading))
        except OSError:  # so many processes cannot be started
            return False
        while selector.get_map():
            for key, _ in selector.select():
                child, reading = key.data
                data = os.read(key.fd, _READ_BYTES)
                if data:
                    if reading is not None and not reading.take(data):
                        return False
                    continue
                selector.unregister(key.fileobj)
                if child.wait() or child.errors():
                    return False
                if reading is not None and not reading.complete:
                    return False
            seen = sum(reading.frames for reading in readings)
            if seen > done and on_progress is not None:
                on_progress(seen)
            done = seen
    return all(one.meets(other) for one, other in zip(readings[:-1], readings[1:], strict=True))


class _Reading:
    """A part that is decoded, and what it has shown so far.

    Attributes:
      command: decodes it.
    """

    def __init__(self, path: Path, part: Part, pictures: Sequence[int]) -> None:
        self._part, self._pictures = part, pictures
        end = part.first + part.frames
        self._end = min(end + 1, len(pictures))  # with the first picture of the next part
        self._shown = Shown()
        self._rest = b""
        start: tuple[str, ...] = ()
        if part.key_s is not None:
            start = ("-seek_timestamp", "1", "-noaccurate_seek")
            start += ("-ss", f"{part.key_s + _AFTER_KEY_S:.6f}")
        # All times are those of the file, so that parts can be compared.
        self.command = [*_reading(path, "-copyts", "-threads", "1", *start), "-map", "0:v:0"]
        if end < len(pictures):
            self.command += ["-frames:v", str(part.frames + 1)]
        self.command += [*_CHECKSUMS, "pipe:1"]

    @property
    def frames(self) -> int:
        """Pictures of the part that were shown so far."""
        return min(len(self._shown.checksums), self._part.frames)

    @property
    def complete(self) -> bool:
        """Whether all were shown, and the first one of the next part."""
        return not self._rest and self._part.first + len(self._shown.checksums) == self._end

    def take(self, data: bytes) -> bool:
        """Takes what the decoder has written; whether all pictures are those that must be."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if self._shown.add(line.decode("utf-8", "replace").strip()):
                number = self._part.first + len(self._shown.checksums) - 1
                if number >= self._end or self._shown.checksums[-1] != self._pictures[number]:
                    return False
        return True

    def meets(self, other: _Reading) -> bool:
        """Whether the picture after the last one is the first one of the next part.

        Pictures that stand still look alike, so their times must agree, too.
        """
        mine, others = self._shown, other._shown
        last, after = mine.times[-2:]
        return mine.tick == others.tick and last < after == others.times[0]


def _reading(path: Path, *options: str) -> list[str]:
    """Start of a command that takes no damage."""
    command = [*ffmpeg_command("-xerror"), "-err_detect", "explode", "-noautorotate"]
    return [*command, *options, "-i", literal(file_url(path))]


def _beside(path: Path) -> list[str]:
    """The rest of a command that decodes all that a player reads beside the first video.

    A player reads all streams, and some damage ends the file only for those who do. Each has an
    output of its own: in one, pictures wait as raw frames for sound that starts late, and ffmpeg
    gives up when sound of an hour has waited.
    """
    words: list[str] = []
    for number in _streams_beside(path):
        words += ["-map", f"0:{number}", "-fps_mode", "passthrough", "-c:s", "copy"]
        words += ["-f", "null", "-"]
    return words


def _streams_beside(path: Path) -> list[int]:
    """Indexes of the streams that a player reads beside the first video.

    Not those of covers: a damaged one is as it was in the source, and ends nothing else.
    """
    entries = "stream=index,codec_type:stream_disposition=attached_pic"
    try:
        streams = ffprobe(path, "-show_entries", entries).get("streams", [])
    except InputError as error:
        raise OutputError(f"the encoded video does not decode: {error}") from None
    kinds = {
        int(s["index"]): s.get("codec_type")
        for s in streams
        if not s.get("disposition", {}).get("attached_pic")
    }
    video = next((number for number, kind in kinds.items() if kind == "video"), None)
    played = ("video", "audio", "subtitle")
    return [number for number, kind in kinds.items() if kind in played and number != video]
