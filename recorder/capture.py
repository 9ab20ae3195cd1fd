"""The values that a tick hands to the recorder, in the order in which they became true.

One first-in-first-out queue carries them from the tick's thread to the recorder's worker. Ticks are absolute numbers of
the plane; positions of the timeline follow as (tick - first tick of the contact) * 960. What a closed gate withheld
never appears here: only its rule and its two ends do (gate rule G8, and the format's "withheld time is a count").
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

TrackCodec = Literal["pcmu", "pcma", "s16"]
"""How a track's frames are stored: G.711 payload as it came (8 kHz), or 16-bit little-endian PCM."""


@dataclass(frozen=True, slots=True)
class RecordingOpened:
    """A contact's timeline begins: position 0 is `tick`, which was at `wall` (Unix seconds, UTC)."""

    contact_id: str
    tick: int
    wall: float


@dataclass(frozen=True, slots=True)
class LogEntry:
    """An event of the contact's log (canonical JSON), in force from `tick` on."""

    contact_id: str
    tick: int
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class TrackOpened:
    """A track begins at `tick`; with a rule, its gate is closed."""

    contact_id: str
    track_id: str
    participant_id: str
    role: Literal["agent", "other"]
    codec: TrackCodec
    rate: int
    tick: int
    rule: str | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class GateChanged:
    """From `tick` on the gate is closed by `rule`, or open (None). All frames before `tick` came earlier."""

    contact_id: str
    track_id: str
    tick: int
    rule: str | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Frames:
    """Consecutive 20 ms frames of a track with an open gate: at most 500 ms, leg-major, one contiguous copy."""

    contact_id: str
    track_id: str
    first_tick: int
    ticks: int
    payload: bytes = field(repr=False)
    concealed: tuple[tuple[int, int], ...] = ()
    """Ranges [first, end) of ticks, counted from `first_tick`, whose sound the jitter buffer made up."""
    lost: tuple[tuple[int, int], ...] = ()
    """Ranges, counted likewise, for which nothing came and nothing was made up: stored as silence, counted as lost."""


@dataclass(frozen=True, slots=True)
class FramesDropped:
    """These ticks of an open gate are lost, and stated as an overflow gap.

    The queue to the recorder was full, or the machine let no tick take place.
    """

    contact_id: str
    track_id: str
    first_tick: int
    ticks: int


@dataclass(frozen=True, slots=True)
class TrackClosed:
    """A track ends before `tick`."""

    contact_id: str
    track_id: str
    tick: int


@dataclass(frozen=True, slots=True)
class RecordingClosed:
    """A contact's timeline ends before `tick`."""

    contact_id: str
    tick: int


Captured = (
    RecordingOpened | LogEntry | TrackOpened | GateChanged | Frames | FramesDropped | TrackClosed | RecordingClosed
)
