"""What the legs of a benchmark say: a tone each without end, and now and then a mark to be timed by."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from relay.bench.work import Work
from relay.codecs import g711
from relay.codecs.opus import OpusEncoder

FRAMES_A_SECOND: Final = 50
MARK_HZ: Final = 3750
"""Above all tones, and a whole number of periods in a frame."""
MARK_AMPLITUDE: Final = 5000.0
MARK_TICKS: Final = 25
"""In each conference one leg marks a frame so often: longer than any sane delay, so that none is taken for another."""

Samples = NDArray[np.int16]
Bytes = NDArray[np.uint8]
_OPUS_BYTES_MAX: Final = 250
_MARKED: Final = FRAMES_A_SECOND


class Marks:
    """Which leg of a conference marks its frame in which tick: each in turn, the conferences one after another."""

    def __init__(self, work: Work) -> None:
        sizes = np.array([len(members) for members in work.conferences])
        first = np.array([members[0] for members in work.conferences])
        self._conference = np.array(work.conference_of)
        self._size = sizes[self._conference]
        self._place = np.arange(work.legs) - first[self._conference]
        self._first = first

    def marking(self, tick: int) -> NDArray[np.bool_]:
        """By leg."""
        turn, rest = np.divmod(tick - self._conference, MARK_TICKS)
        marking: NDArray[np.bool_] = (rest == 0) & (turn % self._size == self._place)
        return marking

    def latest(self, legs: NDArray[np.intp], ticks: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
        """The last mark in the conferences of `legs` up to a tick each: its tick, and who made it."""
        conference = self._conference[legs]
        turn = (ticks - conference) // MARK_TICKS
        return turn * MARK_TICKS + conference, self._first[conference] + turn % self._size[legs]


class Voices:
    """The encoded frame of every leg in a tick, ticks in order."""

    def __init__(self, work: Work) -> None:
        self._marks = Marks(work)
        self._said: _Said = _OpusSaid(work) if work.codec == "opus" else _G711Said(work)

    def frame(self, tick: int, out: Bytes) -> NDArray[np.int32]:
        """Write the payload of each leg to its row of `out`; returns their lengths."""
        return self._said.frame(tick, self._marks.marking(tick), out)


class _Said:
    def frame(self, tick: int, marking: NDArray[np.bool_], out: Bytes) -> NDArray[np.int32]:
        raise NotImplementedError


class _G711Said(_Said):
    """A second of each tone is all there is to say; it is encoded once, with and without the mark."""

    def __init__(self, work: Work) -> None:
        law = g711_law(work)
        self._codes = np.empty((2 * FRAMES_A_SECOND, work.legs, 160), np.uint8)
        for leg in range(work.legs):
            samples = second_of_tone(work, leg, 8000).reshape(FRAMES_A_SECOND, 160)
            both = np.concatenate([samples, samples + mark(8000)])
            codes = np.empty(both.shape, np.uint8)
            g711.encode(law, np.rint(both).astype(np.int16), codes)
            self._codes[:, leg] = codes

    def frame(self, tick: int, marking: NDArray[np.bool_], out: Bytes) -> NDArray[np.int32]:
        place = tick % FRAMES_A_SECOND
        out[:, :160] = self._codes[place]
        out[marking, :160] = self._codes[place + _MARKED, marking]
        return np.full(len(out), 160, np.int32)


class _OpusSaid(_Said):
    """An encoder remembers, so every frame is encoded in its turn."""

    def __init__(self, work: Work) -> None:
        codec = work.offered
        self._encoders = [
            OpusEncoder(48_000, codec.bitrate, codec.complexity, fec=codec.in_band_fec) for _ in range(work.legs)
        ]
        self._tones = [second_of_tone(work, leg, 48_000).reshape(FRAMES_A_SECOND, 960) for leg in range(work.legs)]
        self._mark = mark(48_000)

    def frame(self, tick: int, marking: NDArray[np.bool_], out: Bytes) -> NDArray[np.int32]:
        lengths = np.empty(len(out), np.int32)
        for leg, encoder in enumerate(self._encoders):
            sound = self._tones[leg][tick % FRAMES_A_SECOND]
            if marking[leg]:
                sound = sound + self._mark
            lengths[leg] = encoder.encode(np.rint(sound).astype(np.int16), out[leg, :_OPUS_BYTES_MAX])
        return lengths


def payload_bytes_max(work: Work) -> int:
    """The longest payload of any leg."""
    return _OPUS_BYTES_MAX if work.codec == "opus" else 160


def g711_law(work: Work) -> g711.Law:
    """The law of a benchmark that is not Opus."""
    return "PCMA" if work.codec == "pcma" else "PCMU"


def second_of_tone(work: Work, leg: int, rate: int) -> NDArray[np.float32]:
    """What a leg says, again and again."""
    turns = work.tones_hz[leg] * np.arange(rate) / rate
    return (np.sin(2 * np.pi * turns) * work.amplitude).astype(np.float32)


def mark(rate: int) -> NDArray[np.float32]:
    """What a marked frame has beside the tone."""
    turns = MARK_HZ * np.arange(rate // FRAMES_A_SECOND) / rate
    return (np.sin(2 * np.pi * turns) * MARK_AMPLITUDE).astype(np.float32)
