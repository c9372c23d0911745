"""What a report holds: results, put together by clip, as plain values for the page."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from muzero_rc.env.control.settings import EncoderSettings, modern_settings
from muzero_rc.errors import InputError
from muzero_rc.evaluation.measure.frame_trace import FrameTrace
from muzero_rc.evaluation.measure.summary import ANCHOR, CONTROL, time_ratio
from muzero_rc.evaluation.media import MediaFolder
from muzero_rc.evaluation.report.headlines import headlines
from muzero_rc.evaluation.report.saving import saving
from muzero_rc.evaluation.report.verdict import (
    OPPONENTS,
    Comparison,
    against,
    find_lead,
    give_verdict,
)
from muzero_rc.evaluation.results import EncodeRecord, Results
from muzero_rc.output_files import as_word

__all__ = ["Contents", "gather", "metric_label"]

_METRIC_LABELS = {
    "psnr_avg": "PSNR avg",
    "psnr_overall": "PSNR overall",
    "psnr_y": "PSNR Y",
    "psnr_u": "PSNR U",
    "psnr_v": "PSNR V",
    "ssim": "SSIM",
    "ms_ssim": "MS-SSIM",
    "vmaf": "VMAF",
    "vmaf_neg": "VMAF NEG",
}
_LONGEST_LABEL = 26  # signs; a longer one would take the room of the picture
_STRUCTURE = ("show_index", "update_type", "shown", "layer")
# SSIM as -10 log10(1 - value), see `EncodeRecord.level`.
_IN_DECIBEL = ("psnr", "ssim", "ms_ssim")


@dataclass(frozen=True, slots=True)
class Contents:
    """A report before it is a page.

    Attributes:
      data: all that the page's script draws from, in plain values; see `gather`.
      files: name in the report's folder, and the file that goes there.
    """

    data: dict[str, Any]
    files: dict[str, Path]


def metric_label(metric: str) -> str:
    """A metric's name for readers."""
    return _METRIC_LABELS.get(metric, metric.replace("_", " ").upper())


def gather(
    results: Results,
    folder: Path,
    *,
    lead: str | None = None,
    video: bool = True,
    lottery: dict[str, Any] | None = None,
) -> Contents:
    """Puts results together by clip.

    `data` has `lead`, `anchor`, `control`, `methods`, `metrics`, `verdict`, `headlines`,
    `comparisons`, `landing`, `time`, `clips` (each with its `bd`, `savings`, `targets`,
    `structures`, `encodes`), `failures`, `settings` and `lottery`.

    Args:
      results: of an evaluation.
      folder: that they were read from; streams and thumbnails lie in it, if kept.
      lead: the method that the report is about, None for the first.
      video: take the streams along.
      lottery: what `muzero-rc lottery` found, None if nothing.

    Raises:
      InputError: there is no such method, or an entry is damaged.
    """
    names = list(results.summary)
    lead = find_lead(names, lead)
    metrics = list(dict.fromkeys(b.metric for b in results.bd_rate))
    if not metrics:
        raise InputError("these results hold no BD-rate; nothing to report")
    pairs = [(m, o) for m in names for o in OPPONENTS if o in names and m not in (o, ANCHOR)]
    comparisons = [against(results, m, o, metric) for metric in metrics for m, o in pairs]
    found = {(c.metric, c.method, c.opponent): c for c in comparisons}
    first = {o: found[metrics[0], lead, o] for o in OPPONENTS if (metrics[0], lead, o) in found}
    landings = {name: results.summary[name].get("landing") for name in names}
    files: dict[str, Path] = {}
    media = MediaFolder(folder)
    specs = _specs(results.settings)
    clips = [
        _clip(results, described, number, comparisons, media, files, specs, metrics, video)
        for number, described in enumerate(_described(results))
    ]
    data = {
        "lead": lead,
        "anchor": ANCHOR,
        "control": CONTROL,
        "methods": [
            {"name": name, "role": _role(name, lead), "label": label}
            for name, label in _labels(_order(names, lead)).items()
        ],
        "metrics": [
            {
                "name": metric,
                "label": metric_label(metric),
                "unit": "dB" if metric.startswith(_IN_DECIBEL) else "",
            }
            for metric in metrics
        ],
        "verdict": give_verdict(lead, first, landings).as_dict(),
        "headlines": [_rounded(h.as_dict()) for h in headlines(results, lead, metrics[0])],
        "comparisons": [_without_clips(c) for c in comparisons],
        "landing": landings,
        "time": {name: _time(results, name) for name in names},
        "clips": clips,
        "failures": [asdict(failure) for failure in results.failures],
        "settings": results.settings,
        "lottery": lottery,
    }
    return Contents(data, files)


