"""PJSIP's telephone as the tests use it: tests/interop/pjsua_phone.py in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import subprocess
import sys
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from relay.ready import Ready
from tests.interop.listening import Samples
from tests.interop.relay_process import wait_until

PROGRAM = Path(__file__).with_name("pjsua_phone.py")
needs_pjsua2 = pytest.mark.skipif(
    importlib.util.find_spec("pjsua2") is None, reason="needs pjsua2: pip install pjsua2-python"
)


class Pjsua:
    """One call, which it makes as it starts."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.events: list[dict[str, Any]] = []
        self._process = process
        self._reading = asyncio.create_task(self._read(), name="pjsua's events")

    async def do(self, action: str, **parameters: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": action, **parameters}).encode() + b"\n")
        await self._process.stdin.drain()

    async def wait(self, name: str, seconds: float = 10.0) -> dict[str, Any]:
        """Wait for an event such as CONFIRMED, and forget those up to it."""
        found = await wait_until(
            lambda: [e for e in self.events if e["event"] == name], seconds, what=f"{name} at pjsua"
        )
        del self.events[: self.events.index(found[0]) + 1]
        return found[0]

    async def listen(self, seconds: float) -> tuple[Samples, int]:
        """What it hears in the next `seconds`, and its rate."""
        await self.do("listen", seconds=seconds)
        file = (await self.wait("heard", seconds + 5.0))["file"]
        # PJSIP closes the file in its own time.
        samples, rate = await wait_until(lambda: _read(Path(file)), what="a whole WAV file")
        return samples, rate

    async def close(self) -> None:
        with contextlib.suppress(ConnectionError):
            await self.do("quit")
        try:
            async with asyncio.timeout(5.0):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await self._reading

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            if line.startswith(b"{"):  # PJSIP has a word to say before its log can be silenced
                self.events.append(json.loads(line))


def _read(file: Path) -> tuple[Samples, int] | None:
    try:
        with wave.open(str(file), "rb") as wav:
            if not wav.getnframes():
                return None
            return np.frombuffer(wav.readframes(wav.getnframes()), "<i2"), wav.getframerate()
    except (wave.Error, EOFError):
        return None


@asynccontextmanager
async def pjsua(folder: Path, ready: Ready, microphone: Path) -> AsyncIterator[Pjsua]:
    """A call to the demo's trunk, that begins at once."""
    assert ready.trunk is not None
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(PROGRAM), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    setup = {
        "dial": ready.trunk.dial,
        "username": ready.trunk.username,
        "password": ready.trunk.password,
        "ca_file": ready.ca_file,
        "microphone": str(microphone),
        "folder": str(folder),
    }
    process.stdin.write(json.dumps(setup).encode() + b"\n")
    phone = Pjsua(process)
    try:
        yield phone
    finally:
        await phone.close()
