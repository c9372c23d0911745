"""The last stage: what a run has learned, on clips of the corpus that it has not seen.

Beside the control stand `landed`, which has learned nothing, the mean steps and the plans of the
run's plan model, and the policy head. An evaluation that was interrupted goes on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from muzero_rc.corpus import Corpus
from muzero_rc.env.control.settings import EncoderSettings
from muzero_rc.errors import MuzeroRcError
from muzero_rc.evaluation.grid.encoder import ClipSource, Method
from muzero_rc.evaluation.grid.policy_encoder import PolicyEncoder
from muzero_rc.evaluation.grid.runner import EvaluationPlan, Progress, run_evaluation
from muzero_rc.evaluation.measure.summary import ANCHOR, CONTROL
from muzero_rc.evaluation.results import Results
from muzero_rc.identity import build_identity
from muzero_rc.policies.registry import make_policy
from muzero_rc.training.config import TrainConfig
from muzero_rc.training.log import RunLog

__all__ = ["COLUMNS", "evaluate_run", "result_rows", "results_page"]

COLUMNS = (
    "policy", "speed", "clips", "PSNR avg, %", "95% interval", "PSNR overall, %",
    "time over VBR's", "off target",
)  # fmt: skip
"""Headings of `result_rows`."""

_LANDED = "landed"


def evaluate_run(
    folder: Path, config: TrainConfig, corpus: Corpus, log: RunLog
) -> dict[int, Results]:
    """Evaluates a finished run; results by speed, also in `evaluation/speed-N` of the folder.

    Args:
      folder: of the run.
      config: of the run.
      corpus: whose validation clips are encoded.
      log: told how far it is.

    Raises:
      InputError: no source is kept for validation.
      MuzeroRcError: an encode failed.
    """
    asked = config.evaluate
    clips = corpus.spread_validation(asked.clips)
    stems = [clip.path.stem for clip in clips]
    sources = tuple(
        ClipSource(
            clip.path,
            stem if stems.count(stem) == 1 else f"{clip.source}/{stem}",
            asked.height,
            asked.frames,
            clip.source,
        )
        for clip, stem in zip(clips, stems, strict=True)
    )
    methods = tuple(_methods(folder))
    encoder = PolicyEncoder(make_policy)
    found = {}
    for speed in asked.speeds:
        plan = EvaluationPlan(
            sources=sources,
            methods=methods,
            settings=EncoderSettings(target_kbps=1, speed=speed),
            targets_kbps=None,
            build=build_identity(),
        )
        stage = f"evaluate at speed {speed}"

        def tell(step: Progress, stage: str = stage) -> None:
            log.stage(stage, step.total, step.done)
            log.step(step.done, f"{step.clip} {step.method}")

        results = run_evaluation(
            plan, encoder, folder / "evaluation" / f"speed-{speed}",
            jobs=config.jobs, on_progress=tell,
        )  # fmt: skip
        if results.failures:
            raise MuzeroRcError(
                f"{len(results.failures)} encodes failed, the first with: "
                f"{results.failures[0].error}; --resume tries them again"
            )
        found[speed] = results
    return found


def _methods(folder: Path) -> Iterator[Method]:
    for name in (ANCHOR, CONTROL, _LANDED):
        yield Method(name=name, spec=name, fingerprint=name)
    for name, file, suffix in (
        ("const", "plan.npz", ":const"), ("planned", "plan.npz", ""), ("head", "policy.npz", ""),
    ):  # fmt: skip
        path = folder / file
        if path.exists():
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            yield Method(name=name, spec=f"{path}{suffix}", fingerprint=f"{digest}{suffix}")


def result_rows(found: Mapping[int, Results]) -> list[tuple[str, ...]]:
    """A row for each policy and speed, under `COLUMNS`.

    Args:
      found: results by speed.
    """
    return [
        (method, str(speed), *_cells(entry))
        for speed, results in found.items()
        for method, entry in results.summary.items()
        if method != ANCHOR
    ]


def _cells(entry: Mapping[str, Any]) -> tuple[str, ...]:
    avg, overall = entry["psnr_avg"], entry["psnr_overall"]
    of_anchor, landing = entry["time"]["of_anchor"], entry["landing"]
    interval = avg["interval"]
    return (
        f"{avg['n']} of {avg['n_sources']}",
        _signed(avg["mean"]),
        f"{interval[0]:+.1f} to {interval[1]:+.1f}" if interval else "-",
        _signed(overall["mean"]),
        "-" if of_anchor is None else f"{of_anchor:.2f}",
        "-" if landing is None else f"{landing['mean_abs_deviation']:.1%}",
    )


def _signed(percent: float | None) -> str:
    return "-" if percent is None else f"{percent:+.1f}"


def results_page(rows: Sequence[Sequence[str]], config: TrainConfig) -> str:
    """The results in Markdown, for the card of the run's policy.

    Args:
      rows: under `COLUMNS`.
      config: of the run.
    """
    asked = config.evaluate
    lines = [
        f"BD-rate against two-pass VBR, {asked.frames} frames of each clip at {asked.height} "
        "lines, sources that were not trained on. `head` is this file, `planned` and `const` "
        "are the plan model that taught it.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|---" * len(COLUMNS) + "|",
        *("| " + " | ".join(row) + " |" for row in rows),
    ]
    return "\n".join(lines)
