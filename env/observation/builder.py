"""What an agent sees before each decision, normalised so that it carries over.

Everything is per pixel or per 16x16 macroblock, so that a policy trained at one
size can be used at another, and everything but the two position columns of the
history lies in [-`BOUND`, `BOUND`]. The columns have names; `CLIP_COLUMNS`,
`HISTORY_COLUMNS`, `FRAME_COLUMNS` and `GLOBAL_COLUMNS` are the layout, and
`OBSERVATION_VERSION` is bumped whenever any of them or a constant below changes.

The choice of fields follows the paper (arXiv 2202.06626: statistics of all shown
frames, what was coded, the frame to code, globals); their transforms are ours, as
the paper's are not known.
"""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import numpy.typing as npt

from muzero_rc.env.codec.backend import ClipShape, FirstPassLike
from muzero_rc.env.codec.settings import CodecSettings
from muzero_rc.env.codec.statistics import FIRST_PASS_FIELDS, finite
from muzero_rc.errors import InputError
from muzero_rc.types import NUM_QINDEX, FrameInfo, FrameResult, HasBlocks, Observation, UpdateType

__all__ = [
    "BOUND",
    "CLIP_COLUMNS",
    "CLIP_FEATURES",
    "FRAME_CLIP_COLUMNS",
    "FRAME_COLUMNS",
    "FRAME_FEATURES",
    "GLOBAL_COLUMNS",
    "GLOBAL_FEATURES",
    "HISTORY_COLUMNS",
    "HISTORY_FEATURES",
    "HISTORY_POSITION_COLUMNS",
    "OBSERVATION_VERSION",
    "POSITION_SCALE",
    "ClipShape",
    "ObservationBuilder",
    "clip_features",
]

OBSERVATION_VERSION = 2

# Constants of the normalisation. Ranges of first-pass figures were measured on 87 clips
# (natural, animated, screen, game; 60 frames each at 144 lines).
BOUND = 3.0
"""All but the position columns are clipped to [-BOUND, BOUND]."""
POSITION_SCALE = 256.0
"""The history's position columns are frame numbers divided by this."""
_ERROR_SCALE, _ERROR_SHIFT = 3.0, 1.0  # ln(1 + error per macroblock): 0..7.4
_ERROR_FLOOR = 200.0  # libvpx adds 200 / sqrt(macroblocks) to each error: vp9_firstpass.c
_MOTION_SCALE = 2.0  # asinh(percent of the picture): up to 4.2
_MV_UNITS = 8.0  # first-pass motion vectors are in 1/8 pixel
_LOG_BPP_SHIFT, _LOG_BPP_SCALE = 4.0, 3.0  # ln(bits per pixel): -9 (skipped) to 1 (key frame)
_MIN_BPP = 1e-5
_PSNR_SHIFT, _PSNR_SCALE = 38.0, 10.0  # dB; 28..48 is the useful range
_BOOST_SHIFT, _BOOST_SCALE = 6.0, 2.0  # ln(1 + percent): boosts are 0..5400 in libvpx
_AGE_SCALE = 3.0  # asinh(frames): 25 frames (the longest lag) is 1.3
_LOG_COUNT_SCALE = 3.0  # ln(1 + frames)
_LOG_PIXELS_SHIFT, _LOG_PIXELS_SCALE = 12.0, 2.0  # ln(pixels): 144p 10.5, 480p 12.9, 2160p 15.9
_FPS = 30.0
_BIAS_START_FRAMES = 4.0  # frames of budget that damp the running deviation at the start
_NEUTRAL_LEFT = 1e-2  # floor of "budget left", relative to its plan, before the logarithm
_VBR_BIAS = 0.5  # two_pass_vbrbias / 100, libvpx's default (vp9_cx_iface.c)
_RATE_OFFSET_SCALE = 48.0  # qindexes
_TINY = 1e-6

_FIELD = {name: index for index, name in enumerate(FIRST_PASS_FIELDS)}

_TYPES = tuple(f"type_{t.name.lower()}" for t in UpdateType)
_REFERENCES = ("last", "golden", "altref")

