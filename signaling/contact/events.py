"""What happens to a contact, in the order of its log: the only thing that its state is made of.

Every event is frozen and carries `at`, seconds of the relay's monotonic clock. `by` is who asked: a user's name, a
participant's id, or `system`. `signaling.contact.codec` writes an event as the canonical JSON that the recording's
sealed log and the database keep.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from signaling.contact.participant import Kind

RecordedParty = Literal["agent", "customer"]


@dataclass(frozen=True, slots=True)
class ContactStarted:
    """A call came in for a queue."""

    at: float
    contact_id: str
    account_id: str
    instance_id: str
    queue: str
    participant_id: str
    customer_number: str = field(repr=False)
    system_number: str = field(repr=False)
    trunk: str
    recorded: tuple[RecordedParty, ...]
    """Which tracks the queue asks for; empty: no recording. Empty too where the instance has no store."""
    answer: Literal["at_once", "with_agent"]
    """Whether the caller is answered while it waits (and hears `waiting_source`), or when an agent accepts."""
    waiting_source: Literal["music", "ringback"] = "music"


@dataclass(frozen=True, slots=True)
class ParticipantConnected:
    """A participant's signalling is up (SIP ACK or 200; softphone accepted with live media): its media takes part."""

    at: float
    participant_id: str


@dataclass(frozen=True, slots=True)
class AgentReserved:
    """The queue gave this contact an available agent."""

    at: float
    participant_id: str
    user: str
    kind: Kind = "softphone"


@dataclass(frozen=True, slots=True)
class RequestRefused:
    """The queue did not take the contact: it is full, or there is none of this name."""

    at: float
    queue: str
    reason: Literal["full", "unknown"]


@dataclass(frozen=True, slots=True)
class AgentAccepted:
    """The agent pressed answer."""

    at: float
    participant_id: str


@dataclass(frozen=True, slots=True)
class AgentDeclined:
    """The agent refused, lost its softphone while ringing, or did not answer in time."""

    at: float
    participant_id: str
    reason: Literal["rejected", "missed", "unreachable"]


@dataclass(frozen=True, slots=True)
class Held:
    """A participant is on hold: it hears the hold source and nobody hears it."""

    at: float
    participant_id: str
    by: str


@dataclass(frozen=True, slots=True)
class Resumed:
    """A participant is off hold."""

    at: float
    participant_id: str
    by: str


@dataclass(frozen=True, slots=True)
class Muted:
    """Nobody hears a participant: by itself at its phone, or by the system."""

    at: float
    participant_id: str
    by: str
    scope: Literal["self", "system"]


@dataclass(frozen=True, slots=True)
class Unmuted:
    """A mute of this scope is over."""

    at: float
    participant_id: str
    by: str
    scope: Literal["self", "system"]


@dataclass(frozen=True, slots=True)
class ParticipantLeft:
    """A participant is gone: it hung up, was hung up, or its leg failed. The contact does not end its leg again."""

    at: float
    participant_id: str
    cause: Literal["hung_up", "cancelled", "failed", "ended", "media_lost", "drained"]


@dataclass(frozen=True, slots=True)
class TimerFired:
    """A timer that the contact started came due."""

    at: float
    name: str


@dataclass(frozen=True, slots=True)
class WorkCompleted:
    """The agent ended after-contact work."""

    at: float
    participant_id: str


ContactEvent = (
    ContactStarted
    | ParticipantConnected
    | AgentReserved
    | RequestRefused
    | AgentAccepted
    | AgentDeclined
    | Held
    | Resumed
    | Muted
    | Unmuted
    | ParticipantLeft
    | TimerFired
    | WorkCompleted
)
