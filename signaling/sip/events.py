"""What goes into the SIP user agent and what comes out of it: flows, effects, events, settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NewType

from signaling.sip.digest import Credentials
from signaling.sip.message import Items, MessageLimits
from signaling.sip.sdp import SessionDescription

CallId = NewType("CallId", str)
"""One call as the rest of the program knows it: made by us, not the Call-ID of the wire."""
FlowId = NewType("FlowId", str)
"""One connection, or one UDP socket."""
Transport = Literal["tls", "tcp", "udp"]
Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Flow:
    """Where a message came from and where its answer goes (RFC 5626 §3)."""

    flow_id: FlowId
    transport: Transport
    local: Address
    remote: Address
    certificate_names: tuple[str, ...] = ()
    """DNS names and URIs that the peer's verified certificate carries; empty without one."""

    @property
    def reliable(self) -> bool:
        """Whether the transport repeats what is lost."""
        return self.transport != "udp"


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds (RFC 3261 §17, table 4)."""

    t1: float = 0.5
    t2: float = 4.0
    t4: float = 5.0
    d: float = 32.0


@dataclass(frozen=True, slots=True)
class UserAgentSettings:
    """Who we say we are, and every limit of the user agent."""

    realm: str = "koppel"
    product: str = "Koppel"
    """Value of Server and User-Agent."""
    advertised_host: str = ""
    """Host in Via and Contact where it is not the local address of the flow (address translation)."""
    contact_ports: tuple[tuple[Transport, int], ...] = ()
    """Ports that we listen on: for the Contact of connections that we made ourselves."""
    timing: Timing = field(default_factory=Timing)
    message_limits: MessageLimits = field(default_factory=MessageLimits)
    transactions_max: int = 20_000
    stranger_transactions_max: int = 2_000
    """Requests in work at a time of peers that no trunk knows by address or certificate; beyond it 503."""
    calls_max: int = 5_000
    ring_seconds_max: float = 180.0
    """An INVITE, theirs or ours, that is neither answered nor refused by then is ended (RFC 3261 §13.3.1.1)."""
    session_seconds_min: int = 90
    """Smallest session interval that we take (RFC 4028 §5); below it: 422."""
    retry_after_seconds: int = 10
    digest_algorithms: tuple[Literal["SHA-256", "MD5"], ...] = ("SHA-256", "MD5")
    md5_only_products: tuple[str, ...] = ("baresip v0.", "baresip v1.")
    """Beginnings of User-Agent that give up at a challenge with SHA-256, even beside one with MD5."""
    nonce_seconds: float = 60.0
    nonces_max: int = 10_000


@dataclass(frozen=True, slots=True)
class SendMessage:
    """Send one message on a flow; `remote` is where to on UDP, and for the curious elsewhere."""

    flow_id: FlowId
    data: bytes = field(repr=False)
    remote: Address


@dataclass(frozen=True, slots=True)
class OpenFlow:
    """Connect; answered by `flow_opened` or `flow_failed` with this id."""

    request_id: str
    transport: Transport
    host: str
    port: int
    server_name: str
    """Name for SNI and for the check of the server's certificate."""


@dataclass(frozen=True, slots=True)
class CloseFlow:
    """Close a connection: nobody uses it any more, or its peer misbehaved."""

    flow_id: FlowId


@dataclass(frozen=True, slots=True)
class IncomingCall:
    """A trunk calls; answered with ring, progress, answer, reject or hang_up."""

    call: CallId
    trunk: str
    local: Address
    """Our end of the flow that it came on (`Flow.local`): media is offered on the same address."""
    caller: str = field(repr=False)
    """Number or name in From."""
    called: str = field(repr=False)
    """Number or name in the Request-URI."""
    offer: SessionDescription | None = field(repr=False)
    """None: answer with an offer of ours; the peer's answer comes with `CallConfirmed`."""
    headers: Items = field(default=(), repr=False)
    """Headers for flows and records, such as P-Asserted-Identity."""


@dataclass(frozen=True, slots=True)
class CallCancelled:
    """The caller gave up before the answer: the call is gone."""

    call: CallId


@dataclass(frozen=True, slots=True)
class CallConfirmed:
    """The ACK of our answer came: the call is up."""

    call: CallId
    answer: SessionDescription | None = field(default=None, repr=False)
    """The peer's answer, where the offer was ours."""


@dataclass(frozen=True, slots=True)
class CallProgress:
    """A call of ours rings or has early media."""

    call: CallId
    status: int
    answer: SessionDescription | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class CallAnswered:
    """A call of ours was answered; the ACK is on its way."""

    call: CallId
    answer: SessionDescription = field(repr=False)


@dataclass(frozen=True, slots=True)
class CallRefused:
    """A call of ours was not answered: the call is gone. 408: nobody answered, 503: no connection."""

    call: CallId
    status: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class CallEnded:
    """A call is gone without our doing."""

    call: CallId
    by: Literal["peer", "timeout", "transport"]
    cause: str = ""
    """The Reason header, if one came (RFC 3326)."""


@dataclass(frozen=True, slots=True)
class SessionOffered:
    """Within a call the peer offers anew (re-INVITE or UPDATE); answered with accept_offer or refuse_offer.

    Offer None: give `accept_offer` an offer of ours that keeps our keys (`negotiation.reoffer`); the peer's answer
    comes with `SessionAnswered`.
    """

    call: CallId
    offer: SessionDescription | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class SessionAnswered:
    """The peer's answer to the offer that we gave to its re-INVITE without one."""

    call: CallId
    answer: SessionDescription = field(repr=False)


UserAgentEvent = (
    IncomingCall
    | CallCancelled
    | CallConfirmed
    | CallProgress
    | CallAnswered
    | CallRefused
    | CallEnded
    | SessionOffered
    | SessionAnswered
)
Effect = SendMessage | OpenFlow | CloseFlow | UserAgentEvent


@dataclass(frozen=True, slots=True)
class Invite:
    """A call to make, over a flow that is there or to `transport`, `host` and `port`."""

    target: str = field(repr=False)
    """Request-URI."""
    caller: str = field(repr=False)
    """URI for From."""
    offer: bytes = field(repr=False)
    flow: Flow | None = None
    transport: Transport = "tls"
    host: str = ""
    port: int = 5061
    credentials: Credentials | None = None
    headers: Items = field(default=(), repr=False)
