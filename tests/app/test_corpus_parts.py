"""Parts of scenes, pictures seen before, recipes and manifests: without a video."""

from __future__ import annotations

import csv
import hashlib
import math
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muzero_rc.corpus import Corpus
from muzero_rc.corpus.augment import draw_recipe
from muzero_rc.corpus.build import build_corpus
from muzero_rc.corpus.duplicates import ALIKE_BITS, SeenPictures
from muzero_rc.corpus.folder import split_of
from muzero_rc.corpus.manifest import Entry, Manifest
from muzero_rc.corpus.plan import BuildSettings, Original, plan_clips
from muzero_rc.corpus.scenes import Look, cut_parts
from muzero_rc.corpus.statistics import describe_corpus
from muzero_rc.errors import InputError, ToolMissingError
from muzero_rc.video import Recipe

RNG = np.random.default_rng(4)


def hashes_of(count: int, rng: np.random.Generator) -> list[str]:
    return [rng.bytes(32).hex() for _ in range(count)]


def entry(file: str, **changes: object) -> Entry:
    made = Entry(
        file, "training", "s", "s.mp4", "0" * 64, 0, 0, 60, 96, 64, "25", 60, 1000, "1" * 64,
        "2" * 64,
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


@settings(deadline=None)
@given(
    frames=st.integers(1, 400),
    cuts=st.lists(st.integers(-5, 420), max_size=12),
    shortest=st.integers(2, 60),
    more=st.integers(0, 120),
)
def test_parts_lie_in_scenes_and_leave_nothing_usable(
    frames: int, cuts: list[int], shortest: int, more: int
) -> None:
    longest = shortest + more
    parts, short = cut_parts(frames, cuts, shortest, longest)
    edges = {cut for cut in cuts if 0 < cut < frames}
    covered = np.zeros(frames, int)
    for part in parts:
        assert shortest <= part.frames <= longest
        assert not any(part.start < cut < part.end for cut in edges)
        covered[part.start : part.end] += 1
    for part in short:
        assert part.frames < shortest
        covered[part.start : part.end] += 1
    assert covered.max(initial=0) <= 1
    # What is left over are ends of scenes, each too short to be a part.
    left = np.flatnonzero(covered == 0)
    for run in np.split(left, np.flatnonzero(np.diff(left) != 1) + 1):
        assert len(run) < shortest


def test_pictures_are_found_again_wherever_a_copy_begins() -> None:
    seen = SeenPictures()
    film = hashes_of(100, RNG)
    seen.add("film", "one", film[:50])
    seen.add("film", "two", film[50:])
    seen.add("other", "three", hashes_of(80, RNG))

    def damaged(bits: int) -> list[str]:
        out = []
        for text in film[30:90]:
            number = int(text, 16)
            for bit in RNG.choice(256, bits, replace=False):
                number ^= 1 << int(bit)
            out.append(f"{number:064x}")
        return out

    assert seen.find("copy", film[55:90]) == "two"
    assert seen.find("copy", damaged(ALIKE_BITS - 8)) == "two"  # 40 of its 60 frames are
    assert seen.find("copy", damaged(ALIKE_BITS + 8)) is None
    assert seen.find("film", film[55:90]) is None  # not compared within a file
    assert seen.find("copy", hashes_of(30, RNG)) is None
    assert seen.find("copy", []) is None


def test_opencv_is_an_extra_that_nothing_else_loads(
    tmp_path: Path, clip_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = "import sys, muzero_rc.corpus.build; print('cv2' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True)
    assert done.stdout == "False\n"
    monkeypatch.setitem(sys.modules, "scenedetect", None)
    with pytest.raises(ToolMissingError, match=r"needs scenedetect; install muzero-rc\[corpus\]"):
        build_corpus([clip_file], tmp_path / "corpus")


def look(activity: float, frames: int, hashes: list[str], cuts: tuple[int, ...] = ()) -> Look:
    return Look(frames, "25", cuts, (activity,) * frames, tuple(hashes))


def test_the_plan_gives_every_reason() -> None:
    film = hashes_of(200, RNG)
    looks: dict[str, Look | str] = {
        "a" * 64: look(1.0, 200, film, (20, 120)),
        "b" * 64: look(1.0, 40, film[22:62]),
        "c" * 64: look(0.001, 90, hashes_of(90, RNG)),
        "d" * 64: "broken.mp4 is damaged",
        "e" * 64: look(1.0, 200, hashes_of(200, RNG)),
    }
    originals = [
        Original(Path(name), name, name[0], split_of(name[0]))
        for name in ("a.mp4", "a2.mp4", "b.mp4", "c.mp4", "d.mp4", "e.mp4")
    ]
    digests = dict(zip(originals, ["a" * 64, *(x * 64 for x in "abcde")], strict=True))
    chosen = BuildSettings(min_frames=30, max_frames=40, per_file=2)
    clips, rejected = plan_clips(originals, digests, looks, chosen)
    assert [(e.origin, e.start_frame, e.end_frame) for _, e in clips] == [
        ("a.mp4", 20, 60), ("a.mp4", 160, 200), ("e.mp4", 0, 40), ("e.mp4", 160, 200),
    ]  # fmt: skip
    by_reason = {(e.origin, e.reason) for e in rejected}
    assert by_reason == {
        ("a.mp4", "short"), ("a.mp4", "limit"), ("a2.mp4", "duplicate"), ("b.mp4", "duplicate"),
        ("c.mp4", "static"), ("d.mp4", "broken"), ("e.mp4", "limit"),
    }  # fmt: skip
    names = [e.file for _, e in clips]
    # What else is in the corpus does not change a clip's name: studies know clips by it.
    alone, _ = plan_clips(originals[-1:], digests, looks, chosen)
    assert [e.file for _, e in alone] == names[2:]
    assert len(set(names)) == len(names)


@settings(deadline=None)
@given(number=st.integers(1, 10**6), seed=st.integers(0, 99), frames=st.integers(30, 150))
def test_recipes_repeat_and_fit_the_clip(number: int, seed: int, frames: int) -> None:
    clip = entry("training/a.mp4", width=150, height=130, frames=frames)
    others = [
        clip,
        entry("training/b.mp4", scene=1, frames=50),
        entry("training/c.mp4", source="t", origin_sha256="9" * 64),
    ]
    recipe, partner = draw_recipe(clip, others, number, min_frames=30, seed=seed)
    assert (recipe, partner) == draw_recipe(clip, others, number, min_frames=30, seed=seed)
    assert recipe != Recipe() and recipe.text()
    assert (partner is None) == (recipe.cut is None)
    # Never a clip of another source: who leaves out a source must be rid of it.
    assert partner is None or partner.file == "training/b.mp4"
    width, height = 150, 130
    if recipe.crop is not None:
        inner, lines, left, top = recipe.crop
        assert left + inner <= width and top + lines <= height
        assert not any(value % 2 for value in recipe.crop)
        width, height = inner, lines
    if recipe.size is not None:
        assert recipe.size[0] < width and recipe.size[1] < height
        assert min(recipe.size) >= 64 and not any(value % 2 for value in recipe.size)
    shown = recipe.length or frames
    if recipe.cut is not None:
        assert 0 < recipe.cut < shown <= frames
    if recipe.speed > 1:
        shown = math.ceil(shown / recipe.speed)
    assert shown >= min(frames, 30)
    if recipe.fade is not None:
        assert 0 <= recipe.fade[1] < recipe.fade[1] + recipe.fade[2] <= shown


def test_every_kind_of_change_is_drawn() -> None:
    clip = entry("training/a.mp4", width=640, height=360, frames=150)
    others = [entry("training/b.mp4", scene=1)]
    texts = " ".join(
        draw_recipe(clip, others, n, min_frames=30, seed=0)[0].text() for n in range(1, 80)
    )
    for word in ("cut=", "crop=", "size=", "flip=h", "flip=v", "reverse", "speed=2", "speed=1/2",
                 "noise=", "fade=in", "fade=out"):  # fmt: skip
        assert word in texts, word


def test_recipe_text() -> None:
    recipe = Recipe(
        cut=20, length=60, crop=(80, 48, 8, 4), size=(40, 24), flip="hv", reverse=True,
        speed=Fraction(3, 2), noise=5, noise_seed=7, fade=("in", 0, 8),
    )  # fmt: skip
    assert recipe.text() == (
        "cut=20/60 crop=80x48+8+4 size=40x24 flip=hv reverse speed=3/2 noise=5:7 fade=in:0:8"
    )


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)


@settings(deadline=None)
@given(source=TEXT, detail=TEXT, frames=st.integers(0, 10**6))
def test_a_manifest_survives_its_file(
    tmp_path_factory: pytest.TempPathFactory, source: str, detail: str, frames: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "manifest.csv"
    lines = [
        entry("training/a b,c.mp4", source=source, frames=frames),
        Entry("", "training", source, "x", "", reason="broken", detail=detail),
    ]
    Manifest(lines).write(path)
    assert Manifest.read(path) == Manifest(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,split\na.mp4,training\n", "needs the columns file and source"),
        ("file,source,split\na.mp4,s,training\nb.mp4,s,validation\n", "s is on both sides"),
        ("file,source\na.mp4,s\na.mp4,s\n", "a.mp4 is there twice"),
        ("file,source\n../a.mp4,s\n", "is no file in the corpus"),
        ("file,source\n/a.mp4,s\n", "is no file in the corpus"),
        ("file,source,split\na.mp4,s,test\n", "not 'test'"),
        ("file,source,frames\na.mp4,s,many\n", "line 2: frames is 'many', not a number"),
        ("file,source,frames\na.mp4,s,²\n", "line 2: frames is '²', not a number"),
        ("file,source\n", "has no clip"),
        ("file,source\na.mp4,s\n", "a.mp4 is in the manifest and not there"),
        ("\x00", "manifest.csv"),
    ],
)
def test_bad_manifests_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "manifest.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        Corpus.open(tmp_path)


def test_a_manifest_decides_the_split_and_without_one_the_name_does(tmp_path: Path) -> None:
    # The rule that runs made before there were manifests go by, said another way.
    names = [f"source {n}" for n in range(200)]
    for name in names:
        share = int(hashlib.sha256(name.encode()).hexdigest()[:16], 16) / 16**16
        assert split_of(name) == ("validation" if share < 0.2 else "training")
    kept = next(name for name in names if split_of(name) == "validation")
    trained = next(name for name in names if split_of(name) == "training")
    for file in ("a.mp4", "b.mp4", "c.mp4"):
        (tmp_path / file).touch()
    rows = [["file", "source", "split"], ["a.mp4", kept, ""], ["b.mp4", trained, "validation"]]
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    corpus = Corpus.open(tmp_path)
    assert [clip.path.name for clip in corpus.validation()] == ["a.mp4", "b.mp4"]
    assert not corpus.training()  # c.mp4 is not in the manifest


def test_statistics_count_and_warn_of_what_is_on_both_sides() -> None:
    again = "nearly the same pictures as validation/b.mp4"
    lines = [
        entry("training/a.mp4"),
        entry("training/a-aug1.mp4", augmentation="reverse"),
        entry("validation/b.mp4", split="validation", source="t", origin="t.mp4", fps="50"),
        entry("training/u.mp4", source="u", origin="u.mp4"),
        Entry("", "training", "u", "u.mp4", "", reason="duplicate", detail=again),
        # Nothing is left of it that could be on another side.
        Entry("", "training", "copy", "copy.mp4", "", reason="duplicate", detail=again),
        Entry("", "validation", "t", "t2.mp4", "", reason="duplicate",
              detail="the same file as such as s.mp4"),
        entry("training/v.mp4", source="v", origin="such as s.mp4"),
        Entry("", "training", "s", "s2.mp4", "", reason="duplicate",
              detail="the same file as s.mp4"),
        Entry("", "training", "s", "s3.mp4", "", reason="broken", detail="damaged"),
    ]  # fmt: skip
    numbers = describe_corpus(Manifest(lines))
    assert numbers.sides["training"].clips == 4
    assert numbers.sides["training"].augmented == 1
    assert numbers.sides["training"].sources == 3
    assert numbers.sides["training"].seconds == pytest.approx(9.6)
    assert numbers.sides["validation"].seconds == pytest.approx(1.2)
    assert numbers.rejected == {"duplicate": 4, "broken": 1}
    assert numbers.alike == (("t", "u"), ("t", "v"))
