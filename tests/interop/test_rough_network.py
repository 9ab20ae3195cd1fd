"""A call survives what networks and strangers do to it: both sides go on hearing each other."""

from __future__ import annotations

import random

import pytest

from tests.interop.agent import agent
from tests.interop.listening import AGENT_HZ, CUSTOMER_HZ, assert_hears
from tests.interop.phone import RATE, Phone, RoughWire

pytestmark = [pytest.mark.interop, pytest.mark.slow]


async def test_loss_reordering_and_duplicates(relay):
    async with agent(relay.ready) as there, Phone(relay.ready, wire=RoughWire(random.Random(1))) as phone:
        await phone.call()
        connected = await there.wait("contact.connected")
        heard = await phone.media.hear(2.0)
        assert_hears(heard, RATE, AGENT_HZ, not_hertz=CUSTOMER_HZ)
        assert_hears(there.listen(1.0), 48_000, CUSTOMER_HZ, not_hertz=AGENT_HZ)
        phone.hang_up()
        await there.wait("contact.ended")
        await there.do("complete")
        contact = str(connected["contact_id"])
    await relay.wait_delivered(contact)
    print(await relay.verify(contact))
