"""Lives of legs, thousands in a row on one plane: opened, used and abused in every way, and closed."""

from __future__ import annotations

import functools
import random
import struct
from collections import Counter, deque
from dataclasses import dataclass, replace

from recorder.capture import Captured
from relay import media
from relay.media import Address, Codec, ConferenceId, Gain, LegId, MediaCommand, OpenLeg, SetCrosspoints, Step
from relay.plane.plane import Plane
from relay.plane.stages import PlaneSettings
from tests.relay.media_peers import LOCAL, SimulatedSockets, key, session

LEGS_MAX = 240
A_TICK = 20
"""Lives that begin in a tick."""
LIFE_TICKS = 8
_KEYS = 16
_PACKETS = LIFE_TICKS + 4
_OPUS_SILENCE = b"\xf8\xff\xfe"
OTHER: Address = ("127.0.0.2", 40000)


@dataclass(frozen=True, slots=True)
class Character:
    """Keys, and packets of a telephone that has them, made once and used by every life of that character."""

    receive: media.SrtpKey | None
    send: media.SrtpKey | None
    codec: Codec
    sound: tuple[bytes, ...]
    events: tuple[bytes, ...]
    reports: tuple[bytes, ...]


@functools.cache
def characters() -> tuple[Character, ...]:
    """G.711 and Opus with keys, and G.711 without: six, one and two of nine."""
    kinds = [(Codec("PCMU", 0), True)] * 4 + [(Codec("PCMA", 8), True)] * 2
    kinds += [(Codec("opus", 111, complexity=0), True)] + [(Codec("PCMU", 0), False)] * 2
    return tuple(_character(seed, *kinds[seed % len(kinds)]) for seed in range(_KEYS * len(kinds)))


