"""What all calls of a user agent share: transactions, timers, flows, and the effects that wait to be polled."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Literal, Protocol

from signaling.addresses import written_host
from signaling.errors import Exhausted, RemoteError
from signaling.sip.digest import Credentials, authorize, strongest
from signaling.sip.events import CallId, Effect, Flow, FlowId, OpenFlow, SendMessage, Transport, UserAgentSettings
from signaling.sip.grammar import NameAddress, Uri
from signaling.sip.message import Items, Request, Response, respond
from signaling.sip.sdp import SessionDescription
from signaling.sip.timers import Timers
from signaling.sip.transaction import Transaction, TransactionUser
from signaling.sip.transaction_layer import Received, TransactionLayer

ALLOW = ("INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "UPDATE", "PRACK")
SUPPORTED = ("100rel", "timer")
SDP_TYPE = "application/sdp"
_PORTS: dict[Transport, int] = {"tls": 5061, "tcp": 5060, "udp": 5060}

CallTimer = Literal["ring", "answer", "provisional", "cancel", "session", "refresh"]
DialogKey = tuple[str, str, str]


class TimedCall(TransactionUser, Protocol):
    """A call as the core knows it."""

    id: CallId

    def handle_timer(self, timer: CallTimer, now: float) -> None:
        """A timer of the call fired."""

    def flow_opened(self, request: Request, flow: Flow, now: float) -> None:
        """The connection for a request of the call is there."""

    def flow_failed(self, request: Request, now: float) -> None:
        """The connection for a request of the call could not be made."""


class Core:
    """Shared by the user agent and its calls; makes no decision about a call."""

    def __init__(self, settings: UserAgentSettings, entropy: Callable[[int], bytes], rng: random.Random) -> None:
        self.settings = settings
        self.entropy = entropy
        self.rng = rng
        self.layer = TransactionLayer(settings.timing, settings.transactions_max, entropy, settings.advertised_host)
        self.timers: Timers[tuple[TimedCall, CallTimer]] = Timers()
        self.dialogs: dict[DialogKey, TimedCall] = {}
        self.calls: dict[CallId, TimedCall] = {}
        self.flows: dict[FlowId, Flow] = {}
        self.trunk_calls: Counter[str] = Counter()
        self.counters: Counter[str] = Counter()
        self._effects: list[Effect] = []
        self._opening: dict[str, tuple[TimedCall, Request]] = {}

    def emit(self, effect: Effect) -> None:
        """Hand an effect to whoever polls."""
        self._effects.append(effect)

    def poll(self) -> list[Effect]:
        """Take all effects."""
        effects, self._effects = self._effects, []
        return effects

    def run(self, now: float) -> None:
        """Carry out what the transactions ask for, until they ask for nothing more."""
        while output := self.layer.poll():
            for item in output:
                if isinstance(item, SendMessage):
                    self.emit(item)
                    continue
                user = item.transaction.user
                if user is None:
                    continue
                if isinstance(item, Received):
                    user.receive_response(item.transaction, item.response, now)
                else:
                    user.transaction_failed(item.transaction, item.why, now)

    def token(self, size: int = 8) -> str:
        """A fresh tag, id or nonce that nobody can guess."""
        return self.entropy(size).hex()

    def contact(self, flow: Flow) -> str:
        """Our Contact for dialogs of this flow."""
        host = written_host(self.settings.advertised_host or flow.local[0])
        port = dict(self.settings.contact_ports).get(flow.transport, flow.local[1])
        return str(NameAddress(Uri("sip", host, "koppel", port, (("transport", flow.transport),))))

    def respond(
        self,
        transaction: Transaction,
        status: int,
        now: float,
        *,
        to_tag: str = "",
        headers: Items = (),
        body: bytes = b"",
        reason: str = "",
    ) -> Response:
        """Answer a request in its transaction."""
        to_tag = to_tag or ("" if status == 100 else self.token())
        headers = (*headers, ("Server", self.settings.product))
        response = respond(transaction.request, status, to_tag=to_tag, headers=headers, body=body, reason=reason)
        self.layer.respond(transaction, response, now)
        return response

    def refuse(self, transaction: Transaction, error: RemoteError, now: float) -> None:
        """Answer a request with the status that an error names, and the headers that go with it."""
        headers: Items = ()
        status = error.sip_status
        if status == 405:
            headers = (("Allow", ", ".join(ALLOW)),)
        elif status in {406, 415}:
            headers = (("Accept", SDP_TYPE),)
        elif status == 420:
            headers = (("Unsupported", ", ".join(sorted(unsupported(transaction.request)))),)
        elif status == 422:
            headers = (("Min-SE", str(self.settings.session_seconds_min)),)
        elif status == 500:
            headers = (("Retry-After", str(self.rng.randint(0, 10))),)
        elif status == 503:
            headers = (("Retry-After", str(self.settings.retry_after_seconds)),)
        self.respond(transaction, status, now, headers=headers)

    def usable(self, flow: Flow | None) -> bool:
        """Whether something can be sent on a flow."""
        return flow is not None and (flow.transport == "udp" or flow.flow_id in self.flows)

    def open_flow(self, call: TimedCall, request: Request, transport: Transport, host: str, port: int | None) -> None:
        """Ask for a connection that a request of a call is to be sent on."""
        request_id = self.token()
        self._opening[request_id] = call, request
        host = host.strip("[]")
        self.emit(OpenFlow(request_id, transport, host, port or _PORTS[transport], host))

    def flow_opened(self, request_id: str, flow: Flow, now: float) -> None:
        """A connection that `open_flow` asked for is there."""
        self.flows[flow.flow_id] = flow
        call, request = self._opening.pop(request_id, (None, None))
        if call is not None and request is not None:
            call.flow_opened(request, flow, now)

    def flow_failed(self, request_id: str, now: float) -> None:
        """A connection that `open_flow` asked for cannot be had."""
        call, request = self._opening.pop(request_id, (None, None))
        if call is not None and request is not None:
            call.flow_failed(request, now)

    def send_outside(self, ack: Request, flow: Flow) -> None:
        """Send the ACK of a 2xx: outside every transaction, with a Via of its own (§13.2.2.4)."""
        if self.usable(flow):
            self.layer.send(self.layer.with_via(ack, flow), flow)

    def prove(self, request: Request, response: Response, credentials: Credentials | None) -> tuple[str, str] | None:
        """The header that answers a challenge; None if we cannot, or if the answer was wrong already."""
        asked, answered = (
            ("WWW-Authenticate", "Authorization")
            if response.status == 401
            else ("Proxy-Authenticate", "Proxy-Authorization")
        )
        challenge = strongest(response.lines(asked))
        if credentials is None or challenge is None:
            return None
        if request.get(answered) is not None and challenge.get("stale").lower() != "true":
            return None
        try:
            value = authorize(challenge, credentials, request.method, request.uri, request.body, cnonce=self.token())
        except RemoteError:
            return None
        return answered, value

    def send_on(self, call: TimedCall, request: Request, flow: Flow, now: float) -> Transaction | None:
        """Begin a client transaction; None if there are too many."""
        try:
            return self.layer.begin(request, flow, call, now)
        except Exhausted:
            self.counters["transactions_refused"] += 1
            call.flow_failed(request, now)
            return None


def unsupported(request: Request) -> frozenset[str]:
    """Extensions that a request requires and we lack (RFC 3261 §8.2.2.3)."""
    return request.tokens("Require") - frozenset(SUPPORTED)


def capabilities() -> Items:
    """What we can, as answers to OPTIONS say (§11.2)."""
    return ("Allow", ", ".join(ALLOW)), ("Supported", ", ".join(SUPPORTED)), ("Accept", SDP_TYPE)


def session_description(message: Request | Response) -> SessionDescription | None:
    """The session description that a message carries, None without a body; raises RemoteError 415 for other bodies."""
    if not message.body:
        return None
    if message.content_type() != SDP_TYPE:
        raise RemoteError("the body is no session description", sip_status=415)
    return SessionDescription.parse(message.body)
