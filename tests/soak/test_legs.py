"""A leg's life costs nothing in the end; `make soak` says so of a hundred thousand."""

from __future__ import annotations

import logging

import pytest

from relay import media
from tests.relay.media_peers import Phone, World
from tests.soak.legs import soak
from tests.soak.remains import remains

pytestmark = pytest.mark.slow


def test_thousands_of_legs_leave_nothing_behind(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    left, measured = soak(3000)
    assert left == []
    events, plane = measured["events"], measured["plane"]
    assert isinstance(events, dict)
    assert isinstance(plane, dict)
    assert events["LegClosed"] == measured["cycles"] == 4000
    assert min(events[kind] for kind in ("LegLatched", "LegReport", "Levels", "CommandRefused", "ControlDatagram")) > 10
    for name in ("taken_sound", "taken_telephone_events", "taken_reports", "replayed", "stray_ssrc", "latch_refused"):
        assert plane[name] > 10, name
    assert plane["legs_ended"] > 3


def test_what_is_left_is_seen() -> None:
    world = World()
    one, other = Phone("one", 1, 400.0), Phone("other", 2, 700.0)
    world.phones += [one, other]
    world.apply(one.open(), other.open(), media.OpenRecording("k"), contact_id="k")
    world.apply(media.OpenTrack("k", "t", one.leg_id, "p", "agent"), contact_id="k")
    world.conference(one, other)
    world.run(20)
    assert {sentence.split(":")[0] for sentence in remains(world.plane)} == {
        "legs open", "rows lost", "rows with a leg", "rows with SRTP", "rows open", "rows active", "rows with an address",
        "rows that are ticked", "endpoints", "conferences", "memberships", "conferences of the mixer", "listeners",
        "matrices", "planned", "rows that listen", "rows that hear one other", "loudness", "tracks", "rows of tracks",
        "names of tracks", "phases of tracks", "legs to send to", "places to send from",
    }  # fmt: skip
    world.apply(media.CloseLeg(one.leg_id), media.CloseLeg(other.leg_id), media.CloseRecording("k"), contact_id="k")
    world.run(2, lambda _phone, _tick: None)
    assert list(remains(world.plane)) == []
