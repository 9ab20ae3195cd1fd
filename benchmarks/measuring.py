"""How `benchmarks.stages` measures a stage: many ticks of it, and nothing of what it needs from others."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

WARM_TICKS = 3


@dataclass(frozen=True, slots=True)
class Work:
    """One stage: `tick` is measured, `before` is what other stages would have done."""

    tick: Callable[[], object]
    before: Callable[[], object] = lambda: None
    rows: int | None = None
    """Where it is not all of them."""


Stage = Callable[[int, ExitStack], Work]
"""Makes the work of a stage for so many rows."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds of CPU a leg-frame, or a piece."""

    least: float
    median: float


def measure(stage: Stage, rows: int, ticks: int) -> Cost:
    """One stage, warm."""
    with ExitStack() as stack:
        work = stage(rows, stack)
        spent = sorted(list(_spent(work, ticks + WARM_TICKS))[WARM_TICKS:])
        pieces = (work.rows or rows) * 1e-6
        return Cost(round(spent[0] / pieces, 3), round(statistics.median(spent) / pieces, 3))


def _spent(work: Work, ticks: int) -> Iterator[float]:
    for _ in range(ticks):
        work.before()
        begin = time.thread_time()
        work.tick()
        yield time.thread_time() - begin
