"""The demo agent as a process of its own, against the real socket and real media transports."""

from __future__ import annotations

import asyncio
import shutil
import struct
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import asdict
from itertools import count
from pathlib import Path

import av
import numpy as np
import pylibsrtp
import pytest

from relay.demo.agent import AgentSetup
from relay.demo.hearing import listen, tone
from relay.demo.processes import DemoProcess
from relay.media import LegId
from signaling.softphone.messages import ContactRequest
from tests.relay.shared_socket import shared_sockets
from tests.signaling.softphone.fake_service import TOKEN, FakeService, announce_ready
from tests.signaling.softphone.https import serving

pytestmark = pytest.mark.slow

PROFILES = {
    "AES_CM_128_HMAC_SHA1_80": pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    "AEAD_AES_128_GCM": pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    "AEAD_AES_256_GCM": pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_256_GCM,
}


def session(key, direction) -> pylibsrtp.Session:
    return pylibsrtp.Session(pylibsrtp.Policy(key=key.master, ssrc_type=direction, srtp_profile=PROFILES[key.suite]))


class Agent:
    """The process, what it said, and the relay's side of its call."""

    def __init__(self, process, service, relay) -> None:
        self.process, self.service, self.relay = process, service, relay
        self._events = process.events()

    async def told(self, name: str) -> dict:
        async with asyncio.timeout(15):
            async for event in self._events:
                assert event["event"] != "problem", event
                if event["event"] == name:
                    return event
        raise AssertionError(f"the agent ended before {name}")

    @property
    def leg(self):
        (leg,) = self.relay.ready.values()
        return leg

    def audio(self) -> list[bytes]:
        inbound = session(self.leg.receive_key, pylibsrtp.Policy.SSRC_ANY_INBOUND)
        sent = [data for data, _ in self.relay.sockets[0].srtp if not 64 <= (data[1] & 0x7F) <= 95]
        return [inbound.unprotect(data) for data in sent]

    async def audio_for(self, packets: int) -> list[bytes]:
        socket = self.relay.sockets[0]
        async with asyncio.timeout(10):
            while len(self.audio()) < packets:
                socket.arrived.clear()
                await socket.arrived.wait()
        return self.audio()

    async def play(self, hz: float, seconds: float) -> None:
        """Send a tone to the agent, as the relay would."""
        encoder = av.CodecContext.create("libopus", "w")
        encoder.format, encoder.layout, encoder.sample_rate = "s16", "mono", 48_000
        outbound = session(self.leg.send_key, pylibsrtp.Policy.SSRC_ANY_OUTBOUND)
        numbers = count()
        for number in range(int(seconds * 50)):
            samples = tone(hz, 48_000, 960, first=number * 960).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate, frame.pts = 48_000, number * 960
            for packet in encoder.encode(frame):
                sequence = next(numbers)
                header = struct.pack(
                    "!BBHII", 0x80, self.leg.codec.payload_type, sequence, sequence * 960, self.leg.ssrc
                )
                self.relay.sent(self.leg.local, outbound.protect(header + bytes(packet)), self.leg.remote)
            await asyncio.sleep(0.02)


@asynccontextmanager
async def agent(folder: Path, **setup):
    numbers = count()

    async def connect(sdp: str) -> str:
        return await relay.transports.connect(LegId(f"leg-{next(numbers)}"), sdp)

    async with shared_sockets() as relay, serving(folder, service=FakeService(connect)) as served:
        announce_ready(relay, served.service)
        given = AgentSetup(served.url, str(served.ca_file), TOKEN, **setup)
        process = await DemoProcess.start("relay.demo.agent", asdict(given))
        try:
            yield Agent(process, served.service, relay)
        finally:
            assert await process.stop() == 0


def decoded(packets: list[bytes]) -> np.ndarray:
    decoder = av.CodecContext.create("libopus", "r")
    decoder.sample_rate, decoder.layout = 48_000, "mono"
    frames = [frame for packet in packets for frame in decoder.decode(av.Packet(packet[12:]))]
    sound = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    return np.rint(np.clip(sound, -1, 1) * 32_767).astype(np.int16)


async def test_a_call_both_ways(tmp_path):
    async with agent(tmp_path, tone_hz=1_150.0) as it:
        await it.told("ready")
        assert it.service.state == "available"
        assert it.audio() == []  # media is up, and silent
        it.service.ring()
        event = await it.told("contact.ringing")
        assert "number" not in event
        await it.told("contact.connected")

        heard = listen(decoded(await it.audio_for(40))[9_600:], 48_000)
        assert heard.hz == pytest.approx(1_150.0, abs=2)
        assert heard.tone_dbfs > -15

        await it.play(620.0, 1.0)
        await it.process.say({"do": "listen", "seconds": 0.5})
        event = await it.told("heard")
        assert event["hz"] == pytest.approx(620.0, abs=3)
        assert event["packets"] >= 40

        for action, name in (("hold", "held"), ("resume", "resumed"), ("mute", "muted"), ("unmute", "unmuted")):
            await it.process.say({"do": action})
            await it.told(f"contact.{name}")
        await it.process.say({"do": "hang_up"})
        await it.told("contact.ended")
        await it.process.say({"do": "complete"})
        await it.told("contact.closed")
        actions = [request.action for request in it.service.requests if isinstance(request, ContactRequest)]
        assert actions == ["accept", "hold", "resume", "mute", "unmute", "hang_up", "complete"]


async def test_it_waits_for_a_command_where_it_is_told_to(tmp_path):
    async with agent(tmp_path, answers=False, report_s=0.1) as it:
        await it.told("ready")
        it.service.ring()
        await it.told("contact.ringing")
        assert (await it.told("heard")) == {"event": "heard", "hz": 0.0, "dbfs": -127.0, "packets": 0}
        await it.process.say({"do": "reject"})
        await it.told("contact.closed")
        assert it.audio() == []


async def test_a_wrong_token_is_a_problem_in_words(tmp_path):
    async with serving(tmp_path) as served:
        process = await DemoProcess.start(
            "relay.demo.agent", asdict(AgentSetup(served.url, str(served.ca_file), "wrong"))
        )
        events = [event async for event in process.events()]
        assert events == [{"event": "problem", "what": "the token is not known"}, {"event": "over"}]
        assert await process.stop() == 0


def in_a_namespace_with_loopback_alone(*command: str) -> list[str]:
    return [
        "unshare",
        "--user",
        "--map-root-user",
        "--net",
        "sh",
        "-c",
        'ip link set lo up && exec "$@"',
        "sh",
        *command,
    ]


def namespaces_are_to_be_had() -> bool:
    if not shutil.which("unshare") or not shutil.which("ip"):
        return False
    return subprocess.run(in_a_namespace_with_loopback_alone("true"), capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not namespaces_are_to_be_had(), reason="needs unshare, ip and the right to make a namespace")
def test_a_machine_with_loopback_alone_is_enough():
    here = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"{__file__}::test_a_call_both_ways"]
    done = subprocess.run(in_a_namespace_with_loopback_alone(*here), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
