"""A small benchmark whose control plane is kept busy, from end to end: real processes, calls, browsers' media, log-ins."""

from __future__ import annotations

import pytest

from relay.bench.run import Bench
from relay.plane.tick_profile import STAGES


@pytest.mark.slow
def test_legs_are_heard_while_calls_softphones_and_log_ins_come_and_go() -> None:
    said: list[str] = []
    result = Bench(conference=3, record=True, busy=True, seconds=2).run(6, said.append)
    # The machine may have other work, too: that everything happens is asserted, not how fast.
    busy = result["busy"]
    assert set(busy) == {"setups", "dtls_setups", "logins", "events"}
    assert 0 < busy["dtls_setups"] < busy["setups"] <= 60, said
    assert 0 < busy["logins"] <= 120, said
    assert busy["events"] > 0, said
    assert result["recorded_tracks"] == 12, said
    for window in (result, result["idle"]):
        if window["missed_ticks"] == 0 and window["delivered_ratio"] >= 0.999:
            assert window["content_ok_legs"] == 6, said
        assert len(window["worst_ticks"]) == 5
        worst = window["worst_ticks"][0]
        assert worst["late_ms"] <= window["tick_late_ms"]["max"]
        assert {"receive", "play", "mix", "send"} <= set(worst["stage_ms"]) <= set(STAGES)
        assert sum(worst["stage_ms"].values()) <= worst["tick_ms"] + 0.1
    assert result["cpu_ms_per_leg_second"] > result["idle"]["cpu_ms_per_leg_second"]
