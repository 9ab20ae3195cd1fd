"""The contact record as a fold over a contact's log: when, how long, with whom, and how it ended.

Field meanings follow Amazon Connect's contact record: the agent's interaction does not include holds, and durations are
whole seconds. Times are Unix seconds, made from the log's monotonic ones with the anchor of the process that wrote it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from signaling.contact.events import AgentReserved, ContactEvent, Held, ParticipantLeft
from signaling.contact.state import ContactState, Input, Misfit, Stage, transition

DisconnectReason = Literal[
    "CUSTOMER_DISCONNECT", "AGENT_DISCONNECT", "TELECOM_PROBLEM", "CONTACT_FLOW_DISCONNECT", "OTHER"
]
Outcome = Literal["success", "client", "server", "upstream", "indeterminate"]
"""Who is to blame for the end: nobody, the caller or the agent's softphone, this relay or its centre, the trunk."""
FOUND_OPEN = "found open after a restart"


@dataclass(frozen=True, slots=True)
class WallAnchor:
    """One moment on both clocks."""

    monotonic: float
    wall: float

    def at(self, monotonic: float) -> float:
        """The Unix time of a monotonic one."""
        return self.wall + (monotonic - self.monotonic)


@dataclass(frozen=True, slots=True)
class ContactRecord:
    """What is kept of a contact for ever; None where it did not come to that."""

    contact_id: str
    account_id: str
    instance_id: str
    queue: str
    trunk: str
    customer_number: str | None = field(repr=False)
    """None only where it was read back after the key that sealed it was destroyed."""
    system_number: str | None = field(repr=False)
    initiated_at: float
    updated_at: float
    disconnected_at: float | None
    disconnect_reason: DisconnectReason | None
    outcome: Outcome
    outcome_detail: str
    dequeued_at: float | None
    """When an agent accepted, or the contact ended without."""
    queue_seconds: int
    agent_attempts: int
    """How many agents it was offered to."""
    agent: str | None = None
    connected_to_agent_at: float | None = None
    agent_interaction_seconds: int = 0
    customer_hold_seconds: int = 0
    holds: int = 0
    longest_hold_seconds: int = 0
    agent_hold_seconds: int = 0
    """The part of the customer's hold that the agent asked for."""
    work_began_at: float | None = None
    work_ended_at: float | None = None

    @property
    def work_seconds(self) -> int:
        """After-contact work."""
        return _whole(self.work_began_at, self.work_ended_at)


def contact_record(log: Iterable[ContactEvent], anchor: WallAnchor) -> ContactRecord:
    """Fold a log; one that does not reach its end is that of a contact found open after a crash."""
    notes = _Notes()
    state = ContactState()
    for event in log:
        step = transition(state, event)
        if not isinstance(step, Misfit):
            notes.take(state, event, step.meaning, step.after)
            state = step.after
    if state.stage is Stage.NEW:
        raise ValueError("a contact's log begins with ContactStarted")
    return notes.record(state, anchor)


@dataclass(frozen=True, slots=True)
class _Hold:
    start: float
    end: float
    by_agent: bool

    @property
    def seconds(self) -> float:
        return max(0.0, self.end - self.start)


