"""The relay itself enforces hold and mute: an agent whose phone goes on sounding is neither heard nor recorded."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from tests.interop.conversation import conversation, recorded
from tests.interop.listening import (
    AGENT_HZ,
    CUSTOMER_HZ,
    MUSIC_HZ,
    Stereo,
    amplitude,
    assert_hears,
    longest_silence,
    tells,
)
from tests.interop.phone import RATE

pytestmark = [pytest.mark.interop, pytest.mark.slow]


async def test_hold_and_mute_are_the_relays(relay, tmp_path):
    async with conversation(relay) as call:
        for action, done in (("hold", "held"), ("resume", "resumed"), ("mute", "muted"), ("unmute", "unmuted")):
            await call.there.do(action)
            await call.there.wait(f"contact.{done}")
            await asyncio.sleep(0.3)  # what is on its way
            if action == "hold":
                assert_hears(await call.phone.media.hear(1.5), RATE, MUSIC_HZ, not_hertz=AGENT_HZ)
                assert amplitude(call.there.listen(1.2), CUSTOMER_HZ, 48_000) < 10
            elif action == "mute":
                assert np.abs(await call.phone.media.hear(1.5)).max() < 100
                assert_hears(call.there.listen(1.2), 48_000, CUSTOMER_HZ, not_hertz=AGENT_HZ)
            else:
                await call.both_hear_each_other()
    tracks = await recorded(relay, call.contact)
    held, muted = tracks["customer"]["withheld"], tracks["agent"]["withheld"]
    assert (set(held), set(muted)) == ({"G2"}, {"G3"})
    wav = tmp_path / "call.wav"
    assert (await relay.koppel("export", call.contact, wav)).code == 0
    stereo = Stereo.read(wav)
    for side, track, withheld, own, other in (
        (stereo.left, tracks["customer"], held["G2"], CUSTOMER_HZ, AGENT_HZ),
        (stereo.right, tracks["agent"], muted["G3"], AGENT_HZ, CUSTOMER_HZ),
    ):
        told = tells(side, stereo.rate, own, (other, MUSIC_HZ))
        # What was not withheld is the tone, but for the edges and what was concealed: so the agent's on hold, too.
        assert abs((told == "silence").sum() - withheld / 4_800) <= 3 + track["concealed"] / 2_400
        assert (told == "else").sum() <= 4 + track["concealed"] / 2_400, told
    assert 0 <= longest_silence(stereo.left) - held["G2"] <= 12
    assert 0 <= longest_silence(stereo.right) - muted["G3"] <= 2


async def test_a_queue_that_records_one_side_has_no_sound_of_the_other(relays, tmp_path):
    # `--demo` records every queue on both sides; a relay without it needs a user and a trunk of its own.
    config = """
[recording]
enabled = true
[[queues]]
name = "main"
recorded = "agent"
[[trunks]]
name = "carrier"
number = "+4930555010"
username = "demo"
password = "a password of the test"
"""
    relay = await relays(config=config, demo=False)
    async with conversation(relay) as call:
        pass
    tracks = await recorded(relay, call.contact)
    assert tracks["agent"]["stored"] > 48_000
    assert tracks["customer"]["stored"] == 0
    assert set(tracks["customer"]["withheld"]) == {"G8"}
    wav = tmp_path / "call.wav"
    assert (await relay.koppel("export", call.contact, wav)).code == 0
    assert not Stereo.read(wav).left.any()
