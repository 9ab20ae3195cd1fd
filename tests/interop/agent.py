"""An agent without a browser: the demo's, with stock WebRTC media, that keeps sounding whatever the relay says."""

from __future__ import annotations

import asyncio
import fractions
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import av
import numpy as np

from relay.demo.agent import AgentSetup, DemoAgent
from relay.demo.agent_media import FRAME, RATE, ToneTrack
from relay.ready import Ready
from tests.interop.listening import AGENT_HZ, Samples, Sound
from tests.interop.relay_process import wait_until

END_SECONDS = 5.0


class SoundTrack(ToneTrack):
    """A microphone that hears any sound."""

    def __init__(self, sound: Sound) -> None:
        super().__init__(0.0, 0.0)
        self._sound = sound
        self.sent: list[tuple[float, int]] = []
        """When each frame was taken (monotonic), and its first sample."""

    async def recv(self) -> av.AudioFrame:
        first = self._sample
        timed = await super().recv()
        self.sent.append((asyncio.get_running_loop().time(), first))
        frame = av.AudioFrame.from_ndarray(self._sound(first, FRAME).reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, timed.pts, fractions.Fraction(1, RATE)
        return frame


class Agent:
    """The demo's agent, logged in and available."""

    def __init__(self, ready: Ready, sound: Sound | None) -> None:
        assert ready.agent is not None
        self.events: list[Mapping[str, object]] = []
        url = ready.softphone_url.replace("https://", "wss://", 1) + "softphone"
        setup = AgentSetup(url, ready.ca_file, ready.agent.token, tone_hz=AGENT_HZ)
        self._demo = DemoAgent(setup, self.events.append)
        if sound is not None:
            self._demo._media._tone = SoundTrack(sound)

    @property
    def track(self) -> SoundTrack:
        track = self._demo._media._tone
        assert isinstance(track, SoundTrack)
        return track

    async def do(self, action: str) -> None:
        """Call control; the relay must not refuse it."""
        await self._demo.command(action)
        assert self.problems() == []

    async def wait(self, name: str, seconds: float = 15.0) -> Mapping[str, Any]:
        """Wait for a notification, and forget those up to it."""
        found = await wait_until(
            lambda: [e for e in self.events if e["event"] == name], seconds, what=f"{name} at the agent"
        )
        del self.events[: self.events.index(found[0]) + 1]
        return found[0]

    def problems(self) -> list[Mapping[str, object]]:
        return [event for event in self.events if event["event"] == "problem"]

    def listen(self, seconds: float) -> Samples:
        """What was heard last."""
        since = asyncio.get_running_loop().time() - seconds
        frames = [arrived.samples for arrived in self._demo._media._heard if arrived.at >= since]
        return np.concatenate(frames) if frames else np.zeros(0, np.int16)

    async def run(self) -> None:
        await self._demo.run()

    async def stop(self) -> None:
        await self._demo.stop()


@asynccontextmanager
async def agent(ready: Ready, sound: Sound | None = None) -> AsyncIterator[Agent]:
    """Logged in, media up, available, and gone at the end."""
    there = Agent(ready, sound)
    running = asyncio.create_task(there.run(), name="agent")
    try:
        await there.wait("ready")
        yield there
    finally:
        await there.stop()
        # In their own time: a connection that is cancelled while it closes leaves its sockets open.
        await asyncio.wait({running}, timeout=END_SECONDS)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        closing = {task for task in asyncio.all_tasks() if "RTCPeerConnection.close" in repr(task.get_coro())}
        if closing:
            await asyncio.wait(closing, timeout=END_SECONDS)
