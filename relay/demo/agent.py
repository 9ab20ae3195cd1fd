"""A demo agent: logs in to the softphone's WebSocket, answers calls with a tone, and says what it hears.

`python -m relay.demo.agent` reads its setup as one line of JSON from standard input (so that no token stands in a
command line), then commands, one JSON object a line: `{"do": "listen", "seconds": 1.5}` says what was heard last;
`accept`, `reject`, `hold`, `resume`, `mute`, `unmute`, `hang_up` and `complete` are call control. What happens is told
as one JSON object a line on standard output: `ready`, `heard`, `problem`, `over`, and the relay's notifications.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import websockets

from relay.certificates import client_context
from relay.demo.agent_media import AgentMedia

REQUEST_SECONDS = 10.0
MEDIA_SECONDS = 20.0
COMMANDS = frozenset({"accept", "reject", "hold", "resume", "mute", "unmute", "hang_up", "complete"})
SILENT = frozenset({"media.levels", "media.quality"})
"""Notifications that come several times a second, and are not told."""


@dataclass(frozen=True, slots=True)
class AgentSetup:
    """Where to log in, as whom, and what to say."""

    url: str
    """Of the WebSocket: wss://HOST:PORT/softphone."""
    ca_file: str
    token: str = field(repr=False)
    tone_hz: float = 1_000.0
    answers: bool = True
    """Accept calls by itself."""
    report_s: float | None = None
    """Say what was heard every so many seconds."""


Tell = Callable[[Mapping[str, object]], None]


class RefusedError(Exception):
    """The relay refused a request, or did not answer."""


class DemoAgent:
    """One agent, from log-in to log-out."""

    def __init__(self, setup: AgentSetup, tell: Tell) -> None:
        self._setup = setup
        self._tell = tell
        self._media = AgentMedia(setup.tone_hz)
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, object]]] = {}
        self._connection: websockets.ClientConnection | None = None
        self._contact_id: str | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Work until the relay closes the connection, or `stop`."""
        setup = self._setup
        async with websockets.connect(
            setup.url, ssl=client_context(Path(setup.ca_file) if setup.ca_file else None)
        ) as connection:
            self._connection = connection
            reading = asyncio.create_task(self._read(connection), name="demo agent's reader")
            try:
                await self._begin()
                await reading
            except RefusedError as error:
                self._tell({"event": "problem", "what": str(error)})
            finally:
                reading.cancel()
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(reading, *self._tasks, return_exceptions=True)
                await self._media.close()
                self._tell({"event": "over"})

    async def command(self, action: str) -> None:
        """Call control of the contact that there is."""
        if self._contact_id is None:
            self._tell({"event": "problem", "what": f"no contact to {action}"})
            return
        if action == "accept":
            self._media.speak(True)
        try:
            await self._request(f"contact.{action}", contact_id=self._contact_id)
        except RefusedError as error:
            self._tell({"event": "problem", "what": f"{action}: {error}"})

    def listen(self, seconds: float) -> None:
        """Tell what was heard in the last `seconds`."""
        heard = self._media.listen(seconds)
        self._tell({"event": "heard", "hz": heard.hz, "dbfs": heard.tone_dbfs, "packets": self._media.frames_received})

    async def stop(self) -> None:
        """Log out."""
        if self._connection is not None:
            await self._connection.close()

    async def _begin(self) -> None:
        await self._request("session.log_in", token=self._setup.token)
        try:
            async with asyncio.timeout(MEDIA_SECONDS):
                await self._media.connect(self._exchange)
        except TimeoutError:
            raise RefusedError("no media connection in time") from None
        if self._setup.report_s is not None:
            self._start(self._report(self._setup.report_s))
        await self._request("agent.set_state", state="available")
        self._tell({"event": "ready"})

    async def _exchange(self, offer: str) -> str:
        return str((await self._request("media.connect", sdp=offer))["sdp"])

    async def _report(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            self.listen(seconds)

    async def _request(self, method: str, **params: object) -> dict[str, object]:
        assert self._connection is not None, "requests follow the connection"
        number = next(self._numbers)
        answer: asyncio.Future[dict[str, object]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            await self._connection.send(
                json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
            )
            async with asyncio.timeout(REQUEST_SECONDS):
                message = await answer
        except TimeoutError:
            raise RefusedError(f"{method} was not answered") from None
        except websockets.ConnectionClosed as closed:
            raise RefusedError(f"the relay closed the connection ({closed})") from None
        finally:
            del self._waiting[number]
        if "error" in message:
            raise RefusedError(str(cast("dict[str, object]", message["error"])["message"]))
        return cast("dict[str, object]", message["result"])

    async def _read(self, connection: websockets.ClientConnection) -> None:
        async for text in connection:
            message = cast("dict[str, object]", json.loads(text))
            answer = self._waiting.get(cast("int", message.get("id", 0)))
            if answer is not None and not answer.done():
                answer.set_result(message)
            elif "method" in message:
                self._notified(str(message["method"]), cast("dict[str, object]", message["params"]))
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(RefusedError("the relay closed the connection"))

    def _notified(self, method: str, params: dict[str, object]) -> None:
        if method in SILENT:
            return
        if method == "contact.ringing":
            self._contact_id = str(params["contact_id"])
            if self._setup.answers:
                self._start(self.command("accept"))
        elif method in {"contact.ended", "contact.closed"}:
            self._media.speak(False)
            if method == "contact.closed":
                self._contact_id = None
        # The caller's number is nobody's business who reads a pipe or a log.
        self._tell({"event": method} | {name: value for name, value in params.items() if name != "number"})

    def _start(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _commands() -> AsyncIterator[dict[str, object]]:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield json.loads(line)


async def _obey(commands: AsyncIterator[dict[str, object]], agent: DemoAgent) -> None:
    async for command in commands:
        match command:
            case {"do": "listen", "seconds": int() | float() as seconds}:
                agent.listen(seconds)
            case {"do": str() as action} if action in COMMANDS:
                await agent.command(action)
            case _:
                tell({"event": "problem", "what": "unknown command"})
    await agent.stop()  # whoever started us is gone


def tell(what: Mapping[str, object]) -> None:
    """One JSON object, one line."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def main() -> None:
    """Read the setup and work."""
    commands = _commands()
    setup = await anext(commands)
    agent = DemoAgent(AgentSetup(**setup), tell)  # type: ignore[arg-type] # from the program that started us
    obeying = asyncio.create_task(_obey(commands, agent))
    try:
        await agent.run()
    finally:
        obeying.cancel()
        await asyncio.gather(obeying, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main())
