"""A plane with honest and hostile legs, and what the hostile ones and strangers can send it.

The honest telephones' packets are made once, and what they are sent is compared datagram by datagram, encrypted as it
leaves: sound, sequence, timing and reports must be those of a run in which nobody was hostile.
"""

from __future__ import annotations

import functools
import itertools
import random
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import pylibsrtp

from relay.media import Address
from relay.plane.stages import PlaneSettings
from tests.relay.media_peers import Phone, World
from tests.relay.test_plane_opus import OpusPhone

TICKS = 30
HONEST = 3

NARROW, WIDE, PLAIN, STRANGER, UNSEEN, FORGED = range(6)
"""Who sends: a hostile leg with G.711, with Opus or without keys; a stranger, also from a hostile leg's host; and who
writes an honest telephone's address on what it sends."""
SENDERS = (NARROW, WIDE, PLAIN, STRANGER, UNSEEN, FORGED)


@dataclass(frozen=True, slots=True)
class Hostile:
    """One datagram, in which tick it comes, from whom and where to."""

    tick: int
    sender: int
    data: bytes
    protect: bool = False
    """Whether a sender with keys uses them: its packet is authentic, whatever it holds."""
    socket: int = 0
    port: int = 0


class Scene(World):
    """Honest telephones a, b (G.711) and c (Opus) hear each other; so do three hostile ones, which hear nothing."""

    def __init__(self) -> None:
        super().__init__(PlaneSettings(legs_max=8, tracks_max=8))
        self.honest = [Phone("a", 1, 400.0), Phone("b", 2, 700.0), OpusPhone("c", 3, 1000.0)]
        self.hostile = [Phone("narrow", 4, 300.0), OpusPhone("wide", 5, 300.0), Phone("plain", 6, 300.0, suite=None)]
        for phone in self.hostile:
            if phone.send_key is not None:
                policy = pylibsrtp.Policy(phone.send_key.master, pylibsrtp.Policy.SSRC_ANY_OUTBOUND)
                policy.allow_repeat_tx = True
                phone.outbound = pylibsrtp.Session(policy)
        self.apply(*(phone.open() for phone in [*self.honest, *self.hostile]))
        self.conference(*self.honest, name="honest")
        self.conference(*self.hostile, name="hostile")
        self.delivered = 0
        self.events_a_tick = 0
        """Media events of the tick that had most."""

    def play(self, hostile: Sequence[Hostile]) -> list[tuple[Address, bytes]]:
        """What the honest telephones were sent, in order."""
        sent: list[tuple[Address, bytes]] = []
        addresses = {phone.address for phone in self.honest}
        for tick in range(TICKS):
            for address, packet in _honest_packets()[tick]:
                self.deliver(packet, address)
            for each in hostile:
                if each.tick == tick:
                    self.deliver(self.made(each), self.source(each), each.socket)
            self.events_a_tick = max(self.events_a_tick, len(self.plane.tick(self.now)))
            sent += [(address, data) for _, address, data in self.sockets.sent if address in addresses]
            self.sockets.sent.clear()
            self.now = round(self.now + 0.02, 6)
        return sent

    def deliver(self, data: bytes, source: Address, socket: int = 0) -> None:
        self.delivered += 1
        self.sockets.deliver(self.now - 0.005, data, source, socket)

    def source(self, each: Hostile) -> Address:
        if each.sender == STRANGER:
            return (f"192.0.2.{1 + each.port % 5}", 1000 + each.port)
        if each.sender == UNSEEN:
            return (self.hostile[each.port % 3].address[0], 1000 + each.port)
        if each.sender == FORGED:
            return self.honest[each.port % HONEST].address
        return self.hostile[each.sender].address

    def made(self, each: Hostile) -> bytes:
        session = self.hostile[each.port % 3 if each.sender == UNSEEN else each.sender % 3].outbound
        if not each.protect or session is None:
            return each.data
        is_report = len(each.data) > 1 and 192 <= each.data[1] <= 223
        try:
            return session.protect_rtcp(each.data) if is_report else session.protect(each.data)
        except (
            pylibsrtp.Error,
            ValueError,
        ):  # libsrtp looks at headers, too: what it does not protect goes out as it is
            return each.data


