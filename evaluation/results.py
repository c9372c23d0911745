"""What an evaluation yields, and its files: `results.json` and `results.csv`."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from muzero_rc.errors import InputError
from muzero_rc.output_files import write_text
from muzero_rc.types import psnr_db

__all__ = [
    "FORMAT",
    "FRAME_METRICS",
    "MEASURED_METRICS",
    "METRICS",
    "BdEntry",
    "EncodeRecord",
    "Failure",
    "Results",
    "TargetEntry",
    "metrics_of",
]

FORMAT = 1
"""Version of the files; files of another version are refused."""

METRICS = ("psnr_avg", "psnr_overall", "psnr_y")
"""Metrics that every encode has, named as the fields of `EncodeRecord`."""

FRAME_METRICS = ("psnr_p5", "psnr_last_second")
"""Qualities of a part of the frames that every encode has, too; a mean can hide them."""

MEASURED_METRICS = ("ssim", "ms_ssim", "vmaf", "vmaf_neg")
"""Metrics that an encode has if they were asked for, named as in `EncodeRecord.quality`."""

# They saturate at 1: their BD-rates are taken over -10 log10(1 - value).
_SATURATING = frozenset({"ssim", "ms_ssim"})


class _Record:
    """Reading a flat dataclass back from JSON, with every field's type checked."""

    @classmethod
    def from_dict(cls, data: Any, where: str) -> Self:
        """Inverse of `dataclasses.asdict`; fields with a default may be missing.

        Raises:
          InputError: another field is missing, or one has another type.
        """
        if not isinstance(data, Mapping):
            raise InputError(f"{where} is damaged: an entry is not an object; run evaluate again")
        values = {}
        for entry in fields(cls):  # type: ignore[arg-type]
            kind = str(entry.type)
            optional = entry.default is not MISSING or entry.default_factory is not MISSING
            if optional and entry.name not in data:
                continue  # a file of before there was this field
            value = data.get(entry.name)
            if entry.name not in data or not _FITS[kind](value):
                raise InputError(
                    f"{where} is damaged: {entry.name!r} should be {kind}, not {value!r:.60};"
                    " run evaluate again"
                )
            values[entry.name] = value
        return cls(**values)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return _is_int(value) or (isinstance(value, float) and math.isfinite(value))


