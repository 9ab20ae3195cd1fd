"""What a store holds of an instance's recordings, and whether it is whole: verification at all three levels.

Levels 1 and 2 are `recorder.verify`'s. Level 3, the replay, needs to know contacts: the gate function over the sealed
log must withhold exactly what the recording says was withheld, and give exactly the tracks that are there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from recorder.ledger import Gap
from recorder.manifest import Manifest
from recorder.verification import Finding, LogLine, Verification, VerifiedTrack
from signaling.contact import codec
from signaling.contact.events import ContactEvent, ContactStarted
from signaling.contact.gates import TrackRanges, replay
from signaling.contact.state import ContactState, Transition, transition
from signaling.errors import RemoteError

__all__ = ["replayed"]

CRASHED = "found open after a crash"


def replayed(verification: Verification) -> Verification:
    """A level 2 verification brought to level 3; one that could not be checked, or has no log, stays as it is."""
    if verification.unchecked or verification.manifest is None or verification.log is None:
        return verification
    return verification.with_replay(_Replay(verification.manifest, verification.log, verification.tracks).findings())


@dataclass(frozen=True, slots=True)
class _Replay:
    manifest: Manifest
    log: tuple[LogLine, ...]
    tracks: tuple[VerifiedTrack, ...]

    def findings(self) -> list[Finding]:
        """Everything in which log and audio contradict each other."""
        findings: list[Finding] = []
        entries: list[tuple[int, ContactEvent]] = []
        for number, line in enumerate(self.log, 1):
            try:
                entries.append((line.position, codec.decode(line.data)))
            except RemoteError as error:
                findings.append(self._in_log(number, line.position, str(error)))
        findings += self._misfits(entries)
        if not findings:
            findings += self._contradictions(entries)
        return findings

    def _misfits(self, entries: Sequence[tuple[int, ContactEvent]]) -> Iterator[Finding]:
        """Entries that cannot follow what stands before them: the relay writes none such."""
        state = ContactState()
        for number, (position, event) in enumerate(entries, 1):
            step = transition(state, event)
            if isinstance(step, Transition):
                state = step.after
            else:
                yield self._in_log(number, position, f"{type(event).__name__} cannot follow what stands before it")
            if isinstance(event, ContactStarted):
                yield from self._foreign(number, position, event)

    def _foreign(self, number: int, position: int, event: ContactStarted) -> Iterator[Finding]:
        identity = self.manifest.identity
        said = (event.account_id, event.instance_id, event.contact_id)
        if said != (identity.account_id, identity.instance_id, identity.contact_id):
            yield self._in_log(number, position, "is the log of another contact")

    def _contradictions(self, entries: Sequence[tuple[int, ContactEvent]]) -> Iterator[Finding]:
        expected = replay(entries, self.manifest.ended.position)
        present = {track.participant: track for track in self.tracks}
        if len(present) != len(self.tracks):
            yield Finding("manifest", "tracks", "a participant has more than one track")
        for participant in sorted(expected.keys() - present.keys()):
            if not self._was_torn_off(expected[participant]):
                yield Finding(
                    "manifest", f"participant {participant}", "the log says that there is a track, but there is none"
                )
        for participant, track in present.items():
            if participant not in expected:
                yield Finding("manifest", f"track {track.track}", "the log knows of no such track")
            else:
                yield from self._differences(track, self._as_far_as_known(expected[participant], track))

    def _was_torn_off(self, expected: TrackRanges) -> bool:
        """A crash in the middle of a write may leave a log entry without the track that it opened: an empty one."""
        return self.manifest.ended.how == CRASHED and expected.first >= self.manifest.ended.position

    def _as_far_as_known(self, expected: TrackRanges, track: VerifiedTrack) -> TrackRanges:
        """After a crash a track ends with its last durable position, which may be before the log's."""
        end = track.first + track.expected
        if self.manifest.ended.how != CRASHED or end >= expected.end:
            return expected
        cut = [(first, min(last, end), rule) for first, last, rule in expected.withheld if first < end]
        return TrackRanges(expected.first, end, tuple(cut))

    def _differences(self, track: VerifiedTrack, expected: TrackRanges) -> Iterator[Finding]:
        place = f"track {track.track}"
        end = track.first + track.expected
        if (track.first, end) != (expected.first, expected.end):
            yield Finding(
                "manifest", place, f"is {track.first} to {end}, the log says {expected.first} to {expected.end}"
            )
        recorded = set(_joined(track.withheld_ranges))
        demanded = set(expected.withheld)
        for first, last, rule in sorted(demanded - recorded):
            yield Finding("manifest", place, f"the log withholds {first} to {last} by {rule}, the recording does not")
        for first, last, rule in sorted(recorded - demanded):
            yield Finding("manifest", place, f"{first} to {last} is withheld by {rule}, but the log has no such gate")

    def _in_log(self, number: int, position: int, what: str) -> Finding:
        return Finding(f"log-{self.manifest.log.session_id}", f"entry {number}, position {position}", what)


def _joined(gaps: Sequence[Gap]) -> list[tuple[int, int, str]]:
    """Neighbours with the same rule as one range, whatever their reasons."""
    ranges: list[tuple[int, int, str]] = []
    for gap in gaps:
        rule = gap.rule or ""
        if ranges and ranges[-1][1:] == (gap.first, rule):
            ranges[-1] = (ranges[-1][0], gap.end, rule)
        else:
            ranges.append((gap.first, gap.end, rule))
    return ranges
