"""What a contact asks of the world: legs, offers to agents, crosspoints, gates, timers, its end.

`relay.exchange` carries them out. A contact never learns how: it sees the outcome as an event.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from signaling.contact.participant import ParticipantState


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
    """Stop ringing an agent: the caller left, the offer expired, or another agent took it."""

    participant_id: str
    agent: str


@dataclass(frozen=True, slots=True)
class RequestAgent:
    """Ask the queue for the next available agent; answered by `AgentReserved`, when there is one."""

    queue: str


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """Leave the queue."""

    queue: str


@dataclass(frozen=True, slots=True)
class SetParties:
    """The participants' states changed: derive the crosspoint matrix from these (`mixer.crosspoints`)."""

    participants: tuple[ParticipantState, ...]
    waiting_source: str | None
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
    """Hang up a participant's leg (SIP BYE or a final response; a softphone's leg leaves the conference)."""

    participant_id: str
    cause: str


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
class ReleaseAgent:
    """After-contact work is done, or the agent never joined: the agent can take the next contact."""

    agent: str


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
    | ReleaseAgent
    | CloseContact
)
