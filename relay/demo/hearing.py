"""What was heard: the strongest frequency of a stretch of sound, and how loud it was."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Heard:
    """The strongest frequency of a stretch, its own level, and the level of all of it (dBFS of a full-scale sine)."""

    hz: float
    tone_dbfs: float
    level_dbfs: float


def listen(samples: npt.NDArray[np.int16], rate: int) -> Heard:
    """Analyse `samples` (int16, mono, `rate` Hz): at least 100 ms, or nothing can be said and 0 Hz is returned."""
    if samples.size < rate // 10:
        return Heard(0.0, -127.0, -127.0)
    window = np.hanning(samples.size)
    signal = samples.astype(np.float64) / 32768.0
    spectrum = np.abs(np.fft.rfft((signal - signal.mean()) * window)) / (window.sum() / 2)
    peak = int(spectrum.argmax())
    return Heard(
        hz=round(_interpolate(spectrum, peak) * rate / samples.size, 1),
        tone_dbfs=_decibels(float(spectrum[peak])),
        level_dbfs=_decibels(float(np.sqrt(2 * np.mean(signal**2)))),
    )


def _interpolate(spectrum: npt.NDArray[np.float64], peak: int) -> float:
    """The peak's place between bins, by the parabola through the logarithms of three bins."""
    if not 0 < peak < spectrum.size - 1:
        return float(peak)
    left, middle, right = np.log(np.maximum(spectrum[peak - 1 : peak + 2], 1e-12))
    curve = left - 2 * middle + right
    return peak + (0.5 * float((left - right) / curve) if curve else 0.0)


def _decibels(ratio: float) -> float:
    return round(20 * float(np.log10(max(ratio, 4.5e-7))), 1)


def tone(hz: float, rate: int, count: int, *, first: int = 0, dbfs: float = -12.0) -> npt.NDArray[np.int16]:
    """`count` samples of a sine from sample number `first` on, phase-continuous between calls."""
    phase = 2 * np.pi * hz * (np.arange(first, first + count, dtype=np.float64) / rate)
    return np.rint(np.sin(phase) * 32767 * 10 ** (dbfs / 20)).astype(np.int16)
