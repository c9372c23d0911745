"""The three headlines, side by side: what README, docs/results.md and the report quote.

(a) Qindexes alone, at equal passes and in about equal time: the paper's setting. Two passes,
    uniform speed, every frame coded. With a probe encode it takes longer.
(b) Everything, against VBR's curve of rate over time.
(c) Everything at the same speed setting, with its time.

Beside (a) and (c) stand the same without the network, and beside (c) the same without
show-existing frames. Clips: the first of each group of the index's set `dev`, by name, as many
as `--clips` says for each speed; intervals are over those groups. An interrupted run goes on.

With `--set test` they are of the locked set, which is measured once for a release; the tables
go to places of their own in docs/results.md. Every run of it is listed there.

    make benchmark-headlines CORPUS=clips/
    .venv/bin/python benchmarks/bench_headlines.py CORPUS --out OUT [--write]
"""

from __future__ import annotations

import argparse
import csv
import datetime
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from muzero_rc.cli.main import main as muzero_rc
from muzero_rc.evaluation.measure.paired import paired_gain, paired_percents
from muzero_rc.evaluation.measure.rate_time import below_the_curve, rate_time
from muzero_rc.evaluation.results import Results

_ROOT = Path(__file__).resolve().parents[1]
_PAGES = ("README.md", "docs/results.md")
ALONE = "speed_profile=uniform,passes=2,show_existing=off"
_PROBED = "speed_profile=uniform,passes=3,show_existing=off"
_METHODS = {
    "proposal": "(a) control: libvpx's proposals, never recoded",
    f"landed@{ALONE}": "(a) the same without the network",
    f"muzero@{ALONE}": "(a) qindexes alone, equal passes",
    f"landed@{_PROBED}": "(a) and a probe encode, nothing learned",
    f"planned@{_PROBED}": "(a) and a probe encode, planned",
    "landed": "(c) rules, nothing learned",
    "const": "(c) rules and the learned mean step of each role",
    "planned": "(c) rules and the learned plan",
    "planned@show_existing=off": "(c) rules and the learned plan, every frame coded",
    "muzero": "(c) rules and the network, as shipped",
}


_SHORT = ("proposal", f"landed@{_PROBED}", f"planned@{_PROBED}", "landed", "planned",
          "planned@show_existing=off")  # fmt: skip
"""Methods of the README's table."""


def index_of(folder: Path, which: str) -> list[dict[str, str]]:
    """Rows of the corpus's index that are of a set."""
    with (folder / "index.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row.get("set") == which]


def first_clips(folder: Path, which: str, count: int) -> list[Path]:
    """The first clip of each of `count` groups of a set, by the groups' names."""
    rows = index_of(folder, which)
    first: dict[str, str] = {}
    for row in sorted(rows, key=lambda row: (row["group"], row["file"])):
        first.setdefault(row["group"], row["file"])
    groups = sorted(first)
    step = max(len(groups) / count, 1.0)
    chosen = [groups[int(place * step)] for place in range(min(count, len(groups)))]
    found = [next(folder.rglob(first[group])) for group in chosen]
    return sorted(found)


def _evaluate(clips: list[Path], out: Path, words: list[str]) -> Results:
    status = muzero_rc(["evaluate", *map(str, clips), "--out", str(out), "--quiet", *words])
    if status > 1:
        raise SystemExit(status)
    return Results.load(out)


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:+.{digits}f}"


def headline_rows(results: Results, speed: int, methods: Sequence[str]) -> list[list[str]]:
    """Rows of headlines (a) and (c) of an evaluation at one speed."""
    rows = []
    for method, name in _METHODS.items():
        if method not in results.summary or method not in methods:
            continue
        entry: dict[str, Any] = results.summary[method]
        avg, overall = entry["psnr_avg"], entry["psnr_overall"]
        low, high = avg["interval"] or (None, None)
        time = entry["time"]["of_anchor"]
        rows.append(
            [
                name,
                str(speed),
                f"{avg['n']} of {avg['n_sources']}",
                _number(avg["mean"]),
                f"{_number(low)} to {_number(high)}",
                _number(overall["mean"]),
                "-" if time is None else f"{time:.2f}",
                f"{entry['landing']['mean_abs_deviation']:.1%}",
                f"{entry['landing']['share_over_1']:.0%}",
            ]
        )
    return rows


