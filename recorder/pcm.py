"""Stored payloads as 16-bit samples, and raising their rate by a whole factor without moving them.

G.711 by table (ITU-T G.711, tables 1a to 2b). The interpolator is a windowed sinc whose zeros fall on the given
samples: they come out unchanged, and delay is none, since the caller gives what stands on both sides.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.int16]

MARGIN = 24
"""Samples that `raised` needs on each side of what it gives back."""
_KAISER_BETA = 8.0  # images at least 80 dB down outside ±10 % of the lower Nyquist frequency, with this margin


def decoded(payload: bytes, codec: str) -> Samples:
    """16-bit samples of a stored payload."""
    if codec == "s16":
        return np.frombuffer(payload, "<i2").astype(np.int16, copy=False)
    table = _mu_law() if codec == "pcmu" else _a_law()
    return table[np.frombuffer(payload, np.uint8)]


def raised(samples: npt.NDArray[np.float32], factor: int) -> npt.NDArray[np.float32]:
    """`factor` samples for each of `samples[MARGIN:-MARGIN]`; the first of them is that sample."""
    if factor == 1:
        return samples[MARGIN:-MARGIN]
    windows = np.lib.stride_tricks.sliding_window_view(samples, 2 * MARGIN + 1)
    interpolated: npt.NDArray[np.float32] = np.matmul(windows, _bank(factor))
    return np.ravel(interpolated)


@cache
def _bank(factor: int) -> npt.NDArray[np.float32]:
    """[2 * MARGIN + 1, factor]: column p interpolates at p / factor after the middle sample."""
    offset = np.arange(-MARGIN, MARGIN + 1)[:, None] - np.arange(factor)[None, :] / factor
    window = np.i0(_KAISER_BETA * np.sqrt(np.clip(1 - (offset / (MARGIN + 1)) ** 2, 0, None))) / np.i0(_KAISER_BETA)
    bank: npt.NDArray[np.float64] = np.sinc(offset) * window
    return np.asarray(bank / bank.sum(axis=0), np.float32)


@cache
def _mu_law() -> Samples:
    code = ~np.arange(256, dtype=np.uint8)
    exponent, mantissa = (code >> 4) & 7, code & 15
    magnitude = ((mantissa.astype(np.int32) * 2 + 33) << exponent) - 33
    return np.where(code & 0x80, -magnitude * 4, magnitude * 4).astype(np.int16)


@cache
def _a_law() -> Samples:
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    exponent, mantissa = ((code >> 4) & 7).astype(np.int32), (code & 15).astype(np.int32)
    magnitude = np.where(exponent == 0, mantissa * 2 + 1, (mantissa * 2 + 33) << np.maximum(exponent - 1, 0))
    return np.where(code & 0x80, magnitude * 8, -magnitude * 8).astype(np.int16)
