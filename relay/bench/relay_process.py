"""The relay of a benchmark: the product's sockets, plane and ticker in a process of their own, on one core."""

from __future__ import annotations

import asyncio
import os
import resource
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from recorder.capture import Captured
from relay import interfaces, media, provision
from relay.bench import machine
from relay.bench.processes import tell
from relay.bench.product import Product, ProductRecorder, room_beside
from relay.bench.recording import BenchRecorder
from relay.bench.work import SSRC_OF_RELAY, Work
from relay.calls.control import MediaInbox
from relay.calls.switchboard import Switchboard
from relay.config import Settings
from relay.demo.processes import commands
from relay.errors import RelayError
from relay.media import Address, CommandRefused, LegLatched, MediaEvent, OpenLeg, Step
from relay.plane.plane import Plane, Sink
from relay.plane.sockets import UdpSockets
from relay.plane.ticker import Spread, Ticker
from relay.right_of_way import RightOfWay
from signaling.contact import commands as contact
from signaling.contact.participant import ParticipantState, Role
from signaling.contact.record import WallAnchor

_ROLES: Final[tuple[Role, ...]] = ("customer", "agent")


@dataclass(frozen=True, slots=True)
class _Begin:
    """Where the window began."""

    cpu: float
    at: float
    concealed: int
    tick: int
    core_seconds: float
    done: dict[str, int]


class BenchRelay:
    """The parts of a relay that carry media, composed as `relay.server` does it, and their figures."""

    def __init__(
        self,
        work: Work,
        sockets: UdpSockets,
        plane: Plane,
        ticker: Ticker,
        recorder: BenchRecorder | ProductRecorder | None,
        product: Product | None = None,
    ) -> None:
        self._work = work
        self._recorder = recorder
        self._product = product
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
        contact_id = self._work.contact_id(number)
        states = [
            ParticipantState(f"p{place}", _ROLES[place] if place < 2 else "third_party", "trunk", "connected")
            for place, _ in enumerate(members)
        ]
        for state, leg in zip(states, members, strict=True):
            self._switchboard.bind(contact_id, state.participant_id, self._work.leg_id(leg))
        opening = tuple(self._leg(leg, addresses[leg], local) for leg in members)
        waiting: Literal["music"] | None = "music" if self._work.queue else None
        asked: list[contact.ContactCommand] = [contact.SetParties(tuple(states), waiting)]
        if self._recorder is None:
            return self._switchboard.step(contact_id, asked, (), before=opening)
        sides: list[Literal["agent", "other"]] = [_side(state) for state in states]
        asked += [contact.OpenRecording()]
        asked += [contact.OpenTrack(f"p{place}", side, None, "") for place, side in enumerate(sides)]
        # The product records what comes from legs, and can tell the rest; the heavier load has both.
        sent = tuple(
            media.OpenTrack(contact_id, f"to-{leg}", self._work.leg_id(leg), f"to-{leg}", side, direction="to_leg")
            for leg, side in zip(members, sides, strict=True)
        )
        return self._switchboard.step(contact_id, asked, (), before=opening, after=sent)

    def _leg(self, leg: int, address: Address, local: Address) -> OpenLeg:
        return OpenLeg(
            leg_id=self._work.leg_id(leg),
            codec=self._work.codec_of_leg(leg),
            ssrc=SSRC_OF_RELAY + leg,
            receive_key=self._work.key_of_leg(leg),
            send_key=self._work.key_of_relay(leg),
            local=local,
            remote=address,
        )

    def where(self) -> dict[str, Any]:
        """Where the product listens, and who may come."""
        return {} if self._product is None else self._product.where()

    def begin(self) -> None:
        """The window begins."""
        self._ticker.reset()
        self._begin = _Begin(
            cpu=_cpu(),
            at=time.monotonic(),
            concealed=self._concealed(),
            tick=self._plane.tick_number,
            core_seconds=self._core_seconds(),
            done=self._done(),
        )

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
            "worst_ticks": [asdict(profile) for profile in statistics.worst],
            "ticks": {"tick_late_ms": self._ticker.lateness.counts(), "tick_ms": self._ticker.durations.counts()},
            "concealed_ratio": round((self._concealed() - begin.concealed) / (ticks * self._work.legs), 6),
            "rss_mb": _resident_mb(),
            "others_on_core": round(others, 3),
            "dropped": machine.dropped_datagrams(frozenset(port for _, port in self._sockets.addresses)),
            "busy": {name: count - begin.done[name] for name, count in self._done().items()},
            "refusals": self.refusals[:5],
            "notices": self.notices,
        }

    async def close(self) -> dict[str, Any]:
        """Close all legs; what was recorded is counted once it is delivered."""
        asked = [contact.CloseRecording()] if self._recorder is not None else []
        for number, members in enumerate(self._work.conferences):
            closing = tuple(media.CloseLeg(self._work.leg_id(leg)) for leg in members)
            self._plane.apply(self._switchboard.step(self._work.contact_id(number), asked, (), after=closing))
        await asyncio.to_thread(self._ticker.stop)
        if self._recorder is None:
            return {"recorded_tracks": 0, "recording_problems": []}
        tracks = await self._recorder.finish(self._work.seconds)
        return {"recorded_tracks": tracks, "recording_problems": self._recorder.problems[:5]}

    def _core_seconds(self) -> float:
        return machine.core_seconds(self._work.relay_core)

    def _done(self) -> dict[str, int]:
        return {} if self._product is None else self._product.done()

    def _concealed(self) -> int:
        """Of the legs that are measured: others may come and go beside them."""
        legs = self._plane.stages.legs
        known = (legs.by_id.get(self._work.leg_id(leg)) for leg in range(self._work.legs))
        return int(legs.concealed[[leg.row for leg in known if leg is not None]].sum())


