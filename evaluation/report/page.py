"""From contents to a folder: one page, the plot library packed beside it, the media."""

from __future__ import annotations

import base64
import functools
import gzip
import json
import os
import secrets
import shutil
import stat
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from muzero_rc import __version__
from muzero_rc.errors import InputError, OutputError
from muzero_rc.evaluation.report.contents import Contents
from muzero_rc.evaluation.report.verdict import times

__all__ = ["GENERATOR", "check_report_folder", "render", "write_report"]

GENERATOR = "muzero-rc report"
"""Content of the page's `generator`: by it a folder is known as a report."""

_HERE = Path(__file__).parent
# In the order in which they need each other.
_SCRIPTS = ("core.js", "charts.js", "frames.js", "table.js", "player.js", "lottery.js", "main.js")
_PAGE = "index.html"
_LIBRARY = "plotly.js"


def write_report(contents: Contents, out: Path) -> Path:
    """Writes the folder of a report, whole or not at all; an older report is replaced.

    Args:
      contents: what it holds.
      out: the folder: missing, empty, or a report.

    Returns:
      The page to open.

    Raises:
      InputError: `out` is something else, or a file to take along is gone.
      OutputError: it cannot be written.
    """
    check_report_folder(out)
    page = render(contents)
    new = out.with_name(f".{out.name}.{secrets.token_hex(6)}")
    old = out.with_name(f".{out.name}.{secrets.token_hex(6)}.old")
    try:
        new.mkdir(parents=True)
        if out.exists():  # now, so that what is private is so while it is written, too
            new.chmod(stat.S_IMODE(out.stat().st_mode) | stat.S_IRWXU)
        (new / _PAGE).write_text(page, encoding="utf-8")
        (new / _LIBRARY).write_text(_packed_library(), encoding="ascii")
        for name, source in contents.files.items():
            (new / name).parent.mkdir(exist_ok=True)
            _copy(source, new / name)
        if out.exists():
            _keep_modes(out, new)
            os.replace(out, old)
        os.replace(new, out)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(
            f"cannot write the report {out}: {error.strerror or error};"
            " choose another --out or make room"
        ) from error
    finally:
        # Whatever stopped it, Ctrl-C too: the old report comes back.
        if old.exists() and not out.exists():
            os.replace(old, out)
        for left in (new, old):
            with suppress(OSError):
                shutil.rmtree(left)
    return out / _PAGE


def _keep_modes(before: Path, now: Path) -> None:
    """Gives a new folder, and the files in it, the permissions of those of the same name."""
    for path in (now, *now.rglob("*")):
        old = before / path.relative_to(now)
        if old.exists():
            path.chmod(stat.S_IMODE(old.stat().st_mode))


def check_report_folder(out: Path) -> None:
    """Only a report, or nothing, is replaced: a mistyped folder must not be lost.

    Writes nothing.

    Args:
      out: the folder of a report to be.

    Raises:
      InputError: it is a file, or a folder with something else in it.
      OutputError: it is not there, and cannot be made where it is to be.
    """
    if not out.exists():
        there = next(folder for folder in out.absolute().parents if folder.exists())
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            why = "it does not take files" if there.is_dir() else "it is a file"
            raise OutputError(
                f"cannot write the report {out} in {there}: {why}; choose another --out"
            )
        return
    if not out.is_dir():
        raise InputError(f"{out} is a file; give a folder for the report")
    if not any(out.iterdir()):
        return
    page = out / _PAGE
    mark = f'<meta name="generator" content="{GENERATOR}'
    try:
        known = page.is_file() and mark in page.read_text(encoding="utf-8", errors="replace")[:4000]
    except OSError:
        known = False
    if not known:
        raise InputError(f"{out} holds something else than a report; give another --out")


def _copy(source: Path, target: Path) -> None:
    try:
        shutil.copyfile(source, target)
    except FileNotFoundError:
        raise InputError(f"{source} is gone; run evaluate again with --keep-streams") from None


def render(contents: Contents) -> str:
    """The page: its text is there without a script, which adds what moves."""
    # Jinja's own escaping for all that comes from results: names of clips and methods,
    # paths, errors.
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "signed": _signed, "percent": _percent, "json": _embedded, "times": times,
        "in_unit": _in_unit,
    }  # fmt: skip
    data = contents.data
    return environment.get_template("report.html.j2").render(
        data,
        data=data,
        generator=f"{GENERATOR} {__version__}",
        version=__version__,
        made=datetime.now(UTC),
        style=_asset("report.css"),
        script="\n".join(_asset(name) for name in _SCRIPTS),
        library=_LIBRARY,
        comparison=_by_pair(data),
        facts=_facts(data),
        has_streams=any(e["stream"] for clip in data["clips"] for e in clip["encodes"]),
        has_frames=any(e["trace"] for clip in data["clips"] for e in clip["encodes"]),
    )


def _asset(name: str) -> str:
    return (_HERE / "assets" / name).read_text(encoding="utf-8")


@functools.cache
def _packed_library() -> str:
    """plotly.js as a script that only sets a string: a third of its size on disk.

    A page from disk may not fetch its neighbours, but may run them; the browser itself
    unpacks the string (DecompressionStream).
    """
    from plotly.offline import get_plotlyjs

    packed = gzip.compress(get_plotlyjs().encode(), 9, mtime=0)
    return f'window.PLOTLY_GZIP="{base64.b64encode(packed).decode()}";\n'


def _embedded(value: Any) -> str:
    """JSON that can stand in a script element whatever is in it."""
    import markupsafe

    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    # json.dumps writes ASCII; what is left could only end the element or open a comment.
    return markupsafe.Markup(text.replace("<", "\\u003c").replace(">", "\\u003e"))


def _by_pair(data: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """Comparisons under the first metric."""
    metric = data["metrics"][0]["name"]
    return {(c["method"], c["opponent"]): c for c in data["comparisons"] if c["metric"] == metric}


def _facts(data: dict[str, Any]) -> list[tuple[str, str]]:
    """Names and values of the settings that decide numbers."""
    settings = data["settings"]
    facts = [("library", settings.get("build")), ("targets", settings.get("targets"))]
    facts += [(k, settings.get(k)) for k in ("scale", "max_frames", "jobs") if k in settings]
    for group in ("encoder", "environment"):
        part = settings.get(group)
        facts += list(part.items()) if isinstance(part, dict) else []
    return [(str(name), _plain(value)) for name, value in facts if value is not None]


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)


def _signed(value: float | None, digits: int = 1) -> str:
    """A percentage with its sign, with a minus as wide as the plus."""
    if value is None:
        return "n/a"
    return f"{value:+z.{digits}f}%".replace("-", "\N{MINUS SIGN}")


def _in_unit(value: float, unit: str, digits: int = 1) -> str:
    """A gain in percent or points, with its sign."""
    text = _signed(value, digits)
    return text if unit == "%" else f"{text.removesuffix('%')} {unit}"


def _percent(share: float | None, digits: int = 0) -> str:
    return "n/a" if share is None else f"{share:.{digits}%}"
