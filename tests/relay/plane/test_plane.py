"""Whole ticks under a virtual clock: telephones with tones, and what each hears, records and reports."""

from __future__ import annotations

import dataclasses
import random
import struct

import numpy as np
import pytest

from recorder.capture import (
    Frames,
    FramesDropped,
    GateChanged,
    LogEntry,
    RecordingClosed,
    RecordingOpened,
    TrackClosed,
    TrackOpened,
)
from relay import media
from relay.media import (
    Codec,
    CommandRefused,
    ConferenceId,
    Gain,
    LegClosed,
    LegId,
    LegLatched,
    SetCrosspoints,
    SourceId,
    SrtpKey,
)
from relay.plane.stages import PlaneSettings
from tests.relay.media_peers import LOCAL, TICK, WALL, Phone, World, key, mu_samples, power, session, three

PRESENT = 7500
ABSENT = 120
"""µ-law's own distortion of a sum of two tones, at the third one's frequency."""


def test_each_hears_exactly_the_others() -> None:
    world = World()
    a, b, c = three(world)
    world.run(60)
    for phone in (a, b, c):
        for other in (a, b, c):
            if phone is other:
                assert phone.hears(other.hertz) < ABSENT
            else:
                assert phone.hears(other.hertz) > PRESENT


@pytest.mark.parametrize("suite", ["AES_CM_128_HMAC_SHA1_32", "AEAD_AES_128_GCM", "AEAD_AES_256_GCM", None], ids=str)
def test_every_suite_and_none(suite: media.SrtpSuite | None) -> None:
    world = World()
    a, b, _ = three(world, suite=suite)
    world.run(300)
    assert a.hears(b.hertz) > PRESENT
    assert len(a.reports) >= 1
    report = next(event for event in reversed(world.of(media.LegReport)) if event.leg_id == a.leg_id)
    assert report.statistics.unauthenticated == 0
    assert report.statistics.lost == 0


def test_sequence_timestamp_and_marker_go_on_without_a_step() -> None:
    world = World()
    a, _, _ = three(world)
    world.run(40)
    world.apply(SetCrosspoints(ConferenceId("c"), ()))
    world.run(10)
    heard = len(a.headers)
    world.conference(*world.phones)
    world.run(20)
    markers = [second >> 7 for second, *_ in a.headers]
    sequences = [sequence for _, sequence, *_ in a.headers]
    timestamps = [timestamp for _, _, timestamp, _ in a.headers]
    # The tick that ends the conference still fades out: 41 packets, then 9 ticks of nothing.
    assert heard == 41
    assert [index for index, marker in enumerate(markers) if marker] == [0, 41]
    assert np.array_equal(np.diff(sequences) & 0xFFFF, np.ones(60))
    steps = (np.diff(np.array(timestamps, np.int64)) & 0xFFFFFFFF).tolist()
    assert steps == [160] * 40 + [160 * 10] + [160] * 19
    assert {ssrc for *_, ssrc in a.headers} == {a.ssrc + 1}


def test_hold_is_gains_only() -> None:
    world = World()
    customer, agent = Phone("customer", 1, 400.0), Phone("agent", 2, 700.0)
    world.phones += [customer, agent]
    world.apply(customer.open(), agent.open())
    world.conference(customer, agent)
    world.run(40)
    assert customer.hears(700.0) > PRESENT
    world.apply(
        SetCrosspoints(
            ConferenceId("c"), (Gain(customer.leg_id, SourceId("music"), 1.0),), members=(customer.leg_id, agent.leg_id)
        )
    )
    world.run(60)
    assert customer.hears(700.0) < 40
    assert customer.hears(554.375) > 1000
    # The agent hears digital silence, in packets, and not nothing.
    assert set(agent.heard[-1]) == {0xFF}
    assert len(agent.heard) == len(customer.heard) == 100
    world.conference(customer, agent)
    world.run(40)
    assert customer.hears(700.0) > PRESENT
    assert customer.hears(554.375) < ABSENT


def test_gains_ramp_without_a_click() -> None:
    world = World()
    a, b, _ = three(world)
    world.run(40)
    world.apply(SetCrosspoints(ConferenceId("c"), (), members=(a.leg_id, b.leg_id)))
    world.run(3)
    world.conference(*world.phones)
    world.run(5)
    heard = mu_samples(b"".join(a.heard[-12:]))
    steady = np.abs(np.diff(mu_samples(b"".join(a.heard[-30:-12])))).max()
    assert np.abs(np.diff(heard)).max() <= steady * 1.05


def test_packets_off_contact_are_authenticated_and_dropped() -> None:
    world = World()
    phone = Phone("a", 1, 400.0)
    world.phones.append(phone)
    world.apply(phone.open())
    world.run(50)
    world.apply(media.CloseLeg(phone.leg_id))
    world.tick()
    (closed,) = world.of(LegClosed)
    assert closed.statistics.packets_received == 50
    assert closed.statistics.dropped_off_contact == 50
    assert phone.heard == []
    assert [latched.remote for latched in world.of(LegLatched)] == [phone.address]


