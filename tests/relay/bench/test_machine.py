"""What the kernel tells of cores and buffers."""

from __future__ import annotations

import os
import re
import socket
import time

from relay.bench import machine


def test_a_core_that_works_has_worked() -> None:
    (core, *_) = sorted(os.sched_getaffinity(0))
    before = machine.core_seconds(core)
    assert before > 0
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        until = time.process_time() + 0.1
        while time.process_time() < until:
            pass
    finally:
        os.sched_setaffinity(0, allowed)
    assert machine.core_seconds(core) >= before + 0.08


def test_a_core_that_is_not_there_has_not() -> None:
    assert machine.core_seconds(100_000) == 0.0


def test_datagrams_that_found_a_buffer_full_are_counted() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as full,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        full.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        full.bind(("127.0.0.1", 0))
        port = full.getsockname()[1]
        assert machine.dropped_datagrams(frozenset({port})) == 0
        for _ in range(100):
            sender.sendto(bytes(1000), ("127.0.0.1", port))
        taken = 0
        full.setblocking(False)
        try:
            while full.recv(2000):
                taken += 1
        except BlockingIOError:
            pass
        assert 0 < taken < 100
        assert machine.dropped_datagrams(frozenset({port})) == 100 - taken


def test_the_description_names_processor_cores_system_and_language() -> None:
    assert re.fullmatch(r".+, \d+ cores, Linux \S+, Python \d+\.\d+\.\d+", machine.description())
