"""A telephone whose every packet the test has in its hand: SIP over TLS by the product's user agent, media its own."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import pylibsrtp

from relay.certificates import client_context
from relay.media import SrtpKey
from relay.ready import Ready
from signaling.sip import events as sip
from signaling.sip import negotiation
from signaling.sip.digest import Credentials
from signaling.sip.socket import SipSockets
from signaling.sip.trunks import Trunks
from signaling.sip.user_agent import UserAgent
from tests.interop.listening import CUSTOMER_HZ, Samples, Sound, tone
from tests.interop.relay_process import wait_until
from tests.relay.media_peers import mu_law, mu_samples, session

RATE = 8_000
FRAME = 160
NUMBER = "+4930555020"

Wire = Callable[[int, bytes], list[tuple[float, bytes]]]
"""What becomes of a packet: what is really sent, each after how many seconds."""


def perfect_wire(_number: int, packet: bytes) -> list[tuple[float, bytes]]:
    return [(0.0, packet)]


@dataclass
class RoughWire:
    """Loses, repeats and delays packets, by a seed."""

    rng: random.Random
    loss: float = 0.05
    again: float = 0.05
    late: float = 0.05
    late_seconds: float = 0.05
    """More than two packets: those behind overtake it."""
    lost: int = 0

    def __call__(self, _number: int, packet: bytes) -> list[tuple[float, bytes]]:
        if self.rng.random() < self.loss:
            self.lost += 1
            return []
        sent = [(self.late_seconds if self.rng.random() < self.late else 0.0, packet)]
        if self.rng.random() < self.again:
            sent.append((self.rng.uniform(0.0, 0.1), packet))
        return sent


class PhoneMedia(asyncio.DatagramProtocol):
    """G.711 over SRTP, a packet every 20 ms."""

    def __init__(self, sound: Sound, wire: Wire = perfect_wire) -> None:
        self.wire = wire
        self.ssrc = random.randrange(1 << 32)
        self.sent: list[tuple[float, int]] = []
        """When each packet left (monotonic), and its first sample."""
        self.heard: list[tuple[float, bytes]] = []
        """When each packet came, and its codes."""
        self.refused = 0
        self.remote: tuple[str, int] = ("", 0)
        self._sound = sound
        self._sequence = random.randrange(1 << 15)
        self._offset = random.randrange(1 << 31)
        self._transport: asyncio.DatagramTransport | None = None
        self._sending: asyncio.Task[None] | None = None
        self._outbound: pylibsrtp.Session | None = None
        self._inbound: pylibsrtp.Session | None = None

    async def open(self) -> tuple[str, int]:
        self._transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: self, local_addr=("127.0.0.1", 0)
        )
        host, port = self._transport.get_extra_info("sockname")
        return host, port

    def start(self, media: negotiation.MediaParameters) -> None:
        assert media.remote is not None
        assert media.send_key is not None
        assert media.receive_key is not None
        self.remote = media.remote
        self._outbound = session(SrtpKey(media.send_key.suite, media.send_key.master), inbound=False)
        self._inbound = session(SrtpKey(media.receive_key.suite, media.receive_key.master), inbound=True)
        self._sending = asyncio.create_task(self._send(), name="phone's voice")

    def renumber(self) -> None:
        """Go on as another source: other SSRC, sequence numbers and timestamps (RFC 3550 §8.2)."""
        self.ssrc = random.randrange(1 << 32)
        self._sequence = random.randrange(1 << 15)
        self._offset = random.randrange(1 << 31)

    def listen(self, seconds: float) -> Samples:
        """The last that was heard, in order of arrival."""
        frames = round(seconds * 50)
        return mu_samples(b"".join(codes for _, codes in self.heard[-frames:])).astype(np.int16)

    async def hear(self, seconds: float) -> Samples:
        """What comes next."""
        wanted = len(self.heard) + round(seconds * 50)
        await wait_until(lambda: len(self.heard) >= wanted, seconds + 5.0, what="sound at the phone")
        return self.listen(seconds)

    async def close(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.gather(self._sending, return_exceptions=True)
        if self._transport is not None:
            self._transport.close()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if self._inbound is None or 192 <= data[1] <= 223:  # RFC 5761 §4
            return
        try:
            packet = self._inbound.unprotect(data)
        except pylibsrtp.Error:
            self.refused += 1
        else:
            self.heard.append((asyncio.get_running_loop().time(), packet[12:]))

    async def _send(self) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        number = 0
        while True:
            self._send_packet(number, loop)
            number += 1
            await asyncio.sleep(max(0.0, begun + number * 0.02 - loop.time()))

    def _send_packet(self, number: int, loop: asyncio.AbstractEventLoop) -> None:
        assert self._outbound is not None
        first = number * FRAME
        timestamp = (self._offset + first) & 0xFFFFFFFF
        header = struct.pack("!BBHII", 0x80, 0x80 * (number == 0), self._sequence & 0xFFFF, timestamp, self.ssrc)
        self._sequence += 1
        packet = self._outbound.protect(header + mu_law(self._sound(first, FRAME)))
        self.sent.append((loop.time(), first))
        for delay, data in self.wire(number, packet):
            loop.call_later(delay, self._transmit, data) if delay else self._transmit(data)

    def _transmit(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(data, self.remote)


@dataclass
class Phone:
    """One call on the demo's trunk."""

    ready: Ready
    sound: Sound = field(default_factory=lambda: tone(CUSTOMER_HZ, RATE))
    wire: Wire = perfect_wire
    events: list[sip.UserAgentEvent] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        self.media = PhoneMedia(self.sound, self.wire)
        self._agent = UserAgent(
            sip.UserAgentSettings(product="Test phone"), Trunks(()), entropy=os.urandom, rng=random.SystemRandom()
        )
        self._sockets = SipSockets(self._agent, (), self._take, client_tls=client_context(Path(self.ready.ca_file)))
        await self._sockets.start()
        local = negotiation.LocalMedia(await self.media.open())
        self._offer = negotiation.make_offer(local, entropy=os.urandom)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.media.close()
        await self._sockets.stop()

    async def call(self) -> None:
        """Returns when the call was answered, by the queue's music."""
        self.dial()
        await self.wait(sip.CallAnswered)

    def dial(self) -> None:
        assert self.ready.trunk is not None
        host, _, port = self.ready.sips_address.rpartition(":")
        invite = sip.Invite(
            target=self.ready.trunk.dial,
            caller=f"sip:{NUMBER}@{host}",
            offer=self._offer.encode(),
            transport="tls",
            host=host,
            port=int(port),
            credentials=Credentials(self.ready.trunk.username, self.ready.trunk.password),
        )
        self._call = self._agent.invite(invite, self._sockets.now())
        self._sockets.transmit()

    def hang_up(self) -> None:
        self._agent.hang_up(self._call, self._sockets.now())
        self._sockets.transmit()

    async def wait(self, kind: type[sip.UserAgentEvent], seconds: float = 10.0) -> sip.UserAgentEvent:
        found: list[sip.UserAgentEvent] = await wait_until(
            lambda: [event for event in self.events if isinstance(event, kind)],
            seconds,
            what=f"{kind.__name__} at the phone",
        )
        return found[0]

    def _take(self, events: list[sip.UserAgentEvent], _now: float) -> None:
        for event in events:
            if isinstance(event, sip.CallAnswered):
                self.media.start(negotiation.accept_answer(self._offer, event.answer).media)
            self.events.append(event)


class Junk:
    """A stranger's socket."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setblocking(False)

    def send(self, data: bytes, remote: tuple[str, int]) -> None:
        try:
            self._socket.sendto(data, remote)
        except BlockingIOError:
            return

    def close(self) -> None:
        self._socket.close()