def test_idle_legs_get_reports_and_nothing_else() -> None:
    world = World()
    phone = Phone("a", 1, 400.0)
    world.phones.append(phone)
    world.apply(phone.open())
    world.run(1, lambda _phone, _tick: world.send(phone))
    world.run(1498, lambda _phone, _tick: None)
    assert phone.heard == []
    assert len(phone.reports) == 2  # every 15 s


def test_a_changed_ssrc_goes_on() -> None:
    world = World()
    a, b, _ = three(world)
    world.run(60)
    a.ssrc, a.sequence, a.timestamp = 0xABCDEF01, 17, 123456
    world.run(60)
    assert b.hears(a.hertz) > PRESENT
    world.apply(media.CloseLeg(a.leg_id))
    world.tick()
    statistics = world.of(LegClosed)[0].statistics
    assert statistics.packets_received == 120
    assert statistics.unauthenticated == statistics.lost == statistics.late == 0
    # The old buffer (20 ms) is given up, and the new one fills (20 ms).
    assert statistics.concealed_ticks <= 2


def test_an_ssrc_that_was_left_does_not_come_back_between_the_new_ones_packets() -> None:
    world = World()
    a, b, _ = three(world)
    world.run(30)
    forked = Phone("fork", 1, 1500.0)
    forked.ssrc, forked.outbound = 4242, a.outbound
    for _ in range(50):
        for phone in world.phones:
            world.send(phone)
        world.send(forked)
        world.tick()
    assert b.hears(1500.0) > PRESENT
    assert b.hears(a.hertz) < ABSENT
    assert world.plane.outcomes.dropped.stray_ssrc == 50


def test_ssrcs_without_end_are_refused_before_they_cost_memory() -> None:
    world = World()
    a, _, _ = three(world)
    for number in range(200):
        a.ssrc = 5000 + number
        world.run(1)
    assert len(world.plane.stages.legs.by_id[a.leg_id].ssrcs) == 63
    assert world.plane.outcomes.dropped.stray_ssrc == 200 - 64


def test_a_wrong_key_is_counted_and_heard_by_nobody() -> None:
    world = World()
    a, b, _ = three(world)
    world.run(30)
    a.outbound = session(key(99), inbound=False)
    world.run(60)
    assert b.hears(a.hertz) < 10
    report = next(event for event in reversed(world.of(media.LegReport)) if event.leg_id == a.leg_id)
    assert report.statistics.unauthenticated >= 20
    assert b.hears(1000.0) > PRESENT


def test_rekeying_keeps_the_rollover_counter() -> None:
    world = World()
    a, b, _ = three(world)
    a.sequence = 65_500  # wraps to roll-over counter 1
    world.run(80)
    fresh_in, fresh_out = key(55), key(56)
    world.apply(media.RekeyLeg(a.leg_id, fresh_in, fresh_out))
    # A peer that re-keys keeps its counter too; a stock session is brought there by wrapping once.
    a.outbound, a.inbound = session(fresh_in, inbound=False), session(fresh_out, inbound=True)
    header = struct.pack("!BBHII", 0x80, 0, 65_535, 0, a.ssrc)
    a.outbound.protect(header + bytes(160))
    world.run(60)
    assert b.hears(a.hertz) > PRESENT
    assert a.hears(b.hertz) > PRESENT


def test_an_hour_of_rollover() -> None:
    """The sequence number wraps while the leg is silent and while it talks (RFC 3711 §3.3.1)."""
    world = World()
    a, b, _ = three(world)
    a.sequence, a.timestamp = 65_530, 0xFFFFFFFF - 500
    world.run(40)
    assert b.hears(a.hertz) > PRESENT
    for _ in range(4):
        for _ in range(30_000):
            a.packet(bytes(160))
        world.run(40)
        assert b.hears(a.hertz) > PRESENT
    assert world.plane.stages.legs.unauthenticated.sum() == 0


def test_junk_floods_change_nothing() -> None:
    world = World()
    a, b, _ = three(world)
    world.run(30)
    noise = random.Random(3)

    def link(phone: Phone, _tick: int) -> None:
        world.send(phone)
        for _ in range(60):
            kind = noise.choice([0x80, 0x80, 0x80, 0x00, 0x16, 0xFF])
            junk = bytes([kind]) + noise.randbytes(noise.randrange(0, 300))
            source = (f"192.0.2.{noise.randrange(1, 250)}", noise.randrange(1, 65_536))
            sender = a.address if noise.random() < 0.2 else source
            world.sockets.deliver(world.now - 0.004, junk, sender)

    world.run(100, link)
    for phone, other in ((a, b), (b, a)):
        assert phone.hears(other.hertz) > PRESENT
    counters = world.plane.statistics()
    assert counters["unauthenticated"] > 100
    assert counters["latch_refused"] > 0
    assert counters["latch_latched"] == 3
    assert counters["malformed"] > 100


