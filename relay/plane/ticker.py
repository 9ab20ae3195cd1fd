"""The tick's thread: calls the plane at absolute times, measures how late and how long, and hands its events over."""

from __future__ import annotations

import gc
import logging
import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType
from typing import Final, Literal

import numpy as np

from relay.media import TICK_SECONDS, MediaEvent
from relay.plane.garbage import Garbage
from relay.plane.plane import Plane
from relay.plane.tick_profile import ThreadUsage, TickProfile, WorstTicks
from relay.right_of_way import RightOfWay

SWITCH_SECONDS: Final = 0.0005
"""How long another Python thread may keep the interpreter from the tick: with CPython's 5 ms, a busy control loop makes
ticks 7 ms late; with this, the median tick beside it is as fast as alone (measured: see benchmarks)."""
_BUCKET_SECONDS: Final = 0.0001
_LAST_TICKS_MAX: Final = 50
_BUCKETS: Final = 2000
"""Up to 200 ms; what is longer counts in the last."""
_LONG_EVERY_SECONDS: Final = 10.0
"""So often at most one is told of ticks that ended after the next was due."""
_LATE_SECONDS: Final = 0.002
"""A tick that began later than this looks at what other threads do, which takes it 0.02 ms."""
_RAISED_NICE: Final = -10
_FRAMES_MAX: Final = 3
_WAITING: Final = frozenset({"threading", "selectors", "queue", "concurrent.futures.thread", "aiosqlite.core"})
"""Modules whose innermost call is a thread's that waits for work."""
_THREADS_MAX: Final = 8

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Spread:
    """A distribution, in milliseconds."""

    p50: float
    p99: float
    max: float
    count: int


@dataclass(frozen=True, slots=True)
class TickerStatistics:
    """Since the last reset."""

    late_ms: Spread
    """From when a tick was due to when it began."""
    tick_ms: Spread
    """From its beginning to its end, the notification included."""
    missed_ticks: int
    """Ticks that did not take place because an earlier one took too long, or the thread did not run."""
    long_ticks: int
    """Ticks that ended after the next one was due."""
    worst: tuple[TickProfile, ...]
    """Those that ended longest after they were due, the worst first."""


class Histogram:
    """Durations in buckets of 0.1 ms; one thread writes, any may read."""

    def __init__(self) -> None:
        self._counts = np.zeros(_BUCKETS, np.int64)
        self._max = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self._counts[min(max(int(seconds / _BUCKET_SECONDS), 0), _BUCKETS - 1)] += 1
        self._max = max(self._max, seconds)

    def spread(self) -> Spread:
        """Percentiles, as the upper edges of their buckets, but never above the longest."""
        counts = self._counts.copy()
        total = int(counts.sum())
        if total == 0:
            return Spread(0.0, 0.0, 0.0, 0)
        below = np.cumsum(counts)
        p50, p99 = ((int(np.searchsorted(below, share * total)) + 1) * _BUCKET_SECONDS * 1000 for share in (0.50, 0.99))
        most = round(self._max * 1000, 3)
        return Spread(min(round(p50, 1), most), min(round(p99, 1), most), most, total)

    def counts(self) -> list[tuple[float, int]]:
        """Upper edge in milliseconds, and count, of every bucket that is not empty."""
        counts = enumerate(self._counts.tolist(), 1)
        return [(round(bucket * _BUCKET_SECONDS * 1000, 1), count) for bucket, count in counts if count]

    def reset(self) -> None:
        """Begin anew."""
        self._counts[:] = 0
        self._max = 0.0


def thread_usage() -> ThreadUsage:
    """Of the calling thread; takes a microsecond."""
    used = resource.getrusage(resource.RUSAGE_THREAD)
    return ThreadUsage(used.ru_utime + used.ru_stime, used.ru_nvcsw, used.ru_nivcsw)


