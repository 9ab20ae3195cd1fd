"""Garbage is collected between two ticks: a collection holds the interpreter, and a tick cannot begin meanwhile.

Python collects whenever enough objects have been made, in whatever thread makes the last one. Beside a busy control
plane a full collection comes every few seconds and takes as long as several ticks; even a middle one takes several
milliseconds. So automatic collection is switched off, and the tick's thread collects once it has nothing to do: what is
due by Python's own counts, in a gap that is as long as the last such collection took. What cannot wait any longer is
collected all the same. A full collection that takes longer than a gap ever is freezes what it left: most of that the
process keeps for good (modules, caches), and the next one does not look at it again. While there are no legs, nobody
hears a collection: then, now and then, everything is looked at.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Final

YOUNG_MAX: Final = 700
"""New objects after which the youngest are collected, as Python does."""
MIDDLE_MAX: Final = 4
OLD_MAX: Final = 1
"""Python's are 10 and 10: more often there is less to look at, and little fits where much does not."""
OVERDUE: Final = 20
"""So many times as many new objects are not left uncollected, whatever is due next."""
FULL_EVERY_SECONDS: Final = 20.0
"""A full collection for which no gap was long enough takes place after so long, and makes a tick late..."""
FULL_SHARE_MAX: Final = 0.001
"""... but not more often than so that this share of time goes into it."""
FREEZE_SECONDS: Final = 0.010
FREEZE_OBJECTS: Final = 5_000
"""A full collection that takes longer, and leaves more, freezes what it left."""
FREEZES_MAX: Final = 20
"""What is frozen while it lives, and is part of a cycle, stays until there are no legs: that happens so few times."""
THOROUGH_EVERY_SECONDS: Final = 600.0
"""While there are no legs."""


class Garbage:
    """Of one process; everything but `start` on the thread that ticks."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seconds = [0.0, 0.0, 0.0]
        """What the last collection of each generation took."""
        self._full_at = self._thorough_at = 0.0
        self._freezes = 0

    def start(self) -> None:
        """Collect everything once, forget what is left, and switch automatic collection off."""
        gc.disable()
        self._thorough()

    def stop(self) -> None:
        """Leave collecting to Python again."""
        gc.enable()

    def collect(self, gap_seconds: float, *, is_quiet: bool = False) -> None:
        """If something is due that fits into the gap before the next tick, or cannot wait, collect it.

        `is_quiet`: nobody would hear a tick that is late.
        """
        if is_quiet and self._clock() - self._thorough_at >= THOROUGH_EVERY_SECONDS:
            self._thorough()
            return
        young, middle, old = gc.get_count()
        if young <= YOUNG_MAX:
            return
        overdue = young > YOUNG_MAX * OVERDUE
        if old > OLD_MAX and (self._fits(2, gap_seconds) or self._full_is_overdue()):
            self._full()
        elif middle > MIDDLE_MAX and (self._fits(1, gap_seconds) or overdue):
            self._collect(1)
        elif self._fits(0, gap_seconds) or overdue:
            self._collect(0)

    def _thorough(self) -> None:
        gc.unfreeze()
        self._collect(2)
        gc.freeze()
        self._freezes = 0
        self._seconds[2] = 0.0
        self._full_at = self._thorough_at = self._clock()

    def _fits(self, generation: int, gap_seconds: float) -> bool:
        return self._seconds[generation] < gap_seconds

    def _full_is_overdue(self) -> bool:
        interval = max(FULL_EVERY_SECONDS, self._seconds[2] / FULL_SHARE_MAX)
        return self._clock() - self._full_at >= interval

    def _collect(self, generation: int) -> None:
        began = self._clock()
        gc.collect(generation)
        self._seconds[generation] = self._clock() - began

    def _full(self) -> None:
        self._collect(2)
        self._full_at = self._clock()
        if (
            self._seconds[2] > FREEZE_SECONDS
            and self._freezes < FREEZES_MAX
            and len(gc.get_objects(2)) > FREEZE_OBJECTS
        ):
            self._freezes += 1
            gc.freeze()
            self._seconds[2] = 0.0  # the next one has little to look at
