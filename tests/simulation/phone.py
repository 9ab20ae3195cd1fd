"""The media of a peer: says its voice over SRTP every 20 ms while it speaks, and keeps what comes.

It stands on pylibsrtp's public API alone. `overhear` is the tap of the checkers: it opens what the relay sends before
any link can lose it, and knows in which tick that was.
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, field

import numpy as np
import pylibsrtp

from relay.media import Address, Encoding, SrtpKey, SrtpSuite
from tests.simulation import tones
from tests.simulation.schedule import Schedule
from tests.simulation.story import Stretch
from tests.simulation.wire import RELAY, Wire
from tests.world.network import Datagram

KEY_BYTES: dict[SrtpSuite, int] = {
    "AES_CM_128_HMAC_SHA1_80": 30,
    "AES_CM_128_HMAC_SHA1_32": 30,
    "AEAD_AES_128_GCM": 28,
    "AEAD_AES_256_GCM": 44,
}
_PROFILES: dict[SrtpSuite, int] = {
    "AES_CM_128_HMAC_SHA1_80": pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    "AES_CM_128_HMAC_SHA1_32": pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_32,
    "AEAD_AES_128_GCM": pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    "AEAD_AES_256_GCM": pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_256_GCM,
}
_REMEMBERED = 20


@dataclass(frozen=True, slots=True)
class Overheard:
    """One RTP packet that the relay sent to a peer."""

    life: int
    tick: int
    connection: int
    payload_type: int
    sequence: int
    timestamp: int
    payload: bytes


@dataclass(slots=True)
class Connection:
    """What was settled for a peer's media."""

    encoding: Encoding
    payload_type: int
    send_key: SrtpKey
    receive_key: SrtpKey
    outbound: pylibsrtp.Session = field(init=False)
    inbound: pylibsrtp.Session = field(init=False)
    tap: pylibsrtp.Session = field(init=False)

    def __post_init__(self) -> None:
        self.outbound = _session(self.send_key, inbound=False)
        self.inbound = _session(self.receive_key, inbound=True)
        self.tap = _session(self.receive_key, inbound=True)


