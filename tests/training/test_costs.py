"""The ledger of what stages cost: it adds up over starts, threads, processes and kills."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from muzero_rc.errors import CheckpointError
from muzero_rc.training.costs import COST_COLUMNS, CostLedger, StageCost, cost_rows, gpus_in_use

_BURN = "import time\nbegun = time.process_time()\nwhile time.process_time() - begun < 0.4: pass"


def test_a_stage_adds_up_over_starts(tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    for _ in range(2):
        with CostLedger(path).stage("collect") as meter, ThreadPoolExecutor(4) as pool:
            list(pool.map(meter.encoded, [3] * 500))
            time.sleep(0.05)
    with CostLedger(path).stage("imitate") as meter:
        meter.updated(25)
        meter.updated()
    stages = CostLedger(path).stages()
    assert list(stages) == ["collect", "imitate"]
    assert (stages["collect"].encodes, stages["collect"].encoder_frames) == (1000, 3000)
    assert stages["collect"].wall_minutes >= 2 * 0.05 / 60
    assert stages["imitate"].updates == 26
    assert not list(tmp_path.glob("*.tmp"))


def test_what_was_spent_counts_however_a_stage_ends(tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    with pytest.raises(RuntimeError), CostLedger(path).stage("collect") as meter:
        meter.encoded(7)
        raise RuntimeError
    assert CostLedger(path).stages()["collect"].encoder_frames == 7
    ledger = CostLedger(path)
    with ledger.stage("collect") as meter:
        meter.encoded(5)
        meter.save()  # and a kill here
        assert CostLedger(path).stages()["collect"].encoder_frames == 12
        assert ledger.stages()["collect"].encoder_frames == 12
        meter.encoded(1)
    assert CostLedger(path).stages()["collect"].encodes == 3


def test_children_count_while_they_live_and_after(tmp_path: Path) -> None:
    ledger = CostLedger(tmp_path / "costs.json")
    with ledger.stage("self-play") as meter:
        code = f"{_BURN}\nprint('burnt', flush=True)\ninput()"
        with subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as child:
            assert child.stdout is not None and child.stdout.readline() == b"burnt\n"
            alive = meter.cost().core_hours * 3600
            child.communicate(b"\n", timeout=30)
        ended = meter.cost().core_hours * 3600
    assert 0.35 < alive <= ended + 0.02  # clock ticks
    assert ended < 10


def test_gpus_count_by_the_stage_s_wall_time(tmp_path: Path) -> None:
    ledger = CostLedger(tmp_path / "costs.json")
    with ledger.stage("imitate", gpus=3):
        time.sleep(0.05)
    cost = ledger.stages()["imitate"]
    assert cost.gpu_minutes == pytest.approx(3 * cost.wall_minutes)
    assert gpus_in_use(1) == gpus_in_use(0) == 0  # tests run on the CPU


def test_older_records_call_the_stage_collect_explore(tmp_path: Path) -> None:
    cost = StageCost(10, 1500, 0, 2.0, 30.0, 0.0)
    path = tmp_path / "costs.json"
    stages = {"explore": cost.as_dict(), "imitate": StageCost().as_dict()}
    path.write_text(json.dumps({"format": "muzero_rc stage costs", "stages": stages}))
    assert CostLedger(path).stages() == {"collect": cost, "imitate": StageCost()}


def test_rows_end_with_the_sum() -> None:
    stages = {
        "collect": StageCost(10, 1500, 0, 2.0, 30.0, 0.0),
        "imitate": StageCost(0, 0, 60, 0.5, 6.25, 6.25),
    }
    rows = cost_rows(stages)
    assert all(len(row) == len(COST_COLUMNS) for row in rows)
    assert rows[-1] == ("all", "10", "1,500", "60", "9,000.0", "36.2", "6.2")


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", '{"format": "something else", "stages": {}}',
        json.dumps({"format": "muzero_rc stage costs", "stages": {"collect": {"encodes": 1}}}),
        json.dumps(
            {
                "format": "muzero_rc stage costs",
                "stages": {"collect": StageCost().as_dict() | {"core_hours": -1.0}},
            }
        ),
    ],
)  # fmt: skip
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "costs.json"
    path.write_text(text)
    with pytest.raises(CheckpointError, match=r"costs\.json is damaged: .*; remove it to go on"):
        CostLedger(path)