def test_loss_reordering_and_duplicates() -> None:
    world = World()
    a, b, _ = three(world)
    network = random.Random(11)
    sent = {"lost": 0, "doubled": 0}

    def link(phone: Phone, _tick: int) -> None:
        packet = phone.packet()
        chance = network.random()
        if chance < 0.05:
            sent["lost"] += phone is a
            return
        delay = 0.02 if chance < 0.10 else 0.0
        world.send(phone, packet, delay=delay)
        if chance > 0.95:
            sent["doubled"] += phone is a
            world.send(phone, packet, delay=0.02)

    world.run(1000, link)
    assert b.hears(a.hertz, ticks=500) > 0.85 * PRESENT
    assert b.hears(b.hertz, ticks=500) < ABSENT
    world.run(10)
    world.apply(media.CloseLeg(a.leg_id))
    world.tick()
    statistics = world.of(LegClosed)[0].statistics
    assert statistics.lost == sent["lost"]
    assert statistics.duplicates == sent["doubled"]
    assert statistics.packets_received == 1010 - sent["lost"]
    assert statistics.late == 0
    assert statistics.concealed_ticks == sent["lost"]


def test_packets_of_10_30_and_60_ms_and_headers_with_extensions() -> None:
    for ptime in (10, 30, 60):
        world = World()
        a, b, c = three(world)
        a.ptime = ptime
        credit = 0

        def link(phone: Phone, _tick: int, a: Phone = a, world: World = world) -> None:
            nonlocal credit
            if phone is not a:
                extension = struct.pack("!HHI", 0xBEDE, 1, 0x10FF0000)
                world.send(phone, phone.packet(first=0x90, head=extension))
                return
            credit += 20
            while credit >= a.ptime:
                credit -= a.ptime
                world.send(a)

        world.run(120, link)
        assert b.hears(a.hertz) > PRESENT
        assert a.hears(c.hertz) > PRESENT
        # At most the beginning, when a packet of 60 ms comes to a buffer of 20.
        assert world.plane.stages.legs.concealed[world.plane.stages.legs.by_id[a.leg_id].row] <= 4


def test_a_track_is_what_was_played() -> None:
    world = World()
    a, _, _ = three(world)
    payloads: list[bytes] = []

    def link(phone: Phone, tick: int) -> None:
        packet = phone.packet(bytes([tick & 0xFF]) * 160) if phone is a else None
        if phone is a:
            payloads.append(bytes([tick & 0xFF]) * 160)
        if not (phone is a and tick == 30):
            world.send(phone, packet)

    world.run(10, link)
    world.apply(
        media.SetGate("k", "t", "nothing"),
        media.OpenRecording("k"),
        media.OpenTrack("k", "t", a.leg_id, "p", "agent", rule="G1"),
        contact_id="k",
        entries=(b'{"n":1}', b'{"n":2}'),
    )
    world.run(10, link)
    world.apply(media.SetGate("k", "t", None), contact_id="k")
    world.run(30, link)
    world.apply(media.SetGate("k", "t", "G2", "hold"), contact_id="k")
    world.run(10, link)
    world.apply(media.CloseTrack("k", "t"), media.CloseRecording("k"), contact_id="k")
    world.run(1, link)
    kinds = [value for value in world.captured if not isinstance(value, Frames)]
    assert kinds == [
        RecordingOpened("k", 10, pytest.approx(WALL + 100.0 + 10 * TICK)),
        LogEntry("k", 10, b'{"n":1}'),
        LogEntry("k", 10, b'{"n":2}'),
        TrackOpened("k", "t", "p", "agent", "pcmu", 8000, 10, "G1", ""),
        GateChanged("k", "t", 20, None, ""),
        GateChanged("k", "t", 50, "G2", "hold"),
        TrackClosed("k", "t", 60),
        RecordingClosed("k", 60),
    ]
    frames = world.frames("t")
    assert world.captured.index(frames[-1]) < world.captured.index(kinds[5])
    assert [frame.first_tick for frame in frames] == [20, *np.cumsum([f.ticks for f in frames])[:-1] + 20]
    stored = b"".join(frame.payload for frame in frames)
    # Playout begins one slot behind: tick n plays what was sent in tick n - 1.
    made_up = {31, 32}  # the lost packet, and the join after it
    for tick in range(20, 50):
        if tick not in made_up:
            assert stored[(tick - 20) * 160 : (tick - 19) * 160] == payloads[tick - 1], tick
    concealed = [frame.first_tick + first for frame in frames for first, _ in frame.concealed]
    assert concealed == [31]
    assert all(not frame.lost for frame in frames)
    # The refused command did not keep the others from being carried out.
    (refused,) = world.of(CommandRefused)
    assert (refused.contact_id, refused.leg_id) == ("k", None)


