"""Real Chromium on the served page, with the fake service and real media transports behind it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pylibsrtp
import pytest
from playwright.async_api import Page, async_playwright, expect

from relay.media import LegId, SrtpKey
from tests.relay.shared_socket import Relay, shared_sockets
from tests.signaling.softphone.fake_service import TOKEN, FakeService, announce_ready
from tests.signaling.softphone.https import Served, serving

CHROMIUM = os.environ.get("KOPPEL_CHROMIUM", "/usr/bin/chromium")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-device-for-media-stream",
    "--allow-loopback-in-peer-connection",
)
# Keeps every peer connection of the page where a test can ask it for statistics.
KEEP_CONNECTIONS = """
  globalThis.connections = [];
  const Original = RTCPeerConnection;
  globalThis.RTCPeerConnection = class extends Original {
    constructor(...given) { super(...given); globalThis.connections.push(this); }
  };
"""
PACKETS_SENT = """async () => {
  let sent = 0;
  for (const connection of connections)
    for (const report of (await connection.getStats()).values())
      if (report.type === "outbound-rtp") sent += report.packetsSent;
  return sent;
}"""
TRACKS = "() => connections.flatMap((c) => c.getSenders()).map((sender) => sender.track !== null)"

needs_chromium = pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="needs Chromium: apt-get install chromium")


@dataclass
class Phone:
    """The page in a browser, and what stands behind it."""

    page: Page
    served: Served
    service: FakeService
    relay: Relay
    errors: list[str]

    async def stage(self, name: str) -> None:
        await expect(self.page.locator("#stage")).to_have_attribute("data-stage", name)

    async def sign_in(self) -> None:
        """Log in by the URL fragment, and wait until media is up."""
        await self.page.goto(f"{self.served.origin}/#token={TOKEN}")
        await expect(self.page.locator("#quality-label")).to_have_text("Ready")

    async def become_available(self) -> None:
        await self.page.get_by_role("radio", name="Available").check()
        await self.stage("available")

    async def ring(self) -> None:
        self.service.ring()
        await self.stage("ringing")

    async def press(self, key: str, stage: str) -> None:
        """Press a key once the last request was answered, and see what it leads to.

        The relay's notification may overtake its answer, and until that came the button and its key rest.
        """
        await expect(self.page.locator(".controls button:visible").first).to_be_visible()
        await expect(self.page.locator(".controls button:visible:disabled")).to_have_count(0)
        await self.page.keyboard.press(key)
        await self.stage(stage)

    def audio_packets(self) -> list[bytes]:
        """The RTP (not RTCP) of the one leg, opened with its key; Chromium may send it from several addresses."""
        if not self.relay.ready:
            return []
        (leg,) = self.relay.ready.values()
        session = _receiving(leg.receive_key)
        sent = [data for data, _ in self.relay.sockets[0].srtp if not 64 <= (data[1] & 0x7F) <= 95]  # RFC 5761 §4
        return [session.unprotect(data) for data in sent]


def _receiving(key: SrtpKey) -> pylibsrtp.Session:
    profiles = {
        "AES_CM_128_HMAC_SHA1_80": pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
        "AEAD_AES_128_GCM": pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
        "AEAD_AES_256_GCM": pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_256_GCM,
    }
    inbound = pylibsrtp.Policy.SSRC_ANY_INBOUND
    return pylibsrtp.Session(pylibsrtp.Policy(key=key.master, ssrc_type=inbound, srtp_profile=profiles[key.suite]))


@asynccontextmanager
async def phone(folder: Path, *, flags: tuple[str, ...] = ("--use-fake-ui-for-media-stream",)) -> AsyncIterator[Phone]:
    numbers = iter(range(1_000))

    async def connect(sdp: str) -> str:
        return await relay.transports.connect(LegId(f"leg-{next(numbers)}"), sdp)

    async with shared_sockets() as relay, serving(folder, service=FakeService(connect)) as served:
        service = served.service
        announce_ready(relay, service)
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *flags])
            context = await browser.new_context(ignore_https_errors=True)
            await context.add_init_script(KEEP_CONNECTIONS)
            page = await context.new_page()
            errors: list[str] = []
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.on(
                "console", lambda message: errors.append(message.text) if "Content Security" in message.text else None
            )
            try:
                yield Phone(page, served, service, relay, errors)
            finally:
                await browser.close()
