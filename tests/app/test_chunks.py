"""Films in chunks: the same bytes whoever works and wherever it was stopped."""

from __future__ import annotations

import dataclasses
import os
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from muzero_rc.compute import ThreadScheduler
from muzero_rc.encode import chunk_jobs, chunked, film_phases
from muzero_rc.encode import cut as cut_module
from muzero_rc.encode.chunk_jobs import LastPass, LastPassTask, Probe, ProbeTask
from muzero_rc.encode.chunk_store import ChunkFiles, ChunkStore, remove_left
from muzero_rc.encode.chunked import encode_chunks, in_chunks, most_in_memory
from muzero_rc.encode.cut import LEAST_FRAMES, Chunk
from muzero_rc.encode.encoded import Encoded
from muzero_rc.encode.film_phases import FilmPhases
from muzero_rc.encode.share import FilmBudget
from muzero_rc.env.codec.backend import LibvpxBackend
from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import FirstPass, first_pass
from muzero_rc.env.control.recipe import DEFAULT_RECIPE
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.env.passes.probe import run_probes
from muzero_rc.errors import EncoderError, OutputError
from muzero_rc.policies.registry import make_policy
from muzero_rc.types import EncodeLog, Policy, QindexPolicy

POLICY = make_policy("landed")
# Key frames every 22 frames, so that there are three chunks.
SETTINGS = EncoderSettings(target_kbps=50, speed=5, kf_max_dist=22)
FAST = SETTINGS.replace(passes=3, speed_profile="hierarchical")
CHUNKS, FRAMES, LENGTH = 3, 66, 22


def shorten_chunks(patch: pytest.MonkeyPatch) -> None:
    """Chunks of 20 frames and more, of films above 40."""
    patch.setattr(cut_module, "WHOLE_FRAMES", 40)
    patch.setattr(cut_module, "LEAST_FRAMES", 20)


@pytest.fixture(autouse=True)
def _short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_chunks(monkeypatch)


def three_scenes(sample_clips: dict[str, Path]) -> Clip:
    """40x32, 66 frames: the left of three clips one after the other."""
    frames = []
    for name in ("bikes", "carphone_pristine", "bigbuckbunny"):
        clip = Clip.load(sample_clips[name], height=32, max_frames=LENGTH)
        luma = clip.width * 32
        for index in range(LENGTH):
            frame = clip.frame(index)
            planes = [frame[:luma].reshape(32, -1)[:, :40]]
            planes += [half[:, :20] for half in frame[luma:].reshape(2, 16, -1)]
            frames.append(np.concatenate([plane.ravel() for plane in planes]))
    return Clip.from_frames(np.stack(frames), 40, 32, 25)


@pytest.fixture(scope="module")
def film(sample_clips: dict[str, Path]) -> Clip:
    return three_scenes(sample_clips)


@pytest.fixture(scope="module")
def statistics(film: Clip) -> FirstPass:
    return first_pass(film, FAST, cache=False)


def run(
    film: Clip, statistics: FirstPass, folder: Path, *, workers: int = 2,
    settings: EncoderSettings = FAST, policy: Policy = POLICY, **options: Any,
) -> tuple[Encoded, bytes]:  # fmt: skip
    folder.mkdir(exist_ok=True)
    done = encode_chunks(
        film, settings, policy, statistics, ChunkFiles(folder), folder / "film.ivf",
        workers=workers, memory_bytes=10**8, **options,
    )  # fmt: skip
    return done, (folder / "film.ivf").read_bytes()


@pytest.fixture(scope="module")
def undisturbed(
    film: Clip, statistics: FirstPass, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Encoded, bytes]:
    with pytest.MonkeyPatch.context() as patch:
        shorten_chunks(patch)
        return run(film, statistics, tmp_path_factory.mktemp("undisturbed"), workers=1)


def test_the_film_is_whole_and_on_target(undisturbed: tuple[Encoded, bytes]) -> None:
    done, ivf = undisturbed
    assert done.chunks == CHUNKS
    assert done.score.shown_frames == FRAMES == int.from_bytes(ivf[24:28], "little")
    assert abs(done.score.overshoot) <= 0.005
    assert len(done.results) == len(done.qindexes) + sum(r.qindex < 0 for r in done.results)
    assert [r.show_index for r in done.results if r.shown] == [*range(LENGTH)] * CHUNKS


def test_bytes_do_not_depend_on_the_number_of_workers(
    film: Clip, statistics: FirstPass, undisturbed: tuple[Encoded, bytes], tmp_path: Path
) -> None:
    assert run(film, statistics, tmp_path, workers=4)[1] == undisturbed[1]