def _time(results: Results, name: str) -> dict[str, Any] | None:
    """As stored, but for the ratio: older results left a policy's preparation out of it."""
    stored: dict[str, Any] | None = results.summary[name].get("time")
    mine, anchor = ([e for e in results.encodes if e.method == m] for m in (name, ANCHOR))
    return None if stored is None else {**stored, "of_anchor": time_ratio(mine, anchor)}


def _order(names: list[str], lead: str) -> list[str]:
    """The lead first, then its opponents, then the others: colours go by this order."""
    front = [name for name in (lead, ANCHOR, CONTROL) if name in names]
    return list(dict.fromkeys([*front, *names]))


def _labels(names: list[str]) -> dict[str, str]:
    """Names for pictures: a long one without the names of its settings, if it stays the only one.

    `planned@speed_profile=uniform,passes=2` is `planned@uniform,2` there.
    """
    short = {
        name: re.sub(r"(?<=[@,])[\w-]+=", "", name) if len(name) > _LONGEST_LABEL else name
        for name in names
    }
    every = list(short.values())
    return {name: label if every.count(label) == 1 else name for name, label in short.items()}


def _role(name: str, lead: str) -> str:
    if name == lead:
        return "lead"
    return {ANCHOR: "anchor", CONTROL: "control"}.get(name, "other")


def _described(results: Results) -> list[dict[str, Any]]:
    """The clips as the settings describe them; at least their names."""
    described = results.settings.get("clips")
    known = {
        clip["name"]: clip
        for clip in (described if isinstance(described, list) else [])
        if isinstance(clip, dict) and isinstance(clip.get("name"), str)
    }
    names = list(dict.fromkeys([*known, *(encode.clip for encode in results.encodes)]))
    return [known.get(name, {"name": name}) for name in names]


def _specs(settings: Mapping[str, Any]) -> dict[str, str]:
    methods = settings.get("methods")
    entries = methods if isinstance(methods, list) else []
    return {m["name"]: m["spec"] for m in entries if isinstance(m, dict) and "spec" in m}


def _without_clips(comparison: Comparison) -> dict[str, Any]:
    """They stand with the clips already."""
    data = comparison.as_dict()
    del data["percents"]
    return _rounded(data)


def _clip(
    results: Results,
    described: dict[str, Any],
    number: int,
    comparisons: list[Comparison],
    media: MediaFolder,
    files: dict[str, Path],
    specs: Mapping[str, str],
    metrics: list[str],
    video: bool,
) -> dict[str, Any]:
    name = described["name"]
    thumbnail = media.thumbnail(str(described.get("sha256", "none")))
    if thumbnail.is_file():
        files[f"media/{number + 1}.jpg"] = thumbnail
    encodes: list[dict[str, Any]] = []
    structures: list[dict[str, Any]] = []
    for record in (e for e in results.encodes if e.clip == name):
        stream = media.stream(record.key)
        # Numbered, as names that differ in a path's slash would be one file.
        method = f"{list(results.summary).index(record.method)}-{_file_name(record.method)}"
        place = f"media/{number + 1}-{method}-{record.target_kbps}k.webm"
        if video and stream.is_file():
            files[place] = stream
        command = _command(record, described, results.settings, specs)
        encode = _encode(record, metrics, place if place in files else None, command)
        encodes.append(encode | {"trace": _trace(record, structures)})
    return {
        "name": name,
        "width": described.get("width"),
        "height": described.get("height"),
        "fps": described.get("fps"),
        "frames": described.get("frames"),
        "thumbnail": f"media/{number + 1}.jpg" if f"media/{number + 1}.jpg" in files else None,
        "bd": [
            _rounded(
                {
                    "method": b.method, "metric": b.metric, "percent": b.percent,
                    "overlap": b.overlap, "db": b.db, "reason": b.reason, "dropped": b.dropped,
                }
            )
            for b in results.bd_rate
            if b.clip == name
        ],
        "against_control": [
            _rounded({"method": c.method, "metric": c.metric, "percent": c.percents.get(name)})
            for c in comparisons
            if c.opponent == CONTROL
        ],
        "targets": [
            {"kbps": t.target_kbps, "vbr_kbps": t.vbr_kbps, "reachable": t.reachable}
            for t in results.targets
            if t.clip == name
        ],
        "savings": _savings(results, name, metrics),
        "structures": structures,
        "encodes": encodes,
    }  # fmt: skip


