"""What a contact asks of the world: legs, offers to agents, crosspoints, gates, timers, its end.

`relay.calls.exchange` carries them out. A contact never learns how: it sees the outcome as an event. The media commands
of one event (`OpenRecording`, `SetParties`, `OpenTrack`, `SetGate`, `CloseTrack`, `CloseRecording`) come first, in that
order, and take effect in one tick.

Every `OfferToAgent` is followed by exactly one `WithdrawOffer` (the agent had not accepted) or `ReleaseAgent` (it had).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from signaling.contact.events import ContactEvent
from signaling.contact.participant import ParticipantState

EndCause = Literal["ended", "queue_full", "no_such_queue", "waited_too_long", "not_joined"]
"""Why the contact hangs up on a participant; before an answer it decides the final SIP response."""


@dataclass(frozen=True, slots=True)
class RingCustomer:
    """Tell the caller that it is ringing (SIP 180) without answering."""

    participant_id: str


@dataclass(frozen=True, slots=True)
class AnswerCustomer:
    """Answer the caller (SIP 200 with our SDP); confirmed by `ParticipantConnected`."""

    participant_id: str


@dataclass(frozen=True, slots=True)
class OfferToAgent:
    """Ring an agent's softphone; answered by `AgentAccepted`, `AgentDeclined` or `OfferExpired`."""

    participant_id: str
    agent: str


@dataclass(frozen=True, slots=True)
class WithdrawOffer:
    """The offer is over: stop ringing. After all but `caller_left` the agent has missed a contact."""

    participant_id: str
    agent: str
    reason: Literal["caller_left", "rejected", "missed", "unreachable"]


@dataclass(frozen=True, slots=True)
class RequestAgent:
    """Ask the queue for the next available agent; answered by `AgentReserved` in time, or by `RequestRefused`."""

    queue: str
    arrived_at: float
    """Keeps the contact's place in the queue when an agent did not take it."""


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """Leave the queue."""

    queue: str


@dataclass(frozen=True, slots=True)
class SetParties:
    """The participants' states changed: derive the crosspoint matrix from these (`mixer.crosspoints`)."""

    participants: tuple[ParticipantState, ...]
    """The connected ones only, in the order in which they came."""
    waiting_source: Literal["music", "ringback"] | None
    """What connected customers hear while no agent is there: `music`, `ringback` or None."""


@dataclass(frozen=True, slots=True)
class OpenRecording:
    """Begin the contact's recording timeline (only where the instance and the queue ask for it)."""


@dataclass(frozen=True, slots=True)
class OpenTrack:
    """Begin a participant's track, its gate as given."""

    participant_id: str
    role: Literal["agent", "other"]
    rule: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class SetGate:
    """Open (rule None) or close a participant's gate."""

    participant_id: str
    rule: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class CloseTrack:
    """End a participant's track."""

    participant_id: str


@dataclass(frozen=True, slots=True)
class CloseRecording:
    """End the recording timeline and deliver it."""


@dataclass(frozen=True, slots=True)
class EndLeg:
    """Hang up a participant's leg (SIP BYE or a final response; a softphone's leg leaves the conference).

    The contact counts the participant as gone from here on, and does not wait for its `ParticipantLeft`.
    """

    participant_id: str
    cause: EndCause


@dataclass(frozen=True, slots=True)
class StartTimer:
    """Give back `TimerFired(name)` after `seconds`; the same name again replaces it."""

    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class StopTimer:
    """Forget a timer."""

    name: str


@dataclass(frozen=True, slots=True)
class BeginWork:
    """The conversation is over: the agent is in after-contact work until `ReleaseAgent`."""

    participant_id: str
    agent: str


@dataclass(frozen=True, slots=True)
class ReleaseAgent:
    """The contact is done with an agent that had accepted it; after `not_joined` the agent has missed a contact."""

    participant_id: str
    agent: str
    reason: Literal["worked", "caller_left", "not_joined"]


@dataclass(frozen=True, slots=True)
class RefuseRequest:
    """What somebody asked for does not fit the contact: answer the request with an error. Nothing was changed."""

    event: ContactEvent
    reason: str


@dataclass(frozen=True, slots=True)
class CloseContact:
    """The contact is terminal: write its record and forget it."""


ContactCommand = (
    RingCustomer
    | AnswerCustomer
    | OfferToAgent
    | WithdrawOffer
    | RequestAgent
    | CancelRequest
    | SetParties
    | OpenRecording
    | OpenTrack
    | SetGate
    | CloseTrack
    | CloseRecording
    | EndLeg
    | StartTimer
    | StopTimer
    | BeginWork
    | ReleaseAgent
    | RefuseRequest
    | CloseContact
)
