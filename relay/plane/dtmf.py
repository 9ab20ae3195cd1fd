"""Telephone events (RFC 4733): packets in, each event once, whatever was repeated or lost.

An event is known by its timestamp, not by the marker bit, which some senders forget and any network may lose
(RFC 4733 §2.5.1.2). Its three end packets count once; if all are lost, a pause ends it with what was last said.
Digits are classified: nothing here is logged.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

PAYLOAD_BYTES: Final = 4
SILENCE_SECONDS: Final = 0.2
"""Senders repeat an event every 20 to 50 ms while it lasts (RFC 4733 §2.5.1.2)."""
SEGMENT_MAX: Final = 0xFFFF
"""A longer event goes on in a new segment, that begins where this one ended (RFC 4733 §2.5.1.3)."""


@dataclass(frozen=True, slots=True)
class EndedEvent:
    """One event, complete."""

    event: int = field(repr=False)
    duration: int
    """RTP clock ticks."""


@dataclass(slots=True)
class EventReceiver:
    """The events of one leg."""

    count: int = 0
    _timestamp: int = -1
    """Of the segment that goes on, or that ended last."""
    _event: int = 0
    _duration: int = 0
    _earlier: int = 0
    """Duration of the event's earlier segments."""
    _going_on: bool = False
    _heard: float = 0.0

    def receive(self, payload: bytes, timestamp: int, now: float) -> Iterator[EndedEvent]:
        """One packet's events end here, or an earlier one that was never said to end."""
        if len(payload) < PAYLOAD_BYTES:
            return
        event, ended = payload[0], bool(payload[1] & 0x80)
        duration = payload[2] << 8 | payload[3]
        if timestamp != self._timestamp:
            if self._timestamp >= 0 and _signed(timestamp - self._timestamp) < 0:
                return  # reordered: an event that is over
            yield from self._begin(event, timestamp)
        elif not self._going_on:
            return  # an end packet's repetition
        self._heard = now
        self._duration = max(self._duration, duration)
        if ended:
            yield self._end()

    def expire(self, now: float) -> Iterator[EndedEvent]:
        """End an event whose end packets were lost."""
        if self._going_on and now - self._heard >= SILENCE_SECONDS:
            yield self._end()

    @property
    def going_on(self) -> bool:
        """Whether an event has begun and not ended."""
        return self._going_on

    def _begin(self, event: int, timestamp: int) -> Iterator[EndedEvent]:
        continued = (
            self._going_on and event == self._event and timestamp == (self._timestamp + SEGMENT_MAX) & 0xFFFFFFFF
        )
        if continued:
            self._earlier += SEGMENT_MAX
        else:
            if self._going_on:
                yield self._end()
            self.count += 1
            self._earlier = 0
        self._event, self._timestamp, self._duration, self._going_on = event, timestamp, 0, True

    def _end(self) -> EndedEvent:
        self._going_on = False
        return EndedEvent(self._event, self._earlier + self._duration)


def _signed(difference: int) -> int:
    return ((difference + 0x80000000) & 0xFFFFFFFF) - 0x80000000
