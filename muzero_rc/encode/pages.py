"""Pages: chunks that stand nearly still, and what they take with constant quality.

A page takes v0 bits above headers a pixel and frame without loss, which an encode in real time
tells. At a level l it is expected to take v, with the mean squared error d and PSNR avg p,

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
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from muzero_rc.encode.realtime_probe import ChunkForecast, RealtimeProbe

__all__ = ["PageModel"]

_Terms = tuple[float, float, float, float]


@dataclass(frozen=True)
class PageModel:
    """The fit.

    Attributes:
      bits: [4], of the terms x.
      error: [4], likewise.
      psnr: [4], likewise.
      most: octaves from the bits of an encode in real time at `START_LEVEL` to those of one
        without loss, of the chunks that it was fitted to: others are no pages.
      record: what it was fitted to, and how far it is off.
    """

    bits: _Terms
    error: _Terms
    psnr: _Terms
    most: float
    record: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def forecast(
        self, known: ChunkForecast, start: RealtimeProbe, lossless: RealtimeProbe
    ) -> ChunkForecast | None:
        """What is expected of a chunk with constant quality, if it is a page.

        Args:
          known: what is expected without an encode without loss.
          start: the chunk in real time at `START_LEVEL`.
          lossless: at level 0.
        """
        if lossless.bits - start.bits > self.most:
            return None
        log_v0 = lossless.bits
        bits, error, psnr = (
            (c[0] + c[1] * log_v0, c[2] + c[3] * log_v0) for c in (self.bits, self.error, self.psnr)
        )
        return dataclasses.replace(
            known.with_lossless(log_v0),
            bits=(log_v0 + bits[0], bits[1]),
            error=error,
            psnr=psnr,
        )
