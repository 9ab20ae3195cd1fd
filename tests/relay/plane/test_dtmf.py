"""Telephone events: repeated, reordered, lost, long."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from relay.plane.dtmf import EndedEvent, EventReceiver


def packet(event: int, duration: int, *, end: bool = False, volume: int = 10) -> bytes:
    return struct.pack("!BBH", event, (0x80 if end else 0) | volume, duration)


def press(receiver: EventReceiver, event: int, timestamp: int, *, ends: int = 3, now: float = 0.0) -> list[EndedEvent]:
    ended: list[EndedEvent] = []
    for duration in (160, 320, 480):
        ended += receiver.receive(packet(event, duration), timestamp, now)
    for _ in range(ends):
        ended += receiver.receive(packet(event, 640, end=True), timestamp, now)
    return ended


def test_three_end_packets_are_one_event() -> None:
    receiver = EventReceiver()
    assert press(receiver, 5, 1000) == [EndedEvent(5, 640)]
    assert press(receiver, 5, 3000) == [EndedEvent(5, 640)]
    assert receiver.count == 2
    assert not receiver.going_on


def test_one_end_packet_is_enough_and_the_beginning_may_be_lost() -> None:
    receiver = EventReceiver()
    assert list(receiver.receive(packet(9, 800, end=True), 5, 0.0)) == [EndedEvent(9, 800)]
    assert list(receiver.receive(packet(9, 800, end=True), 5, 0.0)) == []
    assert list(receiver.receive(packet(9, 640), 5, 0.0)) == []


def test_lost_end_packets_are_made_up_for_by_a_pause_or_the_next_event() -> None:
    receiver = EventReceiver()
    assert press(receiver, 1, 1000, ends=0, now=1.0) == []
    assert list(receiver.expire(1.19)) == []
    assert list(receiver.expire(1.21)) == [EndedEvent(1, 480)]
    assert list(receiver.expire(9.0)) == []
    assert press(receiver, 2, 5000, ends=0) == []
    assert list(receiver.receive(packet(3, 160), 9000, 2.0)) == [EndedEvent(2, 480)]
    assert receiver.count == 3


def test_packets_of_an_event_that_is_over_are_nothing_new() -> None:
    receiver = EventReceiver()
    press(receiver, 1, 0xFFFFFF00)
    press(receiver, 2, 1000)  # the timestamp wrapped
    assert list(receiver.receive(packet(1, 640, end=True), 0xFFFFFF00, 0.0)) == []
    assert receiver.count == 2


def test_a_long_event_is_one_through_its_segments() -> None:
    """RFC 4733 §2.5.1.3: at 48 kHz a segment lasts 1.37 s at most."""
    receiver = EventReceiver()
    ended: list[EndedEvent] = []
    for segment in range(3):
        for duration in range(960, 65_536, 960):
            ended += receiver.receive(packet(11, duration), 7 + segment * 65_535, 0.0)
        ended += receiver.receive(packet(11, 65_535), 7 + segment * 65_535, 0.0)
    ended += receiver.receive(packet(11, 1920, end=True), 7 + 3 * 65_535, 0.0)
    assert ended == [EndedEvent(11, 3 * 65_535 + 1920)]
    assert receiver.count == 1


def test_short_packets_are_ignored_and_digits_are_not_shown() -> None:
    receiver = EventReceiver()
    assert list(receiver.receive(b"\x01\x80\x00", 1, 0.0)) == []
    assert receiver.count == 0
    assert "9" not in repr(EndedEvent(9, 640)).replace("duration=640", "")


@given(st.permutations(range(6)), st.sets(st.integers(0, 5), max_size=4))
def test_whatever_order_and_loss_an_event_is_counted_once(order: list[int], lost: set[int]) -> None:
    packets = [packet(4, 160 * min(n + 1, 4), end=n >= 3) for n in range(6)]
    receiver = EventReceiver()
    ended = [each for n in order if n not in lost for each in receiver.receive(packets[n], 77, 0.0)]
    ended += receiver.expire(1.0)
    assert [each.event for each in ended] == [4]
    assert receiver.count == 1