CLIP_COLUMNS = (
    "weight", "intra_error", "coded_error", "sr_coded_error", "noise_energy",
    "pcnt_inter", "pcnt_motion", "pcnt_second_ref", "pcnt_neutral",
    "pcnt_intra_low", "pcnt_intra_high", "pcnt_intra_skip", "pcnt_intra_smooth",
    "inactive_rows", "mv_row", "mv_row_abs", "mv_col", "mv_col_abs",
    "mv_row_spread", "mv_col_spread", "mv_in_out", "duration",
    "coded_to_intra", "sr_to_coded", "coded_to_clip", "coded_to_previous",
    "libvpx_share", "grid_fill",
)  # fmt: skip
"""Columns of a row of `Observation.clip`; errors are logarithms per macroblock."""

FRAME_CLIP_COLUMNS = (
    "intra_error", "coded_error", "sr_coded_error", "pcnt_inter", "pcnt_motion",
    "pcnt_neutral", "mv_row_abs", "mv_col_abs", "coded_to_intra", "coded_to_clip",
    "libvpx_share",
)  # fmt: skip
"""Columns of the frame's own clip row that `Observation.frame` repeats."""

FRAME_COLUMNS = (
    *_TYPES, "shown", "layer_depth", "max_layer_depth", "gop_position", "gop_size",
    "frames_to_key", "show_share", "lead", "proposal_qindex", "min_qindex", "max_qindex",
    "proposal_bpp", "proposal_to_target", "boost", "tpl_known", "tpl_gain",
    *(f"{r}_{c}" for r in _REFERENCES for c in ("valid", "qindex", "psnr", "age")),
    *(f"clip_{c}" for c in FRAME_CLIP_COLUMNS),
)  # fmt: skip
"""Columns of `Observation.frame`."""

GLOBAL_COLUMNS = (
    "target_bpp", "size", "frame_rate", "num_frames",
    *(f"speed_{n}" for n in range(6)), "auto_alt_ref", "arf_layers", "lag", "tpl", "aq",
    "complexity", "started", "frames_done", "budget_spent", "budget_left", "deviation",
    "budget_lead", "mean_psnr", "mean_qindex", "mean_offset", "complexity_left",
    "rate_offset",
)  # fmt: skip
"""Columns of `Observation.globals`; `speed_5` also stands for all faster speeds."""

HISTORY_POSITION_COLUMNS = ("show_index", "coding_index")
"""The last columns of a history row: frame numbers / `POSITION_SCALE`, not bounded.

An agent subtracts the present position (`Observation.show_index`) from them.
"""

HISTORY_COLUMNS = (
    *_TYPES, "shown", "layer_depth", "gop_position", "qindex", "proposal_qindex", "bpp",
    "bits_to_proposal", "psnr", "skip_share", "intra_share", "inter_share",
    *HISTORY_POSITION_COLUMNS,
)  # fmt: skip
"""Columns of a row of `Observation.history`, a row per frame coded so far."""

CLIP_FEATURES = len(CLIP_COLUMNS)
FRAME_FEATURES = len(FRAME_COLUMNS)
GLOBAL_FEATURES = len(GLOBAL_COLUMNS)
HISTORY_FEATURES = len(HISTORY_COLUMNS)

_NUM_TYPES = len(_TYPES)
_ONE_HOT = tuple(tuple(float(i == t) for i in range(_NUM_TYPES)) for t in range(_NUM_TYPES))
_NO_REFERENCE = (0.0, 0.0, 0.0, 0.0)
_FRAME_OWN = FRAME_FEATURES - len(FRAME_CLIP_COLUMNS)


def _clip(value: float) -> float:
    return -BOUND if value < -BOUND else BOUND if value > BOUND else value


def _log_bpp(bits_per_pixel: float) -> float:
    return _clip((math.log(max(bits_per_pixel, _MIN_BPP)) + _LOG_BPP_SHIFT) / _LOG_BPP_SCALE)


def _psnr(db: float) -> float:
    return _clip((db - _PSNR_SHIFT) / _PSNR_SCALE)