@pytest.mark.parametrize("stop_at", [30, 100])
def test_it_goes_on_where_it_was_stopped(
    film: Clip, statistics: FirstPass, undisturbed: tuple[Encoded, bytes], tmp_path: Path,
    stop_at: int,
) -> None:  # fmt: skip
    told = 0

    def stop(phase: str, frames: int, kept: bool, weight: float) -> None:
        nonlocal told
        told += frames
        if told >= stop_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(film, statistics, tmp_path, on_frames=stop)
    seen: list[tuple[str, int, bool, float]] = []
    again = run(film, statistics, tmp_path, on_frames=lambda *told: seen.append(told))
    assert again[1] == undisturbed[1]
    new = [frames for _, frames, kept, _ in seen if not kept]
    # Two workers: no more than the two chunks in work were lost.
    whole: list[int] = []
    run(film, statistics, tmp_path / "whole", on_frames=lambda *told: whole.append(told[1]))
    assert sum(new) <= sum(whole) - stop_at + 2 * LENGTH


def test_kept_chunks_weigh_what_they_weighed(
    film: Clip, statistics: FirstPass, tmp_path: Path
) -> None:
    def weights(seen: list[tuple[str, int, bool, float]]) -> set[float]:
        return {weight for phase, _, _, weight in seen if phase == "second pass"}

    seen: list[tuple[str, int, bool, float]] = []
    chances: list[float] = []
    run(
        film, statistics, tmp_path,
        on_frames=lambda *told: seen.append(told), on_chance=lambda _, c: chances.append(c),
    )  # fmt: skip
    assert len(weights(seen)) >= CHUNKS  # those that are made again may weigh more
    assert 0 < chances[0] < 1 and chances[-1] in (0, 1)
    again: list[tuple[str, int, bool, float]] = []
    for path in tmp_path.glob("*.ivf"):
        path.unlink()
    run(film, statistics, tmp_path, on_frames=lambda *told: again.append(told))
    # CPU time of the probe encodes is kept with them.
    assert weights(again) == weights(seen)
    assert all(kept for phase, _, kept, _ in again if phase == "probe")


def test_a_damaged_chunk_is_made_again(
    film: Clip, statistics: FirstPass, undisturbed: tuple[Encoded, bytes], tmp_path: Path
) -> None:
    run(film, statistics, tmp_path)
    (tmp_path / "00001.probe.npz").write_bytes(b"no such thing")
    (tmp_path / "00002.0.ivf").write_bytes(b"cut short")
    (tmp_path / "00000.0.npz").unlink()
    seen: list[tuple[str, int, bool, float]] = []
    again = run(film, statistics, tmp_path, on_frames=lambda *told: seen.append(told))
    assert again[1] == undisturbed[1]
    assert sum(frames for _, frames, kept, _ in seen if not kept) == 3 * LENGTH


