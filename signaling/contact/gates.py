"""Who is recorded, and by which rule not: the recording gates as a pure function of a contact's state.

A track exists from the event at which an agent is connected (G1) until its participant or the last agent leaves (G1,
G7); within a track's life the gate is open, or closed by one rule. Where several rules close a gate, the first of
`RULES` is named: what decides for the whole contact stands before what call control does to one participant, and that
before what the participant does itself. So a party that is not recorded at all is withheld by G8 for its whole life,
whatever is held or muted meanwhile, and a muted customer on hold is withheld by G2.

Suspended and stopped recordings (G4, G5, G11) belong between G8 and G2, supervisors (G9) before G8.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from signaling.contact.events import ContactEvent
from signaling.contact.participant import ParticipantState
from signaling.contact.state import ContactState, Stage, Transition, transition


@dataclass(frozen=True, slots=True)
class Gate:
    """Open (no rule), or closed by a rule."""

    rule: str | None = None
    reason: str = ""

    @property
    def open(self) -> bool:
        """Whether what the participant says is recorded."""
        return self.rule is None


OPEN = Gate()


def _recording_is_off(state: ContactState, _: ParticipantState) -> bool:
    return state.started is None or not state.started.recorded


def _no_agent_interaction(state: ContactState, participant: ParticipantState) -> bool:
    return not (participant.connected and any(p.role == "agent" and p.connected for p in state.participants))


def _not_selected(state: ContactState, participant: ParticipantState) -> bool:
    # Third parties are recorded with the customer: both are what comes to the agent (rules, 1.3).
    return ("agent" if participant.role == "agent" else "customer") not in state.origin.recorded


def _on_hold(_: ContactState, participant: ParticipantState) -> bool:
    return participant.on_hold


def _muted(_: ContactState, participant: ParticipantState) -> bool:
    return participant.muted


RULES: tuple[tuple[Gate, Callable[[ContactState, ParticipantState], bool]], ...] = (
    (Gate("G10", "the behaviour in force asks for no recording"), _recording_is_off),
    (Gate("G1", "outside of the agent interaction"), _no_agent_interaction),
    (Gate("G8", "not selected for recording"), _not_selected),
    (Gate("G2", "on hold"), _on_hold),
    (Gate("G3", "muted"), _muted),
)
"""In order of priority."""

TRACKLESS = frozenset({"G1", "G10"})
"""A gate closed by one of these rules has no track: its time is not part of the recording."""


def gate(state: ContactState, participant_id: str) -> Gate:
    """The gate of a participant; of one who is not there it is closed by G1."""
    participant = state.participant(participant_id)
    if participant is None:
        return Gate("G1", "not connected")
    return next((closed for closed, applies in RULES if applies(state, participant)), OPEN)


def gates(state: ContactState) -> dict[str, Gate]:
    """The gates of all tracks that exist in this state, by participant id."""
    found = {p.participant_id: gate(state, p.participant_id) for p in state.participants}
    return {participant_id: each for participant_id, each in found.items() if each.rule not in TRACKLESS}


def has_timeline(state: ContactState) -> bool:
    """Whether the contact's recording timeline runs: from its first event until the conversation is over."""
    running = state.stage not in {Stage.NEW, Stage.WORKING, Stage.CLOSED}
    return running and bool(state.origin.recorded)


@dataclass(frozen=True, slots=True)
class TrackRanges:
    """A track's life and what was withheld of it, in positions of the timeline; all ranges are [start, end)."""

    first: int
    end: int
    withheld: tuple[tuple[int, int, str], ...] = ()
    """Start, end and rule; in order, none empty, neighbours of the same rule joined."""


def replay(entries: Sequence[tuple[int, ContactEvent]], until: int | None = None) -> dict[str, TrackRanges]:
    """Derive from a log with positions what the recording must hold: each participant's track.

    Tracks that the log leaves open (a crash) end at `until`, or else at the last entry.
    """
    state = ContactState()
    tracks: dict[str, _Track] = {}
    for position, event in entries:
        step = transition(state, event)
        if isinstance(step, Transition):
            _advance(tracks, gates(step.after), position)
            state = step.after
    last = entries[-1][0] if entries else 0
    return {participant_id: track.ranges(last if until is None else until) for participant_id, track in tracks.items()}


def _advance(tracks: dict[str, _Track], now_open: Mapping[str, Gate], position: int) -> None:
    for participant_id, each in now_open.items():
        tracks.setdefault(participant_id, _Track(position, [])).turns.append((position, each.rule))
    for participant_id, track in tracks.items():
        if track.end is None and participant_id not in now_open:
            track.end = position


@dataclass(slots=True)
class _Track:
    first: int
    turns: list[tuple[int, str | None]]
    end: int | None = None

    def ranges(self, until: int) -> TrackRanges:
        end = max(self.first, until) if self.end is None else self.end
        withheld: list[tuple[int, int, str]] = []
        ends = [start for start, _ in self.turns[1:]] + [end]
        for (start, rule), stop in zip(self.turns, ends, strict=True):
            if rule is None or start >= stop:
                continue
            if withheld and withheld[-1][1:] == (start, rule):
                start = withheld.pop()[0]  # noqa: PLW2901 - the neighbour's start
            withheld.append((start, stop, rule))
        return TrackRanges(self.first, end, tuple(withheld))
