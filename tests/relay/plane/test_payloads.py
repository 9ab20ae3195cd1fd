"""Where a listener's payload comes from: passed through, encoded once for many, or for it alone."""

from __future__ import annotations

import dataclasses
import random

import numpy as np

from mixer.sources import MUSIC_STRONGEST_HZ
from relay import media
from relay.codecs.opus import OpusDecoder, packet_frames
from relay.media import Codec, ConferenceId, Gain, LegId, SetCrosspoints, SourceId
from relay.plane.stages import PlaneSettings
from tests.relay.media_peers import Phone, World, mu_law, mu_samples, power
from tests.relay.test_plane_opus import OpusPhone

PRESENT = 7000
MUSIC = SourceId("music")


def pair(world: World, a: Phone, b: Phone) -> None:
    world.phones += [a, b]
    world.apply(a.open(), b.open())
    world.conference(a, b)


def hears(world: World, phone: Phone, source: SourceId | LegId) -> None:
    world.apply(SetCrosspoints(ConferenceId(phone.leg_id), (Gain(phone.leg_id, source, 1.0),)))


def noise(seed: int) -> bytes:
    """A payload that no mixer gives back unchanged by chance."""
    return random.Random(seed).randbytes(160)


def test_a_pair_of_one_law_is_passed_through_to_the_bit() -> None:
    world = World()
    a, b = Phone("a", 1, 400.0), Phone("b", 2, 700.0)
    pair(world, a, b)
    world.run(3)
    said = [noise(tick) for tick in range(40)]
    for payload in said:
        world.send(a, a.packet(payload))
        world.send(b)
        world.tick()
    # 0x7F and 0xFF are both zero: only a payload that was never decoded keeps the difference.
    assert any(0x7F in payload for payload in said)
    assert b.heard[-39:] == said[:-1]


def test_what_was_lost_reaches_a_passed_listener_as_concealment() -> None:
    world = World()
    a, b = Phone("a", 1, 400.0), Phone("b", 2, 700.0)
    pair(world, a, b)
    world.run(20)
    for tick in range(30):
        world.send(b)
        packet = a.packet()
        if tick % 10 != 5:
            world.send(a, packet)
        world.tick()
    assert [len(payload) for payload in b.heard[-30:]] == [160] * 30
    assert b.hears(400.0) > 6000
    assert np.abs(mu_samples(b"".join(b.heard[-30:]))).reshape(30, 160).max(axis=1).min() > 3000


def test_another_law_is_encoded_anew() -> None:
    world = World()
    a, b = Phone("a", 1, 400.0), Phone("b", 2, 700.0)
    world.phones += [a, b]
    world.apply(a.open(), b.open(codec=Codec("PCMA", 8)))
    world.conference(a, b)
    world.run(5)
    world.send(a, a.packet(mu_law(np.full(160, 8031.0))))
    world.tick()
    world.tick()
    assert set(b.heard[-1]) == {0x8B}, "the A-law code of 7,932, which µ-law makes of 8,031"


def test_many_hear_one_music_and_a_change_in_one_call_leaves_the_others() -> None:
    world = World()
    phones = [Phone(f"p{number}", number, 300.0 + 10 * number) for number in range(1, 9)]
    world.phones += phones
    world.apply(*(phone.open() for phone in phones))
    for phone in phones:
        hears(world, phone, MUSIC)
    world.run(40)
    assert len({phone.heard[-1] for phone in phones}) == 1
    hears(world, phones[0], phones[1].leg_id)
    hears(world, phones[2], SourceId("silence"))
    world.run(40)
    assert phones[0].hears(phones[1].hertz) > PRESENT
    assert phones[0].hears(MUSIC_STRONGEST_HZ) < 200
    assert set(b"".join(phones[2].heard[-20:])) == {0xFF}
    for phone in (phones[1], *phones[3:]):
        assert phone.heard[-40:] == phones[1].heard[-40:]
        assert phone.hears(MUSIC_STRONGEST_HZ) > 500


