"""The SIP user agent: takes messages and timers, knows trunks and calls, gives effects (RFC 3261 §8, sans-IO)."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from signaling.errors import Exhausted, LocalError, RemoteError
from signaling.sip.call import Call
from signaling.sip.core import ALLOW, SDP_TYPE, Core, capabilities, session_description, unsupported
from signaling.sip.digest import Challenger
from signaling.sip.events import (
    CallId,
    Effect,
    Flow,
    FlowId,
    IncomingCall,
    Invite,
    UserAgentSettings,
)
from signaling.sip.grammar import Uri
from signaling.sip.incoming import IncomingLeg
from signaling.sip.message import MalformedMessage, Request, Response, parse, respond
from signaling.sip.outgoing import OutgoingLeg
from signaling.sip.session_timer import answer_session_timer
from signaling.sip.transaction import Transaction
from signaling.sip.transaction_layer import stamp_via
from signaling.sip.trunks import Trunk, Trunks

KEPT_HEADERS = ("P-Asserted-Identity", "Diversion", "History-Info", "User-to-User", "Session-ID", "Privacy")
"""Headers of an INVITE that `IncomingCall` carries, beside all that begin with `X-`."""
_HEADERS_KEPT_MAX = 32
_IN_DIALOG_ONLY = {"BYE", "UPDATE", "PRACK"}

_Leg = TypeVar("_Leg", bound=Call)


class UserAgent:
    """One user agent. Every method that takes `now` may leave effects; `poll` takes them, `next_timer` says when next.

    `entropy(n)` gives n unguessable bytes (tags, keys, nonces); `rng` spreads retries.
    """

    def __init__(
        self,
        settings: UserAgentSettings,
        trunks: Trunks,
        *,
        entropy: Callable[[int], bytes],
        rng: random.Random,
    ) -> None:
        self._core = Core(settings, entropy, rng)
        self._trunks = trunks
        self._challenger = Challenger(
            settings.realm,
            entropy(32),
            entropy,
            algorithms=settings.digest_algorithms,
            nonce_seconds=settings.nonce_seconds,
            nonces_max=settings.nonces_max,
        )
        self._trusted: set[FlowId] = set()

    # What the shell tells and asks.

    def receive(self, data: bytes, flow: Flow, now: float) -> None:
        """Take one whole message: a datagram, or what `stream.Framer` cut out."""
        core = self._core
        if flow.reliable:
            core.flows[flow.flow_id] = flow
        try:
            message = parse(data, core.settings.message_limits)
        except MalformedMessage as error:
            self._receive_malformed(error, flow)
        else:
            if isinstance(message, Response):
                core.layer.receive_response(message, now)
            else:
                self._receive_request(stamp_via(message, flow), flow, now)
        core.run(now)

    def flow_opened(self, request_id: str, flow: Flow, now: float) -> None:
        """The connection that `OpenFlow` asked for is there."""
        self._core.flow_opened(request_id, flow, now)
        self._core.run(now)

    def flow_failed(self, request_id: str, now: float) -> None:
        """The connection that `OpenFlow` asked for cannot be had."""
        self._core.flow_failed(request_id, now)
        self._core.run(now)

    def flow_closed(self, flow_id: FlowId, now: float) -> None:
        """A connection is gone. Calls that are up stay up; what waits for an answer on it fails."""
        self._core.flows.pop(flow_id, None)
        self._trusted.discard(flow_id)
        self._core.layer.flow_failed(flow_id, now)
        self._core.run(now)

    def handle_timer(self, now: float) -> None:
        """Fire every timer that is due."""
        core = self._core
        core.layer.handle_timer(now)
        core.run(now)
        while (due := core.timers.pop_due(now)) is not None:
            call, timer = due
            call.handle_timer(timer, now)
            core.run(now)

    def next_timer(self) -> float | None:
        """When `handle_timer` is due next, None: not before something else happens."""
        deadlines = (self._core.layer.next_timer(), self._core.timers.next())
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def poll(self) -> list[Effect]:
        """Take all effects, in order."""
        return self._core.poll()

    @property
    def counters(self) -> Counter[str]:
        """What was dropped and refused, and why; only ever grows."""
        core = self._core
        return core.counters + Counter(
            stray_responses=core.layer.stray_responses, digest_replays=self._challenger.replays
        )

    def trusts(self, flow_id: FlowId) -> bool:
        """Whether a trunk has shown itself on this connection: others are closed when they are idle."""
        return flow_id in self._trusted

    @property
    def calls(self) -> int:
        """Calls that are there, in whatever state."""
        return len(self._core.calls)

    # What the program does with calls; unknown or ended calls are no error, for they may just have ended.

    def ring(self, call: CallId, now: float) -> None:
        """180 Ringing."""
        self._ring(call, 180, b"", now)

    def progress(self, call: CallId, sdp: bytes, now: float) -> None:
        """183 Session Progress with early media."""
        self._ring(call, 183, sdp, now)

    def answer(self, call: CallId, sdp: bytes, now: float) -> None:
        """200 OK with our answer, or with our offer if the INVITE had none; `CallConfirmed` follows."""
        leg = self._leg(call, IncomingLeg)
        if leg is not None:
            leg.answer(sdp, now)
        self._core.run(now)

    def reject(self, call: CallId, status: int, now: float, reason: str = "") -> None:
        """Refuse an incoming call with a final status from 300 on."""
        if not 300 <= status < 700:
            raise LocalError("a call is rejected with a status from 300 to 699")
        leg = self._leg(call, IncomingLeg)
        if leg is not None:
            leg.reject(status, now, reason)
        self._core.run(now)

    def hang_up(self, call: CallId, now: float, cause: str = "") -> None:
        """End a call in the way that its state demands: CANCEL, BYE or 603; `cause` is a Reason value (RFC 3326)."""
        leg = self._leg(call, Call)
        if leg is not None:
            leg.hang_up(now, cause)
        self._core.run(now)

    def accept_offer(self, call: CallId, sdp: bytes, now: float) -> None:
        """Answer what `SessionOffered` told."""
        leg = self._leg(call, Call)
        if leg is not None:
            leg.accept_offer(sdp, now)
        self._core.run(now)

    def refuse_offer(self, call: CallId, status: int, now: float, reason: str = "") -> None:
        """Refuse what `SessionOffered` told (488, 491): the session stays as it was."""
        leg = self._leg(call, Call)
        if leg is not None:
            leg.refuse_offer(status, now, reason)
        self._core.run(now)

    def invite(self, invite: Invite, now: float) -> CallId:
        """Make a call; raises LocalError for a malformed target, Exhausted for too many calls."""
        if self.calls >= self._core.settings.calls_max:
            raise Exhausted("too many SIP calls")
        leg = OutgoingLeg(self._core, invite, now)
        self._core.run(now)
        return leg.id

    def _leg(self, call: CallId, kind: type[_Leg]) -> _Leg | None:
        leg = self._core.calls.get(call)
        return leg if isinstance(leg, kind) else None

    def _ring(self, call: CallId, status: int, sdp: bytes, now: float) -> None:
        leg = self._leg(call, IncomingLeg)
        if leg is not None:
            leg.ring(status, sdp, now)
        self._core.run(now)

    # Requests.

    def _receive_malformed(self, error: MalformedMessage, flow: Flow) -> None:
        self._core.counters["malformed"] += 1
        if error.request is not None:
            request = stamp_via(error.request, flow)
            self._core.layer.send(respond(request, error.sip_status, to_tag=self._core.token()), flow)

    def _receive_request(self, request: Request, flow: Flow, now: float) -> None:
        core = self._core
        known = core.layer.find_server(request)
        if known is not None:
            core.layer.repeat(known, request, now)
            return
        if request.method == "ACK":
            self._receive_ack(request, flow, now)
            return
        if self._is_noise(request, flow):
            core.counters["strangers_dropped"] += 1
            return
        try:
            transaction = self._accept(request, flow, now)
        except Exhausted:
            core.counters["transactions_refused"] += 1
            retry_after = (("Retry-After", str(core.settings.retry_after_seconds)),)
            core.layer.send(respond(request, 503, to_tag=core.token(), headers=retry_after), flow)
            return
        try:
            self._dispatch(transaction, now)
        except RemoteError as error:
            core.counters[f"refused_{error.sip_status}"] += 1
            core.refuse(transaction, error, now)

    def _is_noise(self, request: Request, flow: Flow) -> bool:
        """Whether a datagram comes from where no trunk can be: a refusal, repeated, could be aimed at someone else."""
        if flow.transport != "udp" or request.recipient.tag is not None:
            return False
        return self._trunks.by_flow(flow) is None and not self._trunks.challenged(flow)

    def _accept(self, request: Request, flow: Flow, now: float) -> Transaction:
        """Begin a transaction; raises Exhausted. Strangers have a share of their own, which cannot crowd out trunks."""
        layer = self._core.layer
        trunk = self._trunks.by_flow(flow)
        if trunk is None and layer.load("") >= self._core.settings.stranger_transactions_max:
            raise Exhausted("too many SIP transactions of strangers")
        transaction = layer.accept(request, flow, now)
        if trunk is not None:
            layer.count(transaction, trunk.name)
        return transaction

    def _dispatch(self, transaction: Transaction, now: float) -> None:
        """Take a new request; raises RemoteError to be answered."""
        request = transaction.request
        if request.method not in ALLOW:
            raise RemoteError("the method is not known", sip_status=405)
        if request.method == "CANCEL":
            self._receive_cancel(transaction, now)
        elif request.recipient.tag is not None:
            if unsupported(request):
                raise RemoteError("an extension is required that we lack", sip_status=420)
            call = self._find(request, transaction.flow)
            self._core.layer.count(transaction, call.trunk or transaction.label)
            call.receive_request(request, transaction, transaction.flow, now)
        elif request.method in _IN_DIALOG_ONLY:
            raise RemoteError("there is no such call", sip_status=481)
        else:
            self._receive_outside(transaction, now)

    def _find(self, request: Request, flow: Flow) -> Call:
        """The call that a request is within; raises RemoteError."""
        key = request.call_id, request.recipient.tag or "", request.sender.tag or ""
        call = self._core.dialogs.get(key)
        if not isinstance(call, Call):
            raise RemoteError("there is no such call", sip_status=481)
        if call.flow.transport == "tls" and flow.transport != "tls":
            # Whoever knows the tags of a call in clear has not learnt them from the peer.
            raise RemoteError("the call is signalled over TLS", sip_status=403)
        return call

    def _receive_ack(self, request: Request, flow: Flow, now: float) -> None:
        try:
            self._find(request, flow).receive_ack(request, now)
        except RemoteError:
            self._core.counters["stray_acks"] += 1

    def _receive_cancel(self, transaction: Transaction, now: float) -> None:
        invite = self._core.layer.find_cancelled(transaction.request)
        if invite is None:
            raise RemoteError("there is no such transaction", sip_status=481)
        self._core.respond(transaction, 200, now)
        if isinstance(invite.user, Call):
            invite.user.receive_cancel(invite, now)

    def _receive_outside(self, transaction: Transaction, now: float) -> None:
        """A request outside every dialog: INVITE or OPTIONS (§8.2)."""
        request = transaction.request
        if Uri.parse(request.uri).scheme not in {"sip", "sips", "tel"}:
            raise RemoteError("the scheme of the Request-URI is not known", sip_status=416)
        if self._core.layer.is_merged(request):
            raise RemoteError("the same request came by another way", sip_status=482)
        trunk = self._authenticate(transaction, now)
        if trunk is None:
            return
        if transaction.flow.reliable:
            self._trusted.add(transaction.flow.flow_id)
        self._core.layer.count(transaction, trunk.name)
        if self._core.layer.load(trunk.name) > trunk.transactions_max:
            raise RemoteError("the trunk sends too much at a time", sip_status=503)
        if unsupported(request):
            raise RemoteError("an extension is required that we lack", sip_status=420)
        if request.method == "OPTIONS":
            self._core.respond(transaction, 200, now, headers=capabilities())
        else:
            self._receive_invite(transaction, trunk, now)

    def _receive_invite(self, transaction: Transaction, trunk: Trunk, now: float) -> None:
        core, request = self._core, transaction.request
        if request.number("Max-Forwards") == 0:
            # We pass calls on, so a loop may lead through us (RFC 7332 §4).
            raise RemoteError("the request passed too many hops", sip_status=483)
        accepted = {value.split(";")[0].strip() for value in request.tokens("Accept")}
        if accepted and not accepted & {SDP_TYPE, "application/*", "*/*"}:
            raise RemoteError("the caller takes no session description", sip_status=406)
        offer = session_description(request)
        answer_session_timer(request, core.settings.session_seconds_min)
        if len(core.calls) >= core.settings.calls_max or core.trunk_calls[trunk.name] >= trunk.calls_max:
            raise RemoteError("there are too many calls", sip_status=503)
        call = IncomingLeg(core, transaction, trunk.name, now)
        core.respond(transaction, 100, now)
        kept = [item for item in request.headers if item[0] in KEPT_HEADERS or item[0].upper().startswith("X-")]
        event = IncomingCall(
            call.id,
            trunk.name,
            transaction.flow.local,
            request.sender.uri.number,
            Uri.parse(request.uri).number,
            offer,
            tuple(kept[:_HEADERS_KEPT_MAX]),
        )
        core.emit(event)

    def _authenticate(self, transaction: Transaction, now: float) -> Trunk | None:
        """The trunk that a request comes from; None: it was challenged; raises RemoteError 403."""
        request = transaction.request
        trunk = self._trunks.by_flow(transaction.flow)
        if trunk is not None:
            return trunk
        if not self._trunks.challenged(transaction.flow):
            raise RemoteError("nobody is known at that address", sip_status=403)
        claim = self._challenger.claim(request.lines("Authorization"))
        found = self._trunks.by_username(claim.get("username")) if claim else None
        verdict = self._challenger.judge(
            claim, found[1] if found else None, request.method, request.uri, request.body, now
        )
        if verdict in {"none", "stale"}:
            products = self._core.settings.md5_only_products
            md5_only = (request.get("User-Agent") or "").startswith(products)
            challenges = self._challenger.challenges(now, stale=verdict == "stale", md5_only=md5_only)
            headers = tuple(("WWW-Authenticate", challenge) for challenge in challenges)
            self._core.respond(transaction, 401, now, headers=headers)
            return None
        if verdict == "failed" or found is None or not found[0].allows(transaction.flow):
            self._core.counters["proofs_failed"] += 1
            raise RemoteError("the proof is wrong", sip_status=403)
        return found[0]
