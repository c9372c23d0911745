"""kill -9, after which this process can end nothing any more: what it started ends as well."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

MUXING = "tools.Child(tools.ffmpeg_command() + ['-i', str(path), '-f', 'null', '-']).run()"
IN_A_WORKER = "next(ProcessScheduler(1).map(tools.ffprobe, [path]))"
SCRIPT = """
    import sys
    from pathlib import Path
    from muzero_rc.compute import ProcessScheduler
    from muzero_rc.video import streams, tools

    if __name__ == "__main__":
        path = Path(sys.argv[1])
        {work}
"""


def until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


@pytest.mark.parametrize(
    ("work", "program"),
    [
        (MUXING, "ffmpeg"),
        ("tools.ffprobe(path)", "ffprobe"),
        ("streams.packets(path)", "ffprobe"),
        (IN_A_WORKER, "ffprobe"),
    ],
)
def test_no_child_is_left(work: str, program: str, tmp_path: Path) -> None:
    pipe = tmp_path / "never-written.mkv"  # whoever reads it waits for ever
    os.mkfifo(pipe)
    script = tmp_path / "script.py"
    script.write_text("\n".join(line[4:] for line in SCRIPT.format(work=work).splitlines()))
    with subprocess.Popen([sys.executable, script, pipe]) as killed:
        below: list[psutil.Process] = []

        def reads() -> bool:
            below[:] = psutil.Process(killed.pid).children(recursive=True)
            return killed.poll() is not None or program in [child.name() for child in below]

        try:
            assert until(reads) and killed.poll() is None
            killed.send_signal(signal.SIGKILL)
            _, living = psutil.wait_procs(below, timeout=20)
            assert not living
        finally:
            killed.kill()
            for child in below:
                if child.is_running():
                    child.kill()
