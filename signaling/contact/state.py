"""The state of a contact as a fold over its event log: which stage it is in, and who takes part.

The table `TRANSITIONS` is the whole life of a contact. No setting enters here, so that an auditor who holds the log and
nothing else arrives at the same states; limits reach the log as timers that fired.

Choices where the rules are silent:

- An agent that is lost before both sides are connected costs the caller nothing: the contact waits again, at its old
  place in the queue. An agent that is lost later ends the contact for the caller, as it does in Amazon Connect.
- A waiting limit that passes while an agent's phone rings does not cut the caller off: it is extended by that offer.
- When one side of a conversation leaves, the other side is ended at once, and no sample of it is recorded afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal, assert_never

from signaling.contact import events
from signaling.contact.participant import ParticipantState

Side = Literal["customer", "agent"]


class Stage(StrEnum):
    """Where a contact stands."""

    NEW = "new"
    WAITING = "waiting"
    OFFERING = "offering"
    JOINING = "joining"
    TALKING = "talking"
    WORKING = "working"
    CLOSED = "closed"


class Input(StrEnum):
    """What an event means to a contact."""

    STARTED = "a call came in"
    CONNECTED = "a participant is connected, another is not yet"
    ALL_CONNECTED = "both sides are connected"
    CUSTOMER_LEFT = "the customer is gone"
    CUSTOMER_NOT_JOINED = "the answered customer was not connected in time"
    NOT_QUEUED = "the queue refused"
    WAITED_TOO_LONG = "the waiting limit passed"
    AGENT_RESERVED = "the queue gave an agent"
    AGENT_ACCEPTED = "the agent accepted"
    AGENT_DECLINED = "the agent declined or cannot be reached"
    OFFER_EXPIRED = "the agent did not answer in time"
    AGENT_LEFT = "the agent is gone"
    AGENT_NOT_JOINED = "the agent accepted but was not connected in time"
    HELD = "a participant was put on hold"
    RESUMED = "a participant was taken off hold"
    MUTED = "a participant was muted"
    UNMUTED = "a participant was unmuted"
    WORK_DONE = "after-contact work is over"


class Misfit(StrEnum):
    """Why an event does not fit: it is not logged, changes nothing, and is counted under this name."""

    WRONG_STAGE = "does not fit the contact's stage"
    UNKNOWN_PARTICIPANT = "no such participant"
    GONE = "the participant has left"
    DUPLICATE = "the participant is there already"
    WRONG_PHASE = "does not fit the participant's phase"
    NOT_AN_AGENT = "the participant is not an agent"
    ALREADY_ON_HOLD = "already on hold"
    NOT_ON_HOLD = "not on hold"
    ALREADY_MUTED = "already muted"
    NOT_MUTED = "not muted"
    NO_WORK = "no after-contact work to complete"
    STALE_TIMER = "the timer is no longer wanted"
    TOO_MANY_REQUESTS = "too many requests on this contact"


TRANSITIONS: dict[tuple[Stage, Input], Stage] = {
    (Stage.NEW, Input.STARTED): Stage.WAITING,
    (Stage.WAITING, Input.CONNECTED): Stage.WAITING,
    (Stage.WAITING, Input.AGENT_RESERVED): Stage.OFFERING,
    (Stage.WAITING, Input.CUSTOMER_LEFT): Stage.CLOSED,
    (Stage.WAITING, Input.WAITED_TOO_LONG): Stage.CLOSED,
    (Stage.WAITING, Input.NOT_QUEUED): Stage.CLOSED,
    (Stage.WAITING, Input.MUTED): Stage.WAITING,
    (Stage.WAITING, Input.UNMUTED): Stage.WAITING,
    (Stage.OFFERING, Input.CONNECTED): Stage.OFFERING,
    (Stage.OFFERING, Input.AGENT_ACCEPTED): Stage.JOINING,
    (Stage.OFFERING, Input.AGENT_DECLINED): Stage.WAITING,
    (Stage.OFFERING, Input.OFFER_EXPIRED): Stage.WAITING,
    (Stage.OFFERING, Input.AGENT_LEFT): Stage.WAITING,
    (Stage.OFFERING, Input.CUSTOMER_LEFT): Stage.CLOSED,
    (Stage.OFFERING, Input.WAITED_TOO_LONG): Stage.OFFERING,
    (Stage.OFFERING, Input.MUTED): Stage.OFFERING,
    (Stage.OFFERING, Input.UNMUTED): Stage.OFFERING,
    (Stage.JOINING, Input.CONNECTED): Stage.JOINING,
    (Stage.JOINING, Input.ALL_CONNECTED): Stage.TALKING,
    (Stage.JOINING, Input.AGENT_DECLINED): Stage.WAITING,
    (Stage.JOINING, Input.AGENT_LEFT): Stage.WAITING,
    (Stage.JOINING, Input.AGENT_NOT_JOINED): Stage.WAITING,
    (Stage.JOINING, Input.CUSTOMER_LEFT): Stage.CLOSED,
    (Stage.JOINING, Input.CUSTOMER_NOT_JOINED): Stage.CLOSED,
    (Stage.JOINING, Input.WAITED_TOO_LONG): Stage.JOINING,
    (Stage.JOINING, Input.MUTED): Stage.JOINING,
    (Stage.JOINING, Input.UNMUTED): Stage.JOINING,
    (Stage.TALKING, Input.HELD): Stage.TALKING,
    (Stage.TALKING, Input.RESUMED): Stage.TALKING,
    (Stage.TALKING, Input.MUTED): Stage.TALKING,
    (Stage.TALKING, Input.UNMUTED): Stage.TALKING,
    (Stage.TALKING, Input.CUSTOMER_LEFT): Stage.WORKING,
    (Stage.TALKING, Input.AGENT_LEFT): Stage.WORKING,
    (Stage.WORKING, Input.WORK_DONE): Stage.CLOSED,
}


@dataclass(frozen=True, slots=True)
class ContactState:
    """A contact at one point of its log."""

    stage: Stage = Stage.NEW
    started: events.ContactStarted | None = None
    participants: tuple[ParticipantState, ...] = ()
    """Who has not left, in the order in which they came."""
    worker: ParticipantState | None = None
    """The agent in after-contact work."""
    seen: frozenset[str] = frozenset()
    """The ids of all who ever took part: an id is never used again."""

    @property
    def origin(self) -> events.ContactStarted:
        """The event that began the contact; only a new contact has none."""
        assert self.started is not None, "only a contact in stage NEW has not started"
        return self.started

    @property
    def offers(self) -> int:
        """How many agents the contact has been offered to."""
        return max(0, len(self.seen) - 1)

    def participant(self, participant_id: str) -> ParticipantState | None:
        """The participant of this id, if it has not left."""
        return next((p for p in self.participants if p.participant_id == participant_id), None)

    def side(self, role: Side) -> ParticipantState | None:
        """The customer, or the agent that the contact is offered to or connected with."""
        return next((p for p in self.participants if p.role == role), None)


@dataclass(frozen=True, slots=True)
class Transition:
    """What an event meant, and the state that it led to."""

    meaning: Input
    after: ContactState


def transition(state: ContactState, event: events.ContactEvent) -> Transition | Misfit:
    """Take an event; a `Misfit` leaves the state as it was."""
    meaning = _meaning(state, event)
    if isinstance(meaning, Misfit):
        return meaning
    stage = TRANSITIONS.get((state.stage, meaning))
    if stage is None:
        return Misfit.WRONG_STAGE
    return Transition(meaning, _after(state, event, meaning, stage))


def offer_timer(participant_id: str) -> str:
    """The name of the timer of an offer."""
    return f"offer:{participant_id}"


def join_timer(participant_id: str) -> str:
    """The name of the timer within which both sides must be connected."""
    return f"join:{participant_id}"


def work_timer(participant_id: str) -> str:
    """The name of the timer of after-contact work."""
    return f"work:{participant_id}"


QUEUE_TIMER = "queue"


def _meaning(state: ContactState, event: events.ContactEvent) -> Input | Misfit:
    match event:
        case events.ContactStarted():
            return Input.STARTED
        case events.AgentReserved():
            return Misfit.DUPLICATE if event.participant_id in state.seen else Input.AGENT_RESERVED
        case events.RequestRefused():
            return Input.NOT_QUEUED
        case events.TimerFired():
            return _timer_meaning(state, event.name)
        case events.WorkCompleted():
            return Input.WORK_DONE if _works(state, event.participant_id) else Misfit.NO_WORK
        case _:
            participant = state.participant(event.participant_id)
            if participant is None:
                return Misfit.GONE if event.participant_id in state.seen else Misfit.UNKNOWN_PARTICIPANT
            return _participant_meaning(state, participant, event)


_ParticipantEvent = (
    events.ParticipantConnected
    | events.AgentAccepted
    | events.AgentDeclined
    | events.ParticipantLeft
    | events.Held
    | events.Resumed
    | events.Muted
    | events.Unmuted
)


def _participant_meaning(
    state: ContactState, participant: ParticipantState, event: _ParticipantEvent
) -> Input | Misfit:
    match event:
        case events.ParticipantConnected():
            return _connected_meaning(state, participant)
        case events.ParticipantLeft():
            return Input.CUSTOMER_LEFT if participant.role == "customer" else Input.AGENT_LEFT
        case events.AgentAccepted() | events.AgentDeclined():
            return _answer_meaning(participant, event)
        case events.Held() | events.Resumed():
            return _hold_meaning(participant, event)
        case events.Muted() | events.Unmuted():
            return _mute_meaning(participant, event)
        case _:
            assert_never(event)


def _connected_meaning(state: ContactState, participant: ParticipantState) -> Input | Misfit:
    if participant.phase != "connecting":
        return Misfit.WRONG_PHASE
    others = (other for other in state.participants if other is not participant)
    joined = state.stage is Stage.JOINING and all(other.connected for other in others)
    return Input.ALL_CONNECTED if joined else Input.CONNECTED


def _answer_meaning(
    participant: ParticipantState, event: events.AgentAccepted | events.AgentDeclined
) -> Input | Misfit:
    if participant.role != "agent":
        return Misfit.NOT_AN_AGENT
    if isinstance(event, events.AgentDeclined):
        return Input.AGENT_DECLINED
    return Input.AGENT_ACCEPTED if participant.phase == "offered" else Misfit.WRONG_PHASE


def _hold_meaning(participant: ParticipantState, event: events.Held | events.Resumed) -> Input | Misfit:
    if isinstance(event, events.Held):
        return Misfit.ALREADY_ON_HOLD if participant.on_hold else Input.HELD
    return Input.RESUMED if participant.on_hold else Misfit.NOT_ON_HOLD


def _mute_meaning(participant: ParticipantState, event: events.Muted | events.Unmuted) -> Input | Misfit:
    muted = participant.muted_by_self if event.scope == "self" else participant.muted_by_system
    if isinstance(event, events.Muted):
        return Misfit.ALREADY_MUTED if muted else Input.MUTED
    return Input.UNMUTED if muted else Misfit.NOT_MUTED


def _timer_meaning(state: ContactState, name: str) -> Input | Misfit:
    agent = state.side("agent")
    if name == QUEUE_TIMER:
        return Input.WAITED_TOO_LONG
    if state.worker is not None and name == work_timer(state.worker.participant_id):
        return Input.WORK_DONE
    if agent is None:
        return Misfit.STALE_TIMER
    if name == offer_timer(agent.participant_id) and agent.phase == "offered":
        return Input.OFFER_EXPIRED
    if name == join_timer(agent.participant_id) and state.stage is Stage.JOINING:
        return Input.CUSTOMER_NOT_JOINED if agent.connected else Input.AGENT_NOT_JOINED
    return Misfit.STALE_TIMER


def _works(state: ContactState, participant_id: str) -> bool:
    return state.worker is not None and state.worker.participant_id == participant_id


def _after(state: ContactState, event: events.ContactEvent, meaning: Input, stage: Stage) -> ContactState:
    match stage:
        case Stage.CLOSED:
            return replace(state, stage=stage, participants=(), worker=None)
        case Stage.WORKING:
            return replace(state, stage=stage, participants=(), worker=state.side("agent"))
        case Stage.WAITING if state.stage in {Stage.OFFERING, Stage.JOINING}:
            callers = tuple(p for p in state.participants if p.role == "customer")
            return replace(state, stage=stage, participants=callers)
        case _:
            return _with_participants(replace(state, stage=stage), event, meaning)


def _with_participants(state: ContactState, event: events.ContactEvent, meaning: Input) -> ContactState:
    match event:
        case events.ContactStarted():
            phase: Literal["offered", "connecting"] = "offered" if event.answer == "with_agent" else "connecting"
            customer = ParticipantState(event.participant_id, "customer", "trunk", phase)
            return replace(_joined_by(state, customer), started=event)
        case events.AgentReserved():
            return _joined_by(state, ParticipantState(event.participant_id, "agent", event.kind, user=event.user))
        case events.TimerFired() | events.RequestRefused() | events.WorkCompleted():
            return state
        case _:
            changed = tuple(_changed(p, event.participant_id, event, meaning) for p in state.participants)
            return replace(state, participants=changed)


def _joined_by(state: ContactState, participant: ParticipantState) -> ContactState:
    return replace(
        state,
        participants=(*state.participants, participant),
        seen=state.seen | {participant.participant_id},
    )


def _changed(p: ParticipantState, participant_id: str, event: events.ContactEvent, meaning: Input) -> ParticipantState:
    if meaning is Input.AGENT_ACCEPTED and p.phase == "offered":
        return replace(p, phase="connecting")  # the agent, and a caller who was to be answered with it
    if p.participant_id != participant_id:
        return p
    match event:
        case events.ParticipantConnected():
            return replace(p, phase="connected")
        case events.Held() | events.Resumed():
            return replace(p, on_hold=meaning is Input.HELD)
        case events.Muted() | events.Unmuted() if event.scope == "self":
            return replace(p, muted_by_self=meaning is Input.MUTED)
        case events.Muted() | events.Unmuted():
            return replace(p, muted_by_system=meaning is Input.MUTED)
        case _:
            return p
