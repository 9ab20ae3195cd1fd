"""What the legs of a benchmark hear: whether exactly the others, all the time, and how long after they spoke."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from relay.bench.ears import FRAME
from relay.bench.sounds import FRAMES_A_SECOND, MARK_AMPLITUDE, MARK_HZ, Marks
from relay.bench.work import TONE_HZ_END, TONE_HZ_MIN, Work

RATE: Final = 8000
"""Everything is heard at 8,000 Hz: tones and marks lie below."""
PRESENT_MIN, PRESENT_MAX = 0.5, 1.5
"""What a tone that ought to be heard may have of the amplitude that was sent."""
ABSENT_MAX: Final = 0.2
"""What any other may have at most; five missing frames in a second leak 0.1."""
FRESH_MIN: Final = 45
"""Frames of a second that must have come, and be right: a fault of more than a tenth of a second is always heard."""
REST_MAX: Final = 0.15
"""What all that is no tone of the others may have, together, of the energy of one tone; of all of them, in a second."""
_MARK_HEARD: Final = MARK_AMPLITUDE * 0.4

Rows = NDArray[np.intp]
Frames = NDArray[np.int16]
Nanoseconds = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Delays:
    """Mouth to ear, in milliseconds: from when a marked frame was sent to when the mix that holds it came."""

    p50: float
    p99: float
    count: int


class Hearing:
    """The last second of every leg, and the judgement over all seconds so far."""

    def __init__(self, work: Work, ticks: int, phases: int) -> None:
        self.good = np.ones(work.legs, np.bool_)
        """Legs that heard exactly the others whenever they were judged."""
        self.judgements = np.zeros(work.legs, np.int64)
        self.sent_ns: Nanoseconds = np.full((ticks, phases), np.iinfo(np.int64).max)
        """When the legs of a phase sent their frames of a tick, Unix nanoseconds; set by whoever sends."""
        self._amplitude = work.amplitude
        self._marks = Marks(work)
        self._second: Frames = np.zeros((work.legs, FRAMES_A_SECOND, FRAME), np.int16)
        self._fresh = np.zeros((work.legs, FRAMES_A_SECOND), np.bool_)
        self._delays_ns: list[Nanoseconds] = []
        self._marked = np.full(work.legs, -1, np.int64)
        turns = 2 * np.pi * MARK_HZ * np.arange(FRAME) / RATE
        self._mark = (np.stack([np.cos(turns), np.sin(turns)], axis=1) * 2 / FRAME).astype(np.float32)
        self._mark_energy = np.zeros((work.legs, FRAMES_A_SECOND), np.float32)
        tones = np.array(work.tones_hz) - TONE_HZ_MIN
        self._expected: list[Rows] = [
            tones[[other for other in work.conferences[number] if other != leg]].astype(np.intp)
            for leg, number in enumerate(work.conference_of)
        ]
        self._projection = _Projection(self._expected)

    def hear(
        self,
        legs: Rows,
        places: NDArray[np.int64],
        frames: Frames,
        arrivals_ns: Nanoseconds,
    ) -> NDArray[np.bool_]:
        """Keep frames at their places on the RTP timeline; returns which hold a mark."""
        places = places % FRAMES_A_SECOND
        self._second[legs, places] = frames
        self._fresh[legs, places] = True
        found = frames.astype(np.float32) @ self._mark
        power = np.einsum("ij,ij->i", found, found)
        marked: NDArray[np.bool_] = power > _MARK_HEARD**2
        self._mark_energy[legs, places] = np.where(marked, power * (FRAME / 2), 0)
        return marked

    def time(self, legs: Rows, phases: NDArray[np.intp], arrivals_ns: Nanoseconds, ticks: NDArray[np.int64]) -> None:
        """Marks were heard by `legs` while the ticks `ticks` were being sent; `phases` is the phase of every leg."""
        at, speaker = self._marks.latest(legs, ticks)
        future = (at < 0) | (self.sent_ns[np.maximum(at, 0), phases[speaker]] > arrivals_ns)
        if future.any():
            at[future], speaker[future] = self._marks.latest(legs[future], at[future] - 1)
        known = (at >= 0) & (self._marked[legs] != at)
        legs, at, speaker, arrivals_ns = legs[known], at[known], speaker[known], arrivals_ns[known]
        self.good[legs[speaker == legs]] = False  # nobody may hear his own mark
        self._marked[legs] = at
        self._delays_ns.append(arrivals_ns - self.sent_ns[at, phases[speaker]])

    def judge(self, legs: Rows) -> None:
        """Whether each heard exactly the others in its last second; the next judgement wants another second."""
        enough = np.count_nonzero(self._fresh[legs], axis=1) >= FRESH_MIN
        exact = self._plainly(legs)
        for i in np.flatnonzero(enough & ~exact).tolist():
            exact[i] = self._closely(int(legs[i]))
        self.good[legs] &= exact & enough
        self.judgements[legs] += 1
        self.forget(legs)

    def _plainly(self, legs: Rows) -> NDArray[np.bool_]:
        """Whether what is left without the others' tones (and marks) is too little for any other tone.

        By Parseval no single tone of the rest has more than all of it: what passes here passes `_closely` too, which is
        fifteen times dearer.
        """
        sound = self._second[legs].astype(np.float32)
        amplitudes, energy = self._projection.of(legs, sound)
        amplitudes /= self._amplitude
        there = self._projection.there[legs]
        present = ((amplitudes > PRESENT_MIN) & (amplitudes < PRESENT_MAX) | ~there).all(axis=1)
        rest = (energy - self._mark_energy[legs].sum(axis=1)) * (2 / RATE)
        exact: NDArray[np.bool_] = present & (rest < (ABSENT_MAX * self._amplitude) ** 2)
        return exact

    def _closely(self, leg: int) -> bool:
        # Places are counted modulo a second: what came in this one stands in the order in which it was said, turned.
        sound, others = self._second[leg], self._expected[leg]
        return _are_exactly(_spectrum(sound / self._amplitude), others) or self._frame_by_frame(sound, others)

    def _frame_by_frame(self, sound: Frames, others: Rows) -> bool:
        """What the relay skipped or made up breaks the tones of a second, but not those of its other frames."""
        waves, inverse = _least_squares(tuple(others.tolist()))
        frames = sound / self._amplitude
        parts = frames @ inverse
        amplitudes = np.hypot(parts[:, 2::2], parts[:, 3::2])
        rest = frames - parts @ waves
        right = (amplitudes.min(axis=1) > PRESENT_MIN) & (amplitudes.max(axis=1) < PRESENT_MAX)
        right &= np.einsum("ij,ij->i", rest, rest) * (2 / FRAME) < REST_MAX
        rest[~right] = 0
        return int(np.count_nonzero(right)) >= FRESH_MIN and bool(_spectrum(rest).max() < ABSENT_MAX)

    def forget(self, legs: Rows) -> None:
        """What these heard so far is not judged any more."""
        self._second[legs] = 0
        self._fresh[legs] = False
        self._mark_energy[legs] = 0

    def begin(self) -> None:
        """From here on it counts."""
        self._delays_ns.clear()
        self.good[:] = True
        self.judgements[:] = 0
        self.forget(np.arange(len(self.good)))

    def delays_ms(self) -> NDArray[np.float64]:
        """Of all marks since `begin`."""
        return np.concatenate([np.zeros(0, np.int64), *self._delays_ns]) / 1e6

    def delays(self) -> Delays:
        """Their percentiles."""
        found = self.delays_ms()
        if not found.size:
            return Delays(0.0, 0.0, 0)
        p50, p99 = np.percentile(found, [50, 99])
        return Delays(round(float(p50), 2), round(float(p99), 2), int(found.size))


class _Projection:
    """How much of the tones that a leg ought to hear is in a second of sound, and the energy of all the rest.

    Tones lie on whole hertz, so that a second's tones are orthogonal; and a tone in frame j is the tone in frame 0,
    turned: the tables need one frame of each.
    """

    def __init__(self, expected: list[Rows]) -> None:
        most = max(tones.size for tones in expected)
        self.there = np.array([[i < tones.size for i in range(most)] for tones in expected], np.bool_)
        padded = np.array([[*tones, *[0] * (most - tones.size)] for tones in expected], np.intp)
        hertz, self._tones = np.unique(padded, return_inverse=True)
        self._tones = self._tones.reshape(padded.shape)
        turns = np.outer(hertz + TONE_HZ_MIN, np.arange(FRAME)) * (2 * np.pi / RATE)
        self._waves = np.stack([np.cos(turns), np.sin(turns)], axis=1).astype(np.float32)
        frames = np.outer(hertz + TONE_HZ_MIN, np.arange(FRAMES_A_SECOND)) % FRAMES_A_SECOND
        self._turned = np.exp(-2j * np.pi * frames / FRAMES_A_SECOND).astype(np.complex64)

    def of(self, legs: Rows, sound: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Amplitudes, a column for each of the others, and what is left of the energy, the sum of squares."""
        tones = self._tones[legs]
        waves = self._waves[tones].reshape(legs.size, -1, FRAME)
        parts = np.matmul(waves, sound.transpose(0, 2, 1)).reshape(*tones.shape, 2, FRAMES_A_SECOND)
        sums = np.einsum("ijk,ijk->ij", parts[:, :, 0] - 1j * parts[:, :, 1], self._turned[tones])
        amplitudes = np.abs(sums) * np.float32(2 / RATE) * self.there[legs]
        flat = sound.reshape(legs.size, -1)
        energy = np.einsum("ij,ij->i", flat, flat)
        return amplitudes, energy - (amplitudes**2).sum(axis=1) * (RATE / 2)


