"""Finds the transaction that a message belongs to, runs all machines, and bounds their number (RFC 3261 §17)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from signaling.addresses import written_host
from signaling.errors import Exhausted
from signaling.sip.events import Flow, FlowId, SendMessage, Timing
from signaling.sip.grammar import Via
from signaling.sip.message import Request, Response
from signaling.sip.timers import Timers
from signaling.sip.transaction import Action, Input, Kind, State, Transaction, TransactionUser

MAGIC_COOKIE = "z9hG4bK"
ServerKey = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Received:
    """A client transaction got a response that its user must see."""

    transaction: Transaction
    response: Response


@dataclass(frozen=True, slots=True)
class Failed:
    """A transaction died: nobody answered or acknowledged, or nothing could be sent."""

    transaction: Transaction
    why: Literal["timeout", "error"]


Output = SendMessage | Received | Failed


class TransactionLayer:
    """All transactions of the user agent. What it wants done is drained with `poll`."""

    def __init__(
        self, timing: Timing, transactions_max: int, entropy: Callable[[int], bytes], advertised_host: str = ""
    ) -> None:
        self._timing = timing
        self._max = transactions_max
        self._entropy = entropy
        self._advertised_host = advertised_host
        self._servers: dict[ServerKey, Transaction] = {}
        self._clients: dict[tuple[str, str], Transaction] = {}
        self._merged: dict[tuple[str, str, str], ServerKey] = {}
        self._timers: Timers[Transaction] = Timers()
        self._output: list[Output] = []
        self._load: Counter[str] = Counter()
        self.stray_responses = 0
        """Responses that belong to no transaction, dropped."""

    def __len__(self) -> int:
        return len(self._servers) + len(self._clients)

    def poll(self) -> list[Output]:
        """What is to be done, in order."""
        output, self._output = self._output, []
        return output

    def find_server(self, request: Request) -> Transaction | None:
        """The transaction that a repeated request, or the ACK of a failure, belongs to (§17.2.3)."""
        return self._servers.get(server_key(request, "INVITE" if request.method == "ACK" else request.method))

    def find_cancelled(self, cancel: Request) -> Transaction | None:
        """The INVITE transaction that a CANCEL means (§9.2)."""
        return self._servers.get(server_key(cancel, "INVITE"))

    def load(self, label: str) -> int:
        """Server transactions that are counted for a label."""
        return self._load[label]

    def count(self, transaction: Transaction, label: str) -> None:
        """Count a server transaction for a label until it ends."""
        self._load[transaction.label] -= 1
        transaction.label = label
        self._load[label] += 1

    def is_merged(self, request: Request) -> bool:
        """Whether the same request came by another way already (§8.2.2.2)."""
        known = self._merged.get(_merge_key(request))
        return known is not None and known != server_key(request, request.method)

    def accept(self, request: Request, flow: Flow, now: float) -> Transaction:
        """Begin a server transaction; raises Exhausted."""
        if len(self) >= self._max:
            raise Exhausted("too many SIP transactions")
        kind: Kind = "invite server" if request.method == "INVITE" else "server"
        transaction = Transaction(kind, request, flow, self._timing)
        key = server_key(request, request.method)
        self._servers[key] = transaction
        self._load[""] += 1
        if request.recipient.tag is None:
            self._merged.setdefault(_merge_key(request), key)
        self._handle(transaction, "start", now)
        return transaction

    def repeat(self, transaction: Transaction, request: Request, now: float) -> None:
        """Take a request that belongs to a server transaction: the same again, or the ACK of a failure."""
        self._handle(transaction, "ack" if request.method == "ACK" else "request", now)

    def respond(self, transaction: Transaction, response: Response, now: float) -> None:
        """Send a response in a server transaction."""
        if transaction.state in {State.PROCEEDING, State.TRYING, State.ACCEPTED}:
            transaction.response = response
            self._handle(transaction, _class_of(response), now)

    def begin(self, request: Request, flow: Flow, user: TransactionUser, now: float) -> Transaction:
        """Begin a client transaction: the request gets a Via of its own; raises Exhausted."""
        if len(self) >= self._max:
            raise Exhausted("too many SIP transactions")
        request = self.with_via(request, flow)
        kind: Kind = "invite client" if request.method == "INVITE" else "client"
        transaction = Transaction(kind, request, flow, self._timing)
        transaction.user = user
        self._clients[request.via.branch, request.method] = transaction
        self._handle(transaction, "start", now)
        return transaction

    def cancel(self, transaction: Transaction, now: float) -> None:
        """Cancel an INVITE of ours: the CANCEL has its headers and shares its branch (§9.1)."""
        invite = transaction.request
        kept = {"Via", "Route", "Max-Forwards", "From", "To", "Call-ID"}
        headers = [(name, value) for name, value in invite.headers if name in kept]
        request = Request((*headers, ("CSeq", f"{invite.cseq.number} CANCEL")), b"", "CANCEL", invite.uri)
        cancel = Transaction("client", request, transaction.flow, self._timing)
        cancel.user = transaction.user
        self._clients[request.via.branch, "CANCEL"] = cancel
        self._handle(cancel, "start", now)

    def receive_response(self, response: Response, now: float) -> None:
        """Take a response from the network."""
        transaction = self._clients.get((response.via.branch, response.cseq.method))
        if transaction is None:
            self.stray_responses += 1
            return
        transaction.response = response
        self._handle(transaction, _class_of(response), now)

    def send(self, message: Request | Response, flow: Flow) -> None:
        """Send outside every transaction: the ACK of a 2xx, and repeated 2xx."""
        self._output.append(SendMessage(flow.flow_id, bytes(message), response_address(message, flow)))

    def with_via(self, request: Request, flow: Flow) -> Request:
        """Put a Via of ours on top, its branch fresh; `rport` asks for the answer on the same flow (RFC 3581)."""
        host = written_host(self._advertised_host or flow.local[0])
        branch = MAGIC_COOKIE + self._entropy(12).hex()
        via = Via(flow.transport.upper(), host, flow.local[1], (("branch", branch), ("rport", None)))
        return replace(request, headers=(("Via", str(via)), *request.headers))

    def flow_failed(self, flow_id: FlowId, now: float) -> None:
        """A connection is gone: nothing can be sent on it."""
        for transaction in [*self._servers.values(), *self._clients.values()]:
            if transaction.flow.flow_id == flow_id:
                self._handle(transaction, "error", now)

    def next_timer(self) -> float | None:
        """When `handle_timer` is due."""
        return self._timers.next()

    def handle_timer(self, now: float) -> None:
        """Fire what is due."""
        while (transaction := self._timers.pop_due(now)) is not None:
            for action in transaction.handle_timers(now):
                self._act(transaction, action)
            self._settle(transaction)

    def _handle(self, transaction: Transaction, what: Input, now: float) -> None:
        for action in transaction.handle(what, now):
            self._act(transaction, action)
        self._settle(transaction)

    def _act(self, transaction: Transaction, action: Action) -> None:
        response = transaction.response
        if action == "send":
            self._send_again(transaction)
        elif action == "ack" and response is not None:
            self.send(acknowledge_failure(transaction.request, response), transaction.flow)
        elif action == "pass" and response is not None:
            self._output.append(Received(transaction, response))
        elif action in {"timeout", "error"}:
            self._output.append(Failed(transaction, "timeout" if action == "timeout" else "error"))

    def _send_again(self, transaction: Transaction) -> None:
        message = transaction.request if "client" in transaction.kind else transaction.response
        if message is not None:
            self.send(message, transaction.flow)

    def _settle(self, transaction: Transaction) -> None:
        """Arm or stop the transaction's timer; forget it if it is over."""
        if transaction.state is State.TERMINATED:
            self._forget(transaction)
        deadline = transaction.next_timer()
        if deadline is None:
            self._timers.stop(transaction)
        else:
            self._timers.start(transaction, deadline)

    def _forget(self, transaction: Transaction) -> None:
        if "client" in transaction.kind:
            self._clients.pop((transaction.request.via.branch, transaction.request.method), None)
            return
        key = server_key(transaction.request, transaction.request.method)
        if self._servers.pop(key, None) is None:
            return
        self._load[transaction.label] -= 1
        if self._load[transaction.label] <= 0:
            del self._load[transaction.label]
        if self._merged.get(_merge_key(transaction.request)) == key:
            del self._merged[_merge_key(transaction.request)]


