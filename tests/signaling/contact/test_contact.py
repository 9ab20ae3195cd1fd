"""What a contact tells the world: each situation's commands, and properties of any sequence of events."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signaling.contact import commands, events
from signaling.contact.codec import decode
from signaling.contact.contact import ACTIONS, Contact, ContactSettings
from signaling.contact.gates import OPEN, TrackRanges, replay
from signaling.contact.state import TRANSITIONS, ContactState, Misfit, Stage, Transition, transition
from tests.signaling.contact.stories import (
    ANNA,
    CALLER,
    MEDIA,
    SETTINGS,
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
    told,
    unmute,
    without_recording,
    work_done,
)

SAID = [
    # what has happened, what happens now, what the contact asks for
    ([], started(), ["answer the caller", "in 600 s: queue", "ask queue main"]),
    ([], started(answer="with_agent"), ["ring back to the caller", "in 600 s: queue", "ask queue main"]),
    ([started()], connects(CALLER), []),
    (SITUATIONS["waiting"], reserved(), ["ring anna", "in 20 s: offer:anna-1"]),
    (SITUATIONS["waiting"], leaves(CALLER), ["stop queue", "leave queue main", "close"]),
    (
        SITUATIONS["waiting"],
        timer("queue"),
        ["leave queue main", "hang up on caller: waited_too_long", "close"],
    ),
    (
        SITUATIONS["waiting"],
        events.RequestRefused(0.0, "main", "full"),
        ["stop queue", "hang up on caller: queue_full", "close"],
    ),
    (
        SITUATIONS["waiting"],
        events.RequestRefused(0.0, "main", "unknown"),
        ["stop queue", "hang up on caller: no_such_queue", "close"],
    ),
    (UNANSWERED["waiting"], leaves(CALLER, cause="cancelled"), ["stop queue", "leave queue main", "close"]),
    (SITUATIONS["ringing"], accepts(), ["stop offer:anna-1", "in 35 s: join:anna-1"]),
    (UNANSWERED["ringing"], accepts(), ["stop offer:anna-1", "in 35 s: join:anna-1", "answer the caller"]),
    (
        SITUATIONS["ringing"],
        declines(),
        ["stop offer:anna-1", "stop ringing anna: rejected", "ask queue main"],
    ),
    (
        SITUATIONS["ringing"],
        declines(reason="unreachable"),
        ["stop offer:anna-1", "stop ringing anna: unreachable", "ask queue main"],
    ),
    (
        SITUATIONS["ringing"],
        timer("offer:anna-1"),
        ["stop offer:anna-1", "stop ringing anna: missed", "ask queue main"],
    ),
    (
        SITUATIONS["ringing"],
        leaves(ANNA, cause="media_lost"),
        ["stop offer:anna-1", "stop ringing anna: unreachable", "ask queue main"],
    ),
    (
        SITUATIONS["ringing"],
        leaves(CALLER),
        ["stop queue", "stop offer:anna-1", "stop ringing anna: caller_left", "close"],
    ),
    (SITUATIONS["ringing"], timer("queue"), ["in 20 s: queue"]),
    (SITUATIONS["joining"], connects(ANNA), ["stop join:anna-1", "stop queue"]),
    (UNANSWERED["joining"], connects(ANNA), []),
    (UNANSWERED["joining"], connects(CALLER), []),
    (UNANSWERED["joining, agent there"], connects(CALLER), ["stop join:anna-1", "stop queue"]),
    (
        SITUATIONS["joining"],
        leaves(CALLER),
        ["stop join:anna-1", "stop queue", "hang up on anna-1: ended", "release anna: caller_left", "close"],
    ),
    (
        SITUATIONS["joining"],
        leaves(ANNA, cause="media_lost"),
        ["stop join:anna-1", "release anna: not_joined", "ask queue main"],
    ),
    (
        SITUATIONS["joining"],
        declines(reason="unreachable"),
        ["stop join:anna-1", "hang up on anna-1: ended", "release anna: not_joined", "ask queue main"],
    ),
    (
        SITUATIONS["joining"],
        timer("join:anna-1"),
        ["hang up on anna-1: ended", "release anna: not_joined", "ask queue main"],
    ),
    (
        UNANSWERED["joining, agent there"],
        timer("join:anna-1"),
        [
            "stop queue",
            "hang up on caller: not_joined",
            "hang up on anna-1: ended",
            "release anna: caller_left",
            "close",
        ],
    ),
    (SITUATIONS["joining"], timer("queue"), ["in 20 s: queue"]),
    (SITUATIONS["talking"], hold(), []),
    (SITUATIONS["talking"], resume(), ["refuse: not on hold"]),
    ([*SITUATIONS["talking"], hold()], resume(), []),
    ([*SITUATIONS["talking"], hold()], hold(), ["refuse: already on hold"]),
    (SITUATIONS["waiting"], hold(), ["refuse: does not fit the contact's stage"]),
    (SITUATIONS["talking"], mute(ANNA), []),
    (SITUATIONS["talking"], unmute(ANNA), ["refuse: not muted"]),
    (SITUATIONS["talking"], accepts(), ["refuse: does not fit the participant's phase"]),
    (SITUATIONS["talking"], work_done(), ["refuse: no after-contact work to complete"]),
    (SITUATIONS["closed"], accepts("x"), ["refuse: no such participant"]),
    (
        SITUATIONS["talking"],
        leaves(CALLER),
        ["hang up on anna-1: ended", "anna has after-contact work", "in 60 s: work:anna-1"],
    ),
    (
        SITUATIONS["talking"],
        leaves(ANNA),
        ["hang up on caller: ended", "anna has after-contact work", "in 60 s: work:anna-1"],
    ),
    (
        SITUATIONS["talking"],
        leaves(ANNA, cause="media_lost"),
        ["hang up on caller: ended", "anna has after-contact work", "in 60 s: work:anna-1"],
    ),
    (SITUATIONS["working"], leaves(ANNA, cause="ended"), []),
    (SITUATIONS["working"], work_done(), ["stop work:anna-1", "release anna: worked", "close"]),
    (SITUATIONS["working"], timer("work:anna-1"), ["stop work:anna-1", "release anna: worked", "close"]),
]


@pytest.mark.parametrize(("story", "event", "expected"), SAID)
def test_what_a_contact_asks_for(story, event, expected):
    assert told(contact_after(story).handle(event)) == expected


def test_each_transition_has_its_actions():
    assert ACTIONS.keys() == TRANSITIONS.keys()


def test_a_contact_keeps_its_place_in_the_queue():
    contact = contact_after([started(at=7.0), reserved(at=8.0)])
    assert commands.RequestAgent("main", 7.0) in contact.handle(declines(at=9.0))


def test_the_caller_is_answered_once_even_if_the_first_agent_fails_to_join():
    contact = contact_after([*UNANSWERED["joining"], leaves(ANNA, cause="failed"), reserved("ben-1", user="ben")])
    assert told(contact.handle(accepts("ben-1"))) == ["stop offer:ben-1", "in 35 s: join:ben-1"]


def test_after_too_many_offers_the_caller_is_let_go():
    contact = contact_after([started(), reserved()], ContactSettings(offers_max=1))
    assert told(contact.handle(declines())) == ["stop offer:anna-1", "stop ringing anna: rejected", "in 0 s: queue"]
    assert contact.handle(timer("queue"))[-1] == commands.CloseContact()


def test_what_waiting_and_talking_people_hear():
    contact = contact_after([started()])
    assert [*map(parties, contact.handle(connects(CALLER)))] == [([CALLER], "music")]
    contact.handle(reserved())
    assert [c for c in contact.handle(accepts()) if isinstance(c, MEDIA)] == []
    (heard,) = (parties(c) for c in contact.handle(connects(ANNA)) if isinstance(c, commands.SetParties))
    assert heard == ([CALLER, ANNA], None)
    (held,) = (c for c in contact.handle(hold()) if isinstance(c, commands.SetParties))
    assert [p.on_hold for p in held.participants] == [True, False]
    assert contact.handle(leaves(CALLER))[0] == commands.SetParties((), None)


def parties(command):
    return [p.participant_id for p in command.participants], command.waiting_source


def test_media_commands_come_first_and_in_one_order():
    contact = Contact(SETTINGS)
    found = contact.handle(started())
    assert found[0] == commands.OpenRecording()
    for event in SITUATIONS["talking"][1:-1]:
        contact.handle(event)
    found = contact.handle(connects(ANNA))
    assert [type(c) for c in found[:3]] == [commands.SetParties, commands.OpenTrack, commands.OpenTrack]
    found = contact.handle(leaves(CALLER))
    assert [type(c) for c in found[:4]] == [
        commands.SetParties,
        commands.CloseTrack,
        commands.CloseTrack,
        commands.CloseRecording,
    ]


def test_a_contact_that_nobody_wants_recorded_opens_no_recording():
    contact = Contact(SETTINGS)
    recording = (commands.OpenRecording, commands.OpenTrack, commands.SetGate, commands.CloseRecording)
    for event in without_recording([*SITUATIONS["talking"], hold(), leaves(CALLER), work_done()]):
        assert not [c for c in contact.handle(event) if isinstance(c, recording)]
    assert contact.closed


def test_requests_are_limited_but_never_their_undoing():
    contact = Contact(ContactSettings(requests_max=2))
    for event in [*SITUATIONS["talking"], hold(), resume(), hold()]:
        contact.handle(event)
    assert told(contact.handle(mute(ANNA))) == ["refuse: too many requests on this contact"]
    assert contact.misfits == {Misfit.TOO_MANY_REQUESTS: 1}
    assert told(contact.handle(resume())) == []
    assert not contact.state.side("customer").on_hold


def test_entries_are_taken_once_and_hold_what_fitted_only():
    contact = contact_after(SITUATIONS["waiting"])
    assert [decode(entry) for entry in contact.take_entries()] == SITUATIONS["waiting"]
    contact.handle(hold())
    assert contact.take_entries() == ()
    contact.handle(reserved())
    assert [decode(entry) for entry in contact.take_entries()] == [reserved()]
    assert contact.log == (*SITUATIONS["waiting"], reserved())


@pytest.mark.parametrize("beginning", [SITUATIONS["ringing"], UNANSWERED["ringing"]])
def test_races_around_the_answer_end_well_in_every_order(beginning):
    racing = [
        leaves(CALLER),
        accepts(),
        connects(ANNA),
        timer("offer:anna-1"),
        timer("queue"),
        declines(reason="unreachable"),
    ]
    for order in permutations(racing):
        contact, found, left = contact_after(beginning), [], False
        for event in order:
            outcome = contact.handle(event)
            assert not left or not any(about_the_caller(command) for command in outcome), order
            left = left or event == leaves(CALLER)
            found += outcome
        found += contact.handle(work_done())
        assert contact.closed, order
        assert found.count(commands.CloseContact()) == 1
        assert sum(isinstance(c, commands.WithdrawOffer | commands.ReleaseAgent) for c in found) == 1


def about_the_caller(command):
    return getattr(command, "participant_id", None) == CALLER and not isinstance(command, commands.RefuseRequest)


# --- any sequence of events ---------------------------------------------------------------------------------------

PEOPLE = [CALLER, ANNA, "a2", "a3", "stranger"]
CAUSES = ["hung_up", "cancelled", "failed", "ended", "media_lost", "drained"]
RECORDED = [(), ("agent",), ("customer",), ("agent", "customer"), ("customer", "agent")]
SCOPES = ["self", "system"]
TIMERS = ["queue", *(f"{kind}:{who}" for kind in ("offer", "join", "work") for who in PEOPLE), "", "x"]


def any_events(at):
    """One of everything, whether it fits or not."""
    found = [started(at), *(timer(name, at) for name in TIMERS)]
    found += [events.RequestRefused(at, "main", reason) for reason in ("full", "unknown")]
    for who in PEOPLE:
        found += [connects(who, at), reserved(who, at), accepts(who, at), hold(who, at), resume(who, at)]
        found += [declines(who, at, reason) for reason in ("rejected", "missed", "unreachable")]
        found += [change(who, at, scope=scope) for change in (mute, unmute) for scope in SCOPES]
        found += [*(leaves(who, at, cause) for cause in CAUSES), work_done(who, at)]
    return found


def going_on(at, state: ContactState):
    """What fits this state and does not end the contact, so that random stories come far."""
    found = [reserved(f"a{len(state.seen)}", at)]
    for p in state.participants:
        who = p.participant_id
        found += [connects(who, at), accepts(who, at), hold(who, at), resume(who, at)]
        found += [change(who, at, scope=scope) for change in (mute, unmute) for scope in SCOPES]
    return [event for event in found if isinstance(transition(state, event), Transition)] or any_events(at)


@st.composite
def told_stories(draw):
    """A contact and, for each event in turn, its position, whether it was logged, and the commands."""
    contact = Contact(ContactSettings(offers_max=3, requests_max=30))
    beginning = draw(st.sampled_from(BEGINNINGS))
    recorded = draw(st.sampled_from(RECORDED))
    told_so_far, position = [], 0
    ended = draw(st.booleans())
    numbers = draw(st.lists(st.integers(0, 2**20), min_size=1, max_size=60))
    for index, number in enumerate(numbers):
        at, wild = float(index), number % 8 == 0
        if index < len(beginning):
            event = beginning[index]
        else:
            pool = any_events(at) if wild else going_on(at, contact.state)
            event = pool[(number // 8) % len(pool)]
        if ended and index == len(numbers) - 1:
            event = leaves((CALLER, ANNA)[number % 2], at)
        if isinstance(event, events.ContactStarted):
            event = replace(event, recorded=recorded)
        position += (0, 960, 4800)[number % 3]
        before = len(contact.log)
        found = contact.handle(event)
        told_so_far.append((position, event, len(contact.log) > before, found))
    return contact, told_so_far


BEGINNINGS = [
    [],
    [started(answer="with_agent")],
    *UNANSWERED.values(),
    *SITUATIONS.values(),
    *[SITUATIONS["talking"]] * 6,
]


def all_commands(told_so_far):
    return [command for _, _, _, found in told_so_far for command in found]


@given(told_stories())
@settings(max_examples=150, deadline=None)
def test_every_contact_ends_once_and_leaves_nothing_behind(story):
    contact, told_so_far = story
    found = all_commands(told_so_far)
    timers = running_timers(told_so_far)
    if contact.state.stage is not Stage.NEW:
        ends = [leaves(p, 99.0, "ended") for p in contact.state.seen]
        while ends or timers:
            event = ends.pop() if ends else timer(min(timers), 99.0)
            more = contact.handle(event)
            told_so_far.append((0, event, True, more))
            found += more
            timers = running_timers(told_so_far)
        assert contact.closed
        assert found.count(commands.CloseContact()) == 1
        assert found[found.index(commands.CloseContact()) + 1 :] == [
            c for c in found[found.index(commands.CloseContact()) + 1 :] if isinstance(c, commands.RefuseRequest)
        ]
    for kind in (commands.AnswerCustomer, commands.RingCustomer, commands.OpenRecording, commands.CloseRecording):
        assert sum(isinstance(c, kind) for c in found) <= 1
    assert sum(isinstance(c, commands.OpenRecording) for c in found) == sum(
        isinstance(c, commands.CloseRecording) for c in found
    )


def running_timers(told_so_far):
    running = set()
    for _, event, _, found in told_so_far:
        if isinstance(event, events.TimerFired):
            running.discard(event.name)
        for command in found:
            if isinstance(command, commands.StartTimer):
                running.add(command.name)
            elif isinstance(command, commands.StopTimer):
                running.discard(command.name)
    return running


@given(told_stories())
@settings(max_examples=100, deadline=None)
def test_a_closed_contact_has_no_timer_running(story):
    contact, told_so_far = story
    if contact.closed:
        assert running_timers(told_so_far) == set()


@given(told_stories())
@settings(max_examples=100, deadline=None)
def test_each_offer_ends_in_one_withdrawal_or_release(story):
    contact, told_so_far = story
    offered, ended = [], []
    for command in all_commands(told_so_far):
        if isinstance(command, commands.OfferToAgent):
            assert len(offered) == len(ended), "one agent at a time"
            offered.append((command.participant_id, command.agent))
        elif isinstance(command, commands.WithdrawOffer | commands.ReleaseAgent):
            ended.append((command.participant_id, command.agent))
    assert ended == offered[: len(ended)]
    assert len(offered) - len(ended) == (
        contact.state.stage in {Stage.OFFERING, Stage.JOINING, Stage.TALKING, Stage.WORKING}
    )


class Bystander:
    """Follows the accepted events with sets of its own, and says whose voice may be in the recording."""

    def __init__(self):
        self.recorded, self.caller = (), None
        self.agents, self.connected, self.held, self.muted = set(), set(), set(), set()

    def see(self, event):
        match event:
            case events.ContactStarted():
                self.recorded, self.caller = event.recorded, event.participant_id
            case events.AgentReserved():
                self.agents.add(event.participant_id)
            case events.ParticipantConnected():
                self.connected.add(event.participant_id)
            case events.Held():
                self.held.add(event.participant_id)
            case events.Resumed():
                self.held.discard(event.participant_id)
            case events.Muted():
                self.muted.add((event.participant_id, event.scope))
            case events.Unmuted():
                self.muted.discard((event.participant_id, event.scope))
            case events.ParticipantLeft() | events.AgentDeclined():
                self.connected.discard(event.participant_id)

    def may_be_recorded(self):
        if not self.connected & self.agents:
            return set()
        selected = set()
        if "agent" in self.recorded:
            selected |= self.agents
        if "customer" in self.recorded:
            selected.add(self.caller)
        return {p for p in selected & self.connected if p not in self.held and p not in {who for who, _ in self.muted}}


@given(told_stories())
@settings(max_examples=200, deadline=None)
def test_no_gate_is_open_that_the_rules_close_and_no_gate_is_closed_without_a_rule(story):
    _, told_so_far = story
    bystander, gates = Bystander(), {}
    for _, event, logged, found in told_so_far:
        if logged:
            bystander.see(event)
        for command in found:
            match command:
                case (
                    commands.OpenTrack(participant_id=who, rule=rule) | commands.SetGate(participant_id=who, rule=rule)
                ):
                    assert isinstance(command, commands.OpenTrack) != (who in gates)
                    gates[who] = rule
                case commands.CloseTrack(participant_id=who):
                    del gates[who]
                case commands.CloseRecording():
                    assert gates == {}
        is_open = {who for who, rule in gates.items() if rule is None}
        assert is_open <= bystander.may_be_recorded()
        assert gates == {} or is_open == bystander.may_be_recorded()


@given(told_stories())
@settings(max_examples=200, deadline=None)
def test_replaying_the_log_gives_what_the_commands_did(story):
    _, told_so_far = story
    until = told_so_far[-1][0] + 960
    entries = [(position, event) for position, event, logged, _ in told_so_far if logged]
    assert replay(entries, until) == as_commanded(told_so_far, until)


def as_commanded(told_so_far, until):
    """The same ranges, from the commands alone, by marking every 960th position."""
    life, rules = {}, {}
    for position, _, _, found in told_so_far:
        for command in found:
            match command:
                case commands.OpenTrack(participant_id=who, rule=rule):
                    assert who not in life, "one track a participant"
                    life[who] = [position, until]
                    rules[who] = [(position, rule)]
                case commands.SetGate(participant_id=who, rule=rule):
                    rules[who].append((position, rule))
                case commands.CloseTrack(participant_id=who):
                    life[who][1] = position
    return {who: ranges(life[who], rules[who]) for who in life}


def ranges(life, rules):
    first, end = life
    at_each = [(p, [rule for since, rule in rules if since <= p][-1]) for p in range(first, end, 960)]
    withheld = []
    for position, rule in at_each:
        if rule is None:
            continue
        if withheld and withheld[-1][1:] == (position, rule):
            withheld[-1] = (withheld[-1][0], position + 960, rule)
        else:
            withheld.append((position, position + 960, rule))
    return TrackRanges(first, end, tuple(withheld))


@given(told_stories())
@settings(max_examples=100, deadline=None)
def test_the_state_is_a_fold_over_the_log_and_the_log_survives_writing(story):
    contact, _ = story
    entries = contact.take_entries()
    assert tuple(decode(entry) for entry in entries) == contact.log
    again = Contact()
    for event in contact.log:
        again.handle(event)
    assert again.state == contact.state
    assert not again.misfits


@given(told_stories())
@settings(max_examples=100, deadline=None)
def test_parties_and_gates_are_told_only_when_they_change(story):
    _, told_so_far = story
    said = [c for c in all_commands(told_so_far) if isinstance(c, commands.SetParties)]
    assert all(one != other for one, other in pairwise(said))
    last = {}
    for command in all_commands(told_so_far):
        if isinstance(command, commands.OpenTrack | commands.SetGate):
            assert last.get(command.participant_id) != (command.rule, command.reason) or isinstance(
                command, commands.OpenTrack
            )
            last[command.participant_id] = (command.rule, command.reason)
            assert (command.rule is None) == (command.reason == OPEN.reason)