def _spectrum(second: NDArray[np.float64]) -> NDArray[np.float64]:
    """The amplitudes of a second's tones, by hertz from the lowest on."""
    amplitudes: NDArray[np.float64] = np.abs(np.fft.rfft(second.ravel()))[TONE_HZ_MIN:TONE_HZ_END] * (2 / RATE)
    return amplitudes


def _are_exactly(spectrum: NDArray[np.float64], others: Rows) -> bool:
    """Whether a spectrum, in units of what each leg sends, holds the tones of the others and nothing else."""
    there = spectrum[others]
    rest = spectrum.copy()
    rest[others] = 0
    present = there.min() > PRESENT_MIN and there.max() < PRESENT_MAX
    return bool(present and rest.max() < ABSENT_MAX and np.dot(rest, rest) < REST_MAX * others.size)


@functools.lru_cache(4096)
def _least_squares(others: tuple[int, ...]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cosine and sine, over a frame, of the mark and of each tone, and what finds their shares in a frame."""
    hertz = np.array([MARK_HZ, *(tone + TONE_HZ_MIN for tone in others)])
    turns = np.outer(hertz, np.arange(FRAME)) * (2 * np.pi / RATE)
    waves = np.stack([np.cos(turns), np.sin(turns)], axis=1).reshape(-1, FRAME)
    return waves.astype(np.float32), np.linalg.pinv(waves).astype(np.float32)
