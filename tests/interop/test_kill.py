"""`kill -9` in mid-call: what was said up to a second before is delivered, proven, and says how it ended."""

from __future__ import annotations

import asyncio
import random
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
PRECISION_S = 0.05
"""Of the time code, and of the codecs' delay."""

CUSTOMER, AGENT = TimeCode(RATE), TimeCode(48_000)


@dataclass(frozen=True)
class Killed:
    """One call that a kill has ended, and what had been sent by then, in seconds of each time code."""

    contact: str
    after_s: float
    customer_sent_s: float
    agent_sent_s: float
    joined_customer_s: float
    joined_agent_s: float


async def test_a_kill_costs_at_most_a_second_of_each_track(tmp_path):
    rng = random.Random(SEED)
    points = [rng.uniform(EARLIEST_S, LATEST_S) for _ in range(KILLS)]
    shares = [points[first::RELAYS] for first in range(RELAYS)]
    async with asyncio.TaskGroup() as group:
        for number, share in enumerate(shares):
            group.create_task(kill_again_and_again(tmp_path / f"relay-{number}", share))


async def kill_again_and_again(folder: Path, points: list[float]) -> None:
    relay = RelayProcess(folder)
    await relay.start()
    for after_s in points:
        killed = await call_and_kill(relay, after_s)
        await relay.start()
        await check(relay, killed)
    whole = await relay.koppel("verify", "--instance", "--replay", "--json")
    assert whole.code == 0, whole.out
    assert whole.json()["contacts"] == len(points)
    await relay.stop()


async def call_and_kill(relay: RelayProcess, after_s: float) -> Killed:
    async with agent(relay.ready, AGENT.sound) as there, Phone(relay.ready, CUSTOMER.sound) as phone:
        await phone.call()
        contact = str((await there.wait("contact.connected"))["contact_id"])
        loop = asyncio.get_running_loop()
        joined, begun = sent(phone, there), loop.time()
        held = None
        for action, at_s in (("hold", HOLD_S), ("resume", RESUME_S)):
            if after_s < at_s:
                break
            await asyncio.sleep(begun + at_s - loop.time())
            await there.do(action)
            held = sent(phone, there) if action == "hold" else None
        await asyncio.sleep(begun + after_s - loop.time())
        last = sent(phone, there)
        relay.kill()
        customer = held or last  # while on hold, nothing of the customer is recorded (G2)
        return Killed(contact, after_s, customer[0], last[1], *joined)


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
    customer = CUSTOMER.last_sent(stereo.left, stereo.rate)
    at_desk = AGENT.last_sent(stereo.right, stereo.rate)
    lost = {
        "customer": killed.customer_sent_s - (killed.joined_customer_s if customer is None else customer),
        "agent": killed.agent_sent_s - (killed.joined_agent_s if at_desk is None else at_desk),
    }
    for track, seconds in lost.items():
        assert -PRECISION_S < seconds < LOSS_BOUND_S, (track, seconds, killed)


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
