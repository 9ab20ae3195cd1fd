"""Threads that give way wait while a tick has the right of way, and not for ever."""

from __future__ import annotations

import threading
import time

import pytest

from relay.right_of_way import WAIT_SECONDS_MAX, RightOfWay


def test_nobody_waits_while_no_tick_is_under_way() -> None:
    way = RightOfWay()
    way.take()
    way.release()
    began = time.perf_counter()
    for _ in range(1000):
        way.give_way()
    assert time.perf_counter() - began < WAIT_SECONDS_MAX


def test_whoever_gives_way_waits_until_the_tick_has_ended() -> None:
    way = RightOfWay(30.0)
    order: list[str] = []
    waiting = threading.Event()

    def other() -> None:
        waiting.set()
        way.give_way()
        order.append("other")

    way.take()
    thread = threading.Thread(target=other)
    thread.start()
    waiting.wait()
    order.append("tick")
    way.release()
    thread.join()
    assert order == ["tick", "other"]


def test_nobody_begins_another_piece_of_work_just_before_a_tick() -> None:
    slept: list[float] = []
    now = 10.0
    way = RightOfWay(clock=lambda: now, sleep=slept.append)
    way.take()
    way.release(10.015)
    way.give_way()
    assert slept == []  # there is time enough
    now = 10.014
    way.give_way()
    assert slept == pytest.approx([0.002])  # until a millisecond after it should have begun
    now = 10.0165
    way.give_way()
    assert slept == pytest.approx([0.002, 0.001])  # the tick is a little late
    now = 10.018
    way.give_way()
    assert len(slept) == 2  # it does not come
    way.take()
    now = 10.014
    way.release()
    way.give_way()
    assert len(slept) == 2  # nobody knows when the next one is due


def test_an_endless_tick_is_not_waited_for() -> None:
    way = RightOfWay()
    way.take()
    began = time.perf_counter()
    way.give_way()
    assert time.perf_counter() - began >= WAIT_SECONDS_MAX * 0.9
    way.release()


def test_a_tick_does_not_wait_for_one_that_has_just_waited() -> None:
    way = RightOfWay()
    way._lock.acquire()  # a thread that stands still between its wait and its work
    way.take()
    way.release()  # which must not release what it does not hold
    assert way._lock.locked()
    way._lock.release()
    way.take()
    assert way._lock.locked()
    way.release()


def test_a_loop_gives_way_before_it_deals_with_what_has_come() -> None:
    way = RightOfWay(30.0)
    order: list[str] = []
    loop = way.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    way.take()
    loop.call_soon_threadsafe(order.append, "control")
    loop.call_soon_threadsafe(loop.stop)
    time.sleep(0.01)  # in which a loop that does not give way would have done both
    order.append("tick")
    way.release()
    thread.join()
    loop.close()
    assert order == ["tick", "control"]
