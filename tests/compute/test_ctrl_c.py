"""Ctrl-C and SIGTERM: no traceback, no orphans, a quick end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

SCRIPT = """
    import signal
    import sys
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    import handlers
    from fake_cluster import FakeCluster
    from muzero_rc.compute import ProcessScheduler, ThreadScheduler
    from muzero_rc.signals import Stopped, raising_signals

    if __name__ == "__main__":
        try:
            with raising_signals((signal.SIGTERM,)), {backend}(3) as scheduler:
                group = scheduler.start_actors(handlers.echo, 1, initial=0)
                group.receive(60)
                list(scheduler.map(handlers.endless, [Path({notes!r})] * 5))
        except KeyboardInterrupt:
            sys.exit(77)
        except Stopped:
            sys.exit(78)
"""


@pytest.mark.parametrize("backend", ["ProcessScheduler", "ThreadScheduler", "FakeCluster"])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 77), (signal.SIGTERM, 78)])
def test_a_signal_ends_all(
    backend: str, number: signal.Signals, status: int, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    script = tmp_path / "script.py"
    folder = str(Path(__file__).parent)
    text = textwrap.dedent(SCRIPT)
    script.write_text(text.format(tests=folder, backend=backend, notes=str(notes)))
    process = subprocess.Popen(
        [sys.executable, str(script)], start_new_session=True, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 120
    while len(list(notes.iterdir())) < 2:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    below = psutil.Process(process.pid).children(recursive=True)
    if backend != "ThreadScheduler":
        assert len(below) >= 3, "two tasks and an actor"
    if backend == "ProcessScheduler":
        for worker in below:
            worker.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert all(worker.is_running() for worker in below), "Ctrl-C is the parent's matter"
    begin = time.monotonic()
    if number == signal.SIGINT:  # as the terminal does it: to the whole group, workers included
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert time.monotonic() - begin < 5
    assert process.returncode == status
    assert b"Traceback" not in stderr and b"leaked" not in stderr, stderr.decode()
    _, living = psutil.wait_procs(below, timeout=10)
    assert not living, "no orphans"
