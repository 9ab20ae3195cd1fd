"""The clock of the simulated world."""

from __future__ import annotations

import functools

from tests.simulation.schedule import Schedule


def test_things_are_done_in_order_of_time_then_of_asking() -> None:
    schedule, done = Schedule(10.0), list[tuple[float, str]]()

    def note(name: str) -> None:
        done.append((schedule.now, name))

    for at, name in ((12.0, "c"), (11.0, "a"), (11.0, "b"), (9.0, "past")):
        schedule.at(at, functools.partial(note, name))
    schedule.run(11.5)
    assert done == [(10.0, "past"), (11.0, "a"), (11.0, "b")]
    assert schedule.now == 11.5
    schedule.run(20.0)
    assert done[-1] == (12.0, "c")


def test_a_timed_core_is_called_when_it_is_due_and_again_when_it_says_so() -> None:
    class Core:
        def __init__(self) -> None:
            self.due: float | None = 3.0
            self.fired: list[float] = []

        def next_timer(self) -> float | None:
            return self.due

        def handle_timer(self, now: float) -> None:
            if self.due is not None and now >= self.due:
                self.fired.append(now)
                self.due = now + 2.0 if len(self.fired) < 3 else None

    schedule, core = Schedule(0.0), Core()

    def fire() -> None:
        core.handle_timer(schedule.now)
        schedule.arm(core, fire)

    schedule.arm(core, fire)
    schedule.arm(core, fire)
    core.due = 1.0  # another input brought it forward
    schedule.arm(core, fire)
    schedule.run(100.0)
    assert core.fired == [1.0, 3.0, 5.0]
