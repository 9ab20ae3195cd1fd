"""Scripted calls for tests of the recorder: what a tick would hand over."""

from __future__ import annotations

import random
from collections.abc import Iterator

from recorder.capture import (
    Captured,
    Frames,
    GateChanged,
    LogEntry,
    RecordingClosed,
    RecordingOpened,
    TrackClosed,
    TrackOpened,
)
from tests.recorder.world import CONTACT, WALL

BASE = 5_000
"""The plane's tick in which the contact begins."""


def sound(track_id: str, tick: int, ticks: int, size: int = 160) -> bytes:
    """Payload that differs for every track and tick."""
    return b"".join(random.Random(f"{track_id} {tick + n}").randbytes(size) for n in range(ticks))


def frames(track_id: str, tick: int, ticks: int = 20, contact_id: str = CONTACT, **marks: object) -> Frames:
    payload = sound(track_id, tick, ticks)
    return Frames(contact_id, track_id, BASE + tick, ticks, payload, **marks)  # type: ignore[arg-type]


def held_call(contact_id: str = CONTACT, seconds: int = 4) -> Iterator[list[Captured]]:
    """Agent and customer; the customer is on hold (G2) from 1.0 s to 2.2 s. A list for each 100 ms."""
    yield [
        RecordingOpened(contact_id, BASE, WALL),
        LogEntry(contact_id, BASE, b'{"event":"started"}'),
        TrackOpened(contact_id, "customer", "p-customer", "other", "pcmu", 8_000, BASE, "G1", "no agent yet"),
        LogEntry(contact_id, BASE + 10, b'{"event":"agent_connected"}'),
        TrackOpened(contact_id, "agent", "p-agent", "agent", "pcma", 8_000, BASE + 10),
        GateChanged(contact_id, "customer", BASE + 10, None),
    ]
    for tick in range(30, seconds * 50 + 1, 20):
        values: list[Captured] = [frames("agent", tick - 20, 20, contact_id)]
        if tick == 50:
            values.append(frames("customer", 10, 20, contact_id))
            values.append(frames("customer", 30, 20, contact_id, concealed=((3, 5),), lost=((7, 8),)))
            values.append(LogEntry(contact_id, BASE + 50, b'{"event":"held"}'))
            values.append(GateChanged(contact_id, "customer", BASE + 50, "G2", "on hold"))
        elif tick == 110:
            values.append(LogEntry(contact_id, BASE + 110, b'{"event":"resumed"}'))
            values.append(GateChanged(contact_id, "customer", BASE + 110, None))
        elif tick > 110:
            values.append(frames("customer", tick - 20, 20, contact_id))
        yield values
    end = BASE + tick
    yield [
        TrackClosed(contact_id, "agent", end),
        TrackClosed(contact_id, "customer", end),
        RecordingClosed(contact_id, end),
    ]