def test_damage_of_any_byte_is_told(film: Clip, statistics: FirstPass, tmp_path: Path) -> None:
    files = ChunkFiles(tmp_path)
    log = run_probes(film, FAST, statistics)
    files.add_probe(0, log)
    files.add_realtime_probe(0, {"level": 40.5})
    files.add_try(0, [{"asked_kbps": 123.5}])
    readers = {
        "00000.probe.npz": lambda: files.probe(0),
        "00000.rt.json": lambda: files.realtime_probe(0),
        "tries.json": lambda: files.tries() or None,
    }
    for name, read in readers.items():
        good = (tmp_path / name).read_bytes()
        assert read() is not None
        # zlib, zipfile and JSON answer in many ways, or not at all, as with another digit.
        for at in {*range(0, len(good), 1 + len(good) // 99), *range(min(len(good), 32))}:
            flipped = bytes([good[at] ^ 1])
            for bad in (good[:at] + flipped + good[at + 1 :], good[:at]):
                (tmp_path / name).write_bytes(bad)
                assert read() is None, (name, at)


@pytest.mark.parametrize("ahead", [True, False])
def test_no_more_chunks_are_in_memory_than_stated(
    film: Clip,
    statistics: FirstPass,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    undisturbed: tuple[Encoded, bytes],
    ahead: bool,
) -> None:
    alive: weakref.WeakSet[Clip] = weakref.WeakSet()
    most: list[int] = []
    phases: list[int] = []
    parts = Clip.parts

    def counted(self: Clip, lengths: Sequence[int], wanted: Sequence[int]) -> Iterator[Clip]:
        phases.append(len(wanted))
        for clip in parts(self, lengths, wanted):
            alive.add(clip)
            most.append(len(alive))
            yield clip
            del clip

    monkeypatch.setattr(Clip, "parts", counted)
    chunk_bytes = LENGTH * film.frame_bytes
    monkeypatch.setattr(chunked, "READ_AHEAD_BYTES", (3 if ahead else 2) * chunk_bytes)
    done, stream = run(film, statistics, tmp_path, workers=2)
    assert stream == undisturbed[1]
    # For probes, for last passes, and once for each turn in which chunks are made again.
    assert phases[:2] == [CHUNKS, CHUNKS] and sum(phases[2:]) == done.chunks_again
    assert len(most) == sum(phases)
    assert max(most) == (3 if ahead else 2)


def test_memory_bounds_the_workers() -> None:
    assert most_in_memory(2, 100, 1000) == (2, 3)
    assert most_in_memory(16, 100, 450) == (3, 4)
    assert most_in_memory(16, 100, 99) == (1, 2)


def test_nothing_is_read_ahead_where_chunks_are_large() -> None:
    frame_bytes = 1920 * 1080 * 3 // 2
    longest = LEAST_FRAMES - 1 + 128  # libvpx's largest distance between key frames
    workers, chunks = most_in_memory(2, longest * frame_bytes, 8_000_000_000)
    assert workers == 2 and chunks * longest * frame_bytes < 1_500_000_000
    assert most_in_memory(2, longest * 854 * 480 * 3 // 2, 8_000_000_000) == (2, 3)


def test_a_film_off_its_target_has_chunks_made_again(
    film: Clip, statistics: FirstPass, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = FilmBudget.share

    def wrong(self: FilmBudget, index: int, asked: Any, taken: Any) -> float:
        return share(self, index, asked, taken) * (0.85 if index == CHUNKS - 1 else 1.0)

    monkeypatch.setattr(FilmBudget, "share", wrong)
    done, ivf = run(film, statistics, tmp_path)
    assert 1 <= done.chunks_again < CHUNKS
    assert abs(done.score.overshoot) <= 0.005
    # What was made again is found again.
    monkeypatch.setattr(film_phases, "LastPass", None)
    monkeypatch.setattr(FilmPhases, "_handle", lambda self: None)
    assert run(film, statistics, tmp_path)[1] == ivf


def test_other_chunks_pay_for_one_that_takes_more_the_less_it_is_asked_for(
    film: Clip, statistics: FirstPass, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last_pass = FilmPhases._last_pass

    def unruly(self: Any, chunk: Any, clip: Any, turn: int, bits: float) -> Any:
        task = last_pass(self, chunk, clip, turn, bits)
        if chunk.index != 1:
            return task
        kbps = task.settings.budget_kbps * (1.4 if turn else 1.15)
        return dataclasses.replace(task, settings=task.settings.replace(budget_kbps=kbps))

    monkeypatch.setattr(FilmPhases, "_last_pass", unruly)
    done, _ = run(film, statistics, tmp_path)
    assert abs(done.score.overshoot) <= 0.005


@pytest.mark.parametrize("speed", [5, 1])
def test_a_chunk_made_again_runs_no_probe_encode_anew(
    film: Clip,
    statistics: FirstPass,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    speed: int,
) -> None:
    ran = []

    def counted(*args: Any, **options: Any) -> EncodeLog:
        ran.append(options["first"])
        return run_probes(*args, **options)

    monkeypatch.setattr(chunk_jobs, "run_probes", counted)
    files, backend = ChunkFiles(tmp_path), LibvpxBackend()
    chunk = Chunk(0, 0, LENGTH)
    part = next(film.parts([LENGTH, FRAMES - LENGTH]))
    stats = statistics.part(0, LENGTH)
    # The probe encode is far above what is asked for, so there is another one.
    settings = FAST.replace(target_kbps=400, speed=speed)
    probe = Probe(files, settings.frame_budget(film.fps), backend, DEFAULT_RECIPE)
    probe(ProbeTask(chunk, part, stats, settings))
    handle = LastPass(POLICY, files, backend, DEFAULT_RECIPE)
    streams = []
    for turn, kbps in enumerate((30.0, 30.0, 31.0)):
        asked = settings.replace(budget_kbps=kbps)
        handle(LastPassTask(chunk, part, stats, asked, turn, kbps * 880.0))
        streams.append(files.stream(0, turn).read_bytes())
    assert len(ran) == 1
    assert streams[0] == streams[1] != streams[2]
    handle(LastPassTask(chunk, part, stats, settings.replace(budget_kbps=400.0), 3, 352_000.0))
    assert len(ran) == 2  # what is kept is far from that


class Failing(QindexPolicy):
    """Fails at the first decision."""

    name = "failing"

    def qindexes(self, observations: Any) -> Any:
        raise EncoderError("no more")


def test_an_error_in_a_chunk_is_told(film: Clip, statistics: FirstPass, tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="no more"):
        encode_chunks(
            film, FAST, Failing(), statistics, ChunkFiles(tmp_path), tmp_path / "film.ivf",
            workers=2, memory_bytes=10**8,
        )  # fmt: skip
    assert len(list(tmp_path.glob("*.probe.npz"))) == CHUNKS


def test_only_policies_that_probe_and_look_at_no_film_go_in_chunks() -> None:
    two, unsaid = SETTINGS.replace(passes=2), SETTINGS
    assert in_chunks(make_policy("landed"), unsaid)
    for name in ("landed", "planned"):
        assert in_chunks(make_policy(name), two)
        assert not in_chunks(make_policy(name), two.replace(speed_profile="probe"))
    for name in ("vbr", "proposal", "hierarchical", "cq", "constant", "hindsight"):
        assert not in_chunks(make_policy(name), FAST)
    assert in_chunks(make_policy("constant:90"), FAST)
    assert not in_chunks(make_policy("constant:90"), unsaid)


def test_one_encode_at_a_time_has_the_folder(tmp_path: Path) -> None:
    with ChunkStore(tmp_path / "out.webm", "one") as store:
        (store.folder / "00000.0.ivf.new").write_bytes(b"in work")
        with (
            pytest.raises(OutputError, match="is running"),
            ChunkStore(tmp_path / "out.webm", "one"),
        ):
            pass
    assert os.listdir(tmp_path) == [".out.webm.one.muzero-rc"]
    with ChunkStore(tmp_path / "out.webm", "one") as store:
        assert os.listdir(store.folder) == []


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    store = ChunkStore(tmp_path / "out.webm", "one")
    store.folder.write_text("a file in its place")
    with pytest.raises(OutputError, match=r"cannot work in .*\.out\.webm\.one.*remove it"), store:
        pass
    assert store.folder.read_text() == "a file in its place"


def test_chunks_of_long_names_that_begin_alike_stay(tmp_path: Path) -> None:
    one, two = (tmp_path / f"{'ä' * 120}, part {part}.webm" for part in (1, 2))
    for path in (one, two):
        with ChunkStore(path, OLD) as store:
            (store.folder / "00000.probe.npz").touch()
    remove_left(one)
    (left,) = tmp_path.iterdir()
    assert left == ChunkStore(two, OLD).folder


OLD, BUSY, NEW = (letter * 16 for letter in "abc")


def test_folders_go_when_the_file_is_done(tmp_path: Path) -> None:
    out = tmp_path / "[a] out.webm"
    others = [tmp_path / "[a] other.webm", tmp_path / "[a] out.webm.again.webm"]
    (tmp_path / ".[a] out.webm.else.muzero-rc").mkdir()
    for path in (out, *others):
        with ChunkStore(path, OLD) as store:
            (store.folder / "00000.probe.npz").touch()
    with ChunkStore(out, BUSY):
        with ChunkStore(out, NEW) as store:
            (store.folder / "00000.probe.npz").touch()
            store.remove()
            remove_left(out)
        left = sorted(os.listdir(tmp_path))
    assert left == [
        f".[a] other.webm.{OLD}.muzero-rc",
        f".[a] out.webm.again.webm.{OLD}.muzero-rc",
        f".[a] out.webm.{BUSY}.muzero-rc",
        ".[a] out.webm.else.muzero-rc",
    ]
    assert len(os.listdir(tmp_path)) == 3, "an empty folder stayed"


def test_tasks_and_handlers_can_travel(film: Clip, statistics: FirstPass) -> None:
    import pickle

    from muzero_rc.encode.chunk_jobs import LastPass, ProbeTask
    from muzero_rc.env.codec.backend import LibvpxBackend
    from muzero_rc.env.control.recipe import DEFAULT_RECIPE

    chunk = cut_module.Chunk(0, 0, LENGTH)
    part = next(film.parts([LENGTH] * CHUNKS))
    task = ProbeTask(chunk, part, statistics.part(0, LENGTH), FAST)
    there = pickle.loads(pickle.dumps(task))
    assert there.clip.sha256 == part.sha256 and there.clip.num_frames == LENGTH
    handle = LastPass(make_policy("landed"), ChunkFiles(Path("x")), LibvpxBackend(), DEFAULT_RECIPE)
    assert dataclasses.asdict(pickle.loads(pickle.dumps(handle)))["files"] is not None


def test_threads_are_what_chunks_run_in() -> None:
    assert encode_chunks.__kwdefaults__["compute"] is ThreadScheduler
