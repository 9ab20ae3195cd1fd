"""The life of a contact as one table that a contact-centre person can read."""

from __future__ import annotations

import pytest

from signaling.contact import events
from signaling.contact.state import TRANSITIONS, ContactState, Input, Misfit, Stage, Transition, transition
from tests.signaling.contact.stories import (
    ANNA,
    CALLER,
    SITUATIONS,
    UNANSWERED,
    accepts,
    connects,
    contact_after,
    declines,
    hold,
    leaves,
    mute,
    reserved,
    resume,
    started,
    timer,
    unmute,
    work_done,
)

WHAT_HAPPENS = {
    "a call comes in": started(),
    "an agent is given": reserved("ben-1", user="ben"),
    "the queue refuses": events.RequestRefused(0.0, "main", "full"),
    "waited too long": timer("queue"),
    "caller connects": connects(CALLER),
    "caller leaves": leaves(CALLER),
    "agent accepts": accepts(),
    "agent declines": declines(),
    "agent rang too long": timer(f"offer:{ANNA}"),
    "agent connects": connects(ANNA),
    "agent joins too late": timer(f"join:{ANNA}"),
    "agent leaves": leaves(ANNA),
    "caller put on hold": hold(CALLER),
    "agent put on hold": hold(ANNA),
    "caller off hold": resume(CALLER),
    "caller muted": mute(CALLER),
    "agent muted": mute(ANNA),
    "caller unmuted": unmute(CALLER),
    "agent ends work": work_done(),
    "work takes too long": timer(f"work:{ANNA}"),
    "stranger leaves": leaves("stranger"),
}

# A cell is the stage that follows, or why nothing does:
#   -  does not fit the stage      g  has left            ?  nobody of that name       p  does not fit the phase
#   t  timer no longer wanted      w  no work to complete h  not on hold               m  not muted
TABLE = """
                      | new     | waiting  | ringing  | joining  | talking | working | closed
a call comes in       | waiting | -        | -        | -        | -       | -       | -
an agent is given     | -       | offering | -        | -        | -       | -       | -
the queue refuses     | -       | closed   | -        | -        | -       | -       | -
waited too long       | -       | closed   | offering | joining  | -       | -       | -
caller connects       | ?       | p        | p        | p        | p       | g       | g
caller leaves         | ?       | closed   | closed   | closed   | working | g       | g
agent accepts         | ?       | ?        | joining  | p        | p       | g       | ?
agent declines        | ?       | ?        | waiting  | waiting  | -       | g       | ?
agent rang too long   | t       | t        | waiting  | t        | t       | t       | t
agent connects        | ?       | ?        | p        | talking  | p       | g       | ?
agent joins too late  | t       | t        | t        | waiting  | t       | t       | t
agent leaves          | ?       | ?        | waiting  | waiting  | working | g       | ?
caller put on hold    | ?       | -        | -        | -        | talking | g       | g
agent put on hold     | ?       | ?        | -        | -        | talking | g       | ?
caller off hold       | ?       | h        | h        | h        | h       | g       | g
caller muted          | ?       | waiting  | offering | joining  | talking | g       | g
agent muted           | ?       | ?        | offering | joining  | talking | g       | ?
caller unmuted        | ?       | m        | m        | m        | m       | g       | g
agent ends work       | w       | w        | w        | w        | w       | closed  | w
work takes too long   | t       | t        | t        | t        | t       | closed  | t
stranger leaves       | ?       | ?        | ?        | ?        | ?       | ?       | ?
"""
MISFITS = {
    "-": Misfit.WRONG_STAGE,
    "g": Misfit.GONE,
    "?": Misfit.UNKNOWN_PARTICIPANT,
    "p": Misfit.WRONG_PHASE,
    "t": Misfit.STALE_TIMER,
    "w": Misfit.NO_WORK,
    "h": Misfit.NOT_ON_HOLD,
    "m": Misfit.NOT_MUTED,
}


def cells():
    head, *rows = (line.split("|") for line in TABLE.strip("\n").splitlines())
    for happening, *columns in rows:
        for situation, cell in zip(head[1:], columns, strict=True):
            yield situation.strip(), happening.strip(), cell.strip()


def test_the_table_is_complete():
    assert {(s, h) for s, h, _ in cells()} == {(s, h) for s in SITUATIONS for h in WHAT_HAPPENS}
    assert {type(event) for event in WHAT_HAPPENS.values()} == set(events.ContactEvent.__args__)