def _error_floor(width: int, height: int) -> float:
    """What libvpx adds to each first-pass error per macroblock: it depends on the size."""
    return _ERROR_FLOOR / math.sqrt(((height + 15) // 16) * ((width + 15) // 16))


def clip_features(
    stats: npt.NDArray[np.float64], width: int, height: int
) -> npt.NDArray[np.float32]:
    """Normalised first-pass statistics of a whole clip.

    Args:
      stats: [T, 25] libvpx's first-pass statistics of the shown frames.
      width: pixels per row.
      height: rows.

    Returns:
      [T, CLIP_FEATURES] float32, finite, within [-BOUND, BOUND], read-only.

    Raises:
      InputError: the statistics are not [T, 25] with T > 0.
    """
    if stats.ndim != 2 or stats.shape[0] < 1 or stats.shape[1] != len(FIRST_PASS_FIELDS):
        raise InputError(
            f"first-pass statistics must be [T, {len(FIRST_PASS_FIELDS)}] with T > 0, "
            f"not {stats.shape}"
        )
    raw = finite(stats)
    mb_rows, mb_cols = (height + 15) // 16, (width + 15) // 16
    floor = _error_floor(width, height)

    def field(name: str) -> npt.NDArray[np.float64]:
        return np.asarray(raw[:, _FIELD[name]])

    def motion(eighth_pixels: npt.NDArray[np.float64], size: int) -> npt.NDArray[np.float64]:
        return np.arcsinh(100.0 * eighth_pixels / (_MV_UNITS * size)) / _MOTION_SCALE

    def spread(variance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.sqrt(np.maximum(variance, 0.0))

    intra, coded, sr_coded = (
        np.log1p(np.maximum(field(name) - floor, 0.0))
        for name in ("intra_error", "coded_error", "sr_coded_error")
    )
    noise = np.log1p(np.maximum(field("frame_noise_energy"), 0.0))
    # libvpx's share of the bits (calculate_mod_frame_score), but for its clamps.
    weighted = np.maximum(field("coded_error") * field("weight"), _TINY)
    active = 1.0 - field("intra_skip_pct") / 2 - 2.0 * field("inactive_zone_rows") / mb_rows
    share = weighted**_VBR_BIAS * np.sqrt(np.clip(active, 0.5, 1.0))
    duration = np.maximum(field("duration"), _TINY)
    columns = {
        "weight": field("weight") - 1.0,
        "intra_error": intra / _ERROR_SCALE - _ERROR_SHIFT,
        "coded_error": coded / _ERROR_SCALE - _ERROR_SHIFT,
        "sr_coded_error": sr_coded / _ERROR_SCALE - _ERROR_SHIFT,
        "noise_energy": noise / _ERROR_SCALE - _ERROR_SHIFT,
        "pcnt_inter": field("pcnt_inter"),
        "pcnt_motion": field("pcnt_motion"),
        "pcnt_second_ref": field("pcnt_second_ref"),
        "pcnt_neutral": field("pcnt_neutral"),
        "pcnt_intra_low": field("pcnt_intra_low"),
        "pcnt_intra_high": field("pcnt_intra_high"),
        "pcnt_intra_skip": field("intra_skip_pct"),
        "pcnt_intra_smooth": field("intra_smooth_pct"),
        "inactive_rows": 2.0 * field("inactive_zone_rows") / mb_rows,
        "mv_row": motion(field("MVr"), height),
        "mv_row_abs": motion(field("mvr_abs"), height),
        "mv_col": motion(field("MVc"), width),
        "mv_col_abs": motion(field("mvc_abs"), width),
        "mv_row_spread": motion(spread(field("MVrv")), height),
        "mv_col_spread": motion(spread(field("MVcv")), width),
        "mv_in_out": field("mv_in_out_count"),
        "duration": np.log(duration / np.median(duration)),
        "coded_to_intra": (coded - intra) / _ERROR_SCALE,
        "sr_to_coded": sr_coded - coded,
        "coded_to_clip": coded - coded.mean(),
        "coded_to_previous": np.diff(coded, prepend=coded[0]),
        "libvpx_share": np.log(share / share.mean()),
        # Cut-off macroblocks at the edges weigh on all per-macroblock figures.
        "grid_fill": np.full_like(coded, width * height / (256.0 * mb_rows * mb_cols) - 1.0),
    }
    table = np.stack([columns[name] for name in CLIP_COLUMNS], axis=1)
    features: npt.NDArray[np.float32] = np.clip(table, -BOUND, BOUND).astype(np.float32)
    features.flags.writeable = False
    return features


class ObservationBuilder:
    """Builds the observations of one encode, one frame at a time.

    `observe(info, ...)` before each decision, `record(info, result)` after each coded
    frame. Arrays handed out are read-only and stay valid: the history only grows.

    Attributes:
      clip: [T, CLIP_FEATURES] float32, shared by all observations of the encode.
    """

    def __init__(
        self,
        clip: ClipShape,
        settings: CodecSettings,
        first_pass: FirstPassLike,
    ) -> None:
        """Normalises the clip's statistics, once.

        Args:
          clip: size, frame rate and length of what is encoded.
          settings: the encoder's settings; the target bitrate is one of them.
          first_pass: its `stats` are [T, 25], T the clip's number of frames.

        Raises:
          InputError: the statistics do not belong to the clip.
        """
        stats = first_pass.stats
        self.clip = clip_features(stats, clip.width, clip.height)
        self._first_pass = cast(HasBlocks, first_pass)  # if it has no blocks, there are none
        if len(stats) != clip.num_frames:
            raise InputError(
                f"first pass has {len(stats)} frames but the clip {clip.num_frames}; "
                "run the first pass on this clip"
            )
        frame_rows = self.clip[:, [CLIP_COLUMNS.index(c) for c in FRAME_CLIP_COLUMNS]]
        self._frame_rows = np.ascontiguousarray(frame_rows)
        self._num_frames = clip.num_frames
        self._pixels = clip.width * clip.height
        self._frame_budget = settings.frame_budget(clip.fps)
        self._budget = self._frame_budget * clip.num_frames
        self._fixed, self._complexity_left = self._fixed_globals(clip, settings, stats)

        self._rows = np.zeros((64, HISTORY_FEATURES), np.float32)
        self._num_rows = 0
        self._references: dict[int, tuple[float, float, int]] = {}
        self._shown = 0
        self._bits = 0
        self._psnr_sum = 0.0
        self._qindex_sum = 0
        self._offset_sum = 0

    def _fixed_globals(
        self, clip: ClipShape, settings: CodecSettings, stats: npt.NDArray[np.float64]
    ) -> tuple[list[float], list[float]]:
        """The globals that never change, and the complexity left after n shown frames."""
        raw = finite(stats)[:, _FIELD["coded_error"]]
        error = np.maximum(raw - _error_floor(clip.width, clip.height), _TINY)
        counts = np.arange(len(error), 0, -1)
        left = np.log(np.cumsum(error[::-1])[::-1] / counts / error.mean())
        speed = min(settings.speed, 5)
        layers = settings.auto_alt_ref if settings.lag_in_frames > 0 else 0
        fixed = [
            _log_bpp(self._frame_budget / self._pixels),
            _clip((math.log(self._pixels) - _LOG_PIXELS_SHIFT) / _LOG_PIXELS_SCALE),
            _clip(math.log(float(clip.fps) / _FPS)),
            _clip(math.log1p(clip.num_frames) / _LOG_COUNT_SCALE - 1.0),
            *(float(speed == n) for n in range(6)),
            float(layers > 0),
            layers / 6.0,
            settings.lag_in_frames / 25.0,
            float(settings.tpl),
            float(settings.aq_mode > 0),
            _clip(math.log1p(float(error.mean())) / _ERROR_SCALE - _ERROR_SHIFT),
        ]
        # After the last shown frame nothing is left to be complex: 0, as at the mean.
        return fixed, [*np.clip(left, -BOUND, BOUND).tolist(), 0.0]

    @property
    def num_recorded(self) -> int:
        """Rows in the history."""
        return self._num_rows

    def observe(
        self, info: FrameInfo, rate_offset: int = 0, reach: int = NUM_QINDEX
    ) -> Observation:
        """The observation before the decision on `info`; changes nothing.

        Args:
          info: the frame.
          rate_offset: qindexes that the rate controller adds to libvpx's proposal.
          reach: how far from there a policy may go.
        """
        show_index = min(max(info.show_index, 0), self._num_frames - 1)
        history = self._rows[: self._num_rows]
        history.flags.writeable = False
        return Observation(
            clip=self.clip,
            history=history,
            frame=self._frame(info, show_index),
            globals=self._globals(rate_offset),
            show_index=show_index,
            proposal_qindex=info.proposal_qindex,
            rate_offset=rate_offset,
            reach=reach,
            first_pass=self._first_pass,
        )

    def record(self, info: FrameInfo | None, result: FrameResult) -> None:
        """Takes in what coding a frame gave.

        Args:
          info: the frame's description; None for a frame that only shows an existing
            buffer, which counts as shown and in bits but gets no history row.
          result: what came of it.
        """
        psnr = result.psnr
        self._bits += result.bits
        if result.shown:
            self._shown += 1
            self._psnr_sum += psnr
        if info is None:
            return
        if self._num_rows == len(self._rows):
            grown = np.zeros((2 * len(self._rows), HISTORY_FEATURES), np.float32)
            grown[: self._num_rows] = self._rows
            self._rows = grown
        blocks = max(result.intra_blocks + result.inter_blocks, 1)
        ratio = max(result.bits, 1) / max(info.proposal_bits, 1)
        self._rows[self._num_rows] = (
            *_ONE_HOT[info.update_type],
            float(result.shown),
            _clip(info.layer_depth / max(info.max_layer_depth, 1)),
            _clip(info.gop_index / max(info.gop_size, 1)),
            result.qindex / 255.0,
            info.proposal_qindex / 255.0,
            _log_bpp(result.bits / self._pixels),
            _clip(math.log(ratio)),
            _psnr(psnr),
            min(result.skip_blocks / blocks, 1.0),
            result.intra_blocks / blocks,
            result.inter_blocks / blocks,
            result.show_index / POSITION_SCALE,
            result.coding_index / POSITION_SCALE,
        )
        self._num_rows += 1
        self._references[result.coding_index] = (
            result.qindex / 255.0,
            _psnr(psnr),
            result.show_index,
        )
        self._qindex_sum += result.qindex
        self._offset_sum += result.qindex - info.proposal_qindex

    def _reference(self, coding_index: int, show_index: int) -> tuple[float, float, float, float]:
        known = self._references.get(coding_index)
        if known is None:
            return _NO_REFERENCE
        qindex, psnr, shown_at = known
        return 1.0, qindex, psnr, _clip(math.asinh(show_index - shown_at) / _AGE_SCALE)

    def _frame(self, info: FrameInfo, show_index: int) -> npt.NDArray[np.float32]:
        last, golden, altref = info.ref_coding_indexes
        bits = max(info.proposal_bits, 1)
        depth = max(info.max_layer_depth, 1)
        tpl_known = info.tpl_intra_cost > 0 and info.tpl_mc_dep_cost > 0
        row = np.empty(FRAME_FEATURES, np.float32)
        row[:_FRAME_OWN] = (
            *_ONE_HOT[info.update_type],
            float(info.shown),
            _clip(info.layer_depth / depth),
            _clip(depth / 6.0),
            _clip(info.gop_index / max(info.gop_size, 1)),
            _clip(math.log1p(max(info.gop_size, 0)) / _LOG_COUNT_SCALE),
            _clip(math.log1p(max(info.frames_to_key, 0)) / _LOG_COUNT_SCALE),
            show_index / self._num_frames,
            _clip(math.asinh(show_index - self._shown) / _AGE_SCALE),
            info.proposal_qindex / 255.0,
            info.min_qindex / 255.0,
            info.max_qindex / 255.0,
            _log_bpp(bits / self._pixels),
            _clip(math.log(bits / self._frame_budget)),
            _clip((math.log1p(max(info.boost, 0)) - _BOOST_SHIFT) / _BOOST_SCALE),
            float(tpl_known),
            _clip(math.log(info.tpl_mc_dep_cost / info.tpl_intra_cost)) if tpl_known else 0.0,
            *self._reference(last, show_index),
            *self._reference(golden, show_index),
            *self._reference(altref, show_index),
        )
        row[_FRAME_OWN:] = self._frame_rows[show_index]
        row.flags.writeable = False
        return row

    def _globals(self, rate_offset: int) -> npt.NDArray[np.float32]:
        done = min(self._shown, self._num_frames)
        left = max(self._num_frames - done, 1) * self._frame_budget
        planned = done * self._frame_budget
        start = _BIAS_START_FRAMES * self._frame_budget
        rows = max(self._num_rows, 1)
        started = float(self._num_rows > 0)
        mean_psnr = _psnr(self._psnr_sum / self._shown) if self._shown else 0.0
        values = np.array(
            (
                *self._fixed,
                started,
                done / self._num_frames,
                min(self._bits / self._budget, BOUND),
                _clip(math.log(max((self._budget - self._bits) / left, _NEUTRAL_LEFT))),
                _clip(math.log((self._bits + start) / (planned + start))),
                _clip((self._bits - planned) / self._budget),
                mean_psnr,
                self._qindex_sum / (255.0 * rows),
                _clip(self._offset_sum / (64.0 * rows)),
                self._complexity_left[done],
                _clip(rate_offset / _RATE_OFFSET_SCALE),
            ),
            np.float32,
        )
        values.flags.writeable = False
        return values
