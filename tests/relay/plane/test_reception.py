"""RFC 3550's counts: extended sequence numbers, loss, restarts, jitter."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.plane.reception import Reception

ONE = np.ones(1, np.intp)


def receive(reception: Reception, *packets: tuple[int, int, float], leg: int = 1, timed: bool = True) -> None:
    """(sequence, timestamp, arrival) in one batch."""
    count = len(packets)
    reception.receive(
        np.full(count, leg, np.intp),
        np.array([sequence & 0xFFFF for sequence, _, _ in packets], np.uint16),
        np.array([timestamp & 0xFFFFFFFF for _, timestamp, _ in packets], np.uint32),
        np.array([arrival for _, _, arrival in packets]),
        np.full(count, timed, np.bool_),
    )


def stream(reception: Reception, sequences: list[int]) -> None:
    for sequence in sequences:
        receive(reception, (sequence, sequence * 160, sequence * 0.02))


def interval(reception: Reception) -> tuple[int, int]:
    """Expected and received of leg 1 since it was last asked."""
    expected, received = reception.intervals(ONE)
    return int(expected[0]), int(received[0])


def test_loss_across_the_wrap() -> None:
    reception = Reception(2)
    stream(reception, [65_533, 65_534, 65_536, 65_538, 65_539])
    assert reception.lost(1) == 2
    assert reception.received[1] == 5
    assert reception.highest_sequences(ONE)[0] == 65_539
    assert interval(reception) == (7, 5)
    stream(reception, [65_540])
    assert interval(reception) == (1, 1)


def test_reordered_packets_are_not_lost() -> None:
    reception = Reception(2)
    receive(reception, *((n, n * 160, 0.0) for n in (10, 12, 11, 14, 13)))
    assert reception.lost(1) == 0
    assert reception.highest_sequences(ONE)[0] == 14


def test_duplicates_do_not_make_loss_negative() -> None:
    reception = Reception(2)
    stream(reception, [1, 1, 1, 2, 2])
    assert reception.lost(1) == 0


def test_a_restart_needs_two_packets_in_a_row() -> None:
    reception = Reception(2)
    stream(reception, [100, 101, 102, 40_000, 103])
    assert reception.lost(1) == 0
    stream(reception, [9_000, 9_001, 9_003])
    assert reception.lost(1) == 1
    assert reception.highest_sequences(ONE)[0] == 9_003


def test_another_ssrc_begins_anew_and_keeps_what_was_lost() -> None:
    reception = Reception(2)
    stream(reception, [1, 3])
    reception.restart(1)
    stream(reception, [50_000, 50_001, 50_003])
    assert reception.lost(1) == 2
    reception.open(1)
    assert reception.lost(1) == reception.received[1] == 0


def test_jitter_of_the_rfcs_recursion() -> None:
    """A.8: J += (|D| - J) / 16, whether packets come one a batch or all in one."""
    network = random.Random(4)
    packets = [(n, n * 160, n * 0.02 + network.uniform(0, 0.03)) for n in range(200)]
    expected, before = 0.0, packets[0]
    for packet in packets[1:]:
        difference = abs((packet[2] - before[2]) - (packet[1] - before[1]) / 8000)
        expected += (difference - expected) / 16
        before = packet
    single, batched = Reception(2), Reception(2)
    for packet in packets:
        receive(single, packet)
    for first in range(0, 200, 7):
        receive(batched, *packets[first : first + 7])
    assert float(single.jitter[1]) == pytest.approx(expected)
    assert float(batched.jitter[1]) == pytest.approx(expected)


def test_pauses_and_telephone_events_are_not_jitter() -> None:
    reception = Reception(2)
    stream(reception, list(range(10)))
    receive(reception, (10, 9_999_999, 0.2))
    assert float(reception.jitter[1]) == pytest.approx(0.0)
    for n in range(5):
        receive(reception, (11 + n, 10_000_159, 0.22 + n * 0.02), timed=False)
    assert float(reception.jitter[1]) == pytest.approx(0.0)
    assert reception.received[1] == 16
    assert reception.lost(1) == 0


@given(st.lists(st.integers(0, 65_535), min_size=1, max_size=60), st.integers(1, 8))
def test_any_sequence_numbers_keep_counts_sane(sequences: list[int], batch: int) -> None:
    reception = Reception(2)
    for first in range(0, len(sequences), batch):
        receive(reception, *((n, n * 160, 0.0) for n in sequences[first : first + batch]))
    assert reception.received[1] == len(sequences)
    assert 0 <= reception.lost(1) <= 3000 * len(sequences)


def test_legs_of_one_batch_are_kept_apart() -> None:
    reception = Reception(4)
    legs = np.array([0, 1, 2, 0, 2], np.intp)
    for step in range(5):
        sequences = np.array([step * 2, step * 3, step * 2, step * 2 + 1, step * 2 + 1], np.uint16)
        reception.receive(
            legs,
            sequences,
            sequences.astype(np.uint32) * 160,
            sequences * 0.02,
            np.ones(5, np.bool_),
        )
    assert [reception.lost(leg) for leg in range(4)] == [0, 8, 0, 0]
    assert reception.received.tolist() == [10, 5, 10, 0]
    assert [float(reception.jitter[leg]) for leg in range(4)] == pytest.approx([0.0] * 4)