def test_missed_ticks_are_recorded_but_not_sent_and_leave_no_delay() -> None:
    world = World()
    a, b, _ = three(world)
    world.apply(media.OpenRecording("k"), media.OpenTrack("k", "t", a.leg_id, "p", "agent"), contact_id="k")
    world.run(50)
    before = len(b.heard)
    for step in range(6):
        for phone in world.phones:
            world.send(phone, delay=step * TICK)
    world.tick(world.now + 5 * TICK)
    world.run(50)
    assert world.plane.tick_number == 105
    assert world.plane.counters["missed_ticks"] == 5
    assert len(b.heard) == before + 51
    # RTP time goes on through the gap: 6 ticks to the next packet.
    assert (b.headers[before][2] - b.headers[before - 1][2]) & 0xFFFFFFFF == 6 * 160
    frames = world.frames("t")
    assert sum(frame.ticks for frame in frames) + 0 == frames[-1].first_tick + frames[-1].ticks
    assert all(not frame.concealed for frame in frames)
    assert sum(end - first for frame in frames for first, end in frame.lost) == 1  # before the first packet
    stored = mu_samples(b"".join(frame.payload for frame in frames))[3200:]
    assert power(stored, a.hertz) > PRESENT
    assert world.plane.stages.jitter.depth_ms(world.plane.stages.legs.by_id[a.leg_id].row) == 20.0


def test_what_went_to_a_leg_is_a_track_where_asked() -> None:
    world = World()
    a, b, c = three(world)
    world.apply(
        media.OpenRecording("k"),
        media.OpenTrack("k", "from", a.leg_id, "p", "agent"),
        media.OpenTrack("k", "to", a.leg_id, "p", "agent", direction="to_leg"),
        contact_id="k",
    )
    world.run(100)
    world.apply(media.CloseLeg(a.leg_id))
    world.run(20)
    assert len(a.heard) == 100
    assert b"".join(frame.payload for frame in world.frames("to")) == b"".join(a.heard)
    said = mu_samples(b"".join(frame.payload for frame in world.frames("from")))[3200:]
    assert power(said, a.hertz) > PRESENT
    assert power(said, b.hertz) < ABSENT
    assert [closed.track_id for closed in world.captured if isinstance(closed, TrackClosed)] == ["from", "to"]
    assert world.plane.stages.taps.sent == 0
    assert c.hears(b.hertz) > PRESENT


def test_a_track_of_what_went_to_a_leg_says_when_nothing_did() -> None:
    world = World()
    a, b, c = three(world)
    track = media.OpenTrack("k", "to", a.leg_id, "p", "agent", direction="to_leg")
    world.apply(media.OpenRecording("k"), track, contact_id="k")
    world.run(50)
    world.apply(SetCrosspoints(ConferenceId("c"), ()))
    world.run(11)  # the first of these fades out
    world.conference(a, b, c)
    world.run(50)
    for step in range(6):
        for phone in world.phones:
            world.send(phone, delay=step * TICK)
    world.tick(world.now + 5 * TICK)
    world.apply(media.CloseLeg(a.leg_id))
    world.run(1)
    kept = [each for each in world.captured if isinstance(each, Frames | FramesDropped)]
    assert [each.first_tick for each in kept[1:]] == [each.first_tick + each.ticks for each in kept[:-1]]
    assert [(each.first_tick, each.ticks) for each in kept if isinstance(each, FramesDropped)] == [(111, 5)]
    lost = [each.first_tick + n for each in kept if isinstance(each, Frames) for r in each.lost for n in range(*r)]
    assert lost == list(range(51, 61))
    assert len(a.heard) == 102


def test_a_long_stall_leaves_a_hole_and_no_delay() -> None:
    world = World()
    a, b, _ = three(world)
    world.run(50)
    world.now += 2.0
    for phone in world.phones:
        phone.sequence += 100
        phone.timestamp += 16000
    world.run(50)
    assert world.plane.tick_number == 199
    assert world.plane.counters["skipped_ticks"] == 75
    assert b.hears(a.hertz) > PRESENT
    assert world.plane.stages.jitter.depth_ms(world.plane.stages.legs.by_id[a.leg_id].row) == 20.0


def test_telephone_events_are_reported_once_and_not_heard() -> None:
    world = World()
    a, b, _ = three(world)
    world.run(30)

    def press(event: int) -> None:
        timestamp = a.timestamp
        for step, end in [(1, 0), (2, 0), (3, 0), (4, 0x80), (4, 0x80), (4, 0x80)]:
            a.timestamp = timestamp
            payload = struct.pack("!BBH", event, end | 10, step * 160)
            world.send(a, a.packet(payload, payload_type=101))
            world.run(1, lambda phone, _tick: phone is not a and world.send(phone))
        a.timestamp = timestamp + 6 * 160

    press(5)
    world.run(10)
    press(5)
    world.run(10)
    assert [(event.leg_id, event.event, event.duration_ms) for event in world.of(media.TelephoneEvent)] == [
        (a.leg_id, 5, 80),
        (a.leg_id, 5, 80),
    ]
    assert "event=5" not in repr(world.of(media.TelephoneEvent)[0])
    assert b.hears(1000.0) > PRESENT