@pytest.mark.parametrize(("situation", "happening", "expected"), list(cells()))
def test_what_follows(situation, happening, expected):
    state = contact_after(SITUATIONS[situation]).state
    step = transition(state, WHAT_HAPPENS[happening])
    if expected in MISFITS:
        assert step is MISFITS[expected]
    else:
        assert isinstance(step, Transition)
        assert step.after.stage == expected


UNANSWERED_TABLE = {
    ("waiting", "caller connects"): "does not fit the participant's phase",  # nobody has answered it yet
    ("ringing", "caller connects"): "does not fit the participant's phase",
    ("ringing", "agent accepts"): "joining",
    ("joining", "caller connects"): "joining",
    ("joining", "agent connects"): "joining",
    ("joining", "agent joins too late"): "waiting",
    ("joining, caller there", "agent connects"): "talking",
    ("joining, caller there", "agent joins too late"): "waiting",
    ("joining, caller there", "agent leaves"): "waiting",
    ("joining, agent there", "caller connects"): "talking",
    ("joining, agent there", "agent joins too late"): "closed",  # it is the caller that did not come
    ("joining, agent there", "agent leaves"): "waiting",
    ("joining, agent there", "agent declines"): "waiting",
    ("joining, agent there", "caller leaves"): "closed",
}


@pytest.mark.parametrize(("situation", "happening"), list(UNANSWERED_TABLE))
def test_what_follows_where_the_agent_answers_the_caller(situation, happening):
    step = transition(contact_after(UNANSWERED[situation]).state, WHAT_HAPPENS[happening])
    found = step.value if isinstance(step, Misfit) else step.after.stage.value
    assert found == UNANSWERED_TABLE[situation, happening]


def test_every_row_of_the_transition_table_is_reached_by_these_situations():
    stories = [*SITUATIONS.values(), *UNANSWERED.values()]
    stories += [[*SITUATIONS["talking"], hold(CALLER)], [*SITUATIONS["waiting"], mute(CALLER)]]
    stories += [[*SITUATIONS[each], mute(CALLER)] for each in ("ringing", "joining", "talking")]
    stories += [[started()], [started(), reserved()]]
    reached = set()
    for story in stories:
        state = contact_after(story).state
        for event in WHAT_HAPPENS.values():
            step = transition(state, event)
            if isinstance(step, Transition):
                reached.add((state.stage, step.meaning))
    assert reached == set(TRANSITIONS)


def test_holding_twice_muting_twice_and_taking_an_id_twice_do_not_fit():
    held = contact_after([*SITUATIONS["talking"], hold(CALLER), mute(ANNA, scope="self")]).state
    assert transition(held, hold(CALLER)) is Misfit.ALREADY_ON_HOLD
    assert transition(held, mute(ANNA, scope="self")) is Misfit.ALREADY_MUTED
    assert transition(held, accepts(CALLER)) is Misfit.NOT_AN_AGENT
    again = contact_after([started(), reserved(), declines()]).state
    assert transition(again, reserved()) is Misfit.DUPLICATE
    assert transition(again, accepts()) is Misfit.GONE


def test_the_two_mutes_do_not_undo_each_other():
    story = [*SITUATIONS["talking"], mute(ANNA, scope="self"), mute(ANNA, scope="system"), unmute(ANNA, scope="system")]
    state = contact_after(story).state
    assert (state.side("agent").muted_by_self, state.side("agent").muted_by_system) == (True, False)
    assert transition(state, unmute(ANNA, scope="system")) is Misfit.NOT_MUTED


def test_only_the_agent_of_the_offer_is_gone_when_it_does_not_join():
    state = contact_after([*UNANSWERED["joining, caller there"], leaves(ANNA, cause="media_lost")]).state
    assert [p.participant_id for p in state.participants] == [CALLER]
    assert state.participant(CALLER).connected
    assert state.offers == 1


def test_terminal_stage_has_no_way_out_and_every_other_has():
    assert {stage for stage, _ in TRANSITIONS} == set(Stage) - {Stage.CLOSED}
    assert {meaning for _, meaning in TRANSITIONS} == set(Input)


def test_an_unstarted_contact_has_no_one():
    assert ContactState().offers == 0
    assert ContactState().side("customer") is None
