"""The bounded queue from the tick to the worker: never blocks, and states what it could not take.

One thread offers and one takes; `deque.append` and `popleft` are atomic, and each counter has one writer. Audio beyond
the limit becomes `FramesDropped`, joined per track while it is contiguous and put in before the track's next value, so
that order holds. Other values are small and only counted against a far limit; a contact that loses one of those can no
longer account for itself: it is given up, and said so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from recorder.capture import Captured, Frames, FramesDropped, LogEntry

VALUE_BYTES = 200
"""What a value without audio is counted as."""


class Intake:
    """A queue of captured values, each with the time at which it was offered."""

    def __init__(self, bytes_max: int, values_max: int) -> None:
        self.dropped_frames = 0
        self._bytes_max = bytes_max
        self._values_max = values_max
        self._queue: deque[tuple[float, Captured]] = deque()
        self._drops: dict[tuple[str, str], FramesDropped] = {}
        self._offered_bytes = 0
        self._taken_bytes = 0
        self._given_up: dict[str, None] = {}
        self._abandoned: deque[str] = deque()

    @property
    def queued_bytes(self) -> int:
        """Audio on its way."""
        return self._offered_bytes - self._taken_bytes

    @property
    def queued_values(self) -> int:
        """Values on their way."""
        return len(self._queue)

    def offer(self, values: Iterable[Captured], now: float) -> None:
        """From the tick's thread: take what there is room for."""
        for value in values:
            if value.contact_id in self._given_up:
                continue
            if isinstance(value, Frames):
                self._offer_frames(value, now)
            else:
                self._flush_drops(value, now)
                self._put(value, now)

    def take(self) -> Iterator[tuple[float, Captured]]:
        """From the worker's thread: what was there when it began to look."""
        for _ in range(len(self._queue)):
            now, value = self._queue.popleft()
            self._taken_bytes += _weight(value)
            yield now, value

    def take_abandoned(self) -> Iterator[str]:
        """From the worker's thread: contacts that can no longer account for themselves."""
        while self._abandoned:
            yield self._abandoned.popleft()

    def _offer_frames(self, value: Frames, now: float) -> None:
        key = value.contact_id, value.track_id
        if self.queued_bytes + len(value.payload) <= self._bytes_max and len(self._queue) < self._values_max // 2:
            if (drop := self._drops.pop(key, None)) is not None:
                self._put(drop, now)
            self._put(value, now)
            return
        self.dropped_frames += value.ticks
        drop = self._drops.get(key)
        if drop is not None and drop.first_tick + drop.ticks == value.first_tick:
            self._drops[key] = FramesDropped(*key, drop.first_tick, drop.ticks + value.ticks)
            return
        if drop is not None:
            self._put(drop, now)
        self._drops[key] = FramesDropped(*key, value.first_tick, value.ticks)

    def _flush_drops(self, value: Captured, now: float) -> None:
        if isinstance(value, LogEntry) or not self._drops:
            return
        for key in [key for key in self._drops if key[0] == value.contact_id]:
            self._put(self._drops.pop(key), now)

    def _put(self, value: Captured, now: float) -> None:
        if len(self._queue) >= self._values_max:
            self._given_up[value.contact_id] = None
            if len(self._given_up) > self._values_max:
                del self._given_up[next(iter(self._given_up))]
            self._abandoned.append(value.contact_id)
            return
        self._offered_bytes += _weight(value)
        self._queue.append((now, value))


def _weight(value: Captured) -> int:
    return len(value.payload) if isinstance(value, Frames) else VALUE_BYTES