@dataclass(slots=True)
class _Notes:
    """What the fold has seen so far, in monotonic time."""

    last: float = 0.0
    attempts: int = 0
    user: str | None = None
    dequeued: float | None = None
    joined: float | None = None
    over: float | None = None
    ended_by: tuple[Input, ContactEvent] | None = None
    work_ended: float | None = None
    holds: list[_Hold] = field(default_factory=list[_Hold])
    hold_began: Held | None = None

    def take(self, before: ContactState, event: ContactEvent, meaning: Input, after: ContactState) -> None:
        self.last = max(self.last, event.at)
        match event:
            case AgentReserved():
                self.attempts += 1
            case Held() if before.side("customer") is before.participant(event.participant_id):
                self.hold_began = event
            case _:
                self._take_stage(before, event, meaning, after)
        customer = after.side("customer")
        if self.hold_began is not None and (customer is None or not customer.on_hold):
            by_agent = _asked_by_agent(self.hold_began, before)
            self.holds.append(_Hold(self.hold_began.at, event.at, by_agent))
            self.hold_began = None

    def _take_stage(self, before: ContactState, event: ContactEvent, meaning: Input, after: ContactState) -> None:
        agent = after.side("agent")
        match after.stage:
            case Stage.JOINING if meaning is Input.AGENT_ACCEPTED:
                self.dequeued = event.at
            case Stage.WAITING if before.stage is Stage.JOINING:
                self.dequeued = None
            case Stage.TALKING if meaning is Input.ALL_CONNECTED:
                self.joined, self.user = event.at, agent.user if agent else None
            case Stage.WORKING | Stage.CLOSED if before.stage is not Stage.WORKING:
                self.over, self.ended_by = event.at, (meaning, event)
            case Stage.CLOSED:
                self.work_ended = event.at
            case _:
                pass

    def record(self, state: ContactState, anchor: WallAnchor) -> ContactRecord:
        origin = state.origin
        reason, outcome, detail = self._end()
        over = self.last if self.over is None else self.over
        dequeued = over if self.dequeued is None else self.dequeued
        holds = self._all_holds(over, state)
        lengths = [hold.seconds for hold in holds]
        talked = 0.0 if self.joined is None else over - self.joined - sum(lengths)
        return ContactRecord(
            contact_id=origin.contact_id,
            account_id=origin.account_id,
            instance_id=origin.instance_id,
            queue=origin.queue,
            trunk=origin.trunk,
            customer_number=origin.customer_number,
            system_number=origin.system_number,
            initiated_at=anchor.at(origin.at),
            updated_at=anchor.at(self.last),
            disconnected_at=_wall(self.over, anchor),
            disconnect_reason=reason,
            outcome=outcome,
            outcome_detail=detail,
            dequeued_at=_wall(self.dequeued if self.over is None else dequeued, anchor),
            queue_seconds=_whole(origin.at, dequeued),
            agent_attempts=self.attempts,
            agent=self.user,
            connected_to_agent_at=_wall(self.joined, anchor),
            agent_interaction_seconds=int(max(0.0, talked)),
            customer_hold_seconds=int(sum(lengths)),
            holds=len(lengths),
            longest_hold_seconds=int(max(lengths, default=0.0)),
            agent_hold_seconds=int(sum(hold.seconds for hold in holds if hold.by_agent)),
            work_began_at=_wall(self.over if self.joined is not None else None, anchor),
            work_ended_at=_wall(self.work_ended, anchor),
        )

    def _end(self) -> tuple[DisconnectReason | None, Outcome, str]:
        if self.ended_by is None:
            return None, "indeterminate", FOUND_OPEN
        reason, outcome, detail = _ending(*self.ended_by, talked=self.joined is not None)
        unfinished = self.joined is not None and self.work_ended is None
        return reason, outcome, f"{detail}; {FOUND_OPEN}" if unfinished else detail

    def _all_holds(self, over: float, state: ContactState) -> list[_Hold]:
        if self.hold_began is None:
            return self.holds
        return [*self.holds, _Hold(self.hold_began.at, over, _asked_by_agent(self.hold_began, state))]


def _asked_by_agent(held: Held, state: ContactState) -> bool:
    return any(held.by in {p.participant_id, p.user} for p in state.participants if p.role == "agent")


_NOT_LEFT: dict[Input, tuple[DisconnectReason, Outcome, str]] = {
    Input.CUSTOMER_NOT_JOINED: ("TELECOM_PROBLEM", "upstream", "the customer's answer was not confirmed"),
    Input.NOT_QUEUED: ("CONTACT_FLOW_DISCONNECT", "server", "the queue did not take it"),
    Input.WAITED_TOO_LONG: ("CONTACT_FLOW_DISCONNECT", "server", "no agent took it in time"),
}


def _ending(meaning: Input, event: ContactEvent, *, talked: bool) -> tuple[DisconnectReason, Outcome, str]:
    if not isinstance(event, ParticipantLeft):
        return _NOT_LEFT[meaning]
    customer = meaning is Input.CUSTOMER_LEFT
    match event.cause:
        case "hung_up" | "ended" | "cancelled" if not talked:
            return "CUSTOMER_DISCONNECT", "client", "the caller gave up"
        case "hung_up" | "ended" | "cancelled":
            return "CUSTOMER_DISCONNECT" if customer else "AGENT_DISCONNECT", "success", "hung up"
        case "failed" | "media_lost":
            return "TELECOM_PROBLEM", "upstream" if customer else "client", event.cause.replace("_", " ")
        case "drained":
            return "OTHER", "server", "the relay stopped"


def _wall(monotonic: float | None, anchor: WallAnchor) -> float | None:
    return None if monotonic is None else anchor.at(monotonic)


def _whole(start: float | None, end: float | None) -> int:
    return 0 if start is None or end is None else int(max(0.0, end - start))