def _character(seed: int, codec: Codec, secured: bool) -> Character:
    suites: tuple[media.SrtpSuite, ...] = ("AES_CM_128_HMAC_SHA1_80", "AEAD_AES_128_GCM", "AEAD_AES_256_GCM")
    receive = key(seed, suites[seed % 3]) if secured else None
    peer = session(receive, inbound=False) if receive else None
    clock, payload = (960, _OPUS_SILENCE) if codec.encoding == "opus" else (160, bytes([seed & 0xFF]) * 160)

    def rtp(sequence: int, payload_type: int, timestamp: int, body: bytes, ssrc: int = 77) -> bytes:
        plain = struct.pack("!BBHII", 0x80, payload_type, sequence, timestamp, ssrc) + body
        return peer.protect(plain) if peer else plain

    event = struct.pack("!BBH", 5, 10, 160)  # never said to end
    report = struct.pack("!BBHI", 0x80, 201, 1, 77)
    return Character(
        receive,
        key(seed + 1000, suites[seed % 3]) if secured else None,
        codec,
        tuple(rtp(n, codec.payload_type, clock * n, payload, 77 + n // 7) for n in range(_PACKETS)),
        tuple(rtp(_PACKETS + n, 101, 0, event, 77) for n in range(2)),
        tuple(peer.protect_rtcp(report) if peer else report for _ in range(3)),
    )


@dataclass(slots=True)
class Life:
    """One leg."""

    number: int
    character: Character
    address: Address
    contact: str
    ends: int
    talks: bool

    @property
    def leg_id(self) -> LegId:
        return LegId(f"leg-{self.number}")

    def open(self, rng: random.Random) -> OpenLeg:
        return OpenLeg(
            self.leg_id,
            self.character.codec,
            rng.getrandbits(32),
            self.character.receive,
            self.character.send,
            LOCAL,
            self.address if rng.random() < 0.9 else None,
            (self.address[0], self.address[1] + 1) if rng.random() < 0.3 else None,
            101,
            latch=rng.random() < 0.8,
        )


class Soak:
    """A plane, and lives on it: `live` begins and ends so many, `drain` waits until the last has ended."""

    def __init__(self, seed: int = 1) -> None:
        self.cycles = 0
        self.events: Counter[str] = Counter()
        self.captured: Counter[str] = Counter()
        self.now = 100.0
        self.rng = random.Random(seed)
        self.sockets = SimulatedSockets((LOCAL, OTHER))
        settings = PlaneSettings(legs_max=LEGS_MAX, tracks_max=LEGS_MAX)
        self.plane = Plane(
            settings, self.sockets, self._sink, entropy=self.rng.randbytes, wall=lambda now: 1_800_000_000.0 + now
        )
        self._lives: deque[Life] = deque()

    def live(self, cycles: int) -> None:
        """So many legs more."""
        until = self.cycles + cycles
        while self.cycles < until:
            self._begin_some(min(A_TICK, until - self.cycles))
            self._tick()

    def drain(self) -> None:
        """Until nothing is open, and a little longer."""
        for _ in range(LIFE_TICKS + 60):
            self._tick()

    def _sink(self, captured: list[Captured]) -> None:
        self.captured.update(type(each).__name__ for each in captured)

    def _tick(self) -> None:
        tick = self.plane.tick_number + 1
        for life in self._lives:
            self._speak(life, tick)
        self._end_some(tick)
        self.events.update(type(event).__name__ for event in self.plane.tick(self.now))
        self.sockets.sent.clear()
        self.now = round(self.now + 0.02, 6)

    def _begin_some(self, count: int) -> None:
        tick = self.plane.tick_number + 1
        for _ in range(0, count, 2):
            pair = [self._begin(tick) for _ in range(2)]
            self._connect(*pair)
            self._lives += pair

    def _begin(self, tick: int) -> Life:
        self.cycles += 1
        number = self.cycles
        character = self.rng.choice(characters())
        address = (f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}", 2 * self.rng.randrange(500, 30_000))
        ends = tick + self.rng.randrange(2, LIFE_TICKS + 1)
        return Life(number, character, address, f"contact-{number}", ends, self.rng.random() < 0.7)

    def _connect(self, one: Life, other: Life) -> None:
        """Open two legs; most are connected, many are recorded, some at each end are refused."""
        rng, contact = self.rng, one.contact
        other.contact = contact
        commands: list[MediaCommand] = [one.open(rng), other.open(rng)]
        if rng.random() < 0.1:
            commands.append(rng.choice(self._refused(one)))
        if rng.random() < 0.8:
            gains = [Gain(one.leg_id, other.leg_id, 1.0), Gain(other.leg_id, one.leg_id, rng.choice([1.0, 0.5]))]
            music = [Gain(one.leg_id, media.SourceId("music"), 0.3)] if rng.random() < 0.3 else []
            commands.append(SetCrosspoints(ConferenceId(contact), (*gains, *music)))
        if rng.random() < 0.4:
            commands.append(media.OpenRecording(contact))
            for leg, direction in ((one, "from_leg"), (other, "from_leg"), (one, "to_leg")):
                rule = rng.choice([None, "G2"])
                commands.append(
                    media.OpenTrack(
                        contact, f"{leg.leg_id} {direction}", leg.leg_id, "p", "agent", rule, direction=direction
                    )  # type: ignore[arg-type]
                )
        self.plane.apply(Step(contact, tuple(commands), (b"{}",)))

    def _refused(self, life: Life) -> list[MediaCommand]:
        """Commands that cannot be carried out."""
        again, nobody = life.open(self.rng), LegId("nobody")
        return [
            again,
            replace(again, leg_id=nobody, remote=("somewhere", 1)),
            replace(again, leg_id=nobody, codec=Codec("opus", 111, complexity=99)),
            replace(again, leg_id=nobody, receive_key=media.SrtpKey("AEAD_AES_128_GCM", b"short")),
            media.CloseLeg(nobody),
            media.CloseTrack("no contact", "no track"),
            media.OpenTrack("no contact", "no track", life.leg_id, "p", "agent"),
            SetCrosspoints(ConferenceId("x"), (Gain(life.leg_id, nobody, 1.0),)),
        ]

    def _speak(self, life: Life, tick: int) -> None:
        """What comes from a leg in a tick, and what is done with it in mid-life."""
        rng, age = self.rng, tick - (life.ends - LIFE_TICKS)
        if not life.talks or age < 0:
            return
        character, source = life.character, life.address
        chance = rng.random()
        self.sockets.deliver(self.now - 0.004, character.sound[age % _PACKETS], source)
        if chance < 0.05:
            self.sockets.deliver(self.now - 0.003, rng.choice(character.events), source)
        elif chance < 0.10:
            self.sockets.deliver(self.now - 0.003, rng.choice(character.reports), source)
        elif chance < 0.13:
            self.sockets.deliver(
                self.now - 0.003, rng.randbytes(rng.randrange(200)), (f"192.0.2.{rng.randrange(9)}", 9)
            )
        elif chance < 0.18:
            life.address = (source[0], source[1] + 2)
            reports = (source[0], source[1] + 3) if rng.random() < 0.5 else None
            local = OTHER if rng.random() < 0.2 else None
            self.plane.apply(Step(None, (media.MoveLeg(life.leg_id, life.address, reports, local),)))
        elif chance < 0.22 and character.receive and character.send:
            self.plane.apply(Step(None, (media.RekeyLeg(life.leg_id, character.receive, character.send),)))
        elif chance < 0.24:
            self._break(life)

    def _break(self, life: Life) -> None:
        """A defect in the work on this leg alone: its decoder is gone, and the plane has to end it."""
        leg = self.plane.stages.legs.by_id.get(life.leg_id)
        if leg is not None:
            leg.opus = None

    def _end_some(self, tick: int) -> None:
        """In one of the orders that a control plane may choose; what it forgets, the leg's end has to do."""
        rng = self.rng
        for life in [life for life in self._lives if life.ends <= tick]:
            self._lives.remove(life)
            commands: list[MediaCommand] = [media.CloseLeg(life.leg_id)]
            others = any(other.contact == life.contact for other in self._lives)
            if not others:
                # A recording belongs to its contact, and not to a leg: somebody has to close it.
                commands.insert(rng.randrange(2), media.CloseRecording(life.contact))
            if rng.random() < 0.5:
                commands.insert(rng.randrange(len(commands) + 1), SetCrosspoints(ConferenceId(life.contact), ()))
            self.plane.apply(Step(life.contact, tuple(commands)))
