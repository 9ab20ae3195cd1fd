"""Agents' states as one table, who can take a contact, and what is counted."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signaling.agents import (
    TRANSITIONS,
    AgentChanged,
    AgentInput,
    Agents,
    AgentsSettings,
    AgentState,
    ConnectionLost,
    ContactAccepted,
    ContactLost,
    ContactOffered,
    ContactOver,
    LoggedIn,
    LoggedOut,
    MediaLost,
    MediaReady,
    StateChosen,
    WorkBegun,
)
from signaling.errors import Exhausted
from signaling.queues import IdleAgent

MAIN = frozenset({"main"})


def logged_in(at=0.0, user="anna"):
    return LoggedIn(at, user, MAIN)


def media(at=0.0, user="anna"):
    return MediaReady(at, user)


def chose(state, at=0.0, name=""):
    return StateChosen(at, "anna", state, name)


def rings(at=0.0, contact="c1"):
    return ContactOffered(at, "anna", contact)


def accepted(at=0.0, contact="c1"):
    return ContactAccepted(at, "anna", contact)


def work(at=0.0, contact="c1"):
    return WorkBegun(at, "anna", contact)


def over(at=0.0, contact="c1", missed=False):
    return ContactOver(at, "anna", contact, missed)


READY = [logged_in(), media(), chose("available")]
SITUATIONS = {
    "offline": [logged_in(), media()],
    "available": READY,
    "custom": [*READY, chose("custom", name="break")],
    "ringing": [*READY, rings()],
    "on_contact": [*READY, rings(), accepted()],
    "after_contact_work": [*READY, rings(), accepted(), work()],
    "missed": [*READY, rings(), over(missed=True)],
}
WHAT_HAPPENS = {
    "chooses available": chose("available"),
    "chooses a break": chose("custom", name="lunch"),
    "chooses offline": chose("offline"),
    "a contact rings": rings(),
    "answers": accepted(),
    "conversation ends": work(),
    "contact is over": over(),
    "contact is missed": over(missed=True),
    "another contact is over": over(contact="c9"),
    "connection breaks": ConnectionLost(0.0, "anna"),
    "media is lost": MediaLost(0.0, "anna"),
    "logs out": LoggedOut(0.0, "anna"),
}
# A cell is the state that follows; "." means as it was; "!" that the agent's contact is told of the loss
TABLE = """
                        | offline   | available | custom    | ringing     | on_contact         | after_contact_work | missed
