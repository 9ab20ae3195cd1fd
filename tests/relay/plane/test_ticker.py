"""Pacing at absolute times under a made-up clock; the histogram; and one real thread."""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Iterator

import pytest

from relay.media import MediaEvent, Step, StepApplied
from relay.plane.stages import PlaneSettings
from relay.plane.tick_profile import ThreadUsage, TickProfile
from relay.plane.ticker import Histogram, Spread, Ticker, go_first, thread_usage
from tests.relay.media_peers import World


class Clock:
    """A clock that passes only in `sleep`, and in `work`, which each tick takes."""

    def __init__(self, world: World, ticks: int, work: dict[int, float] | None = None) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self.began: list[float] = []
        plane, original = world.plane, world.plane.tick

        def tick(now: float) -> list[MediaEvent]:
            self.began.append(now)
            events = original(now)
            took = (work or {}).get(len(self.began) - 1, 0.004)
            self.now += took
            # Of what a tick takes beyond 4 ms, the thread has waited for all.
            self.used = ThreadUsage(self.used[0] + min(took, 0.004), self.used[1] + (took > 0.004), self.used[2])
            if len(self.began) == ticks - 1:
                self.ticker.stop()  # which lets one more tick take place
            return events

        plane.tick = tick  # type: ignore[method-assign]
        self.events: list[list[MediaEvent]] = []
        self.long: list[tuple[TickProfile, int]] = []
        self.used = ThreadUsage(0.0, 0, 0)
        self.ticker = Ticker(
            plane,
            self.events.append,
            on_long=lambda profile, count: self.long.append((profile, count)),
            clock=lambda: self.now,
            sleep=self.sleep,
            usage=lambda: self.used,
        )

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds + 0.0002  # timers are late, and the error must not add up


def world() -> World:
    return World(PlaneSettings(legs_max=2, tracks_max=2))


def test_ticks_begin_at_absolute_times() -> None:
    clock = Clock(world(), 1000)
    clock.ticker.run()
    assert clock.began[-1] == pytest.approx(1000.0 + 999 * 0.02 + 0.0002)
    assert max(clock.slept) == pytest.approx(0.016)
    statistics = clock.ticker.statistics()
    assert statistics.missed_ticks == 0
    assert statistics.late_ms.count == 999  # the last one, on stopping, is not measured
    assert statistics.late_ms.p99 == pytest.approx(0.3, abs=0.11)
    assert statistics.tick_ms.p50 == pytest.approx(4.0, abs=0.11)


def test_a_long_tick_is_followed_at_once_and_what_was_missed_is_counted() -> None:
    clock = Clock(world(), 20, work={5: 0.030, 10: 0.090})
    clock.ticker.run()
    assert clock.began[6] == pytest.approx(1000.1302)  # due at 1000.12
    assert clock.began[7] == pytest.approx(1000.1402)
    # 90 ms from 1000.2 on: ticks 11, 12 and 13 are missed, 14 begins at once.
    assert clock.began[11] == pytest.approx(1000.2902)
    statistics = clock.ticker.statistics()
    assert statistics.missed_ticks == 3
    assert statistics.late_ms.max == pytest.approx(70.2)
    assert statistics.tick_ms.max == pytest.approx(90.0)
    clock.ticker.reset()
    assert clock.ticker.statistics().missed_ticks == clock.ticker.statistics().tick_ms.count == 0


def test_the_worst_ticks_are_kept_and_long_ones_told_now_and_then() -> None:
    here = world()
    clock = Clock(here, 1000, work={5: 0.030, 10: 0.090, 12: 0.0205, 700: 0.021})
    for name in ("k1", "k2", "k3"):
        here.plane.apply(Step(name, ()))
    clock.ticker.run()
    statistics = clock.ticker.statistics()
    # The second took no longer than others, but stood for tick 11, which was due 70 ms before.
    assert [(each.tick, each.late_ms, each.tick_ms) for each in statistics.worst] == [
        (10, 0.2, 90.0),
        (14, 70.2, 4.0),
        (5, 0.2, 30.0),
        (703, 0.2, 21.0),
        (15, 0.2, 20.5),
    ]
    worst = statistics.worst[0]
    assert (worst.cpu_ms, worst.waits, worst.preemptions) == (4.0, 1, 0)
    assert worst.stage_ms == {"hand_over": 90.0}  # the plane's own stages took no time by this clock
    assert worst.beside == ()
    assert statistics.long_ticks == 5
    # The first at once, then at most one in ten seconds.
    assert [(each.tick, count) for each, count in clock.long] == [(5, 1), (703, 5)]
    clock.ticker.reset()
    assert clock.ticker.statistics().worst == ()
    assert clock.ticker.statistics().long_ticks == 0


