"""What the exchange is told at its start, and what it asks its shell to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from relay.media import LegId, Step
from signaling.agents import AgentsSettings
from signaling.contact.contact import ContactSettings
from signaling.contact.events import ContactEvent, RecordedParty
from signaling.softphone.messages import Notification


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose contacts these are."""

    account_id: str
    instance_id: str


@dataclass(frozen=True, slots=True)
class Queue:
    """One queue: how its contacts wait, and who of them is recorded."""

    name: str
    answer: Literal["at_once", "with_agent"] = "at_once"
    waiting_source: Literal["music", "ringback"] = "music"
    recorded: tuple[RecordedParty, ...] = ()
    waiting_max: int = 1000
    contact: ContactSettings = field(default_factory=ContactSettings)


@dataclass(frozen=True, slots=True)
class ExchangeSettings:
    """What the exchange needs to know of the configuration."""

    queues: tuple[Queue, ...]
    queue_of_trunk: Mapping[str, str]
    contacts_max: int = 1000
    agents: AgentsSettings = field(default_factory=AgentsSettings)
    reconnect_seconds: float = 30.0
    """How long an agent's call outlives its lost WebSocket."""


@dataclass(frozen=True, slots=True)
class Submit:
    """Give a step to the plane."""

    step: Step


@dataclass(frozen=True, slots=True)
class Notify:
    """Tell a softphone."""

    session_id: str
    notification: Notification


@dataclass(frozen=True, slots=True)
class CloseMedia:
    """End the ICE and DTLS of a softphone's leg; its row is closed by a step."""

    leg_id: LegId


@dataclass(frozen=True, slots=True)
class ContactLogged:
    """A contact's log grew: keep it."""

    contact_id: str
    event: ContactEvent


@dataclass(frozen=True, slots=True)
class ContactFinished:
    """A contact is over: write its record."""

    contact_id: str
    log: tuple[ContactEvent, ...]


ExchangeEffect = Submit | Notify | CloseMedia | ContactLogged | ContactFinished
