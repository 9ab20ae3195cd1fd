"""What the journal says about one contact: a fold over its records, the same live and after a crash."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, cast

from recorder.document import canonical, parse_canonical
from recorder.journal import Record, RecordKind
from recorder.ledger import LossReason, TrackLedger
from recorder.names import MANIFEST_NAME, Identity, is_log, is_segment
from recorder.segment import Chunk, Sealed, SegmentHeader


class StagedObject:
    """An object of a contact as far as it was appended."""

    __slots__ = ("_digest", "size")

    def __init__(self) -> None:
        self.size = 0
        self._digest = hashlib.sha256()

    def append(self, data: bytes) -> None:
        """More of it."""
        self.size += len(data)
        self._digest.update(data)

    @property
    def sha256(self) -> str:
        """Of all of it so far, in hexadecimal."""
        return self._digest.hexdigest()


@dataclass(slots=True)
class StagedRecording:
    """A contact's recording as its records tell it."""

    identity: Identity
    directory: str
    """What stands before the names of its objects in the store."""
    wall: str
    key_id: str
    objects: dict[str, StagedObject] = field(default_factory=dict[str, StagedObject])
    tracks: list[TrackLedger] = field(default_factory=list[TrackLedger])
    open_tracks: dict[str, TrackLedger] = field(default_factory=dict[str, TrackLedger])
    log_session_id: str = ""
    log_entries: int = 0
    log_head: bytes = b""
    position: int = 0
    """The last position that the records know of."""
    closed: bool = False
    durable_ms_max: int | None = None
    """Measured by the process that recorded it; unknown after a crash."""
    _ledgers: dict[str, TrackLedger] = field(default_factory=dict[str, TrackLedger])

    @classmethod
    def opened(cls, record: Record) -> StagedRecording:
        """From the record that begins every recording."""
        body = cast("dict[str, str]", parse_canonical(record.data))
        identity = Identity(body["account_id"], body["instance_id"], record.contact_id)
        return cls(identity, body["directory"], body["wall"], body["key_id"])

    @property
    def opening(self) -> Record:
        """The record that begins this recording."""
        body = {
            "account_id": self.identity.account_id,
            "instance_id": self.identity.instance_id,
            "directory": self.directory,
            "wall": self.wall,
            "key_id": self.key_id,
        }
        return Record(RecordKind.OPENED, self.identity.contact_id, data=canonical(body))

    @property
    def finished(self) -> bool:
        """Whether its manifest was made."""
        return MANIFEST_NAME in self.objects

    @property
    def begun(self) -> bool:
        """Whether there is a log, with which every recording begins: a crash in the first write may leave less."""
        return bool(self.log_session_id)

    def apply(self, record: Record) -> None:
        """Fold one record in."""
        if record.kind is RecordKind.APPENDED:
            self.append(record.name, record.data)
        elif record.kind is RecordKind.NOTED:
            self._note(cast("dict[str, Any]", parse_canonical(record.data)))

    def end_tracks(self, reason: LossReason) -> None:
        """Close what is open at the last known position; of a track that was only announced a crash left nothing."""
        for ledger in self.open_tracks.values():
            ledger.close(self.position, reason)
        self.open_tracks.clear()
        self.tracks = [ledger for ledger in self.tracks if ledger.head]

    def append(self, name: str, data: bytes) -> None:
        """Bytes of an object, as the journal has them."""
        if not is_segment(name) and not is_log(name):
            self._grow(name, data)
            return
        chunk = Chunk.parse(data)[0] if name in self.objects else None
        self.append_sealed(Sealed(name, data, hashlib.sha256(data).digest(), chunk))

    def append_sealed(self, sealed: Sealed) -> None:
        """Bytes of a segment or a log: the header of a file, or a chunk."""
        self._grow(sealed.name, sealed.data)
        if sealed.chunk is None:
            self._begin_file(sealed)
            return
        chunk = sealed.chunk
        if (ledger := self._ledgers.get(sealed.name)) is None:
            self.log_entries += 1
            self.log_head = sealed.hash
        else:
            ledger.chunk(chunk.first, chunk.positions, chunk.concealed, chunk.lost, sealed.hash)
        self._reach(chunk.end)

    def _begin_file(self, sealed: Sealed) -> None:
        session_id = SegmentHeader.parse(sealed.data)[0].session_id
        if is_log(sealed.name):
            self.log_session_id, self.log_head = session_id.hex(), sealed.hash
            return
        ledger = next(each for each in self.tracks if each.session_id == session_id)
        ledger.head = sealed.hash
        self._ledgers[sealed.name] = ledger

    def _grow(self, name: str, data: bytes) -> None:
        if (staged := self.objects.get(name)) is None:
            staged = self.objects[name] = StagedObject()
        staged.append(data)

    def _note(self, note: dict[str, Any]) -> None:
        position = int(note["position"])
        match note["note"]:
            case "track":
                self._open_track(note, position)
            case "gate":
                self.open_tracks[note["track_id"]].gate(position, note["rule"], note["reason"])
            case "loss":
                self.open_tracks[note["track_id"]].drop(position, note["positions"], note["reason"])
                position += note["positions"]
            case "track closed":
                self.open_tracks.pop(note["track_id"]).close(position)
            case _:
                for ledger in self.open_tracks.values():
                    ledger.close(position)
                self.open_tracks.clear()
                self.closed = True
        self._reach(position)

    def _open_track(self, note: dict[str, Any], position: int) -> None:
        ledger = TrackLedger(
            track_id=note["track_id"],
            participant_id=note["participant_id"],
            role=note["role"],
            codec=note["codec"],
            rate=note["rate"],
            session_id=bytes.fromhex(note["session_id"]),
            first=position,
            rule=note["rule"],
            reason=note["reason"],
        )
        self.tracks.append(ledger)
        self.open_tracks[ledger.track_id] = ledger

    def _reach(self, position: int) -> None:
        self.position = max(self.position, position)
