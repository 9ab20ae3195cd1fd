"""The exchange: what trunks, softphones and the plane say becomes contacts' events; what contacts decide, effects.

Sans-IO. Every input is followed by taking `effects()`; the SIP user agent that it was given has then something to send,
too. A contact decides, the exchange carries out: nothing in here knows when music plays, who is recorded, or what comes
after a hang-up.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Literal

from relay import media
from relay.calls.contacts import CUSTOMER, Contacts, Entry
from relay.calls.desks import SHOWN, Desk, Desks
from relay.calls.effects import CloseMedia, ExchangeEffect, ExchangeSettings, Identity, Notify, Submit
from relay.calls.trunk_calls import TrunkCalls
from relay.media import LegId, MediaCommand, MediaEvent, Step
from signaling import agents as a
from signaling.contact import events as e
from signaling.contact.contact import Contact
from signaling.contact.state import Stage
from signaling.errors import Exhausted, RemoteError
from signaling.queues import Queues, QueueSettings
from signaling.sip import events as sip
from signaling.softphone import messages as m

_RECONNECT = "reconnect"
_TAKEN_OFF_HOLD_SECONDS = 5.0
"""How long a peer that held us may take until it is heard again."""
_ADDING_ACTIONS = frozenset({"accept", "hold", "mute"})
"""What an agent must not ask of a plane that is behind; what undoes them is bounded by them."""


class Exchange:
    """See the module. `now` is monotonic seconds everywhere."""

    def __init__(
        self,
        identity: Identity,
        settings: ExchangeSettings,
        calls: TrunkCalls,
        *,
        entropy: Callable[[int], bytes],
        is_plane_behind: Callable[[], bool] = lambda: False,
    ) -> None:
        self.settings = settings
        self.calls = calls
        self.agents = a.Agents(settings.agents)
        self.queues = Queues(QueueSettings(queue.name, queue.waiting_max) for queue in settings.queues)
        self.desks = Desks(lambda session_id, notification: self._effects.append(Notify(session_id, notification)))
        self.counts: Counter[str] = Counter()
        """What happened, by name, for the metrics."""
        self.draining = False
        self._identity = identity
        self._entropy = entropy
        self._is_plane_behind = is_plane_behind
        self._by_name = {queue.name: queue for queue in settings.queues}
        self._effects: list[ExchangeEffect] = []
        self.contacts = Contacts(calls, self.desks, self.agents, self.queues, self._effects)

    # ---- what the shell asks

    def effects(self) -> list[ExchangeEffect]:
        """Take what is to be done, in order."""
        effects = self._effects[:]
        self._effects.clear()
        return effects

    def next_timer(self) -> float | None:
        """When `handle_timer` wants to be called."""
        return self.contacts.next_timer()

    def handle_timer(self, now: float) -> None:
        """Fire what is due."""
        while (due := self.contacts.due_timer(now)) is not None:
            owner, name = due
            if name == _RECONNECT:
                self._give_up(owner, now)
            else:
                self.contacts.feed(owner, e.TimerFired(now, name))
            self.contacts.run(now)

    def drain(self, now: float) -> None:
        """Refuse new calls from now on; callers that no agent has answered are hung up."""
        self.draining = self.contacts.draining = True
        for contact_id, entry in self.contacts.all.items():
            if entry.contact.state.stage is not Stage.TALKING:
                self._end(contact_id, entry, now)
        self.contacts.run(now)

    def end_all(self, now: float) -> None:
        """End every contact, whatever it is doing."""
        while self.contacts.all:
            for contact_id, entry in self.contacts.all.items():
                self._end(contact_id, entry, now)
            self.contacts.run(now)

    def _end(self, contact_id: str, entry: Entry, now: float) -> None:
        worker = entry.contact.state.worker
        if worker is not None:
            self.contacts.feed(contact_id, e.WorkCompleted(now, worker.participant_id))
        else:
            self.contacts.feed(contact_id, e.ParticipantLeft(now, CUSTOMER, "drained"))

    # ---- trunks

    def sip_event(self, event: sip.UserAgentEvent, now: float) -> None:
        """A call came in, was confirmed, offered anew, cancelled, or ended."""
        match event:
            case sip.IncomingCall():
                self._incoming(event, now)
            case sip.CallConfirmed(call=call):
                self.counts["calls confirmed"] += 1
                found = self.calls.find(call)
                if found is not None:
                    self.contacts.feed(found.contact_id, e.ParticipantConnected(now, found.participant_id))
            case sip.CallCancelled(call=call):
                self._call_gone(call, "cancelled", now)
            case sip.CallEnded(call=call, by=by):
                self._call_gone(call, "hung_up" if by == "peer" else "failed", now)
            case sip.SessionOffered():
                moved = self.calls.offered_anew(event, now)
                if moved is not None:
                    self._submit(moved)
            case _:
                self.counts["events of calls that were not made here"] += 1
        self.contacts.run(now)

    def _incoming(self, event: sip.IncomingCall, now: float) -> None:
        queue = self._by_name.get(self.settings.queue_of_trunk.get(event.trunk, ""))
        contact_id = str(uuid.UUID(bytes=self._entropy(16), version=4))
        try:
            if queue is None:
                raise RemoteError("this trunk has no queue", sip_status=404)
            full = len(self.contacts) >= self.settings.contacts_max
            if self.draining or full or self._is_plane_behind():
                raise RemoteError("no more calls now", sip_status=503)
            self.calls.admit(event, contact_id, CUSTOMER)
        except RemoteError as error:
            self.counts["calls refused"] += 1
            self.calls.control.reject(event.call, error.sip_status, now)
            return
        self.counts["calls"] += 1
        self.contacts.add(Entry(contact_id, Contact(queue.contact), queue, event.caller))
        started = e.ContactStarted(
            at=now,
            contact_id=contact_id,
            account_id=self._identity.account_id,
            instance_id=self._identity.instance_id,
            queue=queue.name,
            participant_id=CUSTOMER,
            customer_number=event.caller,
            system_number=event.called,
            trunk=event.trunk,
            recorded=queue.recorded,
            answer=queue.answer,
            waiting_source=queue.waiting_source,
        )
        self.contacts.feed(contact_id, started)

    def _call_gone(self, call: sip.CallId, cause: Literal["hung_up", "cancelled", "failed"], now: float) -> None:
        found = self.calls.find(call)
        if found is not None:
            self.calls.forget(found)
            self.contacts.feed(found.contact_id, e.ParticipantLeft(now, found.participant_id, cause))

    # ---- softphones

    def log_in(self, user: str, role: str, session_id: str, now: float) -> m.LoggedIn:
        """An authenticated agent sits down; raises `RequestError` if there is no room."""
        try:
            self.contacts.agent(a.LoggedIn(now, user, frozenset(self._by_name)))
        except Exhausted as error:
            raise m.RequestError(m.ErrorCode.TOO_MANY, str(error)) from error
        desk, replaced = self.desks.open(user, role, session_id)
        self.contacts.stop_timer(user, _RECONNECT)
        if replaced is not None:
            self._effects.append(Notify(replaced, m.SessionReplaced()))
        self.contacts.run(now)
        agent = self.agents.get(user)
        assert agent is not None, "it has just logged in"
        return m.LoggedIn(user, role, SHOWN[agent.state], desk.media, (), self._snapshot(agent, now))

    def session_closed(self, session_id: str, now: float) -> None:
        """A softphone's WebSocket is gone; its call goes on for a while."""
        desk = self.desks.session_lost(session_id)
        if desk is not None:
            self.contacts.agent(a.ConnectionLost(now, desk.user))
            self.contacts.start_timer(desk.user, _RECONNECT, now + self.settings.reconnect_seconds)
            self.contacts.run(now)

    def request(self, session_id: str, request: m.Request, now: float) -> dict[str, object]:
        """Serve what a softphone asks for; raises `RequestError`. What concerns media is asked of the shell."""
        desk = self._desk(session_id)
        match request:
            case m.SetState(state="break"):
                self.contacts.agent(a.StateChosen(now, desk.user, "custom", "break"))
            case m.SetState(state=("available" | "offline") as state):
                self.contacts.agent(a.StateChosen(now, desk.user, state))
            case m.ContactRequest(action=action, contact_id=contact_id):
                self._contact_request(desk, action, contact_id, now)
            case m.Ping():
                pass
            case _:
                raise m.RequestError(m.ErrorCode.METHOD_NOT_FOUND, "not served here")
        self.contacts.run(now)
        return {}

    def _desk(self, session_id: str) -> Desk:
        desk = self.desks.session(session_id)
        if desk is None:
            raise m.RequestError(m.ErrorCode.NOT_LOGGED_IN, "log in first")
        return desk

    def _require_plane(self) -> None:
        if self._is_plane_behind():
            raise m.RequestError(m.ErrorCode.UNAVAILABLE, "the relay is too busy just now", retry_after=1.0)

    def _contact_request(self, desk: Desk, action: m.ContactAction, contact_id: str, now: float) -> None:
        entry = self.contacts.all.get(contact_id)
        agent = self.agents.get(desk.user)
        if entry is None or agent is None or agent.contact_id != contact_id:
            raise m.RequestError(m.ErrorCode.NOT_FOUND, "you have no such contact")
        if action in _ADDING_ACTIONS:
            self._require_plane()
        ringing = entry.contact.state.stage is Stage.OFFERING
        for event in _asked(action, entry.agents[desk.user], desk.user, now, ringing=ringing):
            self.contacts.refusal = None
            self.contacts.feed(contact_id, event)
            self.contacts.run(now)
            if self.contacts.refusal is not None:
                raise m.RequestError(m.ErrorCode.CONFLICT, self.contacts.refusal)

    def _snapshot(self, agent: a.Agent, now: float) -> m.ContactSnapshot | None:
        entry = self.contacts.all.get(agent.contact_id or "")
        if entry is None:
            return None
        state = entry.contact.state
        customer, agent_side = state.participant(CUSTOMER), state.participant(entry.agents[agent.user])
        return m.ContactSnapshot(
            contact_id=entry.contact_id,
            state=_SNAPSHOT_STATES.get(state.stage, "ringing"),
            number=entry.number,
            queue=entry.queue.name,
            on_hold=customer is not None and customer.on_hold,
            muted=agent_side is not None and agent_side.muted,
            connected_s=0.0 if entry.connected_at is None else round(now - entry.connected_at, 1),
        )

    # ---- softphones' media

    def leg_connecting(self, session_id: str) -> LegId:
        """A softphone wants a media connection; returns the id of the leg that it is for."""
        desk = self._desk(session_id)
        self._require_plane()
        self._give_up_connecting(desk)
        desk.connecting = LegId(f"softphone/{desk.user}/{self._entropy(6).hex()}")
        self.desks.tell(desk.user, m.MediaStateChanged("connecting"))
        return desk.connecting

    def leg_ready(self, opened: media.OpenLeg, now: float) -> None:
        """ICE and DTLS are done: the leg is live, and the agent can be given contacts."""
        desk = self.desks.connecting(opened.leg_id)
        if desk is None:
            self._effects.append(CloseMedia(opened.leg_id))
            return
        self._detach(desk, now)
        self.desks.attach(desk, opened.leg_id)
        self._submit(opened)
        self.desks.tell(desk.user, m.MediaStateChanged("connected"))
        self.contacts.agent(a.MediaReady(now, desk.user))
        self.contacts.run(now)

    def leg_moved(self, moved: media.MoveLeg) -> None:
        """ICE selected another pair."""
        if self.desks.leg(moved.leg_id) is not None:
            self._submit(moved)

    def leg_lost(self, leg_id: LegId, reason: str, now: float) -> None:
        """ICE consent expired, DTLS was closed, or neither ever came up."""
        connecting, live = self.desks.connecting(leg_id), self.desks.leg(leg_id)
        if connecting is not None:
            connecting.connecting = None
            self.desks.tell(connecting.user, m.MediaStateChanged("failed", reason))
        elif live is not None:
            self._detach(live, now)
            self.desks.tell(live.user, m.MediaStateChanged("closed", reason))

    def media_closed(self, session_id: str, now: float) -> None:
        """A softphone asked to end its media connection."""
        desk = self._desk(session_id)
        self._give_up_connecting(desk)
        self._detach(desk, now)
        self.desks.tell(desk.user, m.MediaStateChanged("closed"))

    def _give_up_connecting(self, desk: Desk) -> None:
        if desk.connecting is not None:
            self._effects.append(CloseMedia(desk.connecting))
            desk.connecting = None

    def _detach(self, desk: Desk, now: float) -> None:
        leg_id = self.desks.detach(desk)
        if leg_id is not None:
            self.contacts.agent(a.MediaLost(now, desk.user))
            self.contacts.run(now)  # the contact lets go of the leg before it closes
            self._submit(media.CloseLeg(leg_id))
            self._effects.append(CloseMedia(leg_id))

    def _give_up(self, user: str, now: float) -> None:
        """The session did not come back in time."""
        desk = self.desks.user(user)
        if desk is None or desk.session_id is not None:
            return
        self._give_up_connecting(desk)
        self._detach(desk, now)
        self.contacts.agent(a.LoggedOut(now, user))
        self.desks.close(desk)

    # ---- the plane

    def media_event(self, event: MediaEvent, now: float) -> None:
        """What the plane saw."""
        match event:
            case media.Levels():
                self.desks.tell_levels(event)
            case media.LegReport():
                self.desks.tell_quality(event)
            case media.TelephoneEvent():
                self.counts["telephone events"] += 1
            case media.LegSilent(leg_id=leg_id):
                self._leg_silent(leg_id, now)
            case media.LegClosed(leg_id=leg_id):
                self._leg_gone(leg_id, now)  # one that we closed is nobody's any more
            case media.CommandRefused():
                self.counts["media commands refused"] += 1
                self._refused(event, now)
            case _:
                pass

    def _leg_silent(self, leg_id: LegId, now: float) -> None:
        """A trunk's leg is dead; a softphone's is watched by ICE consent (RFC 7675), and silent off a contact."""
        call = self.calls.on_leg(leg_id)
        # A peer that has put us on hold said that it would send nothing.
        if call is not None and now - call.receives_since >= _TAKEN_OFF_HOLD_SECONDS:
            self._leg_gone(leg_id, now)

    def _leg_gone(self, leg_id: LegId, now: float) -> None:
        """The plane has no such leg, or nothing comes from it: whom it carried is gone."""
        call = self.calls.on_leg(leg_id)
        if call is not None:
            self.contacts.feed(call.contact_id, e.ParticipantLeft(now, call.participant_id, "media_lost"))
            self.contacts.run(now)
        else:
            self.leg_lost(leg_id, "the media plane has ended it", now)

    def _refused(self, refused: media.CommandRefused, now: float) -> None:
        """What is heard and recorded is not what the log of a contact says: the contact ends."""
        if refused.leg_id is not None:
            self._leg_gone(refused.leg_id, now)
        elif refused.contact_id is not None:
            self.contacts.feed(refused.contact_id, e.ParticipantLeft(now, CUSTOMER, "failed"))
            self.contacts.run(now)

    def _submit(self, command: MediaCommand) -> None:
        self._effects.append(Submit(Step(None, (command,))))


def _asked(
    action: m.ContactAction, participant_id: str, user: str, now: float, *, ringing: bool
) -> Iterator[e.ContactEvent]:
    """The events that a request of an agent means."""
    match action:
        case "accept":
            yield e.AgentAccepted(now, participant_id)
            yield e.ParticipantConnected(now, participant_id)  # its media is up before any contact
        case "reject":
            yield e.AgentDeclined(now, participant_id, "rejected")
        case "hang_up":
            if ringing:
                yield e.AgentDeclined(now, participant_id, "rejected")
            else:
                yield e.ParticipantLeft(now, participant_id, "hung_up")
        case "hold":
            yield e.Held(now, CUSTOMER, user)
        case "resume":
            yield e.Resumed(now, CUSTOMER, user)
        case "mute":
            yield e.Muted(now, participant_id, user, "self")
        case "unmute":
            yield e.Unmuted(now, participant_id, user, "self")
        case "complete":
            yield e.WorkCompleted(now, participant_id)


_SNAPSHOT_STATES: dict[Stage, m.ContactState] = {
    Stage.OFFERING: "ringing",
    Stage.JOINING: "connecting",
    Stage.TALKING: "connected",
    Stage.WORKING: "after_contact_work",
}
