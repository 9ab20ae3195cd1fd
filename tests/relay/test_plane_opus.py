"""Opus legs at 48 kHz, alone and together with G.711 legs at 8 kHz."""

from __future__ import annotations

import math
import random
import struct

import numpy as np
import pytest

from recorder.capture import TrackOpened
from relay import media
from relay.codecs.opus import OpusDecoder, OpusEncoder
from relay.media import Codec, OpenLeg
from tests.relay.media_peers import Phone, World, power


class OpusPhone(Phone):
    """A telephone with Opus at 48 kHz; its packets are 10, 20, 40 or 60 ms long."""

    def __init__(self, name: str, number: int, hertz: float, *, ptime: int = 20) -> None:
        super().__init__(name, number, hertz, ptime=ptime)
        self._encoder = OpusEncoder(48000, 32_000, 5)
        self._decoder = OpusDecoder(48000)

    def open(self, *, remote: bool = True, **changes: object) -> OpenLeg:
        return super().open(remote=remote, codec=Codec("opus", 111), **changes)

    def packet(self, payload: bytes | None = None, **_options: object) -> bytes:  # type: ignore[override]
        samples = 48 * self.ptime
        if payload is None:
            at = np.arange(self.sample, self.sample + samples)
            pcm = np.rint(self.amplitude * np.sin(2 * math.pi * self.hertz / 48000 * at)).astype(np.int16)
            out = np.zeros(1275, np.uint8)
            payload = out[: self._encoder.encode(pcm, out)].tobytes()
        header = struct.pack("!BBHII", 0x80, 111, self.sequence & 0xFFFF, self.timestamp & 0xFFFFFFFF, self.ssrc)
        self.sequence += 1
        self.timestamp += samples
        self.sample += samples
        assert self.outbound is not None
        return self.outbound.protect(header + payload)

    def hears(self, hertz: float, ticks: int = 25) -> float:
        decoder = OpusDecoder(48000)
        pcm = np.zeros((ticks + 10, 960), np.int16)
        for row, payload in zip(pcm, self.heard[-ticks - 10 :], strict=True):
            assert decoder.decode(payload, len(payload), row) == 960
        return power(pcm[10:].reshape(-1).astype(np.float64), hertz, 48000)


def test_narrow_and_wide_legs_hear_one_another() -> None:
    world = World()
    a, b, c = Phone("a", 1, 400.0), OpusPhone("b", 2, 700.0), OpusPhone("c", 3, 1000.0)
    world.phones += [a, b, c]
    world.apply(*(phone.open() for phone in world.phones))
    world.conference(a, b, c)
    world.run(80)
    for phone in world.phones:
        for other in world.phones:
            if phone is other:
                assert phone.hears(other.hertz) < 200, (phone.leg_id, other.leg_id)
            else:
                assert 6500 < phone.hears(other.hertz) < 8500, (phone.leg_id, other.leg_id)
    steps = (np.diff(np.array([timestamp for _, _, timestamp, _ in b.headers], np.int64)) & 0xFFFFFFFF).tolist()
    assert steps == [960] * 79


def test_wide_legs_keep_what_lies_above_the_telephone_band() -> None:
    world = World()
    a, b, c = Phone("a", 1, 400.0), OpusPhone("b", 2, 7000.0), OpusPhone("c", 3, 1000.0)
    world.phones += [a, b, c]
    world.apply(*(phone.open() for phone in world.phones))
    world.conference(a, b, c)
    world.run(80)
    assert c.hears(7000.0) > 5000
    assert a.hears(1000.0) > 6500
    assert a.hears(8000 - 7000.0) < 8500  # no alias on top of the tone at 1,000 Hz


@pytest.mark.parametrize("ptime", [10, 40, 60])
def test_other_packet_lengths(ptime: int) -> None:
    world = World()
    a, b = OpusPhone("a", 1, 700.0, ptime=ptime), OpusPhone("b", 2, 400.0)
    world.phones += [a, b]
    world.apply(a.open(), b.open())
    world.conference(a, b)
    credit = 0

    def link(phone: Phone, _tick: int) -> None:
        nonlocal credit
        if phone is b:
            world.send(b)
            return
        credit += 20
        while credit >= ptime:
            credit -= ptime
            world.send(a)

    world.run(120, link)
    assert b.hears(700.0) > 6500
    legs = world.plane.stages.legs
    assert legs.concealed[legs.by_id[a.leg_id].row] <= 4
    assert world.plane.outcomes.dropped.payload_malformed == 0


def test_loss_is_concealed_and_marked() -> None:
    world = World()
    a, b = OpusPhone("a", 1, 700.0), OpusPhone("b", 2, 400.0)
    world.phones += [a, b]
    world.apply(a.open(), b.open())
    world.conference(a, b)
    world.apply(media.OpenRecording("k"), media.OpenTrack("k", "t", a.leg_id, "p", "agent"), contact_id="k")
    network = random.Random(5)
    lost: list[int] = []

    def link(phone: Phone, tick: int) -> None:
        packet = phone.packet()
        if phone is a and tick > 10 and network.random() < 0.05:
            lost.append(tick)
        else:
            world.send(phone, packet)

    world.run(300, link)
    world.apply(media.CloseRecording("k"), contact_id="k")
    world.tick()
    assert b.hears(700.0, ticks=200) > 5000
    opened = next(value for value in world.captured if isinstance(value, TrackOpened))
    assert (opened.codec, opened.rate) == ("s16", 48000)
    frames = world.frames("t")
    assert sum(frame.ticks for frame in frames) == 300
    assert all(len(frame.payload) == frame.ticks * 1920 for frame in frames)
    concealed = [
        frame.first_tick + tick for frame in frames for first, end in frame.concealed for tick in range(first, end)
    ]
    assert concealed == [tick + 1 for tick in lost]
    stored = np.frombuffer(b"".join(frame.payload for frame in frames), np.int16)[960 * 50 :].astype(np.float64)
    assert power(stored, 700.0, 48000) > 6500


def test_malformed_opus_is_a_counted_drop() -> None:
    world = World()
    a, b = OpusPhone("a", 1, 700.0), OpusPhone("b", 2, 400.0)
    world.phones += [a, b]
    world.apply(a.open(), b.open())
    world.conference(a, b)
    noise = random.Random(9)

    def link(phone: Phone, tick: int) -> None:
        world.send(phone, phone.packet(noise.randbytes(noise.randrange(0, 200)) if phone is a else None))

    world.run(200, link)
    assert len(b.heard) == 200
    assert world.plane.outcomes.dropped.payload_malformed > 20
    world.run(80)
    assert b.hears(700.0) > 6500