def test_stun_and_dtls_go_to_the_control_plane_within_limits() -> None:
    world = World()
    a, _, _ = three(world)
    world.run(5)
    for number in range(500):
        world.sockets.deliver(world.now - 0.01, b"\x00\x01stranger", ("192.0.2.1", 1024 + number))
    for _ in range(100):
        world.sockets.deliver(world.now - 0.009, b"\x16\xfe\xfdcrowd", ("192.0.2.9", 9))
    world.sockets.deliver(world.now - 0.001, b"\x00\x01peer", a.address)
    events = [event for event in world.tick() if isinstance(event, media.ControlDatagram)]
    assert events[0] == media.ControlDatagram(LOCAL, a.address, b"\x00\x01peer")
    assert len(events) == 1 + 64
    assert world.plane.outcomes.dropped.control_dropped == 600 - 64
    assert "stranger" not in repr(events[1])


def test_one_source_cannot_crowd_out_the_others() -> None:
    world = World()
    for _ in range(200):
        world.sockets.deliver(world.now - 0.01, b"\x00\x01crowd", ("192.0.2.9", 9))
    world.sockets.deliver(world.now - 0.001, b"\x00\x01other", ("192.0.2.10", 9))
    events = [event for event in world.tick() if isinstance(event, media.ControlDatagram)]
    assert [event.data for event in events] == [b"\x00\x01crowd"] * 16 + [b"\x00\x01other"]


def test_ice_legs_take_only_what_comes_from_the_selected_address() -> None:
    world = World()
    a, b = Phone("a", 1, 400.0), Phone("b", 2, 700.0)
    world.phones += [a, b]
    world.apply(a.open(latch=False), b.open())
    world.conference(a, b)
    world.run(30)
    assert b.hears(400.0) > PRESENT
    a.address = ("10.0.0.1", 6000)
    world.run(60)
    assert b.hears(400.0) < ABSENT
    assert world.plane.outcomes.dropped.strangers == 60
    world.apply(media.MoveLeg(a.leg_id, a.address))
    world.run(40)
    assert b.hears(400.0) > PRESENT
    assert a.hears(700.0) > PRESENT
    assert [event.remote for event in world.of(LegLatched) if event.leg_id == a.leg_id] == [("10.0.0.1", 5001)]


def test_symmetric_rtp_follows_authenticated_packets_after_a_second_of_silence() -> None:
    world = World()
    a, b, _ = three(world)
    world.run(30)
    old = a.address
    world.run(60, lambda phone, _tick: phone is not a and world.send(phone))
    a.address = ("10.0.0.1", 7777)
    a.sequence, a.timestamp = a.sequence + 60, a.timestamp + 60 * 160
    world.run(40)
    assert b.hears(a.hertz) > PRESENT
    assert a.hears(b.hertz) > PRESENT
    assert [event.remote for event in world.of(LegLatched) if event.leg_id == a.leg_id] == [old, a.address]


def test_a_signalled_move_is_followed_at_once() -> None:
    """A re-INVITE names another port in mid-call: no second of silence is asked for, authentication is."""
    world = World()
    a, b, _ = three(world)
    world.run(30)
    a.address = ("10.0.0.1", 7777)
    world.apply(media.MoveLeg(a.leg_id, a.address))
    world.run(40)
    assert b.hears(a.hertz) > PRESENT
    assert world.plane.stages.legs.concealed.sum() == 0
    impostor = Phone("impostor", 1, 1500.0)
    impostor.outbound, impostor.address = session(key(77), inbound=False), ("10.0.0.1", 8888)
    world.apply(media.MoveLeg(a.leg_id, impostor.address))
    world.run(30, lambda phone, _tick: (world.send(phone), phone is a and world.send(impostor)))
    assert b.hears(a.hertz) > PRESENT
    assert b.hears(1500.0) < ABSENT


def test_an_address_is_not_stolen_while_its_leg_is_heard() -> None:
    """Recorded packets of a leg, replayed from elsewhere, do not move it."""
    world = World()
    a, b, _ = three(world)
    world.run(30)
    copies = []
    for _ in range(60):
        for phone in world.phones:
            packet = phone.packet()
            world.send(phone, packet)
            if phone is a:
                copies.append(packet)
        world.sockets.deliver(world.now - 0.001, copies[-1], ("203.0.113.5", 666))
        world.tick()
    # Later, into the leg's silence: replayed packets are refused by the replay window.
    world.run(60, lambda phone, _tick: phone is not a and world.send(phone))
    for packet in copies:
        world.sockets.deliver(world.now - 0.001, packet, ("203.0.113.5", 666))
    world.run(20, lambda phone, _tick: phone is not a and world.send(phone))
    assert [event.leg_id for event in world.of(LegLatched)] == ["a", "b", "c"]
    assert b.hears(1000.0) > PRESENT


