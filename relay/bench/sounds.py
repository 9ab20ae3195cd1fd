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
_QUEUE_VOICES: Final = 8
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
        self._marks = None if work.queue else Marks(work)
        self._lengths = np.zeros(work.legs, np.int32)
        self._marking = np.zeros(work.legs, np.bool_)
        opus = np.array([leg in work.opus_legs for leg in range(work.legs)], np.bool_)
        voices: list[_OpusSaid | _G711Said] = [
            _OpusSaid(work, np.flatnonzero(opus)),
            _G711Said(work, np.flatnonzero(~opus)),
        ]
        self._voices = [voice for voice in voices if voice.legs.size]

    def frame(self, tick: int, out: Bytes) -> NDArray[np.int32]:
        """Write the payload of each leg to its row of `out`; returns their lengths."""
        if self._marks is not None:  # callers in a queue are heard by nobody
            self._marking = self._marks.marking(tick)
        for voice in self._voices:
            voice.frame(tick, self._marking, out, self._lengths)
        return self._lengths


class _G711Said:
    """A second of each tone is all there is to say; it is encoded once, with and without the mark."""

    def __init__(self, work: Work, legs: NDArray[np.intp]) -> None:
        self.legs = legs
        law = g711_law(work)
        self._codes = np.empty((2 * FRAMES_A_SECOND, legs.size, 160), np.uint8)
        for row, leg in enumerate(legs.tolist()):
            samples = second_of_tone(work, leg, 8000).reshape(FRAMES_A_SECOND, 160)
            both = np.concatenate([samples, samples + mark(8000)])
            codes = np.empty(both.shape, np.uint8)
            g711.encode(law, np.rint(both).astype(np.int16), codes)
            self._codes[:, row] = codes

    def frame(self, tick: int, marking: NDArray[np.bool_], out: Bytes, lengths: NDArray[np.int32]) -> None:
        place, marked = tick % FRAMES_A_SECOND, marking[self.legs]
        out[self.legs, :160] = self._codes[place]
        out[self.legs[marked], :160] = self._codes[place + _MARKED, marked]
        lengths[self.legs] = 160


class _OpusSaid:
    """An encoder remembers, so every frame is encoded in its turn; callers in a queue share a few voices."""

    def __init__(self, work: Work, legs: NDArray[np.intp]) -> None:
        self.legs = legs
        self._of_voice = [legs[voice::_QUEUE_VOICES] for voice in range(min(_QUEUE_VOICES, legs.size))]
        if not work.queue:
            self._of_voice = [legs[row : row + 1] for row in range(legs.size)]
        first = [int(same[0]) for same in self._of_voice]
        codecs = [work.codec_of_leg(leg) for leg in first]
        self._encoders = [
            OpusEncoder(48_000, codec.bitrate, codec.complexity, fec=codec.in_band_fec) for codec in codecs
        ]
        self._tones = [second_of_tone(work, leg, 48_000).reshape(FRAMES_A_SECOND, 960) for leg in first]
        self._mark = mark(48_000)

    def frame(self, tick: int, marking: NDArray[np.bool_], out: Bytes, lengths: NDArray[np.int32]) -> None:
        for encoder, tones, legs in zip(self._encoders, self._tones, self._of_voice, strict=True):
            sound = tones[tick % FRAMES_A_SECOND]
            if marking[legs[0]]:
                sound = sound + self._mark
            lengths[legs] = encoder.encode(np.rint(sound).astype(np.int16), out[legs[0], :_OPUS_BYTES_MAX])
            out[legs[1:], :_OPUS_BYTES_MAX] = out[legs[0], :_OPUS_BYTES_MAX]


def payload_bytes_max(work: Work) -> int:
    """The longest payload of any leg."""
    return _OPUS_BYTES_MAX if work.opus_legs else 160


def g711_law(work: Work) -> g711.Law:
    """Of the legs that do not speak Opus."""
    return "PCMA" if work.codec == "pcma" else "PCMU"


def second_of_tone(work: Work, leg: int, rate: int) -> NDArray[np.float32]:
    """What a leg says, again and again."""
    turns = work.tones_hz[leg] * np.arange(rate) / rate
    return (np.sin(2 * np.pi * turns) * work.amplitude).astype(np.float32)


def mark(rate: int) -> NDArray[np.float32]:
    """What a marked frame has beside the tone."""
    turns = MARK_HZ * np.arange(rate // FRAMES_A_SECOND) / rate
    return (np.sin(2 * np.pi * turns) * MARK_AMPLITUDE).astype(np.float32)
