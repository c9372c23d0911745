"""One look at a whole video: where its scenes begin, how much moves, what it looks like.

Everything counts frames as `muzero_rc.video.open_decoder` gives them, so that what is
found here can be cut out there, to the frame.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from muzero_rc import video
from muzero_rc.errors import InputError, ToolMissingError

__all__ = ["HASH_BITS", "Look", "Part", "cut_parts", "look_at"]

HASH_BITS = 256
"""Bits of a perceptual hash: 64, as is usual, do not tell moments of a still camera apart."""

_LINES = 144  # of the small picture that is looked at
_HASH_SIDE = 16
_SHORTEST_SCENE = 5  # frames: a cut sooner after the last one is a flash


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a scene that may become a clip.

    Attributes:
      scene: its scene's number in the video, from 0.
      start: first frame.
      end: frame after the last.
    """

    scene: int
    start: int
    end: int

    @property
    def frames(self) -> int:
        """Length in frames."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen of a video.

    Attributes:
      frames: number of frames.
      fps: frames per second, as a fraction.
      cuts: frames at which a scene begins, but for the first.
      activity: [T] mean absolute luma difference to the frame before, 8-bit levels.
      hashes: [T] perceptual hashes, hexadecimal.
    """

    frames: int
    fps: str
    cuts: tuple[int, ...]
    activity: tuple[float, ...]
    hashes: tuple[str, ...]

    def activity_of(self, part: Part) -> float:
        """Mean over the part's frames but its first, whose predecessor is elsewhere."""
        inside = self.activity[part.start + 1 : part.end]
        return float(np.mean(inside)) if inside else 0.0

    def hashes_of(self, part: Part) -> list[str]:
        """Hashes of the part's frames."""
        return list(self.hashes[part.start : part.end])

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Look:
        """The reverse of `as_dict`."""
        return cls(
            frames=int(values["frames"]),
            fps=str(values["fps"]),
            cuts=tuple(map(int, values["cuts"])),
            activity=tuple(map(float, values["activity"])),
            hashes=tuple(map(str, values["hashes"])),
        )


def look_at(
    path: Path,
    *,
    max_fps: Fraction | None = None,
    on_frame: Callable[[], None] = lambda: None,
) -> Look:
    """Decodes a video once, small, and finds its scenes with PySceneDetect.

    The detector is the adaptive one: it compares a frame's change with that of its
    neighbours, so that a fast pan is no cut.

    Args:
      path: any file that ffmpeg reads.
      max_fps: as of `open_decoder`.
      on_frame: called before each frame; what it raises ends the look.

    Raises:
      InputError: the file cannot be read, or is damaged.
      ToolMissingError: ffmpeg or the package's extra `corpus` is not installed.
    """
    try:
        import cv2
        import imagehash
        from PIL import Image
        from scenedetect import AdaptiveDetector, FrameTimecode
    except ImportError as error:
        raise ToolMissingError(
            f"building a corpus needs {error.name}; install muzero-rc[corpus] or run make setup"
        ) from None
    cuts: list[int] = []
    activity: list[float] = []
    hashes: list[str] = []
    with (
        _saying_the_same(path),
        video.open_decoder(path, height=_LINES, max_fps=max_fps) as decoder,
    ):
        width, height = decoder.width, decoder.height
        detector = AdaptiveDetector(min_scene_len=_SHORTEST_SCENE)
        before: npt.NDArray[np.uint8] | None = None
        number = -1
        for number, data in enumerate(decoder.frames()):
            on_frame()
            planes = np.frombuffer(data, np.uint8).reshape(height * 3 // 2, width)
            luma = planes[:height]
            change = 0.0 if before is None else float(np.mean(cv2.absdiff(luma, before)))
            activity.append(round(change, 4))
            before = luma
            hashes.append(str(imagehash.phash(Image.fromarray(luma), hash_size=_HASH_SIDE)))
            picture = cv2.cvtColor(planes, cv2.COLOR_YUV2BGR_I420)
            now = FrameTimecode(number, decoder.fps)
            cuts += [cut.frame_num for cut in detector.process_frame(now, picture)]
        fps = decoder.fps
    if number < 0:
        raise InputError(f"{path} has no frame that can be decoded")
    return Look(number + 1, str(fps), tuple(cuts), tuple(activity), tuple(hashes))


@contextlib.contextmanager
def _saying_the_same(path: Path) -> Iterator[None]:
    """What decoder threads say of a damaged file depends on which comes first; a manifest not."""
    try:
        yield
    except InputError:
        with video.open_decoder(path, height=_LINES, threads=1) as decoder:
            for _ in decoder.frames():
                pass
        raise


def cut_parts(
    frames: int, cuts: Sequence[int], min_frames: int, max_frames: int
) -> tuple[list[Part], list[Part]]:
    """Divides scenes into parts of the greatest length, and tells which scenes are too short.

    What is left of a scene after its last whole part is a part too if it is long enough,
    and dropped if not.

    Returns:
      The parts, and the scenes with less than `min_frames`.
    """
    edges = [0, *sorted({cut for cut in cuts if 0 < cut < frames}), frames]
    parts: list[Part] = []
    short: list[Part] = []
    for scene, (start, end) in enumerate(zip(edges, edges[1:], strict=False)):
        if end - start < min_frames:
            short.append(Part(scene, start, end))
            continue
        for first in range(start, end, max_frames):
            part = Part(scene, first, min(first + max_frames, end))
            if part.frames >= min_frames:
                parts.append(part)
    return parts, short