def test_a_leg_that_claims_anothers_address_gets_nothing_of_it() -> None:
    world = World()
    a, b, _ = three(world)
    world.run(30)
    thief = Phone("thief", 9, 2000.0)
    thief.address = a.address
    world.apply(thief.open())
    world.run(60)
    assert b.hears(a.hertz) > PRESENT
    assert world.plane.outcomes.dropped.unauthenticated == 0
    assert [event.leg_id for event in world.of(LegLatched)] == ["a", "b", "c"]


def test_plain_rtp_keeps_to_the_host_that_signalling_named() -> None:
    world = World()
    a, b = Phone("a", 1, 400.0, suite=None), Phone("b", 2, 700.0)
    world.phones += [a, b]
    named = a.address
    a.address = (named[0], 6543)  # an address translator took another port
    world.apply(dataclasses.replace(a.open(), remote=named), b.open())
    world.conference(a, b)
    stranger = Phone("s", 7, 1500.0, suite=None)

    def link(phone: Phone, _tick: int) -> None:
        world.send(phone)
        if phone is a:
            world.send(stranger)

    world.run(60, link)
    assert b.hears(400.0) > PRESENT
    assert b.hears(1500.0) < ABSENT
    a.address = (named[0], 6544)
    world.run(60, link)
    assert b.hears(400.0) < ABSENT  # heard once: the port stays


def test_rtcp_on_its_own_port() -> None:
    world = World()
    a, b = Phone("a", 1, 400.0), Phone("b", 2, 700.0)
    world.phones += [a, b]
    world.apply(a.open(remote_rtcp=(a.address[0], a.address[1] + 1)), b.open())
    world.conference(a, b)
    sent: list[tuple[int, tuple[str, int]]] = []
    original = world.sockets.send

    def send(table, count):  # type: ignore[no-untyped-def]
        result = original(table, count)
        sent.extend((socket, address) for socket, address, data in world.sockets.sent if 192 <= data[1] <= 223)
        return result

    world.sockets.send = send  # type: ignore[method-assign]
    world.run(260)
    assert (1, ("10.0.0.1", a.address[1] + 1)) in sent
    assert (0, b.address) in sent
    assert a.outbound is not None
    report = struct.pack("!BBHIIIIIII", 0x81, 201, 7, a.ssrc, a.ssrc + 1, 0x40000000, 1, 0, 0, 0)
    world.sockets.deliver(world.now - 0.001, a.outbound.protect_rtcp(report), ("10.0.0.1", a.address[1] + 1), socket=1)
    world.run(60)
    statistics = [event.statistics for event in world.of(media.LegReport) if event.leg_id == a.leg_id][-1]
    assert statistics.peer_loss_ratio == 0.25


def test_round_trip_from_receiver_reports() -> None:
    world = World()
    a, _, _ = three(world)
    world.run(300)
    assert a.reports
    kind, ntp = a.reports[-1][1], int.from_bytes(a.reports[-1][8:16], "big")
    assert kind == 200
    sent_at = (ntp >> 32) - 2_208_988_800 + (ntp & 0xFFFFFFFF) / 2**32
    assert WALL + 100.0 <= sent_at <= WALL + 107.0
    # The peer held it for 100 ms and it took 60 ms in all on the wire.
    held = int(0.1 * 65_536)
    block = struct.pack("!IIIIII", a.ssrc + 1, 0, 0, 0, ntp >> 16 & 0xFFFFFFFF, held)
    assert a.outbound is not None
    packet = a.outbound.protect_rtcp(struct.pack("!BBHI", 0x81, 201, 7, a.ssrc) + block)
    arrival = sent_at - WALL + 0.16
    world.now = max(world.now, round(arrival + 0.02, 2))
    world.sockets.deliver(arrival, packet, a.address)
    world.run(60)
    statistics = [event.statistics for event in world.of(media.LegReport) if event.leg_id == a.leg_id][-1]
    assert statistics.round_trip_ms == pytest.approx(60.0, abs=0.1)


def test_levels_every_200_ms() -> None:
    world = World()
    a, _b, c = three(world)
    world.run(100)
    levels = world.of(media.Levels)
    assert len(levels) == 10
    last = levels[-1]
    assert last.leg_ids == ("a", "b", "c")
    # 8,000 of 32,768 as a sine: -12.25 dB peak, -15.26 dBov.
    assert last.from_leg == pytest.approx((-15.27,) * 3, abs=0.1)
    assert last.to_leg == pytest.approx((-12.27,) * 3, abs=0.1)
    assert last.talking == (True, True, True)
    world.run(100, lambda phone, _tick: phone is not c and world.send(phone))
    assert world.of(media.Levels)[-1].from_leg[2] == -127.0
    assert world.of(media.Levels)[-1].talking == (True, True, False)
    assert a.hears(1000.0) < 10