def test_a_tick_says_what_it_carried_out_and_who_stood_beside_a_late_one() -> None:
    here = world()
    clock = Clock(here, 4, work={1: 0.050})
    for name in ("k1", "k2", "k3"):
        here.plane.apply(Step(name, ()))
    standing, leave = threading.Event(), threading.Event()

    going: list[bool] = []

    def work() -> None:
        standing.set()
        while not going:
            pass

    beside = [threading.Thread(target=work, name="at work"), threading.Thread(target=leave.wait, name="waiting")]
    for thread in beside:
        thread.start()
    standing.wait()
    clock.ticker.run()
    going.append(True)
    leave.set()
    for thread in beside:
        thread.join()
    first = next(each for each in clock.ticker.statistics().worst if each.tick == 0)
    assert (first.steps, first.events) == (3, 3)
    late = next(each for each in clock.ticker.statistics().worst if each.late_ms > 5)
    assert (late.tick, late.steps) == (3, 0)
    (at_work,) = late.beside
    assert at_work.startswith("at work: ")
    assert "test_ticker.work:" in at_work


def test_a_thread_is_told_its_own_usage() -> None:
    before = thread_usage()
    sum(range(2_000_000))
    after = thread_usage()
    assert after.cpu_seconds > before.cpu_seconds
    assert after.waits >= before.waits


def test_events_are_handed_over_once_a_tick_and_a_failing_listener_ends_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    here = world()
    clock = Clock(here, 10)
    for name in ("k1", "k2"):
        here.plane.apply(Step(name, ()))
    clock.ticker.run()
    assert clock.events == [[StepApplied("k1", 0), StepApplied("k2", 0)]]
    failing = Clock(other := world(), 10)
    failing.ticker._notify = lambda _events: 1 / 0  # type: ignore[assignment, return-value]
    for _ in range(3):
        other.plane.apply(Step("k", ()))
    failing.ticker.run()
    assert len(failing.began) == 10
    assert len([record for record in caplog.records if "listener of media events failed" in record.message]) == 1


def test_histogram_percentiles() -> None:
    histogram = Histogram()
    assert histogram.spread() == Spread(0.0, 0.0, 0.0, 0)
    for hundredth in range(1, 101):
        histogram.add(hundredth * 0.0001 - 0.00005)
    histogram.add(5.0)
    assert histogram.spread() == Spread(5.1, 10.0, 5000.0, 101)


@pytest.fixture
def process_settings() -> Iterator[None]:
    """What starting a ticker changes in the process."""
    interval = sys.getswitchinterval()
    yield
    gc.unfreeze()
    gc.enable()
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("process_settings")
def test_a_real_thread_ticks_and_ends() -> None:
    here = world()
    applied = threading.Event()
    threads: list[str] = []
    contacts: list[str] = []

    def notify(events: list[MediaEvent]) -> None:
        threads.append(threading.current_thread().name)
        contacts.extend(event.contact_id for event in events if isinstance(event, StepApplied))
        applied.set()

    ticker = Ticker(here.plane, notify)
    ticker.start()
    here.plane.apply(Step("k", ()))
    assert applied.wait(5)
    for number in range(450):
        here.plane.apply(Step(f"last {number}", ()))
    ticker.stop()
    assert set(threads) == {"tick"}
    assert contacts == ["k", *(f"last {number}" for number in range(450))]
    assert here.plane.tick_number >= 0
    assert sys.getswitchinterval() == pytest.approx(0.0005)
    assert gc.isenabled()  # it was not, while it ran
    stopped_at = here.plane.tick_number
    assert not any(thread.name == "tick" for thread in threading.enumerate())
    assert here.plane.tick_number == stopped_at


def test_a_thread_goes_first_as_far_as_the_system_permits() -> None:
    found: list[tuple[str, int, int]] = []

    def run() -> None:
        said = go_first()
        thread = threading.get_native_id()
        found.append((said, os.sched_getscheduler(thread), os.getpriority(os.PRIO_PROCESS, thread)))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    ((said, policy, nice),) = found
    assert (policy == os.SCHED_RR) == (said == "realtime")
    assert (nice == -10) == (said == "raised")
    # Of that thread alone.
    assert os.sched_getscheduler(0) != os.SCHED_RR


def test_how_long_the_plane_has_stood_still() -> None:
    clock = Clock(world(), 3)
    assert clock.ticker.standstill_seconds == 0.0
    clock.now += 5.0
    assert clock.ticker.standstill_seconds == pytest.approx(5.0)
    clock.ticker.run()
    assert clock.ticker.standstill_seconds < 0.03
