"""200,000 datagrams a second of one kind: the work for them is bounded, and counted here, never timed."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from relay.plane.intake import IntakeSettings
from relay.plane.latching import LatchSettings
from tests.fuzz.media import FORGED, NARROW, STRANGER, UNSEEN, WIDE, Hostile, Scene, assert_harmless

pytestmark = pytest.mark.slow

FIRST, TICKS, A_TICK = 10, 4, 4000
DATAGRAMS = TICKS * A_TICK
LIMITS, LATCH = IntakeSettings(), LatchSettings()
SAID_ANYWAY = 20
"""Media events of a tick in which nothing comes: levels, reports of legs, what just latched."""


def flood(
    data: Callable[[int], bytes], sender: int, *, protect: bool = False, ports: int = 1, socket: int = 0
) -> Scene:
    """After one honest packet of the sender's, if it is a leg."""
    known = [Hostile(FIRST - 5, sender, rtp(0), protect=True)] if sender in {NARROW, WIDE} else []
    return assert_harmless(
        known
        + [
            Hostile(FIRST + n // A_TICK, sender, data(n + 1), protect, socket, 3 * (n % ports))
            for n in range(DATAGRAMS)
        ]
    )


def rtp(n: int, *, payload_type: int = 0, ssrc: int = 4444, payload: bytes = bytes(160)) -> bytes:
    return struct.pack("!BBHII", 0x80, payload_type, n & 0xFFFF, 160 * n, ssrc) + payload


def report(n: int) -> bytes:
    return struct.pack("!BBHI", 0x80, 201, 1, 4444)


@pytest.mark.parametrize("ports", [1, 4000], ids=["one source", "many sources"])
def test_strangers_rtp(ports: int) -> None:
    scene = flood(rtp, STRANGER, ports=ports)
    latching = scene.plane.stages.intake.latching.counters
    assert scene.plane.outcomes.dropped.strangers == DATAGRAMS
    assert latching.trials <= TICKS * LATCH.trials_per_tick_max
    # In each tick as many sources are looked at, and the others are not even looked up.
    assert latching.refused <= TICKS * min(ports, LATCH.sources_per_tick_max)
    assert scene.events_a_tick <= SAID_ANYWAY


def test_strangers_from_the_hosts_of_legs() -> None:
    scene = flood(rtp, UNSEEN, ports=4000)
    assert scene.plane.stages.intake.latching.counters.trials <= TICKS * LATCH.trials_per_tick_max + 6
    assert scene.events_a_tick <= SAID_ANYWAY


@pytest.mark.parametrize(("ports", "passed"), [(1, LIMITS.control_source_max), (4000, LIMITS.control_unknown_max)])
@pytest.mark.parametrize("data", [b"\x00\x01\x00\x00" + bytes(16), b"\x16\xfe\xfd" + bytes(20)], ids=["STUN", "DTLS"])
def test_control(data: bytes, ports: int, passed: int) -> None:
    scene = flood(lambda _n: data, STRANGER, ports=ports)
    assert scene.plane.outcomes.taken.control == TICKS * passed
    assert scene.plane.outcomes.dropped.control_dropped == DATAGRAMS - TICKS * passed
    assert scene.events_a_tick <= SAID_ANYWAY + passed


def test_control_in_the_name_of_legs() -> None:
    scene = flood(lambda _n: b"\x00\x01\x00\x00" + bytes(16), FORGED, ports=3)
    # The three honest telephones' addresses, each with its own share.
    assert scene.plane.outcomes.taken.control <= TICKS * 3 * LIMITS.control_source_max


@pytest.mark.parametrize("protect", [True, False], ids=["authentic", "forged"])
def test_reports(protect: bool) -> None:
    outcomes = flood(report, NARROW, protect=protect).plane.outcomes
    tried = TICKS * LIMITS.reports_leg_max
    assert (outcomes.taken.reports if protect else outcomes.dropped.unauthenticated) == tried
    assert outcomes.dropped.reports_dropped == DATAGRAMS - tried


def test_reports_of_strangers() -> None:
    scene = flood(report, STRANGER, ports=4000, socket=1)
    assert scene.plane.outcomes.dropped.strangers == DATAGRAMS
    assert scene.events_a_tick <= SAID_ANYWAY


@pytest.mark.parametrize("ports", [1, 4000])
def test_oversized(ports: int) -> None:
    scene = flood(lambda _n: bytes(1700), STRANGER, ports=ports)
    assert scene.plane.outcomes.dropped.oversized == DATAGRAMS
    assert scene.events_a_tick <= SAID_ANYWAY


@pytest.mark.parametrize(("sender", "kind", "payload"), [(NARROW, 0, bytes(160)), (WIDE, 111, b"\xf8\xff\xfe")])
def test_authentic_sound(sender: int, kind: int, payload: bytes) -> None:
    """A peer that has the keys: what it sends beyond measure is not placed, and not decoded."""
    scene = flood(lambda n: rtp(n, payload_type=kind, payload=payload), sender, protect=True)
    dropped = scene.plane.outcomes.dropped
    assert dropped.flooded == DATAGRAMS - TICKS * LIMITS.packets_leg_max


def test_authentic_telephone_events() -> None:
    event = struct.pack("!BBH", 5, 0x80, 160)
    scene = flood(lambda n: rtp(n, payload_type=101, payload=event), NARROW, protect=True)
    assert scene.plane.outcomes.taken.telephone_events == TICKS * LIMITS.events_leg_max
    assert scene.events_a_tick <= SAID_ANYWAY + LIMITS.events_leg_max


def test_authentic_ssrcs() -> None:
    scene = flood(lambda n: rtp(n, ssrc=n), NARROW, protect=True)
    assert len(scene.plane.stages.legs.by_id[scene.hostile[0].leg_id].ssrcs) <= 63
