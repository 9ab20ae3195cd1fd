"""Even beginnings in virtual time, and what is left out when too much is under way."""

from __future__ import annotations

import asyncio

import pytest

from relay.bench.pace import Pace
from tests.world.clock import run


def test_begins_evenly_however_long_each_takes() -> None:
    begun: list[float] = []

    async def work(number: int) -> None:
        assert number == len(begun) + 1
        begun.append(round(asyncio.get_running_loop().time(), 6))
        await asyncio.sleep(0.55)

    async def scenario() -> Pace:
        pace = Pace(work, 10, 20)
        running = asyncio.create_task(pace.run())
        await asyncio.sleep(0.95)
        pace.stop()
        await running
        return pace

    pace = run(scenario())
    assert begun == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
    assert (pace.begun, pace.left_out) == (10, 0)


def test_leaves_out_what_is_too_much_at_once_and_waits_for_what_was_begun() -> None:
    ended: list[int] = []

    async def work(number: int) -> None:
        await asyncio.sleep(0.35)
        ended.append(number)

    async def scenario() -> Pace:
        pace = Pace(work, 10, 2)
        running = asyncio.create_task(pace.run())
        await asyncio.sleep(0.75)
        pace.stop()
        await running
        return pace

    pace = run(scenario())
    # Two begin, two are left out while those are under way, and so on.
    assert ended == [1, 2, 5, 6]
    assert (pace.begun, pace.left_out) == (4, 4)
