"""Fits the encoder model to a folder of studies, and says how far it is off.

    python -m muzero_rc.training.fit_encoder_model RUN/studies -o coefficients.json

The errors are of frames whose sources were left out of the fit (five folds by source).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import tyro

from muzero_rc.env.codec.first_pass import FIRST_PASS_FIELDS
from muzero_rc.env.testing.encoder_model.formulas import (
    FrameKind,
    complexity,
    kind_of,
    rate_terms,
    reference_term,
)
from muzero_rc.errors import InputError, MuzeroRcError
from muzero_rc.output_files import check_output, write_text
from muzero_rc.training.study import Study

__all__ = ["fit", "main"]

_FOLDS = 5
_LEAST_MSE, _LEAST_BPP = 1e-3, 1e-4  # skipped frames of static clips
_INTRA, _CODED = (FIRST_PASS_FIELDS.index(n) for n in ("intra_error", "coded_error"))

_Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FitArgs:
    """Fit the encoder model to studies."""

    studies: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    """Folder of studies, as `muzero-rc train` leaves them."""

    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="FILE")] = None
    """Write the coefficients there."""


@dataclass(frozen=True)
class _Frames:
    """Logged frames: source, kind, terms of the model, and what came out."""

    source: npt.NDArray[np.str_]
    kind: npt.NDArray[np.int64]
    terms: _Array  # [N, 4]
    mse: _Array  # [N], log2
    bpp: _Array  # [N], log2


def _frames_of(studies: Sequence[Study]) -> _Frames:
    rows: list[tuple[str, int, _Array, float, float]] = []
    for study in studies:
        width, height = study.shape[:2]
        intra = complexity(study.stats[:, _INTRA], width, height)
        coded = complexity(study.stats[:, _CODED], width, height)
        for encode in study.encodes:
            if encode.name.startswith("vbr"):
                continue  # recoded frames are not one qindex's work
            errors: dict[int, float] = {}
            for info, result in encode.frames():
                if info is None:
                    continue
                mse = max(sum(result.sse) / sum(result.samples), _LEAST_MSE)
                errors[result.coding_index] = mse
                kind = kind_of(info.update_type)
                # The newest of alternate, golden and last reference that there is.
                known = [errors[n] for n in reversed(info.ref_coding_indexes) if n in errors]
                at = min(info.show_index, len(study.stats) - 1)
                c = float(intra[at] if kind is FrameKind.KEY else coded[at])
                r = 0.0 if kind is FrameKind.KEY or not known else float(reference_term(known[0]))
                terms = np.append(rate_terms(result.qindex / 255.0, c), r)
                bpp = max(result.bits / (width * height), _LEAST_BPP)
                rows.append((study.source, int(kind), terms, np.log2(mse), np.log2(bpp)))
    if not rows:
        raise InputError("the studies hold no frame to fit to")
    return _Frames(
        source=np.array([row[0] for row in rows]),
        kind=np.array([row[1] for row in rows]),
        terms=np.stack([row[2] for row in rows]),
        mse=np.array([row[3] for row in rows]),
        bpp=np.array([row[4] for row in rows]),
    )


def fit(studies: Sequence[Study]) -> dict[str, Any]:
    """Coefficients and their errors on sources left out, as `EncoderModel.from_dict` reads.

    Raises:
      InputError: too few sources or frames.
    """
    frames = _frames_of(studies)
    sources = np.unique(frames.source)
    if len(sources) < _FOLDS:
        raise InputError(f"{len(sources)} sources are too few, {_FOLDS} are needed")
    fold = {name: number % _FOLDS for number, name in enumerate(sources)}
    folds = np.array([fold[name] for name in frames.source])
    mse, bpp, errors = np.zeros((3, 4)), np.zeros((3, 3)), {}
    for kind in FrameKind:
        mine = frames.kind == kind
        columns = 3 if kind is FrameKind.KEY else 4
        mse[kind, :columns], off_mse = _solve(
            frames.terms[mine, :columns], frames.mse[mine], folds[mine]
        )
        bpp[kind], off_bpp = _solve(frames.terms[mine, :3], frames.bpp[mine], folds[mine])
        errors[kind.name.lower()] = {
            "frames": int(mine.sum()),
            "bits_median_percent": round(100 * float(2 ** np.median(off_bpp) - 1), 1),
            "bits_p90_percent": round(100 * float(2 ** np.quantile(off_bpp, 0.9) - 1), 1),
            "psnr_median_db": round(float(10 * np.log10(2) * np.median(off_mse)), 2),
            "psnr_p90_db": round(float(10 * np.log10(2) * np.quantile(off_mse, 0.9)), 2),
        }
    return {
        "mse": np.round(mse, 5).tolist(),
        "bpp": np.round(bpp, 5).tolist(),
        "record": {"studies": len(studies), "sources": len(sources), "held_out_error": errors},
    }


def _solve(terms: _Array, wanted: _Array, folds: npt.NDArray[np.int64]) -> tuple[_Array, _Array]:
    """Least squares coefficients, and |error| of each row when its fold is left out."""
    off = np.empty(len(wanted))
    for number in range(_FOLDS):
        left_out = folds == number
        if not left_out.any() or left_out.all():
            raise InputError("too few sources have frames of every kind")
        part = np.linalg.lstsq(terms[~left_out], wanted[~left_out], rcond=None)[0]
        off[left_out] = np.abs(terms[left_out] @ part - wanted[left_out])
    return np.asarray(np.linalg.lstsq(terms, wanted, rcond=None)[0], np.float64), off


def main() -> int:
    """Fits and prints; returns the exit status."""
    args = tyro.cli(FitArgs, prog="python -m muzero_rc.training.fit_encoder_model")
    try:
        paths = sorted(args.studies.glob("*.npz"))
        if not paths:
            raise InputError(f"{args.studies} holds no study")
        if args.out is not None:
            check_output(args.out)
        found = fit([Study.load(path) for path in paths])
        text = json.dumps(found, indent=1)
        print(text)
        if args.out is not None:
            write_text(args.out, text + "\n")
    except MuzeroRcError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
