"""A shared UDP socket with RFC 7983 demultiplexing, and a stock aiortc browser: the two ends of a softphone leg."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aioice.ice
import pytest
from aiortc import RTCCertificate, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack

from relay.media import Address, ControlDatagram, LegId
from relay.webrtc.softphone_leg import ReadyLeg, SoftphoneMediaSettings, SoftphoneTransports

CERTIFICATE = RTCCertificate.generateCertificate()


class SharedSocket(asyncio.DatagramProtocol):
    """What the plane's socket does: STUN and DTLS to the transports, SRTP to a list."""

    def __init__(self) -> None:
        self.srtp: list[tuple[bytes, Address]] = []
        self.transports: SoftphoneTransports | None = None
        self.arrived = asyncio.Event()

    def connection_made(self, transport):
        self.transport = transport
        self.local = transport.get_extra_info("sockname")[:2]

    def datagram_received(self, data, addr):
        addr = addr[:2]  # of IPv6 there would be flow and scope too
        if data and 128 <= data[0] < 192:
            self.srtp.append((data, addr))
            self.arrived.set()
        elif self.transports is not None:
            self.transports.datagram(ControlDatagram(self.local, addr, data))


@dataclass
class Relay:
    """Transports on shared loopback sockets, and what they said."""

    sockets: list[SharedSocket]
    transports: SoftphoneTransports
    ready: dict[LegId, ReadyLeg] = field(default_factory=dict)
    moved: list[tuple[LegId, Address, Address]] = field(default_factory=list)
    lost: dict[LegId, str] = field(default_factory=dict)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    telling: set[asyncio.Task[None]] = field(default_factory=set)

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10), self.changed:
            await self.changed.wait_for(condition)

    async def settle(self) -> None:
        """Until everything that was to be told has been."""
        if self.telling:
            await asyncio.wait(self.telling)

    def sent(self, local: Address, data: bytes, remote: Address) -> None:
        next(s for s in self.sockets if s.local == local).transport.sendto(data, remote)


@asynccontextmanager
async def shared_sockets(
    count: int = 1, settings: SoftphoneMediaSettings | None = None, *, hosts: tuple[str, ...] = ("127.0.0.1",)
) -> AsyncIterator[Relay]:
    """`count` sockets on each host."""
    loop = asyncio.get_running_loop()
    sockets = [
        (await loop.create_datagram_endpoint(SharedSocket, local_addr=(host, 0)))[1]
        for host in hosts
        for _ in range(count)
    ]

    def told() -> None:
        async def notify() -> None:
            async with relay.changed:
                relay.changed.notify_all()

        task = asyncio.create_task(notify())
        relay.telling.add(task)
        task.add_done_callback(relay.telling.discard)

    def ready(leg_id: LegId, leg: ReadyLeg) -> None:
        relay.ready[leg_id] = leg
        told()

    def lost(leg_id: LegId, reason: str) -> None:
        relay.lost[leg_id] = reason
        told()

    transports = SoftphoneTransports(
        [s.local for s in sockets],
        lambda local, data, remote: relay.sent(local, data, remote),  # noqa: PLW0108 - relay comes after
        CERTIFICATE,
        entropy=os.urandom,
        on_ready=ready,
        on_moved=lambda leg_id, local, remote: relay.moved.append((leg_id, local, remote)),
        on_lost=lost,
        settings=settings,
    )
    relay = Relay(sockets, transports)
    for s in sockets:
        s.transports = transports
    try:
        yield relay
    finally:
        await transports.close_all()
        for s in sockets:
            s.transport.close()
        await relay.settle()


@asynccontextmanager
async def browser(track=None, *, hosts: tuple[str, ...] = ("127.0.0.1",)) -> AsyncIterator[RTCPeerConnection]:
    """A stock aiortc peer with an offer made, on loopback alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: list(hosts))
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        connection.addTrack(track or AudioStreamTrack())
        await connection.setLocalDescription(await connection.createOffer())
    try:
        yield connection
    finally:
        await connection.close()


async def call(connection: RTCPeerConnection, relay: Relay, leg_id: LegId) -> None:
    answer = await relay.transports.connect(leg_id, connection.localDescription.sdp)
    await connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
