"""Hostile peers and strangers: what they send is a counted drop, bounded work, and nobody else's loss."""

from __future__ import annotations

import struct

from relay import media
from relay.plane.intake import IntakeSettings
from relay.plane.latching import LatchSettings
from relay.plane.srtp import REPORT_SSRCS_MAX, SSRCS_MAX
from relay.plane.stages import PlaneSettings
from tests.relay.media_peers import World, session, three


def test_a_peer_that_comes_from_two_addresses_at_once_costs_nobody_a_tick() -> None:
    """Both of its packets are authentic, and only one address can be its own: the other's packet is a stranger's."""
    world = World()
    a, b, c = three(world)
    world.run(20)
    world.run(60, lambda phone, _tick: phone is not a and world.send(phone))
    heard = len(c.heard)
    for port in (7002, 7001):
        world.sockets.deliver(world.now - port * 1e-6, a.packet(), ("10.0.0.1", port))
    world.run(20, lambda phone, _tick: phone is not a and world.send(phone))
    assert len(c.heard) == heard + 20
    assert c.hears(b.hertz, ticks=20) > 7500
    assert world.plane.stages.legs.by_id[a.leg_id].row == 0
    assert [event.remote[1] for event in world.of(media.LegLatched) if event.leg_id == a.leg_id] == [5001, 7001]
    assert world.plane.statistics()["strangers"] == 1


def test_where_reports_once_came_from_is_forgotten_when_the_peer_names_another_address() -> None:
    world = World()
    a, b, c = three(world)
    world.apply(media.MoveLeg(a.leg_id, a.address, ("10.0.0.1", 6001)))
    world.run(2)
    world.apply(media.MoveLeg(a.leg_id, a.address, ("10.0.0.1", 6003)))
    world.run(2)
    world.apply(media.CloseLeg(a.leg_id))
    world.run(30, lambda phone, _tick: phone is not a and world.send(phone))
    assert len(world.plane.stages.intake.endpoints) == 2
    for port in (6001, 6003):
        world.sockets.deliver(world.now - 0.005, b"\x80\xc9\x00\x01" + bytes(4), ("10.0.0.1", port), socket=1)
    world.run(5, lambda phone, _tick: phone is not a and world.send(phone))
    assert c.hears(b.hertz) > 7500
    assert world.plane.statistics()["strangers"] == 2


def test_ssrcs_of_one_tick_are_refused_before_they_cost_memory() -> None:
    world = World()
    a, b, c = three(world)
    world.run(5)
    for number in range(1000):
        a.ssrc = 90_000 + number
        world.send(a)
    world.run(30)
    assert len(world.plane.stages.legs.by_id[a.leg_id].ssrcs) == SSRCS_MAX - 1
    # Of those that found room the last is the leg's; what comes then is of the last of all, which found none.
    assert world.plane.statistics()["stray_ssrc"] == 1030 - 1
    assert c.hears(b.hertz) > 7500


def test_ssrcs_of_addresses_without_end_are_refused_before_they_cost_memory() -> None:
    """A peer that is silent for a second may come from elsewhere; it does not thereby get room for more."""
    latch = LatchSettings(silent_seconds=0.1)
    world = World(PlaneSettings(legs_max=4, tracks_max=4, intake=IntakeSettings(latch=latch)))
    a, _, _ = three(world)
    world.run(5)
    for port in range(100):
        world.run(6, lambda _phone, _tick: None)
        for one in range(3):
            a.ssrc = 90_000 + 10 * port + one
            world.sockets.deliver(world.now - 0.005, a.packet(), ("10.0.0.1", 6000 + 3 * port + one))
    world.run(1)
    assert len(world.plane.stages.legs.by_id[a.leg_id].ssrcs) == SSRCS_MAX - 1
    assert world.plane.statistics()["latch_latched"] == 3 + SSRCS_MAX - 1


def test_ssrcs_of_reports_are_refused_before_they_cost_memory() -> None:
    world = World()
    a, _, _ = three(world)
    world.run(5)
    assert a.send_key is not None
    reporter = session(a.send_key, inbound=False)
    for number in range(100):
        world.send(a, reporter.protect_rtcp(struct.pack("!BBHI", 0x80, 201, 1, 70_000 + number)))
        if number % 4 == 3:
            world.tick()
    assert len(world.plane.stages.legs.by_id[a.leg_id].report_ssrcs) == REPORT_SSRCS_MAX
    assert world.plane.statistics()["stray_ssrc"] == 100 - REPORT_SSRCS_MAX
    world.send(a, reporter.protect_rtcp(struct.pack("!BBHI", 0x80, 201, 1, a.ssrc)))
    world.tick()
    assert world.plane.statistics()["stray_ssrc"] == 100 - REPORT_SSRCS_MAX
