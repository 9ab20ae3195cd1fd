"""One contact's recording while its contact lives: captured values in, journal records out.

It alone holds the contact key. Each record is folded into the staged state as it is made, so that what a crash would
leave in the journal and what this process believes are one thing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import assert_never

from recorder.capture import (
    Captured,
    Frames,
    FramesDropped,
    GateChanged,
    LogEntry,
    RecordingClosed,
    RecordingOpened,
    TrackClosed,
    TrackOpened,
)
from recorder.document import Json, canonical
from recorder.envelope import SESSION_ID_BYTES, ContactKey, Kind, session_cipher
from recorder.errors import Exhausted, LocalError
from recorder.journal import Record, RecordKind
from recorder.ledger import LossReason
from recorder.names import KEY_NAME, POSITIONS_PER_TICK, require_id
from recorder.segment import (
    LOG_ENTRY_BYTES_MAX,
    NO_HASH,
    POSITIONS_MAX,
    RATES,
    Codec,
    Ranges,
    Role,
    Sealed,
    SegmentHeader,
    SegmentWriter,
)
from recorder.settings import RecorderSettings
from recorder.staged import StagedRecording

REASON_CHARACTERS_MAX = 200
_SAMPLE_BYTES = {"pcmu": 1, "pcma": 1, "s16": 2}


class Recording:
    """A live recording; `opening` holds its first records."""

    def __init__(
        self,
        opened: RecordingOpened,
        staged: StagedRecording,
        key: ContactKey,
        key_document: bytes,
        *,
        settings: RecorderSettings,
        entropy: Callable[[int], bytes],
    ) -> None:
        self.staged = staged
        self.refused = 0
        """Frames that came for a closed gate, twice, or not as their track says: never stored."""
        self._first_tick = opened.tick
        self._key = key
        self._settings = settings
        self._entropy = entropy
        self._writers: dict[str, SegmentWriter] = {}
        self._shed: dict[str, tuple[int, int, LossReason]] = {}
        self._records: list[Record] = [staged.opening]
        self._add(Record(RecordKind.APPENDED, staged.identity.contact_id, KEY_NAME, key_document))
        self._log = self._writer("log", "json", "none", 0, 0, "", "")
        self._emit(self._log.opening())
        self.opening = self._take()

    def receive(self, value: Captured, *, shed: LossReason | None = None) -> list[Record]:
        """Records of one value; with `shed`, audio is given up for that reason. Raises LocalError, Exhausted."""
        match value:
            case Frames():
                self._frames(value, shed)
            case LogEntry():
                self._log_entry(value)
            case GateChanged():
                self._gate(value)
            case FramesDropped():
                self._note_shed(value.track_id)
                self._loss(value.track_id, value.first_tick, value.ticks, "overflow")
            case TrackOpened():
                self._open_track(value)
            case TrackClosed():
                self._close_track(value)
            case RecordingClosed():
                self._close(value)
            case RecordingOpened():
                raise LocalError("a contact has one recording")
            case _:
                assert_never(value)
        return self._take()

    def _open_track(self, value: TrackOpened) -> None:
        if value.track_id in self._writers:
            raise LocalError("a track was opened that is open")
        if len(self.staged.tracks) >= self._settings.tracks_max:
            raise Exhausted(f"a contact has at most {self._settings.tracks_max} tracks")
        if value.rate not in RATES[value.codec]:
            raise LocalError(f"{value.codec} at {value.rate} Hz is not a form of track")
        first = self._position(value.tick)
        ids = require_id(value.track_id), require_id(value.participant_id)
        writer = self._writer("track", value.codec, value.role, value.rate, first, *ids)
        self._writers[value.track_id] = writer
        self._note(
            "track",
            value.tick,
            track_id=value.track_id,
            participant_id=value.participant_id,
            role=value.role,
            codec=value.codec,
            rate=value.rate,
            session_id=writer.header.session_id.hex(),
            rule=value.rule,
            reason=_plain(value.reason),
        )
        self._emit(writer.opening())

    def _frames(self, value: Frames, shed: LossReason | None) -> None:
        first, positions = self._position(value.first_tick), value.ticks * POSITIONS_PER_TICK
        if not self._acceptable(value, first, positions):
            self.refused += 1
        elif shed is not None:
            self._give_up(value, shed)
        else:
            self._note_shed(value.track_id)
            lost = _joined(value.lost, value.ticks) if value.lost else ()
            concealed = _joined(value.concealed, value.ticks, without=value.lost) if value.concealed else ()
            for sealed in self._writers[value.track_id].seal(first, positions, value.payload, concealed, lost):
                self._emit(sealed)

    def _acceptable(self, value: Frames, first: int, positions: int) -> bool:
        """The gate is obeyed here a second time: what a rule withholds is never sealed, whatever the tick says."""
        ledger = self.staged.open_tracks.get(value.track_id)
        if ledger is None or not ledger.accepts(first) or not 0 < positions <= POSITIONS_MAX:
            return False
        return len(value.payload) * 48_000 == positions * ledger.rate * _SAMPLE_BYTES[ledger.codec]

    def _log_entry(self, value: LogEntry) -> None:
        if len(value.data) > LOG_ENTRY_BYTES_MAX:
            raise Exhausted(f"a log entry has at most {LOG_ENTRY_BYTES_MAX} bytes")
        for sealed in self._log.seal(self._position(value.tick), 0, value.data):
            self._emit(sealed)

    def _gate(self, value: GateChanged) -> None:
        self._require_open(value.track_id)
        self._note_shed(value.track_id)
        self._note("gate", value.tick, track_id=value.track_id, rule=value.rule, reason=_plain(value.reason))

    def _give_up(self, value: Frames, reason: LossReason) -> None:
        """Audio that there is no room for: one note for all of it, when the track's next word comes."""
        first_tick, _, _ = self._shed.get(value.track_id, (value.first_tick, 0, reason))
        self._shed[value.track_id] = first_tick, value.first_tick + value.ticks, reason

    def _note_shed(self, track_id: str) -> None:
        if (shed := self._shed.pop(track_id, None)) is not None:
            first_tick, end_tick, reason = shed
            self._loss(track_id, first_tick, end_tick - first_tick, reason)

    def _loss(self, track_id: str, first_tick: int, ticks: int, reason: LossReason) -> None:
        self._require_open(track_id)
        self._note("loss", first_tick, track_id=track_id, positions=ticks * POSITIONS_PER_TICK, reason=reason)

    def _close_track(self, value: TrackClosed) -> None:
        self._require_open(value.track_id)
        self._note_shed(value.track_id)
        del self._writers[value.track_id]
        self._note("track closed", value.tick, track_id=value.track_id)

    def _close(self, value: RecordingClosed) -> None:
        for track_id in tuple(self._shed):
            self._note_shed(track_id)
        self._note("closed", value.tick)

    def _require_open(self, track_id: str) -> None:
        if track_id not in self._writers:
            raise LocalError("a track was named that is not open")

    def _writer(
        self, kind: Kind, codec: Codec, role: Role, rate: int, first: int, track_id: str, participant_id: str
    ) -> SegmentWriter:
        assert kind != "rendered"
        session_id = self._entropy(SESSION_ID_BYTES)
        identity = self.staged.identity
        header = SegmentHeader(
            kind=kind,
            codec=codec,
            role=role,
            rate=rate,
            first=first,
            session_id=session_id,
            part=0,
            counter=0,
            previous=NO_HASH,
            key_id=self._key.key_id,
            identity=identity,
            track_id=track_id,
            participant_id=participant_id,
        )
        cipher = session_cipher(self._key, kind, identity, track_id, session_id)
        return SegmentWriter(header, cipher, self._settings.part_bytes_max)

    def _position(self, tick: int) -> int:
        return max(0, tick - self._first_tick) * POSITIONS_PER_TICK

    def _note(self, note: str, tick: int, **members: Json) -> None:
        body: dict[str, Json] = {"note": note, "position": self._position(tick), **members}
        self._add(Record(RecordKind.NOTED, self.staged.identity.contact_id, data=canonical(body)))

    def _emit(self, sealed: Sealed) -> None:
        self.staged.append_sealed(sealed)
        self._records.append(Record(RecordKind.APPENDED, self.staged.identity.contact_id, sealed.name, sealed.data))

    def _add(self, record: Record) -> None:
        self.staged.apply(record)
        self._records.append(record)

    def _take(self) -> list[Record]:
        records, self._records = self._records, []
        return records


def _plain(reason: str) -> str:
    """A reason that UTF-8 can carry and a manifest has room for."""
    return reason[:REASON_CHARACTERS_MAX].encode("utf-8", "replace").decode()


def _joined(ranges: Iterable[tuple[int, int]], ticks: int, without: Iterable[tuple[int, int]] = ()) -> Ranges:
    """Ranges [first, end) of ticks as canonical (first, positions) ranges: ascending, joined, within the chunk."""
    marked = {tick for first, end in ranges for tick in range(max(0, first), min(end, ticks))}
    marked -= {tick for first, end in without for tick in range(first, end)}
    joined: list[tuple[int, int]] = []
    for tick in sorted(marked):
        if joined and sum(joined[-1]) == tick:
            joined[-1] = (joined[-1][0], joined[-1][1] + 1)
        else:
            joined.append((tick, 1))
    return tuple((first * POSITIONS_PER_TICK, count * POSITIONS_PER_TICK) for first, count in joined)
