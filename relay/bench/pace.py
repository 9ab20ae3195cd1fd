"""At an even pace, however long what is begun takes: a bounded number at a time, and what was left out is counted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

_BEHIND_SECONDS_MAX: Final = 1.0
"""Whoever is further behind than this leaves out what was due."""


class Pace:
    """Begins `work(number)` so many times a second, up to `at_once` at a time."""

    def __init__(self, work: Callable[[int], Awaitable[None]], per_second: float, at_once: int) -> None:
        self.begun = 0
        self.left_out = 0
        """What was due while enough was under way, or this process was behind."""
        self._work = work
        self._interval = 1 / per_second
        self._at_once = at_once
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Until stopped; then once all that was begun has ended."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        number = 0
        while not self._stopping.is_set():
            number += 1
            due += self._interval
            if loop.time() - due > _BEHIND_SECONDS_MAX or len(self._tasks) >= self._at_once:
                self.left_out += 1
            else:
                self._begin(number)
            await self._wait(due - loop.time())
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def stop(self) -> None:
        """Begin no more."""
        self._stopping.set()

    def _begin(self, number: int) -> None:
        self.begun += 1
        task = asyncio.ensure_future(self._work(number))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _wait(self, seconds: float) -> None:
        if seconds > 0:
            try:
                async with asyncio.timeout(seconds):
                    await self._stopping.wait()
            except TimeoutError:
                return
        else:
            await asyncio.sleep(0)
