"""The yardstick measures something, with encryption and without."""

from __future__ import annotations

import pytest

from relay.bench.work import Work
from relay.bench.yardstick import Yardstick

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("srtp", [True, False])
def test_it_receives_and_sends_every_packet_of_every_leg(srtp: bool) -> None:
    yardstick = Yardstick(Work(legs=6, conference=3, srtp=srtp, seed="x"))
    try:
        assert yardstick.run() > 0
    finally:
        yardstick.close()
    assert yardstick.relayed == 6 * 110