class Phone:
    """One peer's voice and ear."""

    def __init__(
        self, name: str, hertz: int, address: Address, schedule: Schedule, wire: Wire, rng: random.Random
    ) -> None:
        self.name = name
        self.hertz = hertz
        self.address = address
        self.phase = rng.random() * 0.02
        """When within 20 ms it sends: frame n at phase + n * 20 ms of the world's time."""
        self.spoken: list[Stretch] = []
        self.disturbed: list[Stretch] = []
        """When it spoke, but could not be understood, or not at once."""
        self.overheard: list[Overheard] = []
        self.connections: list[Connection] = []
        self.received = 0
        self.refused = 0
        """Datagrams that were not authentic, or came twice."""
        self.forged = 0
        """What the relay sent and the tap could not open."""
        self.last_heard = 0.0
        self._schedule = schedule
        self._wire = wire
        self._rng = rng
        self._speaking = 0
        self._impostor: pylibsrtp.Session | None = None
        self._sent: list[bytes] = []
        self._encoder = tones.wide_encoder()
        self._coded = np.zeros(1275, np.uint8)
        self._first = True
        self._new_stream()
        wire.own(address, self)

    # ---- what it is told to do

    def connect(self, connection: Connection) -> None:
        """Keys and codec are settled."""
        self.connections.append(connection)
        self._new_stream()

    def speak(self) -> None:
        """Begin to send, in time."""
        if self.speaking:
            return
        self.spoken.append(Stretch(self._schedule.now))
        self._encoder = tones.wide_encoder()
        self._speaking += 1
        turn = self._speaking
        self._schedule.at(self._due(self._number() + 1), lambda: self._beat(turn))

    def fall_silent(self) -> None:
        if self.speaking:
            self.spoken[-1].end = self._schedule.now
            self._speaking += 1

    @property
    def speaking(self) -> bool:
        return bool(self.spoken) and self.spoken[-1].end is None

    # ---- what goes wrong

    def new_ssrc(self) -> None:
        """Go on as another stream, as after a transfer behind the trunk."""
        self.disturb(0.0)
        self._new_stream()

    def wrong_key(self, seconds: float) -> None:
        """For a while send what nobody can open."""
        key = self.connections[-1].send_key
        self._impostor = _session(SrtpKey(key.suite, self._rng.randbytes(len(key.master))), inbound=False)
        self.disturb(seconds)
        self._schedule.after(seconds, self._right_key)

    def move(self, silence_s: float) -> None:
        """An address translator forgets, and gives another port."""
        self.fall_silent()
        self.disturb(silence_s)
        self.address = (self.address[0], self.address[1] + 2)
        self._wire.own(self.address, self)
        self._schedule.after(silence_s, self.speak)

    def flood(self, source: Address, count: int) -> None:
        """Strangers send rubbish, some of it dressed up as this peer's."""
        for _ in range(count):
            size = self._rng.choice((0, 1, 11, 12, 40, 172, 182, 700, 1499, 1700))
            first = self._rng.choice((0x00, 0x01, 0x14, 0x16, 0x80, 0x80, 0x80, 0x90, 0xBF, 0xFF))
            second = self._rng.choice((0, 8, 111, 200, 201, self._rng.randrange(256)))
            head = struct.pack("!BBHII", first, second, self.sequence & 0xFFFF, self.timestamp & 0xFFFFFFFF, self.ssrc)
            data = (head + self._rng.randbytes(size))[:size]
            self._wire.paths[self.name].up.send(Datagram(source, RELAY, data))

    def replay(self, source: Address) -> None:
        """Somebody sends again what he overheard."""
        for data in self._sent:
            self._wire.paths[self.name].up.send(Datagram(source, RELAY, data))

    # ---- what it hears

    def receive_media(self, datagram: Datagram) -> None:
        self.last_heard = self._schedule.now
        for connection in reversed(self.connections):
            try:
                opened = connection.inbound.unprotect_rtcp if _is_rtcp(datagram.data) else connection.inbound.unprotect
                opened(datagram.data)
            except pylibsrtp.Error:
                continue
            self.received += 1
            return
        self.refused += 1

    def overhear(self, datagram: Datagram, life: int, tick: int) -> None:
        """What the relay sends to this peer, at the moment at which it does."""
        for index in range(len(self.connections) - 1, -1, -1):
            tap = self.connections[index].tap
            try:
                if _is_rtcp(datagram.data):
                    tap.unprotect_rtcp(datagram.data)
                    return
                plain = tap.unprotect(datagram.data)
            except pylibsrtp.Error:
                continue
            _, second, sequence, timestamp, _ = struct.unpack_from("!BBHII", plain)
            self.overheard.append(Overheard(life, tick, index, second & 0x7F, sequence, timestamp, plain[12:]))
            return
        self.forged += 1

    # ---- sending

    def _beat(self, turn: int) -> None:
        if turn != self._speaking:
            return
        number = self._number()
        connection = self.connections[-1]
        payload = self._say(connection.encoding, number % tones.CODES)
        samples = 960 if connection.encoding == "opus" else 160
        marker = 0x80 if self._first else 0
        timestamp = (self.timestamp + number * samples) & 0xFFFFFFFF
        head = struct.pack(
            "!BBHII", 0x80, marker | connection.payload_type, self.sequence & 0xFFFF, timestamp, self.ssrc
        )
        self._first = False
        self.sequence += 1
        data = (self._impostor or connection.outbound).protect(head + payload)
        self._sent = [*self._sent[-_REMEMBERED:], data]
        self._wire.paths[self.name].up.send(Datagram(self.address, RELAY, data))
        self._schedule.at(self._due(number + 1), lambda: self._beat(turn))

    def _say(self, encoding: Encoding, code: int) -> bytes:
        if encoding != "opus":
            return tones.payloads(self.hertz, encoding)[code]
        size = self._encoder.encode(tones.wide_frames(self.hertz)[code], self._coded)
        return self._coded[:size].tobytes()

    def _number(self) -> int:
        """Of the frame that was said last."""
        return int((self._schedule.now - self.phase) / 0.02 + 1e-6)

    def _due(self, number: int) -> float:
        return self.phase + number * 0.02

    def _new_stream(self) -> None:
        self.ssrc, self.timestamp = self._rng.getrandbits(32), self._rng.getrandbits(32)
        self.sequence = self._rng.getrandbits(15)
        self._first = True

    def _right_key(self) -> None:
        self._impostor = None

    def disturb(self, seconds: float) -> None:
        now = self._schedule.now
        self.disturbed.append(Stretch(now, now + seconds))


def _is_rtcp(data: bytes) -> bool:
    return len(data) > 1 and 192 <= data[1] <= 223


def _session(key: SrtpKey, *, inbound: bool) -> pylibsrtp.Session:
    kind = pylibsrtp.Policy.SSRC_ANY_INBOUND if inbound else pylibsrtp.Policy.SSRC_ANY_OUTBOUND
    return pylibsrtp.Session(pylibsrtp.Policy(key=key.master, ssrc_type=kind, srtp_profile=_PROFILES[key.suite]))
