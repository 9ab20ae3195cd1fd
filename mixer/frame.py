"""The one type of audio between packages: float32 rows of one tick, in the scale of 16-bit samples.

The scale is that of int16 (±32,768), not ±1: the G.711 tables then look up finished floats, a unity gain gives back
the very code that came in, and the way out is one rounding cast, without a multiplication in either direction.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Pcm = NDArray[np.float32]
"""Samples in the scale of int16; the last axis is time."""
Samples = NDArray[np.int16]
"""Samples as codecs take them; the last axis is time."""
Rows = NDArray[np.intp]
"""Row numbers of the plane's tables."""

Rate = Literal[8000, 16000, 48000]
"""Samples a second."""

RATES: tuple[Rate, ...] = (8000, 16000, 48000)
TICK_MS = 20
SAMPLES_A_TICK: dict[Rate, int] = {rate: rate * TICK_MS // 1000 for rate in RATES}
FULL_SCALE = 32768.0
SAMPLE_MAX = 32767.0
SAMPLE_MIN = -32768.0
