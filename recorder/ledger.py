"""The account of a track's timeline: every position is stored, withheld by a rule, or lost for a reason.

A ledger is a fold over what stands in the journal, live and after a crash alike. Positions count from the contact's
first tick at 48 kHz. `accounted` never goes back: what comes twice is refused, what is skipped becomes a hole.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from recorder.segment import Codec, Ranges, Role

LossReason = Literal["overflow", "disk", "store", "key", "crash", "stopped", "missing"]
"""Why open positions are not stored; `missing` is a hole that nothing explains, and makes `verify` fail."""
EXPLAINED: frozenset[str] = frozenset({"overflow", "disk", "store", "key", "crash", "stopped"})


@dataclass(frozen=True, slots=True)
class Gap:
    """Positions that no chunk holds: withheld by `rule`, or lost (no rule) for `reason`."""

    first: int
    positions: int
    rule: str | None
    reason: str

    @property
    def end(self) -> int:
        """The position after its last."""
        return self.first + self.positions


@dataclass(slots=True)
class TrackLedger:
    """One track in one recording session."""

    track_id: str
    participant_id: str
    role: Role
    codec: Codec
    rate: int
    session_id: bytes
    first: int
    rule: str | None
    """The rule by which the gate is closed now; None while it is open."""
    reason: str
    accounted: int = -1
    """Every position before this one is accounted for."""
    stored: int = 0
    concealed: int = 0
    lost: int = 0
    chunks: int = 0
    head: bytes = b""
    """Hash of the last chunk, or of the file header."""
    gaps: list[Gap] = field(default_factory=list[Gap])
    closed: bool = False

    def __post_init__(self) -> None:
        self.accounted = max(self.accounted, self.first)

    @property
    def expected(self) -> int:
        """Positions between the track's beginning and what is accounted for."""
        return self.accounted - self.first

    @property
    def withheld(self) -> dict[str, int]:
        """Positions by rule."""
        sums: dict[str, int] = {}
        for gap in self.gaps:
            if gap.rule is not None:
                sums[gap.rule] = sums.get(gap.rule, 0) + gap.positions
        return sums

    def accepts(self, first: int) -> bool:
        """Whether audio from `first` on may be stored: the gate is open, and nothing of it was accounted before."""
        return not self.closed and self.rule is None and first >= self.accounted

    def chunk(self, first: int, positions: int, concealed: Ranges, lost: Ranges, digest: bytes) -> None:
        """A chunk was sealed. What it marks as lost is silence in it, and counts as lost, not as stored."""
        self._skip_to(first)
        lost_in_chunk = sum(count for _, count in lost)
        self.stored += positions - lost_in_chunk
        self.lost += lost_in_chunk
        self.concealed += sum(count for _, count in concealed)
        self.accounted = first + positions
        self.chunks += 1
        self.head = digest

    def drop(self, first: int, positions: int, reason: LossReason) -> None:
        """Positions of an open gate were given up."""
        first = max(first, self.accounted)
        end = max(first, first + positions)
        self._skip_to(first)
        self._gap(end, None, reason)

    def gate(self, position: int, rule: str | None, reason: str) -> None:
        """From `position` on the gate is closed by a rule, or open."""
        self._skip_to(position)
        self.rule, self.reason = rule, reason

    def close(self, position: int, reason: LossReason = "missing") -> None:
        """The track ends before `position`; open positions that never came are lost for `reason`."""
        self._skip_to(position, reason)
        self.closed = True

    def _skip_to(self, position: int, reason: LossReason = "missing") -> None:
        if self.rule is None:
            self._gap(position, None, reason)
        else:
            self._gap(position, self.rule, self.reason)

    def _gap(self, end: int, rule: str | None, reason: str) -> None:
        positions = end - self.accounted
        if positions <= 0:
            return
        if rule is None:
            self.lost += positions
        last = self.gaps[-1] if self.gaps else None
        if last is not None and (last.end, last.rule, last.reason) == (self.accounted, rule, reason):
            self.gaps[-1] = Gap(last.first, last.positions + positions, rule, reason)
        else:
            self.gaps.append(Gap(self.accounted, positions, rule, reason))
        self.accounted = end
