"""Turns a contact's commands into one step of the plane: participants become legs, standings become crosspoints."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mixer.crosspoints import Party, crosspoints
from relay import media
from signaling.contact import commands as contact

if TYPE_CHECKING:
    from collections.abc import Sequence

    from relay.media import ConferenceId, LegId, MediaCommand, Step
    from signaling.contact.participant import ParticipantState


@dataclass(slots=True)
class Switchboard:
    """Knows which leg carries which participant; everything else is in the commands.

    A participant without a leg (an agent whose phone still rings) takes no part in the matrix. A track has its
    participant's id, and follows it to whichever leg it was opened on.
    """

    _legs: dict[tuple[str, str], LegId] = field(default_factory=dict[tuple[str, str], "LegId"])

    def bind(self, contact_id: str, participant_id: str, leg_id: LegId) -> None:
        """From now on this leg carries the participant."""
        self._legs[contact_id, participant_id] = leg_id

    def unbind(self, contact_id: str, participant_id: str) -> LegId | None:
        """The participant left its leg; the leg itself lives on until someone closes it."""
        return self._legs.pop((contact_id, participant_id), None)

    def leg(self, contact_id: str, participant_id: str) -> LegId | None:
        """The leg that carries a participant."""
        return self._legs.get((contact_id, participant_id))

    def __len__(self) -> int:
        return len(self._legs)

    def step(
        self,
        contact_id: str,
        commands: Sequence[contact.ContactCommand],
        entries: tuple[bytes, ...],
        *,
        before: tuple[MediaCommand, ...] = (),
        after: tuple[MediaCommand, ...] = (),
    ) -> Step:
        """One step: `before` (legs that open), the contact's media commands in order, `after` (legs that close)."""
        made = (self._translate(contact_id, command) for command in commands)
        translated = tuple(command for command in made if command is not None)
        return media.Step(contact_id=contact_id, commands=(*before, *translated, *after), entries=entries)

    def _translate(self, contact_id: str, command: contact.ContactCommand) -> MediaCommand | None:
        match command:
            case contact.SetParties():
                return self._set_parties(contact_id, command)
            case contact.OpenRecording():
                return media.OpenRecording(contact_id)
            case contact.OpenTrack():
                return self._open_track(contact_id, command)
            case contact.SetGate(participant_id, rule, reason):
                return media.SetGate(contact_id, participant_id, rule, reason)
            case contact.CloseTrack(participant_id):
                return media.CloseTrack(contact_id, participant_id)
            case contact.CloseRecording():
                return media.CloseRecording(contact_id)
            case _:
                return None  # signalling, timers and agents are the exchange's

    def _set_parties(self, contact_id: str, command: contact.SetParties) -> MediaCommand:
        legs = {state.participant_id: self.leg(contact_id, state.participant_id) for state in command.participants}
        parties = [_party(state) for state in command.participants if legs[state.participant_id] is not None]
        gains = tuple(
            media.Gain(
                listener=_present(legs[point.listener]),
                speaker=media.SourceId(point.speaker) if point.is_source else _present(legs[point.speaker]),
                gain=point.gain,
            )
            for point in crosspoints(parties, waiting_source=command.waiting_source)
        )
        members = tuple(_present(legs[party.party_id]) for party in parties if party.connected)
        return media.SetCrosspoints(conference_id(contact_id), gains, members)

    def _open_track(self, contact_id: str, command: contact.OpenTrack) -> MediaCommand | None:
        leg_id = self.leg(contact_id, command.participant_id)
        if leg_id is None:
            return None
        return media.OpenTrack(
            contact_id=contact_id,
            track_id=command.participant_id,
            leg_id=leg_id,
            participant_id=command.participant_id,
            role=command.role,
            rule=command.rule,
            reason=command.reason,
        )


def conference_id(contact_id: str) -> ConferenceId:
    """The conference of a contact: one each."""
    return media.ConferenceId(contact_id)


def _party(state: ParticipantState) -> Party:
    return Party(
        party_id=state.participant_id,
        role=state.role,
        connected=state.connected,
        on_hold=state.on_hold,
        muted=state.muted,
    )


def _present(leg_id: LegId | None) -> LegId:
    assert leg_id is not None, "only participants with a leg are parties"
    return leg_id
