"""Which studies are made: balanced at any moment, each once, and only of what is trained on."""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from muzero_rc.corpus import Corpus, CorpusClip
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.errors import EncoderError, InputError
from muzero_rc.identity import build_identity
from muzero_rc.training.costs import CostLedger
from muzero_rc.training.log import RunLog
from muzero_rc.training.presets import PRESETS
from muzero_rc.training.stages.collect import CollectConfig, Draw
from muzero_rc.training.studies import Draws, Studies
from muzero_rc.training.study import Study


def _clips(sources: int, each: int = 1) -> list[CorpusClip]:
    return [
        CorpusClip(Path(f"{source}-{number}.mp4"), f"source {source}", "training")
        for source in range(sources)
        for number in range(each + source % 3)
    ]


@pytest.mark.parametrize("sources", [1, 7, 183])
def test_draws_are_balanced_whenever_they_end(sources: int) -> None:
    draws = Draws(_clips(sources), CollectConfig(), seed=5)
    made: list[Draw] = []
    speeds: Counter[int] = Counter()
    found: Counter[str] = Counter()
    heights: Counter[int] = Counter()
    for number in range(400):
        made.append(draws(number))
        speeds[made[-1].speed] += 1
        found[made[-1].clip.source] += 1
        heights[made[-1].height] += 1
        assert max(found.values()) - (min(found.values()) if len(found) == sources else 0) <= 1
        if number % 20 == 19 and sources == 183:
            assert max(speeds.values()) - min(speeds.values()) <= 4
            assert heights[360] * 10 == number + 1
    assert set(speeds) == {1, 2, 3, 5} and max(speeds.values()) < 1.2 * min(speeds.values())
    assert made == [Draws(_clips(sources), CollectConfig(), seed=5)(n) for n in range(400)]
    assert made != [Draws(_clips(sources), CollectConfig(), seed=6)(n) for n in range(400)]
    assert len({draw.seed for draw in made}) == 400


def test_a_source_meets_another_speed_and_another_clip_each_round() -> None:
    draws = Draws(_clips(12, each=4), CollectConfig(), seed=0)
    by_source: dict[str, list[Draw]] = {}
    for number in range(4 * 12):
        draw = draws(number)
        by_source.setdefault(draw.clip.source, []).append(draw)
    for found in by_source.values():
        assert sorted(draw.speed for draw in found) == [1, 2, 3, 5]
        assert len({draw.clip.path for draw in found}) == 4
    again = draws(3, attempt=1)
    assert (again.speed, again.clip.source) == (draws(3).speed, draws(3).clip.source)
    assert again.clip != draws(3).clip and again.seed != draws(3).seed


def _index(folder: Path, rows: list[str], clip: Path) -> None:
    (folder / "clips").mkdir(parents=True)
    (folder / "index.csv").write_text("\n".join(["file,set,group", *rows]) + "\n")
    for name in [*(row.split(",")[0] for row in rows), "unlisted.mp4"]:
        shutil.copy(clip, folder / "clips" / name)


def test_only_the_training_set_of_an_index_is_trained_on(
    tmp_path: Path, sample_clips: dict[str, Path]
) -> None:
    rows = [f"{kind}{n}.mp4,{kind},g{kind}{n}" for kind in ("train", "dev", "test") for n in "abc"]
    _index(tmp_path / "c", rows, sample_clips["bikes"])
    corpus = Corpus.open(tmp_path / "c")
    assert {clip.path.name for clip in corpus.training()} == {f"train{n}.mp4" for n in "abc"}
    assert {clip.path.name for clip in corpus.validation()} == {f"dev{n}.mp4" for n in "abc"}
    assert {clip.source for clip in corpus.training()} == {f"gtrain{n}" for n in "abc"}
    draws = Draws(corpus.training(), CollectConfig(), seed=1)
    assert {draws(number, a).clip.path.name[:5] for number in range(200) for a in range(3)} == {
        "train"
    }
    _index(tmp_path / "d", ["a.mp4,test,a"], sample_clips["bikes"])
    with pytest.raises(InputError, match="no clip of the set train or dev"):
        Corpus.open(tmp_path / "d")


def _fake(made: list[Draw], fails: Callable[[Draw], bool]) -> Callable[..., Study | None]:
    def run(draw: Draw, base: object, config: object, on_encode: object) -> Study | None:
        made.append(draw)
        if fails(draw):
            if draw.seed[-1]:
                raise EncoderError("libvpx failed")
            return None
        return Study(
            draw.clip.path.name, draw.clip.source, "training", (144, 0, 70), (1, 1, 25, 1),
            EncoderSettings(target_kbps=100, speed=draw.speed), np.zeros((70, 25)), 4.0, [],
            draw.number,
        )  # fmt: skip

    return run


def _make(folder: Path, studies: int) -> list[Study]:
    config = dataclasses.replace(PRESETS["laptop"], studies=studies, jobs=2)
    costs = CostLedger(folder / "costs.json")
    (folder / "studies").mkdir(exist_ok=True)
    with costs.stage("collect") as meter, RunLog(folder, quiet=True) as log:
        return Studies(folder / "studies", config, _clips(5), log, meter).get()


def test_a_collection_goes_on_with_what_is_missing_and_makes_nothing_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Draw] = []
    monkeypatch.setattr("muzero_rc.training.studies.run_study", _fake(made, lambda draw: False))
    first = _make(tmp_path, 6)
    assert [study.number for study in first] == list(range(6))
    assert {study.identity for study in first} == {build_identity()}
    (tmp_path / "studies" / "000002.npz").unlink()  # was running when the run was killed
    (tmp_path / "studies" / ".000002.npz.x.tmp").touch()
    made.clear()
    assert [study.number for study in _make(tmp_path, 9)] == list(range(9))
    assert sorted(draw.number for draw in made) == [2, 6, 7, 8]
    made.clear()
    assert len(_make(tmp_path, 9)) == 9 and not made


def test_a_draw_without_use_is_tried_otherwise_and_then_left_out_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Draw] = []
    useless = _fake(made, lambda draw: draw.number == 1 or (draw.number, draw.seed[-1]) == (3, 0))
    monkeypatch.setattr("muzero_rc.training.studies.run_study", useless)
    assert [study.number for study in _make(tmp_path, 4)] == [0, 2, 3, 4]
    attempts = Counter(draw.number for draw in made)
    assert attempts[1] == 3 and attempts[3] == 2 and attempts[0] == 1
    assert len({draw.seed for draw in made}) == len(made)
    made.clear()
    _make(tmp_path, 5)
    assert {draw.number for draw in made} == {5}, "it is not tried again"
