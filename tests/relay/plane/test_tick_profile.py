"""Stages by a made-up clock, and which ticks are kept."""

from __future__ import annotations

import itertools

from relay.plane.tick_profile import STAGES, StageTimes, TickProfile, WorstTicks


def profile(tick: int, late_ms: float, tick_ms: float) -> TickProfile:
    return TickProfile(tick, late_ms, tick_ms, tick_ms, 0, 0, 0, 0, 0, {})


def test_each_stage_has_the_time_since_the_one_before() -> None:
    clock = itertools.accumulate([10.0, 0.001, 0.002, 5.0, 0.0, 0.004])
    times = StageTimes(lambda: next(clock))
    times.begin()
    times.steps = 3
    times.end("steps")
    times.end("receive")
    assert times.milliseconds() == {"steps": 1.0, "receive": 2.0}
    times.begin()
    assert times.steps == 0
    times.end("steps")
    times.end("receive")
    assert times.milliseconds() == {"receive": 4.0}
    assert {stage: round(spent, 6) for stage, spent in times.totals.items() if spent} == {
        "steps": 0.001,
        "receive": 0.006,
    }
    assert tuple(times.totals) == STAGES


def test_what_was_caught_up_belongs_to_one_tick() -> None:
    clock = itertools.accumulate([0.0, 0.003, 1.0])
    times = StageTimes(lambda: next(clock))
    times.begin()
    times.end("catch_up")
    assert times.milliseconds() == {"catch_up": 3.0}
    times.begin()
    assert times.milliseconds() == {}


def test_without_a_clock_nothing_is_measured() -> None:
    times = StageTimes()
    times.begin()
    times.end("mix")
    assert times.milliseconds() == {}


def test_those_are_kept_that_ended_latest_whether_they_began_late_or_took_long() -> None:
    worst = WorstTicks()
    for tick, (late, took) in enumerate([(0, 5), (9, 1), (0, 1), (3, 3), (1, 1), (0, 8), (0, 1.5)]):
        assert worst.takes(late, took) == (tick != 6)
        worst.add(profile(tick, late, took))
    assert [each.tick for each in worst.kept] == [1, 5, 3, 0, 4]
    worst.reset()
    assert worst.kept == ()
    assert worst.takes(0.0, 0.0)
