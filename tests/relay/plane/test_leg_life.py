"""From a leg's opening to its close: what it leaves in its row, and what the next leg in that row finds."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from relay import media
from relay.media import ConferenceId, Gain, SetCrosspoints
from relay.plane.stages import PlaneSettings
from tests.relay.media_peers import LOCAL, Phone, World, three
from tests.relay.test_plane_opus import OpusPhone


def test_what_a_closed_leg_had_sent_ahead_is_heard_by_nobody() -> None:
    """Its row is taken again in the same tick, by a leg of another call."""
    world = World(PlaneSettings(legs_max=4, tracks_max=4))
    a, b, c = three(world)
    world.run(20)
    for _ in range(10):
        world.send(a)
    world.tick()
    world.phones.remove(a)
    d = Phone("d", 4, 1700.0)
    world.phones.append(d)
    world.apply(media.CloseLeg(a.leg_id), d.open())
    world.conference(b, c, d)
    world.run(10, lambda phone, _tick: phone is b and world.send(phone))
    assert world.plane.stages.legs.by_id[d.leg_id].row == 0
    assert c.hears(b.hertz, ticks=10) > 7500
    assert c.hears(a.hertz, ticks=10) < 120


def test_what_a_leg_had_sent_ahead_before_it_left_its_contact_is_not_played_when_it_comes_back() -> None:
    world = World()
    a, b, _ = three(world)
    world.run(20)
    for _ in range(10):
        world.send(a)
    world.tick()
    world.conference(b, name="c")
    world.run(1, lambda _phone, _tick: None)
    world.conference(*world.phones)
    world.run(10, lambda _phone, _tick: None)
    assert b.hears(a.hertz, ticks=10) < 10


def test_the_last_samples_of_a_closed_leg_do_not_come_out_of_the_resampler_for_the_next() -> None:
    world = World(PlaneSettings(legs_max=4, tracks_max=4))
    a, b, d = Phone("a", 1, 400.0), OpusPhone("b", 2, 700.0), Phone("d", 4, 1700.0)
    world.phones += [a, b]
    world.apply(a.open(), b.open())
    world.conference(a, b, name="one")
    world.run(30)
    world.phones[:] = [b, d]
    gain = Gain(b.leg_id, d.leg_id, 1.0)
    world.apply(media.CloseLeg(a.leg_id), d.open(), SetCrosspoints(ConferenceId("two"), (gain,), members=(d.leg_id,)))
    world.run(1, lambda _phone, _tick: None)
    row = world.plane.stages.legs.by_id[d.leg_id].row
    assert row == 0
    assert np.abs(world.plane.stages.conferences.mixer.pcm[48000][row]).max() == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"remote": ("somewhere", 5000)},
        {"remote": ("10.0.0.1", 70_000)},
        {"remote_rtcp": ("10.0.0.1", -1)},
        {"telephone_event": 300},
        {"ssrc": 1 << 32},
        {"codec": media.Codec("opus", 128)},
        {"codec": media.Codec("opus", 111, complexity=99)},
        {"receive_key": media.SrtpKey("AEAD_AES_256_GCM", b"short")},
        {"local": ("10.9.9.9", 1)},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_leg_that_cannot_be_opened_costs_nothing(wrong: dict[str, object]) -> None:
    world = World(PlaneSettings(legs_max=1, tracks_max=1))
    phone = Phone("a", 1, 400.0)
    world.apply(dataclasses.replace(phone.open(), **wrong))  # type: ignore[arg-type]
    world.run(1)
    assert [event.leg_id for event in world.of(media.CommandRefused)] == [phone.leg_id]
    assert (len(world.plane.stages.legs), len(world.plane.stages.intake.endpoints)) == (0, 0)
    world.apply(phone.open())
    world.run(1)
    assert list(world.plane.stages.legs.by_id) == [phone.leg_id]


def test_a_leg_that_cannot_be_moved_stays_where_it_was() -> None:
    other = ("127.0.0.2", 40000)
    world = World(addresses=(LOCAL, other))
    a, b, _ = three(world)
    world.run(20)
    world.apply(media.MoveLeg(a.leg_id, ("somewhere", 1), local=other), media.MoveLeg(a.leg_id, ("10.0.0.1", -1)))
    world.run(30)
    assert [event.leg_id for event in world.of(media.CommandRefused)] == [a.leg_id] * 2
    assert a.hears(b.hertz) > 7500
    assert b.hears(a.hertz) > 7500
