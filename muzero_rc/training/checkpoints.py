"""The checkpoint of self-play: a folder that is replaced as a whole."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from muzero_rc.agents.config import AgentConfig
from muzero_rc.agents.muzero.learner import Learner
from muzero_rc.agents.muzero.replay import Replay
from muzero_rc.checkpoint import read_arrays, write_arrays
from muzero_rc.errors import CheckpointError, OutputError
from muzero_rc.output_files import write_text
from muzero_rc.training.scorer import Scorer

__all__ = ["Counters", "restore", "save", "write_json"]


@dataclass
class Counters:
    """Of self-play.

    Attributes:
      episodes: scored so far.
      frames: coded in them.
      updates: of the learner in this stage.
      seconds: spent in this stage.
      crashes: actors that had to be started again.
      owed: updates that the episodes so far still ask for.
    """

    episodes: int = 0
    frames: int = 0
    updates: int = 0
    seconds: float = 0.0
    crashes: int = 0
    owed: float = 0.0


def save(
    folder: Path, learner: Learner, replay: Replay, scorer: Scorer, counters: Counters
) -> None:
    """Writes a whole checkpoint beside the last one, then takes its place.

    Raises:
      OutputError: it cannot be written; the last one is still there.
    """
    final, fresh, old = (folder / n for n in ("checkpoint", "checkpoint.new", "checkpoint.old"))
    try:
        for leftover in (fresh, old):
            shutil.rmtree(leftover, ignore_errors=True)
        fresh.mkdir()
        learner.save(fresh / "learner.npz")
        replay.save(fresh / "replay.npz")
        if scorer.opponent is not None:
            tree = {"params": jax.device_get(scorer.opponent)}
            write_arrays(fresh / "opponent.npz", tree)
        state = {"counters": vars(counters), "reward": scorer.reward.state_dict()}
        write_json(fresh / "state.json", state)
        if final.exists():
            os.rename(final, old)
        os.rename(fresh, final)
        shutil.rmtree(old, ignore_errors=True)
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write {fresh}: {error.strerror}; make room") from error


def restore(
    folder: Path, config: AgentConfig, learner: Learner, replay: Replay, scorer: Scorer
) -> tuple[Learner, Counters]:
    """Goes on from the last checkpoint, if there is one.

    Returns:
      The learner to go on with and the counters.

    Raises:
      CheckpointError: it is damaged, or of other networks.
    """
    final = folder / "checkpoint"
    if not final.exists() and (folder / "checkpoint.old").exists():
        os.rename(folder / "checkpoint.old", final)  # killed between two renames
    if not final.exists():
        return learner, Counters()
    try:
        state = json.loads((final / "state.json").read_text())
        counters = Counters(**state["counters"])
        memory = state["reward"]
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise CheckpointError(f"{final} is damaged: {error}; remove it to go on") from error
    scorer.reward.load_state_dict(memory)
    replay.load(final / "replay.npz")
    if (final / "opponent.npz").exists():
        scorer.opponent = read_arrays(final / "opponent.npz")[0]["params"]
    restored, _ = Learner.load(final / "learner.npz", config)
    return restored, counters


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Writes JSON, atomically.

    Raises:
      OutputError: it cannot be written.
    """
    write_text(path, json.dumps(value, indent=1))
