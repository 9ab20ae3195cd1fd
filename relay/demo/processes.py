"""Both ends of a demo process that speaks JSON lines: started with its setup, told commands, listened to."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Mapping

LINE_BYTES_MAX = 1 << 20
STOP_SECONDS = 5.0


class DemoProcess:
    """`python -m MODULE`, its standard input and output."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, module: str, setup: Mapping[str, object]) -> DemoProcess:
        """Start it; the setup goes in as the first line, so that no secret stands in a command line."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LINE_BYTES_MAX,
            start_new_session=True,  # Ctrl-C is for whoever started us: we end when our standard input does
        )
        started = cls(process)
        await started.say(setup)
        return started

    async def say(self, what: Mapping[str, object]) -> None:
        """One JSON line; a process that is gone hears nothing."""
        assert self._process.stdin is not None, "it was started with a pipe"
        with contextlib.suppress(ConnectionError):
            self._process.stdin.write(json.dumps(what).encode() + b"\n")
            await self._process.stdin.drain()

    async def events(self) -> AsyncIterator[dict[str, object]]:
        """What it says, until it ends."""
        assert self._process.stdout is not None, "it was started with a pipe"
        while line := await self._process.stdout.readline():
            yield json.loads(line)

    async def stop(self) -> int:
        """Let it end: its standard input closes, then it is terminated, then killed. Returns its exit code."""
        assert self._process.stdin is not None, "it was started with a pipe"
        self._process.stdin.close()
        for end in (self._process.terminate, self._process.kill):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_SECONDS):
                    return await self._process.wait()
            with contextlib.suppress(ProcessLookupError):
                end()
        return await self._process.wait()


async def commands() -> AsyncIterator[dict[str, object]]:
    """In the process: what it is told, the setup first, until nobody is there to tell it."""
    reader = asyncio.StreamReader(LINE_BYTES_MAX)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield json.loads(line)


def tell(what: Mapping[str, object]) -> None:
    """In the process: say one thing."""
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(json.dumps(what) + "\n")
        sys.stdout.flush()
