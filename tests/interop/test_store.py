"""Recordings in an S3 store of other people's making: delivered, refused, away; a call never notices."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop.agent import Agent, agent
from tests.interop.listening import AGENT_HZ, CUSTOMER_HZ, Stereo, assert_hears, tells
from tests.interop.phone import RATE, Phone
from tests.interop.relay_process import RelayProcess, wait_until
from tests.interop.seaweed import Seaweed, seaweed

pytestmark = [pytest.mark.interop, pytest.mark.slow]


@pytest.fixture(scope="module")
def store(program, tmp_path_factory) -> Seaweed:
    prepared = seaweed(program("weed"), tmp_path_factory.mktemp("seaweed"))
    with prepared.running():
        yield prepared


async def short_call(relay: RelayProcess, there: Agent) -> str:
    """Two seconds in which both hear each other; returns the contact."""
    async with Phone(relay.ready) as phone:
        await phone.call()
        contact = str((await there.wait("contact.connected"))["contact_id"])
        await phone.media.hear(1.0)
        assert_hears(await phone.media.hear(1.0), RATE, AGENT_HZ, not_hertz=CUSTOMER_HZ)
        assert_hears(there.listen(0.8), 48_000, CUSTOMER_HZ, not_hertz=AGENT_HZ)
        phone.hang_up()
        await there.wait("contact.ended")
        await there.do("complete")
        await there.wait("contact.closed")
    return contact


async def check(relay: RelayProcess, contact: str, folder: Path) -> None:
    """It is all in the store: proven to level 3, and to be heard."""
    assert (await relay.verify(contact))["ended"] == "closed"
    wav = folder / f"{contact}.wav"
    assert (await relay.koppel("export", contact, wav)).code == 0
    stereo = Stereo.read(wav)
    for side, own, other in ((stereo.left, CUSTOMER_HZ, AGENT_HZ), (stereo.right, AGENT_HZ, CUSTOMER_HZ)):
        told = tells(side, stereo.rate, own, (other,))[3:-3]
        assert (told == "tone").sum() >= told.size - 3, told


async def test_a_recording_is_delivered_and_proven_over_s3(store, relays, tmp_path):
    relay = await relays(environment=store.environment())
    async with agent(relay.ready) as there:
        contact = await short_call(relay, there)
    await relay.wait_delivered(contact)
    await check(relay, contact, tmp_path)
    assert [found["contact_id"] for found in await relay.recordings()] == [contact]
    assert not any(relay.data.joinpath("store").rglob("*"))


async def test_wrong_credentials_raise_an_alarm_and_lose_nothing(store, relays, tmp_path):
    relay = await relays(environment=store.environment(secret="a wrong secret"))
    async with agent(relay.ready) as there:
        contacts = [await short_call(relay, there) for _ in range(2)]
    alarms = await wait_until(lambda: relay.logged("recording degraded"), what="an alarm in the log")
    assert alarms[0]["level"] == "warning"
    assert "refuses our credentials" in alarms[0]["reason"]
    metrics = await relay.metrics()
    assert metrics["koppel_alarms_total{recording degraded}"] >= 1
    assert metrics["koppel_deliveries_total{failed}"] >= 1
    assert metrics["koppel_recordings{staged}"] == 2
    could_not = await relay.koppel("verify", contacts[0], "--json")
    assert could_not.code == 2
    assert "credentials" in could_not.out + could_not.err
    await relay.stop()

    relay.environment.update(store.environment())
    await relay.start()
    for contact in contacts:
        await relay.wait_delivered(contact)
        await check(relay, contact, tmp_path)
    whole = await relay.koppel("verify", "--instance", "--json")
    assert whole.code == 0, whole.out
    assert (await relay.metrics())["koppel_recordings{staged}"] == 0


async def test_a_store_that_comes_back_is_given_what_it_missed(program, relays, tmp_path):
    away = seaweed(program("weed"), tmp_path / "seaweed")
    relay = await relays(environment=away.environment())
    async with agent(relay.ready) as there:
        contact = await short_call(relay, there)
    await wait_until(lambda: relay.logged("recording degraded"), what="an alarm in the log")
    with away.running():
        await relay.wait_delivered(contact)
        await check(relay, contact, tmp_path)
        await relay.stop()
