"""The folder: complete, self-contained, safe against what is in the results, whole or not there."""

import dataclasses
import html.parser
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from muzero_rc.errors import InputError, OutputError
from muzero_rc.evaluation.media import MediaFolder
from muzero_rc.evaluation.report import write_report
from muzero_rc.evaluation.report.contents import gather
from muzero_rc.evaluation.report.page import render
from muzero_rc.evaluation.results import Failure, Results

HOSTILE = "</script><script>alert(1)</script>\"'<!--{{ 7 * 7 }}"


class Page(html.parser.HTMLParser):
    """What a browser would see: elements with attributes, text by element, the data."""

    VOID = frozenset("meta link img input br hr source".split())

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.stack: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.stack and self.stack[-1] == tag, f"</{tag}> closes {self.stack[-3:]}"
        self.stack.pop()

    def handle_data(self, data) -> None:
        if self.stack:
            self.texts.append((self.stack[-1], data))

    def text(self, tag: str) -> str:
        return " ".join("".join(t for e, t in self.texts if e == tag).split())

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag]


def data_of(text: str) -> dict:
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])


@pytest.fixture
def media(three, tmp_path) -> MediaFolder:
    """A folder with a thumbnail and the streams of the clip `one`."""
    folder = MediaFolder(tmp_path / "results")
    one = [e for e in three.encodes if e.clip == "one"]
    for path in (folder.thumbnail(one[0].clip_sha256), *(folder.stream(e.key) for e in one)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(path.name.encode())
    return folder


def test_page_says_the_verdict_without_a_script(three, tmp_path) -> None:
    text = render(gather(three, tmp_path))
    page = Page(text)
    assert page.stack == []
    verdict = (
        "mine needs 10.0% less bitrate than two-pass VBR for the same PSNR, in 1.0 times its time"
    )
    assert page.text("h1") == f"{verdict}."
    assert page.text("title") == "mine against two-pass VBR: 3 clips"
    meta = {m["name"]: m["content"] for m in page.named("meta") if "name" in m}
    assert meta["description"].startswith(verdict)
    assert "width=device-width" in meta["viewport"]
    assert meta["generator"].startswith("muzero-rc report")
    assert page.named("html") == [{"lang": "en"}]
    cells = page.text("td")
    assert "−10.00%" in cells and "+2.0%" in cells
    assert "muzero-rc evaluate clips" in page.text("code")


def card(text: str, key: str) -> str:
    """A headline's card, without its marks."""
    found = re.search(rf'<article [^>]*data-headline="{key}">(.*?)</article>', text, re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", found[1])).split())


def test_three_headlines_stand_side_by_side(make_results, tmp_path) -> None:
    clips = {
        "one": {"planned": 0.20, "landed": 0.20, "coded": 0.18},
        "two": {"planned": 0.30, "landed": 0.25, "coded": 0.28},
        "three": {"planned": 0.25, "landed": 0.20, "coded": 0.20},
    }
    own = {"speed_profile": "hierarchical", "passes": 3}
    results = make_results(
        clips,
        specs={"coded": "planned"},
        changes={"coded": {"show_existing": False}},
        wished=dict.fromkeys(("planned", "landed", "coded"), own),
        seconds={"planned": 2.5, "landed": 2.0, "coded": 2.6},
        command="muzero-rc evaluate 'a <b>.mp4' --out out --policy planned",
    )
    text = render(gather(results, tmp_path))
    # All in one row, before any picture and any other card.
    row = text[text.index("<section") : text.index("</section>")]
    assert re.findall(r'class="card fact( absent)?" data-headline="(.)"', row) == [
        (" absent", "a"), (" absent", "b"), ("", "c"),
    ]  # fmt: skip
    line = "Not measured. This measures all three in one run:"
    command = "muzero-rc evaluate 'a <b>.mp4' --out out-headlines --policy planned --policy "
    for key, title in (("a", "Qindexes alone, equal passes"), ("b", "Everything, equal time")):
        assert card(text, key).startswith(f"({key}) {title} {line} {command}")
        found = card(text, key)
        assert " --policy planned@speed_profile=uniform,passes=2,show_existing=off " in found
        assert " --policy vbr@speed=1 " in found
    assert card(text, "c") == (
        "(c) Everything, same speed setting −25.0% in 2.5 times VBR's time As evaluated, against"
        " VBR at speed 5; 3 clips 95% interval −30.0% to −20.0%: below zero Learned part: −4.3%"
        " (s.e. 2.2) against the same without it (landed), better on 2 of 3, worst +0.0%"
        " Every frame coded: −22.0% in 2.6 times VBR's time (−28.0% to −18.0%)"
    )
    data = data_of(text)["headlines"]
    assert [h["key"] for h in data] == ["a", "b", "c"]
    assert data[2]["gain"]["time"] == 2.5 and data[2]["beside"][0]["value"] == pytest.approx(-22.0)


def test_pictures_have_short_names_that_stay_apart(make_results, tmp_path) -> None:
    long = "mine@speed_profile=uniform,passes=2,show_existing=off"
    alike = ("mine@show_existing=off,frame_parallel=off", "mine@frame_parallel=off,tpl=off,x=1",
             "mine@row_mt_and_more=off,aq_mode_=off")  # fmt: skip
    results = make_results({"one": dict.fromkeys(("mine@speed=3", long, *alike), 0.1)})
    methods = gather(results, tmp_path).data["methods"]
    assert {m["name"]: m["label"] for m in methods if m["name"] != "vbr"} == {
        "mine@speed=3": "mine@speed=3", long: "mine@uniform,2,off",
        alike[0]: alike[0], alike[1]: "mine@off,off,1", alike[2]: alike[2],
    }  # fmt: skip


def test_time_holds_what_a_policy_prepares(three, tmp_path) -> None:
    """Also in results of before, whose ratio left it out."""
    searched = [
        dataclasses.replace(e, preparation_seconds=9.0 if e.method == "mine" else 0.0)
        for e in three.encodes
    ]
    data = gather(dataclasses.replace(three, encodes=searched), tmp_path).data
    assert three.summary["mine"]["time"]["of_anchor"] == 1.0
    assert data["time"]["mine"]["of_anchor"] == 10.0
    assert data["verdict"]["headline"].endswith("in 10.0 times its time")


def test_everything_one_operates_has_a_name(three, media) -> None:
    page = Page(render(gather(three, media.folder)))
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert all(image.get("alt") is not None for image in page.named("img"))
    for tag, attrs in page.elements:
        for role in ("aria-labelledby", "for"):
            assert attrs.get(role) is None or attrs[role] in ids
        if attrs.get("role") in ("slider", "img", "region", "group", "radiogroup"):
            assert attrs.get("aria-label"), (tag, attrs)
    text = render(gather(three, media.folder))
    for field in re.findall(r"<(?:select|input)[^>]*>", text):
        before = text[: text.index(field)]
        assert before.rfind("<label") > before.rfind("</label>"), field


def test_nothing_comes_from_a_network(three, tmp_path) -> None:
    page = write_report(gather(three, tmp_path), tmp_path / "report")
    parsed = Page(page.read_text())
    for tag, attrs in parsed.elements:
        for name in ("src", "href", "poster"):
            value = attrs.get(name) or ""
            assert not re.match(r"[a-z]+:(?!,)|//", value) or value == "data:,", (tag, value)
    assert "@import" not in page.read_text() and "url(" not in page.read_text()


def test_data_are_embedded_once_and_whole(three, media) -> None:
    contents = gather(three, media.folder)
    text = render(contents)
    assert data_of(text) == json.loads(json.dumps(contents.data))
    clip = data_of(text)["clips"][0]
    assert [m["name"] for m in data_of(text)["methods"]] == ["mine", "vbr", "proposal"]
    assert [len(c["structures"]) for c in data_of(text)["clips"]] == [1, 1, 1]
    trace = dict(clip["encodes"][0]["trace"])
    assert clip["structures"][trace.pop("structure")] | trace == three.encodes[0].trace
    assert text.count('"update_type"') == 3
    bd = {(b["method"], b["metric"]): b["percent"] for b in clip["bd"]}
    assert bd["mine", "psnr_avg"] == pytest.approx(-10.0)
    (control,) = (
        c["percent"] for c in clip["against_control"]
        if (c["method"], c["metric"]) == ("mine", "psnr_avg")
    )  # fmt: skip
    assert control == pytest.approx(100 * (0.9 / 0.95 - 1), abs=1e-4)


def test_folder_holds_page_library_and_media(three, media, tmp_path) -> None:
    page = write_report(gather(three, media.folder), tmp_path / "a" / "report")
    assert page == tmp_path / "a" / "report" / "index.html"
    names = sorted(p.name for p in page.parent.rglob("*") if p.is_file())
    assert len(names) == 2 + 1 + 15
    assert {"index.html", "plotly.js", "1.jpg", "1-0-vbr-100k.webm"} <= set(names)
    for clip in data_of(page.read_text())["clips"]:
        for encode in clip["encodes"]:
            assert (encode["stream"] is not None) == (clip["name"] == "one")
            if encode["stream"]:
                key = (page.parent / encode["stream"]).read_bytes().decode()
                record = next(e for e in three.encodes if f"{e.key}.webm" == key)
                assert (record.method, record.target_kbps) == (encode["method"], encode["target"])
    assert list((tmp_path / "a").iterdir()) == [page.parent]
    small = write_report(gather(three, media.folder, video=False), tmp_path / "small")
    assert not list(small.parent.rglob("*.webm"))
    assert 'id="player"' not in small.read_text()


def test_size_without_videos(make_results, tmp_path) -> None:
    """Thirty clips of 150 frames, five of them tried; nothing of a clip is another's too."""
    many = make_results({f"clip {i}": {"proposal": 0.02, "mine": 0.05} for i in range(5)})
    random = np.random.default_rng(1)
    frames = 200  # hidden ones included

    def column(low: int, high: int) -> list[int]:
        return random.integers(low, high, frames).tolist()

    structures: dict[str, dict[str, list[int]]] = {}
    encodes = []
    for record in many.encodes:
        structure = structures.setdefault(record.clip, {
            "show_index": column(0, 150), "update_type": column(0, 6),
            "shown": column(0, 2), "layer": column(0, 6),
        })  # fmt: skip
        numbers = {"qindex": column(0, 256), "proposal": column(0, 256), "bits": column(0, 50_000)}
        psnr = random.uniform(30, 50, frames).round(3).tolist()
        trace = structure | numbers | {"psnr": psnr}
        encodes.append(dataclasses.replace(record, trace=trace))
    many = dataclasses.replace(many, encodes=encodes)
    page = write_report(gather(many, tmp_path), tmp_path / "report")
    library = (page.parent / "plotly.js").stat().st_size
    assert library + 30 / 5 * page.stat().st_size < 5_000_000


def test_library_unpacks_to_what_plotly_ships(three, tmp_path) -> None:
    import base64
    import gzip

    from plotly.offline import get_plotlyjs

    page = write_report(gather(three, tmp_path), tmp_path / "report")
    text = (page.parent / "plotly.js").read_text()
    packed = re.fullmatch(r'window\.PLOTLY_GZIP="([A-Za-z0-9+/=]+)";\n', text)[1]
    assert gzip.decompress(base64.b64decode(packed)).decode() == get_plotlyjs()


def test_hostile_names_stay_text(make_results, tmp_path) -> None:
    path = "../../etc/<b>'mine\".npz"
    results = make_results(
        {HOSTILE: {"proposal": 0.02, path: 0.05}},
        failures=[Failure(clip=HOSTILE, method=path, target_kbps=7, error=HOSTILE)],
    )
    media = MediaFolder(tmp_path)
    for encode in results.encodes:
        media.stream(encode.key).parent.mkdir(exist_ok=True)
        media.stream(encode.key).write_bytes(b"")
    page = write_report(gather(results, tmp_path), tmp_path / "report")
    text = page.read_text()
    parsed = Page(text)
    assert parsed.stack == []
    assert len(parsed.named("script")) == 3
    assert "alert(1)" not in parsed.text("script").replace("\\u003c", "<").split("const report")[1]
    data = data_of(text)
    assert data["clips"][0]["name"] == HOSTILE
    assert "{{ 7 * 7 }}" in parsed.text("button")
    streams = [e["stream"] for e in data["clips"][0]["encodes"]]
    assert all(re.fullmatch(r"media/[\w-]+\.webm", s, re.ASCII) for s in streams)
    assert len(set(streams)) == len(results.encodes)


def test_files_of_before_make_a_page_without_frames_and_player(make_results, tmp_path) -> None:
    old = make_results({"one": {"proposal": 0.02}}, frames=False)
    for name in ("clips", "command", "environment", "methods", "scale"):
        del old.settings[name]
    contents = gather(old, tmp_path)
    text = render(contents)
    page = Page(text)
    assert "control" not in page.text("h1")
    assert page.text("h1").startswith("proposal needs 2.0% less")
    assert 'id="plot-frames"' not in text and 'id="player"' not in text
    assert "made by an older version" in text and "--keep-streams" in text
    assert contents.data["clips"][0]["encodes"][0]["trace"] is None
    assert contents.data["clips"][0]["encodes"][0]["command"] == ""


def _changed(results: Results, **settings: bool) -> Results:
    """As if they had been made with other settings."""
    encodes = [dataclasses.replace(e, settings=e.settings | settings) for e in results.encodes]
    return dataclasses.replace(results, encodes=encodes)


def test_command_of_a_stream(make_results, tmp_path) -> None:
    results = make_results({"a b": {"proposal": 0.02, "mine": 0.05}}, specs={"mine": "runs/x.npz"})
    encodes = gather(results, tmp_path).data["clips"][0]["encodes"]
    found = {(e["method"], e["target"]): e["command"] for e in encodes}
    assert found["mine", 100] == (
        "muzero-rc encode 'clips/a b.mp4' -o out.webm --bitrate 100k --policy runs/x.npz"
        " --speed 5 --scale 48 --frames 12 --frame-parallel"
    )
    coded = _changed(results, show_existing=False)
    commands = [e["command"] for e in gather(coded, tmp_path).data["clips"][0]["encodes"]]
    assert all(
        command.endswith(" --frame-parallel --no-repeats") for command in commands if command
    )
    assert any(commands)
    encodes = gather(_changed(results, tpl=False), tmp_path).data["clips"][0]["encodes"]
    assert {e["command"] for e in encodes} == {""}  # encode has no option for it


def test_damaged_frames_are_refused(three, tmp_path) -> None:
    broken = dataclasses.replace(three.encodes[0], trace={"bits": [1]})
    results = dataclasses.replace(three, encodes=[broken, *three.encodes[1:]])
    with pytest.raises(InputError, match="the frames are damaged"):
        gather(results, tmp_path)


def test_a_report_is_replaced_and_nothing_else(three, tmp_path) -> None:
    contents = gather(three, tmp_path)
    out = tmp_path / "report"
    out.mkdir()  # empty: fine
    write_report(contents, out)
    (out / "media").mkdir()
    (out / "media" / "stale").touch()
    write_report(contents, out)
    assert sorted(os.listdir(out)) == ["index.html", "plotly.js"]
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "index.html").write_text("<title>my site</title>")
    with pytest.raises(InputError, match="holds something else than a report"):
        write_report(contents, precious)
    assert (precious / "index.html").read_text() == "<title>my site</title>"
    with pytest.raises(InputError, match="is a file"):
        write_report(contents, precious / "index.html")


def test_a_failed_report_leaves_the_old_one(three, media, tmp_path, monkeypatch) -> None:
    out = tmp_path / "report"
    write_report(gather(three, media.folder), out)
    before = (out / "index.html").read_text()
    contents = gather(three, media.folder)
    next(iter(contents.files.values())).unlink()
    with pytest.raises(InputError, match="is gone; run evaluate again with --keep-streams"):
        write_report(contents, out)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", fail)
        with pytest.raises(OutputError, match="No space left on device; choose another --out"):
            write_report(gather(three, media.folder), out)
    real = os.replace

    def fail_to_place(source: Path, target: Path) -> None:
        """The old one is aside already when the new one cannot take its place."""
        if target == out and source.suffix != ".old":
            fail()
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail_to_place)
        with pytest.raises(OutputError):
            write_report(gather(three, media.folder), out)

    def stop(source: Path, target: Path) -> None:
        if target == out and source.suffix != ".old":
            raise KeyboardInterrupt
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stop)
        with pytest.raises(KeyboardInterrupt):
            write_report(gather(three, media.folder), out)
    assert (out / "index.html").read_text() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report", "results"]


def test_a_report_keeps_the_modes_of_the_old_one(three, media, tmp_path) -> None:
    out = tmp_path / "report"
    write_report(gather(three, media.folder), out)
    out.chmod(0o700)
    (out / "index.html").chmod(0o600)
    write_report(gather(three, media.folder), out)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (out, out / "index.html")]
    assert modes == [0o700, 0o600]


def test_scripts_are_well_formed(tmp_path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node on this machine: the scripts are only tried in a browser")
    import muzero_rc.evaluation.report.page as page

    for script in sorted((Path(page.__file__).parent / "assets").glob("*.js")):
        done = subprocess.run([node, "--check", script], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_package_needs_no_plot_library_to_be_imported() -> None:
    """matplotlib, jinja2 and plotly are loaded by what uses them."""
    code = (
        "import sys, muzero_rc.evaluation.report;"
        "print({'matplotlib', 'plotly', 'jinja2'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
