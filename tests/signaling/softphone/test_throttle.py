from __future__ import annotations

from signaling.softphone.throttle import LogInThrottle, ThrottleSettings


def throttle(**settings) -> LogInThrottle:
    return LogInThrottle(ThrottleSettings(**settings))


def test_after_the_last_failure_an_address_waits_for_its_window():
    guard = throttle(failures_max=3, window_s=60.0)
    for now in (0.0, 1.0):
        guard.failed("10.0.0.1", now)
    assert guard.wait_s("10.0.0.1", 2.0) == 0.0
    guard.failed("10.0.0.1", 2.0)
    assert guard.wait_s("10.0.0.1", 2.0) == 58.0
    assert guard.wait_s("10.0.0.2", 2.0) == 0.0
    assert guard.wait_s("10.0.0.1", 60.0) == 0.0


def test_a_new_window_begins_with_the_next_failure():
    guard = throttle(failures_max=2, window_s=10.0)
    guard.failed("10.0.0.1", 0.0)
    guard.failed("10.0.0.1", 10.0)
    assert guard.wait_s("10.0.0.1", 10.0) == 0.0
    guard.failed("10.0.0.1", 11.0)
    assert guard.wait_s("10.0.0.1", 11.0) == 9.0


def test_one_ipv6_network_is_one_guesser():
    guard = throttle(failures_max=1)
    guard.failed("2001:db8::1", 0.0)
    assert guard.wait_s("2001:db8::ffff:1", 0.0) == 60.0
    assert guard.wait_s("2001:db8:0:1::1", 0.0) == 0.0


def test_the_table_is_bounded_and_forgets_the_oldest():
    guard = throttle(failures_max=1, addresses_max=2)
    for number in range(3):
        guard.failed(f"10.0.0.{number}", 0.0)
    assert [guard.wait_s(f"10.0.0.{number}", 0.0) > 0 for number in range(3)] == [False, True, True]


def test_a_peer_without_an_address_is_still_counted():
    guard = throttle(failures_max=1)
    guard.failed("unknown", 0.0)
    assert guard.wait_s("unknown", 0.0) == 60.0
