"""What a softphone's transport costs: ICE, DTLS and SRTP of one leg, standing idle, with media, and to set up.

    python -m benchmarks.softphone_transport [--legs 50] [--seconds 10] [--aiortc-legs 4] [--json]

The relay is a process of its own on core 0, made of the product's parts; the far ends are stock ICE and DTLS of aiortc,
on core 1. CPU is the relay's, user and system, all threads, as the kernel counts it; what the relay costs without a leg
is measured first and taken off. As many legs with SDES keys, as trunks have them, do the same afterwards: what a
softphone costs more is ICE and DTLS. aiortc as it ships echoes for the same far ends in the same run, since absolute
figures move with the machine. Every packet that comes is decrypted and compared with what the neighbour said.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # ours, and by inheritance the relay's

import argparse
import asyncio
import gc
import json
import math
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from aiortc import RTCCertificate

from benchmarks.softphone_peers import LOAD_CORE, RELAY_CORE, RTCP_TICKS, Browser, FarEnd, Telephone, only_loopback
from relay.bench import machine
from relay.demo.processes import DemoProcess
from relay.media import TICK_SECONDS

PATIENCE_SECONDS = 30.0
AIORTC_CODECS = ("PCMU", "opus")
IDLE, MEDIA = "idle_cpu_ms_per_leg_second", "media_cpu_ms_per_leg_second"


@dataclass(frozen=True, slots=True)
class Asked:
    """What is measured."""

    legs: int
    seconds: float
    rate: float
    aiortc_legs: int

    @property
    def settle_seconds(self) -> float:
        """Before something is measured."""
        return min(1.0, self.seconds)


class Server:
    """The process that is measured."""

    def __init__(self, process: DemoProcess) -> None:
        self._process = process
        self._events = process.events()
        self.suite = ""

    @classmethod
    @asynccontextmanager
    async def run(cls, module: str) -> AsyncIterator[Server]:
        """On its core, as long as it is needed."""
        os.sched_setaffinity(0, {RELAY_CORE})
        try:
            process = await DemoProcess.start(module, {})
        finally:
            os.sched_setaffinity(0, {LOAD_CORE})
        server = cls(process)
        try:
            await server.hear("up")
            yield server
        finally:
            await process.stop()

    async def say(self, **what: object) -> None:
        """Ask for something."""
        await self._process.say(what)

    async def hear(self, name: str) -> dict[str, Any]:
        """What it says next of this."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            async for event in self._events:
                if name in event:
                    return event
        raise RuntimeError("the process has ended: its last words stand above")

    async def measure(self, work: Callable[[], Awaitable[None]], *, stretches: bool = False) -> dict[str, Any]:
        """CPU while something is done."""
        await self.say(window="begin", stretches=stretches)
        await work()
        await self.say(window="end")
        told = await self.hear("window")
        return {**told["window"], "stretches": told["stretches"]}

    async def set_up(self, browsers: Sequence[Browser], rate: float) -> list[float]:
        """Connect all, so many a second; seconds from offer to keys of each."""
        offers = [await browser.offer() for browser in browsers]
        begun: dict[int, float] = {}
        took: dict[int, float] = {}
        tasks: list[asyncio.Task[None]] = []

        async def offer() -> None:
            start = time.monotonic()
            for number, sdp in enumerate(offers):
                await asyncio.sleep(start + number / rate - time.monotonic())
                begun[number] = time.monotonic()
                await self.say(connect=number, sdp=sdp)

        offering = asyncio.create_task(offer())
        async with asyncio.timeout(len(browsers) / rate + PATIENCE_SECONDS):
            while len(took) < len(browsers):
                event = await anext(self._events)
                if "answer" in event:
                    tasks.append(asyncio.create_task(browsers[event["answer"]].connect(event["sdp"])))  # type: ignore[index,arg-type]
                elif "ready" in event:
                    took[event["ready"]] = time.monotonic() - begun[event["ready"]]  # type: ignore[index]
                    self.suite = str(event["suite"])
        await asyncio.gather(offering, *tasks)
        return list(took.values())


async def keep_time(ends: Sequence[FarEnd], first: int, last: int, *, talking: bool) -> None:
    """Live through ticks: RTCP now and then, and a packet each if they talk."""
    begin = time.monotonic()
    for tick in range(first, last):
        for number, end in enumerate(ends):
            if talking:
                end.send(tick)
            if (tick + number * 97) % RTCP_TICKS == 0:
                end.report()
        for end in ends:
            end.listen()
        await asyncio.sleep(max(0.0, begin + (tick - first + 1) * TICK_SECONDS - time.monotonic()))


async def stand(ends: Sequence[FarEnd], seconds: float) -> None:
    """Nobody talks."""
    await keep_time(ends, 0, round(seconds / TICK_SECONDS), talking=False)