_PAIRS = (
    (f"planned@{_PROBED}", f"landed@{_PROBED}", "(a) plan, with a probe encode"),
    ("const", "landed", "(c) mean step of each role"),
    ("planned", "landed", "(c) plan"),
    ("planned", "const", "(c) plan, over the mean steps"),
    ("muzero", "landed", "(c) network"),
)
"""What is learned, what it is compared with, and a name."""


def learned_rows(results: Results, speed: int, clusters: Mapping[str, str]) -> list[list[str]]:
    """Rows of what the learned parts add, paired by clip: rate at equal quality, %.

    Args:
      results: of an evaluation.
      speed: of it.
      clusters: what each clip is counted to, by its name, in standard errors.
    """
    rows = []
    for ours, theirs, name in _PAIRS:
        by_metric = [
            paired_percents(results, ours, theirs, metric)
            for metric in ("psnr_avg", "psnr_overall", *_QUALITIES)
        ]
        cells = [_mean_and_error(found, clusters) for found in by_metric if found]
        main = paired_gain(by_metric[0], clusters)
        if main is not None:
            better = f"{main.better} of {main.n}"
            rows.append([name, str(speed), *cells, better, f"{main.worst:+.1f}"])
    return rows


def _mean_and_error(found: Mapping[str, float], clusters: Mapping[str, str]) -> str:
    """Mean over clips, and its standard error with clips of one cluster counted together."""
    gain = paired_gain(found, clusters)
    if gain is None:
        return "-"
    return f"{gain.mean:+.2f} ({'-' if gain.error is None else f'{gain.error:.2f}'})"


def content_rows(results: Results, speed: int, contents: Mapping[str, str]) -> list[list[str]]:
    """Rows of the plan's gain over the same without it, for each kind of content, %."""
    pairs = [pair for pair in _PAIRS if pair[0].startswith("planned") and "const" not in pair]
    rows = []
    for ours, theirs, name in pairs:
        found = paired_percents(results, ours, theirs, "psnr_avg")
        overall = paired_percents(results, ours, theirs, "psnr_overall")
        for kind in sorted(set(contents.values())):
            cells = [
                _mean_and_error({c: v for c, v in gains.items() if contents.get(c) == kind}, {})
                for gains in (found, overall)
                if any(contents.get(c) == kind for c in gains)
            ]
            count = sum(contents.get(clip) == kind for clip in found)
            if count and len(cells) == 2:
                rows.append([name, str(speed), kind, str(count), *cells])
    return rows


def curve_rows(results: Results) -> list[list[str]]:
    """Rows of headline (b)."""
    points = rate_time([results])
    rows = []
    for point in points:
        if point.method not in ("planned", "landed") or point.percent is None:
            continue
        below = below_the_curve(points, point)
        rows.append(
            [
                f"(b) {point.method}",
                str(point.speed),
                str(point.n),
                _number(point.percent),
                f"{point.of_anchor:.2f}",
                "-" if below is None else f"{below:.1f}",
            ]
        )
    return rows


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _fill(page: Path, name: str, table: str) -> None:
    marker = re.compile(rf"(<!-- table:{name} -->\n).*?(<!-- /table -->)", re.DOTALL)
    text = page.read_text()
    if marker.search(text):
        page.write_text(marker.sub(lambda m: f"{m[1]}{table}\n{m[2]}", text))


def content_of(row: Mapping[str, str]) -> str:
    """Screen, animated or natural, by the index's word for a clip's content."""
    words = row["content"]
    if "screen" in words:
        return "screen"
    drawn = ("anim", "cartoon", "game", "graphics", "CG", "rendered")
    return "animated" if any(word in words for word in drawn) else "natural"


def repository_of(row: Mapping[str, str]) -> str:
    """Whence a clip's group is: the origin up to the first blank."""
    return row["origin"].split(" ")[0]


