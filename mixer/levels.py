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
_ABOVE_FLOOR = np.float32(10**0.9)
_SPEECH_MIN = np.float32(10**-5.0)
"""Nothing below -50 dBov is speech."""
_FLOOR_RISE_A_TICK = np.float32(10 ** (0.3 * 0.02))
"""The floor follows a louder noise by 3 dB a second, and a quieter one at once."""
_FLOOR_MIN = np.float32(10**-7.0)
_FLOOR_MAX = np.float32(10**-4.0)
"""A floor is never believed above -40 dBov: who holds a tone goes on talking."""


def mean_square(frames: Pcm | Samples) -> Pcm:
    """The energy of each row's samples: 1 is a square wave at full scale."""
    sound = frames.astype(np.float32, copy=False)
    energy: Pcm = np.vecdot(sound, sound)
    scale = np.float32(1 / (FULL_SCALE**2 * max(sound.shape[1], 1)))
    energy *= scale
    return energy


class Meter:
    """Columns by row; `count` every tick, `read` every `REPORT_TICKS`."""

    def __init__(self, rows_max: int) -> None:
        self._energy: Pcm = np.zeros(rows_max, np.float32)
        self._ticks: NDArray[np.int32] = np.zeros(rows_max, np.int32)

    def count(self, rows: Rows, energy: Pcm) -> None:
        """Count in a tick: `energy[i]` is the mean square of what `rows[i]` said (or heard)."""
        self._energy[rows] += energy
        self._ticks[rows] += 1

    def read(self, rows: Rows) -> Pcm:
        """The loudness in dBov of `rows` since they were last read. Not measured is silent."""
        energy = self._energy[rows] / np.maximum(self._ticks[rows], 1)
        dbov = np.maximum(10 * np.log10(np.maximum(energy, np.float32(1e-13))), np.float32(SILENCE_DBOV))
        self._energy[rows], self._ticks[rows] = 0, 0
        loudness: Pcm = dbov.astype(np.float32)
        return loudness

    def reset(self, row: int) -> None:
        """Forget a row whose leg closed."""
        self._energy[row], self._ticks[row] = 0, 0


class Levels(Meter):
    """A meter that also tells who talks; `measure` or `count` every tick, `report` every `REPORT_TICKS`."""

    def __init__(self, rows_max: int) -> None:
        super().__init__(rows_max)
        self._floor: Pcm = np.full(rows_max, _FLOOR_MIN, np.float32)
        self._hangover: NDArray[np.int8] = np.zeros(rows_max, np.int8)

    def measure(self, rows: Rows, frames: Pcm | Samples) -> None:
        """Count in a tick: `frames[i]` is what `rows[i]` said (or heard)."""
        self.count(rows, mean_square(frames))

    def count(self, rows: Rows, energy: Pcm) -> None:
        """Count in a tick: `energy[i]` is the mean square of what `rows[i]` said (or heard)."""
        super().count(rows, energy)
        floor = self._floor.take(rows)
        floor *= _FLOOR_RISE_A_TICK
        np.minimum(floor, energy, out=floor)
        np.minimum(floor, _FLOOR_MAX, out=floor)
        np.maximum(floor, _FLOOR_MIN, out=floor)
        self._floor[rows] = floor
        floor *= _ABOVE_FLOOR
        np.maximum(floor, _SPEECH_MIN, out=floor)
        hangover = self._hangover.take(rows)
        np.maximum(hangover, 1, out=hangover)
        hangover -= 1
        hangover[energy > floor] = HANGOVER_TICKS
        self._hangover[rows] = hangover

    def report(self, rows: Rows) -> tuple[Pcm, NDArray[np.bool_]]:
        """The loudness in dBov of `rows` since their last report, and whether each talks. Not measured is silent."""
        measured = self._ticks[rows] > 0
        return self.read(rows), measured & (self._hangover[rows] > 0)

    def reset(self, row: int) -> None:
        """Forget a row whose leg closed."""
        super().reset(row)
        self._floor[row], self._hangover[row] = _FLOOR_MIN, 0
