"""The demo's customer as `koppel serve --demo` hosts it: it rings whenever an agent is there to be rung."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict

import structlog

from relay.demo.caller import CallerSetup
from relay.demo.processes import DemoProcess
from relay.ready import Ready

_log = structlog.get_logger()

LOOK_SECONDS = 0.5
BEFORE_CALL_SECONDS = 2.0
AGAIN_SECONDS = 12.0


def caller_setup(ready: Ready, *, tone_hz: float | None = None, seconds_max: float = 120.0) -> CallerSetup:
    """How the demo's customer calls the relay of a ready file."""
    assert ready.trunk is not None, "a relay under the demo switch has the demo's trunk"
    host, _, port = ready.sips_address.rpartition(":")
    host = host.strip("[]")
    return CallerSetup(
        dial=ready.trunk.dial,
        host=host,
        port=int(port),
        ca_file=ready.ca_file,
        username=ready.trunk.username,
        password=ready.trunk.password,
        tone_hz=tone_hz,
        seconds_max=seconds_max,
        local_host=host,
    )


class DemoCustomer:
    """Calls while an agent is available, and calls again some time after each call."""

    def __init__(self, setup: CallerSetup, agent_is_available: Callable[[], bool]) -> None:
        self._setup = setup
        self._agent_is_available = agent_is_available
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look for an agent."""
        self._task = asyncio.create_task(self._run(), name="demo customer")

    async def stop(self) -> None:
        """Hang up, and call no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            while not self._agent_is_available():  # noqa: ASYNC110 - a look at the desks, not a wait for one of them
                await asyncio.sleep(LOOK_SECONDS)
            await asyncio.sleep(BEFORE_CALL_SECONDS)
            await self._call()
            await asyncio.sleep(AGAIN_SECONDS)

    async def _call(self) -> None:
        process = await DemoProcess.start("relay.demo.caller", asdict(self._setup))
        try:
            async for event in process.events():
                if event.get("event") in {"refused", "problem"}:
                    _log.warning("demo customer", event_name=event.get("event"), status=event.get("status"))
        finally:
            await asyncio.shield(process.stop())
