"""What a softphone asks for and is told: typed requests, notifications and refusals, before they become JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import IntEnum
from typing import Literal

from signaling.errors import SignalingError

PROTOCOL_VERSION = 1


class ErrorCode(IntEnum):
    """JSON-RPC 2.0 §5.1: the first five are the specification's, the others lie in its range for servers."""

    PARSE_ERROR = -32700
    INVALID_REQUEST = -32600
    METHOD_NOT_FOUND = -32601
    INVALID_PARAMS = -32602
    INTERNAL_ERROR = -32603
    NOT_LOGGED_IN = -32001
    """The first request must log in; or the token is not known."""
    FORBIDDEN = -32002
    """This user may not do that."""
    CONFLICT = -32003
    """Not in the present state of the agent, the contact or the media."""
    TOO_MANY = -32004
    """A limit was hit; `data.retry_after_s` says when to try again, where that is known."""
    UNAVAILABLE = -32005
    """The relay cannot do it now (draining, starting); try again."""
    NOT_FOUND = -32006
    """No such contact of this agent."""


class RequestError(SignalingError):
    """A request is refused: what the client is told."""

    def __init__(self, code: ErrorCode, what: str, *, retry_after: float | None = None) -> None:
        super().__init__(what)
        self.code = code
        self.retry_after = retry_after


# ---- requests


@dataclass(frozen=True, slots=True)
class LogIn:
    """`session.log_in`: the first request of a connection."""

    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Ping:
    """`session.ping`: is the way up and down alive."""


@dataclass(frozen=True, slots=True)
class ConnectMedia:
    """`media.connect`: a WebRTC offer; answered with `{"sdp": …}`. Replaces the media that there was."""

    sdp: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class DisconnectMedia:
    """`media.disconnect`: end the media connection."""


SettableState = Literal["available", "break", "offline"]


@dataclass(frozen=True, slots=True)
class SetState:
    """`agent.set_state`: what the agent wants to be; during a contact it takes effect after it."""

    state: SettableState


ContactAction = Literal["accept", "reject", "hang_up", "hold", "resume", "mute", "unmute", "complete"]


@dataclass(frozen=True, slots=True)
class ContactRequest:
    """`contact.accept` and its sisters: call control of the agent's own contact."""

    action: ContactAction
    contact_id: str


Request = LogIn | Ping | ConnectMedia | DisconnectMedia | SetState | ContactRequest


# ---- notifications

AgentState = Literal["available", "break", "offline", "ringing", "on_contact", "after_contact_work"]
MediaState = Literal["closed", "connecting", "connected", "failed"]
ContactState = Literal["ringing", "connecting", "connected", "after_contact_work"]


@dataclass(frozen=True, slots=True)
class AgentStateChanged:
    """`agent.state`: what the agent is now, and what it will be after the contact."""

    state: AgentState
    next_state: SettableState | None = None


@dataclass(frozen=True, slots=True)
class ContactRinging:
    """`contact.ringing`: a contact is offered to this agent."""

    contact_id: str
    number: str = field(repr=False)
    queue: str


@dataclass(frozen=True, slots=True)
class ContactChanged:
    """`contact.connected`, `.held`, `.resumed`, `.muted`, `.unmuted`, `.closed`: what became of the contact."""

    what: Literal["connected", "held", "resumed", "muted", "unmuted", "closed"]
    contact_id: str


@dataclass(frozen=True, slots=True)
class ContactEnded:
    """`contact.ended`: audio is over; after-contact work begins if the agent had joined, else `contact.closed`."""

    contact_id: str
    reason: str
    """One of `hung_up_by_agent`, `hung_up_by_customer`, `missed`, `rejected`, `failed`, `ended`; more may come."""


@dataclass(frozen=True, slots=True)
class MediaStateChanged:
    """`media.state`: the media connection, as the relay sees it."""

    state: MediaState
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Levels:
    """`media.levels`, five a second: loudness in dBov; -127 is digital silence."""

    microphone: float
    ear: float


@dataclass(frozen=True, slots=True)
class Quality:
    """`media.quality`, once a second; what is not known yet is null."""

    loss_ratio: float | None
    jitter_ms: float | None
    round_trip_ms: float | None


@dataclass(frozen=True, slots=True)
class SessionReplaced:
    """`session.replaced`: the same user logged in elsewhere; this connection closes."""


@dataclass(frozen=True, slots=True)
class Problem:
    """`error`: something went wrong that no request asked for; for the agent's eyes."""

    message: str


Notification = (
    AgentStateChanged
    | ContactRinging
    | ContactChanged
    | ContactEnded
    | MediaStateChanged
    | Levels
    | Quality
    | SessionReplaced
    | Problem
)


# ---- the answer to log-in


@dataclass(frozen=True, slots=True)
class IceServer:
    """A STUN or TURN server for the browser, as RTCConfiguration names it."""

    urls: tuple[str, ...]
    username: str | None = None
    credential: str | None = field(default=None, repr=False)

    def as_configuration(self) -> dict[str, object]:
        """An RTCIceServer dictionary; absent where we have nothing to say, as the browser wants it."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class ContactSnapshot:
    """The contact that the agent has, for a page that comes back."""

    contact_id: str
    state: ContactState
    number: str = field(repr=False)
    queue: str
    on_hold: bool = False
    muted: bool = False
    connected_s: float = 0.0
    """Seconds since the agent joined."""


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """Who logged in, and how everything stands."""

    user: str
    role: str
    state: AgentState
    media: MediaState = "closed"
    ice_servers: tuple[IceServer, ...] = ()
    contact: ContactSnapshot | None = None

    def as_result(self) -> dict[str, object]:
        """The result object of `session.log_in`; `iceServers` goes into RTCPeerConnection as it is."""
        return {
            "protocol": PROTOCOL_VERSION,
            "user": self.user,
            "role": self.role,
            "state": self.state,
            "media": self.media,
            "iceServers": [server.as_configuration() for server in self.ice_servers],
            "contact": None if self.contact is None else asdict(self.contact),
        }
