"""The pure function from the standings of a contact's parties to who hears whom.

The rules, in the order in which they decide what a connected party hears:

1. A party on hold hears the hold source, and nothing else.
2. A customer with neither an agent nor a third party on the line hears the waiting source.
3. Everyone else hears every other party that is audible to them.

A party is audible while it is connected, neither on hold nor muted; a supervisor who monitors silently is audible to
nobody, one who coaches to the coached agent alone, one who has barged in to all. So an agent whose only customer is on
hold hears silence, and the hold of one party leaves the others talking.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Role = Literal["customer", "agent", "third_party", "supervisor"]
SupervisorMode = Literal["silent_monitor", "barge", "coach"]

MUSIC = "music"


@dataclass(frozen=True, slots=True)
class Party:
    """A participant's standing, as far as it decides who hears whom."""

    party_id: str
    role: Role
    connected: bool = True
    on_hold: bool = False
    muted: bool = False
    """Muted by itself or by the system: nobody hears it."""
    mode: SupervisorMode = "silent_monitor"
    """Only for a supervisor."""
    coached: str | None = None
    """Only for a supervisor who coaches: the party that alone hears the supervisor."""


@dataclass(frozen=True, slots=True)
class Crosspoint:
    """One entry of the matrix that is not zero: `listener` hears `speaker` at `gain` (linear)."""

    listener: str
    speaker: str
    gain: float = 1.0
    is_source: bool = False
    """True: `speaker` names a sound that the relay makes, not a party."""


def crosspoints(
    parties: Sequence[Party], waiting_source: str | None, hold_source: str | None = MUSIC
) -> tuple[Crosspoint, ...]:
    """The whole matrix, listeners and then speakers in the order of `parties`; None for a source is silence."""
    present = [party for party in parties if party.connected]
    waiting = not any(party.role in {"agent", "third_party"} for party in present)
    return tuple(
        crosspoint
        for listener in present
        for crosspoint in _heard_by(listener, present, waiting_source if waiting else None, hold_source)
    )


def _heard_by(
    listener: Party, present: Sequence[Party], waiting_source: str | None, hold_source: str | None
) -> Iterator[Crosspoint]:
    if listener.on_hold:
        source = hold_source
    else:
        source = waiting_source if listener.role == "customer" else None
        yield from (
            Crosspoint(listener.party_id, speaker.party_id) for speaker in present if _is_audible(speaker, listener)
        )
    if source is not None:
        yield Crosspoint(listener.party_id, source, is_source=True)


def _is_audible(speaker: Party, listener: Party) -> bool:
    if speaker.party_id == listener.party_id or speaker.on_hold or speaker.muted:
        return False
    if speaker.role != "supervisor" or speaker.mode == "barge":
        return True
    return speaker.mode == "coach" and speaker.coached == listener.party_id
