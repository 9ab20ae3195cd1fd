"""Playout of each encoding, and the skipping of slots that a deep buffer has in excess."""

from __future__ import annotations

import numpy as np
import pytest

from relay.codecs import g711
from relay.media import Codec
from relay.plane.jitter import JitterSettings
from relay.plane.stages import PlaneSettings
from tests.relay.media_peers import Phone, World, mu_law, mu_samples
from tests.relay.test_plane_opus import OpusPhone

DEEP = PlaneSettings(legs_max=8, tracks_max=8, jitter=JitterSettings(start_depth_slots=2))


class ALawPhone(Phone):
    """µ-law outside, A-law on the wire."""

    def open(self, **changes: object):  # type: ignore[no-untyped-def, override]
        return super().open(codec=Codec("PCMA", 8), **changes)

    def packet(self, payload: bytes | None = None, **_options: object) -> bytes:  # type: ignore[override]
        at = np.arange(self.sample, self.sample + 160)
        tone = np.rint(self.amplitude * np.sin(2 * np.pi * self.hertz / 8000 * at)).astype(np.int16)
        codes = np.empty(160, np.uint8)
        g711.encode("PCMA", tone, codes)
        return super().packet(codes.tobytes(), payload_type=8)

    def receive(self, data: bytes) -> None:
        heard = len(self.heard)
        super().receive(data)
        if len(self.heard) > heard:
            samples = np.empty(160, np.int16)
            g711.decode_int16("PCMA", np.frombuffer(self.heard[-1], np.uint8), samples)
            self.heard[-1] = mu_law(samples)


def test_both_laws_in_one_conference() -> None:
    world = World()
    a, b, c = Phone("a", 1, 400.0), ALawPhone("b", 2, 700.0), ALawPhone("c", 3, 1000.0)
    world.phones += [a, b, c]
    world.apply(*(phone.open() for phone in world.phones))
    world.conference(a, b, c)
    world.run(60)
    for phone in world.phones:
        for other in world.phones:
            heard = phone.hears(other.hertz)
            assert heard < 150 if phone is other else heard > 7500, (phone.leg_id, other.leg_id)


@pytest.mark.parametrize("kind", [Phone, OpusPhone])
@pytest.mark.parametrize("amplitude", [8000.0, 20.0])
def test_excess_depth_is_skipped_soon_in_silence_and_in_the_end_in_sound(kind: type[Phone], amplitude: float) -> None:
    world = World(DEEP)
    a, b = kind("a", 1, 700.0), Phone("b", 2, 400.0)
    a.amplitude = amplitude
    world.phones += [a, b]
    world.apply(a.open(), b.open())
    world.conference(a, b)
    world.run(60)
    row = world.plane.stages.legs.by_id[a.leg_id].row
    jitter = world.plane.stages.jitter
    assert jitter.depth_ms(row) == 40.0
    steady = np.abs(np.diff(mu_samples(b"".join(b.heard[-20:])))).max()
    before = len(b.heard)
    # What eight seconds show to be in excess is skipped: at once in silence, a second later in sound.
    world.run(345)
    assert jitter.depth_ms(row) == (40.0 if amplitude > 100 else 20.0)
    world.run(150)
    assert jitter.depth_ms(row) == 0.0
    assert world.plane.stages.legs.concealed[row] == 0
    # Skipped slots are cross-faded: no step beyond what a fade of the tone onto itself can make.
    assert np.abs(np.diff(mu_samples(b"".join(b.heard[before:])))).max() <= 2 * steady + 40


def test_a_half_that_came_is_kept_when_the_other_is_lost() -> None:
    world = World()
    a, b = Phone("a", 1, 700.0, ptime=10), Phone("b", 2, 400.0)
    world.phones += [a, b]
    world.apply(a.open(), b.open())
    world.conference(a, b)

    def link(phone: Phone, tick: int) -> None:
        for half in range(2 if phone is a else 1):
            packet = phone.packet()
            if not (phone is a and tick in {30, 40} and half == (tick == 40)):
                world.send(phone, packet)

    world.run(60, link)
    heard = mu_samples(b"".join(b.heard)).reshape(-1, 160)
    whole = mu_samples(b"".join(b.heard[20:28]))
    steady = np.abs(np.diff(whole)).max()
    # Tick 31 plays what was sent in tick 30: its second half came; 41 has its first.
    assert np.abs(heard[31, 80:]).max() > 7000
    assert np.abs(heard[41, :80]).max() > 7000
    assert np.abs(np.diff(heard[25:55].reshape(-1))).max() <= 2.1 * steady
    row = world.plane.stages.legs.by_id[a.leg_id].row
    # These two, and the first slot of all, whose first half lies before the first packet.
    assert world.plane.stages.legs.concealed[row] == 3
