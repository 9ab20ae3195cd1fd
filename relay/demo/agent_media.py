"""A browser's media without a browser: a stock aiortc connection that sends a tone and keeps what it hears.

It shares no code with the relay's own media path, so that a demo call is heard by another implementation than the one
that sent it.
"""

from __future__ import annotations

import asyncio
import fractions
import time
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import aioice.ice
import av
import numpy as np
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError

from relay import interfaces
from relay.demo.hearing import Heard, listen, tone

RATE = 48_000
FRAME = 960
KEPT_SECONDS = 60.0
"""How far back what was heard is kept."""


@dataclass(frozen=True, slots=True)
class _Arrived:
    """One frame of what was heard, and when it came (monotonic seconds)."""

    at: float
    samples: np.ndarray[tuple[int], np.dtype[np.int16]]


class ToneTrack(MediaStreamTrack):
    """A microphone that hears one constant tone."""

    kind = "audio"

    def __init__(self, hz: float, dbfs: float) -> None:
        super().__init__()
        self._hz = hz
        self._dbfs = dbfs
        self._sample = 0
        self._begun = 0.0
        self.resume()

    def resume(self) -> None:
        """Go on with the next sample now, however long the track was detached."""
        self._begun = time.monotonic() - self._sample / RATE

    async def recv(self) -> av.AudioFrame:
        """The next 20 ms, when they are due."""
        due = self._begun + self._sample / RATE
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        samples = tone(self._hz, RATE, FRAME, first=self._sample, dbfs=self._dbfs)
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate = RATE
        frame.pts = self._sample
        frame.time_base = fractions.Fraction(1, RATE)
        self._sample += FRAME
        return frame


class AgentMedia:
    """One agent's connection; nothing is sent until `speak`."""

    def __init__(self, hz: float, *, dbfs: float = -12.0) -> None:
        self._tone = ToneTrack(hz, dbfs)
        self._connection: RTCPeerConnection | None = None
        self._hearing: asyncio.Task[None] | None = None
        self._heard: deque[_Arrived] = deque()
        self.frames_received = 0
        self.lost = asyncio.Event()
        """Set when the connection failed or was closed from there."""

    async def connect(self, exchange: Callable[[str], Awaitable[str]]) -> None:
        """Offer, have it answered by `exchange`, and wait until ICE and DTLS are done."""
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._connection = connection
        connected = asyncio.Event()

        @connection.on("connectionstatechange")
        def changed() -> None:
            if connection.connectionState == "connected":
                connected.set()
            elif connection.connectionState in {"failed", "closed"}:
                self.lost.set()

        @connection.on("track")
        def track(track: MediaStreamTrack) -> None:
            self._hearing = asyncio.create_task(self._hear(track), name="demo agent's ear")

        connection.addTransceiver("audio", direction="sendrecv")
        with _every_address():
            await connection.setLocalDescription(await connection.createOffer())
        answer = await exchange(connection.localDescription.sdp)
        await connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        await connected.wait()

    def speak(self, on: bool) -> None:
        """Attach the tone, or detach it so that not a packet of sound leaves."""
        if self._connection is not None:
            self._tone.resume()
            self._connection.getSenders()[0].replaceTrack(self._tone if on else None)

    def listen(self, seconds: float) -> Heard:
        """What came in the last `seconds`."""
        since = time.monotonic() - seconds
        frames = [arrived.samples for arrived in self._heard if arrived.at >= since]
        return listen(np.concatenate(frames) if frames else np.zeros(0, np.int16), RATE)

    async def close(self) -> None:
        """Hang the connection up."""
        if self._hearing is not None:
            self._hearing.cancel()
            await asyncio.gather(self._hearing, return_exceptions=True)
        if self._connection is not None:
            await self._connection.close()

    async def _hear(self, track: MediaStreamTrack) -> None:
        try:
            while True:
                frame = cast("av.AudioFrame", await track.recv())  # pyright: ignore[reportUnknownMemberType] - av.Packet is generic
                channels = len(frame.layout.channels)
                samples = frame.to_ndarray().reshape(-1, channels).mean(axis=1).astype(np.int16)
                now = time.monotonic()
                self._heard.append(_Arrived(now, samples))
                self.frames_received += 1
                while self._heard[0].at < now - KEPT_SECONDS:
                    self._heard.popleft()
        except MediaStreamError:
            return


@contextmanager
def _every_address() -> Generator[None]:
    """Let aioice offer loopback addresses too, which it leaves out: a machine may have no other."""
    original = aioice.ice.get_host_addresses

    def every(use_ipv4: bool, use_ipv6: bool) -> list[str]:
        del use_ipv6
        return list(interfaces.addresses()) if use_ipv4 else []

    aioice.ice.get_host_addresses = every
    try:
        yield
    finally:
        aioice.ice.get_host_addresses = original
