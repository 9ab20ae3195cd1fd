"""The far ends of `benchmarks.softphone_transport`: browsers with stock ICE and DTLS of aiortc, and SDES telephones.

Once a browser's keys are there, its packets are encrypted beforehand: sending them is then the kernel's work alone. Its
ICE stays aiortc's, which answers consent checks and asks for consent itself, as browsers do. Everything that comes is
decrypted and compared with what the neighbour said.
"""

from __future__ import annotations

import asyncio
import os
import random
import resource
import socket
import time
from dataclasses import dataclass

import aioice.ice
import numpy as np
import pylibsrtp
from aiortc import (
    RTCCertificate,
    RTCDtlsFingerprint,
    RTCDtlsParameters,
    RTCDtlsTransport,
    RTCIceGatherer,
    RTCIceParameters,
    RTCIceTransport,
)
from aiortc.sdp import SessionDescription

from mixer.speech_like import speech_like
from relay.bench import machine
from relay.codecs.opus import PAYLOAD_BYTES_MAX, OpusEncoder
from relay.media import Address, SrtpKey, SrtpSuite
from relay.plane.rtcp import Report, build

_CORES = sorted(os.sched_getaffinity(0))
RELAY_CORE, LOAD_CORE = _CORES[0], _CORES[-1]
"""The relay's process sees only its own: there both are that."""
SSRC = 0x20000000
RTCP_TICKS = 250
_KEY_BYTES = {"AES_CM_128_HMAC_SHA1_80": 30, "AEAD_AES_128_GCM": 28, "AEAD_AES_256_GCM": 44}
_PROFILES = {
    "AES_CM_128_HMAC_SHA1_80": pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    "AEAD_AES_128_GCM": pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    "AEAD_AES_256_GCM": pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_256_GCM,
}
_OFFERS = {"PCMU": (0, "PCMU/8000", 160), "opus": (111, "opus/48000/2", 960)}
_SDP = """v=0
o=- 1 1 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0
a=msid-semantic:WMS *
m=audio 9 UDP/TLS/RTP/SAVPF {payload_type}
c=IN IP4 0.0.0.0
a=mid:0
a=sendrecv
a=rtcp-mux
a=rtcp:9 IN IP4 0.0.0.0
a=rtpmap:{payload_type} {rtpmap}
a=ssrc:{ssrc} cname:{ssrc}
{candidates}
a=end-of-candidates
a=ice-ufrag:{fragment}
a=ice-pwd:{password}
a=fingerprint:sha-256 {fingerprint}
a=setup:actpass
"""


def only_loopback() -> None:
    """Let aiortc's ICE use 127.0.0.1, which it leaves out, and nothing else."""
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]


class ProcessWindow:
    """CPU of this process, as the kernel counts it: all threads, and the one that asks; and what else used its core."""

    def begin(self) -> None:
        """From now on."""
        self._cpu, self._at, self._core = _cpu(), time.monotonic(), machine.core_seconds(RELAY_CORE)
        self._thread = time.thread_time()

    def end(self) -> dict[str, float]:
        """Until now."""
        cpu, seconds = _cpu() - self._cpu, time.monotonic() - self._at
        others = max(0.0, machine.core_seconds(RELAY_CORE) - self._core - cpu) / seconds
        control = time.thread_time() - self._thread
        return {
            "cpu_ms": cpu * 1000,
            "control_ms": control * 1000,
            "seconds": seconds,
            "others_on_core": round(others, 3),
        }


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def trunk_keys(number: int, suite: str) -> tuple[SrtpKey, SrtpKey]:
    """What a trunk's telephone encrypts with, and the relay towards it."""
    made = random.Random(number)
    size = _KEY_BYTES[suite]
    named: SrtpSuite = suite  # type: ignore[assignment] # from the relay's own process
    return SrtpKey(named, made.randbytes(size)), SrtpKey(named, made.randbytes(size))


def session(key: SrtpKey, kind: int) -> pylibsrtp.Session:
    """One direction's SRTP."""
    return pylibsrtp.Session(pylibsrtp.Policy(key=key.master, ssrc_type=kind, srtp_profile=_PROFILES[key.suite]))


def g711_frame(number: int) -> bytes:
    """20 ms that are nobody else's; twice the same 10 ms, so that it does not matter where a packet is cut."""
    return bytes(np.random.default_rng(number).integers(0x90, 0xF0, 80, np.uint8)) * 2


def opus_frames(count: int) -> list[bytes]:
    """Voice that says nothing, 48 kHz."""
    encoder, out = OpusEncoder(48000), np.zeros(PAYLOAD_BYTES_MAX, np.uint8)
    voice = speech_like(48000, 4, 1).astype(np.int16).reshape(-1, 960)[50:100]
    return [bytes(out[: encoder.encode(voice[number % len(voice)], out)]) for number in range(count)]


@dataclass(slots=True)
class Counted:
    """What one far end heard."""

    authentic: int = 0
    right: int = 0
    """Authentic packets with exactly the neighbour's sound."""
    refused: int = 0
    reports: int = 0


