"""Pages: chunks that stand nearly still. What they take, and which have a lossless base layer.

A page is best coded so that key frames, golden frames and the first layer of alternate references
are lossless. All other frames show them again, and cost next to nothing. With one finer or coarser
step for all, each frame mends what is left of the noise of others
(docs/notes/2026-12-01-pages-of-films.md).

A page takes v0 bits above headers a pixel and frame without loss, which an encode in real time
tells. With constant quality, or with a lossless base layer where the level is that of all other
frames, it is expected at a level l, with the mean squared error d and PSNR avg p,

    log2 v(l) = log2 v0 + a . x
    log2 d(l) = b . x
    p(l) = c . x

    x = (1, log2 v0, g(l), g(l) log2 v0)
    g = log2 of the quantizer's step (`env.control.rate.probe.qindex_octaves`)

The coefficients are a least squares fit (`benchmarks/make_page_model.py`) and lie in
`encode.page_model`. Ours, not the paper's.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from muzero_rc.encode.realtime_probe import ChunkForecast, RealtimeProbe
from muzero_rc.encode.share import Curve, Whole

__all__ = ["Page", "PageFit", "PageModel"]

_Terms = tuple[float, float, float, float]


@dataclass(frozen=True)
class PageFit:
    """Coefficients of pages that are coded in one way.

    Attributes:
      bits: [4], of the terms x.
      error: [4], likewise.
      psnr: [4], likewise.
    """

    bits: _Terms
    error: _Terms
    psnr: _Terms

    def forecast(self, known: ChunkForecast, log_v0: float) -> ChunkForecast:
        """What is expected of a page.

        Args:
          known: its frames, size and headers.
          log_v0: log2 of what it takes without loss, bits above headers a pixel and frame.
        """
        bits, error, psnr = (
            (c[0] + c[1] * log_v0, c[2] + c[3] * log_v0) for c in (self.bits, self.error, self.psnr)
        )
        return dataclasses.replace(
            known.with_lossless(log_v0),
            bits=(log_v0 + bits[0], bits[1]),
            error=error,
            psnr=psnr,
        )


@dataclass(frozen=True, slots=True)
class Page:
    """What is expected of a chunk that is a page.

    Attributes:
      constant: with constant quality.
      lossless_base: with a lossless base layer.
    """

    constant: ChunkForecast
    lossless_base: ChunkForecast

    def gain(self, level: float, whole: Whole) -> float:
        """What a film gains by its lossless base layer, for the same bits, dB.

        Of PSNR avg and overall together, the sum that shares are made for (`encode.share`).

        Args:
          level: with the lossless base layer.
          whole: the film.
        """
        return self.gain_of(self.lossless_base.curve(level), whole)

    def gain_of(self, mine: Curve, whole: Whole) -> float:
        """What a film gains by a lossless base layer that brings this, likewise.

        Args:
          mine: what it takes and brings.
          whole: the film.
        """
        other = self.constant.curve(self.constant.level_for(mine.bits))
        avg = mine.frames / whole.frames * (mine.psnr - other.psnr)
        return avg + 10.0 / math.log(10.0) * (other.error - mine.error) / whole.error


@dataclass(frozen=True)
class PageModel:
    """The fits.

    Attributes:
      constant: to encodes of constant quality.
      lossless_base: to those with a lossless base layer.
      most: octaves from the bits of an encode in real time at `START_LEVEL` to those of one
        without loss, of the chunks that it was fitted to: others are no pages.
      record: what it was fitted to, and how far it is off.
    """

    constant: PageFit
    lossless_base: PageFit
    most: float
    record: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def page(
        self, known: ChunkForecast, start: RealtimeProbe, lossless: RealtimeProbe
    ) -> Page | None:
        """What is expected of a chunk, if it is a page.

        Args:
          known: what is expected without an encode without loss.
          start: the chunk in real time at `START_LEVEL`.
          lossless: at level 0.
        """
        if lossless.bits - start.bits > self.most:
            return None
        base = self.lossless_base.forecast(known, lossless.bits)
        return Page(
            self.constant.forecast(known, lossless.bits),
            dataclasses.replace(base, lossless_base=True),
        )
