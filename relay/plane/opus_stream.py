"""What comes of one Opus leg: its packets at their places, and 20 ms of sound for each tick."""

from __future__ import annotations

from typing import Final

import numpy as np

from mixer.frame import Samples
from relay.codecs.opus import PACKET_SAMPLES_MAX_48K, OpusDecoder, packet_samples

SAMPLES: Final = 960
HALF_SAMPLES: Final = 480
CONCEALED_TICKS: Final = 3
PACKETS_MAX: Final = 64
"""Packets of 10 ms that a buffer of 640 ms holds."""
_JOIN_SAMPLES: Final = 240


class OpusStream:
    """A decoder with the packets that wait for it, by their first half slot (10 ms) on the playout timeline.

    A packet of more than 20 ms is decoded when its first slot plays, and its rest is kept for the slots after it.
    """

    def __init__(self) -> None:
        self._decoder = OpusDecoder(48_000)
        self._packets: dict[int, bytes] = {}
        self._decoded: Samples = np.zeros(PACKET_SAMPLES_MAX_48K, np.int16)
        self._rest: Samples = np.zeros(0, np.int16)
        self._run = CONCEALED_TICKS
        """Ticks since the last real sound, as in `relay.plane.concealment`."""
        self._is_passed_over = False
        self._fade = np.linspace(1, 0, SAMPLES, dtype=np.float32)
        self._rise = np.linspace(0, 1, _JOIN_SAMPLES, dtype=np.float32)

    def reset(self) -> None:
        """Another sender begins: forget packets and the past."""
        self._packets.clear()
        self._rest = self._rest[:0]
        self._decoder.reset()
        self._run = CONCEALED_TICKS

    def put(self, half: int, payload: bytes) -> None:
        """Keep a packet for its place."""
        if len(self._packets) >= PACKETS_MAX:
            # Only what playout passed over (a resynchronisation) can pile up: the oldest is of no use any more.
            del self._packets[next(iter(self._packets))]
        self._packets.setdefault(half, payload)

    def take(self, half: int, filled: int, out: Samples) -> bool:
        """Write the sound of one slot to `out`; False: some of it is made up, or silence."""
        self._is_passed_over = False
        if not self._rest.size and filled == 0x0101:
            payload = self._packets.get(half)
            # Of another length, the halves sort it out: a decoder must not see a packet twice.
            if payload is not None and packet_samples(payload, len(payload)) == SAMPLES:
                del self._packets[half]
                if self._decoder.decode(payload, len(payload), out) == SAMPLES:
                    return self._real(out)
        first, second = (self._take_half(half + k, out[k * HALF_SAMPLES : (k + 1) * HALF_SAMPLES]) for k in (0, 1))
        return self._real(out) if first and second else self._made_up(out)

    def pass_over(self, half: int) -> None:
        """A slot plays that nobody hears: its packets are of no use, and what comes after it begins anew."""
        for each in (half, half + 1):
            self._packets.pop(each, None)
        if not self._is_passed_over:
            self._is_passed_over = True
            self._rest = self._rest[:0]
            self._decoder.reset()
            self._run = CONCEALED_TICKS

    @property
    def silent(self) -> bool:
        """Whether concealment has come to its end."""
        return self._run >= CONCEALED_TICKS

    def _take_half(self, half: int, out: Samples) -> bool:
        payload = self._packets.pop(half, None)
        if self._rest.size < HALF_SAMPLES and payload is not None:
            samples = self._decoder.decode(payload, len(payload), self._decoded)
            self._rest = self._decoded[: max(samples, 0)]
        if self._rest.size >= HALF_SAMPLES:
            out[:] = self._rest[:HALF_SAMPLES]
            self._rest = self._rest[HALF_SAMPLES:]
            return True
        self._rest = self._rest[:0]
        if self._run >= CONCEALED_TICKS or self._decoder.conceal(out) < 0:
            out[:] = 0
        return False

    def _real(self, out: Samples) -> bool:
        if self._run >= CONCEALED_TICKS:
            out[:_JOIN_SAMPLES] = out[:_JOIN_SAMPLES] * self._rise
        self._run = 0
        return True

    def _made_up(self, out: Samples) -> bool:
        self._run = min(self._run + 1, CONCEALED_TICKS)
        if self._run == CONCEALED_TICKS:
            out[:] = out * self._fade
        return False
