"""What an episode of self-play is: a part of a clip at one target, with its study's scores."""

from __future__ import annotations

from pathlib import Path

from muzero_rc.env.codec.backend import LibvpxBackend
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import FirstPass, first_pass
from muzero_rc.env.passes.stepper import Stepper
from muzero_rc.errors import EncoderError
from muzero_rc.training.stages.collect import load_part
from muzero_rc.training.study import Encode, Study
from muzero_rc.types import EpisodeScore

__all__ = ["Task", "TaskClips"]

_HELD_BYTES = 2**30  # decoded parts kept between visits


class Task:
    """A clip's part, its target, and libvpx's own scores, from the study that chose them.

    Attributes:
      number: of the task, among all of a run.
      settings: of the encoder.
      probe: that the study ran for all encodes of the task; None with two passes.
    """

    def __init__(self, number: int, study: Study, path: Path) -> None:
        """Takes the study and the clip's file."""
        self.number = number
        self.settings = study.settings
        self._path = path
        self._part = study.part
        self._shape = study.shape
        self._shown = len(study.stats)
        self.probe = study.probe
        self._vbr = {1.0: _slim(study.encode("vbr")), 1.25: _slim(study.encode("vbr_high"))}
        self._base = _slim(study.encode("base"))

    @property
    def nbytes(self) -> int:
        """About the memory that its frames take."""
        width, height = self._shape[:2]
        return width * height * self._part[2] * 3 // 2

    def load(self) -> Clip:
        """Decodes the frames."""
        return load_part(self._path, self._part)

    def vbr_score(self, clip: str, rate: float = 1.0) -> EpisodeScore:
        """libvpx's own score, measured when the study was made.

        Args:
          clip: identity of the decoded part.
          rate: multiple of the target: 1 or 1.25, whichever is nearer.
        """
        nearest = min(self._vbr, key=lambda known: abs(known - rate))
        return self._score(clip, self._vbr[nearest], nearest)

    def base_score(self, clip: str) -> EpisodeScore:
        """The score of the policy that the study was made around: what to do better than.

        Args:
          clip: identity of the decoded part.
        """
        return self._score(clip, self._base)

    def _score(
        self, clip: str, known: tuple[float, float, float, float, int], rate: float = 1.0
    ) -> EpisodeScore:
        psnr_avg, psnr_overall, psnr_y, kbps, coded = known
        seconds = self._shown * self._shape[3] / self._shape[2]
        return EpisodeScore(
            clip=clip,
            target_kbps=self.settings.target_kbps * rate,
            actual_kbps=kbps,
            bits=round(kbps * 1000 * seconds),
            psnr_avg=psnr_avg,
            psnr_overall=psnr_overall,
            psnr_y=psnr_y,
            shown_frames=self._shown,
            coded_frames=coded,
        )


def _slim(encode: Encode) -> tuple[float, float, float, float, int]:
    """Of an encode what a score needs: its log of frames stays in the study."""
    return encode.psnr_avg, encode.psnr_overall, encode.psnr_y, encode.kbps, encode.coded_frames


class TaskClips:
    """Decoded parts with their first passes, the longest unused dropped first."""

    def __init__(self) -> None:
        """Starts empty."""
        self._held: dict[int, tuple[Clip, FirstPass, int]] = {}

    def open(self, task: Task) -> Stepper:
        """Starts an encode of a task, decoding its part if it is not held.

        Raises:
          EncoderError: the file is not what it was when the study was made.
        """
        clip, stats = self.get(task)
        return Stepper.open(LibvpxBackend(), clip, task.settings, stats, probe=task.probe)

    def get(self, task: Task) -> tuple[Clip, FirstPass]:
        """A task's part and its first pass."""
        if task.number in self._held:
            self._held[task.number] = self._held.pop(task.number)  # used now: goes last
        else:
            clip = task.load()
            wanted = task.vbr_score(clip.sha256).shown_frames
            if clip.num_frames != wanted:
                raise EncoderError(
                    f"{clip.name} has {clip.num_frames} frames, its study had {wanted}: the "
                    "corpus has changed"
                )
            stats = first_pass(clip, task.settings)
            self._held[task.number] = (clip, stats, task.nbytes)
            while sum(size for _, _, size in self._held.values()) > _HELD_BYTES:
                if len(self._held) == 1:
                    break
                del self._held[next(iter(self._held))]
        clip, stats, _ = self._held[task.number]
        return clip, stats
