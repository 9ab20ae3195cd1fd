"""`kill -9` in mid-call: what was said up to a second before is delivered, proven, and says how it ended."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.interop.agent import Agent, agent
from tests.interop.listening import Stereo, TimeCode
from tests.interop.phone import RATE, Phone
from tests.interop.relay_process import RelayProcess, wait_until

pytestmark = [pytest.mark.interop, pytest.mark.slow]

SEED = 20_261_124
KILLS = 10
RELAYS = 2
"""At a time; each is killed and started again on its own data directory, over and over."""
LOSS_BOUND_S = 1.0
HOLD_S, RESUME_S = 2.0, 3.5
EARLIEST_S, LATEST_S = 0.3, 6.0
EDGE_S = 0.3
"""What is on its way when an agent presses a key."""

CUSTOMER, AGENT = TimeCode(RATE), TimeCode(48_000)


Spans = tuple[tuple[float, float], ...]
"""Stretches that must be recorded, in seconds of a track's time code."""


@dataclass(frozen=True)
class Killed:
    """One call that a kill has ended, and what of each side's voice was to be recorded."""

    contact: str
    after_s: float
    customer: Spans
    agent: Spans


async def test_a_kill_costs_at_most_a_second_of_each_track(tmp_path):
    rng = random.Random(SEED)
    points = [rng.uniform(EARLIEST_S, LATEST_S) for _ in range(KILLS)]
    shares = [points[first::RELAYS] for first in range(RELAYS)]
    async with asyncio.TaskGroup() as group:
        for number, share in enumerate(shares):
            group.create_task(kill_again_and_again(tmp_path / f"relay-{number}", share))


async def kill_again_and_again(folder: Path, points: list[float]) -> None:
    async with RelayProcess(folder) as relay:
        for after_s in points:
            killed = await call_and_kill(relay, after_s)
            await relay.start()
            await check(relay, killed)
        whole = await relay.koppel("verify", "--instance", "--replay", "--json")
        assert whole.code == 0, whole.out
        assert whole.json()["contacts"] == len(points)


async def call_and_kill(relay: RelayProcess, after_s: float) -> Killed:
    async with agent(relay.ready, AGENT.sound) as there, Phone(relay.ready, CUSTOMER.sound) as phone:
        await phone.call()
        contact = str((await there.wait("contact.connected"))["contact_id"])
        loop = asyncio.get_running_loop()
        begun = loop.time()
        turns = [sent(phone, there)]
        for action, at_s in (("hold", HOLD_S), ("resume", RESUME_S)):
            if at_s < after_s:
                await asyncio.sleep(begun + at_s - loop.time())
                await there.do(action)
                turns.append(sent(phone, there))
        await asyncio.sleep(begun + after_s - loop.time())
        turns.append(sent(phone, there))
        relay.kill()
    customer = [spoken for spoken, _ in turns]
    recorded = {2: customer, 3: customer[:2], 4: customer}[len(turns)]  # not while on hold (G2)
    return Killed(contact, after_s, tuple(batched(recorded)), ((turns[0][1], turns[-1][1]),))


def batched(turns: list[float]) -> Iterator[tuple[float, float]]:
    return zip(turns[::2], turns[1::2], strict=True)


def sent(phone: Phone, there: Agent) -> tuple[float, float]:
    """How far each side's voice has come."""
    return phone.media.sent[-1][1] / RATE, there.track.sent[-1][1] / 48_000 if there.track.sent else 0.0


async def check(relay: RelayProcess, killed: Killed) -> None:
    await relay.wait_delivered(killed.contact)
    answer = await relay.verify(killed.contact)
    assert answer["ended"] == "found open after a crash"
    wav = relay.folder / f"{killed.contact}.wav"
    ran = await relay.koppel("export", killed.contact, wav)
    assert ran.code == 0, ran.err
    stereo = Stereo.read(wav)
    for spans, last in (
        (killed.customer, CUSTOMER.last_sent(stereo.left, stereo.rate)),
        (killed.agent, AGENT.last_sent(stereo.right, stereo.rate)),
    ):
        assert lost(spans, last) < LOSS_BOUND_S, (killed, last)
        assert last is None or any(first - EDGE_S < last < end + EDGE_S for first, end in spans), (killed, last)


def lost(spans: Spans, last: float | None) -> float:
    """How much of what was to be recorded came after the last that was."""
    return sum(max(0.0, end - max(first, last or 0.0)) for first, end in spans)


async def test_a_kill_while_the_call_waits_leaves_no_recording_and_no_damage(relays):
    relay = await relays()
    async with Phone(relay.ready) as phone:
        await phone.call()
        await phone.media.hear(0.5)
        relay.kill()
    await relay.start()
    await wait_until(lambda: relay.logged("contact found open after a restart"))
    for recording in await relay.recordings():
        assert recording["seconds"] == 0.0
        await relay.verify(recording["contact_id"])
