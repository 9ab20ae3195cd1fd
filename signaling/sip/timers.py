"""Named deadlines: a heap that forgets lazily, so that setting and stopping a timer is cheap."""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from typing import Generic, TypeVar

Name = TypeVar("Name", bound=Hashable)


class Timers(Generic[Name]):
    """Each name has at most one deadline; setting it again moves it."""

    def __init__(self) -> None:
        self._deadlines: dict[Name, float] = {}
        self._heap: list[tuple[float, int, Name]] = []
        self._count = 0

    def __len__(self) -> int:
        return len(self._deadlines)

    def start(self, name: Name, deadline: float) -> None:
        """Set a deadline."""
        self._deadlines[name] = deadline
        # The count orders equal deadlines by their setting, and keeps names from being compared.
        self._count += 1
        heapq.heappush(self._heap, (deadline, self._count, name))
        if len(self._heap) > 64 + 4 * len(self._deadlines):
            self._compact()

    def stop(self, name: Name) -> None:
        """Forget a deadline, if there is one."""
        self._deadlines.pop(name, None)

    def next(self) -> float | None:
        """The earliest deadline."""
        while self._heap and self._deadlines.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now: float) -> Name | None:
        """Take the earliest deadline that is due, None if there is none."""
        deadline = self.next()
        if deadline is None or deadline > now:
            return None
        name = heapq.heappop(self._heap)[2]
        del self._deadlines[name]
        return name

    def _compact(self) -> None:
        self._heap = [entry for entry in self._heap if self._deadlines.get(entry[2]) == entry[0]]
        heapq.heapify(self._heap)
