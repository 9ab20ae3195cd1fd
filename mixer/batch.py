"""Many small matrices of one shape, kept dense so that one multiplication applies them all."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from mixer.frame import Pcm, Rows

_SLOTS_AT_FIRST = 8


class Batch:
    """Slots 0 to `used` hold the listeners, speakers and gains of one matrix each; a gap is filled from the end."""

    def __init__(self, listeners: int, speakers: int) -> None:
        self.used = 0
        self.listeners: Rows = np.zeros((_SLOTS_AT_FIRST, listeners), np.intp)
        self.speakers: Rows = np.zeros((_SLOTS_AT_FIRST, speakers), np.intp)
        self.gains: Pcm = np.zeros((_SLOTS_AT_FIRST, listeners, speakers), np.float32)
        self._slots: dict[Hashable, int] = {}
        self._keys: list[Hashable] = []

    def put(self, key: Hashable, listeners: Rows, speakers: Rows, gains: Pcm) -> None:
        """Add a matrix under a key that is not there yet."""
        assert key not in self._slots
        if self.used == len(self.listeners):
            self._grow()
        slot = self.used
        self.listeners[slot], self.speakers[slot], self.gains[slot] = listeners, speakers, gains
        self._slots[key] = slot
        self._keys.append(key)
        self.used += 1

    def remove(self, key: Hashable) -> None:
        """Take a matrix away; the last one moves into its slot."""
        slot = self._slots.pop(key)
        self.used -= 1
        last_key = self._keys.pop()
        if slot != self.used:
            for table in (self.listeners, self.speakers, self.gains):
                table[slot] = table[self.used]
            self._keys[slot] = last_key
            self._slots[last_key] = slot

    def _grow(self) -> None:
        self.listeners = np.concatenate([self.listeners, np.zeros_like(self.listeners)])
        self.speakers = np.concatenate([self.speakers, np.zeros_like(self.speakers)])
        self.gains = np.concatenate([self.gains, np.zeros_like(self.gains)])


def size_class(count: int) -> int:
    """The size to which a matrix side is padded, so that few shapes serve all conferences."""
    return next((size for size in _SIZES if count <= size), -(-count // _SIZES[-1]) * _SIZES[-1])


_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
