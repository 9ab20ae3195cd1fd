"""A contact: events in, commands out, and a log that is all there is to know about it.

    contact = Contact(settings)
    commands = contact.handle(event)
    entries = contact.take_entries()

What an event leads to has two sources: media follow from the difference of two states (parties, tracks, gates, the
recording's timeline), everything else from the table `ACTIONS`, which has a row for each row of `TRANSITIONS`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from signaling.contact import commands, events
from signaling.contact.codec import encode
from signaling.contact.gates import gates, has_timeline
from signaling.contact.participant import ParticipantState
from signaling.contact.state import (
    QUEUE_TIMER,
    ContactState,
    Input,
    Misfit,
    Stage,
    join_timer,
    offer_timer,
    transition,
    work_timer,
)


@dataclass(frozen=True, slots=True)
class ContactSettings:
    """Limits of one contact."""

    offer_seconds: float = 20.0
    join_seconds: float = 35.0
    """From the agent's answer until both sides are connected; above SIP's 32 s for an ACK (RFC 3261 §13.3.1.4)."""
    waiting_seconds_max: float = 3600.0
    after_work_seconds: float = 120.0
    offers_max: int = 100
    requests_max: int = 5000
    """Holds and mutes: what bounds the log."""


class Contact:
    """One call and its way through the queue to an agent, until its record can be written."""

    def __init__(self, settings: ContactSettings | None = None) -> None:
        self.settings = settings or ContactSettings()
        self.state = ContactState()
        self.misfits: Counter[Misfit] = Counter()
        """How many events did not fit, by reason; not in the log."""
        self._log: list[events.ContactEvent] = []
        self._taken = 0
        self._requests = 0

    @property
    def log(self) -> tuple[events.ContactEvent, ...]:
        """All events that fitted, in order."""
        return tuple(self._log)

    @property
    def closed(self) -> bool:
        """Whether `CloseContact` was given."""
        return self.state.stage is Stage.CLOSED

    def take_entries(self) -> tuple[bytes, ...]:
        """The log's new entries since the last call, as canonical JSON."""
        new = self._log[self._taken :]
        self._taken = len(self._log)
        return tuple(encode(event) for event in new)

    def handle(self, event: events.ContactEvent) -> list[commands.ContactCommand]:
        """Take an event; never raises. An event that does not fit is counted, and refused if somebody asked for it."""
        step = transition(self.state, event) if self._within_limit(event) else Misfit.TOO_MANY_REQUESTS
        if isinstance(step, Misfit):
            self.misfits[step] += 1
            return [commands.RefuseRequest(event, step.value)] if isinstance(event, _ASKED) else []
        change = _Change(self.settings, self.state, event, step.after)
        self.state = step.after
        self._log.append(event)
        self._requests += isinstance(event, _LIMITED)
        outcome = list(_media(change))
        for action in ACTIONS[change.before.stage, step.meaning]:
            outcome.extend(action(change))
        return outcome

    def _within_limit(self, event: events.ContactEvent) -> bool:
        return not isinstance(event, _LIMITED) or self._requests < self.settings.requests_max


_LIMITED = (events.Held, events.Muted)  # what undoes them is bounded by them, and must never be refused
_ASKED = (
    events.Held,
    events.Resumed,
    events.Muted,
    events.Unmuted,
    events.AgentAccepted,
    events.AgentDeclined,
    events.WorkCompleted,
)


@dataclass(frozen=True, slots=True)
class _Change:
    settings: ContactSettings
    before: ContactState
    event: events.ContactEvent
    after: ContactState


_Commands = Iterator[commands.ContactCommand]
_Action = Callable[[_Change], _Commands]


def _media(change: _Change) -> _Commands:
    before, after = change.before, change.after
    if has_timeline(after) and not has_timeline(before):
        yield commands.OpenRecording()
    if _parties(before) != _parties(after):
        yield _parties(after)
    yield from _gate_commands(before, after)
    if has_timeline(before) and not has_timeline(after):
        yield commands.CloseRecording()


def _parties(state: ContactState) -> commands.SetParties:
    connected = tuple(p for p in state.participants if p.connected)
    alone = bool(connected) and not any(p.role == "agent" for p in connected)
    return commands.SetParties(connected, state.origin.waiting_source if alone else None)


