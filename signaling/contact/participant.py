"""One participant of a contact, and what call control has done to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["customer", "agent", "third_party", "supervisor"]
Kind = Literal["trunk", "softphone"]
Phase = Literal["offered", "connecting", "connected", "left"]


@dataclass(frozen=True, slots=True)
class ParticipantState:
    """A participant's standing at one point of the event log; a fold of the log, never changed in place."""

    participant_id: str
    role: Role
    kind: Kind
    phase: Phase = "offered"
    user: str | None = None
    """The agent's user name; None for customers and third parties."""
    on_hold: bool = False
    muted_by_self: bool = False
    muted_by_system: bool = False

    @property
    def connected(self) -> bool:
        """Whether the participant's media takes part."""
        return self.phase == "connected"

    @property
    def muted(self) -> bool:
        """Whether nobody hears the participant, whoever asked for it."""
        return self.muted_by_self or self.muted_by_system
