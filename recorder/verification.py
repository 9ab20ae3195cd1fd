"""The answer of a verification: findings, the account of every track, and what it exits with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import IntEnum
from typing import cast

from recorder.document import Json
from recorder.ledger import Gap
from recorder.manifest import Manifest


class ExitCode(IntEnum):
    """What `koppel verify` exits with."""

    AUTHENTIC = 0
    NOT_AUTHENTIC = 1
    NOT_CHECKED = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong, in which file, and where in it."""

    file: str
    place: str
    what: str


@dataclass(frozen=True, slots=True)
class VerifiedTrack:
    """The account of a track, recomputed from its chunks and the manifest's gaps; counts in 48 kHz positions."""

    track: str
    participant: str
    first: int
    expected: int
    stored: int
    concealed: int
    lost: int
    withheld: Mapping[str, int]
    gaps: tuple[Gap, ...]
    """Withheld ranges (with a rule) and losses (without), in order."""

    @property
    def withheld_ranges(self) -> tuple[Gap, ...]:
        """For the replay: exactly what the gates must have withheld."""
        return tuple(gap for gap in self.gaps if gap.rule is not None)


@dataclass(frozen=True, slots=True)
class LogLine:
    """An event of the sealed log, in force from `position` on."""

    position: int
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Verification:
    """The answer about one contact."""

    level: int
    findings: tuple[Finding, ...]
    tracks: tuple[VerifiedTrack, ...] = ()
    ended: str = ""
    shredded: bool = False
    unchecked: str = ""
    """Why it could not be checked at the level asked for."""
    manifest: Manifest | None = None
    log: tuple[LogLine, ...] | None = field(default=None, repr=False)
    """The decoded log, in order; None below level 2."""

    @property
    def verified(self) -> bool:
        """Authentic, and every gap explained."""
        return not self.findings and not self.unchecked

    @property
    def exit_code(self) -> ExitCode:
        """What `koppel verify` exits with."""
        if self.findings:
            return ExitCode.NOT_AUTHENTIC
        return ExitCode.NOT_CHECKED if self.unchecked else ExitCode.AUTHENTIC

    def with_replay(self, findings: Iterable[Finding]) -> Verification:
        """Level 3, composed by who knows contacts."""
        return replace(self, level=3, findings=(*self.findings, *findings))

    def to_json(self) -> dict[str, Json]:
        """The form that the command's contract states, and with `unchecked` why, if so."""
        findings = [cast("dict[str, Json]", asdict(finding)) for finding in self.findings]
        answer: dict[str, Json] = {
            "verified": self.verified,
            "level": self.level,
            "findings": findings,
            "tracks": [_track_json(track) for track in self.tracks],
            "ended": self.ended,
            "shredded": self.shredded,
        }
        return {**answer, "unchecked": self.unchecked} if self.unchecked else answer


def _track_json(track: VerifiedTrack) -> dict[str, Json]:
    return {
        "track": track.track,
        "participant": track.participant,
        "expected": track.expected,
        "stored": track.stored,
        "concealed": track.concealed,
        "lost": track.lost,
        "withheld": dict(track.withheld),
    }
