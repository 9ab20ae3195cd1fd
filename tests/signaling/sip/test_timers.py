from hypothesis import given
from hypothesis import strategies as st

from signaling.sip.timers import Timers


def test_earliest_first_and_equal_deadlines_in_the_order_of_their_setting() -> None:
    timers: Timers[str] = Timers()
    for name, at in (("b", 2.0), ("a", 1.0), ("c", 2.0)):
        timers.start(name, at)
    assert timers.next() == 1.0
    assert [timers.pop_due(2.0) for _ in range(4)] == ["a", "b", "c", None]


def test_starting_again_moves_and_stopping_forgets() -> None:
    timers: Timers[str] = Timers()
    timers.start("a", 1.0)
    timers.start("a", 5.0)
    timers.start("b", 2.0)
    timers.stop("b")
    timers.stop("never")
    assert timers.pop_due(4.9) is None
    assert timers.next() == 5.0
    assert timers.pop_due(5.0) == "a"
    assert timers.next() is None


def test_moving_a_timer_often_does_not_fill_the_heap() -> None:
    timers: Timers[str] = Timers()
    for at in range(10_000):
        timers.start("a", float(at))
    assert len(timers._heap) < 100
    assert timers.pop_due(1e9) == "a"


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0, 100), st.booleans())))
def test_against_a_dictionary(steps: list[tuple[int, float, bool]]) -> None:
    timers, model = Timers[int](), dict[int, float]()
    for name, at, stop in steps:
        if stop:
            timers.stop(name)
            model.pop(name, None)
        else:
            timers.start(name, at)
            model[name] = at
        assert timers.next() == min(model.values(), default=None)
        assert len(timers) == len(model)
    popped = []
    while (name := timers.pop_due(100.0)) is not None:
        popped.append(model.pop(name))
    assert popped == sorted(popped)
    assert not model
