"""baresip, a SIP telephone of other people's making: TLS, mandatory SRTP, a tone for a microphone, ears in a file."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from relay.ready import Ready
from tests.interop.relay_process import wait_until

RATE = 8_000
HEADER_BYTES = 44
"""Of the WAV files that it writes: the canonical header."""
MODULES = "/usr/lib/baresip/modules"


class Baresip:
    """One telephone that can call the demo's trunk."""

    def __init__(self, folder: Path, dial: str, writer: asyncio.StreamWriter, reader: asyncio.StreamReader) -> None:
        self._folder = folder
        self._dial = dial
        self._writer = writer
        self._reader = reader
        self.events: list[dict[str, Any]] = []
        self._listening = asyncio.create_task(self._listen(), name="baresip's events")

    # ---- what it does

    async def dial(self) -> None:
        await self._command("dial", self._dial)

    async def hang_up(self) -> None:
        await self._command("hangup")

    async def hold(self) -> None:
        await self._command("hold")

    async def resume(self) -> None:
        await self._command("resume")

    async def wait(self, kind: str, seconds: float = 10.0) -> dict[str, Any]:
        """Wait for an event such as CALL_ESTABLISHED, and forget those up to it."""
        found = await wait_until(
            lambda: [e for e in self.events if e["type"] == kind], seconds, what=f"{kind} of baresip"
        )
        del self.events[: self.events.index(found[0]) + 1]
        return found[0]

    # ---- what it hears

    def heard(self) -> npt.NDArray[np.int16]:
        """All of the present or last call."""
        files = sorted(self._folder.glob("dump-*-dec.wav"), key=lambda file: file.stat().st_mtime)
        if not files:
            return np.zeros(0, np.int16)
        sound = files[-1].read_bytes()[HEADER_BYTES:]
        return np.frombuffer(sound[: len(sound) // 2 * 2], np.int16)

    async def listen(self, seconds: float) -> npt.NDArray[np.int16]:
        """What it hears in the next `seconds`."""
        before = self.heard().size
        wanted = round(seconds * RATE)
        await wait_until(lambda: self.heard().size >= before + wanted, seconds + 10.0, what="sound at baresip")
        return self.heard()[before : before + wanted]

    # ---- how

    async def _command(self, name: str, parameters: str = "") -> None:
        content = json.dumps({"command": name, "params": parameters, "token": name}).encode()
        self._writer.write(str(len(content)).encode() + b":" + content + b",")
        await self._writer.drain()

    async def _listen(self) -> None:
        """Netstrings of JSON."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                length = int((await self._reader.readuntil(b":"))[:-1])
                content = (await self._reader.readexactly(length + 1))[:-1]
                message = json.loads(content)
                if message.get("event"):
                    self.events.append(message)

    async def close(self) -> None:
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


@asynccontextmanager
async def baresip(program: str, folder: Path, ready: Ready, microphone: Path) -> AsyncIterator[Baresip]:
    """Start it with a WAV file (8 kHz, mono) for a microphone; the call ends with the file."""
    assert ready.trunk is not None
    control = _free_port()
    process = _start(program, folder, _configuration(folder, ready, microphone, control), _account(ready))
    try:
        reader, writer = await wait_until(lambda: _connect(control), what="baresip's control port")
        phone = Baresip(folder, ready.trunk.dial.partition(";")[0], writer, reader)
        try:
            yield phone
        finally:
            await phone.close()
    finally:
        process.terminate()
        assert process.stdin is not None
        process.stdin.close()
        await asyncio.to_thread(process.wait, 10)


def _start(program: str, folder: Path, configuration: str, account: str) -> subprocess.Popen[bytes]:
    folder.mkdir(parents=True)
    (folder / "config").write_text(configuration)
    (folder / "accounts").write_text(account)
    with (folder / "baresip.log").open("wb") as log:
        return subprocess.Popen([program, "-f", str(folder)], stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=folder)


def _account(ready: Ready) -> str:
    assert ready.trunk is not None
    return (
        f"<sip:{ready.trunk.username}@{ready.sips_address};transport=tls>;auth_user={ready.trunk.username};"
        f"auth_pass={ready.trunk.password};regint=0;mediaenc=srtp-mand;audio_codecs=pcmu/8000/1;ptime=20\n"
    )


def _configuration(folder: Path, ready: Ready, microphone: Path, control: int) -> str:
    return f"""
module_path {MODULES}
sip_listen 127.0.0.1:{_free_port()}
sip_cafile {ready.ca_file}
sip_verify_server yes
net_interface 127.0.0.1
audio_source aufile,{microphone}
audio_player aufile,{folder}/ear.wav
audio_alert aufile,{folder}/alert.wav
ring_aufile none
snd_path {folder}
rtcp_mux yes
module g711.so
module aufile.so
module sndfile.so
module srtp.so
module ctrl_tcp.so
module_app account.so
module_app menu.so
ctrl_tcp_listen 127.0.0.1:{control}
"""


async def _connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
    try:
        return await asyncio.open_connection("127.0.0.1", port)
    except ConnectionError:
        return None


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def write_wav(file: Path, samples: npt.NDArray[np.int16], rate: int) -> Path:
    """A mono file, for a microphone."""
    with wave.open(str(file), "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(rate)
        wav.writeframes(samples.astype("<i2").tobytes())
    return file
