"""Carries out what contacts decide: legs, offers, queues, timers, and one step of the plane for each event.

A contact is fed one event at a time; what follows from it (an agent that is free, a queue that is full) is queued as
the next event. So the order of a contact's log is the order in which things became true.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from relay import media
from relay.calls.desks import Desks
from relay.calls.effects import ContactFinished, ContactLogged, ExchangeEffect, Queue, Submit
from relay.calls.switchboard import Switchboard
from relay.calls.trunk_calls import TrunkCalls
from relay.media import MediaCommand
from signaling import agents as a
from signaling.contact import commands as c
from signaling.contact import events as e
from signaling.contact.contact import Contact
from signaling.contact.state import Stage
from signaling.errors import Exhausted, LocalError
from signaling.queues import Queues
from signaling.softphone import messages as m

CUSTOMER = "customer"
_TIMERS_SPARE = 64


@dataclass(slots=True)
class Entry:
    """One contact that is not closed."""

    contact_id: str
    contact: Contact
    queue: Queue
    number: str = field(repr=False)
    agents: dict[str, str] = field(default_factory=dict[str, str])
    """The latest participant id of each agent that it was offered to."""
    connected_at: float | None = None
    """When the agent joined."""


@dataclass(slots=True)
class Contacts:
    """All contacts that are not closed, and the timers of everybody."""

    calls: TrunkCalls
    desks: Desks
    agents: a.Agents
    queues: Queues
    effects: list[ExchangeEffect]
    draining: bool = False
    """The relay stops: nobody is to do after-contact work any more."""
    refusal: str | None = None
    """Why the contact refused the last request."""
    _entries: dict[str, Entry] = field(default_factory=dict[str, Entry])
    _switchboard: Switchboard = field(default_factory=Switchboard)
    _pending: deque[tuple[str, e.ContactEvent]] = field(default_factory=deque[tuple[str, "e.ContactEvent"]])
    _timers: list[tuple[float, str, str]] = field(default_factory=list[tuple[float, str, str]])
    _due: dict[tuple[str, str], float] = field(default_factory=dict[tuple[str, str], float])

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def all(self) -> Mapping[str, Entry]:
        """By contact id."""
        return self._entries

    def add(self, entry: Entry) -> None:
        """A contact begins; its first event follows."""
        self._entries[entry.contact_id] = entry

    def feed(self, contact_id: str, event: e.ContactEvent) -> None:
        """Queue an event; `run` takes it."""
        self._pending.append((contact_id, event))

    def agent(self, event: a.AgentEvent) -> bool:
        """Tell the agents something, and the contacts what follows from it; whether it changed anything."""
        effects = self.agents.handle(event)
        for effect in effects:
            if isinstance(effect, a.AgentChanged):
                self.desks.tell_state(effect.after)
            else:
                self._agent_lost(effect, event.at)
        return bool(effects)

    def run(self, now: float) -> None:
        """Work off the queued events, and those that they lead to."""
        while True:
            while self._pending:
                contact_id, event = self._pending.popleft()
                entry = self._entries.get(contact_id)
                if entry is not None:
                    self._take(entry, event, now)
            if not self._assign(now):
                return

    # ---- timers

    def start_timer(self, owner: str, name: str, at: float) -> None:
        """Give back (owner, name) when due; the same again replaces it."""
        self._due[owner, name] = at
        heapq.heappush(self._timers, (at, owner, name))
        if len(self._timers) > 2 * len(self._due) + _TIMERS_SPARE:  # most were stopped: a waiting limit lasts an hour
            self._timers = [(due, *timer) for timer, due in self._due.items()]
            heapq.heapify(self._timers)

    def stop_timer(self, owner: str, name: str) -> None:
        """Forget a timer."""
        self._due.pop((owner, name), None)

    def next_timer(self) -> float | None:
        """When the next one is due."""
        while self._timers and self._due.get(self._timers[0][1:]) != self._timers[0][0]:
            heapq.heappop(self._timers)  # stopped, or started again since
        return self._timers[0][0] if self._timers else None

    def due_timer(self, now: float) -> tuple[str, str] | None:
        """Take one timer that is due: its owner and its name."""
        due = self.next_timer()
        if due is None or due > now:
            return None
        _, owner, name = heapq.heappop(self._timers)
        del self._due[owner, name]
        return owner, name

    # ---- one event

    def _take(self, entry: Entry, event: e.ContactEvent, now: float) -> None:
        commands = entry.contact.handle(event)
        entries = entry.contact.take_entries()
        work = _Work(entry, now)
        if entries:
            self.effects.append(ContactLogged(entry.contact_id, event))
            self._note(work, event)
        for command in commands:
            self._carry_out(work, command)
        step = self._switchboard.step(
            entry.contact_id, commands, entries, before=tuple(work.opening), after=tuple(work.closing)
        )
        if step.commands or step.entries:
            self.effects.append(Submit(step))
        if work.closed:
            del self._entries[entry.contact_id]
            self.effects.append(ContactFinished(entry.contact_id, entry.contact.log))

    def _note(self, work: _Work, event: e.ContactEvent) -> None:
        """What an event means outside of its contact."""
        entry = work.entry
        match event:
            case e.AgentReserved(participant_id=participant_id, user=user):
                entry.agents[user] = participant_id
            case e.AgentAccepted(at=at, participant_id=participant_id):
                self.agent(a.ContactAccepted(at, _user(entry, participant_id), entry.contact_id))
                self._bind_agent(entry, participant_id)
            case e.ParticipantConnected(at=at):
                if entry.contact.state.stage is Stage.TALKING:
                    entry.connected_at = at
            case e.ParticipantLeft(participant_id=participant_id):
                self._end_leg(work, participant_id)
            case _:
                pass
        self._announce(entry, event)

    def _announce(self, entry: Entry, event: e.ContactEvent) -> None:
        """Tell the agent of the contact what has just become true of it."""
        what = _ANNOUNCED.get(type(event))
        agent = next((p for p in entry.contact.state.participants if p.role == "agent"), None)
        if agent is None or agent.user is None:
            return
        if isinstance(event, e.ParticipantConnected):
            if entry.contact.state.stage is Stage.TALKING:
                self.desks.tell(agent.user, m.ContactChanged("connected", entry.contact_id))
        elif what is not None:
            self.desks.tell(agent.user, m.ContactChanged(what, entry.contact_id))

    def _carry_out(self, work: _Work, command: c.ContactCommand) -> None:
        entry, now = work.entry, work.now
        match command:
            case c.RingCustomer() | c.AnswerCustomer():
                self._answer_or_ring(work, command)
            case c.EndLeg(participant_id=participant_id, cause=cause):
                self._end_leg(work, participant_id, cause)
            case c.RequestAgent(queue=queue, arrived_at=arrived_at):
                self._request_agent(entry, queue, arrived_at, now)
            case c.CancelRequest():
                self.queues.leave(entry.contact_id)
            case c.StartTimer(name=name, seconds=seconds):
                self.start_timer(entry.contact_id, name, now + seconds)
            case c.StopTimer(name=name):
                self.stop_timer(entry.contact_id, name)
            case c.OfferToAgent() | c.WithdrawOffer() | c.BeginWork() | c.ReleaseAgent():
                self._deal_with_agent(work, command)
            case c.RefuseRequest(reason=reason):
                self.refusal = reason
            case c.CloseContact():
                work.closed = True
            case _:
                pass  # media: the switchboard's

    def _deal_with_agent(
        self, work: _Work, command: c.OfferToAgent | c.WithdrawOffer | c.BeginWork | c.ReleaseAgent
    ) -> None:
        contact_id, now, user = work.entry.contact_id, work.now, command.agent
        match command:
            case c.OfferToAgent():
                if self.agent(a.ContactOffered(now, user, contact_id)):
                    self.desks.tell(user, m.ContactRinging(contact_id, work.entry.number, work.entry.queue.name))
                else:  # no longer available: an offer that nobody sees must not ring until it expires
                    self.feed(contact_id, e.AgentDeclined(now, command.participant_id, "unreachable"))
            case c.WithdrawOffer(reason=reason):
                self._say_over(user, contact_id, _OFFER_ENDS[reason])
                self.agent(a.ContactOver(now, user, contact_id, missed=reason != "caller_left"))
            case c.BeginWork():
                self.desks.tell(user, m.ContactEnded(contact_id, _end_reason(work.entry.contact.log[-1])))
                self.agent(a.WorkBegun(now, user, contact_id))
                if self.draining:
                    self.feed(contact_id, e.WorkCompleted(now, command.participant_id))
            case c.ReleaseAgent(reason=reason):
                if reason == "worked":
                    self.desks.tell(user, m.ContactChanged("closed", contact_id))
                else:
                    self._say_over(user, contact_id, _OFFER_ENDS[reason])
                self.agent(a.ContactOver(now, user, contact_id, missed=reason == "not_joined"))

    def _say_over(self, user: str, contact_id: str, reason: str) -> None:
        self.desks.tell(user, m.ContactEnded(contact_id, reason))
        self.desks.tell(user, m.ContactChanged("closed", contact_id))

    # ---- legs

    def _answer_or_ring(self, work: _Work, command: c.RingCustomer | c.AnswerCustomer) -> None:
        call = self.calls.of(work.entry.contact_id, command.participant_id)
        if call is None:
            return
        if isinstance(command, c.RingCustomer):
            self.calls.ring(call, work.now)
        else:
            opened = self.calls.answer(call, work.now)
            self._switchboard.bind(work.entry.contact_id, command.participant_id, opened.leg_id)
            work.opening.append(opened)

    def _bind_agent(self, entry: Entry, participant_id: str) -> None:
        desk = self.desks.user(_user(entry, participant_id))
        if desk is not None and desk.leg_id is not None:
            self._switchboard.bind(entry.contact_id, participant_id, desk.leg_id)

    def _end_leg(self, work: _Work, participant_id: str, cause: c.EndCause = "ended") -> None:
        """A trunk's call ends with its leg; an agent's leg only leaves the contact."""
        leg_id = self._switchboard.unbind(work.entry.contact_id, participant_id)
        call = self.calls.of(work.entry.contact_id, participant_id)
        if call is not None:
            self.calls.end(call, cause, work.now)
        if leg_id is not None and participant_id == CUSTOMER:
            work.closing.append(media.CloseLeg(leg_id))

    # ---- agents and queues

    def _request_agent(self, entry: Entry, queue: str, arrived_at: float, now: float) -> None:
        try:
            self.queues.join(queue, entry.contact_id, arrived_at)
        except Exhausted:
            self.feed(entry.contact_id, e.RequestRefused(now, queue, "full"))
        except LocalError:
            self.feed(entry.contact_id, e.RequestRefused(now, queue, "unknown"))

    def _assign(self, now: float) -> bool:
        assigned = self.queues.assign(self.agents.idle())
        for each in assigned:
            seen = self._entries[each.contact_id].contact.state.seen
            self.feed(each.contact_id, e.AgentReserved(now, f"agent-{len(seen)}", each.user))
        return bool(assigned)

    def _agent_lost(self, lost: a.ContactLost, at: float) -> None:
        entry = self._entries.get(lost.contact_id)
        if entry is None:
            return
        participant_id = entry.agents[lost.user]
        match lost.during:
            case "ringing":
                self.feed(lost.contact_id, e.AgentDeclined(at, participant_id, "unreachable"))
            case "on_contact":
                self.feed(lost.contact_id, e.ParticipantLeft(at, participant_id, "media_lost"))
            case "after_contact_work":
                self.feed(lost.contact_id, e.WorkCompleted(at, participant_id))


@dataclass(slots=True)
class _Work:
    """What one event of one contact leads to."""

    entry: Entry
    now: float
    opening: list[MediaCommand] = field(default_factory=list["MediaCommand"])
    closing: list[MediaCommand] = field(default_factory=list["MediaCommand"])
    closed: bool = False


def _user(entry: Entry, participant_id: str) -> str:
    return next(user for user, participant in entry.agents.items() if participant == participant_id)


def _end_reason(event: e.ContactEvent) -> str:
    match event:
        case e.ParticipantLeft(participant_id=participant_id, cause="hung_up"):
            return "hung_up_by_customer" if participant_id == CUSTOMER else "hung_up_by_agent"
        case e.ParticipantLeft(cause="media_lost" | "failed"):
            return "failed"
        case _:
            return "ended"


_OFFER_ENDS: dict[Literal["caller_left", "rejected", "missed", "unreachable", "not_joined"], str] = {
    "caller_left": "hung_up_by_customer",
    "rejected": "rejected",
    "missed": "missed",
    "unreachable": "failed",
    "not_joined": "failed",
}
_ANNOUNCED: dict[type[e.ContactEvent], Literal["held", "resumed", "muted", "unmuted"]] = {
    e.Held: "held",
    e.Resumed: "resumed",
    e.Muted: "muted",
    e.Unmuted: "unmuted",
}
