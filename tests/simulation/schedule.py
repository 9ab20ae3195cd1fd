"""The only clock of a simulated world: what is due next is done next, and nothing waits."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Protocol


class Timed(Protocol):
    """A core that says when it wants to be called, such as the user agent and the exchange."""

    def next_timer(self) -> float | None: ...

    def handle_timer(self, now: float) -> None: ...


class Schedule:
    """Things to do, by time; what is due at the same time is done in the order in which it was asked for."""

    def __init__(self, start: float) -> None:
        self.now = start
        self.done = 0
        self._queue: list[tuple[float, int, Callable[[], object]]] = []
        self._count = 0
        self._armed: dict[Timed, float | None] = {}

    def at(self, time: float, do: Callable[[], object]) -> None:
        """Do this at a time, or at once if that is past."""
        heapq.heappush(self._queue, (max(time, self.now), self._count, do))
        self._count += 1

    def after(self, seconds: float, do: Callable[[], object]) -> None:
        self.at(self.now + seconds, do)

    def arm(self, timed: Timed, fire: Callable[[], None]) -> None:
        """After anything was asked of a core: call `fire` when its timer is due. A call too many does no harm."""
        due = timed.next_timer()
        if due is not None and due != self._armed.get(timed):
            self.at(due, fire)
        self._armed[timed] = due

    def run(self, until: float) -> None:
        while self._queue and self._queue[0][0] <= until:
            self.now, _, do = heapq.heappop(self._queue)
            self.done += 1
            do()
        self.now = max(self.now, until)
