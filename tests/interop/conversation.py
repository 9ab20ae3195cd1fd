"""A conversation between the test's own telephone and an agent, through a real relay and into its store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.interop.agent import Agent, agent
from tests.interop.listening import AGENT_HZ, CUSTOMER_HZ, assert_hears
from tests.interop.phone import RATE, Phone, Wire, perfect_wire
from tests.interop.relay_process import RelayProcess


@dataclass
class Call:
    """A conversation that has begun."""

    relay: RelayProcess
    there: Agent
    phone: Phone
    contact: str

    async def both_hear_each_other(self, seconds: float = 1.0) -> None:
        heard = await self.phone.media.hear(seconds)
        assert_hears(heard, RATE, AGENT_HZ, not_hertz=CUSTOMER_HZ)
        assert_hears(self.there.listen(seconds - 0.3), 48_000, CUSTOMER_HZ, not_hertz=AGENT_HZ)

    async def dropped(self, reason: str) -> float:
        return (await self.relay.metrics())[f"koppel_packets_dropped_total{{{reason}}}"]


@asynccontextmanager
async def conversation(relay: RelayProcess, wire: Wire = perfect_wire) -> AsyncIterator[Call]:
    """Ends with its recording in the store, proven to level 3."""
    async with agent(relay.ready) as there, Phone(relay.ready, wire=wire) as phone:
        await phone.call()
        connected = await there.wait("contact.connected")
        call = Call(relay, there, phone, str(connected["contact_id"]))
        await call.both_hear_each_other()
        yield call
        await call.both_hear_each_other()
        phone.hang_up()
        assert (await there.wait("contact.ended"))["reason"] == "hung_up_by_customer"
    await relay.wait_delivered(call.contact)


async def recorded(relay: RelayProcess, contact: str) -> dict[str, dict[str, Any]]:
    """The tracks by participant, all authentic and every gap explained."""
    answer = await relay.verify(contact)
    assert answer["ended"] == "closed"
    return {track["participant"].rstrip("-0123456789"): track for track in answer["tracks"]}
