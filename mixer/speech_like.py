"""A voice that says nothing: syllables of vowels and hisses with a speaker's melody, for demonstrations and tests.

Harmonics of a gliding pitch are weighed by the resonances of a vocal tract that moves from vowel to vowel; each
syllable begins with a little noise, and phrases end in pauses. All of it follows from the seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mixer.frame import FULL_SCALE, Pcm, Rate

_Track = NDArray[np.float64]

_STEP_SECONDS = 0.005
_BAND_HZ = 3400.0
_ACTIVE_LEVEL = 0.1
"""Root mean square of the voiced parts: -20 dBov."""
_BANDWIDTHS_HZ = (80.0, 110.0, 160.0)
_VOWELS_HZ = (
    # the first three formants of a man's a, e, i, o, u (Peterson and Barney 1952, rounded)
    (730.0, 1090.0, 2440.0),
    (530.0, 1840.0, 2480.0),
    (270.0, 2290.0, 3010.0),
    (570.0, 840.0, 2410.0),
    (300.0, 870.0, 2240.0),
)


@dataclass(frozen=True, slots=True)
class _Syllable:
    begin: int
    end: int
    vowel: int
    stress: float
    hissing: bool


@dataclass(frozen=True, slots=True)
class _Gestures:
    """What the voice does, one value each 5 ms."""

    pitch_hz: _Track
    formants_hz: _Track
    loudness: _Track
    hiss: _Track


def speech_like(rate: Rate, seconds: float, seed: int, pitch_hz: float = 120.0) -> Pcm:
    """Samples in the scale of int16, whole numbers; begins and ends in silence, so that it can be looped."""
    rng = np.random.default_rng(seed)
    gestures = _gestures(_syllables(round(seconds / _STEP_SECONDS), rng), round(seconds / _STEP_SECONDS), pitch_hz)
    at = np.arange(round(seconds * rate)) / (rate * _STEP_SECONDS)
    voice = _voiced(gestures, at, rate)
    hiss = np.diff(rng.normal(size=at.size + 1)) * _at(gestures.hiss, at) * 0.02
    sound = voice + hiss
    active = sound[_at(gestures.loudness, at) > 0.1]
    level = np.sqrt(np.mean(active**2)) if active.size else 1.0
    peak_limited = np.tanh(sound * (_ACTIVE_LEVEL / level))
    return np.rint(peak_limited * (FULL_SCALE - 1)).astype(np.float32)


def _syllables(steps: int, rng: np.random.Generator) -> list[_Syllable]:
    syllables: list[_Syllable] = []
    begin = 20
    while True:
        for _ in range(int(rng.integers(4, 9))):
            end = begin + int(rng.integers(26, 50))
            if end + 20 > steps:
                return syllables
            vowel, stress = int(rng.integers(len(_VOWELS_HZ))), float(rng.uniform(0.6, 1.0))
            syllables.append(_Syllable(begin, end, vowel, stress, bool(rng.random() < 0.5)))
            begin = end + int(rng.integers(4, 10))
        begin += int(rng.integers(60, 120))


def _gestures(syllables: list[_Syllable], steps: int, pitch_hz: float) -> _Gestures:
    loudness, hiss = np.zeros(steps), np.zeros(steps)
    melody = np.ones(steps)
    formants = np.full((steps, 3), _VOWELS_HZ[0])
    for syllable in syllables:
        inside = slice(syllable.begin, syllable.end)
        progress = np.linspace(0, 1, syllable.end - syllable.begin)
        loudness[inside] = syllable.stress * np.sin(np.pi * progress) ** 0.7
        melody[inside] = 0.9 + 0.25 * syllable.stress * np.sin(np.pi * progress)
        formants[syllable.begin :] = _VOWELS_HZ[syllable.vowel]
        if syllable.hissing:
            hiss[syllable.begin : syllable.begin + 12] = np.hanning(12)
    return _Gestures(pitch_hz * _smooth(melody, 9), _smooth_columns(formants, 13), loudness, hiss)


def _voiced(gestures: _Gestures, at: _Track, rate: Rate) -> _Track:
    pitch = _at(gestures.pitch_hz, at)
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    voice = np.zeros(at.size)
    for harmonic in range(1, int(_BAND_HZ / gestures.pitch_hz.min()) + 1):
        hertz = harmonic * gestures.pitch_hz
        weight = np.where(hertz < _BAND_HZ, _resonance(hertz, gestures.formants_hz) / harmonic, 0) * gestures.loudness
        voice += np.sin(harmonic * phase) * _at(weight, at)
    return voice


def _resonance(hertz: _Track, formants_hz: _Track) -> _Track:
    """How much the vocal tract lets through: the sum of its resonances' magnitudes."""
    return sum(
        (
            weight / np.sqrt(1 + ((hertz - formants_hz[:, i]) / bandwidth) ** 2)
            for i, (bandwidth, weight) in enumerate(zip(_BANDWIDTHS_HZ, (1.0, 0.7, 0.4), strict=True))
        ),
        start=np.zeros(hertz.size),
    )


def _at(track: _Track, at: _Track) -> _Track:
    return np.interp(at, np.arange(track.size), track)


def _smooth_columns(track: _Track, width: int) -> _Track:
    return np.stack([_smooth(column, width) for column in track.T], axis=1)


def _smooth(track: _Track, width: int) -> _Track:
    window = np.hanning(width + 2)[1:-1]
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(track, width // 2, mode="edge"), width)
    smooth: _Track = windows @ (window / window.sum())
    return smooth
