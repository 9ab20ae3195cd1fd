"""A call to us, from its INVITE to its ACK (RFC 3261 §13.3), with reliable ringing where it is asked for (RFC 3262)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from signaling.errors import RemoteError
from signaling.sip.call import Call, CallState
from signaling.sip.core import SDP_TYPE, CallTimer, Core
from signaling.sip.dialog import Dialog
from signaling.sip.events import CallCancelled, CallEnded
from signaling.sip.message import Items, Request, Response
from signaling.sip.transaction import Transaction


@dataclass(slots=True)
class _Provisional:
    """A reliable provisional response that is repeated until its PRACK comes (RFC 3262 §3)."""

    response: Response
    sequence: int
    interval: float
    gives_up_at: float


class IncomingLeg(Call):
    """A call to us."""

    def __init__(self, core: Core, invite: Transaction, trunk: str, now: float) -> None:
        """Raises RemoteError if the INVITE cannot make a dialog."""
        dialog = Dialog.from_request(invite.request, core.token())
        super().__init__(core, invite.flow)
        self.trunk = trunk
        core.trunk_calls[trunk] += 1
        self._invite = invite
        self._provisional: _Provisional | None = None
        self._provisional_sequence = core.rng.randrange(1, 2**31)
        self._queued: list[tuple[int, bytes]] = []
        """Provisional responses that wait for the PRACK of the one before."""
        self._answer: bytes | None = None
        """The answer, while it waits for a PRACK."""
        invite.user = self
        self.enter_dialog(dialog)
        core.timers.start((self, "ring"), now + core.settings.ring_seconds_max)

    @property
    def _tag(self) -> str:
        return self.dialog.local_tag if self.dialog is not None else ""

    def ring(self, status: int, sdp: bytes, now: float) -> None:
        """180, or 183 with early media."""
        if self.state is not CallState.PROCEEDING:
            return
        if "100rel" not in self._invite.request.tokens("Require"):
            self._respond(status, now, self._headers(sdp), sdp)
        elif self._provisional is not None:
            self._queued.append((status, sdp))
        else:
            self._ring_reliably(status, sdp, now)

    def answer(self, sdp: bytes, now: float) -> None:
        """200."""
        if self.state is not CallState.PROCEEDING:
            return
        if self._provisional is not None and self._provisional.response.body:
            # An early session description must be known to have come before the 2xx (RFC 3262 §5).
            self._answer = sdp
            return
        self._local_sdp = sdp
        headers = (*self._answer_headers(self._invite.request, now), *self._record_routes(), ("Content-Type", SDP_TYPE))
        self._stop_ringing()
        self.state = CallState.ANSWERED
        response = self._respond(200, now, headers, sdp)
        if self.dialog is not None:
            self.dialog.confirmed = True
        self.repeat_until_acknowledged(response, self._invite.flow, now, offered=not self._invite.request.body)

    def reject(self, status: int, now: float, reason: str = "") -> None:
        """A final response that is not 200."""
        if self.state is CallState.PROCEEDING:
            self._respond(status, now, reason=reason)
            self.finish(None)

    def hang_up(self, now: float, cause: str = "") -> None:
        """Decline before the answer, BYE after it."""
        if self.state is CallState.PROCEEDING:
            self.reject(603, now)
        else:
            super().hang_up(now, cause)

    def receive_cancel(self, transaction: Transaction, now: float) -> None:
        """The caller gives up; too late once we answered (§9.2)."""
        if self.state is CallState.PROCEEDING:
            self._respond(487, now)
            self.finish(CallCancelled(self.id))
        else:
            super().receive_cancel(transaction, now)

    def receive_bye(self, request: Request, now: float) -> None:
        """The caller hangs up, perhaps before our answer (§15)."""
        if self.state is CallState.PROCEEDING:
            self._respond(487, now)
            self.finish(CallCancelled(self.id))
        else:
            super().receive_bye(request, now)

    def receive_prack(self, request: Request, transaction: Transaction, now: float) -> None:
        """The caller has our provisional response (RFC 3262 §3)."""
        waits = self._provisional
        expected = [str(waits.sequence), *str(self._invite.request.cseq).split()] if waits else []
        if waits is None or (request.get("RAck") or "").split() != expected:
            raise RemoteError("no reliable provisional response waits for this", sip_status=481)
        if request.body:
            raise RemoteError("an offer in PRACK is not taken", sip_status=488)
        assert self.dialog is not None
        self.dialog.take(request)
        self.core.respond(transaction, 200, now)
        self._provisional = None
        self.core.timers.stop((self, "provisional"))
        if self._answer is not None:
            self.answer(self._answer, now)
        elif self._queued:
            self._ring_reliably(*self._queued.pop(0), now)

    def transaction_failed(self, transaction: Transaction, why: Literal["timeout", "error"], now: float) -> None:
        """The caller is out of reach before the answer."""
        if transaction is self._invite and self.state is CallState.PROCEEDING:
            self.finish(CallEnded(self.id, "timeout" if why == "timeout" else "transport"))
        else:
            super().transaction_failed(transaction, why, now)

    def handle_timer(self, timer: CallTimer, now: float) -> None:
        """A timer of the call fired."""
        if timer == "ring":
            self._respond(480, now)
            self.finish(CallEnded(self.id, "timeout", "rang too long"))
        elif timer == "provisional":
            self._repeat_provisional(now)
        else:
            super().handle_timer(timer, now)

    def _ring_reliably(self, status: int, sdp: bytes, now: float) -> None:
        timing = self.core.settings.timing
        sequence = self._provisional_sequence
        self._provisional_sequence += 1
        headers = (*self._headers(sdp), ("Require", "100rel"), ("RSeq", str(sequence)))
        response = self._respond(status, now, headers, sdp)
        self._provisional = _Provisional(response, sequence, timing.t1, now + 64 * timing.t1)
        self.core.timers.start((self, "provisional"), now + timing.t1)

    def _repeat_provisional(self, now: float) -> None:
        waits = self._provisional
        if waits is None:
            return
        if now >= waits.gives_up_at:
            self._respond(504, now)
            self.finish(CallEnded(self.id, "timeout", "no PRACK"))
            return
        self.core.layer.send(waits.response, self._invite.flow)
        waits.interval *= 2
        self.core.timers.start((self, "provisional"), min(now + waits.interval, waits.gives_up_at))

    def _stop_ringing(self) -> None:
        # What was last sent reliably stays known: its PRACK may still come (RFC 3262 §3).
        self._queued.clear()
        self.core.timers.stop((self, "ring"))
        self.core.timers.stop((self, "provisional"))

    def _headers(self, sdp: bytes) -> Items:
        content: Items = (("Content-Type", SDP_TYPE),) if sdp else ()
        return (("Contact", self.core.contact(self.flow)), *self._record_routes(), *content)

    def _record_routes(self) -> Items:
        return tuple(item for item in self._invite.request.headers if item[0] == "Record-Route")

    def _respond(self, status: int, now: float, headers: Items = (), body: bytes = b"", reason: str = "") -> Response:
        return self.core.respond(self._invite, status, now, to_tag=self._tag, headers=headers, body=body, reason=reason)
