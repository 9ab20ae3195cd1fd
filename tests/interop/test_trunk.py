"""A telephone of other people's making calls the relay: who gets in, and what waiting sounds like."""

from __future__ import annotations

import numpy as np
import pytest

from mixer.sources import MUSIC_STRONGEST_HZ
from relay.demo.hearing import listen, tone
from tests.interop.baresip import RATE, baresip, write_wav

pytestmark = [pytest.mark.interop, pytest.mark.slow]


async def test_baresip_hears_the_music_of_the_queue(program, relay, tmp_path):
    microphone = write_wav(tmp_path / "tone.wav", tone(1_000.0, RATE, RATE * 60), RATE)
    async with baresip(program("baresip"), tmp_path / "baresip", relay.ready, microphone) as phone:
        await phone.dial()
        await phone.wait("CALL_ESTABLISHED")
        heard = await phone.listen(1.0)
        assert abs(listen(heard, RATE).hz - MUSIC_STRONGEST_HZ) < 2.0
        await phone.hang_up()
    assert np.any(heard)
