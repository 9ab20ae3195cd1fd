"""A plane under a virtual clock, and telephones for it that share no code with its media path."""

from __future__ import annotations

import contextlib
import functools
import heapq
import itertools
import math
import random
import struct
from collections.abc import Callable, Sequence

import numpy as np
import pylibsrtp

from recorder.capture import Captured, Frames
from relay import media
from relay.media import Address, Codec, ConferenceId, Gain, LegId, MediaEvent, OpenLeg, SetCrosspoints, SrtpKey, Step
from relay.plane.hosts import PeerHosts
from relay.plane.packets import OVERSIZED, PacketTable, socket_column
from relay.plane.plane import Plane
from relay.plane.stages import PlaneSettings

LOCAL: Address = ("127.0.0.1", 40000)
TICK = 0.02
WALL = 1_800_000_000.0
_POLICIES = {
    "AES_CM_128_HMAC_SHA1_80": pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    "AES_CM_128_HMAC_SHA1_32": pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_32,
    "AEAD_AES_128_GCM": pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    "AEAD_AES_256_GCM": pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_256_GCM,
}
_KEY_BYTES = {
    "AES_CM_128_HMAC_SHA1_80": 30,
    "AES_CM_128_HMAC_SHA1_32": 30,
    "AEAD_AES_128_GCM": 28,
    "AEAD_AES_256_GCM": 44,
}


def key(seed: int, suite: media.SrtpSuite = "AES_CM_128_HMAC_SHA1_80") -> SrtpKey:
    return SrtpKey(suite, random.Random(seed).randbytes(_KEY_BYTES[suite]))


def session(srtp_key: SrtpKey, *, inbound: bool) -> pylibsrtp.Session:
    kind = pylibsrtp.Policy.SSRC_ANY_INBOUND if inbound else pylibsrtp.Policy.SSRC_ANY_OUTBOUND
    return pylibsrtp.Session(
        pylibsrtp.Policy(key=srtp_key.master, ssrc_type=kind, srtp_profile=_POLICIES[srtp_key.suite])
    )


def mu_law(samples: np.ndarray) -> bytes:
    """µ-law by its formula over the decision values, one sample at a time: slow, and not the relay's tables."""
    return bytes(_mu_code(int(sample)) for sample in samples)


@functools.cache
def _mu_code(sample: int) -> int:
    sign = 0x80 if sample < 0 else 0
    magnitude = min(abs(sample), 32635) + 132
    exponent = magnitude.bit_length() - 8
    return ~(sign | exponent << 4 | (magnitude >> (exponent + 3)) & 15) & 0xFF


def mu_samples(codes: bytes) -> np.ndarray:
    return np.array([_mu_sample(code) for code in codes], np.float64)


@functools.cache
def _mu_sample(code: int) -> int:
    code = ~code & 0xFF
    magnitude = ((((code & 15) << 3) + 132) << (code >> 4 & 7)) - 132
    return -magnitude if code & 0x80 else magnitude


def power(samples: np.ndarray, hertz: float, rate: int = 8000) -> float:
    """Amplitude of one frequency in samples, by correlation; a whole sine of amplitude A gives A."""
    phase = 2 * math.pi * hertz / rate * np.arange(samples.size)
    return float(2 * np.hypot(samples @ np.cos(phase), samples @ np.sin(phase)) / max(samples.size, 1))


class SimulatedSockets:
    """`MediaSockets` under a virtual clock: what peers queue is received once its time has come."""

    def __init__(self, addresses: Sequence[Address] = (LOCAL,)) -> None:
        self.addresses = tuple(addresses)
        self.hosts = PeerHosts(random.Random(8).randbytes)
        self.sent: list[tuple[int, Address, bytes]] = []
        self._queue: list[tuple[float, int, int, Address, bytes]] = []
        self._count = itertools.count()

    def deliver(self, arrival: float, data: bytes, source: Address, socket: int = 0) -> None:
        heapq.heappush(self._queue, (arrival, next(self._count), socket, source, data))

    def receive(self, table: PacketTable, now: float) -> int:
        row = 0
        while row < table.rows and self._queue and self._queue[0][0] <= now:
            arrival, _, socket, source, data = heapq.heappop(self._queue)
            table.put(row, data[: table.stride], self.hosts.key(socket, source), arrival)
            if len(data) > table.stride:
                table.length[row] = OVERSIZED
            row += 1
        return row

    def send(self, table: PacketTable, count: int) -> int:
        for row, socket in enumerate(socket_column(table.endpoint[:count]).tolist()):
            self.sent.append((socket, self.hosts.address(int(table.endpoint[row])), table.datagram(row)))
        return 0