chooses available       | available | .         | available | .           | .                  | .                  | available
chooses a break         | custom    | custom    | custom    | .           | .                  | .                  | custom
chooses offline         | .         | offline   | offline   | .           | .                  | .                  | offline
a contact rings         | .         | ringing   | .         | .           | .                  | .                  | .
answers                 | .         | .         | .         | on_contact  | .                  | .                  | .
conversation ends       | .         | .         | .         | .           | after_contact_work | .                  | .
contact is over         | .         | .         | .         | available   | available          | available          | .
contact is missed       | .         | .         | .         | missed      | missed             | .                  | .
another contact is over | .         | .         | .         | .           | .                  | .                  | .
connection breaks       | .         | .         | .         | . !         | .                  | .                  | .
media is lost           | .         | .         | .         | . !         | . !                | .                  | .
logs out                | .         | offline   | offline   | offline !   | offline !          | offline !          | offline
"""


def agents_after(story):
    agents = Agents()
    for event in story:
        assert agents.handle(event), f"{event} fits"
    return agents


def cells():
    head, *rows = (line.split("|") for line in TABLE.strip("\n").splitlines())
    for happening, *columns in rows:
        for state, cell in zip(head[1:], columns, strict=True):
            yield state.strip(), happening.strip(), cell.strip()


def test_the_table_is_complete():
    assert {(s, h) for s, h, _ in cells()} == {(s, h) for s in SITUATIONS for h in WHAT_HAPPENS}
    assert set(SITUATIONS) == set(AgentState)


@pytest.mark.parametrize(("state", "happening", "expected"), list(cells()))
def test_what_follows(state, happening, expected):
    agents = agents_after(SITUATIONS[state])
    assert agents.get("anna").state == state
    effects = agents.handle(WHAT_HAPPENS[happening])
    after, *lost = expected.split()
    assert agents.get("anna").state == (state if after == "." else after)
    told = [effect for effect in effects if isinstance(effect, ContactLost)]
    assert told == ([ContactLost("anna", "c1", state)] if lost else [])


def test_every_row_of_the_transition_table_stands_in_it():
    assert len(TRANSITIONS) == len(AgentState) * 4 + 8
    assert {meaning for _, meaning in TRANSITIONS} == set(AgentInput)


def test_only_an_available_agent_with_live_signalling_and_media_gets_contacts():
    agents = Agents()
    steps = [
        (logged_in(1.0), None),
        (chose("available", 2.0), None),
        (media(3.0), 3.0),
        (MediaLost(4.0, "anna"), None),
        (media(5.0), 5.0),
        (ConnectionLost(6.0, "anna"), None),
        (logged_in(7.0), 7.0),
        (chose("custom", 8.0, "break"), None),
        (chose("available", 9.0), 9.0),
        (rings(10.0), None),
        (over(11.0), 11.0),
        (rings(12.0), None),
        (over(13.0, missed=True), None),
        (chose("available", 14.0), 14.0),
        (LoggedOut(15.0, "anna"), None),
    ]
    for event, since in steps:
        agents.handle(event)
        assert agents.idle() == (() if since is None else (IdleAgent("anna", since, MAIN),)), event
        assert agents.get("anna").available == (since is not None)


def test_a_contact_does_not_ring_at_an_agent_without_media():
    agents = agents_after([logged_in(), chose("available")])
    assert agents.handle(rings()) == []
    assert agents.ignored == {"ContactOffered": 1}
    assert agents.get("anna").contact_id is None


def test_the_state_chosen_during_a_contact_comes_after_it():
    agents = agents_after([*READY, rings(), accepted(), chose("custom", name="break"), work(), over()])
    assert (agents.get("anna").state, agents.get("anna").state_name) == ("custom", "break")
    agents = agents_after([*READY, rings(), chose("offline"), chose("available"), over()])
    assert agents.get("anna").state == "available"


def test_one_break_after_another_is_another_state():
    agents = agents_after([*READY, chose("custom", name="break"), chose("custom", name="training")])
    assert agents.get("anna").state_name == "training"
    assert agents.handle(chose("custom", name="training")) == []


def test_a_log_out_forgets_the_contact_so_that_its_late_end_does_not_disturb_the_next_one():
    agents = agents_after([*SITUATIONS["after_contact_work"], LoggedOut(0.0, "anna"), *READY, rings(contact="c2")])
    assert agents.handle(over(contact="c1")) == []
    assert (agents.get("anna").state, agents.get("anna").contact_id) == ("ringing", "c2")


def test_times_in_each_state_and_contacts_are_counted():
    story = [logged_in(0.0), media(0.0), chose("available", 10.0), rings(30.0), accepted(35.0), work(95.0)]
    story += [over(105.0), rings(110.0), over(130.0, missed=True), chose("custom", 131.0, "break")]
    anna = agents_after(story).get("anna")
    assert {state.value: anna.seconds_in(state, 141.0) for state in AgentState} == {
        "offline": 10.0,
        "available": 25.0,
        "ringing": 25.0,
        "on_contact": 60.0,
        "after_contact_work": 10.0,
        "missed": 1.0,
        "custom": 10.0,
    }
    assert (anna.handled, anna.missed) == (1, 1)


def test_a_change_tells_both_standings():
    agents = agents_after([logged_in(), media()])
    (change,) = agents.handle(chose("available", 2.0))
    assert isinstance(change, AgentChanged)
    assert (change.before.state, change.after.state, change.after.since) == ("offline", "available", 2.0)
    assert agents.all == (change.after,)
    assert agents.handle(chose("available", 3.0)) == []


def test_somebody_who_never_logged_in_is_ignored():
    agents = Agents()
    assert agents.handle(media()) == []
    assert agents.get("anna") is None
    assert agents.ignored == {"not logged in": 1}


def test_the_number_of_agents_is_limited_and_those_who_left_make_room():
    agents = Agents(AgentsSettings(agents_max=2))
    agents.handle(logged_in(user="anna"))
    agents.handle(logged_in(user="ben"))
    with pytest.raises(Exhausted):
        agents.handle(logged_in(user="cleo"))
    agents.handle(LoggedOut(1.0, "ben"))
    agents.handle(logged_in(user="cleo"))
    assert [agent.user for agent in agents.all] == ["anna", "cleo"]


def test_an_agent_whose_media_is_live_is_not_forgotten_while_its_page_is_away():
    agents = Agents(AgentsSettings(agents_max=1))
    agents.handle(logged_in(user="anna"))
    agents.handle(MediaReady(0.0, "anna"))
    agents.handle(ConnectionLost(1.0, "anna"))
    with pytest.raises(Exhausted):
        agents.handle(logged_in(user="ben"))
    agents.handle(MediaLost(2.0, "anna"))
    agents.handle(logged_in(user="ben"))
    assert [agent.user for agent in agents.all] == ["ben"]


ANY_EVENT = st.one_of(
    st.sampled_from(
        [logged_in(), media(), ConnectionLost(0.0, "anna"), MediaLost(0.0, "anna"), LoggedOut(0.0, "anna")]
    ),
    st.builds(chose, st.sampled_from(["available", "custom", "offline"])),
    st.builds(rings, contact=st.sampled_from(["c1", "c2"])),
    st.builds(accepted, contact=st.sampled_from(["c1", "c2"])),
    st.builds(work, contact=st.sampled_from(["c1", "c2"])),
    st.builds(over, contact=st.sampled_from(["c1", "c2"]), missed=st.booleans()),
)


@given(st.lists(ANY_EVENT, max_size=40))
@settings(deadline=None)
def test_whatever_happens_busy_agents_have_one_contact_and_idle_ones_none(story):
    agents = Agents()
    for event in [*READY, *story]:
        for effect in agents.handle(event):
            if isinstance(effect, ContactLost):
                assert effect.during in {"ringing", "on_contact", "after_contact_work"}
        anna = agents.get("anna")
        busy = anna.state in {AgentState.RINGING, AgentState.ON_CONTACT, AgentState.AFTER_CONTACT_WORK}
        assert (anna.contact_id is not None) == busy
        assert (anna.idle_since is not None) == anna.available
        assert anna.available <= (anna.media and anna.signalling and anna.state is AgentState.AVAILABLE)
