"""Pages about `encode` say what the program has."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any, get_type_hints

from muzero_rc.cli.encode import EncodeArgs
from muzero_rc.cli.picture import PictureArgs
from muzero_rc.encode.cut import WHOLE_FRAMES
from muzero_rc.encode.film import PHASES, EncodeReport, SearchSummary

DOCS = Path(__file__).parents[2] / "docs"


def options_of(kind: Any) -> set[str]:
    """Long options of a command's arguments, those of groups of them too."""
    hints = get_type_hints(kind)
    found: set[str] = set()
    for name in (field.name for field in dataclasses.fields(kind)):
        nested = dataclasses.is_dataclass(hints[name])
        found |= options_of(hints[name]) if nested else {f"--{name.replace('_', '-')}"}
    return found


OPTIONS = options_of(EncodeArgs)


def test_options_in_the_guides_exist() -> None:
    rows = (DOCS / "guide/coming-from.md").read_text().splitlines()
    ours = [row.rstrip(" |").rpartition("|")[2] for row in rows if row.startswith("| ")]
    named = re.findall(r"--[a-z][a-z-]+", "\n".join(ours))
    table = re.findall(r"^\| `(--[a-z-]+)", (DOCS / "guide/encode.md").read_text(), re.MULTILINE)
    assert len(named) > 12 and len(table) > 10
    assert not {*named, *table} - OPTIONS


def test_coming_from_has_what_people_do_to_pictures_and_tracks() -> None:
    text = (DOCS / "guide/coming-from.md").read_text()
    rows = {row.split("|")[1].strip(): row for row in text.splitlines() if row.startswith("| ")}
    ours = {purpose: row.rstrip(" |").rpartition(" | ")[2] for purpose, row in rows.items()}
    options = options_of(PictureArgs) | {"--8bit", "--audio", "--audio-bitrate"}
    assert not {option for option in options - {"--picture", "--eight-bit"} if option not in text}
    assert {"crop", "deinterlace", "10 bits", "subtitles", "bitrate of audio"} <= set(ours)
    assert f"up to {WHOLE_FRAMES} frames one" in ours["cores"]


def test_the_page_of_json_lines_has_every_key() -> None:
    text = (DOCS / "reference/encode-json.md").read_text()
    section = text.partition("\n## result\n")[2].partition("\n## ")[0]
    rows = [row for row in section.splitlines() if row.startswith("| `")]
    keys = set(re.findall(r"`(\w+)`", " ".join(row.split("|")[1] for row in rows)))
    fields = {f.name for f in dataclasses.fields(EncodeReport)} - {"results"}
    assert keys == fields | {"type"}
    (search,) = (row for row in rows if row.startswith("| `search`"))
    named = set(re.findall(r"`(\w+)`", search))
    assert {f.name for f in dataclasses.fields(SearchSummary)} <= named
    (phase,) = (row for row in text.splitlines() if row.startswith("| `phase`"))
    assert set(PHASES) == set(re.findall(r"`([a-z ]+)`", phase)) - {"phase"}
