"""What RFC 3550 counts of received packets: sequence numbers, loss and interarrival jitter, for all legs at once."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from relay.plane.packets import Rows

DROPOUT_MAX: Final = 3000
MISORDER_MAX: Final = 100
"""Sequence numbers further off are a restart, if the next one follows (RFC 3550 A.1)."""
_INTERARRIVAL_SECONDS_MAX: Final = 1.0
"""What lies further apart is a pause or a new timeline, not jitter."""


class Reception:
    """Columns over the rows of legs."""

    def __init__(self, legs_max: int) -> None:
        self.received = np.zeros(legs_max, np.int64)
        self._started = np.zeros(legs_max, np.bool_)
        self._base = np.zeros(legs_max, np.int64)
        self._highest = np.zeros(legs_max, np.int64)
        """With cycles."""
        self._received_since = np.zeros(legs_max, np.int64)
        self._lost_before = np.zeros(legs_max, np.int64)
        self._bad_sequence = np.full(legs_max, -1, np.int64)
        self._reported = np.zeros((2, legs_max), np.int64)
        self.jitter = np.zeros(legs_max, np.float64)
        """Interarrival jitter in seconds (RFC 3550 §6.4.1)."""
        self._transit = np.zeros(legs_max, np.float64)
        """Arrival of the last packet less its timestamp, in seconds (RFC 3550 A.8)."""
        self._tick_seconds = np.full(legs_max, 1 / 8000)
        self._last = np.zeros(legs_max, np.int32)

    def open(self, leg: int, clock_rate: int = 8000) -> None:
        """A new leg in a row; `clock_rate` is of its RTP timestamps, in hertz."""
        self._tick_seconds[leg] = 1 / clock_rate
        self.restart(leg)
        self.received[leg] = self._lost_before[leg] = 0
        self._reported[:, leg] = 0
        self.jitter[leg] = 0.0

    def restart(self, leg: int) -> None:
        """The leg's SSRC changed: its next packet begins a new count; what was lost stays lost."""
        self._lost_before[leg] = self.lost(leg)
        self._started[leg] = False
        self._bad_sequence[leg] = -1
        self._received_since[leg] = 0
        self._transit[leg] = -np.inf

    def receive(
        self,
        legs: Rows,
        sequences: NDArray[np.uint16],
        timestamps: NDArray[np.uint32],
        arrivals: NDArray[np.float64],
        timed: NDArray[np.bool_],
    ) -> None:
        """Count a batch in order of arrival; what is not `timed` (events keep one timestamp) tells no jitter."""
        np.add.at(self.received, legs, 1)
        highest = self._highest.take(legs)
        offset = (sequences - highest.astype(np.uint16)).view(np.int16)
        unusual = ~self._started.take(legs) | ((offset + MISORDER_MAX).view(np.uint16) > DROPOUT_MAX + MISORDER_MAX)
        if unusual.any():
            counted = np.array(
                [
                    not odd or self._restart_at(int(leg), int(sequence))
                    for odd, leg, sequence in zip(unusual, legs, sequences, strict=True)
                ]
            )
            legs, sequences = legs[counted], sequences[counted]
            timestamps, arrivals, timed = timestamps[counted], arrivals[counted], timed[counted]
            highest = self._highest[legs]
            offset = (sequences - highest.astype(np.uint16)).view(np.int16)
        np.add.at(self._received_since, legs, 1)
        np.maximum.at(self._highest, legs, highest + offset)
        if timed.all():
            self._measure_jitter(legs, timestamps, arrivals)
        else:
            self._measure_jitter(legs[timed], timestamps[timed], arrivals[timed])

    def lost(self, leg: int) -> int:
        """Packets that were sent and never came; a negative count (duplicates, RFC 3550 A.3) is none."""
        if not self._started[leg]:
            return int(self._lost_before[leg])
        expected = self._highest[leg] - self._base[leg] + 1
        return int(self._lost_before[leg]) + max(0, int(expected - self._received_since[leg]))

    def losses(self, legs: Rows) -> NDArray[np.int64]:
        """The same of many legs."""
        missing = np.maximum(self._highest[legs] - self._base[legs] + 1 - self._received_since[legs], 0)
        return self._lost_before[legs] + np.where(self._started[legs], missing, 0)

    def highest_sequences(self, legs: Rows) -> NDArray[np.int64]:
        """The extended highest sequence numbers, 32 bits."""
        return self._highest[legs] & 0xFFFFFFFF

    def jitter_ticks(self, legs: Rows) -> NDArray[np.int64]:
        """Interarrival jitter in ticks of the legs' RTP clocks, as reports have it."""
        ticks: NDArray[np.int64] = (self.jitter[legs] / self._tick_seconds[legs]).astype(np.int64)
        return ticks

    def intervals(self, legs: Rows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Expected and received packets since this was last asked (RFC 3550 A.3)."""
        received = self.received[legs]
        expected = self.losses(legs) + received
        before = self._reported[:, legs]
        self._reported[:, legs] = expected, received
        return expected - before[0], received - before[1]

    def _restart_at(self, leg: int, sequence: int) -> bool:
        """Whether an unexpected sequence number counts: the first of all, or the second in a row of a new series."""
        offset = ((sequence - int(self._highest[leg]) + 0x8000) & 0xFFFF) - 0x8000
        if self._started[leg]:
            if -MISORDER_MAX <= offset <= DROPOUT_MAX:
                return True  # an earlier packet of this batch began the series
            if sequence != self._bad_sequence[leg]:
                self._bad_sequence[leg] = (sequence + 1) & 0xFFFF
                return False
            self.restart(leg)
        self._started[leg] = True
        self._base[leg] = self._highest[leg] = sequence
        return True

    def _measure_jitter(
        self,
        legs: Rows,
        timestamps: NDArray[np.uint32],
        arrivals: NDArray[np.float64],
    ) -> None:
        """J += (|D| - J) / 16 for each packet in its leg's order of arrival."""
        if not legs.size:
            return
        # D is the change of this; where timestamps wrap or jump it is large, and left out.
        transit = arrivals - timestamps * self._tick_seconds.take(legs)
        self._last[legs] = batch = np.arange(legs.size, dtype=np.int32)
        if (self._last.take(legs) == batch).all():
            difference = np.abs(transit - self._transit.take(legs))
            self._transit[legs] = transit
            jitter = self.jitter.take(legs)
            change = (difference - jitter) * (1 / 16)
            change[difference >= _INTERARRIVAL_SECONDS_MAX] = 0.0
            self.jitter[legs] = jitter + change
            return
        for leg, each in zip(legs.tolist(), transit.tolist(), strict=True):
            step = abs(each - self._transit[leg])
            self._transit[leg] = each
            if step < _INTERARRIVAL_SECONDS_MAX:
                self.jitter[leg] += (step - self.jitter[leg]) / 16