def test_silence_is_said_each_time_that_as_long_has_passed() -> None:
    world = World(PlaneSettings(legs_max=16, tracks_max=16, silent_seconds=2.0))
    a, _, _ = three(world)
    world.run(50)
    world.run(300, lambda phone, _tick: phone is not a and world.send(phone))
    assert [(event.leg_id, int(event.seconds)) for event in world.of(media.LegSilent)] == [("a", 2), ("a", 4)]
    world.run(100)
    world.run(150, lambda phone, _tick: phone is not a and world.send(phone))
    assert [int(event.seconds) for event in world.of(media.LegSilent)] == [2, 4, 2]


def test_refused_commands_say_why_and_the_plane_goes_on() -> None:
    world = World(PlaneSettings(legs_max=2, tracks_max=1))
    a, b, c = three(world)
    world.run(1)
    world.apply(media.CloseLeg(LegId("nobody")))
    world.apply(media.OpenLeg(LegId("x"), Codec("PCMU", 0), 1, None, None, ("10.9.9.9", 1)))
    world.apply(media.SetGate("k", "t", None), contact_id="k")
    world.apply(
        media.OpenLeg(LegId("y"), Codec("PCMU", 0), 1, media.SrtpKey("AES_CM_128_HMAC_SHA1_80", b"short"), None, LOCAL)
    )
    world.run(1)
    refused = [(event.leg_id, event.what) for event in world.of(CommandRefused)]
    assert refused[0] == ("c", "OpenLeg: all 2 rows of legs are taken")
    assert refused[1] == (None, "SetCrosspoints: a crosspoint names a leg that is not open")
    assert refused[2] == ("nobody", "CloseLeg: no such leg is open")
    assert refused[3] == ("x", "OpenLeg: no media socket at 10.9.9.9:1")
    assert refused[4] == (None, "SetGate: no such track is open")
    assert refused[5] == ("y", "OpenLeg: no SRTP key of suite AES_CM_128_HMAC_SHA1_80")
    assert len(world.plane.stages.legs) == 2
    del a, b, c


def test_rows_come_back() -> None:
    world = World(PlaneSettings(legs_max=4, tracks_max=4))
    for number in range(40):
        world.phones = [Phone(f"p{number}-{each}", 1 + each, 400.0 + 300 * each) for each in range(4)]
        world.apply(*(phone.open() for phone in world.phones))
        world.conference(*world.phones, name=str(number))
        world.apply(
            media.OpenRecording(str(number)),
            *(media.OpenTrack(str(number), phone.leg_id, phone.leg_id, "p", "other") for phone in world.phones),
            contact_id=str(number),
        )
        world.run(25)
        assert world.phones[0].hears(700.0, ticks=10) > PRESENT
        world.apply(*(media.CloseLeg(phone.leg_id) for phone in world.phones))
        world.apply(media.CloseRecording(str(number)), contact_id=str(number))
        world.run(2, lambda _phone, _tick: None)
    assert not world.of(CommandRefused)
    assert len(world.plane.stages.intake.endpoints) == 0
    assert world.plane.statistics()["conferences"] == 0
    assert world.plane.statistics()["tracks"] == 0
    assert sum(isinstance(value, TrackClosed) for value in world.captured) == 160


