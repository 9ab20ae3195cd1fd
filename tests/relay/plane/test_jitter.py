"""Places, depth and playout of jitter buffers, packet by packet."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.plane.jitter import FULL, TICK_MS, JitterBuffers, JitterSettings, Placement

CLOCK = 160


class Buffer:
    """One leg's buffer, fed with (timestamp, duration) and played tick by tick; `ring` holds what is where."""

    def __init__(self, options: JitterSettings | None = None, clock: int = CLOCK) -> None:
        self.jitter = JitterBuffers(2, options)
        self.jitter.open(1, clock)
        self.clock = clock
        self.ring: dict[int, int] = {}
        self.played: list[int | None] = []
        """Timestamps of the slots that were whole."""

    def put(self, *packets: tuple[int, int], age_ms: float = 5.0) -> Placement:
        timestamps = np.array([timestamp & 0xFFFFFFFF for timestamp, _ in packets], np.uint32)
        placement = self.jitter.place(
            np.full(len(packets), 1, np.intp),
            timestamps,
            np.array([duration for _, duration in packets], np.int32),
            np.full(len(packets), age_ms),
        )
        for i, half, halves in zip(placement.kept, placement.half, placement.halves, strict=True):
            for k in range(halves):
                self.ring[int(half) + k] = (packets[i][0] + k * self.clock // 2) & 0xFFFFFFFF
        return placement

    def tick(self) -> int | None:
        legs = np.array([1], np.intp)
        half = int(self.jitter.slot[1]) * 2
        filled = self.jitter.take(legs).filled
        self.jitter.end_tick(legs)
        timestamp = None
        if filled[0] == FULL:
            timestamp = self.ring[half]
            assert self.ring[half + 1] == (timestamp + self.clock // 2) & 0xFFFFFFFF
        self.played.append(timestamp)
        return timestamp

    def stream(self, first: int, count: int, *, begin: int = 0) -> None:
        """A packet, then a tick, and so on."""
        for n in range(first, first + count):
            self.put((begin + n * self.clock, self.clock))
            self.tick()


def test_playout_begins_one_slot_behind() -> None:
    buffer = Buffer()
    buffer.stream(0, 5, begin=4_294_967_000)
    assert buffer.played == [None] + [(4_294_967_000 + n * 160) & 0xFFFFFFFF for n in range(4)]
    assert buffer.jitter.depth_ms(1) == 20.0


def test_order_does_not_matter_within_the_depth() -> None:
    buffer = Buffer()
    buffer.put((0, 160))
    buffer.tick()
    buffer.put((320, 160), (160, 160))
    for _ in range(3):
        buffer.tick()
    assert buffer.played == [None, 0, 160, 320]


def test_a_duplicate_plays_once_and_is_counted() -> None:
    buffer = Buffer()
    buffer.stream(0, 3)
    buffer.put((480, 160), (480, 160))
    buffer.put((480, 160))
    buffer.tick()
    buffer.tick()
    buffer.put((480, 160))
    assert buffer.played[3:] == [320, 480]
    assert buffer.jitter.duplicates[1] == 2
    assert buffer.jitter.late[1] == 1


def test_a_loss_leaves_one_slot_empty_and_no_delay() -> None:
    buffer = Buffer()
    buffer.stream(0, 5)
    buffer.tick()
    buffer.stream(6, 5)
    assert buffer.played == [None, 0, 160, 320, 480, 640, None, 960, 1120, 1280, 1440]


def test_one_late_packet_is_dropped_two_move_playout_back() -> None:
    buffer = Buffer()
    buffer.stream(0, 200)
    begin = len(buffer.played)
    buffer.tick()
    buffer.tick()
    buffer.put((200 * 160, 160), (201 * 160, 160), age_ms=1.0)
    assert buffer.jitter.late[1] == 1
    buffer.tick()
    # Again, within the second: now playout goes back over the slot that was empty.
    buffer.put((202 * 160, 160), (203 * 160, 160))
    buffer.tick()
    buffer.tick()
    buffer.tick()
    buffer.put((204 * 160, 160), (205 * 160, 160), (206 * 160, 160))
    for _ in range(3):
        buffer.tick()
    played = [None if each is None else each // 160 for each in buffer.played[begin:]]
    assert played == [199, None, 201, 202, 203, None, 204, 205, 206]
    assert buffer.jitter.late[1] == 1


def test_a_burst_after_a_network_pause_heals_at_once() -> None:
    """300 ms of nothing, then all of it in one tick: what is over is not played late."""
    buffer = Buffer()
    buffer.stream(0, 100)
    for _ in range(15):
        buffer.tick()
    buffer.put(*((n * 160, 160) for n in range(100, 116)))
    buffer.tick()
    buffer.stream(116, 20)
    assert buffer.jitter.depth_ms(1) == 20.0
    assert buffer.played[-1] == 134 * 160


def test_ssrc_change_or_reset_begins_anew() -> None:
    buffer = Buffer()
    buffer.stream(0, 10)
    buffer.jitter.reset(1)
    buffer.stream(0, 5, begin=77_777)
    assert buffer.played[10:] == [None] + [77_777 + n * 160 for n in range(4)]


def test_a_jump_of_the_timestamp_is_followed_by_the_second_packet() -> None:
    buffer = Buffer()
    buffer.stream(0, 10)
    buffer.stream(0, 6, begin=5_000_000)
    assert buffer.jitter.resyncs[1] == 1
    assert buffer.played[10:] == [9 * 160, None, 5_000_160, 5_000_320, 5_000_480, 5_000_640]


def test_a_single_stray_timestamp_is_not_followed() -> None:
    buffer = Buffer()
    buffer.stream(0, 10)
    for n in range(10, 20):
        buffer.put((n * 160, 160), (n * 7_777_777, 160))
        buffer.tick()
    assert buffer.played[10:] == [n * 160 for n in range(9, 19)]
    assert buffer.jitter.resyncs[1] == 0


def test_a_paused_timeline_is_taken_up_again() -> None:
    """A telephone on hold that stops its RTP clock: three hours later it goes on with the next timestamp."""
    buffer = Buffer()
    buffer.stream(0, 10)
    for _ in range(1000):
        buffer.tick()
    buffer.stream(10, 5)
    assert buffer.played[-4:] == [n * 160 for n in range(10, 14)]


def test_words_that_begin_off_the_grid_move_the_grid() -> None:
    buffer = Buffer()
    buffer.stream(0, 5)
    buffer.stream(5, 5, begin=37)
    assert buffer.played[6:] == [5 * 160 + 37, 6 * 160 + 37, 7 * 160 + 37, 8 * 160 + 37]


@pytest.mark.parametrize("duration", [80, 240, 320, 480])
def test_other_packet_lengths_fill_half_slots(duration: int) -> None:
    buffer = Buffer()
    sent = 0
    for tick in range(60):
        while sent <= tick * 160:
            buffer.put((sent, duration))
            sent += duration
        buffer.tick()
    whole = [each for each in buffer.played if each is not None]
    assert whole == list(range(whole[0], whole[0] + 160 * len(whole), 160))
    assert len(whole) >= 56


def test_depth_shrinks_when_slack_stays_large() -> None:
    """Slots of excess, seen over eight seconds, are skipped one by one: 60 ms less delay."""
    buffer = Buffer(JitterSettings(start_depth_slots=3))
    for n in range(1200):
        buffer.put((n * 160, 160), age_ms=5.0)
        buffer.tick()
        while buffer.jitter.skips[1] and buffer.jitter.may_skip(1):
            place, whole = buffer.jitter.skip(1)
            assert whole
            del place
    # From 65 ms of slack to 5: a packet plays in the tick before which it came.
    assert buffer.jitter.depth_ms(1) == 0.0
    assert buffer.played[-1] == 1199 * 160
    assert buffer.played.count(None) == 3


@pytest.mark.slow
@pytest.mark.parametrize("ppm", [-2000, 2000])
def test_clock_skew_does_not_drift(ppm: int) -> None:
    """Two minutes at 2,000 ppm are as much as 14 at 300: twelve slots, of which the depth shows none."""
    buffer = Buffer()
    sent, depths = 0, []
    for tick in range(6_000):
        due = tick * TICK_MS
        while (arrival := sent * TICK_MS * (1 - ppm * 1e-6)) <= due:
            buffer.put((sent * 160, 160), age_ms=due - arrival)
            sent += 1
        buffer.tick()
        if buffer.jitter.skips[1] and buffer.jitter.may_skip(1):
            buffer.jitter.skip(1)
        depths.append(buffer.jitter.depth_ms(1))
    assert max(depths[500:]) <= 60.0
    missing = sum(each is None for each in buffer.played)
    assert missing <= 2 * 6_000 * 2000e-6  # the packet that shows that playout must wait, and the wait


def test_jitter_within_the_depth_is_not_heard() -> None:
    buffer = Buffer()
    network = random.Random(1)
    arrivals: dict[int, list[tuple[int, float]]] = {}
    for n in range(2000):
        at = n * TICK_MS + network.uniform(0, 40)
        tick = int(-(-at // TICK_MS))
        arrivals.setdefault(tick, []).append((n, tick * TICK_MS - at))
    for tick in range(2000):
        for n, age in arrivals.get(tick, []):
            buffer.put((n * 160, 160), age_ms=age)
        buffer.tick()
        if buffer.jitter.skips[1] and buffer.jitter.may_skip(1):
            buffer.jitter.skip(1)
    settled = buffer.played[100:]
    assert sum(each is None for each in settled) <= 4
    assert buffer.jitter.depth_ms(1) <= 80.0


_PACKET = st.tuples(
    st.integers(-40, 60),  # slots ahead of the tick's own timestamp
    st.sampled_from([80, 160, 240, 480]),
    st.sampled_from([0, 0, 0, 80]),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(_PACKET, max_size=4), min_size=1, max_size=60), st.integers(0, 0xFFFFFFFF))
def test_nothing_plays_twice_nor_goes_back(ticks: list[list[tuple[int, int, int]]], begin: int) -> None:
    """Whatever comes, in whatever order: on one timeline, timestamps that play only grow."""
    buffer = Buffer()
    last: int | None = None
    resyncs = 0
    for tick, packets in enumerate(ticks):
        began = bool(buffer.jitter.missed[1] >= 10 or not buffer.jitter.running[1])
        if packets:
            buffer.put(*((begin + (tick + ahead) * 160 + off, duration) for ahead, duration, off in packets))
        if buffer.jitter.resyncs[1] != resyncs or (began and packets):
            resyncs, last = int(buffer.jitter.resyncs[1]), None  # another timeline
        played = buffer.tick()
        if played is not None:
            if last is not None:
                assert ((played - last) & 0xFFFFFFFF) < 0x80000000
                assert played != last
            last = played
    assert buffer.jitter.depth_ms(1) <= 32 * TICK_MS


@settings(max_examples=100, deadline=None)
@given(st.permutations(list(range(12))), st.lists(st.integers(0, 11), max_size=12))
def test_every_order_and_every_duplicate_gives_the_same_sound(order: list[int], doubled: list[int]) -> None:
    buffer = Buffer(JitterSettings(start_depth_slots=13))
    buffer.put((0, 160))
    for n in [*order, *doubled]:
        buffer.put((n * 160, 160))
    for _ in range(30):
        buffer.tick()
    assert [each for each in buffer.played if each is not None] == [n * 160 for n in range(12)]


def test_legs_do_not_touch_one_another() -> None:
    jitter = JitterBuffers(300)
    legs = np.arange(300)
    for leg in legs:
        jitter.open(int(leg), 160 if leg % 2 else 960)
    for tick in range(20):
        clock = jitter.clock
        timestamps = (np.arange(300) * 1_000_003 + tick * clock).astype(np.uint32)
        keep = legs[legs % 5 != tick % 5] if tick > 3 else legs
        placement = jitter.place(keep, timestamps[keep], clock[keep].astype(np.int32), np.full(keep.size, 5.0))
        assert placement.kept.size == keep.size
        filled = jitter.take(legs).filled
        jitter.end_tick(legs)
        missing = legs[filled != FULL].tolist()
        expected = legs.tolist() if tick == 0 else [leg for leg in legs if tick - 1 > 3 and leg % 5 == (tick - 1) % 5]
        assert missing == expected
