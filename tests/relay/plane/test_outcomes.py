"""Every datagram is counted once, under the one name that says what became of it."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable
from dataclasses import asdict

import pytest

from relay.media import Address
from relay.plane.intake import IntakeSettings
from relay.plane.outcomes import Dropped, Taken
from relay.plane.packets import RECEIVE_STRIDE
from relay.plane.stages import PlaneSettings
from tests.relay.media_peers import Phone, World, key, session
from tests.relay.test_plane_opus import OpusPhone

REPORT = struct.pack("!BBHI", 0x80, 201, 1, 7)
EVENT = struct.pack("!BBH", 5, 0x0A, 160)
STUN = b"\x00\x01\x00\x00" + bytes(16)
STRANGER = ("192.0.2.1", 9)


class Telephones(World):
    """Two telephones with G.711 and one with Opus that hear each other, and one that nobody hears, in mid-call."""

    def __init__(self) -> None:
        intake = IntakeSettings(packets_leg_max=10, events_max=20, events_leg_max=5, reports_leg_max=4)
        super().__init__(PlaneSettings(legs_max=8, tracks_max=8, intake=intake))
        self.a, self.b, self.alone = Phone("a", 1, 400.0), Phone("b", 2, 700.0), Phone("alone", 3, 1000.0)
        self.wide = OpusPhone("wide", 4, 1300.0)
        self.phones += [self.a, self.b, self.alone, self.wide]
        self.apply(*(phone.open() for phone in self.phones))
        self.conference(self.a, self.b, self.wide)
        self.run(6)

    def deliver(self, *datagrams: bytes, source: Address | None = None, socket: int = 0) -> None:
        for datagram in datagrams:
            self.sockets.deliver(self.now - 0.005, datagram, source or self.a.address, socket)

    def report(self, packet: bytes = REPORT) -> bytes:
        assert self.a.outbound is not None
        return self.a.outbound.protect_rtcp(packet)

    def moved(self, by: int) -> bytes:
        """A packet of another time, after which the telephone goes on as before."""
        self.a.timestamp += by
        packet = self.a.packet()
        self.a.timestamp -= by + 160
        return packet


def a_packet(world: Telephones) -> None:
    world.deliver(world.a.packet())


def an_event(world: Telephones) -> None:
    world.deliver(world.a.packet(EVENT, payload_type=101))


def noise(world: Telephones) -> None:
    world.deliver(world.a.packet(b"\x40", payload_type=13))


def a_report(world: Telephones) -> None:
    world.deliver(world.report())


def stun_and_dtls(world: Telephones) -> None:
    world.deliver(STUN, b"\x16\xfe\xfd" + bytes(20), source=STRANGER)


def nothing(world: Telephones) -> None:
    world.deliver(b"", b"")


def too_much(world: Telephones) -> None:
    world.deliver(bytes(RECEIVE_STRIDE + 1), b"\x80" * (RECEIVE_STRIDE + 400))


def no_protocol(world: Telephones) -> None:
    world.deliver(b"\xff" * 40, b"\x80\x00" + bytes(8), b"\x80\xc8\x00\x00", b"GET / HTTP/1.1", b"\x80")


def a_source_of_much_stun(world: Telephones) -> None:
    world.deliver(*[STUN] * 500, source=STRANGER)


def stun_at_an_rtcp_port(world: Telephones) -> None:
    world.deliver(STUN, STUN, source=STRANGER, socket=1)


def strangers(world: Telephones) -> None:
    world.deliver(world.a.packet(), REPORT, source=STRANGER)


def a_wrong_key(world: Telephones) -> None:
    world.a.outbound = session(key(99), inbound=False)
    world.deliver(world.a.packet(), world.report(), bytes([0x90, *bytes(30)]))


def the_same_again(world: Telephones) -> None:
    packets = [world.a.packet(), world.report()]
    world.deliver(*packets)
    world.tick()
    world.deliver(*packets)


def a_source_that_was_left(world: Telephones) -> None:
    world.a.ssrc += 5
    world.deliver(world.a.packet())
    world.tick()
    world.a.ssrc -= 5
    world.deliver(world.a.packet(), world.a.packet())


def a_flood_of_authentic_packets(world: Telephones) -> None:
    world.deliver(*(world.alone.packet() for _ in range(30)), source=world.alone.address)


def a_flood_of_reports(world: Telephones) -> None:
    world.deliver(*(world.report() for _ in range(30)))


def a_flood_of_events(world: Telephones) -> None:
    world.deliver(*(world.a.packet(EVENT, payload_type=101) for _ in range(9)))


def no_report(world: Telephones) -> None:
    world.deliver(
        world.report(struct.pack("!BBHI", 0x80, 204, 1, 7)), world.report(REPORT[:-4] + b"\xff" * 4 + b"x" * 9)
    )
    world.deliver(world.report(struct.pack("!BBHI", 0x80, 201, 9, 7)))


def half_an_event(world: Telephones) -> None:
    world.deliver(world.a.packet(EVENT[:3], payload_type=101), world.a.packet(b"", payload_type=101))


def another_payload_type(world: Telephones) -> None:
    world.deliver(world.a.packet(payload_type=96), world.a.packet(payload_type=8))


def nobody_hears_it(world: Telephones) -> None:
    world.deliver(world.alone.packet(), source=world.alone.address)


def payloads_of_odd_lengths(world: Telephones) -> None:
    world.deliver(world.a.packet(b""), world.a.packet(bytes(159)), world.a.packet(bytes(161)))
    world.deliver(world.a.packet(bytes(160), first=0xA0))  # padding of no byte
    world.deliver(world.a.packet(bytes(159) + b"\xff", first=0xA0))  # of more than there is
    # Opus: nothing, the reserved count of no frame, frames that are longer than the packet, frames of 2.5 ms.
    for payload in (b"", b"\xff\x00", b"\x7b\x82\xfc", bytes([16 << 3])):
        world.deliver(world.wide.packet(payload), source=world.wide.address)


def sound_of_the_past(world: Telephones) -> None:
    world.deliver(world.moved(-160 * 10), world.moved(-160 * 20), world.moved(-160 * 30))


def sound_of_the_future(world: Telephones) -> None:
    world.deliver(world.moved(160 * 100), world.moved(160 * 1000), world.moved(0x7FFFFF00))


def the_same_sound_under_another_number(world: Telephones) -> None:
    world.deliver(world.moved(160 * 3))
    world.tick()
    world.a.timestamp += 160 * 3
    world.deliver(world.moved(0), world.moved(0))


SCENES: dict[str, tuple[Callable[[Telephones], None], dict[str, int]]] = {
    "sound": (a_packet, {"sound": 1}),
    "telephone_events": (an_event, {"telephone_events": 1}),
    "comfort_noise": (noise, {"comfort_noise": 1}),
    "reports": (a_report, {"reports": 1}),
    "control": (stun_and_dtls, {"control": 2}),
    "empty": (nothing, {"empty": 2}),
    "oversized": (too_much, {"oversized": 2}),
    "malformed": (no_protocol, {"malformed": 5}),
    "control_dropped": (a_source_of_much_stun, {"control": 16, "control_dropped": 484}),
    "control_misdirected": (stun_at_an_rtcp_port, {"control_misdirected": 2}),
    "strangers": (strangers, {"strangers": 2}),
    "unauthenticated": (a_wrong_key, {"unauthenticated": 3}),
    "replayed": (the_same_again, {"replayed": 2}),
    "stray_ssrc": (a_source_that_was_left, {"stray_ssrc": 2}),
    "flooded": (a_flood_of_authentic_packets, {"flooded": 20, "off_contact": 10}),
    "reports_dropped": (a_flood_of_reports, {"reports": 4, "reports_dropped": 26}),
    "reports_malformed": (no_report, {"reports": 1, "reports_malformed": 2}),
    "events_dropped": (a_flood_of_events, {"telephone_events": 5, "events_dropped": 4}),
    "events_malformed": (half_an_event, {"events_malformed": 2}),
    "unexpected_payload": (another_payload_type, {"unexpected_payload": 2}),
    "off_contact": (nobody_hears_it, {"off_contact": 1}),
    "payload_malformed": (payloads_of_odd_lengths, {"payload_malformed": 9}),
    "late": (sound_of_the_past, {"late": 3}),
    "early": (sound_of_the_future, {"early": 3}),
    "duplicates": (the_same_sound_under_another_number, {"duplicates": 2}),
}


def counts(world: World) -> dict[str, int]:
    outcomes = world.plane.outcomes
    return {**asdict(outcomes.taken), **asdict(outcomes.dropped)}


def test_every_outcome_has_its_scene() -> None:
    assert list(SCENES) == [each.name for kind in (Taken, Dropped) for each in dataclasses.fields(kind)]


@pytest.mark.parametrize("outcome", SCENES)
def test_each_datagram_is_counted_under_what_became_of_it(outcome: str) -> None:
    scene, expected = SCENES[outcome]
    world = Telephones()
    scene(world)
    before, received = counts(world), world.plane.outcomes.received
    world.tick()
    changed = {name: count - before[name] for name, count in counts(world).items() if count != before[name]}
    assert changed == expected
    assert outcome in changed
    assert world.plane.outcomes.received - received == sum(expected.values())
    assert world.plane.outcomes.unaccounted == 0