def test_a_failing_stage_does_not_end_the_others(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    three(world)
    world.run(5)
    stages = world.plane.stages
    broken = stages.loudness.measure_heard
    stages.loudness.measure_heard = lambda _mixer: 1 / 0  # type: ignore[assignment, method-assign]
    for _ in range(10):
        world.plane.tick(world.now)
        world.now += TICK
    stages.loudness.measure_heard = broken  # type: ignore[method-assign]
    assert world.plane.counters["failed_mix"] == 10
    assert len([record for record in caplog.records if "a stage of the tick failed" in record.message]) == 1
    assert len([data for _, _, data in world.sockets.sent if not 192 <= data[1] <= 223]) == 30


def test_a_defect_in_the_work_on_one_leg_ends_that_leg_alone(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    a, b, _ = three(world)
    world.run(5)
    stages = world.plane.stages
    outbound = stages.legs.by_id[a.leg_id].outbound
    assert outbound is not None
    good, broken = outbound.protect_rtcp, []

    def protect_rtcp(packet: bytes) -> bytes:
        if not broken:
            broken.append(packet)
            raise ZeroDivisionError
        return good(packet)

    outbound.protect_rtcp = protect_rtcp  # type: ignore[method-assign]
    for _ in range(260):
        for phone in world.phones:
            world.send(phone)
        world.plane.tick(world.now)
        world.now += TICK
    assert world.plane.counters["failed_report"] == 1
    assert world.plane.counters["legs_ended"] == 1
    assert a.leg_id not in stages.legs.by_id
    assert b.leg_id in stages.legs.by_id
    assert "ZeroDivisionError" in caplog.text


def test_too_many_steps_that_open_are_refused_and_the_rest_waits_its_turn() -> None:
    world = World(PlaneSettings(legs_max=4, tracks_max=4, steps_max=5, steps_per_tick_max=2))
    for number in range(7):
        world.apply(media.OpenRecording(f"k{number}"), contact_id=f"k{number}")
    world.run(3)
    assert [(event.contact_id, event.tick) for event in world.of(media.StepApplied)] == [
        ("k0", 0), ("k1", 0), ("k2", 1), ("k3", 1), ("k4", 2),
    ]  # fmt: skip
    assert [event.contact_id for event in world.of(CommandRefused)] == ["k5", "k6"]


def test_a_leg_that_found_too_many_steps_is_named() -> None:
    world = World(PlaneSettings(legs_max=4, tracks_max=4, steps_max=2, steps_per_tick_max=1))
    one, other = Phone("a", 1, 400.0), Phone("b", 2, 700.0)
    world.apply(one.open())
    world.apply()
    world.apply(other.open())
    world.apply(media.MoveLeg(one.leg_id, ("127.0.0.1", 9)))
    world.run(1)
    assert [event.leg_id for event in world.of(CommandRefused)] == [other.leg_id, None]
    assert list(world.plane.stages.legs.by_id) == [one.leg_id]


def test_what_closes_or_withholds_is_taken_however_many_steps_wait() -> None:
    world = World(PlaneSettings(legs_max=4, tracks_max=4, steps_max=2, steps_per_tick_max=1))
    phone = Phone("a", 1, 400.0)
    world.phones.append(phone)
    world.apply(phone.open(), media.OpenRecording("k"), _track(phone), contact_id="k")
    world.run(10)
    for _ in range(5):
        world.apply(media.SetCrosspoints(ConferenceId("other"), ()))
    world.apply(media.SetGate("k", "t", "G2"), contact_id="k")
    world.apply(media.CloseRecording("k"), media.CloseLeg(phone.leg_id), contact_id="k")
    world.run(10)
    assert world.of(CommandRefused) == []
    assert [gate.rule for gate in world.captured if isinstance(gate, GateChanged)] == ["G2"]
    assert len(world.plane.stages.taps) == len(world.plane.stages.legs) == 0


def test_a_command_that_fails_does_not_keep_a_gate_of_its_step_open(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    phone = Phone("a", 1, 400.0)
    world.phones.append(phone)
    world.apply(phone.open(), media.OpenRecording("k"), _track(phone), contact_id="k")
    world.run(10)

    def broken(_command: SetCrosspoints) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(world.plane.stages.conferences, "set", broken)
    world.apply(SetCrosspoints(ConferenceId("k"), ()), media.SetGate("k", "t", "G2"), contact_id="k")
    world.run(10)
    assert [gate.tick for gate in world.captured if isinstance(gate, GateChanged)] == [10]
    assert sum(frames.ticks for frames in world.frames("t")) == 10
    assert [(event.contact_id, event.leg_id) for event in world.of(CommandRefused)] == [("k", None)]


def test_a_stall_is_stated_for_open_gates_and_withheld_for_closed_ones() -> None:
    world = World()
    a, b = Phone("a", 1, 400.0), Phone("b", 2, 700.0)
    world.phones += [a, b]
    world.apply(
        a.open(), b.open(), media.OpenRecording("k"), _track(a), _track(b, track_id="u", rule="G8"), contact_id="k"
    )
    world.run(30)
    world.now += 2.0
    world.run(30)
    assert [value for value in world.captured if isinstance(value, FramesDropped)] == [FramesDropped("k", "t", 30, 75)]
    accounted = {tick for f in world.frames("t") for tick in range(f.first_tick, f.first_tick + f.ticks)}
    assert not accounted & set(range(30, 105))
    assert accounted | set(range(30, 105)) == set(range(max(accounted) + 1))


def _track(phone: Phone, *, track_id: str = "t", rule: str | None = None) -> media.OpenTrack:
    return media.OpenTrack("k", track_id, phone.leg_id, track_id, "other", rule)


def test_a_leg_that_cannot_be_opened_costs_no_row() -> None:
    world = World(PlaneSettings(legs_max=1, tracks_max=1))
    phone = Phone("a", 1, 400.0)
    opened = phone.open()
    world.apply(dataclasses.replace(opened, receive_key=SrtpKey("AES_CM_128_HMAC_SHA1_80", b"short")))
    world.run(1)
    assert [event.leg_id for event in world.of(CommandRefused)] == [phone.leg_id]
    world.apply(phone.open())
    world.run(1)
    assert len(world.plane.stages.legs) == 1