def _gate_commands(before: ContactState, after: ContactState) -> _Commands:
    old, new = gates(before), gates(after)
    for participant_id, gate in new.items():
        if participant_id not in old:
            yield commands.OpenTrack(participant_id, _track_role(after, participant_id), gate.rule, gate.reason)
        elif gate != old[participant_id]:
            yield commands.SetGate(participant_id, gate.rule, gate.reason)
    for participant_id in old:
        if participant_id not in new:
            yield commands.CloseTrack(participant_id)


def _track_role(state: ContactState, participant_id: str) -> Literal["agent", "other"]:
    participant = state.participant(participant_id)
    assert participant is not None, "a track exists only while its participant is connected"
    return "agent" if participant.role == "agent" else "other"


def _answer_or_ring(change: _Change) -> _Commands:
    customer, earlier = change.after.side("customer"), change.before.side("customer")
    assert customer is not None, "a contact that goes on has its customer"
    if earlier is not None and earlier.phase == customer.phase:
        return
    if customer.phase == "connecting":
        yield commands.AnswerCustomer(customer.participant_id)
    elif customer.phase == "offered":
        yield commands.RingCustomer(customer.participant_id)


def _request_agent(change: _Change) -> _Commands:
    yield commands.RequestAgent(change.after.origin.queue, change.after.origin.at)


def _request_again(change: _Change) -> _Commands:
    if change.after.offers < change.settings.offers_max:
        yield from _request_agent(change)
    else:  # nobody takes it: the waiting limit is now
        yield commands.StartTimer(QUEUE_TIMER, 0.0)


def _leave_queue(change: _Change) -> _Commands:
    yield commands.CancelRequest(change.before.origin.queue)


def _limit_waiting(change: _Change) -> _Commands:
    yield commands.StartTimer(QUEUE_TIMER, change.settings.waiting_seconds_max)


def _extend_waiting(change: _Change) -> _Commands:
    yield commands.StartTimer(QUEUE_TIMER, change.settings.offer_seconds)


def _waiting_is_over(_: _Change) -> _Commands:
    yield commands.StopTimer(QUEUE_TIMER)


def _offer(change: _Change) -> _Commands:
    agent = _agent(change.after)
    yield commands.OfferToAgent(agent.participant_id, _user(agent))
    yield commands.StartTimer(offer_timer(agent.participant_id), change.settings.offer_seconds)


def _withdraw(change: _Change) -> _Commands:
    agent = _agent(change.before)
    yield commands.StopTimer(offer_timer(agent.participant_id))
    yield commands.WithdrawOffer(agent.participant_id, _user(agent), _withdrawal_reason(change))


def _withdrawal_reason(change: _Change) -> Literal["caller_left", "rejected", "missed", "unreachable"]:
    match change.event:
        case events.AgentDeclined(reason=reason):
            return reason
        case events.TimerFired():
            return "missed"
        case _:
            return "caller_left" if change.after.stage is Stage.CLOSED else "unreachable"


def _join(change: _Change) -> _Commands:
    agent = _agent(change.after)
    yield commands.StopTimer(offer_timer(agent.participant_id))
    yield commands.StartTimer(join_timer(agent.participant_id), change.settings.join_seconds)


def _joining_is_over(change: _Change) -> _Commands:
    yield commands.StopTimer(join_timer(_agent(change.before).participant_id))


def _end_agent(change: _Change) -> _Commands:
    yield commands.EndLeg(_agent(change.before).participant_id, "ended")


def _end_customer(change: _Change) -> _Commands:
    customer = change.before.side("customer")
    assert customer is not None, "the customer's leaving ends the contact"
    yield commands.EndLeg(customer.participant_id, _customer_end_cause(change))


def _customer_end_cause(change: _Change) -> commands.EndCause:
    match change.event:
        case events.RequestRefused(reason=reason):
            return "queue_full" if reason == "full" else "no_such_queue"
        case events.TimerFired(name=name):
            return "waited_too_long" if name == QUEUE_TIMER else "not_joined"
        case _:
            return "ended"


def _release(change: _Change) -> _Commands:
    agent = change.before.worker or _agent(change.before)
    yield commands.ReleaseAgent(agent.participant_id, _user(agent), _release_reason(change))