class Phone:
    """A G.711 µ-law telephone with a tone, on its own address."""

    def __init__(
        self,
        name: str,
        number: int,
        hertz: float,
        *,
        suite: media.SrtpSuite | None = "AES_CM_128_HMAC_SHA1_80",
        amplitude: float = 8000.0,
        ptime: int = 20,
    ) -> None:
        self.leg_id = LegId(name)
        self.address: Address = (f"10.0.0.{number}", 5000 + number)
        self.hertz, self.amplitude, self.ptime = hertz, amplitude, ptime
        self.ssrc, self.sequence, self.timestamp = number * 1111, 65500 + number, 0xFFFFFF00 + number * 7
        self.send_key = key(number, suite) if suite else None
        self.receive_key = key(number + 1000, suite) if suite else None
        self.outbound = session(self.send_key, inbound=False) if self.send_key else None
        self.inbound = session(self.receive_key, inbound=True) if self.receive_key else None
        self.sample = 0
        self.heard: list[bytes] = []
        self.headers: list[tuple[int, int, int, int]] = []
        self.reports: list[bytes] = []

    def open(self, *, remote: bool = True, **changes: object) -> OpenLeg:
        values: dict[str, object] = {
            "leg_id": self.leg_id,
            "codec": Codec("PCMU", 0),
            "ssrc": self.ssrc + 1,
            "receive_key": self.send_key,
            "send_key": self.receive_key,
            "local": LOCAL,
            "remote": self.address if remote else None,
            "telephone_event": 101,
            **changes,
        }
        return OpenLeg(**values)  # type: ignore[arg-type]

    def packet(
        self, payload: bytes | None = None, *, payload_type: int = 0, first: int = 0x80, head: bytes = b""
    ) -> bytes:
        samples = 8 * self.ptime
        if payload is None:
            at = np.arange(self.sample, self.sample + samples)
            payload = mu_law(np.rint(self.amplitude * np.sin(2 * math.pi * self.hertz / 8000 * at)))
        header = struct.pack(
            "!BBHII", first, payload_type, self.sequence & 0xFFFF, self.timestamp & 0xFFFFFFFF, self.ssrc
        )
        self.sequence += 1
        self.timestamp += samples
        self.sample += samples
        plain = header + head + payload
        return self.outbound.protect(plain) if self.outbound else plain

    def receive(self, data: bytes) -> None:
        if 192 <= data[1] <= 223:
            with contextlib.suppress(pylibsrtp.Error):  # what is meant for another leg at this address
                self.reports.append(self.inbound.unprotect_rtcp(data) if self.inbound else data)
            return
        plain = self.inbound.unprotect(data) if self.inbound else data
        _, second, sequence, timestamp, ssrc = struct.unpack_from("!BBHII", plain)
        self.headers.append((second, sequence, timestamp, ssrc))
        self.heard.append(plain[12:])

    def hears(self, hertz: float, ticks: int = 25) -> float:
        """Amplitude of a tone in the last half second heard."""
        return power(mu_samples(b"".join(self.heard[-ticks:])), hertz)


class World:
    """A plane, its virtual clock, its telephones, and what came of them."""

    def __init__(self, settings: PlaneSettings | None = None, addresses: Sequence[Address] = (LOCAL,)) -> None:
        self.now = 100.0
        self.sockets = SimulatedSockets(addresses)
        self.captured: list[Captured] = []
        self.plane = Plane(
            settings or PlaneSettings(legs_max=64, tracks_max=64),
            self.sockets,
            self.captured.extend,
            entropy=random.Random(7).randbytes,
            wall=lambda now: WALL + now,
        )
        self.phones: list[Phone] = []
        self.events: list[MediaEvent] = []

    def apply(
        self, *commands: media.MediaCommand, contact_id: str | None = None, entries: tuple[bytes, ...] = ()
    ) -> None:
        self.plane.apply(Step(contact_id, commands, entries))

    def conference(self, *phones: Phone, name: str = "c") -> None:
        gains = [Gain(one.leg_id, other.leg_id, 1.0) for one in phones for other in phones if one is not other]
        self.apply(SetCrosspoints(ConferenceId(name), tuple(gains)))

    def tick(self, now: float | None = None) -> list[MediaEvent]:
        """One tick, and the delivery of what it sent."""
        events = self.plane.tick(self.now if now is None else now)
        assert not [name for name in self.plane.counters if name.startswith("failed_")], self.plane.counters
        for _, address, data in self.sockets.sent:
            for phone in self.phones:
                if phone.address[0] == address[0]:
                    phone.receive(data)
        self.sockets.sent.clear()
        self.now = round((self.now if now is None else now) + TICK, 6)
        self.events.extend(events)
        return events

    def run(self, ticks: int, link: Callable[[Phone, int], None] | None = None) -> None:
        """Ticks in which every telephone sends as `link` says: by default one packet a tick, 5 ms before it."""
        for _ in range(ticks):
            for phone in self.phones:
                if link is None:
                    self.send(phone)
                else:
                    link(phone, self.plane.tick_number + 1)
            self.tick()

    def send(self, phone: Phone, packet: bytes | None = None, *, delay: float = 0.0) -> None:
        self.sockets.deliver(self.now - 0.005 + delay, packet or phone.packet(), phone.address)

    def of(self, kind: type) -> list:
        return [event for event in self.events if isinstance(event, kind)]

    def frames(self, track_id: str) -> list[Frames]:
        return [each for each in self.captured if isinstance(each, Frames) and each.track_id == track_id]


def three(world: World, **options: object) -> tuple[Phone, Phone, Phone]:
    """Three telephones in a conference."""
    phones = (
        Phone("a", 1, 400.0, **options),  # type: ignore[arg-type]
        Phone("b", 2, 700.0, **options),  # type: ignore[arg-type]
        Phone("c", 3, 1000.0, **options),  # type: ignore[arg-type]
    )
    world.phones.extend(phones)
    world.apply(*(phone.open() for phone in phones))
    world.conference(*phones)
    return phones
