"""When which generation is collected, by real garbage and a made-up clock."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from relay.plane.garbage import (
    FREEZE_OBJECTS,
    FREEZE_SECONDS,
    FULL_EVERY_SECONDS,
    FULL_SHARE_MAX,
    OVERDUE,
    THOROUGH_EVERY_SECONDS,
    YOUNG_MAX,
    Garbage,
)


class Cycle:
    def __init__(self) -> None:
        self.self = self


class Clock:
    """Passes with each collection, by generation."""

    def __init__(self) -> None:
        self.now = 100.0
        self.took = [0.001, 0.004, 0.030]
        self.collected: list[int] = []

    def __call__(self) -> float:
        return self.now

    def notice(self, phase: str, info: dict[str, int]) -> None:
        if phase == "stop":
            self.collected.append(info["generation"])
            self.now += self.took[info["generation"]]


@pytest.fixture
def clock() -> Iterator[Clock]:
    made = Clock()
    yield made
    gc.callbacks.remove(made.notice)
    gc.unfreeze()
    gc.enable()


def started(clock: Clock) -> Garbage:
    garbage = Garbage(clock)
    garbage.start()
    gc.callbacks.append(clock.notice)
    return garbage


def litter(count: int = YOUNG_MAX + 1) -> weakref.ref[Cycle]:
    kept = [Cycle() for _ in range(count)]
    return weakref.ref(kept[0])


def test_nothing_is_collected_but_between_ticks(clock: Clock) -> None:
    garbage = started(clock)
    assert not gc.isenabled()
    first = litter(YOUNG_MAX // 2 - 50)
    garbage.collect(0.010)
    assert clock.collected == []  # too little
    litter()
    assert clock.collected == []
    assert first() is not None
    garbage.collect(0.010)
    assert clock.collected == [0]
    assert first() is None
    garbage.stop()
    assert gc.isenabled()


def test_a_gap_that_is_too_short_is_left_alone_until_it_is_overdue(clock: Clock) -> None:
    garbage = started(clock)
    litter()
    garbage.collect(0.010)
    litter()
    garbage.collect(0.0005)  # the last one took a millisecond
    assert clock.collected == [0]
    litter(YOUNG_MAX * OVERDUE)
    garbage.collect(0.0005)
    assert clock.collected == [0, 0]


def test_older_generations_follow_the_younger_ones(clock: Clock) -> None:
    garbage = started(clock)
    for _ in range(13):
        litter()
        garbage.collect(0.010)
    assert clock.collected == [0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 2]


def test_a_full_collection_waits_for_a_long_gap_but_not_for_ever(clock: Clock) -> None:
    garbage = started(clock)
    garbage._seconds[2] = 0.050  # what the last one took
    kept = [Cycle() for _ in range(FREEZE_OBJECTS + 1)]
    for _ in range(6 * 4):
        litter()
        garbage.collect(0.010)
    assert clock.collected.count(2) == 0
    assert clock.collected.count(1) == 4
    clock.collected.clear()
    clock.now += FULL_EVERY_SECONDS
    garbage.collect(0.010)
    assert 2 not in clock.collected  # a thousandth of the time is 50 s
    clock.collected.clear()
    clock.now += 0.050 / FULL_SHARE_MAX - FULL_EVERY_SECONDS
    before = gc.get_freeze_count()
    litter()
    garbage.collect(0.010)
    assert clock.collected == [2]
    # It took longer than 10 ms: what it left is not looked at again.
    assert clock.took[2] > FREEZE_SECONDS
    assert gc.get_freeze_count() > before + len(kept)


def test_what_was_frozen_is_looked_at_again_while_there_are_no_legs(clock: Clock) -> None:
    frozen = litter()
    gc.collect()
    kept = Cycle()
    reference = weakref.ref(kept)
    garbage = started(clock)
    assert frozen() is None
    del kept  # frozen by now
    clock.now += THOROUGH_EVERY_SECONDS
    litter()
    garbage.collect(0.010)
    assert clock.collected == [0]
    assert reference() is not None
    garbage.collect(0.0, is_quiet=True)
    assert clock.collected == [0, 2]
    assert reference() is None
    garbage.collect(0.010, is_quiet=True)
    assert clock.collected == [0, 2]