def _release_reason(change: _Change) -> Literal["worked", "caller_left", "not_joined"]:
    if change.before.worker is not None:
        return "worked"
    return "caller_left" if change.after.stage is Stage.CLOSED else "not_joined"


def _begin_work(change: _Change) -> _Commands:
    agent = _agent(change.before)
    yield commands.BeginWork(agent.participant_id, _user(agent))
    yield commands.StartTimer(work_timer(agent.participant_id), change.settings.after_work_seconds)


def _work_is_over(change: _Change) -> _Commands:
    assert change.before.worker is not None, "stage WORKING has a worker"
    yield commands.StopTimer(work_timer(change.before.worker.participant_id))


def _close(_: _Change) -> _Commands:
    yield commands.CloseContact()


def _agent(state: ContactState) -> ParticipantState:
    agent = state.side("agent")
    assert agent is not None, "stages OFFERING, JOINING and TALKING have an agent"
    return agent


def _user(agent: ParticipantState) -> str:
    assert agent.user is not None, "agents are reserved by user name"
    return agent.user


ACTIONS: dict[tuple[Stage, Input], tuple[_Action, ...]] = {
    (Stage.NEW, Input.STARTED): (_answer_or_ring, _limit_waiting, _request_agent),
    (Stage.WAITING, Input.CONNECTED): (),
    (Stage.WAITING, Input.AGENT_RESERVED): (_offer,),
    (Stage.WAITING, Input.CUSTOMER_LEFT): (_waiting_is_over, _leave_queue, _close),
    (Stage.WAITING, Input.WAITED_TOO_LONG): (_leave_queue, _end_customer, _close),
    (Stage.WAITING, Input.NOT_QUEUED): (_waiting_is_over, _end_customer, _close),
    (Stage.WAITING, Input.MUTED): (),
    (Stage.WAITING, Input.UNMUTED): (),
    (Stage.OFFERING, Input.CONNECTED): (),
    (Stage.OFFERING, Input.AGENT_ACCEPTED): (_join, _answer_or_ring),
    (Stage.OFFERING, Input.AGENT_DECLINED): (_withdraw, _request_again),
    (Stage.OFFERING, Input.OFFER_EXPIRED): (_withdraw, _request_again),
    (Stage.OFFERING, Input.AGENT_LEFT): (_withdraw, _request_again),
    (Stage.OFFERING, Input.CUSTOMER_LEFT): (_waiting_is_over, _withdraw, _close),
    (Stage.OFFERING, Input.WAITED_TOO_LONG): (_extend_waiting,),
    (Stage.OFFERING, Input.MUTED): (),
    (Stage.OFFERING, Input.UNMUTED): (),
    (Stage.JOINING, Input.CONNECTED): (),
    (Stage.JOINING, Input.ALL_CONNECTED): (_joining_is_over, _waiting_is_over),
    (Stage.JOINING, Input.AGENT_DECLINED): (_joining_is_over, _end_agent, _release, _request_again),
    (Stage.JOINING, Input.AGENT_LEFT): (_joining_is_over, _release, _request_again),
    (Stage.JOINING, Input.AGENT_NOT_JOINED): (_end_agent, _release, _request_again),
    (Stage.JOINING, Input.CUSTOMER_LEFT): (_joining_is_over, _waiting_is_over, _end_agent, _release, _close),
    (Stage.JOINING, Input.CUSTOMER_NOT_JOINED): (_waiting_is_over, _end_customer, _end_agent, _release, _close),
    (Stage.JOINING, Input.WAITED_TOO_LONG): (_extend_waiting,),
    (Stage.JOINING, Input.MUTED): (),
    (Stage.JOINING, Input.UNMUTED): (),
    (Stage.TALKING, Input.HELD): (),
    (Stage.TALKING, Input.RESUMED): (),
    (Stage.TALKING, Input.MUTED): (),
    (Stage.TALKING, Input.UNMUTED): (),
    (Stage.TALKING, Input.CUSTOMER_LEFT): (_end_agent, _begin_work),
    (Stage.TALKING, Input.AGENT_LEFT): (_end_customer, _begin_work),
    (Stage.WORKING, Input.WORK_DONE): (_work_is_over, _release, _close),
}