_LEARNED = [
    "what is learned", "speed", "PSNR avg, % (s.e.)", "PSNR overall, % (s.e.)", "clips better",
    "worst clip, %",
]  # fmt: skip
_QUALITIES = {"ssim": "SSIM, % (s.e.)", "vmaf": "VMAF, % (s.e.)"}


def main() -> int:
    """Evaluates, prints the tables, and writes them into the pages if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--set", choices=("dev", "test"), default="dev")
    parser.add_argument("--clips", type=int, nargs="+", default=[20], help="for each speed")
    parser.add_argument("--curve-clips", type=int, default=5, help="0 leaves the curve as it is")
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--height", type=int, default=144)
    parser.add_argument("--speeds", type=int, nargs="*", default=[5, 2])
    parser.add_argument("--curve-speeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--without", nargs="*", default=[], help="methods that are left out")
    parser.add_argument("--metrics", default="psnr", help="of evaluate")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--load", default="", help="said of the machine, as ' that also ran tests'")
    parser.add_argument("--write", action="store_true", help="into README.md and docs/results.md")
    parser.add_argument("--name", help="before the tables' names there; 'test-' of the set test")
    args = parser.parse_args()
    common = ["--scale", str(args.height), "--frames", str(args.frames), "--jobs", str(args.jobs)]
    index = index_of(args.corpus, args.set)
    contents = {Path(row["file"]).stem: content_of(row) for row in index}
    # The more careful cluster where groups of one repository lie in a set.
    of = repository_of if args.set == "test" else (lambda row: row["group"])
    clusters = {Path(row["file"]).stem: of(row) for row in index}
    rows, short, learned, by_content = [], [], [], []
    counts = [*args.clips, *args.clips[-1:] * len(args.speeds)]
    methods = [method for method in _METHODS if method not in args.without]
    policies = [word for method in methods for word in ("--policy", method)]
    for speed, count in zip(args.speeds, counts, strict=False):
        found = _evaluate(
            first_clips(args.corpus, args.set, count),
            args.out / f"speed{speed}",
            [*common, *policies, "--metrics", args.metrics, "--speed", str(speed)],
        )
        rows += headline_rows(found, speed, methods)
        short += headline_rows(found, speed, _SHORT)
        learned += learned_rows(found, speed, clusters)
        by_content += content_rows(found, speed, contents)
    header = [
        "headline", "speed", "clips, groups", "PSNR avg, %", "95% interval over groups",
        "PSNR overall, %", "time over VBR's", "off target", "more than 1% over",
    ]  # fmt: skip
    measured = [name for name in _QUALITIES if name in args.metrics.split(",")]
    columns = [*_LEARNED[:4], *(_QUALITIES[name] for name in measured), *_LEARNED[4:]]
    tables = {}
    if args.speeds:
        tables = {
            "headlines": _table(header, rows),
            "headlines-short": _table(header, short),
            "learned": _table(columns, learned),
            "content": _table([*_LEARNED[:2], "content", "clips", *_LEARNED[2:4]], by_content),
        }
    if args.curve_clips:
        curve = _evaluate(
            first_clips(args.corpus, args.set, args.curve_clips), args.out / "curve",
            [*common, "--policy", "planned", "--policy", "landed",
             "--speed", str(max(args.curve_speeds)), "--speeds", *map(str, args.curve_speeds)],
        )  # fmt: skip
        columns = [
            "headline", "speed", "clips", "PSNR avg against VBR at the fastest speed, %",
            "time over VBR's there", "points below VBR's curve",
        ]  # fmt: skip
        found_rows = curve_rows(curve)
        tables["curve"] = _table(columns, found_rows)
        planned = [row for row in found_rows if row[0] == "(b) planned"]
        tables["curve-short"] = _table(columns, planned)
    told = (
        f"{args.frames} frames of each clip, {args.height} lines, set `{args.set}` of the corpus; "
        f"{datetime.date.today()}, a machine of {os.cpu_count()} cores{args.load}."
    )
    print("\n\n".join(tables.values()))
    if args.write:
        prefix = args.name if args.name is not None else "test-" * (args.set == "test")
        for page in _PAGES:
            for name, table in tables.items():
                _fill(_ROOT / page, prefix + name, f"{told}\n\n{table}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