async def talk(server: Server, ends: Sequence[FarEnd], asked: Asked) -> dict[str, Any]:
    """Media both ways; counted from when it has settled."""
    settled, ticks = round(asked.settle_seconds / TICK_SECONDS), round(asked.seconds / TICK_SECONDS)
    for end in ends:
        end.encrypt(settled + ticks)
    gc.collect()
    gc.disable()
    await keep_time(ends, 0, settled, talking=True)
    earlier = [end.take() for end in ends]
    window = await server.measure(lambda: keep_time(ends, settled, settled + ticks, talking=True))
    gc.enable()
    for end, heard in zip(ends, earlier, strict=True):
        end.count(heard)  # SRTP is decrypted in order
    counted = [end.count(end.take()) for end in ends]
    return {
        **window,
        "sent": ticks * len(ends),
        "authentic": sum(each.authentic for each in counted),
        "right": sum(each.right for each in counted),
        "refused": sum(each.refused for each in counted),
        "legs_right": sum(each.right >= 0.99 * ticks for each in counted),
    }


async def measure_relay(asked: Asked) -> dict[str, Any]:
    """All phases of the relay."""
    certificate = RTCCertificate.generateCertificate()
    result: dict[str, Any] = {}
    async with Server.run("benchmarks.softphone_relay") as server:
        await asyncio.sleep(asked.settle_seconds)
        idle = await server.measure(lambda: stand((), asked.seconds))
        result["without_legs"] = idle
        browsers = [Browser(number, certificate) for number in range(asked.legs)]
        took: list[float] = []

        async def set_up() -> None:
            took.extend(await server.set_up(browsers, asked.rate))

        result["set_up"] = {**(await server.measure(set_up, stretches=True)), "took_s": took}
        await stand(browsers, asked.settle_seconds)
        result["softphone"] = await phases(server, "softphone", browsers, asked)

        async def close() -> None:
            await server.say(close="softphone", count=asked.legs)
            await stand(browsers, asked.settle_seconds)

        result["close"] = await server.measure(close, stretches=True)
        for browser in browsers:
            await browser.close()
        telephones = [Telephone(number, server.suite) for number in range(asked.legs)]
        await server.say(trunks=[telephone.address for telephone in telephones], suite=server.suite)
        host, port = (await server.hear("relay"))["relay"]
        for telephone in telephones:
            telephone.relay = host, port
        await asyncio.sleep(asked.settle_seconds)
        result["trunk"] = await phases(server, "trunk", telephones, asked)
        for telephone in telephones:
            await telephone.close()
        result["suite"] = server.suite
    return result


async def phases(server: Server, kind: str, ends: Sequence[FarEnd], asked: Asked) -> dict[str, Any]:
    """Legs of one kind, standing idle and then talking in pairs."""
    idle = await server.measure(lambda: stand(ends, asked.seconds))
    await server.say(pair=kind, count=len(ends), talking=True)
    media = await talk(server, ends, asked)
    await server.say(counted=kind, count=len(ends))
    counted = await server.hear("counted")
    await server.say(pair=kind, count=len(ends), talking=False)
    sent = sum(end.sent for end in ends)
    return {"idle": idle, "media": media, "sent_in_all": sent, **counted}


async def measure_aiortc(encoding: str, asked: Asked) -> dict[str, Any]:
    """The same far ends, and peer connections of aiortc that echo."""
    certificate = RTCCertificate.generateCertificate()
    async with Server.run("benchmarks.softphone_stock") as server:
        browsers = [Browser(number, certificate, encoding) for number in range(asked.aiortc_legs)]

        async def set_up() -> None:
            await server.set_up(browsers, asked.rate)

        set_up_window = await server.measure(set_up)
        await stand(browsers, asked.settle_seconds)
        idle = await server.measure(lambda: stand(browsers, asked.seconds))
        media = await talk(server, browsers, asked)
        await server.say(close=True)
        for browser in browsers:
            await browser.close()
    return {"set_up": set_up_window, "idle": idle, "media": media}


async def run(asked: Asked) -> dict[str, Any]:
    """One run."""
    only_loopback()
    relay = await measure_relay(asked)
    aiortc = (
        {encoding: await measure_aiortc(encoding, asked) for encoding in AIORTC_CODECS} if asked.aiortc_legs else {}
    )
    return summary(asked, relay, aiortc)


