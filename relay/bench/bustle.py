"""What keeps a relay's control plane busy while a benchmark measures: callers, agents and log-ins, in one process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final

from relay.bench.agents import Agents
from relay.bench.callers import Callers
from relay.bench.log_ins import LogIns
from relay.bench.pace import Pace
from relay.bench.processes import tell
from relay.bench.work import SETUPS_A_SECOND
from relay.certificates import client_context
from relay.demo.processes import commands
from relay.errors import RelayError

LOG_INS_A_SECOND: Final = 20.0
_CALLS_MAX: Final = 60
_LOG_INS_MAX: Final = 60
_NICE: Final = 5
"""The telephones on the same core keep their time first."""


class Bustle:
    """All that comes and goes."""

    def __init__(self, where: Mapping[str, Any]) -> None:
        tls = client_context(Path(where["ca_file"]))
        self._callers = Callers(where)
        self._agents = Agents(where, tls)
        self._log_ins = LogIns(where, tls)
        self._paces = (
            Pace(self._callers.call, SETUPS_A_SECOND / 2, _CALLS_MAX),
            Pace(self._agents.turn, SETUPS_A_SECOND / 2, len(self._agents)),
            Pace(self._log_ins.log_in, LOG_INS_A_SECOND, _LOG_INS_MAX),
        )
        self._running: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Agents log in; nothing else happens yet."""
        await self._callers.start()
        await self._agents.start()

    def begin(self) -> None:
        """Everything begins."""
        self._running = [asyncio.create_task(pace.run(), name="pace") for pace in self._paces]

    async def end(self) -> dict[str, object]:
        """Begin no more, end what is under way, and say what went wrong."""
        for pace in self._paces:
            pace.stop()
        await asyncio.gather(*self._running)
        await self._agents.stop()
        await self._callers.stop()
        return {
            "begun": [pace.begun for pace in self._paces],
            "left_out": [pace.left_out for pace in self._paces],
            "failed": [self._callers.failed, self._agents.failed, self._log_ins.unanswered],
            "problem": self._agents.problem,
        }


async def main() -> None:
    """What the process does, as it is told."""
    os.nice(_NICE)
    told = commands()
    bustle = Bustle((await anext(told))["where"])  # type: ignore[arg-type] # from the process that started us
    await bustle.start()
    tell(prepared=True)
    await _obey(told, bustle)


async def _obey(told: AsyncIterator[dict[str, Any]], bustle: Bustle) -> None:
    async for command in told:
        match command:
            case {"begin": True}:
                bustle.begin()
            case {"end": True}:
                tell(result=await bustle.end())
            case _:
                tell(error="an unknown command")


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except RelayError as failure:
        tell(error=str(failure))
