"""The relay of `benchmarks.softphone_transport`: sockets, plane, ticker and softphone transports of the product.

Composed as `relay.server` does it, with the exchange and the control loop between plane and transports, but without
SIP listeners, pages and database: agents are logged in, and nobody reads what their pages are told.
"""

from __future__ import annotations

import asyncio
import os
import random
import resource
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from aiortc import RTCCertificate

from benchmarks import softphone_peers as peers
from benchmarks.softphone_peers import ProcessWindow
from relay import interfaces, provision
from relay.bench.processes import tell
from relay.calls.control import Control, Keeping, LoggedInUser, MediaInbox
from relay.calls.effects import ContactFinished, ContactLogged, Identity
from relay.calls.exchange import Exchange
from relay.calls.trunk_calls import TrunkCalls
from relay.config import Settings
from relay.demo.processes import commands
from relay.media import CloseLeg, Codec, ConferenceId, Gain, LegId, OpenLeg, SetCrosspoints, Step
from relay.plane.plane import Plane
from relay.plane.sockets import UdpSockets
from relay.plane.ticker import Ticker
from relay.webrtc.softphone_leg import ReadyLeg, SoftphoneTransports
from signaling.sip.trunks import Trunks
from signaling.sip.user_agent import UserAgent
from signaling.softphone import messages as m
from signaling.softphone.session import SoftphoneSession


class Nobody:
    """Keeps nothing, and knows everybody."""

    def logged(self, effect: ContactLogged) -> None:
        """Not kept."""

    def finished(self, effect: ContactFinished) -> None:
        """Not kept."""

    async def authenticate(self, token: str) -> LoggedInUser | None:
        """Whoever says who it is."""
        return LoggedInUser(token, "agent")


class Stretches:
    """How long the control loop was kept at a stretch: CPU of each callback; only while it is asked for."""

    def __init__(self) -> None:
        self._run = asyncio.Handle._run  # type: ignore[attr-defined]
        self.seconds: list[float] = []

    def begin(self) -> None:
        """From now on."""
        run, seconds = self._run, self.seconds

        def timed(handle: asyncio.Handle) -> None:
            begin = time.thread_time()
            run(handle)
            seconds.append(time.thread_time() - begin)

        asyncio.Handle._run = timed  # type: ignore[attr-defined]

    def end(self) -> dict[str, float]:
        """Until now."""
        asyncio.Handle._run = self._run  # type: ignore[attr-defined]
        longest = sorted(self.seconds)
        self.seconds.clear()
        return {
            "p99": round(longest[int(len(longest) * 0.99)] * 1000, 2),
            "max": round(longest[-1] * 1000, 2),
            "over_1_ms": sum(each > 0.001 for each in longest),
            "count": len(longest),
        }


class BenchRelay:
    """The parts, and what is asked of them."""

    def __init__(self, sockets: UdpSockets, plane: Plane, control: Control, transports: SoftphoneTransports) -> None:
        self.sockets = sockets
        self.plane = plane
        self.control = control
        self.transports = transports
        self.numbers: dict[LegId, int] = {}
        self.softphones: dict[int, LegId] = {}
        self.stretches = Stretches()
        self.window = ProcessWindow()
        self._missed = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def leg_ready(self, leg_id: LegId, ready: ReadyLeg) -> None:
        """ICE and DTLS are done."""
        self.control.leg_ready(leg_id, ready)
        number = int(leg_id.split("/")[1])
        self.softphones[number] = leg_id
        tell(ready=number, suite=ready.receive_key.suite)

    def connect(self, number: int, sdp: str) -> None:
        """An agent's page offers media."""
        task = asyncio.create_task(self._connect(number, sdp))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, number: int, sdp: str) -> None:
        await self.control.log_in(str(number), SoftphoneSession(f"s{number}", "127.0.0.1", 1))
        self.control._sessions.clear()  # pages are not measured here
        answer = await self.control.request(f"s{number}", m.ConnectMedia(sdp))
        tell(answer=number, sdp=answer["sdp"])

    def open_trunks(self, addresses: list[list[Any]], suite: str) -> None:
        """Legs as trunks have them: keys by SDES, and no ICE."""
        for number, (host, port) in enumerate(addresses):
            keys = peers.trunk_keys(number, suite)
            opened = OpenLeg(
                LegId(f"trunk/{number}"),
                Codec("PCMU", 0),
                0x10000000 + number,
                keys[0],
                keys[1],
                self.sockets.addresses[0],
                (host, port),
            )
            self.plane.apply(Step(None, (opened,)))

    def pair(self, kind: str, count: int, *, talking: bool) -> None:
        """Each leg talks with its neighbour, or with nobody any more."""
        legs = [self._leg(kind, number) for number in range(count)]
        for first in range(0, count - 1, 2):
            one, other = legs[first : first + 2]
            gains = (Gain(one, other, 1.0), Gain(other, one, 1.0)) if talking else ()
            self.plane.apply(Step(None, (SetCrosspoints(ConferenceId(f"{kind}-{first}"), gains),)))

    def _leg(self, kind: str, number: int) -> LegId:
        return self.softphones[number] if kind == "softphone" else LegId(f"trunk/{number}")

    async def close(self, kind: str, count: int) -> None:
        """End all legs of a kind."""
        for number in range(count):
            if kind == "trunk":
                self.plane.apply(Step(None, (CloseLeg(self._leg(kind, number)),)))
            else:
                self.control.exchange.media_closed(f"s{number}", self.control.now)
                self.control._flush()
        await asyncio.gather(*self.control._tasks)

    def missed(self) -> int:
        """Ticks that did not take place since this was last asked: the machine was busy, and CPU is missing."""
        count, self._missed = self._missed, self.plane.counters["missed_ticks"]
        return self._missed - count

    def counted(self, kind: str, count: int) -> dict[str, int]:
        """Packets of the legs of a kind that authenticated, and those that did not."""
        legs = self.plane.stages.legs
        rows = [legs.by_id[self._leg(kind, number)].row for number in range(count)]
        return {
            "received": int(self.plane.stages.intake.reception.received[rows].sum()),
            "unauthenticated": int(legs.unauthenticated[rows].sum()),
        }