# By annotation, as written in the dataclasses below.
_FITS: dict[str, Callable[[Any], bool]] = {
    "str": lambda v: isinstance(v, str),
    "bool": lambda v: isinstance(v, bool),
    "int": _is_int,
    "float": _is_number,
    "float | None": lambda v: v is None or _is_number(v),
    "list[int]": lambda v: isinstance(v, list) and all(_is_int(x) for x in v),
    "dict[str, Any]": lambda v: isinstance(v, dict),
    "dict[str, Any] | None": lambda v: v is None or isinstance(v, dict),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeRecord(_Record):
    """One encode.

    Attributes:
      clip: name of the clip in this evaluation.
      method: name of the method in this evaluation.
      target_kbps: bitrate asked for.
      actual_kbps: 8 * `bytes` / duration / 1000.
      bytes: size of the stream without container.
      psnr_avg: mean over shown frames of the PSNR over Y+U+V, dB.
      psnr_overall: PSNR of the summed squared error over Y+U+V, dB.
      psnr_y: mean over shown frames of luma PSNR, dB.
      psnr_worst: lowest frame PSNR over Y+U+V, dB.
      psnr_p5: 5th percentile of the frame PSNR, dB.
      psnr_deviation: standard deviation of the frame PSNR, dB.
      psnr_last_second: mean frame PSNR of the last second, dB.
      seconds: second pass, decisions included, wall time.
      decision_seconds: what of it the policy took, observation included.
      preparation_seconds: what the method took before the second pass (bisection of a
        constant quality, for example).
      frames: shown frames.
      coded_frames: coded frames.
      qindex: qindex of each coded frame, in coding order.
      sha256: of the stream as an IVF file.
      clip_sha256: of the clip's frames, size and frame rate.
      settings: every encoder setting, as the method used it.
      key: hash of all that determines the encode.
      psnr_u: mean over shown frames of the PSNR of U, dB; None in older files.
      psnr_v: likewise of V.
      quality: by metric of `MEASURED_METRICS` that was asked for, its `mean`, `worst`, `p5`,
        `deviation` and `last_second` over shown frames (`evaluation.quality.Spread`), in
        the metric's own unit.
      buffer: `needed_s`, and `sizes` by seconds of buffer (`evaluation.buffer`); empty in
        older files.
      trace: every coded frame, as `FrameTrace.as_dict` gives it; None in older files.
      decisions: on every coded frame, as `columns_of_log` gives them: what `replay` encodes
        by; None in older files.
    """

    clip: str
    method: str
    target_kbps: int
    actual_kbps: float
    bytes: int
    psnr_avg: float
    psnr_overall: float
    psnr_y: float
    psnr_worst: float
    psnr_p5: float
    psnr_deviation: float
    psnr_last_second: float
    seconds: float
    decision_seconds: float
    preparation_seconds: float
    frames: int
    coded_frames: int
    qindex: list[int]
    sha256: str
    clip_sha256: str
    settings: dict[str, Any]
    key: str
    psnr_u: float | None = None
    psnr_v: float | None = None
    quality: dict[str, Any] = field(default_factory=dict)
    buffer: dict[str, Any] = field(default_factory=dict)
    trace: dict[str, Any] | None = None
    decisions: dict[str, Any] | None = None

    @property
    def asked_kbps(self) -> float:
        """The target that the encoder was given: another than `target_kbps` in A/A runs."""
        return float(self.settings.get("target_kbps", self.target_kbps))

    def level(self, metric: str) -> float | None:
        """Quality on the scale that BD-rates of a metric are taken over; None if not measured.

        PSNR in dB and VMAF in points as they are. SSIM and MS-SSIM as -10 log10(1 - mean)
        dB, at most `MAX_PSNR_DB` (draft-ietf-netvc-testing, section 4.2): near 1 their own
        scale leaves nothing to integrate over.
        """
        if metric in METRICS or metric in FRAME_METRICS:
            return float(getattr(self, metric))
        measured = self.quality.get(metric)
        if measured is None:
            return None
        mean = float(measured["mean"])
        return psnr_db(1.0 - mean, 1.0, peak=1.0) if metric in _SATURATING else mean


def metrics_of(encodes: Iterable[EncodeRecord]) -> tuple[str, ...]:
    """`METRICS`, and the measured ones that any of the encodes has."""
    measured = {name for e in encodes for name in e.quality}
    return METRICS + tuple(name for name in MEASURED_METRICS if name in measured)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetEntry(_Record):
    """A target of a clip.

    Attributes:
      clip: name of the clip.
      target_kbps: the target.
      vbr_kbps: what two-pass VBR gave, None if that encode failed.
      reachable: False if VBR missed the target by more than 10 %.
    """

    clip: str
    target_kbps: int
    vbr_kbps: float | None
    reachable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BdEntry(_Record):
    """BD-rate of a method on a clip against two-pass VBR.

    Attributes:
      clip: name of the clip.
      method: name of the method.
      metric: one of `METRICS` or `MEASURED_METRICS`.
      percent: BD-rate; negative is better; None if undefined.
      overlap: common quality interval over the spanned one, 0..1.
      db: mean difference in quality at equal rate, on the metric's scale
        (`EncodeRecord.level`): for PSNR the BD-PSNR; positive is better; None if undefined.
      reason: why `percent` is None, empty otherwise.
      dropped: dominated and repeated points left out.
    """

    clip: str
    method: str
    metric: str
    percent: float | None
    overlap: float
    db: float | None
    reason: str
    dropped: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure(_Record):
    """An encode, or a whole clip, that failed.

    Attributes:
      clip: name of the clip.
      method: name of the method, empty if the clip itself failed.
      target_kbps: the target, 0 if the clip itself failed.
      error: what happened, one line.
    """

    clip: str
    method: str
    target_kbps: int
    error: str


@dataclass(frozen=True, slots=True)
class Results:
    """A whole evaluation.

    Attributes:
      settings: everything that was chosen: encoder settings, clips, methods, versions.
      encodes: every encode, ordered by clip, target, method.
      targets: every (clip, target).
      failures: every encode that failed.
      bd_rate: per clip, method and metric.
      summary: by method: by metric the statistics of its BD-rate; `landing`,
        `landing_reachable`, `at_target`, `buffer`, `time`.
    """

    settings: dict[str, Any]
    encodes: list[EncodeRecord]
    targets: list[TargetEntry] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    bd_rate: list[BdEntry] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, in the layout of `results.json`."""
        return {"format": FORMAT, **asdict(self)}

    def save(self, folder: Path) -> None:
        """Writes `results.json` and `results.csv`, each whole or not at all.

        Raises:
          OutputError: the folder cannot be written.
        """
        text = _lists_on_one_line(json.dumps(self.as_dict(), indent=1, allow_nan=False))
        write_text(folder / "results.json", text + "\n")
        write_text(folder / "results.csv", self.csv())

    def csv(self) -> str:
        """One line for each encode; the lists and settings stay in the JSON.

        A measured metric has a column for each of its aggregates, the first of them the mean
        under the metric's own name.
        """
        reachable = {(t.clip, t.target_kbps): t.reachable for t in self.targets}
        nested = ("qindex", "settings", "quality", "buffer", "trace")
        columns = [f.name for f in fields(EncodeRecord) if f.name not in nested]
        measured = [m for m in metrics_of(self.encodes) if m not in METRICS]
        parts = ("mean", "worst", "p5", "deviation", "last_second")
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        names = [m if part == "mean" else f"{m}_{part}" for m in measured for part in parts]
        writer.writerow([*columns, *names, "buffer_needed_s", "reachable"])
        for record in self.encodes:
            values = [record.quality.get(m, {}).get(part, "") for m in measured for part in parts]
            pair = (record.clip, record.target_kbps)
            writer.writerow(
                [
                    *(getattr(record, c) for c in columns), *values,
                    record.buffer.get("needed_s", ""), reachable.get(pair, ""),
                ]
            )  # fmt: skip
        return text.getvalue()

    def sources(self) -> dict[str, str]:
        """Source of each clip; in files that do not tell, every clip is its own."""
        told = {}
        for clip in self.settings.get("clips", []):
            if isinstance(clip, Mapping) and isinstance(clip.get("name"), str):
                told[clip["name"]] = str(clip.get("source") or clip["name"])
        return {e.clip: told.get(e.clip, e.clip) for e in self.encodes}

    @classmethod
    def load(cls, path: Path) -> Results:
        """Reads `results.json` back.

        Args:
          path: the file, or the folder it is in.

        Raises:
          InputError: it is missing, damaged or of another format.
        """
        if path.is_dir():
            path = path / "results.json"
        data = read_json(path)
        version = data.get("format")
        if version != FORMAT:
            raise InputError(
                f"{path} has format {version!r}, this version reads {FORMAT}; run evaluate again"
            )
        where = str(path)
        lists: dict[str, type[_Record]] = {
            "encodes": EncodeRecord,
            "targets": TargetEntry,
            "failures": Failure,
            "bd_rate": BdEntry,
        }
        parts: dict[str, Any] = {}
        for name, kind in lists.items():
            entries = data.get(name)
            if not isinstance(entries, list):
                raise InputError(f"{where} is damaged: no list {name!r}; run evaluate again")
            parts[name] = [kind.from_dict(entry, where) for entry in entries]
        for name in ("settings", "summary"):
            parts[name] = data.get(name)
            if not isinstance(parts[name], dict):
                raise InputError(f"{where} is damaged: no object {name!r}; run evaluate again")
        return cls(**parts)


_NUMBER_LIST = re.compile(r"\[\n\s+([-+.\deE]+(?:,\n\s+[-+.\deE]+)*)\n\s+\]")


def _lists_on_one_line(text: str) -> str:
    """JSON with its lists of numbers unfolded: thousands of frames, a line each, say nothing.

    Only line breaks between numbers go; within a JSON string there is none.
    """
    return _NUMBER_LIST.sub(lambda found: f"[{''.join(found[1].split())}]", text)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
      InputError: it cannot be read or is not a JSON object.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON or damaged ({error}); run evaluate again") from error
    if not isinstance(data, dict):
        raise InputError(f"{path} does not hold a JSON object; run evaluate again")
    return data