@functools.cache
def _honest_packets() -> list[list[tuple[Address, bytes]]]:
    phones = Scene().honest
    return [[(phone.address, phone.packet()) for phone in phones] for _ in range(TICKS)]


@functools.cache
def undisturbed() -> list[tuple[Address, bytes]]:
    """What the honest telephones are sent when nobody is hostile."""
    return Scene().play(())


def assert_harmless(hostile: Sequence[Hostile]) -> Scene:
    """Nothing fails, nobody honest notices, no leg is lost, and every datagram is accounted for."""
    scene = Scene()
    heard = scene.play(hostile)
    statistics = scene.plane.statistics()
    assert not [name for name in statistics if name.startswith("failed_")], statistics
    assert statistics["received"] == scene.delivered
    assert statistics["unaccounted"] == 0, statistics
    assert statistics["legs"] == 6
    assert scene.plane.counters["legs_ended"] == 0
    assert heard == undisturbed()
    return scene


def torrent(seed: int, a_tick: int) -> list[Hostile]:
    """Many datagrams of all kinds: near what is valid, mutated, and noise; of new SSRCs in every other torrent."""
    rng, numbers = random.Random(seed), itertools.count()
    strange = 0.1 * (seed % 2)
    return [_datagram(rng, tick, next(numbers), strange) for tick in range(TICKS) for _ in range(a_tick)]


def _datagram(rng: random.Random, tick: int, number: int, strange: float) -> Hostile:
    # Hostile legs are first heard where they are expected: else somebody of the same host may be the one without keys.
    sender = rng.choice([NARROW, WIDE, PLAIN]) if tick < 3 or rng.random() < 0.75 else rng.choice(SENDERS)
    kind = rng.random()
    if kind < 0.55:
        data = _rtp(rng, tick, number, 960 if sender == WIDE else 160, strange)
    elif kind < 0.75:
        head = struct.pack(
            "!BBHI", 0x80 | rng.randrange(64), rng.randrange(192, 224), rng.randrange(20), rng.randrange(5)
        )
        data = head + rng.randbytes(rng.choice([0, 20, 24, 52, rng.randrange(200)]))
    elif kind < 0.85:
        data = bytes([rng.choice([0, 1, 2, 3, 20, 22, 63])]) + rng.randbytes(rng.randrange(80))
    else:
        data = rng.choice(
            [b"", bytes(1700), rng.randbytes(rng.randrange(20)), b"\xff" + rng.randbytes(rng.randrange(1500))]
        )
    if rng.random() < 0.1:
        data = data[: rng.randrange(len(data) + 1)]
    return Hostile(tick, sender, data, rng.random() < 0.8, int(rng.random() < 0.1), rng.randrange(60))


def _rtp(rng: random.Random, tick: int, number: int, clock: int, strange: float) -> bytes:
    """Of a sequence number that is new, mostly: what was seen before is nothing but a replay."""
    first = 0x80 | (rng.randrange(64) if rng.random() < 0.3 else 0)
    sound = 111 if clock == 960 else 0
    payload_type = rng.choice([sound, sound, sound, 13, 101, rng.randrange(256)])
    near = clock * tick + rng.choice([clock * rng.randrange(-40, 40), clock * rng.randrange(3), rng.randrange(-80, 80)])
    timestamp = near if rng.random() < 0.9 else rng.getrandbits(32)
    sequence = number if rng.random() < 0.9 else max(0, number - rng.randrange(100))
    ssrc = rng.getrandbits(32) if rng.random() < strange else 4444
    head = struct.pack("!BBHII", first, payload_type, sequence, timestamp & 0xFFFFFFFF, ssrc)
    opus = b"\xf8\xff\xfe" if clock == 960 and rng.random() < 0.5 else b""
    return head + (opus or rng.randbytes(rng.choice([160, 160, 80, 4, 3, 0, rng.randrange(1500)])))
