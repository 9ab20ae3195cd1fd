"""A call of ours, from its INVITE to its ACK: proof, CANCEL and its races, forked answers (RFC 3261 §13.2)."""

from __future__ import annotations

from typing import Literal

from signaling.errors import LocalError, RemoteError
from signaling.sip.call import Call, CallState
from signaling.sip.core import SDP_TYPE, CallTimer, Core, capabilities, session_description
from signaling.sip.dialog import Dialog
from signaling.sip.events import CallAnswered, CallProgress, CallRefused, Flow, FlowId, Invite
from signaling.sip.grammar import NameAddress, Uri
from signaling.sip.message import Request, Response
from signaling.sip.sdp import SessionDescription
from signaling.sip.session_timer import accepted_session_timer
from signaling.sip.transaction import State, Transaction

_NO_FLOW = FlowId("")


class OutgoingLeg(Call):
    """A call of ours."""

    def __init__(self, core: Core, invite: Invite, now: float) -> None:
        """Raises LocalError if the target or the caller is no URI."""
        try:
            target, caller = Uri.parse(invite.target), Uri.parse(invite.caller)
        except RemoteError as error:
            raise LocalError(str(error)) from None
        nowhere = Flow(_NO_FLOW, invite.transport, ("", 0), (invite.host, invite.port))
        super().__init__(core, invite.flow or nowhere)
        self.state = CallState.CALLING
        self.credentials = invite.credentials
        self._plan = invite
        self._target = target
        self._from = NameAddress(caller).tagged(core.token())
        self._to = NameAddress(target.bare)
        self._call_id = core.token(16)
        self._sequence = core.rng.randrange(1, 2**30)
        self._transaction: Transaction | None = None
        self._early_answer: SessionDescription | None = None
        self._heard = False
        """Whether a provisional response came: only then may a CANCEL go (§9.1)."""
        self._cancelling = False
        self._acks: dict[str, Request] = {}
        """The ACK of each 2xx, by the tag of the one who answered (a fork may answer twice)."""
        self._local_sdp = invite.offer
        core.timers.start((self, "ring"), now + core.settings.ring_seconds_max)
        if invite.flow is None:
            core.open_flow(self, Request(method="INVITE"), invite.transport, invite.host, invite.port)
        else:
            self._send_invite(now)

    def hang_up(self, now: float, cause: str = "") -> None:
        """CANCEL before the answer, BYE after it."""
        if self.state is not CallState.CALLING:
            super().hang_up(now, cause)
            return
        if self._cancelling:
            return
        self._cancelling = True
        self.core.timers.stop((self, "ring"))
        if self._transaction is None:
            self.finish(None)
        elif self._heard:
            self._cancel(now)

    def receive_response(self, transaction: Transaction, response: Response, now: float) -> None:
        """A response to any request of the call."""
        if transaction is not self._transaction:
            if transaction.request.method != "CANCEL":
                super().receive_response(transaction, response, now)
        elif response.status < 200:
            self._receive_provisional(response, now)
        elif response.status < 300:
            self._receive_answer(response, now)
        elif self.state is CallState.CALLING:
            self._receive_refusal(transaction, response, now)

    def transaction_failed(self, transaction: Transaction, why: Literal["timeout", "error"], now: float) -> None:
        """Nobody answered the INVITE, or it could not be sent."""
        if transaction is self._transaction and self.state is CallState.CALLING:
            self._refused(408 if why == "timeout" else 503)
        elif transaction is not self._transaction:
            super().transaction_failed(transaction, why, now)

    def flow_opened(self, request: Request, flow: Flow, now: float) -> None:
        """The connection is there."""
        if self.state is CallState.CALLING:
            self.flow = flow
            self._send_invite(now)
        elif self.dialog is not None:
            super().flow_opened(request, flow, now)

    def flow_failed(self, request: Request, now: float) -> None:
        """No connection, or too much to do."""
        if self.state is CallState.CALLING:
            self._refused(503)
        else:
            super().flow_failed(request, now)

    def handle_timer(self, timer: CallTimer, now: float) -> None:
        """A timer of the call fired."""
        if timer == "ring":
            self.hang_up(now)
            self.core.emit(CallRefused(self.id, 408, "rang too long"))
        elif timer == "cancel":
            self.finish(None)
        else:
            super().handle_timer(timer, now)

    def _send_invite(self, now: float, proof: tuple[tuple[str, str], ...] = ()) -> None:
        plan = self._plan
        headers = (
            ("Max-Forwards", "70"),
            ("From", str(self._from)),
            ("To", str(self._to)),
            ("Call-ID", self._call_id),
            ("CSeq", f"{self._sequence} INVITE"),
            ("Contact", self.core.contact(self.flow)),
            capabilities()[0],
            ("Supported", "timer"),
            ("User-Agent", self.core.settings.product),
            *plan.headers,
            *proof,
            ("Content-Type", SDP_TYPE),
        )
        request = Request(headers, plan.offer, "INVITE", str(self._target))
        self._heard = False
        self._transaction = self.core.send_on(self, request, self.flow, now)

    def _receive_provisional(self, response: Response, now: float) -> None:
        if self.state is not CallState.CALLING:
            return
        first, self._heard = not self._heard, True
        if self._cancelling:
            if first:
                self._cancel(now)
            return
        if response.status == 100:
            return
        try:
            early = session_description(response)
        except RemoteError:
            early = None
        self._early_answer = early or self._early_answer
        self.core.emit(CallProgress(self.id, response.status, early))

    def _receive_answer(self, response: Response, now: float) -> None:
        """A 2xx: the first makes the call; the same again gets its ACK again; another one's is ended at once."""
        transaction = self._transaction
        assert transaction is not None
        tag = response.recipient.tag or ""
        if tag in self._acks:
            self.core.send_outside(self._acks[tag], self.flow)
            return
        try:
            dialog = Dialog.from_response(transaction.request, response)
        except RemoteError:
            self._refused(502, "the answer has no Contact")
            return
        ack = self._acks[tag] = dialog.request("ACK", self._proofs(transaction.request), sequence=self._sequence)
        self.core.send_outside(ack, self.flow)
        if self.state is not CallState.CALLING or self._cancelling:
            self._end_unwanted(dialog, now)
            return
        self._confirm(dialog, response, now)

    def _confirm(self, dialog: Dialog, response: Response, now: float) -> None:
        self.core.timers.stop((self, "ring"))
        self.enter_dialog(dialog)
        self.state = CallState.CONFIRMED
        self._peer_allows = response.tokens("Allow")
        try:
            answer = session_description(response) or self._early_answer
        except RemoteError:
            answer = None
        if answer is None:
            self._send_bye(now, 'SIP;cause=488;text="Not Acceptable Here"')
            self.core.emit(CallRefused(self.id, 488, "the answer carries no session description"))
            return
        self.start_session_timer(accepted_session_timer(response), now)
        self.core.emit(CallAnswered(self.id, answer))

    def _end_unwanted(self, dialog: Dialog, now: float) -> None:
        """BYE to an answer that nobody waits for: it crossed our CANCEL, or another fork was faster."""
        self.core.send_on(self, dialog.request("BYE"), self.flow, now)
        if self._cancelling:
            self.finish(None)

    def _receive_refusal(self, transaction: Transaction, response: Response, now: float) -> None:
        if response.status in {401, 407} and not self._cancelling:
            proof = self.prove(transaction.request, response)
            if proof is not None:
                self._sequence += 1
                kept = tuple(item for item in self._proofs(transaction.request) if item[0] != proof[0])
                self._send_invite(now, (*kept, proof))
                return
        self._refused(response.status, response.reason)

    def _refused(self, status: int, reason: str = "") -> None:
        self.finish(None if self._cancelling else CallRefused(self.id, status, reason))

    def _cancel(self, now: float) -> None:
        assert self._transaction is not None
        if self._transaction.state is State.PROCEEDING:
            self.core.layer.cancel(self._transaction, now)
        # An INVITE whose CANCEL brings no final response is given up after 64 T1 (§9.1).
        self.core.timers.start((self, "cancel"), now + 64 * self.core.settings.timing.t1)

    @staticmethod
    def _proofs(request: Request) -> tuple[tuple[str, str], ...]:
        """The ACK carries the same credentials as its INVITE (§22.1)."""
        return tuple(item for item in request.headers if item[0] in {"Authorization", "Proxy-Authorization"})
