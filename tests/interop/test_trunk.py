"""Telephones of other people's making call the relay: what waiting sounds like, their own hold, and their digits."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from tests.interop import baresip
from tests.interop.agent import agent
from tests.interop.listening import AGENT_HZ, CUSTOMER_HZ, MUSIC_HZ, assert_hears, strongest, tone
from tests.interop.pjsua import needs_pjsua2, pjsua

pytestmark = [pytest.mark.interop, pytest.mark.slow]

RATE = 8_000


@pytest.fixture
def microphone(tmp_path):
    """The customer's tone, for longer than any of these calls."""
    return baresip.write_wav(tmp_path / "customer.wav", tone(CUSTOMER_HZ, RATE)(0, RATE * 60), RATE)


async def test_baresip_waits_with_music_and_gives_up(program, relay, tmp_path, microphone):
    async with baresip.baresip(program("baresip"), tmp_path / "baresip", relay.ready, microphone) as phone:
        await phone.dial()
        await phone.wait("CALL_ESTABLISHED")
        assert abs(strongest(await phone.listen(1.0), RATE) - MUSIC_HZ) < 2.0
        await phone.hang_up()
        await phone.wait("CALL_CLOSED")
    assert (await relay.metrics())["koppel_contacts_ended_total{client}"] == 1


async def test_baresip_holds_and_resumes_the_call_itself(program, relay, tmp_path, microphone):
    async with (
        agent(relay.ready) as there,
        baresip.baresip(program("baresip"), tmp_path / "baresip", relay.ready, microphone) as phone,
    ):
        await phone.dial()
        await there.wait("contact.connected")
        assert_hears(await phone.listen(1.0), RATE, AGENT_HZ, not_hertz=CUSTOMER_HZ)
        await phone.hold()
        await asyncio.sleep(1.5)
        assert np.abs(there.listen(0.8).astype(int)).max() < 100  # it sends nothing, and is not hung up for it
        await phone.resume()
        # Its own file of what it hears ends with its first hold, though it counts what it goes on receiving: what
        # comes back to the holder is PJSIP's part, below.
        await asyncio.sleep(1.5)
        assert_hears(there.listen(0.8), 48_000, CUSTOMER_HZ, not_hertz=AGENT_HZ)
        await there.do("hang_up")
        await phone.wait("CALL_CLOSED")


@needs_pjsua2
async def test_pjsip_talks_in_a_law_holds_dials_digits_and_hangs_up(relay, tmp_path, microphone):
    async with agent(relay.ready) as there, pjsua(tmp_path, relay.ready, microphone) as phone:
        await phone.wait("CONFIRMED")
        contact = str((await there.wait("contact.connected"))["contact_id"])

        async def both_hear_each_other() -> None:
            await asyncio.sleep(0.3)
            heard, rate = await phone.listen(1.0)
            assert_hears(heard, rate, AGENT_HZ, not_hertz=CUSTOMER_HZ)
            assert_hears(there.listen(0.8), 48_000, CUSTOMER_HZ, not_hertz=AGENT_HZ)

        await both_hear_each_other()
        await phone.do("hold")
        await phone.wait("media")
        await phone.do("resume")
        await phone.wait("media")
        await both_hear_each_other()
        await phone.do("dtmf", digits="12#")
        await asyncio.sleep(1.0)
        await both_hear_each_other()
        assert (await relay.metrics())["koppel_exchange_events_total{telephone events}"] == 3
        await phone.do("hang_up")
        assert (await there.wait("contact.ended"))["reason"] == "hung_up_by_customer"
    await relay.wait_delivered(contact)
    answer = await relay.verify(contact)
    assert answer["ended"] == "closed"
