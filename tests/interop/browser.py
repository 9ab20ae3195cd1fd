"""Chromium on the served page: an agent's real browser, whose microphone hears a tone, and whose ears the test has."""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
from playwright.async_api import BrowserContext, Page, async_playwright, expect

from relay.ready import Ready
from tests.interop.listening import Samples
from tests.interop.relay_process import wait_until

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--allow-loopback-in-peer-connection",
)
# A tone is noise to a noise suppressor: the page's constraints are kept but for the three that would remove it. Every
# connection is kept for its statistics, and all that it brings is kept for the test to hear.
INSIDE = """
(() => {
  globalThis.connections = [];
  globalThis.ears = [];
  const getUserMedia = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = ({ audio }) => getUserMedia({
    audio: { ...audio, echoCancellation: false, noiseSuppression: false, autoGainControl: false } });
  const listen = (track) => {
    const context = new AudioContext({ sampleRate: 48000 });
    const ear = context.createScriptProcessor(4096, 1, 1);
    context.createMediaStreamSource(new MediaStream([track])).connect(ear);
    ear.connect(context.destination);
    globalThis.ears.push({ context, ear });
    globalThis.heard = [];
    ear.onaudioprocess = (event) => {
      globalThis.heard.push(Int16Array.from(event.inputBuffer.getChannelData(0), (value) => value * 32767));
      if (globalThis.heard.length > 400) globalThis.heard.shift();
    };
  };
  const Original = RTCPeerConnection;
  globalThis.RTCPeerConnection = class extends Original {
    constructor(...given) {
      super(...given);
      globalThis.connections.push(this);
      this.addEventListener("track", (event) => listen(event.track));
    }
  };
})();
"""
HEARD = """(blocks) => {
  const last = globalThis.heard.slice(-blocks);
  const bytes = new Uint8Array(last.length * 8192);
  last.forEach((block, index) => bytes.set(new Uint8Array(block.buffer), index * 8192));
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return btoa(text);
}"""
PACKETS_SENT = """async () => {
  let sent = 0;
  for (const connection of connections)
    for (const report of (await connection.getStats()).values())
      if (report.type === "outbound-rtp") sent += report.packetsSent;
  return sent;
}"""
TRACKS = "() => connections.at(-1).getSenders().map((sender) => sender.track !== null)"
RATE = 48_000
BLOCK = 4_096


class Softphone:
    """The page."""

    def __init__(self, page: Page, ready: Ready) -> None:
        self.page = page
        self.errors: list[str] = []
        self._ready = ready
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    async def sign_in(self) -> None:
        """By the one-click demo log-in; returns when media is up."""
        await self.page.goto(self._ready.softphone_url)
        await self.page.get_by_role("button", name="Log in as demo agent").click()
        await self.is_ready()

    async def is_ready(self) -> None:
        """Media is up, off a call."""
        await expect(self.page.locator("#quality-label")).to_have_text(
            re.compile("Ready|Excellent|Good|Fair"), timeout=15_000
        )

    async def become_available(self) -> None:
        await self.page.get_by_role("radio", name="Available").check()
        await self.stage("available")

    async def stage(self, name: str, seconds: float = 15.0) -> None:
        await expect(self.page.locator("#stage")).to_have_attribute("data-stage", name, timeout=seconds * 1_000)

    async def click(self, name: str, stage: str) -> None:
        """Press a button of the call, and see what it leads to."""
        await self.page.get_by_role("group", name="Call").get_by_role("button", name=name).click()
        await self.stage(stage)

    async def press(self, key: str, stage: str) -> None:
        """The same by the keyboard, once the last request was answered."""
        await expect(self.page.locator(".controls button:visible").first).to_be_visible()
        await expect(self.page.locator(".controls button:visible:disabled")).to_have_count(0)
        await self.page.keyboard.press(key)
        await self.stage(stage)

    async def packets_sent(self) -> int:
        """RTP of all connections of this page, as the browser counts it."""
        sent: int = await self.page.evaluate(PACKETS_SENT)
        return sent

    async def has_track(self) -> bool:
        """Whether the microphone is attached to the connection."""
        (attached,) = await self.page.evaluate(TRACKS)
        return bool(attached)

    async def listen(self, seconds: float) -> Samples:
        """What it hears in the next `seconds`."""
        blocks = round(seconds * RATE / BLOCK)
        await self.page.evaluate("() => { globalThis.heard.length = 0; }")
        await wait_until(
            lambda: self.page.evaluate(f"() => globalThis.heard.length >= {blocks}"),
            seconds + 10,
            what="sound in the page",
        )
        return np.frombuffer(base64.b64decode(await self.page.evaluate(HEARD, blocks)), np.int16)


@asynccontextmanager
async def chromium(program: str, microphone: Path) -> AsyncIterator[BrowserContext]:
    """A fresh browser whose microphone plays a WAV file over and over."""
    async with async_playwright() as playwright:
        flags = [*FLAGS, f"--use-file-for-fake-audio-capture={microphone}"]
        browser = await playwright.chromium.launch(executable_path=program, args=flags)
        try:
            context = await browser.new_context(ignore_https_errors=True)
            await context.add_init_script(INSIDE)
            yield context
        finally:
            await browser.close()