def test_who_hears_nobody_is_sent_the_code_of_silence() -> None:
    world = World()
    a, b = Phone("a", 1, 400.0), Phone("b", 2, 700.0)
    world.phones += [a, b]
    world.apply(a.open(), b.open(codec=Codec("PCMA", 8)))
    members = (a.leg_id, b.leg_id)
    world.apply(SetCrosspoints(ConferenceId("c"), (), members))
    world.run(5)
    assert set(a.heard[-1]) == {0xFF}
    assert set(b.heard[-1]) == {0xD5}


def encodings(world: World) -> list[int]:
    """How many listeners each Opus encoding of a tick serves."""
    return sorted(1 + len(job.copies) for job in world.plane.stages.transmission._payloads._plan.opus)


def test_opus_listeners_of_one_music_share_an_encoder_until_they_are_answered() -> None:
    world = World(PlaneSettings(legs_max=64, tracks_max=64))
    phones = [OpusPhone(f"p{number}", number, 300.0 + 10 * number) for number in range(1, 6)]
    world.phones += phones
    world.apply(*(phone.open() for phone in phones))
    for phone in phones:
        hears(world, phone, MUSIC)
    world.run(1)
    assert encodings(world) == [1] * 5, "while they fade in, each has a sound of its own"
    world.run(40)
    assert encodings(world) == [5]
    assert len({phone.heard[-1] for phone in phones}) == 1
    world.conference(phones[0], phones[1])
    world.run(60)
    assert encodings(world) == [1, 1, 3]
    assert phones[0].hears(phones[1].hertz) > 6000
    assert phones[0].hears(MUSIC_STRONGEST_HZ) < 200
    assert phones[2].hears(MUSIC_STRONGEST_HZ) > 500
    assert phones[2].heard[-1] == phones[4].heard[-1]


def test_opus_listeners_with_other_settings_do_not_share() -> None:
    world = World()
    a, b = OpusPhone("a", 1, 400.0), OpusPhone("b", 2, 700.0)
    world.phones += [a, b]
    world.apply(a.open(), Phone.open(b, codec=Codec("opus", 111, bitrate=16_000)))
    for phone in (a, b):
        hears(world, phone, MUSIC)
    world.run(40)
    assert encodings(world) == [1, 1]
    assert len(a.heard[-1]) > 1.3 * len(b.heard[-1])


def bandwidth(payload: bytes) -> int:
    """Configuration number of an Opus packet (RFC 6716 §3.1): 0–3 and 16–19 are narrowband."""
    assert packet_frames(payload, len(payload)) == 1
    return payload[0] >> 3


def is_narrow(payload: bytes) -> bool:
    return bandwidth(payload) in {0, 1, 2, 3, 16, 17, 18, 19}


def test_opus_among_telephones_is_encoded_narrow_and_wide_again_with_a_wide_speaker() -> None:
    world = World()
    a, b, c = Phone("a", 1, 400.0), OpusPhone("b", 2, 700.0), OpusPhone("c", 3, 3000.0)
    world.phones += [a, b, c]
    world.apply(*(phone.open() for phone in world.phones))
    world.conference(a, b)
    world.run(60)
    assert all(is_narrow(payload) for payload in b.heard[-30:])
    assert b.hears(400.0) > 6000
    assert a.hears(700.0) > 6500
    world.conference(a, b, c)
    world.run(60)
    assert not any(is_narrow(payload) for payload in b.heard[-30:])
    assert b.hears(400.0) > 6000
    assert b.hears(3000.0) > 6000
    steps = np.diff(np.array([timestamp for _, _, timestamp, _ in b.headers], np.int64)) & 0xFFFFFFFF
    assert set(steps.tolist()) == {960}, "the RTP clock knows nothing of it (RFC 7587 §4.1)"


def test_what_goes_to_a_narrow_opus_listener_is_recorded_at_48_khz() -> None:
    world = World()
    a, b = Phone("a", 1, 400.0), OpusPhone("b", 2, 700.0)
    pair(world, a, b)
    track = media.OpenTrack("k", "t", b.leg_id, "p", "agent", direction="to_leg")
    world.apply(media.OpenRecording("k"), track, contact_id="k")
    world.run(100)
    world.apply(media.CloseRecording("k"), contact_id="k")
    world.tick()
    stored = np.frombuffer(b"".join(frame.payload for frame in world.frames("t")), np.int16).astype(np.float64)
    assert stored.size == 100 * 960
    assert power(stored[48_000:96_000], 400.0, 48_000) > PRESENT
    assert power(stored[48_000:96_000], 7600.0, 48_000) < 100, "no image above the telephone band"


