"""Sounds that the relay makes by itself: hold music, ringback, busy, beep and silence, as loops without a seam.

Each loop is a whole number of ticks long and repeats exactly, so that frame after frame its phase runs on for ever. All
tones lie below 3.4 kHz: every rate sounds the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mixer.frame import FULL_SCALE, RATES, SAMPLES_A_TICK, Pcm, Rate

SourceName = Literal["music", "ringback", "busy", "beep", "silence"]

MUSIC_STRONGEST_HZ = 554.375
"""C sharp, which sounds through the whole piece, louder than all else: how a test knows the music from a test tone."""
RINGBACK_HZ = 425.0
"""The European ringing and busy tone (ITU-T E.180, ETSI TR 101 041-2): 1 s on, 4 s off; busy 0.5 s on, 0.5 s off."""
BEEP_HZ = 1400.0
"""The tone that says that a call is recorded: 0.2 s every 15 s."""


class Source:
    """One sound at every rate asked for, made at once and never changed; costs a tick nothing."""

    def __init__(self, name: SourceName, rates: Sequence[Rate] = RATES) -> None:
        self.name = name
        self.loops: dict[Rate, Pcm] = {rate: _loop(name, rate) for rate in rates}
        """By rate, the frames of one round: read-only, in whole numbers."""

    def frame(self, tick: int, rate: Rate) -> Pcm:
        """The samples of a tick, a view into the loop."""
        loop = self.loops[rate]
        frame: Pcm = loop[tick % len(loop)]
        return frame


def _loop(name: SourceName, rate: Rate) -> Pcm:
    frames: Pcm = np.rint(_MAKERS[name](rate) * FULL_SCALE).astype(np.float32).reshape(-1, SAMPLES_A_TICK[rate])
    frames.flags.writeable = False
    return frames


def _silence(rate: Rate) -> Pcm:
    return np.zeros(SAMPLES_A_TICK[rate], np.float32)


def _cadence(hertz: float, on_seconds: float, off_seconds: float) -> Callable[[Rate], Pcm]:
    """A tone that comes and goes within 5 ms, so that it does not click."""

    def make(rate: Rate) -> Pcm:
        tone = _sine(hertz, on_seconds, rate) * _TONE_AMPLITUDE
        edge = np.linspace(0, 1, rate // 200, dtype=np.float32)
        tone[: edge.size] *= edge
        tone[-edge.size :] *= edge[::-1]
        return np.pad(tone, (0, round(off_seconds * rate)))

    return make


def _music(rate: Rate) -> Pcm:
    """Four chords that share one held note, plucked in eighths."""
    size = round(_MUSIC_SECONDS * rate)
    slow_swell = 1 + np.float32(0.1) * _sine(2 / _MUSIC_SECONDS, _MUSIC_SECONDS, rate)
    piece = np.float32(_HELD_AMPLITUDE) * slow_swell * _sine(MUSIC_STRONGEST_HZ, _MUSIC_SECONDS, rate)
    for note in _notes():
        at = (round(note.at_seconds * rate) + np.arange(round(_PLUCK_SECONDS * rate))) % size
        piece[at] += _pluck(note, rate)
    return piece


@dataclass(frozen=True, slots=True)
class _Note:
    at_seconds: float
    hertz: float
    amplitude: float


def _notes() -> Iterator[_Note]:
    for bar, (bass, *tones) in enumerate(_CHORDS):
        begin = bar * _BAR_SECONDS
        yield _Note(begin, bass, _BASS_AMPLITUDE)
        for eighth, tone in enumerate(_PATTERN):
            yield _Note(begin + eighth * _BAR_SECONDS / len(_PATTERN), tones[tone], _PLUCK_AMPLITUDE)


def _pluck(note: _Note, rate: Rate) -> Pcm:
    seconds = np.arange(round(_PLUCK_SECONDS * rate), dtype=np.float32) / rate
    swell = np.minimum(seconds / 0.01, 1) * np.minimum((_PLUCK_SECONDS - seconds) / 0.05, 1)
    tone = sum(
        _sine(note.hertz * partial, _PLUCK_SECONDS, rate) * np.exp(-seconds * (1.5 + partial)) / partial**2
        for partial in (1, 2, 3)
    )
    return np.asarray(tone * swell * note.amplitude, np.float32)


def _sine(hertz: float, seconds: float, rate: Rate) -> Pcm:
    wave: Pcm = np.sin(2 * np.pi * hertz / rate * np.arange(round(seconds * rate))).astype(np.float32)
    return wave


_TONE_AMPLITUDE = 0.15
_HELD_AMPLITUDE = 0.06
_BASS_AMPLITUDE = 0.03
_PLUCK_AMPLITUDE = 0.03
_BAR_SECONDS = 2.0
_PLUCK_SECONDS = 1.2
_PATTERN = (0, 1, 2, 3, 2, 1, 2, 1)
_CHORDS = (
    # A, F sharp minor, D with the major seventh, A over E: a bass and four notes each
    (110.0, 220.0, 329.63, 440.0, 659.26),
    (92.5, 185.0, 369.99, 440.0, 739.99),
    (146.83, 220.0, 293.66, 369.99, 739.99),
    (164.81, 329.63, 440.0, 659.26, 880.0),
)
_MUSIC_SECONDS = _BAR_SECONDS * len(_CHORDS)

_MAKERS: dict[SourceName, Callable[[Rate], Pcm]] = {
    "music": _music,
    "ringback": _cadence(RINGBACK_HZ, 1.0, 4.0),
    "busy": _cadence(RINGBACK_HZ, 0.5, 0.5),
    "beep": _cadence(BEEP_HZ, 0.2, 14.8),
    "silence": _silence,
}
