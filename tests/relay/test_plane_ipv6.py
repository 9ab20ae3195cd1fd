"""IPv6 legs: the same as others, between telephones under a virtual clock and over real sockets on ::1."""

from __future__ import annotations

import dataclasses
import select
import socket

import numpy as np
import pytest

from relay import media
from relay.media import Address, CommandRefused, ConferenceId, Gain, LegId, LegLatched, MoveLeg, SetCrosspoints, Step
from relay.plane import hosts, sockets
from relay.plane.packets import PacketTable
from relay.plane.plane import Plane
from relay.plane.sockets import SocketSettings, UdpSockets
from relay.plane.stages import PlaneSettings
from tests.relay.media_peers import LOCAL, TICK, Phone, World

LOCAL6: Address = ("2001:db8::1", 40000)
PRESENT = 7500
ABSENT = 120


def phone6(name: str, number: int, hertz: float, *, plain: bool = False) -> Phone:
    made = Phone(name, number, hertz, suite=None) if plain else Phone(name, number, hertz)
    made.address = (f"2001:db8:5::{number:x}", 5000 + number)
    return made


class World6(World):
    """A plane with sockets of both families: index 0 and 1 IPv4, 2 and 3 IPv6."""

    def __init__(self) -> None:
        super().__init__(addresses=(LOCAL, LOCAL6))

    def send(self, phone: Phone, packet: bytes | None = None, *, delay: float = 0.0) -> None:
        socket = 2 if ":" in phone.address[0] else 0
        self.sockets.deliver(self.now - 0.005 + delay, packet or phone.packet(), phone.address, socket)


def test_a_conference_of_both_families() -> None:
    world = World6()
    a, b, c = phone6("a", 1, 400.0), phone6("b", 2, 700.0), Phone("c", 3, 1000.0)
    world.phones += [a, b, c]
    # One is known by name, the other by what it authenticates alone.
    world.apply(a.open(local=LOCAL6), b.open(local=LOCAL6, remote=False), c.open())
    world.conference(a, b, c)
    world.run(40)
    for phone in (a, b, c):
        heard = {other.leg_id: phone.hears(other.hertz) for other in (a, b, c)}
        assert all((heard[other] > PRESENT) == (other != phone.leg_id) for other in heard), (phone.leg_id, heard)
        assert heard[phone.leg_id] < ABSENT
    latched = {event.leg_id: event.remote for event in world.of(LegLatched)}
    assert latched == {"a": a.address, "b": b.address, "c": c.address}


def test_a_stranger_is_followed_when_its_leg_was_silent() -> None:
    world = World6()
    a, b = phone6("a", 1, 400.0), phone6("b", 2, 700.0)
    world.phones += [a, b]
    world.apply(a.open(local=LOCAL6), b.open(local=LOCAL6))
    world.conference(a, b)
    world.run(10)
    a.address = ("2001:db8:6::1", 7777)
    world.run(100)
    assert world.of(LegLatched)[-1].remote == ("2001:db8:6::1", 7777)
    assert b.hears(400.0) > PRESENT
    assert a.hears(700.0) > PRESENT


def test_plain_rtp_keeps_to_the_host_that_signalling_named() -> None:
    world = World6()
    a, b = phone6("a", 1, 400.0, plain=True), phone6("b", 2, 700.0)
    world.phones += [a, b]
    named = a.address
    a.address = (named[0], 6543)
    world.apply(dataclasses.replace(a.open(local=LOCAL6), remote=named), b.open(local=LOCAL6))
    world.conference(a, b)
    stranger = phone6("s", 7, 1500.0, plain=True)

    def link(phone: Phone, _tick: int) -> None:
        world.send(phone)
        if phone is a:
            stranger.address = ("2001:db8:5::7", a.address[1])  # the right port, another host
            world.send(stranger)

    world.run(60, link)
    assert b.hears(400.0) > PRESENT
    assert b.hears(1500.0) < ABSENT


def test_a_leg_is_not_opened_towards_the_other_family() -> None:
    world = World6()
    a, b = phone6("a", 1, 400.0), Phone("b", 2, 700.0)
    rows = len(world.plane.stages.legs)
    world.apply(a.open(), b.open(remote_rtcp=("2001:db8::9", 5)))
    world.tick()
    assert [event.what.partition(": ")[2] for event in world.of(CommandRefused)] == [
        "a socket of one address family cannot reach the other"
    ] * 2
    assert len(world.plane.stages.legs) == rows
    world.apply(b.open())
    world.apply(MoveLeg(b.leg_id, a.address), MoveLeg(b.leg_id, b.address, local=LOCAL6))
    world.tick()
    assert len(world.of(CommandRefused)) == 4
    leg = world.plane.stages.legs.by_id[b.leg_id]
    assert (leg.socket, world.sockets.hosts.address(int(world.plane.stages.legs.remote[leg.row]))) == (0, b.address)


