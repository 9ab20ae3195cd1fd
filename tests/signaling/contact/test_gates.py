"""Who is recorded in which situation, and by which rule not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signaling.contact import commands
from signaling.contact.gates import OPEN, RULES, Gate, TrackRanges, gate, gates, has_timeline, replay
from signaling.contact.participant import ParticipantState
from signaling.contact.state import ContactState
from tests.signaling.contact.stories import (
    ANNA,
    CALLER,
    SETTINGS,
    SITUATIONS,
    UNANSWERED,
    accepts,
    connects,
    contact_after,
    hold,
    leaves,
    mute,
    reserved,
    resume,
    started,
    unmute,
    work_done,
)

TALKING = SITUATIONS["talking"]
BOTH, AGENT, CUSTOMER, NONE = ("agent", "customer"), ("agent",), ("customer",), ()

# recorded; what has happened; the caller's track; the agent's track  (open, a rule, or no track at all)
TABLE = [
    (BOTH, SITUATIONS["waiting"], "no track", "no track"),  # the flow is not recorded: G1
    (BOTH, SITUATIONS["ringing"], "no track", "no track"),
    (BOTH, SITUATIONS["joining"], "no track", "no track"),
    (BOTH, UNANSWERED["joining, caller there"], "no track", "no track"),
    (BOTH, UNANSWERED["joining, agent there"], "no track", "open"),
    (BOTH, TALKING, "open", "open"),
    (BOTH, [*TALKING, hold(CALLER)], "G2", "open"),
    (BOTH, [*TALKING, hold(CALLER), resume(CALLER)], "open", "open"),
    (BOTH, [*TALKING, hold(ANNA)], "open", "G2"),
    (BOTH, [*TALKING, mute(ANNA, scope="self")], "open", "G3"),
    (BOTH, [*TALKING, mute(ANNA, scope="system")], "open", "G3"),
    (BOTH, [*TALKING, mute(CALLER)], "G3", "open"),
    (BOTH, [*TALKING, mute(ANNA, scope="self"), mute(ANNA), unmute(ANNA)], "open", "G3"),
    (BOTH, [*TALKING, mute(ANNA, scope="self"), mute(ANNA), unmute(ANNA, scope="self")], "open", "G3"),
    (BOTH, [*TALKING, mute(CALLER), hold(CALLER)], "G2", "open"),  # several rules: hold is named before mute
    (BOTH, [*TALKING, hold(CALLER), mute(CALLER)], "G2", "open"),
    (BOTH, [*TALKING, hold(CALLER), mute(CALLER), resume(CALLER)], "G3", "open"),
    (BOTH, [started(), connects(CALLER), mute(CALLER), *TALKING[2:]], "G3", "open"),
    (AGENT, TALKING, "G8", "open"),
    (AGENT, [*TALKING, hold(CALLER), mute(CALLER)], "G8", "open"),  # and not selected before both
    (AGENT, [*TALKING, mute(ANNA)], "G8", "G3"),
    (CUSTOMER, TALKING, "open", "G8"),
    (CUSTOMER, [*TALKING, hold(CALLER)], "G2", "G8"),
    (NONE, TALKING, "no track", "no track"),
    (BOTH, [*TALKING, leaves(CALLER)], "no track", "no track"),
    (BOTH, [*TALKING, leaves(ANNA)], "no track", "no track"),
    (BOTH, [*TALKING, leaves(CALLER), work_done()], "no track", "no track"),
]


def recorded_as(recorded, story):
    return [replace(story[0], recorded=recorded), *story[1:]]


@pytest.mark.parametrize(("recorded", "story", "caller", "agent"), TABLE)
def test_who_is_recorded(recorded, story, caller, agent):
    found = gates(contact_after(recorded_as(recorded, story)).state)
    tracks = {who: each.rule or "open" for who, each in found.items()}
    assert (tracks.get(CALLER, "no track"), tracks.get(ANNA, "no track")) == (caller, agent)


def test_why_there_is_no_track():
    waiting = contact_after(SITUATIONS["waiting"]).state
    assert gate(waiting, CALLER) == Gate("G1", "outside of the agent interaction")
    assert gate(waiting, "stranger") == Gate("G1", "not connected")
    off = contact_after(recorded_as(NONE, TALKING)).state
    assert gate(off, CALLER) == Gate("G10", "the behaviour in force asks for no recording")
    assert gate(contact_after(TALKING).state, CALLER) is OPEN
    assert OPEN.open
    assert gates(ContactState()) == {}


def test_a_third_party_is_recorded_with_the_customer():
    state = contact_after(recorded_as(AGENT, TALKING)).state
    carla = ParticipantState("carla", "third_party", "trunk", "connected")
    state = replace(state, participants=(*state.participants, carla))
    assert gate(state, "carla").rule == "G8"
    state = replace(state, started=replace(state.origin, recorded=CUSTOMER))
    assert gate(state, "carla").open


def test_the_timeline_runs_from_the_first_event_to_the_end_of_the_conversation():
    runs = {name: has_timeline(contact_after(story).state) for name, story in SITUATIONS.items()}
    assert runs == {
        "new": False,
        "waiting": True,
        "ringing": True,
        "joining": True,
        "talking": True,
        "working": False,
        "closed": False,
    }
    assert not has_timeline(contact_after(recorded_as(NONE, TALKING)).state)


def test_the_tracks_of_a_call_told_by_its_log_alone():
    log = [
        (0, started()),
        (960, connects(CALLER)),
        (48_000, reserved()),
        (96_000, accepts()),
        (96_960, connects(ANNA)),
        (144_000, hold(CALLER)),
        (150_000, mute(ANNA, scope="self")),
        (192_000, resume(CALLER)),
        (193_920, mute(CALLER)),
        (240_000, hold(CALLER)),
        (288_000, leaves(CALLER)),
        (288_960, leaves(ANNA, cause="ended")),
    ]
    assert replay(log) == {
        CALLER: TrackRanges(
            96_960, 288_000, ((144_000, 192_000, "G2"), (193_920, 240_000, "G3"), (240_000, 288_000, "G2"))
        ),
        ANNA: TrackRanges(96_960, 288_000, ((150_000, 288_000, "G3"),)),
    }


def test_the_party_not_selected_is_withheld_for_its_whole_life():
    log = [(960 * i, event) for i, event in enumerate(recorded_as(AGENT, [*TALKING, hold(), resume(), leaves(ANNA)]))]
    assert replay(log) == {
        CALLER: TrackRanges(3_840, 6_720, ((3_840, 6_720, "G8"),)),
        ANNA: TrackRanges(3_840, 6_720),
    }


def test_changes_within_one_tick_leave_no_empty_ranges():
    position = 48_000
    log = [(0, event) for event in TALKING]
    log += [(960, hold()), (position, resume()), (position, hold()), (position, resume()), (96_000, mute(CALLER))]
    log += [
        (96_000, unmute(CALLER)),
        (144_000, hold()),
        (153_600, resume()),
        (153_600, hold()),
        (192_000, leaves(CALLER)),
    ]
    assert replay(log)[CALLER].withheld == ((960, 48_000, "G2"), (144_000, 192_000, "G2"))


def test_a_log_that_a_crash_cut_off_ends_where_it_is_told():
    log = [(960 * i, event) for i, event in enumerate([*TALKING, hold()])]
    assert replay(log, until=9_600)[CALLER] == TrackRanges(3_840, 9_600, ((4_800, 9_600, "G2"),))
    assert replay(log)[CALLER] == TrackRanges(3_840, 4_800)
    assert replay(log, until=960)[CALLER] == TrackRanges(3_840, 3_840)
    assert replay([]) == {}


def test_events_that_do_not_fit_change_nothing_in_a_replay():
    log = [(960 * i, event) for i, event in enumerate([*TALKING, resume(), hold("stranger"), leaves(CALLER)])]
    assert replay(log)[CALLER] == TrackRanges(3_840, 6_720)


def test_a_second_agent_has_a_track_of_its_own_when_the_first_did_not_stay():
    story = [*UNANSWERED["joining, agent there"], leaves(ANNA, cause="media_lost")]
    story += [reserved("ben-1", user="ben"), accepts("ben-1"), connects(CALLER), connects("ben-1"), leaves("ben-1")]
    found = replay([(960 * i, event) for i, event in enumerate(story)])
    assert found == {
        ANNA: TrackRanges(2_880, 3_840),
        CALLER: TrackRanges(7_680, 8_640),
        "ben-1": TrackRanges(7_680, 8_640),
    }


def test_tracks_open_in_the_same_step_as_the_parties_hear_each_other():
    contact = contact_after(recorded_as(AGENT, SITUATIONS["joining"]), SETTINGS)
    found = contact.handle(connects(ANNA))
    assert found[1:3] == [
        commands.OpenTrack(CALLER, "other", "G8", "not selected for recording"),
        commands.OpenTrack(ANNA, "agent", None, ""),
    ]
    assert contact.handle(mute(ANNA, scope="self"))[1:] == [commands.SetGate(ANNA, "G3", "muted")]
    assert contact.handle(unmute(ANNA, scope="self"))[1:] == [commands.SetGate(ANNA, None, "")]
    assert len(contact.handle(hold())) == 1  # G8 goes on: nothing to say about it


@given(st.lists(st.sampled_from([hold(), resume(), mute(CALLER), unmute(CALLER)]), max_size=20))
def test_withheld_ranges_are_ordered_whole_and_inside_the_track(changes):
    log = [(960 * i, event) for i, event in enumerate([*TALKING, *changes, leaves(CALLER)])]
    track = replay(log)[CALLER]
    edge = track.first
    for start, end, rule in track.withheld:
        assert edge <= start < end <= track.end
        assert rule in {"G2", "G3"}
        edge = end


def test_the_rules_are_tried_in_the_documented_order():
    assert [closed.rule for closed, _ in RULES] == ["G10", "G1", "G8", "G2", "G3"]
