"""What callers in a queue of a benchmark hear: exactly the hold music, all at the same place of it, and nobody else."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from mixer.sources import Source
from relay.bench.ears import FRAME
from relay.bench.hearing import FRESH_MIN, Delays, Frames, Nanoseconds, Rows
from relay.bench.sounds import g711_law
from relay.bench.work import Work
from relay.codecs import g711
from relay.codecs.opus import PAYLOAD_BYTES_MAX, OpusDecoder, OpusEncoder

WRONG_MAX: Final = 5
"""Frames between two judgements that may be something else: the relay skipped, or this end met an Opus stream late."""
TOGETHER_MAX: Final = 1
"""Frames by which two callers may be apart, of two ticks that began earlier and later than they ought to."""
_TOLERANCE: Final = {"G.711": 0.001, "opus": 0.2}
"""Energy of the difference from the music as the codec gives it back, of the music's: an Opus frame differs a little by
what its encoder coded before (measured: 0.08 at most), the next frame of the piece by 0.38 at least."""
_TICK_NS: Final = 20_000_000
_UNKNOWN: Final = -1


class MusicHearing:
    """Judges like `relay.bench.hearing.Hearing`; nobody hears marks here, so there are no delays."""

    def __init__(self, work: Work, ticks: int, phases: int) -> None:
        self.good = np.ones(work.legs, np.bool_)
        self.judgements = np.zeros(work.legs, np.int64)
        self.sent_ns: Nanoseconds = np.full((ticks, phases), np.iinfo(np.int64).max)
        self._tolerance = _TOLERANCE["opus" if work.codec == "opus" else "G.711"]
        self._music = as_heard(work).astype(np.float32)
        self._energy = np.einsum("ij,ij->i", self._music, self._music)
        self._offset = np.full(work.legs, _UNKNOWN, np.int64)
        """From the place of a frame in a leg's stream to its place in the piece."""
        self._since = _UNKNOWN
        """From the tick of an arrival to the place in the piece, for all callers."""
        self._right = np.zeros(work.legs, np.int64)
        self._wrong = np.zeros(work.legs, np.int64)

    def hear(
        self, legs: Rows, places: NDArray[np.int64], frames: Frames, arrivals_ns: Nanoseconds
    ) -> NDArray[np.bool_]:
        """Compare frames with the piece; none holds a mark."""
        sound = frames.astype(np.float32)
        at = (places + self._offset[legs]) % len(self._music)
        new = self._offset[legs] == _UNKNOWN
        right = ~new & self._is(sound, at)
        for i in np.flatnonzero(~right).tolist():
            at[i] = self._place(sound[i])
            if at[i] != _UNKNOWN:  # where it goes on, from the next frame on
                self._offset[legs[i]] = (at[i] - places[i]) % len(self._music)
        right |= new & (at != _UNKNOWN)
        right &= self._together(at, arrivals_ns)
        np.add.at(self._right, legs, right)
        np.add.at(self._wrong, legs, ~right)
        return np.zeros(legs.size, np.bool_)

    def time(self, legs: Rows, phases: NDArray[np.intp], arrivals_ns: Nanoseconds, ticks: NDArray[np.int64]) -> None:
        """Nothing was marked."""

    def judge(self, legs: Rows) -> None:
        """Whether each heard the music, and hardly anything else, since it was judged last."""
        self.good[legs] &= (self._right[legs] >= FRESH_MIN) & (self._wrong[legs] <= WRONG_MAX)
        self.judgements[legs] += 1
        self.forget(legs)

    def forget(self, legs: Rows) -> None:
        """What these heard so far is not judged any more."""
        self._right[legs] = 0
        self._wrong[legs] = 0

    def begin(self) -> None:
        """From here on it counts."""
        self.good[:] = True
        self.judgements[:] = 0
        self.forget(np.arange(len(self.good)))

    def delays_ms(self) -> NDArray[np.float64]:
        """None, therefore."""
        return np.zeros(0)

    def delays(self) -> Delays:
        """Nobody can say when music was said."""
        return Delays(0.0, 0.0, 0)

    def _is(self, sound: NDArray[np.float32], at: NDArray[np.int64]) -> NDArray[np.bool_]:
        difference = sound - self._music[at]
        close: NDArray[np.bool_] = np.einsum("ij,ij->i", difference, difference) < self._tolerance * self._energy[at]
        return close

    def _place(self, sound: NDArray[np.float32]) -> int:
        """Where in the piece a frame is; unknown if nowhere."""
        difference = self._energy - 2 * (self._music @ sound) + np.dot(sound, sound)
        ratios = difference / self._energy
        nearest = int(np.argmin(ratios))
        return nearest if ratios[nearest] < self._tolerance else _UNKNOWN

    def _together(self, at: NDArray[np.int64], arrivals_ns: Nanoseconds) -> NDArray[np.bool_]:
        since = (at - arrivals_ns // _TICK_NS) % len(self._music)
        known = at != _UNKNOWN
        if self._since == _UNKNOWN and known.any():
            self._since = int(since[known][0])
        apart = (since - self._since + TOGETHER_MAX) % len(self._music)
        together: NDArray[np.bool_] = known & (apart <= 2 * TOGETHER_MAX)
        return together


def as_heard(work: Work) -> Frames:
    """The frames of the piece at 8,000 Hz, as they come out of the codec."""
    if work.codec != "opus":
        loop = Source("music", (8000,)).loops[8000].astype(np.int16)
        codes, heard = np.empty(loop.shape, np.uint8), np.empty(loop.shape, np.int16)
        g711.encode(g711_law(work), loop, codes)
        g711.decode_int16(g711_law(work), codes, heard)
        return heard
    loop, codec = Source("music", (48_000,)).loops[48_000].astype(np.int16), work.codec_of_leg(0)
    encoder = OpusEncoder(48_000, codec.bitrate, codec.complexity, fec=codec.in_band_fec)
    decoder, packet = OpusDecoder(8000), np.zeros(PAYLOAD_BYTES_MAX, np.uint8)
    heard = np.empty((len(loop), FRAME), np.int16)
    for _ in range(2):  # what counts is the second round, when the coders have found into it
        for frame, out in zip(loop, heard, strict=True):
            decoder.decode(packet, encoder.encode(frame, packet), out)
    return heard