def _side(state: ParticipantState) -> Literal["agent", "other"]:
    return "agent" if state.role == "agent" else "other"


def _spread(spread: Spread) -> dict[str, float]:
    return {"p50": spread.p50, "p99": spread.p99, "max": spread.max}


def _cpu() -> float:
    """User and system seconds of all threads, as the kernel counts them."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * resource.getpagesize() / 1e6, 1)


async def _start(work: Work, folder: Path, way: RightOfWay, stack: AsyncExitStack) -> BenchRelay:
    settings = room_beside(Settings(data_dir=folder), work)
    if work.busy:
        return await _start_product(work, settings, way, stack)
    anchor = WallAnchor(time.monotonic(), time.time())
    sockets = UdpSockets(provision.media_sockets(settings, interfaces.addresses()))
    stack.callback(sockets.close)
    recorder = BenchRecorder(settings, folder, way.give_way) if work.record else None
    if recorder is not None:
        recorder.start()
    sink: Sink = recorder.offer if recorder is not None else _nobody
    plane = Plane(provision.plane(settings), sockets, sink, entropy=os.urandom, wall=anchor.at)
    inbox = MediaInbox(asyncio.get_running_loop(), settings.media.events_max)
    ticker = Ticker(plane, inbox.put, right_of_way=way, first=settings.media.realtime)
    relay = BenchRelay(work, sockets, plane, ticker, recorder)
    inbox.deliver = relay.events
    ticker.start()
    stack.push_async_callback(asyncio.to_thread, ticker.stop)
    return relay


async def _start_product(work: Work, settings: Settings, way: RightOfWay, stack: AsyncExitStack) -> BenchRelay:
    """All of it: what is measured are further legs on its plane."""
    product = await Product.start(work, settings, way, stack)
    parts = product.relay.parts
    recorder = product.recorder if work.record else None
    relay = BenchRelay(work, product.relay.sockets, parts.plane, parts.ticker, recorder, product)
    deliver = parts.inbox.deliver

    def both(events: list[MediaEvent]) -> None:
        relay.events(events)
        deliver(events)

    parts.inbox.deliver = both
    return relay


def _nobody(_: list[Captured]) -> None:
    """Without recordings the plane captures nothing."""


async def main(way: RightOfWay) -> None:
    """What the relay's process does: one step for each thing that it is told, until nobody tells it more."""
    told = commands()
    work = Work.parse((await anext(told))["work"])  # type: ignore[arg-type] # from the process that started us
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="koppel-bench-")))
        relay = await _start(work, folder, way, stack)
        async for command in told:
            await _obey(command, relay)


async def _obey(command: dict[str, Any], relay: BenchRelay) -> None:
    match command:
        case {"open": [*addresses]}:
            tell(relay=relay.open([(str(host), int(port)) for host, port in addresses]))
            tell(where=relay.where())
        case {"window": "begin"}:
            relay.begin()
        case {"window": "end"}:
            tell(result=relay.end())
        case {"close": True}:
            tell(closed=await relay.close())
        case _:
            tell(error="an unknown command")


def run() -> None:
    """The process, from its start to its end."""
    right_of_way = RightOfWay()
    try:
        with asyncio.Runner(loop_factory=right_of_way.new_event_loop) as runner:
            runner.run(main(right_of_way))
    except RelayError as failure:
        tell(error=str(failure))


if __name__ == "__main__":
    run()
