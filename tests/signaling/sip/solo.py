"""One user agent and a peer that the test plays message by message."""

from __future__ import annotations

from signaling.sip.events import Effect, Flow, FlowId, OpenFlow, SendMessage, Transport, UserAgentEvent
from signaling.sip.grammar import NameAddress
from signaling.sip.message import Items, Request, Response, parse, respond
from signaling.sip.user_agent import UserAgent
from tests.signaling.sip.pair import label, offer_of, user_agent

PEER = ("127.0.0.9", 4711)


class Solo:
    """The user agent under test, what it sent, and what it told."""

    def __init__(self, agent: UserAgent | None = None, transport: Transport = "tls") -> None:
        self.agent = agent or user_agent("solo")
        self.flow = Flow(FlowId("f"), transport, ("127.0.0.1", 5061), PEER)
        self.now = 0.0
        self.sent: list[Request | Response] = []
        self.events: list[UserAgentEvent] = []
        self.opened: list[OpenFlow] = []
        self.branches = 0

    def drain(self) -> None:
        for effect in self.agent.poll():
            self._take(effect)

    def _take(self, effect: Effect) -> None:
        if isinstance(effect, SendMessage):
            self.sent.append(parse(effect.data))
        elif isinstance(effect, OpenFlow):
            self.opened.append(effect)
        else:
            self.events.append(effect)  # type: ignore[arg-type]

    def give(self, message: Request | Response | bytes) -> list[Request | Response]:
        """Give the agent a message; gives back what it sent at once."""
        before = len(self.sent)
        self.agent.receive(message if isinstance(message, bytes) else bytes(message), self.flow, self.now)
        self.drain()
        return self.sent[before:]

    def wait(self, until: float) -> list[Request | Response]:
        """Let time pass; gives what was sent meanwhile."""
        before = len(self.sent)
        self.drain()
        while (at := self.agent.next_timer()) is not None and at <= until:
            self.now = max(self.now, at)
            self.agent.handle_timer(self.now)
            self.drain()
        self.now = until
        return self.sent[before:]

    def request(
        self,
        method: str = "INVITE",
        *headers: tuple[str, str],
        cseq: int = 1,
        to_tag: str = "",
        branch: str = "",
        body: bytes | None = None,
        call_id: str = "call-1",
        uri: str = "sip:100@relay.example",
    ) -> Request:
        """A request of the peer; an INVITE offers by default."""
        self.branches += 1
        branch = branch or f"z9hG4bKpeer{self.branches}"
        to = NameAddress.parse("<sip:100@relay.example>")
        if body is None:
            body = offer_of().encode() if method == "INVITE" and not to_tag else b""
        base: Items = (
            ("Via", f"SIP/2.0/TLS peer.example:5061;branch={branch};rport"), ("Max-Forwards", "70"),
            ("From", "<sip:+4930@peer.example>;tag=peer"), ("To", str(to.tagged(to_tag) if to_tag else to)),
            ("Call-ID", call_id), ("CSeq", f"{cseq} {method}"), ("Contact", "<sip:peer@127.0.0.9:5061;transport=tls>"),
        )  # fmt: skip
        given = {name for name, _ in headers}
        content: Items = (("Content-Type", "application/sdp"),) if body and "Content-Type" not in given else ()
        kept = tuple(item for item in base if item[0] not in given)
        return Request((*kept, *headers, *content), body, method, uri)

    def ack(self, invite: Request, response: Response, body: bytes = b"") -> Request:
        """The ACK of a response: with the INVITE's branch for a failure, with a fresh one for a 2xx."""
        branch = invite.via.branch if response.status >= 300 else ""
        return self.request(
            "ACK",
            cseq=invite.cseq.number,
            to_tag=response.recipient.tag or "",
            branch=branch,
            body=body,
            call_id=invite.call_id,
        )

    def last(self, kind: type) -> UserAgentEvent:
        return next(event for event in reversed(self.events) if isinstance(event, kind))


def labels(messages: list[Request | Response]) -> list[str]:
    return [label(message) for message in messages]


def reply(request: Request, status: int, *headers: tuple[str, str], body: bytes = b"", tag: str = "called") -> Response:
    """The peer's response to a request of the agent."""
    base: Items = (("Contact", "<sip:peer@127.0.0.9:5061;transport=tls>"),)
    if body:
        base = (*base, ("Content-Type", "application/sdp"))
    return respond(request, status, to_tag=tag if status > 100 else "", headers=(*base, *headers), body=body)
