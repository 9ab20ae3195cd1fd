"""One call, from its dialog on: re-INVITE, UPDATE, BYE, session timer, and the repeated 2xx (RFC 3261 §13-15).

`IncomingLeg` and `OutgoingLeg` add what comes before: how the dialog is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

from signaling.errors import RemoteError
from signaling.sip.core import SDP_TYPE, CallTimer, Core, capabilities, session_description
from signaling.sip.dialog import Dialog
from signaling.sip.digest import Credentials
from signaling.sip.events import (
    CallConfirmed,
    CallEnded,
    CallId,
    Flow,
    SessionAnswered,
    SessionOffered,
    UserAgentEvent,
)
from signaling.sip.message import Items, Request, Response
from signaling.sip.session_timer import SessionTimer, accepted_session_timer, answer_session_timer
from signaling.sip.transaction import Transaction

_GLARE_SECONDS = (0.0, 2.0)
"""RFC 3261 §14.1: before trying again after 491; as if we did not own the Call-ID, whoever does."""
_PROOFS_MAX = 3
"""Challenges in a row: one for a proxy, one for the called end, one for a stale nonce."""


class CallState(Enum):
    """Where a call stands."""

    PROCEEDING = "proceeding"
    """Theirs, not yet answered."""
    ANSWERED = "answered"
    """Theirs, answered, not yet acknowledged."""
    CALLING = "calling"
    """Ours, not yet answered."""
    CONFIRMED = "confirmed"
    ENDED = "ended"


@dataclass(slots=True)
class _Unacknowledged:
    """A 2xx of ours that is repeated until its ACK comes (RFC 3261 §13.3.1.4)."""

    response: Response
    flow: Flow
    sequence: int
    interval: float
    gives_up_at: float
    offered: bool
    """Whether it carries an offer, so that the ACK must carry the answer."""


class Call:
    """One call with its dialog; what it does is told through its core."""

    def __init__(self, core: Core, flow: Flow) -> None:
        self.core = core
        self.id = CallId(core.token())
        self.flow = flow
        self.trunk = ""
        """Name of the trunk that a call to us comes from."""
        self.state = CallState.PROCEEDING
        self.dialog: Dialog | None = None
        self.session_timer: SessionTimer | None = None
        self._unacknowledged: _Unacknowledged | None = None
        self._offer: Transaction | None = None
        """The re-INVITE or UPDATE whose offer waits for accept_offer or refuse_offer."""
        self._reinvite: Transaction | None = None
        """A re-INVITE of ours that is under way."""
        self._refreshed: Transaction | None = None
        """The last request of ours within the dialog that has its final response."""
        self._local_sdp = b""
        self.credentials: Credentials | None = None
        self._challenges = 0
        """Challenges answered in a row."""
        self._peer_allows: frozenset[str] = frozenset()
        self._end_when_acknowledged = False
        self._cause = ""
        core.calls[self.id] = self

    # What the program asks for.

    def hang_up(self, now: float, cause: str = "") -> None:
        """End the call in the way that its state demands; no event follows."""
        if self.state is CallState.ANSWERED:
            # The called end must not send BYE before the ACK (§15).
            self._end_when_acknowledged, self._cause = True, cause
        elif self.state is CallState.CONFIRMED:
            self._send_bye(now, cause)

    def accept_offer(self, sdp: bytes, now: float) -> None:
        """Answer what `SessionOffered` told (with an offer, if it had none)."""
        transaction, self._offer = self._offer, None
        if transaction is None or self.state is CallState.ENDED:
            return
        self._local_sdp = sdp
        request = transaction.request
        headers = self._answer_headers(request, now)
        response = self.core.respond(transaction, 200, now, headers=(*headers, ("Content-Type", SDP_TYPE)), body=sdp)
        if request.method == "INVITE":
            self.repeat_until_acknowledged(response, transaction.flow, now, offered=not request.body)

    def refuse_offer(self, status: int, now: float, reason: str = "") -> None:
        """Refuse what `SessionOffered` told: the session stays as it was."""
        transaction, self._offer = self._offer, None
        if transaction is not None and self.state is not CallState.ENDED:
            self.core.respond(transaction, status, now, reason=reason)

    # What comes from the peer within the dialog.

    def receive_request(self, request: Request, transaction: Transaction, flow: Flow, now: float) -> None:
        """Take a request within the dialog other than ACK; raises RemoteError to be answered."""
        assert self.dialog is not None, "a request is within a dialog only if there is one"
        if request.method == "PRACK":
            self.receive_prack(request, transaction, now)
            return
        self.dialog.take(request)
        self.flow = flow
        if request.method == "BYE":
            self.core.respond(transaction, 200, now)
            self.receive_bye(request, now)
        elif request.method in {"INVITE", "UPDATE"}:
            self._receive_offer(request, transaction, now)
        elif request.method == "OPTIONS":
            self.core.respond(transaction, 200, now, headers=capabilities())
        else:
            raise RemoteError("the method is not known", sip_status=405)

    def receive_prack(self, request: Request, transaction: Transaction, now: float) -> None:
        """A PRACK: only a call that rings reliably has one to wait for."""
        del request, transaction, now
        raise RemoteError("no reliable provisional response waits for this", sip_status=481)

    def receive_bye(self, request: Request, now: float) -> None:
        """The peer hangs up."""
        self._abandon_offer(now)
        self.finish(CallEnded(self.id, "peer", request.get("Reason") or ""))

    def receive_ack(self, ack: Request, now: float) -> None:
        """The ACK of a 2xx."""
        pending = self._unacknowledged
        if pending is None or pending.sequence != ack.cseq.number:
            return
        self._unacknowledged = None
        self.core.timers.stop((self, "answer"))
        first = self.state is CallState.ANSWERED
        if first:
            self.state = CallState.CONFIRMED
        if self._end_when_acknowledged:
            self._send_bye(now, self._cause)
            return
        try:
            answer = session_description(ack) if pending.offered else None
            if pending.offered and answer is None:
                raise RemoteError("the ACK lacks the answer to our offer")
        except RemoteError:
            self.core.counters["acks_without_answer"] += 1
            self._send_bye(now, 'SIP;cause=488;text="Not Acceptable Here"', CallEnded(self.id, "peer", "no answer"))
            return
        if first:
            self.core.emit(CallConfirmed(self.id, answer))
        elif answer is not None:
            self.core.emit(SessionAnswered(self.id, answer))

    def receive_cancel(self, transaction: Transaction, now: float) -> None:
        """A CANCEL of an INVITE: only one that is not answered yet can be cancelled (§9.2)."""
        if transaction is self._offer:
            self._offer = None
            self.core.respond(transaction, 487, now)

    def _receive_offer(self, request: Request, transaction: Transaction, now: float) -> None:
        assert self.dialog is not None
        offer = session_description(request)
        waits = self._unacknowledged
        if self._reinvite is not None or (waits is not None and waits.offered):
            raise RemoteError("an offer of ours is under way", sip_status=491)
        if self._offer is not None or (offer is not None and self.state in {CallState.PROCEEDING, CallState.CALLING}):
            raise RemoteError("an offer of yours is under way", sip_status=500)
        answer_session_timer(request, self.core.settings.session_seconds_min)
        self.dialog.refresh_target(request)
        if request.method == "UPDATE" and offer is None:
            self.core.respond(transaction, 200, now, headers=self._answer_headers(request, now))
            return
        self._offer = transaction
        transaction.user = self
        if request.method == "INVITE":
            self.core.respond(transaction, 100, now)
        self.core.emit(SessionOffered(self.id, offer))

    def _abandon_offer(self, now: float) -> None:
        """The dialog ends: whatever waits in it is answered 487 (§15.1.2)."""
        if self._offer is not None:
            self.core.respond(self._offer, 487, now)
            self._offer = None

    # Responses to requests of ours, and their failures.

    def receive_response(self, transaction: Transaction, response: Response, now: float) -> None:
        """A response to a request of ours within the dialog."""
        if response.status < 200 or self.dialog is None:
            return
        if response.status in {401, 407} and self._send_with_proof(transaction, response, now):
            return
        self._challenges = 0
        if self.state is CallState.ENDED:
            return
        first = transaction is not self._refreshed
        self._refreshed = transaction
        if transaction is self._reinvite:
            self._reinvite = None
        if response.status in {408, 481}:
            # The peer does not know the dialog any more (§12.2.1.2).
            self._send_bye(now, "", CallEnded(self.id, "timeout"))
        elif response.status == 491:
            self.core.timers.start((self, "refresh"), now + self.core.rng.uniform(*_GLARE_SECONDS))
        elif response.status < 300:
            self._receive_refreshed(transaction, response, now, first=first)

    def _receive_refreshed(self, transaction: Transaction, response: Response, now: float, *, first: bool) -> None:
        """A 2xx to our refresh; repeated ones only get their ACK again."""
        assert self.dialog is not None
        invite = transaction.request.method == "INVITE"
        if invite:
            ack = self.dialog.request("ACK", sequence=transaction.request.cseq.number)
            self.core.send_outside(ack, transaction.flow)
        if not first:
            return
        self.dialog.refresh_target(response)
        self.start_session_timer(accepted_session_timer(response), now)
        try:
            answer = session_description(response) if invite else None
        except RemoteError:
            answer = None
        if answer is not None:
            self.core.emit(SessionAnswered(self.id, answer))

    def _send_with_proof(self, transaction: Transaction, response: Response, now: float) -> bool:
        """Send a challenged request again with its proof, once (RFC 3261 §22.2)."""
        request = transaction.request
        proof = self.prove(request, response)
        if proof is None or self.dialog is None:
            return False
        dropped = {"Via", "Max-Forwards", "Route", "From", "To", "Call-ID", "CSeq", "Content-Length"}
        headers = [item for item in request.headers if item[0] not in dropped]
        self._reinvite = None
        self._send(self.dialog.request(request.method, (*headers, proof), request.body), now)
        return True

    def prove(self, request: Request, response: Response) -> tuple[str, str] | None:
        """The header that answers a challenge; None if we cannot, or if the peer only ever asks again."""
        self._challenges += 1
        return self.core.prove(request, response, self.credentials) if self._challenges <= _PROOFS_MAX else None

    def transaction_failed(self, transaction: Transaction, why: Literal["timeout", "error"], now: float) -> None:
        """A transaction of the call died."""
        if transaction is self._reinvite:
            self._reinvite = None
        if transaction is self._offer:
            self._offer = None
        if self.state is CallState.CONFIRMED and "client" in transaction.kind and why == "timeout":
            self._send_bye(now, "", CallEnded(self.id, "timeout"))

    def flow_opened(self, request: Request, flow: Flow, now: float) -> None:
        """The connection for a request within the dialog is there."""
        self.flow = flow
        self._begin(request, now)

    def flow_failed(self, request: Request, now: float) -> None:
        """A request within the dialog cannot be sent; the session timer will notice if the peer is gone."""
        del request, now
        self._reinvite = None
        self.core.counters["requests_unsent"] += 1

    # Timers.

    def handle_timer(self, timer: CallTimer, now: float) -> None:
        """A timer of the call fired."""
        if timer == "answer":
            self._repeat_answer(now)
        elif timer == "session":
            self._send_bye(
                now, 'SIP;cause=408;text="Session expired"', CallEnded(self.id, "timeout", "session expired")
            )
        elif timer == "refresh":
            self._refresh(now)

    def repeat_until_acknowledged(self, response: Response, flow: Flow, now: float, *, offered: bool) -> None:
        """Repeat a 2xx until its ACK comes, whatever the transport (§13.3.1.4)."""
        timing = self.core.settings.timing
        self._unacknowledged = _Unacknowledged(
            response, flow, response.cseq.number, timing.t1, now + 64 * timing.t1, offered
        )
        self.core.timers.start((self, "answer"), now + timing.t1)

    def _repeat_answer(self, now: float) -> None:
        pending = self._unacknowledged
        if pending is None:
            return
        if now >= pending.gives_up_at:
            self._send_bye(now, 'SIP;cause=408;text="No ACK"', CallEnded(self.id, "timeout", "no ACK"))
            return
        self.core.layer.send(pending.response, pending.flow)
        pending.interval = min(2 * pending.interval, self.core.settings.timing.t2)
        self.core.timers.start((self, "answer"), min(now + pending.interval, pending.gives_up_at))

    def start_session_timer(self, timer: SessionTimer | None, now: float) -> None:
        """Arm what RFC 4028 §10 asks of our side, from a 2xx on."""
        self.session_timer = timer
        self.core.timers.stop((self, "refresh"))
        self.core.timers.stop((self, "session"))
        if timer is not None:
            name: CallTimer = "refresh" if timer.ours else "session"
            self.core.timers.start((self, name), now + timer.acts_after)

    def _answer_headers(self, request: Request, now: float) -> Items:
        """Headers of a 2xx to INVITE and UPDATE; arms the session timer that they name."""
        timer = answer_session_timer(request, self.core.settings.session_seconds_min)
        self.start_session_timer(timer, now)
        self._peer_allows = request.tokens("Allow") or self._peer_allows
        session = timer.response_headers(request) if timer is not None else ()
        return (("Contact", self.core.contact(self.flow)), *capabilities()[:2], *session)

    def _refresh(self, now: float) -> None:
        """Refresh the session: by UPDATE without SDP, or with the SDP that holds (RFC 4028 §7.4)."""
        timer = self.session_timer
        if self.state is not CallState.CONFIRMED or timer is None or self.dialog is None:
            return
        self.core.timers.start((self, "session"), now + timer.expires_after_refresh)
        if self._reinvite is not None or self._offer is not None:
            return
        headers = (("Contact", self.core.contact(self.flow)), *timer.request_headers())
        if "update" in self._peer_allows:
            request = self.dialog.request("UPDATE", headers)
        else:
            request = self.dialog.request("INVITE", (*headers, ("Content-Type", SDP_TYPE)), self._local_sdp)
        self._send(request, now)

    # The end.

    def finish(self, event: UserAgentEvent | None) -> None:
        """The call is gone: nothing of it stays but transactions that end by themselves."""
        if self.state is CallState.ENDED:
            return
        self.state = CallState.ENDED
        self._unacknowledged = None
        for timer in ("ring", "answer", "provisional", "cancel", "session", "refresh"):
            self.core.timers.stop((self, timer))
        self.core.calls.pop(self.id, None)
        self.core.trunk_calls[self.trunk] -= 1
        self.leave_dialog()
        if event is not None:
            self.core.emit(event)

    def enter_dialog(self, dialog: Dialog) -> None:
        """Be found by requests within this dialog."""
        self.leave_dialog()
        self.dialog = dialog
        self.core.dialogs[dialog.call_id, dialog.local_tag, dialog.remote_tag] = self

    def leave_dialog(self) -> None:
        """Be found no more."""
        if self.dialog is not None:
            key = self.dialog.call_id, self.dialog.local_tag, self.dialog.remote_tag
            self.core.dialogs.pop(key, None)

    def _send_bye(self, now: float, cause: str, event: CallEnded | None = None) -> None:
        if self.state is CallState.ENDED or self.dialog is None:
            return
        self._abandon_offer(now)
        headers: Items = (("Reason", cause),) if cause else ()
        self._send(self.dialog.request("BYE", headers), now)
        self.finish(event)

    def _send(self, request: Request, now: float) -> None:
        """Send within the dialog: on its flow, or on a new one to the next hop when that is gone."""
        assert self.dialog is not None
        if self.core.usable(self.flow):
            self._begin(request, now)
            return
        hop = self.dialog.next_hop
        self.core.open_flow(self, request, self.flow.transport, hop.host, hop.port)

    def _begin(self, request: Request, now: float) -> None:
        transaction = self.core.send_on(self, request, self.flow, now)
        if request.method == "INVITE":
            self._reinvite = transaction
