"""Hostile peers and strangers: what they send is a counted drop, bounded work, and nobody else's loss."""

from __future__ import annotations

from relay import media
from tests.relay.media_peers import World, three


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
