"""Softphone legs by the hundred over real loopback: `python -m tests.soak.softphones --cycles 300`, also in `make soak`.

The last line of standard output is one JSON object. Exit code 1: something is left over, and it was printed.
"""

from __future__ import annotations

# ruff: noqa: T201 - it is a program
import argparse
import asyncio
import json
import logging
import sys
import time
from collections.abc import Awaitable, Callable, Iterator

import aioice
from aiortc import RTCPeerConnection

from relay.media import LegId
from relay.webrtc.ice_sockets import SharedSocketConnection
from signaling.errors import RemoteError
from tests.relay.shared_socket import Relay, browser, call, shared_sockets
from tests.soak.remains import Footprint

WARM_UP = 20
RESIDENT_KB_MAX = 6144
OBJECTS_MAX = 40
"""Of one type, more than after the warm-up."""

Way = Callable[[Relay, RTCPeerConnection, LegId], Awaitable[None]]


async def relay_closes(relay: Relay, peer: RTCPeerConnection, leg_id: LegId) -> None:
    """The usual end: an agent logs out."""
    await call(peer, relay, leg_id)
    await relay.wait_until(lambda: leg_id in relay.ready)
    await relay.transports.close(leg_id)


async def browser_closes(relay: Relay, peer: RTCPeerConnection, leg_id: LegId) -> None:
    """A page that is closed in mid-call says so in DTLS."""
    await call(peer, relay, leg_id)
    await relay.wait_until(lambda: leg_id in relay.ready)
    await peer.close()
    await relay.wait_until(lambda: leg_id in relay.lost)


async def closed_while_it_connects(relay: Relay, peer: RTCPeerConnection, leg_id: LegId) -> None:
    """Checks and handshake are under way."""
    await call(peer, relay, leg_id)
    await asyncio.sleep(0)
    await relay.transports.close(leg_id)


async def never_connects(relay: Relay, peer: RTCPeerConnection, leg_id: LegId) -> None:
    """A browser that never answers our checks."""
    await relay.transports.connect(leg_id, peer.localDescription.sdp)
    await asyncio.sleep(0)
    await relay.transports.close(leg_id)


async def no_offer(relay: Relay, peer: RTCPeerConnection, leg_id: LegId) -> None:
    """One that cannot be answered."""
    try:
        await relay.transports.connect(leg_id, peer.localDescription.sdp.replace("m=audio", "m=video"))
    except RemoteError:
        return
    raise AssertionError(leg_id)


WAYS: tuple[Way, ...] = (relay_closes, browser_closes, closed_while_it_connects, never_connects, no_offer)


async def soak(cycles: int) -> tuple[list[str], dict[str, object]]:
    """So many legs after a few to warm up; what is left over in the end, and what was measured."""
    began = time.process_time()
    async with shared_sockets() as relay:
        await _live(relay, 0, WARM_UP)
        before, tasks = Footprint.taken(), len(asyncio.all_tasks())
        await _live(relay, WARM_UP, cycles)
        left = [*_remains(relay)]
        after = Footprint.taken()
        left += [*_grown(before, after), *_more_tasks(tasks)]
    measured: dict[str, object] = {
        "cycles": WARM_UP + cycles,
        "cpu_seconds": round(time.process_time() - began, 1),
        "resident_kb": [before.resident_kb, after.resident_kb],
        "descriptors": [before.descriptors, after.descriptors],
        "objects": [before.objects.total(), after.objects.total()],
        "ready": relay.transports.counters.legs_ready,
    }
    return left, measured


async def _live(relay: Relay, first: int, cycles: int) -> None:
    for number in range(first, first + cycles):
        leg_id = LegId(f"leg-{number}")
        async with browser() as peer:
            await WAYS[number % len(WAYS)](relay, peer, leg_id)
        await _end_tasks_of_browsers()
        relay.ready.pop(leg_id, None)
        relay.lost.pop(leg_id, None)
    relay.moved.clear()
    for opened in relay.sockets:
        opened.srtp.clear()
    await relay.transports.close_all()
    await relay.settle()


async def _end_tasks_of_browsers() -> None:
    """A stock peer that is closed while it connects leaves tasks of its own (aiortc 1.16): they are not what we count."""
    theirs = [task for task in asyncio.all_tasks() if _connection(task) is not None and not _is_ours(task)]
    for task in theirs:
        task.cancel()
    await asyncio.gather(*theirs, return_exceptions=True)


def _connection(task: asyncio.Task[object]) -> object:
    """Of aioice, or the peer, in whose method a task is."""
    frames = task.get_stack()
    one = frames[0].f_locals.get("self") if frames else None
    return one if isinstance(one, aioice.Connection | RTCPeerConnection) else getattr(one, "_connection", None)


def _is_ours(task: asyncio.Task[object]) -> bool:
    return isinstance(_connection(task), SharedSocketConnection)


def _remains(relay: Relay) -> Iterator[str]:
    transports = relay.transports
    for what in ("_legs", "_by_username", "_by_pair", "_requests", "_closing"):
        if len(getattr(transports, what)):
            yield f"{what}: {getattr(transports, what)}"


def _grown(before: Footprint, after: Footprint) -> Iterator[str]:
    if after.resident_kb - before.resident_kb > RESIDENT_KB_MAX:
        yield f"memory: {before.resident_kb} kB grew to {after.resident_kb} kB"
    if after.descriptors != before.descriptors:
        yield f"descriptors: {before.descriptors} → {after.descriptors}"
    if after.threads > before.threads:
        yield f"threads: {before.threads} → {after.threads}"
    for name, count in after.grown(before, objects_max=OBJECTS_MAX).items():
        yield f"objects: {count} more of {name}"


def _more_tasks(before: int) -> Iterator[str]:
    if len(asyncio.all_tasks()) > before:
        yield f"tasks: {[task.get_name() for task in asyncio.all_tasks()]}"


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=300)
    options = parser.parse_args()
    logging.disable()
    left, measured = asyncio.run(soak(options.cycles))
    for sentence in left:
        print(f"left over: {sentence}", file=sys.stderr)
    print(json.dumps({"left_over": left, **measured}))
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
