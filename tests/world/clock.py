"""An event loop in virtual time: instead of waiting it jumps to the next timer.

`run(coroutine)` runs a scenario in a world of its own. Nothing in it ever waits in real time; when nobody is ready and no
timer is set, the world has stalled, which is an error at once instead of a hang. No sockets, no threads: datagrams go
through `tests.world.network`, and what a program would do in a thread is done on the spot.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


class StalledWorldError(Exception):
    """Everybody waits and nothing will ever happen."""


class LeftoverTasksError(Exception):
    """The scenario ended, but tasks that it started did not."""


class World(asyncio.BaseEventLoop):
    """The loop; `time()` is virtual seconds since its beginning."""

    def __init__(self, start: float = 0.0) -> None:
        super().__init__()
        self._now = start
        self._clock_resolution = 1e-9
        self._selector = _Jump(self)

    def time(self) -> float:
        return self._now

    def jump(self) -> None:
        """Go to the next timer."""
        if not self._scheduled:  # type: ignore[attr-defined]  # BaseEventLoop's heap of timers
            waiting = ", ".join(sorted(task.get_name() for task in asyncio.all_tasks(self)))
            raise StalledWorldError(f"nothing will ever happen again; still waiting: {waiting or 'nobody'}")
        self._now = max(self._now, self._scheduled[0].when())  # type: ignore[attr-defined]

    def run_in_executor(  # type: ignore[override]  # it keeps what callers rely on
        self, executor: Any, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Done on the spot: a thread would read the real clock."""
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - whatever a thread would have raised
            future.set_exception(error)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - the loop's own signature
        """There is none."""

    def _process_events(self, event_list: list[Any]) -> None:
        assert event_list == [], "no file descriptor lives in this world"

    def _write_to_self(self) -> None:
        """Nobody sleeps in a selector who would have to be woken."""


class _Jump(selectors.BaseSelector):
    """A selector that has nothing to wait for but the clock."""

    def __init__(self, world: World) -> None:
        self._world = world

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None or timeout > 0:
            self._world.jump()
        return []

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        raise StalledWorldError("a real file descriptor has no place in virtual time")

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        raise KeyError(fileobj)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return {}


def run(scenario: Coroutine[Any, Any, T], *, start: float = 0.0) -> T:
    """Run `scenario` to its end in a new world, and see that it leaves nothing behind."""
    world = World(start)
    try:
        asyncio.set_event_loop(world)
        result = world.run_until_complete(scenario)
        left = asyncio.all_tasks(world)
        if left:
            raise LeftoverTasksError(", ".join(sorted(task.get_name() for task in left)))
        return result
    finally:
        _end(world)


def _end(world: World) -> None:
    left = asyncio.all_tasks(world)
    for task in left:
        task.cancel()
    world.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    world.run_until_complete(world.shutdown_asyncgens())
    asyncio.set_event_loop(None)
    world.close()
