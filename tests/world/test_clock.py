from __future__ import annotations

import asyncio
import time

import pytest

from tests.world.clock import LeftoverTasksError, StalledWorldError, run


def test_an_hour_passes_at_once_and_to_the_tick() -> None:
    async def scenario() -> list[float]:
        loop = asyncio.get_running_loop()
        seen = [loop.time()]
        for wait in (0.02, 32.0, 3600.0):
            await asyncio.sleep(wait)
            seen.append(loop.time())
        return seen

    begun = time.perf_counter()
    assert run(scenario()) == [0.0, 0.02, 32.02, 3632.02]
    assert time.perf_counter() - begun < 1.0


def test_a_timeout_fires_exactly() -> None:
    async def scenario() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(32):
                await asyncio.Event().wait()
        return asyncio.get_running_loop().time()

    assert run(scenario()) == 32.0


def test_timers_fire_in_order_of_time_then_of_setting() -> None:
    async def scenario() -> list[str]:
        loop, order = asyncio.get_running_loop(), list[str]()
        loop.call_at(2.0, order.append, "c")
        loop.call_at(1.0, order.append, "a")
        loop.call_at(1.0, order.append, "b")
        await asyncio.sleep(3.0)
        return order

    assert run(scenario()) == ["a", "b", "c"]


def test_a_world_that_waits_for_nothing_says_so() -> None:
    async def scenario() -> None:
        await asyncio.Event().wait()

    with pytest.raises(StalledWorldError, match="Task-"):
        run(scenario())


def test_a_task_left_behind_is_named() -> None:
    async def scenario() -> None:
        task = asyncio.create_task(asyncio.sleep(9), name="forgotten")
        await asyncio.sleep(1)
        assert not task.done()

    with pytest.raises(LeftoverTasksError, match="forgotten"):
        run(scenario())


def test_threads_are_done_on_the_spot() -> None:
    async def scenario() -> tuple[int, float]:
        value = await asyncio.to_thread(lambda: 6 * 7)
        return value, asyncio.get_running_loop().time()

    assert run(scenario(), start=5.0) == (42, 5.0)


def test_sockets_are_refused() -> None:
    async def scenario() -> None:
        await asyncio.get_running_loop().create_connection(asyncio.Protocol, "127.0.0.1", 9)

    with pytest.raises((StalledWorldError, NotImplementedError)):
        run(scenario())
