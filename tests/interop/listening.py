"""What stands in a stretch of sound: which tones, and where it was cut off."""

from __future__ import annotations

import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mixer.sources import MUSIC_STRONGEST_HZ
from relay.demo.hearing import listen

Samples = npt.NDArray[np.int16]
Sound = Callable[[int, int], Samples]
"""`sound(first, count)`: samples of a signal without end."""

CUSTOMER_HZ = 1_000.0
AGENT_HZ = 700.0
MUSIC_HZ = MUSIC_STRONGEST_HZ
AMPLITUDE = 8_000.0
"""Of all tones that are sent."""
PRESENT, ABSENT = 0.8, 0.02
"""Share of a stretch's energy in a tone: this is the tone and hardly anything else; there is nothing of it."""


def strongest(samples: npt.NDArray[np.int16], rate: int) -> float:
    """The strongest frequency, in hertz."""
    return listen(samples, rate).hz


def assert_hears(samples: npt.NDArray[np.int16], rate: int, hertz: float, *, not_hertz: float) -> None:
    """The strongest frequency is this one, and that one is not to be heard at all.

    It must be 34 dB below a tone of its own level; the plucks of the music reach further down than a sidelobe.
    """
    assert abs(strongest(samples, rate) - hertz) < 3.0
    assert amplitude(samples, not_hertz, rate) < AMPLITUDE / 50


def longest_silence(samples: Samples) -> int:
    """The length of the longest run of digital silence."""
    sounding = np.flatnonzero(np.concatenate([[1], samples, [1]]))
    return int(np.diff(sounding).max()) - 1


def amplitude(samples: npt.NDArray[np.int16], hertz: float, rate: int) -> float:
    """Of one tone, by correlation under a window: a sine of amplitude A gives A."""
    window = np.hanning(samples.size)
    turn = np.exp(-2j * np.pi * hertz / rate * np.arange(samples.size))
    return float(2 * np.abs((samples * window) @ turn) / max(window.sum(), 1.0))


def shares(samples: npt.NDArray[np.int16], hertz: float, rate: int) -> npt.NDArray[np.float64]:
    """For each 100 ms, how much of its energy is this tone: 0 to 1; digital silence has nothing of anything."""
    length = rate // 10
    whole = samples[: samples.size // length * length].reshape(-1, length).astype(np.float64)
    turn = np.exp(-2j * np.pi * hertz / rate * np.arange(length))
    energy = (whole**2).sum(axis=1)
    tone = 2 * np.abs(whole @ turn) ** 2 / length
    return np.divide(tone, energy, out=np.zeros(len(whole)), where=energy > 0)


def tells(samples: npt.NDArray[np.int16], rate: int, own: float, others: tuple[float, ...]) -> npt.NDArray[np.str_]:
    """What each 100 ms holds: `tone` (its own, and nothing of the others), `silence`, or something `else`.

    A machine that is busy with other things delays packets: what was concealed is something else.
    """
    whole = samples[: samples.size // (rate // 10) * (rate // 10)].reshape(-1, rate // 10)
    silent = np.abs(whole.astype(np.int32)).max(axis=1, initial=0) < AMPLITUDE / 200
    pure = shares(samples, own, rate) > PRESENT
    for other in others:
        pure &= shares(samples, other, rate) < ABSENT
        assert shares(samples, other, rate).max(initial=0.0) < PRESENT / 2, "the other side is in here"
    return np.where(silent, "silence", np.where(pure, "tone", "else"))


@dataclass(frozen=True, slots=True)
class Stereo:
    """An exported recording."""

    left: Samples
    right: Samples
    rate: int

    @classmethod
    def read(cls, file: Path) -> Stereo:
        with wave.open(str(file), "rb") as wav:
            assert (wav.getnchannels(), wav.getsampwidth()) == (2, 2)
            both = np.frombuffer(wav.readframes(wav.getnframes()), "<i2").reshape(-1, 2)
            return cls(both[:, 0], both[:, 1], wav.getframerate())

    @property
    def seconds(self) -> float:
        return self.left.size / self.rate


def tone(hertz: float, rate: int, amplitude: float = AMPLITUDE) -> Sound:
    def sound(first: int, count: int) -> Samples:
        return np.rint(amplitude * np.sin(2 * np.pi * hertz / rate * np.arange(first, first + count))).astype(np.int16)

    return sound


class TimeCode:
    """A tone that rises from 400 to 3,000 Hz within 8 s: every half second of it tells when it was sent."""

    SECONDS = 8.0
    LOW_HZ, HIGH_HZ = 400.0, 3_000.0
    HEARD_RATE = 8_000
    """Of the reference that a recording is compared with: the code has nothing above 3 kHz."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self._samples = self._at(rate)
        self._reference = self._at(self.HEARD_RATE).astype(np.float64)

    def sound(self, first: int, count: int) -> Samples:
        return np.take(self._samples, range(first, first + count), mode="wrap")

    def last_sent(self, recorded: Samples, rate: int) -> float | None:
        """When the last sound of a recording was sent, in seconds of this signal; None if there is no sound."""
        heard = recorded[:: rate // self.HEARD_RATE]
        sounding = np.flatnonzero(np.abs(heard.astype(np.int32)) > AMPLITUDE / 16)
        if sounding.size < self.HEARD_RATE // 20:
            return None
        end = int(sounding[-1]) + 1
        piece = heard[max(0, end - self.HEARD_RATE // 2) : end].astype(np.float64)
        found = np.correlate(self._reference, piece)
        return (int(np.abs(found).argmax()) + piece.size) / self.HEARD_RATE

    def _at(self, rate: int) -> Samples:
        seconds = np.arange(round(self.SECONDS * rate)) / rate
        turns = self.LOW_HZ * seconds + (self.HIGH_HZ - self.LOW_HZ) / self.SECONDS * seconds**2 / 2
        return np.rint(AMPLITUDE * np.sin(2 * np.pi * turns)).astype(np.int16)