class Ticker:
    """One thread for one plane. `notify` gets the events of a tick on that thread, if there are any: hand them over.

    `on_long`, too, is called on that thread, at most every ten seconds, with a tick that has just ended after the next
    one was due, and how many did so up to now.

    With `first` the thread asks the system to run it before all others: it has little to do, but that at its time.

    Starting takes garbage collection over (see `relay.plane.garbage`) and shortens the interpreter's switch interval;
    both are settings of the whole process.
    """

    def __init__(
        self,
        plane: Plane,
        notify: Callable[[list[MediaEvent]], None],
        *,
        on_long: Callable[[TickProfile, int], None] = lambda _profile, _count: None,
        right_of_way: RightOfWay | None = None,
        first: bool = False,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        usage: Callable[[], ThreadUsage] = thread_usage,
    ) -> None:
        self._plane = plane
        plane.times.clock = clock
        self._notify = notify
        self._on_long = on_long
        self._right_of_way = right_of_way or RightOfWay()
        self._first = first
        self.scheduling = "normal"
        """How the system schedules the thread; `realtime` and `raised`: before all others, where that is permitted."""
        self._usage = usage
        self._clock = clock
        self._sleep = sleep
        self.lateness = Histogram()
        """From when ticks were due to when they began; since the last reset."""
        self.durations = Histogram()
        self._garbage: Garbage | None = None
        self._worst = WorstTicks()
        self._long_ticks = 0
        self._long_before = 0
        self._long_told_at = -_LONG_EVERY_SECONDS
        self._missed_before = 0
        self._failures = 0
        self._ended = clock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to tick."""
        assert self._thread is None, "a ticker starts once"
        self._garbage = Garbage(self._clock)
        self._garbage.start()
        sys.setswitchinterval(SWITCH_SECONDS)
        self._thread = threading.Thread(target=self.run, name="tick", daemon=True)
        self._thread.start()

    def settle(self) -> None:
        """The rest of the process is up as well: what it has made is not garbage, and not looked for among it."""
        gc.collect()
        gc.freeze()

    def stop(self, timeout_seconds: float = 2.0) -> None:
        """End once the steps that still wait are carried out."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout_seconds)
        if self._garbage is not None:
            self._garbage.stop()

    def statistics(self) -> TickerStatistics:
        """From any thread."""
        return TickerStatistics(
            self.lateness.spread(),
            self.durations.spread(),
            self._plane.counters["missed_ticks"] - self._missed_before,
            self._long_ticks - self._long_before,
            self._worst.kept,
        )

    @property
    def standstill_seconds(self) -> float:
        """How long ago the last tick ended; from any thread."""
        return self._clock() - self._ended

    def reset(self) -> None:
        """Forget what was measured so far (a warm-up)."""
        self.lateness.reset()
        self.durations.reset()
        self._worst.reset()
        self._long_before = self._long_ticks
        self._missed_before = self._plane.counters["missed_ticks"]

    def run(self) -> None:
        """Tick until stopped; on the thread that `start` makes."""
        if self._first:
            self.scheduling = go_first()
        due = self._clock()
        while not self._stopping.is_set():
            self._right_of_way.take()
            self._tick(due, self._clock())
            ended = self._ended
            # What is due next counts from the first tick: no error adds up. A tick that ended after the next one was
            # due is followed at once, and the plane counts by its clock what was missed.
            due = self._plane.due(self._plane.tick_number + 1)
            if self._garbage is not None:
                self._garbage.collect(due - ended, is_quiet=not self._plane.stages.legs.by_id)
                ended = self._clock()
            self._right_of_way.release(due)
            if ended < due:
                self._sleep(due - ended)
        # Whoever stops the plane has just closed legs and recordings: goodbyes and last frames go out at once.
        for _ in range(_LAST_TICKS_MAX):
            self._notify_guarded(self._plane.tick(self._clock()))
            if not self._plane.steps_waiting:
                return

    def _tick(self, due: float, now: float) -> None:
        plane, late = self._plane, now - due
        self.lateness.add(late)
        beside = _beside() if late > _LATE_SECONDS else ()  # now: whoever held the interpreter has just let it go
        before, received = self._usage(), plane.outcomes.received
        events = plane.tick(now)
        self._notify_guarded(events)
        plane.times.end("hand_over")
        self._ended = ended = self._clock()
        self.durations.add(ended - now)
        late_ms, tick_ms, is_long = late * 1000, (ended - now) * 1000, ended > due + TICK_SECONDS
        if not (is_long or self._worst.takes(late_ms, tick_ms)):
            return
        after = self._usage()
        profile = TickProfile(
            tick=plane.tick_number,
            late_ms=round(late_ms, 3),
            tick_ms=round(tick_ms, 3),
            cpu_ms=round((after.cpu_seconds - before.cpu_seconds) * 1000, 3),
            waits=after.waits - before.waits,
            preemptions=after.preemptions - before.preemptions,
            steps=plane.times.steps,
            packets=plane.outcomes.received - received,
            events=len(events),
            stage_ms=plane.times.milliseconds(),
            beside=beside,
        )
        self._worst.add(profile)
        if is_long:
            self._tell_long(profile, ended)

    def _tell_long(self, profile: TickProfile, now: float) -> None:
        self._long_ticks += 1
        if now - self._long_told_at >= _LONG_EVERY_SECONDS:
            self._long_told_at = now
            self._on_long(profile, self._long_ticks)

    def _notify_guarded(self, events: list[MediaEvent]) -> None:
        if not events:
            return
        try:
            self._notify(events)
        except Exception:  # noqa: BLE001 - a listener's defect (a loop closed at shutdown) must not end all sound
            self._failures += 1
            if self._failures == 1:
                _log.exception("the listener of media events failed; from now on its failures are only counted")


def go_first() -> Literal["realtime", "raised", "normal"]:
    """Let the system run the calling thread whenever it can run, before those that have no more than their share."""
    thread = threading.get_native_id()
    with suppress(OSError, AttributeError):
        os.sched_setscheduler(thread, os.SCHED_RR, os.sched_param(os.sched_get_priority_min(os.SCHED_RR)))
        return "realtime"
    with suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, thread, _RAISED_NICE)
        return "raised"
    return "normal"


def _beside() -> tuple[str, ...]:
    """The innermost calls of every other thread of Python that does not wait for work."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    own = threading.get_ident()
    frames = sys._current_frames()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - its documented name
    at_work = [
        f"{names.get(ident, '?')}: {_calls(frame)}"
        for ident, frame in frames.items()
        if ident != own and frame.f_globals.get("__name__") not in _WAITING
    ]
    return tuple(at_work[:_THREADS_MAX])


def _calls(frame: FrameType | None) -> str:
    calls: list[str] = []
    while frame is not None and len(calls) < _FRAMES_MAX:
        calls.append(f"{frame.f_globals.get('__name__', '?')}.{frame.f_code.co_name}:{frame.f_lineno}")
        frame = frame.f_back
    return " < ".join(calls)
