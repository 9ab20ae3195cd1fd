"""From the jitter buffers to sound: one frame of every leg on a contact, decoded or made up, for tap and mixer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mixer.frame import SAMPLE_MAX, SAMPLE_MIN, Pcm, Samples
from relay.codecs import g711
from relay.plane.concealment import Concealment
from relay.plane.jitter import FULL, JitterBuffers
from relay.plane.legs import LAWS, OPUS, LegTable
from relay.plane.opus_stream import SAMPLES as OPUS_SAMPLES
from relay.plane.opus_stream import OpusStream
from relay.plane.packets import Bytes, Rows
from relay.plane.rings import SLOT_BYTES, PayloadRings

_SILENT_ENERGY: Final = 184.0**2
"""Mean square below which a frame may be skipped unheard: -45 dBFS."""


@dataclass(frozen=True, slots=True)
class Played:
    """What the legs of one encoding said in a tick: `frames` as the recording stores them, one row each."""

    legs: Rows
    frames: Bytes | Samples
    sound: Pcm | Samples
    concealed: NDArray[np.bool_]
    lost: NDArray[np.bool_]


class Playout:
    """Takes a slot of every active leg, and leaves its sound in the PCM tables of the mixer."""

    def __init__(self, legs: LegTable, jitter: JitterBuffers, rings: PayloadRings, narrow: Pcm, wide: Pcm) -> None:
        self._legs = legs
        self._jitter = jitter
        self._rings = rings
        self._narrow = narrow
        """8,000 Hz rows; what a G.711 leg said last stays here for concealment."""
        self._wide = wide
        self._concealment = Concealment(legs.legs_max)
        self._decoded: Pcm = np.zeros((legs.legs_max, SLOT_BYTES), np.float32)
        self._codes: dict[g711.Law, tuple[Rows, Bytes]] = {}
        """What legs of a law said in this tick, as it came or was made up: ascending rows, and payloads."""
        self._nothing: NDArray[np.bool_] = np.zeros(legs.legs_max, np.bool_)
        self._nothing.flags.writeable = False
        self._samples: Samples = np.zeros((legs.legs_max, OPUS_SAMPLES), np.int16)

    def open(self, leg: int) -> None:
        """A leg begins, or begins anew after it was on no contact."""
        self._concealment.open(leg)
        self._narrow[leg] = 0
        self._wide[leg] = 0

    def play(self, encoding: int, rows: Rows, needed: NDArray[np.bool_]) -> Played:
        """The present slot of the legs of one encoding; who is not `needed` (by leg) need not be decoded.

        G.711 costs so little that it is decoded all the same; an Opus leg that nobody hears is silent.
        """
        if encoding == OPUS:
            return self._play_opus(rows, needed.take(rows).tolist())
        return self._play_g711(LAWS[encoding], rows)

    def codes(self, law: g711.Law, legs: Rows) -> Bytes:
        """The payloads of legs of a law that play in this tick."""
        rows, payload = self._codes[law]
        return payload.take(np.searchsorted(rows, legs), axis=0, mode="clip")

    def _play_g711(self, law: g711.Law, rows: Rows) -> Played:
        taken = self._jitter.take(rows)
        payload = self._rings.take(taken.places)
        sound = self._decoded[: rows.size]
        g711.decode(law, payload, sound)
        changed = concealed = lost = self._nothing[: rows.size]
        if not taken.all_whole:
            concealed, lost = self._conceal(rows, ~taken.whole, taken.filled, sound)
            self._legs.concealed[rows] += concealed
            changed = ~taken.whole
        run = self._concealment.run.take(rows)
        if run.any():
            changed = changed | self._recover(rows, taken.whole & (run > 0), sound)
        if self._jitter.skips.any():
            changed = changed | self._skip(law, rows, taken.whole, sound)
        if changed.any():
            payload[changed] = _encoded(law, sound[changed])
        self._narrow[rows] = sound
        self._codes[law] = rows, payload
        return Played(rows, payload, sound, concealed, lost)

    def _conceal(
        self, rows: Rows, missing: NDArray[np.bool_], filled: NDArray[np.uint16], sound: Pcm
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Make up what is missing; a slot of which one half came keeps that half."""
        at = np.flatnonzero(missing)
        legs = rows[at]
        frames, audible = self._concealment.conceal(legs, self._narrow[legs])
        for i in np.flatnonzero(filled[at]).tolist():
            frames[i] = _completed(sound[at[i]], first_half_came=bool(filled[at[i]] & 1))
            audible[i] = True
        sound[at] = frames
        concealed, lost = missing.copy(), missing.copy()
        concealed[at] = audible
        lost[at] = ~audible
        return concealed, lost

    def _recover(self, rows: Rows, returning: NDArray[np.bool_], sound: Pcm) -> NDArray[np.bool_]:
        """Blend in the first frames after what was made up; returns which."""
        if returning.any():
            frames = sound[returning]
            self._concealment.recover(rows[returning], frames)
            sound[returning] = frames
        return returning

    def _skip(self, law: g711.Law, rows: Rows, whole: NDArray[np.bool_], sound: Pcm) -> NDArray[np.bool_]:
        """Shorten what is deeper than it must be; returns which frames that changed."""
        skipped = np.zeros(rows.size, np.bool_)
        for i in np.flatnonzero((self._jitter.skips.take(rows) > 0) & whole).tolist():
            skipped[i] = self._skip_one(law, int(rows[i]), sound[i])
        return skipped

    def _skip_one(self, law: g711.Law, leg: int, sound: Pcm) -> bool:
        """Play two slots in one tick, cross-faded: in silence, or when waiting for silence took too long."""
        if not self._jitter.may_skip(leg) and float(np.dot(sound, sound)) / sound.size > _SILENT_ENERGY:
            return False
        place, whole = self._jitter.skip(leg)
        if whole:
            following = np.empty(SLOT_BYTES, np.float32)
            g711.decode(law, self._rings.take(np.array([place]))[0], following)
            sound += (following - sound) * np.linspace(0.0, 1.0, SLOT_BYTES, dtype=np.float32)
        return True

    def _play_opus(self, rows: Rows, needed: list[bool]) -> Played:
        first = self._jitter.slot[rows] << 1
        filled = self._jitter.take(rows).filled
        frames = self._samples[: rows.size]
        concealed, lost = np.zeros(rows.size, np.bool_), np.zeros(rows.size, np.bool_)
        for i, row in enumerate(rows.tolist()):
            self._legs.at_work = leg = self._legs.leg(row)
            stream = leg.opus
            assert stream is not None, "legs of this encoding have one"
            if not needed[i]:
                self._pass_over(stream, row, int(first[i]))
                frames[i] = 0
                continue
            whole = stream.take(int(first[i]), int(filled[i]), frames[i])
            concealed[i], lost[i] = not whole and not stream.silent, not whole and stream.silent
            if whole and self._jitter.skips[row] > 0:
                self._skip_opus(row, frames[i])
        self._legs.at_work = None
        self._wide[rows] = frames
        self._legs.concealed[rows] += concealed
        return Played(rows, frames, frames, concealed, lost)

    def _pass_over(self, stream: OpusStream, row: int, first: int) -> None:
        stream.pass_over(first)
        if self._jitter.skips[row] > 0:
            self._jitter.skip(row)
            stream.pass_over(first + 2)

    def _skip_opus(self, row: int, frame: Samples) -> None:
        sound = frame.astype(np.float32)
        if not self._jitter.may_skip(row) and float(np.dot(sound, sound)) / sound.size > _SILENT_ENERGY:
            return
        first = int(self._jitter.slot[row]) << 1
        stream = self._legs.leg(row).opus
        assert stream is not None, "legs of this encoding have one"
        following = np.zeros(OPUS_SAMPLES, np.int16)
        self._jitter.skip(row)
        stream.take(first, FULL, following)
        frame[:] = sound + (following - sound) * np.linspace(0.0, 1.0, OPUS_SAMPLES, dtype=np.float32)


def _completed(sound: Pcm, *, first_half_came: bool) -> Pcm:
    """A frame of which one half came: the other mirrors it, which joins them without a step, and fades."""
    half = SLOT_BYTES // 2
    fade = np.linspace(1.0, 0.0, half, dtype=np.float32)
    if first_half_came:
        return np.concatenate([sound[:half], sound[half - 1 :: -1] * fade])
    return np.concatenate([sound[: half - 1 : -1] * fade[::-1], sound[half:]])


def _encoded(law: g711.Law, sound: Pcm) -> Bytes:
    samples = np.clip(np.rint(sound), SAMPLE_MIN, SAMPLE_MAX).astype(np.int16)
    codes: Bytes = np.empty(samples.shape, np.uint8)
    g711.encode(law, samples, codes)
    return codes