def test_an_encoder_that_slept_begins_anew() -> None:
    """What it remembers is of another time: the first packet after the change must not need it."""
    world = World()
    a, b = OpusPhone("a", 1, 400.0), OpusPhone("b", 2, 700.0)
    pair(world, a, b)
    world.run(60)
    hears(world, a, MUSIC)
    world.run(60)
    world.conference(a, b)
    world.run(2)
    fresh, pcm = OpusDecoder(48_000), np.zeros(960, np.int16)
    first, second = a.heard[-2:]
    assert fresh.decode(first, len(first), pcm) == 960
    assert fresh.decode(second, len(second), pcm) == 960
    assert power(pcm.astype(np.float64), 700.0, 48_000) > 3000


def test_a_listener_whose_encoder_cannot_be_made_costs_the_others_nothing() -> None:
    world = World()
    a, b, c = OpusPhone("a", 1, 400.0), OpusPhone("b", 2, 700.0), OpusPhone("c", 3, 1000.0)
    world.phones += [a, b, c]
    world.apply(a.open(), b.open(), c.open())
    world.run(1)
    leg = world.plane.stages.legs.by_id[c.leg_id]
    leg.opened = dataclasses.replace(leg.opened, codec=Codec("opus", 111, complexity=99))  # libopus refuses
    world.conference(a, b, c)
    world.run(60)
    assert a.hears(700.0) > 6000
    assert b.hears(1000.0) > 6000
    assert {len(payload) for payload in c.heard} == {0}
    assert world.plane.statistics()["unsent_failed"] > 0


def test_levels_of_who_hears_one_voice_music_or_nobody() -> None:
    world = World()
    a, b, c, d = (Phone(name, number, 250.0 * number) for number, name in enumerate("abcd", 1))
    world.phones += [a, b, c, d]
    world.apply(*(phone.open() for phone in world.phones))
    hears(world, a, b.leg_id)
    hears(world, c, MUSIC)
    world.apply(SetCrosspoints(ConferenceId("d"), (), (d.leg_id,)))
    world.run(60)
    levels = world.of(media.Levels)[-1]
    heard = dict(zip(levels.leg_ids, levels.to_leg, strict=True))
    said = dict(zip(levels.leg_ids, levels.from_leg, strict=True))
    assert heard[a.leg_id] == said[b.leg_id]
    assert -40 < heard[c.leg_id] < -10
    assert heard[d.leg_id] == -127.0


def test_an_opus_leg_that_nobody_hears_is_not_decoded_and_begins_anew_when_it_is() -> None:
    world = World()
    a, b = OpusPhone("a", 1, 400.0), OpusPhone("b", 2, 700.0)
    world.phones += [a, b]
    world.apply(a.open(), b.open())
    for phone in (a, b):
        hears(world, phone, MUSIC)
    world.run(60)
    stream = world.plane.stages.legs.by_id[a.leg_id].opus
    assert stream is not None
    assert stream.silent
    assert len(stream._packets) <= 2, "what nobody heard is not kept"
    assert world.of(media.Levels)[-1].from_leg == (-127.0, -127.0)
    world.conference(a, b)
    world.run(60)
    assert a.hears(700.0) > 6000
    assert b.hears(400.0) > 6000
    assert world.plane.stages.legs.concealed.sum() == 0


def test_a_recorded_opus_leg_that_nobody_hears_is_decoded_all_the_same() -> None:
    world = World()
    a = OpusPhone("a", 1, 400.0)
    world.phones.append(a)
    world.apply(a.open())
    hears(world, a, MUSIC)
    world.apply(media.OpenRecording("k"), media.OpenTrack("k", "t", a.leg_id, "p", "other"), contact_id="k")
    world.run(100)
    world.apply(media.CloseRecording("k"), contact_id="k")
    world.tick()
    stored = np.frombuffer(b"".join(frame.payload for frame in world.frames("t")), np.int16).astype(np.float64)
    assert power(stored[48_000:], 400.0, 48_000) > PRESENT