def summary(asked: Asked, relay: dict[str, Any], aiortc: dict[str, Any]) -> dict[str, Any]:
    """CPU ms a leg-second, and what must be right for it to count."""
    fixed = relay["without_legs"]["cpu_ms"] / relay["without_legs"]["seconds"]

    def a_leg_second(window: dict[str, Any]) -> float:
        return round((window["cpu_ms"] / window["seconds"] - fixed) / asked.legs, 4)

    def control(window: dict[str, Any]) -> float:
        return round(window["control_ms"] / window["seconds"] / asked.legs, 4)

    def a_leg(window: dict[str, Any]) -> float:
        return round((window["cpu_ms"] - fixed * window["seconds"]) / asked.legs, 3)

    took = np.array(relay["set_up"]["took_s"]) * 1000
    result: dict[str, Any] = {
        "machine": machine.description(),
        "legs": asked.legs,
        "seconds": asked.seconds,
        "suite": relay["suite"],
        "without_legs_cpu_ms_per_second": round(fixed, 2),
        "set_up": {
            "cpu_ms_per_leg": a_leg(relay["set_up"]),
            "control_ms_per_leg": round(relay["set_up"]["control_ms"] / asked.legs, 3),
            "per_second": asked.rate,
            "took_ms": {"p50": round(float(np.median(took)), 1), "max": round(float(took.max()), 1)},
            "loop_kept_ms": relay["set_up"]["stretches"],
        },
        "close": {"cpu_ms_per_leg": a_leg(relay["close"]), "loop_kept_ms": relay["close"]["stretches"]},
        "others_on_core": {kind: relay[kind]["media"]["others_on_core"] for kind in ("softphone", "trunk")},
    }
    for kind in ("softphone", "trunk"):
        media = relay[kind]["media"]
        result[kind] = {
            IDLE: a_leg_second(relay[kind]["idle"]),
            MEDIA: a_leg_second(media),
            **{f"{phase}_control": control(relay[kind][phase]) for phase in ("idle", "media")},
            "missed_ticks": relay[kind]["missed_ticks"],
            "sent": media["sent"],
            "authentic": media["authentic"],
            "right": media["right"],
            "refused": media["refused"],
            "legs_right": media["legs_right"],
            "relay_received_of": [relay[kind]["counted"]["received"], relay[kind]["sent_in_all"]],
            "relay_refused": relay[kind]["counted"]["unauthenticated"],
            "legs_lost": relay[kind]["lost"],
            "defects": relay[kind]["defects"],
        }
    for encoding, windows in aiortc.items():
        media = windows["media"]
        legs = asked.aiortc_legs
        result[f"aiortc {encoding}"] = {
            "legs": legs,
            "set_up_cpu_ms_per_leg": round(windows["set_up"]["cpu_ms"] / legs, 3),
            IDLE: round(windows["idle"]["cpu_ms"] / windows["idle"]["seconds"] / legs, 4),
            MEDIA: round(media["cpu_ms"] / media["seconds"] / legs, 3),
            "sent": media["sent"],
            "authentic": media["authentic"],
            "refused": media["refused"],
        }
    return result


def shortcomings(result: dict[str, Any]) -> list[str]:
    """Why the figures do not count."""
    return [
        f"{kind}: {of['legs_right']} of {result['legs']} legs heard their neighbour; {of['legs_lost']} lost"
        for kind in ("softphone", "trunk")
        if (of := result[kind])["legs_right"] < result["legs"] or of["legs_lost"] or of["defects"]
    ]


def table(result: dict[str, Any]) -> str:
    """For people."""
    one, two, set_up, close = result["softphone"], result["trunk"], result["set_up"], result["close"]
    rows = [
        ("softphone leg", set_up["cpu_ms_per_leg"], one),
        ("trunk leg (SDES)", math.nan, two),
        *((name, of["set_up_cpu_ms_per_leg"], of) for name, of in result.items() if name.startswith("aiortc")),
    ]
    figures = [(name, cost, of[IDLE], of[MEDIA]) for name, cost, of in rows]
    share = "of it, the control loop's"
    figures.insert(1, (share, set_up["control_ms_per_leg"], one["idle_control"], one["media_control"]))
    figures.insert(3, (share, math.nan, two["idle_control"], two["media_control"]))
    figures.append(("ICE and DTLS (the difference)", math.nan, one[IDLE] - two[IDLE], one[MEDIA] - two[MEDIA]))
    kept, took = set_up["loop_kept_ms"], set_up["took_ms"]
    return "\n".join(
        [
            f"{result['machine']}; {result['legs']} legs, {result['seconds']:g} s a phase, {result['suite']}",
            f"{'':30}{'set-up, CPU ms':>16}{'idle':>10}{'media':>10}  CPU ms a leg-second",
            *(
                f"{name:30}{cost:16.2f}{idle:10.3f}{media:10.3f}".replace("nan", "  -")
                for name, cost, idle, media in figures
            ),
            f"without legs: {result['without_legs_cpu_ms_per_second']} ms a second; "
            f"missed ticks: {one['missed_ticks']} with softphones, {two['missed_ticks']} with trunks",
            f"{set_up['per_second']:g} set-ups a second: a leg took {took['p50']} ms (at most {took['max']}); the loop "
            f"was kept {kept['max']} ms at a stretch (p99 {kept['p99']}, {kept['over_1_ms']} times over 1 ms)",
            f"to close a leg: {close['cpu_ms_per_leg']} ms; the loop was kept {close['loop_kept_ms']['max']} ms",
            f"right packets: softphones {one['right']} of {one['sent']}, trunks {two['right']} of {two['sent']}",
        ]
    )


def main() -> None:
    """Print a table, or one JSON object; 1 if what was heard was not right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--legs", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=20.0, help="set-ups a second")
    parser.add_argument("--aiortc-legs", type=int, default=4, help="0: leave the comparison out")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    result = asyncio.run(run(Asked(given.legs, given.seconds, given.rate, given.aiortc_legs)))
    print(json.dumps(result) if given.json else table(result))
    wrong = shortcomings(result)
    for each in wrong:
        print(each, file=sys.stderr)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
