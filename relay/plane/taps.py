"""Tracks of legs: what a tick captured for the recorder, in the order in which it became true."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Final, Literal

import numpy as np

from recorder import capture
from recorder.tap import TapForm, TapRow, TapTable
from relay import media
from relay.errors import LocalError
from relay.plane.legs import OPUS, PCMA, PCMU, Leg
from relay.plane.packets import Rows
from relay.plane.playout import Played
from relay.plane.transmission import Transmission

FORMS: Final = {PCMU: TapForm("pcmu", 8000), PCMA: TapForm("pcma", 8000), OPUS: TapForm("s16", 48000)}
"""By encoding: G.711 is kept as it came, Opus as it was decoded."""

Direction = Literal["from_leg", "to_leg"]
SENT: Final[frozenset[Direction]] = frozenset({"to_leg"})
BOTH: Final[frozenset[Direction]] = frozenset({"from_leg", "to_leg"})
_Track = tuple[str, str]


@dataclass(slots=True)
class _Tap:
    row: TapRow
    leg: int
    encoding: int
    direction: Direction
    is_open: bool


class Taps:
    """Recordings, their tracks, and the buffers between two collections."""

    def __init__(self, tracks_max: int) -> None:
        self.tracks_max = tracks_max
        self._table = TapTable(tracks_max)
        self.sent = 0
        """How many tracks are of what goes to a leg."""
        self._captured: list[capture.Captured] = []
        self._recordings: set[str] = set()
        self._taps: dict[_Track, _Tap] = {}
        self._plans: dict[int, tuple[Rows, Rows, Rows]] = {}
        self._sent_plan: dict[int, tuple[Rows, Rows]] | None = None

    def __len__(self) -> int:
        return len(self._taps)

    def open_recording(self, contact_id: str, tick: int, wall: float) -> None:
        """Begin a contact's timeline."""
        if contact_id in self._recordings:
            raise LocalError("the contact's recording is open already")
        self._recordings.add(contact_id)
        self._captured.append(capture.RecordingOpened(contact_id, tick, wall))

    def log(self, contact_id: str, entries: tuple[bytes, ...], tick: int) -> None:
        """Entries of a contact's log, in force from this tick on; a contact without a recording has no sealed log."""
        if contact_id in self._recordings:
            self._captured.extend(capture.LogEntry(contact_id, tick, entry) for entry in entries)

    def open_track(self, command: media.OpenTrack, leg: Leg, encoding: int, tick: int) -> None:
        """Tap a leg. Raises `LocalError`, and `recorder.errors.Exhausted` without a free row."""
        key = command.contact_id, command.track_id
        if command.contact_id not in self._recordings or key in self._taps:
            raise LocalError("no recording is open for the track, or the track is open already")
        form = FORMS[encoding]
        row = self._table.open(*key, form)
        self._taps[key] = _Tap(row, leg.row, encoding, command.direction, is_open=command.rule is None)
        self.sent += command.direction == "to_leg"
        self._changed()
        self._captured.append(
            capture.TrackOpened(
                *key, command.participant_id, command.role, form.codec, form.rate, tick, command.rule, command.reason
            )
        )

    def set_gate(self, command: media.SetGate, tick: int) -> None:
        """Close or open a gate: no frame of this tick on passes a closed one."""
        tap = self._tap(command.contact_id, command.track_id)
        self._captured.extend(self._table.flush(tap.row))
        tap.is_open = command.rule is None
        self._changed()
        self._captured.append(
            capture.GateChanged(command.contact_id, command.track_id, tick, command.rule, command.reason)
        )

    def close_track(self, contact_id: str, track_id: str, tick: int) -> None:
        """End a track before this tick."""
        tap = self._tap(contact_id, track_id)
        del self._taps[contact_id, track_id]
        self.sent -= tap.direction == "to_leg"
        self._changed()
        self._captured.extend(self._table.close(tap.row))
        self._captured.append(capture.TrackClosed(contact_id, track_id, tick))

    def close_recording(self, contact_id: str, tick: int) -> None:
        """End a contact's timeline, and the tracks that are still open."""
        if contact_id not in self._recordings:
            raise LocalError("no recording is open for the contact")
        for key in [key for key in self._taps if key[0] == contact_id]:
            self.close_track(*key, tick)
        self._recordings.remove(contact_id)
        self._captured.append(capture.RecordingClosed(contact_id, tick))

    def close_leg(self, row: int, tick: int) -> None:
        """A leg closes: its tracks end with it."""
        for key in [key for key, tap in self._taps.items() if tap.leg == row]:
            self.close_track(*key, tick)

    def tapped(self) -> Rows:
        """Rows of legs with a track of what comes from them."""
        return np.array(sorted({tap.leg for tap in self._taps.values() if tap.direction == "from_leg"}), np.intp)

    def write(self, encoding: int, played: Played, tick: int) -> None:
        """Keep what legs of an encoding said, of those whose gate is open."""
        places, rows = self._plan(encoding, played.legs)
        if not rows.size:
            return
        frames, concealed, lost = played.frames[places], played.concealed[places], played.lost[places]
        self._captured.extend(self._table.write(FORMS[encoding], rows, frames, tick, concealed, lost))

    def write_sent(self, transmission: Transmission, tick: int) -> None:
        """Keep what was sent to legs with an open track of it; nothing was is kept as lost."""
        for encoding, (legs, rows) in self._plan_sent().items():
            frames, lost = transmission.sent(encoding, legs)
            self._captured.extend(self._table.write(FORMS[encoding], rows, frames, tick, None, lost))

    def miss(self, first: int, ticks: int, directions: frozenset[Direction] = BOTH) -> None:
        """No frame will come for these ticks: whose gate is open loses them, and the recording says so."""
        for key, tap in self._taps.items():
            if tap.is_open and tap.direction in directions:
                self._captured.extend(self._table.flush(tap.row))
                self._captured.append(capture.FramesDropped(*key, first, ticks))

    def collect(self, tick: int) -> list[capture.Captured]:
        """What became true since the last collection."""
        self._captured.extend(self._table.collect(tick))
        captured, self._captured = self._captured, []
        return captured

    def _tap(self, contact_id: str, track_id: str) -> _Tap:
        tap = self._taps.get((contact_id, track_id))
        if tap is None:
            raise LocalError("no such track is open")
        return tap

    def _plan(self, encoding: int, legs: Rows) -> tuple[Rows, Rows]:
        """Where in `legs` the open taps are, and their rows; made anew when either changes."""
        known = self._plans.get(encoding)
        if known is None or known[0] is not legs:
            taps = [tap for tap in self._open("from_leg") if tap.encoding == encoding]
            tapped = np.array([tap.leg for tap in taps], np.intp)
            rows = np.array([tap.row.index for tap in taps], np.intp)
            known = self._plans[encoding] = legs, np.searchsorted(legs, tapped), rows
        return known[1], known[2]

    def _plan_sent(self) -> dict[int, tuple[Rows, Rows]]:
        """By encoding: the legs with an open track of what goes to them, and its rows."""
        if self._sent_plan is None:
            taps = sorted(self._open("to_leg"), key=lambda tap: tap.encoding)
            self._sent_plan = {
                encoding: (np.array([tap.leg for tap in of], np.intp), np.array([tap.row.index for tap in of], np.intp))
                for encoding, of in ((encoding, list(of)) for encoding, of in groupby(taps, lambda tap: tap.encoding))
            }
        return self._sent_plan

    def _open(self, direction: Direction) -> Iterator[_Tap]:
        return (tap for tap in self._taps.values() if tap.is_open and tap.direction == direction)

    def _changed(self) -> None:
        self._plans.clear()
        self._sent_plan = None
