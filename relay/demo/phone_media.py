"""The media of a plain telephone: G.711 over SRTP on one UDP socket, a frame every 20 ms.

It shares no code with the relay's own media path but the G.711 tables, so that a demo call is heard by another
implementation than the one that sent it.
"""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pylibsrtp

from relay.codecs import g711

if TYPE_CHECKING:
    from collections.abc import Callable

RATE: Literal[8000] = 8000
FRAME = 160
FRAMES_MAX = 50 * 3600
"""An hour of received sound is kept at most; what comes later is not."""

Samples = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class MediaSetup:
    """What offer and answer settled: where to send, how, and under which keys (SDES master key ‖ salt)."""

    remote: tuple[str, int]
    encoding: Literal["PCMU", "PCMA"]
    payload_type: int
    suite: str
    send_key: bytes
    receive_key: bytes


class PhoneMedia(asyncio.DatagramProtocol):
    """One telephone's sound: `source(first_sample)` gives 160 samples a frame; what comes is kept in `heard`."""

    def __init__(self, source: Callable[[int], Samples], *, ssrc: int) -> None:
        self._source = source
        self._ssrc = ssrc
        self._transport: asyncio.DatagramTransport | None = None
        self._setup: MediaSetup | None = None
        self._outbound: pylibsrtp.Session | None = None
        self._inbound: pylibsrtp.Session | None = None
        self._sender: asyncio.Task[None] | None = None
        self._first_timestamp: int | None = None
        self._frames: dict[int, bytes] = {}
        self.packets_received = 0
        self.packets_refused = 0

    async def open(self, host: str) -> tuple[str, int]:
        """Bind a port on `host` and return the address to offer."""
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=(host, 0))
        self._transport = transport
        name: tuple[str, int] = transport.get_extra_info("sockname")
        return name[0], name[1]

    def start(self, setup: MediaSetup) -> None:
        """Begin to send, and to understand what comes."""
        self._setup = setup
        self._outbound = pylibsrtp.Session(_policy(setup.suite, setup.send_key, inbound=False))
        self._inbound = pylibsrtp.Session(_policy(setup.suite, setup.receive_key, inbound=True))
        self._sender = asyncio.get_running_loop().create_task(self._send())

    async def close(self) -> None:
        """Stop sending and give the port back."""
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.gather(self._sender, return_exceptions=True)
        if self._transport is not None:
            self._transport.close()

    def heard(self, first_s: float, seconds: float) -> Samples:
        """What came in a stretch, counted from the first packet; missing frames are silence."""
        first, count = round(first_s * 50), round(seconds * 50)
        frames = [self._frames.get(n, b"") for n in range(first, first + count)]
        codes = np.frombuffer(b"".join(frame or bytes([self._silence()]) * FRAME for frame in frames), np.uint8)
        return self._decode(codes)

    @property
    def heard_seconds(self) -> float:
        """How long, from the first packet to the last."""
        return (max(self._frames) + 1) / 50 if self._frames else 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Nothing to do: `open` keeps the transport."""

    def error_received(self, exc: Exception) -> None:
        """A refused datagram is the network's affair, not the call's."""

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Keep an authentic frame at its place on the timeline."""
        if self._inbound is None or self._setup is None or len(data) < 12 or data[0] >> 6 != 2:
            return
        if 192 <= data[1] <= 223:  # RTCP, RFC 5761 §4: a plain telephone needs none of it
            return
        try:
            packet = self._inbound.unprotect(data)
        except pylibsrtp.Error:
            self.packets_refused += 1
            return
        if packet[1] & 0x7F == self._setup.payload_type and len(packet) == 12 + FRAME:
            self.packets_received += 1
            self._keep(struct.unpack_from("!I", packet, 4)[0], packet[12:])

    def _keep(self, timestamp: int, payload: bytes) -> None:
        if self._first_timestamp is None:
            self._first_timestamp = timestamp
        frame = ((timestamp - self._first_timestamp) & 0xFFFFFFFF) // FRAME
        if frame < FRAMES_MAX:
            self._frames[frame] = payload

    async def _send(self) -> None:
        assert self._setup is not None, "start() sets it before the task runs"
        assert self._outbound is not None, "likewise"
        assert self._transport is not None, "open() comes before start()"
        loop = asyncio.get_running_loop()
        begun = loop.time()
        for frame in range(FRAMES_MAX):
            payload = self._encode(self._source(frame * FRAME))
            marker = 0x80 if frame == 0 else 0
            header = struct.pack(
                "!BBHII",
                0x80,
                marker | self._setup.payload_type,
                frame & 0xFFFF,
                frame * FRAME & 0xFFFFFFFF,
                self._ssrc,
            )
            self._transport.sendto(self._outbound.protect(header + payload), self._setup.remote)
            await asyncio.sleep(max(0.0, begun + (frame + 1) * 0.02 - loop.time()))

    def _encode(self, samples: Samples) -> bytes:
        codes = np.empty(samples.size, np.uint8)
        g711.encode(self._law, np.ascontiguousarray(samples), codes)
        return codes.tobytes()

    def _decode(self, codes: npt.NDArray[np.uint8]) -> Samples:
        samples = np.empty(codes.size, np.int16)
        g711.decode_int16(self._law, codes, samples)
        return samples

    @property
    def _law(self) -> g711.Law:
        return "PCMU" if self._setup is None else self._setup.encoding

    def _silence(self) -> int:
        return g711.SILENCE[self._law]


def _policy(suite: str, key: bytes, *, inbound: bool) -> pylibsrtp.Policy:
    policy: Any = pylibsrtp.Policy  # the library is not typed
    profiles: dict[str, int] = {
        "AES_CM_128_HMAC_SHA1_80": policy.SRTP_PROFILE_AES128_CM_SHA1_80,
        "AES_CM_128_HMAC_SHA1_32": policy.SRTP_PROFILE_AES128_CM_SHA1_32,
    }
    direction = policy.SSRC_ANY_INBOUND if inbound else policy.SSRC_ANY_OUTBOUND
    return pylibsrtp.Policy(key=key, ssrc_type=direction, srtp_profile=profiles[suite])
