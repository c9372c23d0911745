"""Presets: what they fit to a machine, and that the large ones run on a small one."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from muzero_rc.cli.ablate import AblateArgs
from muzero_rc.cli.main import _parse
from muzero_rc.cli.train import TrainArgs, rewrite
from muzero_rc.errors import InputError
from muzero_rc.training.command import train_command
from muzero_rc.training.config import TrainConfig
from muzero_rc.training.costs import CostLedger
from muzero_rc.training.presets import PRESET_NEEDS, PRESETS, apply_settings, configure

DOCS = Path(__file__).resolve().parents[2] / "docs" / "guide" / "train.md"


def _parsed(command: str) -> TrainConfig:
    """What `muzero-rc train` makes of a command."""
    words = shlex.split(command)
    assert words[:2] == ["muzero-rc", "train"]
    args = _parse(TrainArgs, "train", rewrite(words[2:]))
    return configure(
        args.preset, studies=args.studies, imitation_updates=args.updates,
        episodes=args.episodes, frames=args.frames, settings=args.set, seed=args.seed,
        cores=10**6,
    )  # fmt: skip


def test_every_preset_can_be_asked_for() -> None:
    for arguments in (TrainArgs, AblateArgs):
        assert list(get_args(get_type_hints(arguments)["preset"])) == list(PRESETS)
    assert list(PRESET_NEEDS) == list(PRESETS)


def test_no_more_processes_than_cores_unless_asked_for() -> None:
    for cores, jobs, actors in ((1, 1, 1), (2, 2, 1), (8, 8, 7), (16, 16, 14), (64, 16, 14)):
        config = configure("workstation", cores=cores)
        assert (config.jobs, config.self_play.actors) == (jobs, actors)
    asked = configure("workstation", cores=2, settings=["self_play.actors=5"])
    assert asked.self_play.actors == 5
    assert configure("tiny", cores=2).self_play.actors == 0, "plays in turns, on any machine"


def test_the_cluster_is_the_workstation_over_all_devices() -> None:
    here, there = (configure(name).as_dict() for name in ("workstation", "cluster"))
    assert there["agent"]["optimizer"].pop("devices") == 0
    assert here["agent"]["optimizer"].pop("devices") == 1
    assert here == there


@pytest.mark.parametrize("preset", list(PRESETS))
def test_a_command_gives_its_configuration_back(preset: str) -> None:
    config = configure(
        preset, studies=7, imitation_updates=900, episodes=31, frames=5000, seed=3, cores=10**6,
        settings=["collect.heights=[144]", "network.representation=hip", "search.simulations=5"],
    )  # fmt: skip
    assert _parsed(train_command(config)) == config
    plain = configure(preset, cores=10**6)
    assert train_command(plain) == f"muzero-rc train --corpus CORPUS --out RUN --preset {preset}"


def test_a_configuration_of_an_older_run_is_read() -> None:
    """Its section collect is called explore."""
    config = apply_settings(PRESETS["laptop"], ["collect.heights=[96]", "collect.passes=2"])
    old = config.as_dict()
    old["explore"] = old.pop("collect")
    assert TrainConfig.from_dict(json.loads(json.dumps(old))) == config
    del old["explore"]
    with pytest.raises(InputError, match="of another version"):
        TrainConfig.from_dict(old)


def test_a_rate_that_falls_at_another_pace_is_part_of_the_command() -> None:
    config = configure("laptop", settings=["optimizer.decay_steps=777"], cores=10**6)
    assert "--optimizer.decay_steps 777" in train_command(config)
    assert _parsed(train_command(config)) == config


def test_the_table_of_presets_says_what_they_are() -> None:
    lines = DOCS.read_text().splitlines()
    rows = {
        cells[0].strip(" `"): [cell.strip() for cell in cells[1:]]
        for line in lines
        if line.startswith("| ")
        for cells in [line.strip("|").split("|")]
    }
    for index, (name, config) in enumerate(PRESETS.items()):
        play, search = config.self_play, config.agent.search
        for row, value in (
            ("made for", PRESET_NEEDS[name]),
            ("studies", f"{config.studies:,}"),
            ("updates of imitation", f"{config.imitation_updates:,}"),
            ("episodes of self-play", f"{play.episodes:,}"),
            ("processes of self-play", f"{play.actors}"),
            ("encodes in each", f"{play.sessions}"),
            ("simulations", f"{search.simulations}"),
            ("batch", f"{config.agent.replay.batch_size}"),
            ("width, latents, blocks", _size(config)),
            ("lines", _shares(config.collect.heights)),
            ("frames", f"{config.collect.min_frames} to {config.collect.max_frames}"),
            ("speeds", ", ".join(map(str, config.collect.speeds))),
        ):
            assert rows[row][index] == value, (name, row)


def _shares(heights: Sequence[int]) -> str:
    """Heights, each with how often it is named if that is more than once."""
    counts = Counter(heights).items()
    return ", ".join(f"{height}{f' (x{count})' if count > 1 else ''}" for height, count in counts)


def _size(config: TrainConfig) -> str:
    network = config.agent.network
    return f"{network.width}, {network.latents}, {network.self_attends}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "devices"),
    [("competition", 1), ("paper", 1), ("workstation", 1), ("cluster", 4)],
)
def test_large_presets_run_on_a_small_machine(
    preset: str, devices: int, sample_clips: dict[str, Path], tmp_path: Path
) -> None:
    """The preset's own networks and processes; counts and sizes by the ordinary options."""
    corpus, out = tmp_path / "corpus", tmp_path / "run"
    corpus.mkdir()
    shutil.copy(sample_clips["bikes"], corpus / "bikes.mp4")
    (corpus / "index.csv").write_text("file,group\nbikes.mp4,street\n")
    words = [
        "--studies", "2", "--updates", "2", "--episodes", "3", "--collect.heights", "[96]",
        "--collect.min_frames", "30", "--collect.max_frames", "30", "--collect.speeds", "[5]",
        "--collect.pairs", "1", "--replay.batch_size", "8", "--self_play.sessions", "1",
        "--search.simulations", "2",
    ]  # fmt: skip
    flags = f"--xla_force_host_platform_device_count={devices}"
    done = subprocess.run(
        [
            sys.executable, "-m", "muzero_rc.cli.main", "train", "--corpus", str(corpus),
            "--out", str(out), "--preset", preset, *words,
        ],
        capture_output=True, text=True, timeout=600, env={**os.environ, "XLA_FLAGS": flags},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith(f"preset {preset} ")]
    assert len(said) == 1 and PRESET_NEEDS[preset] in said[0]
    assert f"cpu devices {devices} (sharing each batch: {devices})" in said[0]
    config = TrainConfig.from_dict(json.loads((out / "config.json").read_text())["config"])
    assert config.agent.network == PRESETS[preset].agent.network
    assert config.self_play.actors >= 1
    costs = CostLedger(out / "costs.json").stages()
    assert costs["self-play"].encodes >= 3
    assert costs["self-play"].updates == 3 * config.self_play.updates_per_episode
    assert (out / "policy.npz").is_file()