def test_a_leg_may_move_to_the_other_family() -> None:
    world = World6()
    a, b = Phone("a", 1, 400.0), phone6("b", 2, 700.0)
    world.phones += [a, b]
    world.apply(a.open(), b.open(local=LOCAL6))
    world.conference(a, b)
    world.run(10)
    a.address = ("2001:db8:5::1", 5001)
    world.apply(MoveLeg(a.leg_id, a.address, local=LOCAL6))
    world.run(40)
    assert b.hears(400.0) > PRESENT
    assert a.hears(700.0) > PRESENT


def test_hosts_of_closed_legs_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "_CROWDED", 32)
    world = World6()
    known = world.sockets.hosts
    stays = phone6("stays", 1, 400.0)
    world.apply(stays.open(local=LOCAL6, remote_rtcp=("2001:db8:7::1", 9)))
    for number in range(300):
        leg_id = LegId(f"leg-{number}")
        opened = dataclasses.replace(stays.open(local=LOCAL6, leg_id=leg_id), remote=(f"2001:db8:8::{number:x}", 9))
        world.apply(opened, media.CloseLeg(leg_id))
        if number % 5 == 4:
            world.tick()
        assert len(known) <= 2 + 3 * 32
    assert len(world.of(media.LegClosed)) == 300
    leg = world.plane.stages.legs.by_id[stays.leg_id]
    assert known.address(int(world.plane.stages.legs.remote[leg.row])) == stays.address
    assert known.address(leg.report_endpoint) == ("2001:db8:7::1", 9)


class PunctualSockets(UdpSockets):
    """Real sockets in virtual time."""

    def receive(self, table: PacketTable, now: float) -> int:
        count = super().receive(table, now)
        table.arrival[:count] = now - 0.005
        return count


@pytest.mark.parametrize("driver", ["batched", "portable"])
def test_srtp_and_rtcp_both_ways_over_real_sockets(driver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if driver == "portable":
        monkeypatch.setattr(sockets, "_driver", lambda _batch_max, hosts: sockets._Portable(hosts))
    opened = PunctualSockets(SocketSettings(hosts=("127.0.0.1", "::1")))
    plane = Plane(PlaneSettings(legs_max=8), opened, lambda _captured: None, entropy=bytes, wall=lambda now: now)
    peers = [socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) for _ in range(2)]
    phones = [Phone("a", 1, 400.0), Phone("b", 2, 700.0)]
    try:
        for peer, phone in zip(peers, phones, strict=True):
            peer.bind(("::1", 0))
            peer.setblocking(False)
            phone.address = peer.getsockname()[:2]
        a, b = phones
        # b is behind an address translator: where signalling says that it is, nobody is.
        ends = (
            a.open(local=opened.addresses[1]),
            dataclasses.replace(b.open(local=opened.addresses[1]), remote=("::1", 9)),
        )
        gains = (Gain(a.leg_id, b.leg_id, 1.0), Gain(b.leg_id, a.leg_id, 1.0))
        plane.apply(Step(None, (*ends, SetCrosspoints(ConferenceId("c"), gains))))
        now, events = 0.0, list[media.MediaEvent]()
        for _ in range(260):  # each leg's RTCP is due once in 250
            for peer, phone in zip(peers, phones, strict=True):
                peer.sendto(phone.packet(), opened.addresses[1])
            assert select.select([each.opened for each in opened._sockets], [], [], 2)[0]
            events += plane.tick(now)
            now += TICK
            for peer, phone in zip(peers, phones, strict=True):
                receive(peer, phone)
        assert not [name for name in plane.counters if name.startswith("failed_")]
        assert a.hears(700.0) > PRESENT
        assert b.hears(400.0) > PRESENT
        assert a.hears(400.0) < ABSENT
        assert len(a.heard) >= 259
        assert a.reports
        assert b.reports
        assert {event.leg_id: event.remote for event in events if isinstance(event, LegLatched)} == {
            phone.leg_id: phone.address for phone in phones
        }
        assert opened.rejected == 0
    finally:
        opened.close()
        for peer in peers:
            peer.close()


def receive(peer: socket.socket, phone: Phone) -> None:
    while True:
        try:
            phone.receive(peer.recv(2000))
        except BlockingIOError:
            return


def test_a_stranger_that_failed_waits_and_is_known_again_by_its_key() -> None:
    opened = UdpSockets(SocketSettings(hosts=("::1",)))
    plane = Plane(PlaneSettings(legs_max=8), opened, lambda _: None, entropy=bytes, wall=lambda now: now)
    phone = Phone("a", 1, 400.0)
    plane.apply(Step(None, (phone.open(local=opened.addresses[0], remote=False),)))
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as peer:
        peer.sendto(bytes(np.random.default_rng(1).integers(128, 192, 60, np.uint8)), opened.addresses[0])
        plane.tick(0.0)
        assert plane.statistics()["strangers"] == 1
        peer.sendto(phone.packet(), opened.addresses[0])
        plane.tick(0.02)
        assert (plane.statistics()["latch_rationed"], len(opened.hosts)) == (1, 0)
        peer.sendto(phone.packet(), opened.addresses[0])
        plane.tick(0.2)
    assert plane.statistics()["latch_latched"] == 1
    assert len(opened.hosts) == 1
    opened.close()
