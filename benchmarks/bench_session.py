"""What stepping costs: `EncoderSession`, asked for every frame, over one call of libvpx in C.

Both code the same clip in the mode `q`, in which libvpx never codes a frame twice, and
take libvpx's own qindexes, so that both write the same bytes (checked). Wall time wants
an idle machine; CPU time says what the session adds even on a busy one.

    .venv/bin/python benchmarks/bench_session.py [CLIP] [--frames 150] [--speeds 1 5 8]
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import time
from collections.abc import Callable
from typing import ParamSpec

from common import print_table, sample_clip

from muzero_rc.env.codec.clip import Clip
from muzero_rc.env.codec.first_pass import FirstPass, first_pass
from muzero_rc.env.codec.session import EncodedStream, EncoderSession, encode_plain
from muzero_rc.env.control.settings import EncoderSettings

P = ParamSpec("P")


def _session(clip: Clip, settings: EncoderSettings, stats: FirstPass) -> EncodedStream:
    with EncoderSession(clip, settings, first_pass=stats) as session:
        while (frame := session.next()) is not None:
            session.encode(frame.proposal_qindex)
        return session.finish()


def _times(work: Callable[P, object], *args: P.args, **words: P.kwargs) -> tuple[float, float]:
    """Wall and CPU seconds, all threads together."""
    wall, cpu = time.perf_counter(), time.process_time()
    work(*args, **words)
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", nargs="?", default=sample_clip("bikes.mp4"))
    parser.add_argument("--speeds", type=int, nargs="+", default=[1, 5, 8])
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--height", type=int, default=None)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()

    clip = Clip.load(given.clip, height=given.height, max_frames=given.frames)
    rows = []
    for speed in given.speeds:
        settings = EncoderSettings(target_kbps=1000, speed=speed, rc_mode="q", cq_level=36)
        stats = first_pass(clip, settings)
        plain_bytes, _ = encode_plain(clip, settings, stats)
        same = _session(clip, settings, stats).sha256 == hashlib.sha256(plain_bytes).hexdigest()
        plain, stepped = [], []
        for _ in range(given.show_existing):  # in turns: what else runs disturbs both alike
            plain.append(_times(encode_plain, clip, settings, stats))
            stepped.append(_times(_session, clip, settings, stats))
        wall, cpu = (
            statistics.median(p[i] / s[i] for p, s in zip(plain, stepped, strict=True))
            for i in (0, 1)
        )
        rows.append(
            (
                str(speed),
                f"{clip.num_frames / statistics.median(p for p, _ in plain):.1f}",
                f"{clip.num_frames / statistics.median(s for s, _ in stepped):.1f}",
                f"{wall:.3f}",
                f"{cpu:.3f}",
                "yes" if same else "NO",
            )
        )
    print_table(
        f"{clip}, session over plain libvpx",
        ("speed", "plain frames/s", "session frames/s", "ratio", "CPU ratio", "same bytes"),
        rows,
    )


if __name__ == "__main__":
    main()