def _savings(results: Results, clip: str, metrics: list[str]) -> list[dict[str, Any]]:
    encodes = [e for e in results.encodes if e.clip == clip]
    anchor = [e for e in encodes if e.method == ANCHOR]
    entries = []
    for method in (m for m in results.summary if m != ANCHOR):
        for metric in metrics:
            found = saving(anchor, [e for e in encodes if e.method == method], metric)
            if found is not None:
                entries.append({"method": method, "metric": metric, **found.as_dict()})
    return entries


def _trace(record: EncodeRecord, structures: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The frames, their structure by its number among `structures`.

    Most methods code a clip in the same groups of pictures: said once, a quarter of a page
    is saved.
    """
    if record.trace is None:
        return None
    trace = FrameTrace.from_dict(record.trace).as_dict()
    structure = {name: trace.pop(name) for name in _STRUCTURE}
    if structure not in structures:
        structures.append(structure)
    return {"structure": structures.index(structure), **trace}


def _encode(
    record: EncodeRecord, metrics: list[str], stream: str | None, command: str
) -> dict[str, Any]:
    return _rounded(
        {
            "method": record.method,
            "target": record.target_kbps,
            "kbps": record.actual_kbps,
            "bytes": record.bytes,
            "quality": {metric: record.level(metric) for metric in metrics},
            "worst": record.psnr_worst,
            "p5": record.psnr_p5,
            "last_second": record.psnr_last_second,
            "seconds": record.seconds,
            "sha256": record.sha256,
            "stream": stream,
            "command": command,
        }
    )


def _command(
    record: EncodeRecord,
    described: Mapping[str, Any],
    settings: Mapping[str, Any],
    specs: Mapping[str, str],
) -> str:
    """The `muzero-rc encode` that makes the same stream; empty if its options cannot say it."""
    used = modern_settings(record.settings)
    spec = specs.get(record.method)
    try:
        sayable = EncoderSettings(
            target_kbps=record.target_kbps, speed=used["speed"], threads=used["threads"],
            row_mt=used["threads"] > 1, auto_alt_ref=used["auto_alt_ref"],
            frame_parallel=used.get("frame_parallel", True),
            show_existing=used.get("show_existing", True),
        )  # fmt: skip
    except (KeyError, TypeError, InputError):
        return ""
    changed = {k for k, v in sayable.as_dict().items() if used.get(k, v) != v}
    # Constrained and constant quality set these by themselves.
    if spec is None or "path" not in described or changed - {"rc_mode", "cq_level"}:
        return ""
    words = ["muzero-rc", "encode", as_word(str(described["path"])), "-o", "out.webm"]
    words += ["--bitrate", f"{record.target_kbps}k", "--policy", spec]
    words += ["--speed", str(used["speed"])]
    if settings.get("scale") is not None:
        words += ["--scale", str(settings["scale"])]
    if settings.get("max_frames") is not None:
        words += ["--frames", str(settings["max_frames"])]
    if used["threads"] > 1:
        words += ["--threads", str(used["threads"])]
    if used["auto_alt_ref"] != EncoderSettings(target_kbps=1).auto_alt_ref:
        words += ["--auto-alt-ref", str(used["auto_alt_ref"])]
    if sayable.frame_parallel:
        words.append("--frame-parallel")
    if not sayable.show_existing:
        words.append("--no-repeats")
    return shlex.join(words)


def _file_name(method: str) -> str:
    """A method's name without what a URL or file system would take amiss."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "_" for c in method)


def _rounded(data: dict[str, Any]) -> dict[str, Any]:
    """Floats with as many digits as a reader can use: the page is data for the most part."""

    def shorter(value: Any) -> Any:
        if isinstance(value, float):
            return float(f"{value:.6g}")
        if isinstance(value, dict):
            return {key: shorter(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [shorter(inner) for inner in value]
        return value

    return {key: shorter(value) for key, value in data.items()}