async def start(stack: AsyncExitStack) -> BenchRelay:
    """All parts, as the composition root starts them."""
    settings = Settings(data_dir=Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="koppel-bench-"))))
    sockets = UdpSockets(provision.media_sockets(settings, interfaces.addresses()))
    stack.callback(sockets.close)
    plane = Plane(provision.plane(settings), sockets, lambda _: None, entropy=os.urandom, wall=lambda now: now)
    inbox = MediaInbox(asyncio.get_running_loop(), settings.media.events_max)
    ticker = Ticker(plane, inbox.put)
    agent = UserAgent(
        provision.user_agent(settings, {"tls": settings.sip.port}),
        Trunks(provision.trunks(settings)),
        entropy=os.urandom,
        rng=random.SystemRandom(),
    )
    calls = TrunkCalls(control=agent, addresses=tuple(sockets.addresses), advertised={}, trunks={}, entropy=os.urandom)
    exchange = Exchange(Identity("bench", "bench"), provision.exchange(settings), calls, entropy=os.urandom)
    nobody = Nobody()
    control = Control(exchange, submit=plane.apply, keeping=Keeping(nobody, nobody.authenticate))
    inbox.deliver = control.media_events
    transports = SoftphoneTransports(
        sockets.addresses,
        sockets.send_control,
        RTCCertificate.generateCertificate(),
        entropy=os.urandom,
        on_ready=lambda leg_id, ready: relay.leg_ready(leg_id, ready),  # noqa: PLW0108 - the relay comes after
        on_moved=control.leg_moved,
        on_lost=control.leg_lost,
        settings=provision.softphone_media(settings),
    )
    control.transports = transports
    stack.push_async_callback(transports.close_all)
    relay = BenchRelay(sockets, plane, control, transports)
    ticker.start()
    stack.push_async_callback(asyncio.to_thread, ticker.stop)
    return relay


async def obey(command: dict[str, Any], relay: BenchRelay) -> None:
    """One thing that the benchmark asks."""
    match command:
        case {"connect": number, "sdp": sdp}:
            relay.connect(number, sdp)
        case {"trunks": addresses, "suite": suite}:
            relay.open_trunks(addresses, suite)
            tell(relay=relay.sockets.addresses[0])
        case {"pair": kind, "count": count, "talking": talking}:
            relay.pair(kind, count, talking=talking)
        case {"close": kind, "count": count}:
            await relay.close(kind, count)
        case {"window": "begin", "stretches": stretches}:
            if stretches:
                relay.stretches.begin()
            relay.window.begin()
        case {"window": "end"}:
            told = relay.window.end()
            tell(window=told, stretches=relay.stretches.end() if relay.stretches.seconds else None)
        case {"counted": kind, "count": count}:
            counters = relay.transports.counters
            tell(
                counted=relay.counted(kind, count),
                lost=counters.legs_lost,
                defects=relay.control.defects,
                missed_ticks=relay.missed(),
            )


async def main() -> None:
    """Until nobody asks any more."""
    async with AsyncExitStack() as stack:
        relay = await start(stack)
        tell(up=True, threads=resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw)
        async for command in commands():
            await obey(command, relay)


if __name__ == "__main__":
    asyncio.run(main())
