"""G.711 µ-law and A-law as look-up tables over whole tables of rows (ITU-T G.711, November 1988).

https://www.itu.int/rec/T-REC-G.711-198811-I. Decoding looks a byte up among 256 samples, encoding a sample among
65,536 bytes. The samples are the recommendation's 14-bit (µ) and 13-bit (A) values, shifted left to fill 16 bits.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Law = Literal["PCMU", "PCMA"]
"""The encoding names of RFC 3551 §4.5.14."""
Codes = NDArray[np.uint8]

SILENCE: dict[Law, int] = {"PCMU": 0xFF, "PCMA": 0xD5}
"""The code of the smallest positive sample."""

_MU_BIAS = 33
_MU_MAGNITUDE_MAX = 8158


def decode(law: Law, codes: Codes, out: NDArray[np.float32]) -> None:
    """Write the samples of `codes` to `out`, of the same shape, in the scale of int16."""
    np.take(_SAMPLES_FLOAT[law], codes, out=out, mode="clip")


def decode_int16(law: Law, codes: Codes, out: NDArray[np.int16]) -> None:
    """Write the samples of `codes` to `out`, of the same shape."""
    np.take(_SAMPLES[law], codes, out=out, mode="clip")


def encode(law: Law, samples: NDArray[np.int16], out: Codes) -> None:
    """Write the codes of `samples` to `out`, of the same shape; `samples` has no gaps along its last axis."""
    np.take(_CODES[law], samples.view(np.uint16), out=out, mode="clip")


def _mu_samples() -> NDArray[np.int16]:
    """Table 2a: the code is inverted; sign, three bits of segment, four bits of step."""
    code = ~np.arange(256, dtype=np.uint8)
    segment = (code >> 4).astype(np.int32) & 7
    magnitude = ((((code & 15).astype(np.int32) << 1) + _MU_BIAS) << segment) - _MU_BIAS
    return (np.where(code & 0x80, -magnitude, magnitude) << 2).astype(np.int16)


def _a_samples() -> NDArray[np.int16]:
    """Table 1a: even bits inverted; segment 0 is linear, and each higher one doubles the step."""
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    segment = (code >> 4).astype(np.int32) & 7
    step = ((code & 15).astype(np.int32) << 1) + 1
    magnitude = np.where(segment == 0, step, (step + 32) << np.maximum(segment - 1, 0))
    return (np.where(code & 0x80, magnitude, -magnitude) << 3).astype(np.int16)


def _mu_codes() -> Codes:
    """By the decision values of table 2a: a magnitude plus the bias names its segment by its highest bit."""
    sample = _every_sample() >> 2
    negative = sample < 0
    # One's complement, as the ITU's own G.191 tool has it: the decision values then mirror exactly.
    magnitude = np.minimum(np.where(negative, ~sample, sample), _MU_MAGNITUDE_MAX) + _MU_BIAS
    segment = _highest_bit(magnitude) - 5
    step = (magnitude >> (segment + 1)) & 15
    return ~((negative * 0x80) | (segment << 4) | step).astype(np.uint8)


def _a_codes() -> Codes:
    """By the decision values of table 1a."""
    sample = _every_sample() >> 3
    negative = sample < 0
    magnitude = np.where(negative, ~sample, sample)
    segment = np.maximum(_highest_bit(magnitude) - 4, 0)
    step = (magnitude >> np.maximum(segment, 1)) & 15
    return (((~negative * 0x80) | (segment << 4) | step) ^ 0x55).astype(np.uint8)


def _every_sample() -> NDArray[np.int32]:
    """All 16-bit samples, in the order of their patterns read as unsigned numbers."""
    return np.arange(65536, dtype=np.uint16).view(np.int16).astype(np.int32)


def _highest_bit(magnitude: NDArray[np.int32]) -> NDArray[np.int32]:
    return np.frexp(magnitude.astype(np.float64))[1].astype(np.int32) - 1


_SAMPLES: dict[Law, NDArray[np.int16]] = {"PCMU": _mu_samples(), "PCMA": _a_samples()}
_SAMPLES_FLOAT: dict[Law, NDArray[np.float32]] = {law: table.astype(np.float32) for law, table in _SAMPLES.items()}
_CODES: dict[Law, Codes] = {"PCMU": _mu_codes(), "PCMA": _a_codes()}
