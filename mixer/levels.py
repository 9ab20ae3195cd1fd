"""Loudness and speech activity of all rows, from the energy of each tick.

Loudness is in dBov as in RFC 6464 §3 (0 is a square wave at full scale, so a sine reaches -3.01), with -127 for digital
silence, over the ticks since the last report. A row talks while its energy stands out from its own noise floor, and
for a hangover after that.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mixer.frame import FULL_SCALE, Pcm, Rows, Samples

SILENCE_DBOV = -127.0

REPORT_TICKS = 10
"""Every 200 ms: what callers of `report` keep to."""
HANGOVER_TICKS = 15
"""Pauses up to 300 ms do not end an utterance."""
_ABOVE_FLOOR = 10**0.9
_SPEECH_MIN = 10**-5.0
"""Nothing below -50 dBov is speech."""
_FLOOR_RISE_A_TICK = 10 ** (0.3 * 0.02)
"""The floor follows a louder noise by 3 dB a second, and a quieter one at once."""
_FLOOR_MIN = 10**-7.0
_FLOOR_MAX = 10**-4.0
"""A floor is never believed above -40 dBov: who holds a tone goes on talking."""


class Levels:
    """Columns by row; `measure` every tick, `report` every `REPORT_TICKS`."""

    def __init__(self, rows_max: int) -> None:
        self._energy: Pcm = np.zeros(rows_max, np.float32)
        self._ticks: NDArray[np.int32] = np.zeros(rows_max, np.int32)
        self._floor: Pcm = np.full(rows_max, _FLOOR_MIN, np.float32)
        self._hangover: NDArray[np.int32] = np.zeros(rows_max, np.int32)

    def measure(self, rows: Rows, frames: Pcm | Samples) -> None:
        """Count in a tick: `frames[i]` is what `rows[i]` said (or heard)."""
        sound = frames.astype(np.float32, copy=False)
        energy = np.vecdot(sound, sound) * np.float32(1 / (FULL_SCALE**2 * max(sound.shape[1], 1)))
        self._energy[rows] += energy
        self._ticks[rows] += 1
        floor = np.clip(np.minimum(energy, self._floor[rows] * np.float32(_FLOOR_RISE_A_TICK)), _FLOOR_MIN, _FLOOR_MAX)
        self._floor[rows] = floor
        speech = energy > np.maximum(floor * np.float32(_ABOVE_FLOOR), np.float32(_SPEECH_MIN))
        self._hangover[rows] = np.where(speech, HANGOVER_TICKS, np.maximum(self._hangover[rows] - 1, 0))

    def report(self, rows: Rows) -> tuple[Pcm, NDArray[np.bool_]]:
        """The loudness in dBov of `rows` since their last report, and whether each talks. Not measured is silent."""
        measured = self._ticks[rows] > 0
        energy = self._energy[rows] / np.maximum(self._ticks[rows], 1)
        dbov = np.maximum(10 * np.log10(np.maximum(energy, np.float32(1e-13))), np.float32(SILENCE_DBOV))
        self._energy[rows], self._ticks[rows] = 0, 0
        return dbov.astype(np.float32), measured & (self._hangover[rows] > 0)

    def reset(self, row: int) -> None:
        """Forget a row whose leg closed."""
        self._energy[row], self._ticks[row], self._floor[row], self._hangover[row] = 0, 0, _FLOOR_MIN, 0
