"""Which leg a datagram belongs to, by the socket that it came to and its source address."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from relay.plane.packets import Rows

UNKNOWN = -1


class Endpoints:
    """Endpoint keys of legs, sorted, so that a table's rows are looked up in one search."""

    def __init__(self) -> None:
        self._legs: dict[int, int] = {}
        self._keys: NDArray[np.uint64] = np.zeros(1, np.uint64)
        self._rows: Rows = np.full(1, UNKNOWN, np.intp)
        self._stale = False

    def __len__(self) -> int:
        return len(self._legs)

    def put(self, key: int, leg: int) -> int:
        """An endpoint speaks for a leg from now on; returns the leg that it spoke for before, or `UNKNOWN`."""
        before = self._legs.get(key, UNKNOWN)
        self._legs[key] = leg
        self._stale = True
        return before

    def owner(self, key: int) -> int:
        """The leg that an endpoint speaks for, or `UNKNOWN`."""
        return self._legs.get(key, UNKNOWN)

    def remove(self, key: int, leg: int) -> None:
        """Forget an endpoint, unless it speaks for another leg by now."""
        if self._legs.get(key) == leg:
            del self._legs[key]
            self._stale = True

    def find(self, endpoints: NDArray[np.uint64]) -> Rows:
        """The leg of each endpoint, or `UNKNOWN`."""
        if self._stale:
            self._sort()
        at = np.searchsorted(self._keys, endpoints)
        np.minimum(at, self._keys.size - 1, out=at)
        return np.where(self._keys[at] == endpoints, self._rows[at], UNKNOWN)

    def _sort(self) -> None:
        self._stale = False
        if not self._legs:
            self._keys, self._rows = np.zeros(1, np.uint64), np.full(1, UNKNOWN, np.intp)
            return
        keys = np.array(list(self._legs), np.uint64)
        order = np.argsort(keys)
        self._keys = keys[order]
        self._rows = np.array(list(self._legs.values()), np.intp)[order]
