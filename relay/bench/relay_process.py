"""The relay of a benchmark: the product's sockets, plane and ticker in a process of their own, on one core."""

from __future__ import annotations

import asyncio
import os
import resource
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from relay import interfaces, media, provision
from relay.bench import machine
from relay.bench.processes import tell
from relay.bench.work import SSRC_OF_RELAY, Work
from relay.calls.control import MediaInbox
from relay.calls.switchboard import Switchboard
from relay.config import Settings
from relay.demo.processes import commands
from relay.errors import RelayError
from relay.media import Address, CommandRefused, LegLatched, MediaEvent, OpenLeg, Step
from relay.plane.plane import Plane
from relay.plane.sockets import UdpSockets
from relay.plane.ticker import Spread, Ticker
from signaling.contact import commands as contact
from signaling.contact.participant import ParticipantState, Role
from signaling.contact.record import WallAnchor

DELIVER_SECONDS_MAX: Final = 120.0
_ROLES: Final[tuple[Role, ...]] = ("customer", "agent")


@dataclass(frozen=True, slots=True)
class _Begin:
    """Where the window began."""

    cpu: float
    at: float
    concealed: int
    tick: int
    core_seconds: float


class BenchRelay:
    """The parts of a relay that carry media, composed as `relay.server` does it, and their figures."""

    def __init__(self, work: Work, settings: Settings, sockets: UdpSockets, plane: Plane, ticker: Ticker) -> None:
        self._work = work
        self._settings = settings
        self._sockets = sockets
        self._plane = plane
        self._ticker = ticker
        self._switchboard = Switchboard()
        self._begin: _Begin | None = None
        self.notices: list[str] = []
        """What whoever reads the figures must know."""
        self.refusals: list[str] = []
        self.latched = 0

    def events(self, events: list[MediaEvent]) -> None:
        """What the plane saw in a tick."""
        for event in events:
            if isinstance(event, CommandRefused):
                self.refusals.append(event.what)
            elif isinstance(event, LegLatched):
                self.latched += 1

    def open(self, addresses: list[Address]) -> Address:
        """Open all legs, conference by conference; returns where to send."""
        local = self._sockets.addresses[0]
        for number, members in enumerate(self._work.conferences):
            self._plane.apply(self._opening(number, members, addresses, local))
        return local

    def _opening(self, number: int, members: tuple[int, ...], addresses: list[Address], local: Address) -> Step:
        contact_id = f"bench-{number}"
        states = [
            ParticipantState(f"p{place}", _ROLES[place] if place < 2 else "third_party", "trunk", "connected")
            for place, _ in enumerate(members)
        ]
        for state, leg in zip(states, members, strict=True):
            self._switchboard.bind(contact_id, state.participant_id, self._work.leg_id(leg))
        asked: list[contact.ContactCommand] = [contact.SetParties(tuple(states), None)]
        return self._switchboard.step(
            contact_id, asked, (), before=tuple(self._leg(leg, addresses[leg], local) for leg in members)
        )

    def _leg(self, leg: int, address: Address, local: Address) -> OpenLeg:
        return OpenLeg(
            leg_id=self._work.leg_id(leg),
            codec=self._work.offered,
            ssrc=SSRC_OF_RELAY + leg,
            receive_key=self._work.key_of_leg(leg),
            send_key=self._work.key_of_relay(leg),
            local=local,
            remote=address,
        )

    def begin(self) -> None:
        """The window begins."""
        self._ticker.reset()
        self._begin = _Begin(_cpu(), time.monotonic(), self._concealed(), self._plane.tick_number, self._core_seconds())

    def end(self) -> dict[str, Any]:
        """The window ends."""
        begin = self._begin
        assert begin is not None, "it began"
        cpu, seconds = _cpu() - begin.cpu, time.monotonic() - begin.at
        others = max(0.0, self._core_seconds() - begin.core_seconds - cpu) / seconds
        ticks = max(self._plane.tick_number - begin.tick, 1)
        statistics = self._ticker.statistics()
        return {
            "cpu_ms_per_leg_second": round(cpu * 1000 / self._work.legs / seconds, 4),
            "tick_late_ms": _spread(statistics.late_ms),
            "tick_ms": _spread(statistics.tick_ms),
            "missed_ticks": statistics.missed_ticks,
            "concealed_ratio": round((self._concealed() - begin.concealed) / (ticks * self._work.legs), 6),
            "rss_mb": _resident_mb(),
            "others_on_core": round(others, 3),
            "dropped": machine.dropped_datagrams(frozenset(port for _, port in self._sockets.addresses)),
            "refusals": self.refusals[:5],
            "notices": self.notices,
        }

    async def close(self) -> dict[str, Any]:
        """Close all legs; what was recorded is counted once it is delivered."""
        for number, members in enumerate(self._work.conferences):
            closing = tuple(media.CloseLeg(self._work.leg_id(leg)) for leg in members)
            self._plane.apply(self._switchboard.step(f"bench-{number}", (), (), after=closing))
        await asyncio.to_thread(self._ticker.stop)
        return {"recorded_tracks": 0}

    def _core_seconds(self) -> float:
        return machine.core_seconds(self._work.relay_core)

    def _concealed(self) -> int:
        return int(self._plane.stages.legs.concealed.sum())


def _spread(spread: Spread) -> dict[str, float]:
    return {"p50": spread.p50, "p99": spread.p99, "max": spread.max}


def _cpu() -> float:
    """User and system seconds of all threads, as the kernel counts them."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * resource.getpagesize() / 1e6, 1)


async def _start(work: Work, folder: Path, stack: AsyncExitStack) -> BenchRelay:
    settings = _settings(work, folder)
    anchor = WallAnchor(time.monotonic(), time.time())
    sockets = UdpSockets(provision.media_sockets(settings, interfaces.addresses()))
    stack.callback(sockets.close)
    plane = Plane(provision.plane(settings), sockets, lambda _: None, entropy=os.urandom, wall=anchor.at)
    inbox = MediaInbox(asyncio.get_running_loop(), settings.media.events_max)
    ticker = Ticker(plane, inbox.put)
    relay = BenchRelay(work, settings, sockets, plane, ticker)
    inbox.deliver = relay.events
    ticker.start()
    stack.push_async_callback(asyncio.to_thread, ticker.stop)
    return relay


def _settings(work: Work, folder: Path) -> Settings:
    """The product's, but for room where the benchmark wants more legs than they allow."""
    settings = Settings(data_dir=folder)
    return settings.model_copy(
        update={
            "media": settings.media.model_copy(update={"legs_max": max(settings.media.legs_max, work.legs)}),
        }
    )


async def main() -> None:
    """What the relay's process does: one step for each thing that it is told, until nobody tells it more."""
    told = commands()
    work = Work.parse((await anext(told))["work"])  # type: ignore[arg-type] # from the process that started us
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="koppel-bench-")))
        relay = await _start(work, folder, stack)
        async for command in told:
            await _obey(command, relay)


async def _obey(command: dict[str, Any], relay: BenchRelay) -> None:
    match command:
        case {"open": [*addresses]}:
            tell(relay=relay.open([(str(host), int(port)) for host, port in addresses]))
        case {"window": "begin"}:
            relay.begin()
        case {"window": "end"}:
            tell(result=relay.end())
        case {"close": True}:
            tell(closed=await relay.close())
        case _:
            tell(error="an unknown command")


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except RelayError as failure:
        tell(error=str(failure))