def server_key(request: Request, method: str) -> ServerKey:
    """What requests of one transaction share (§17.2.3); `method` INVITE finds that of an ACK or CANCEL.

    The real source counts too (`stamp_via` has noted it), so that a copied branch gives nobody another peer's answers.
    """
    via = request.via
    if via.branch.startswith(MAGIC_COOKIE) and via.branch != MAGIC_COOKIE:
        return via.branch, via.host.lower(), str(via.port or ""), via.parameter("received") or "", method
    # RFC 2543: no branch to rely on. The To tag is left out, so that the ACK of a failure is found.
    cseq = str(request.cseq.number)
    return "2543", request.sender.tag or "", request.call_id, cseq, str(via), method


def _merge_key(request: Request) -> tuple[str, str, str]:
    return request.sender.tag or "", request.call_id, str(request.cseq)


def _class_of(response: Response) -> Input:
    return "1xx" if response.status < 200 else "2xx" if response.status < 300 else "failure"


def acknowledge_failure(request: Request, response: Response) -> Request:
    """The ACK of a final response from 300 on: a hop's business, within the transaction (§17.1.1.3)."""
    kept = {"Via", "From", "Call-ID", "Route", "Max-Forwards"}
    headers = [(name, value) for name, value in request.headers if name in kept]
    to = response.get("To") or request.get("To") or ""
    return Request((*headers, ("To", to), ("CSeq", f"{request.cseq.number} ACK")), b"", "ACK", request.uri)


def stamp_via(request: Request, flow: Flow) -> Request:
    """Note in the top Via where the request really came from (§18.2.1, RFC 3581 §4)."""
    via = request.via
    values: dict[str, str] = {}
    if via.host.strip("[]").lower() != flow.remote[0] or via.parameter("rport") is not None:
        values["received"] = flow.remote[0]
    if via.parameter("rport") is not None:
        values["rport"] = str(flow.remote[1])
    if not values:
        return request
    return replace(request, headers=_replace_top_via(request, via.with_parameters(**values)))


def _replace_top_via(request: Request, via: Via) -> tuple[tuple[str, str], ...]:
    vias = [("Via", value) for value in request.values("Via")]
    vias[0] = ("Via", str(via))
    return (*vias, *((name, value) for name, value in request.headers if name != "Via"))


def response_address(message: Request | Response, flow: Flow) -> tuple[str, int]:
    """Where a datagram goes: a response to the Via's port unless rport was asked for (§18.2.2), else to the peer."""
    if flow.transport != "udp" or isinstance(message, Request):
        return flow.remote
    via = message.via
    if via.parameter("rport") is not None:
        return flow.remote
    return flow.remote[0], via.port or 5060