class FarEnd:
    """One telephone: numbered from 0, in pairs."""

    def __init__(self, number: int, encoding: str = "PCMU") -> None:
        self.number = number
        self.payload_type, self.rtpmap, self._step = _OFFERS[encoding]
        self.counted = Counted()
        self.sent = 0
        self.socket: socket.socket
        self.relay: Address
        self.outbound: pylibsrtp.Session
        self.inbound: pylibsrtp.Session
        self._expected = g711_frame(number ^ 1)
        self._encoding = encoding
        self._packets: list[bytes] = []
        self._heard: list[bytes] = []
        """SRTP and SRTCP, not decrypted yet: while time is kept there is none to spare."""
        self._sequence = 0

    def encrypt(self, ticks: int) -> None:
        """Make the packets of so many ticks, after those that were made before."""
        self._packets = []
        frames = opus_frames(50) if self._encoding == "opus" else [g711_frame(self.number)]
        for sequence in range(self._sequence, self._sequence + ticks):
            marker = 0x80 if sequence == self._sequence else 0
            plain = bytes((0x80, self.payload_type | marker)) + sequence.to_bytes(2, "big")
            plain += (sequence * self._step).to_bytes(4, "big") + (SSRC + self.number).to_bytes(4, "big")
            self._packets.append(self.outbound.protect(plain + frames[sequence % len(frames)]))
        self._sequence += ticks

    def send(self, tick: int) -> None:
        """The packet of a tick."""
        self.transmit(self._packets[tick])
        self.sent += 1

    def report(self) -> None:
        """RTCP, as browsers send it with or without media."""
        self.transmit(self.outbound.protect_rtcp(build(Report(SSRC + self.number, None, ()), b"bench")))

    def listen(self) -> None:
        """Take what has come: polled once a tick, since a callback a packet would cost as much as the relay."""
        while True:
            try:
                data = self.socket.recv(2048)
            except BlockingIOError:
                return
            if 128 <= data[0] < 192:
                self._heard.append(data)
            else:
                self.hear_other(data)

    def take(self) -> list[bytes]:
        """What was heard since the last time."""
        taken, self._heard = self._heard, []
        return taken

    def count(self, heard: list[bytes]) -> Counted:
        """Decrypt what was heard, and compare it with what the neighbour said."""
        self.counted = Counted()
        for data in heard:
            self._count(data)
        return self.counted

    def _count(self, data: bytes) -> None:
        try:
            if 192 <= data[1] <= 223:
                self.inbound.unprotect_rtcp(data)
                self.counted.reports += 1
                return
            plain = self.inbound.unprotect(data)
        except pylibsrtp.Error:
            self.counted.refused += 1
            return
        self.counted.authentic += 1
        self.counted.right += plain[12:] == self._expected

    def hear_other(self, data: bytes) -> None:
        """STUN or DTLS came."""

    def transmit(self, data: bytes) -> None:
        """Send to the relay."""
        self.socket.sendto(data, self.relay)


class Browser(FarEnd):
    """ICE and DTLS of aiortc, on a socket of its own."""

    def __init__(self, number: int, certificate: RTCCertificate, encoding: str = "PCMU") -> None:
        super().__init__(number, encoding)
        self._certificate = certificate
        self._gatherer = RTCIceGatherer(iceServers=[])
        self._ice = RTCIceTransport(self._gatherer)
        self._ice._connection.ice_controlling = True
        self._dtls = RTCDtlsTransport(self._ice, [certificate])

    async def offer(self) -> str:
        """What the page would send to the relay."""
        await self._gatherer.gather()
        local = self._gatherer.getLocalParameters()
        fingerprint = next(f for f in self._certificate.getFingerprints() if f.algorithm == "sha-256")
        return _SDP.format(
            payload_type=self.payload_type,
            rtpmap=self.rtpmap,
            ssrc=SSRC + self.number,
            candidates="\n".join(f"a=candidate:{c.to_sdp()}" for c in self._ice._connection.local_candidates),
            fragment=local.usernameFragment,
            password=local.password,
            fingerprint=fingerprint.value,
        ).replace("\n", "\r\n")

    async def connect(self, answer: str) -> None:
        """Everything up to the keys."""
        media = SessionDescription.parse(answer).media[0]
        for candidate in media.ice_candidates:
            if candidate.ip == "127.0.0.1":
                await self._ice.addRemoteCandidate(candidate)
        await self._ice.addRemoteCandidate(None)
        await self._ice.start(RTCIceParameters(media.ice.usernameFragment, media.ice.password))
        assert self._ice.state == "completed", "loopback loses nothing"
        self._dtls._set_role("server" if media.dtls.role == "client" else "client")
        fingerprints = [RTCDtlsFingerprint(f.algorithm, f.value) for f in media.dtls.fingerprints]
        await self._dtls.start(RTCDtlsParameters(fingerprints))
        assert self._dtls.state == "connected", "the certificates are as the descriptions say"
        self.outbound, self.inbound = self._dtls._tx_srtp, self._dtls._rx_srtp
        pair = self._ice._connection._nominated[1]
        self._for_aiortc, self.relay = pair.protocol.datagram_received, pair.remote_addr
        descriptor = pair.protocol.transport.get_extra_info("socket").fileno()
        self.socket = socket.socket(fileno=os.dup(descriptor))
        asyncio.get_running_loop()._remove_reader(descriptor)  # type: ignore[attr-defined]

    def hear_other(self, data: bytes) -> None:
        """Consent checks and DTLS are for aiortc; SRTP is not, where a packet would cost twenty times as much."""
        self._for_aiortc(data, self.relay)

    async def close(self) -> None:
        """Hang up."""
        await self._dtls.stop()
        await self._ice.stop()
        self.socket.close()


class Telephone(FarEnd):
    """A trunk's end with keys by SDES."""

    def __init__(self, number: int, suite: str) -> None:
        super().__init__(number)
        keys = trunk_keys(number, suite)
        self.outbound = session(keys[0], pylibsrtp.Policy.SSRC_ANY_OUTBOUND)
        self.inbound = session(keys[1], pylibsrtp.Policy.SSRC_ANY_INBOUND)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.bind(("127.0.0.1", 0))

    @property
    def address(self) -> Address:
        """Where it listens."""
        name: Address = self.socket.getsockname()
        return name

    async def close(self) -> None:
        """Hang up."""
        self.socket.close()
