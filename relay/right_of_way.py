"""The tick's right of way in the interpreter: other threads wait at places of their own choosing until it has ended.

CPython has one interpreter lock. A thread that wants it for half a millisecond (`ticker.SWITCH_SECONDS`) gets it, so a
tick beside one busy thread has half of the interpreter, beside two a third; every call of libsrtp lets the lock go and
may have to wait for it again; and a tick that has slept waits for its turn behind everybody else. A thread that *gives
way* between two pieces of its work does not compete at all: from shortly before a tick until its end it waits, and the
tick finds the interpreter free and keeps it.

Nobody must give way, and nobody waits for longer than `WAIT_SECONDS_MAX`: a plane that is overloaded, tick upon tick,
must not keep the control plane from ending calls.
"""

from __future__ import annotations

import asyncio
import math
import selectors
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

WAIT_SECONDS_MAX: Final = 0.02
EARLY_SECONDS: Final = 0.002
"""So long before a tick nobody begins another piece of work: a tick that wants the interpreter finds it free."""
_TAKE_SECONDS_MAX: Final = 0.001

_Events = list[tuple[selectors.SelectorKey, int]]


class RightOfWay:
    """One of a process: taken by the tick, respected by whoever calls `give_way`."""

    def __init__(
        self,
        wait_seconds_max: float = WAIT_SECONDS_MAX,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._wait_seconds_max = wait_seconds_max
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._taken = False
        self._next = math.inf
        """When the next tick takes the right of way; infinity while one has it."""

    def take(self) -> None:
        """The tick begins."""
        # Whoever has just waited holds the lock for an instant; a tick does not wait for more than that.
        self._taken = self._lock.acquire(timeout=_TAKE_SECONDS_MAX)
        self._next = math.inf

    def release(self, next_due: float = math.inf) -> None:
        """The tick has ended; the next one is due then."""
        self._next = next_due
        if self._taken:
            self._taken = False
            self._lock.release()

    def give_way(self) -> None:
        """From any other thread, between two pieces of work: wait while a tick is under way, or about to begin."""
        early = self._next - self._clock()
        if -EARLY_SECONDS < early < EARLY_SECONDS:
            self._sleep(max(0.0, early) + EARLY_SECONDS / 2)  # by then the tick has taken it
        if self._lock.locked() and self._lock.acquire(timeout=self._wait_seconds_max):
            self._lock.release()

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        """A loop that gives way each time before it deals with what has come."""
        return asyncio.SelectorEventLoop(_GivingWay(self.give_way))


class _GivingWay(selectors.BaseSelector):
    """The system's best selector, which gives way before it returns."""

    def __init__(self, give_way: Callable[[], None]) -> None:
        self._selector = selectors.DefaultSelector()
        self._give_way = give_way

    def register(self, fileobj: FileDescriptorLike, events: int, data: object = None) -> selectors.SelectorKey:
        return self._selector.register(fileobj, events, data)

    def unregister(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        return self._selector.unregister(fileobj)

    def modify(self, fileobj: FileDescriptorLike, events: int, data: object = None) -> selectors.SelectorKey:
        return self._selector.modify(fileobj, events, data)

    def select(self, timeout: float | None = None) -> _Events:
        events = self._selector.select(timeout)
        self._give_way()
        return events

    def close(self) -> None:
        self._selector.close()

    def get_map(self) -> Mapping[FileDescriptorLike, selectors.SelectorKey]:
        return self._selector.get_map()
