"""Verification of a delivered contact: what is proven without a key (level 1) and with it (level 2).

Level 3, whether the gates over the log withhold exactly what the manifest says, needs to know contacts: `relay`
composes it from `Verification.log` and `VerifiedTrack.withheld_ranges`, and adds its findings with `with_replay`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from recorder.archive import ObjectReader, contact_objects, unwrap_key
from recorder.document import Json, parse_signed
from recorder.envelope import ContactKey, KeyService, session_cipher
from recorder.errors import RemoteError, Unavailable
from recorder.ledger import EXPLAINED
from recorder.manifest import Manifest, ObjectEntry, TrackEntry, link_of, parse_key_body
from recorder.names import KEY_NAME, MANIFEST_NAME, POSITIONS_PER_TICK, Identity, belongs_to, log_name, segment_name
from recorder.segment import NO_HASH, PlacedChunk, SegmentHeader, SegmentReader
from recorder.verification import Finding, LogLine, Verification, VerifiedTrack


def verify_contact(
    reader: ObjectReader, contact: str, public_key: Ed25519PublicKey, key_service: KeyService | None = None
) -> Verification:
    """Verify a contact by its id or its manifest's key: level 2 with a key service, else level 1. Never raises."""
    level = 1 if key_service is None else 2
    try:
        directory, keys = contact_objects(reader, contact)
        return _Examination(reader, directory, keys, public_key).run(level, key_service)
    except Unavailable as error:
        return Verification(level, (), unchecked=str(error))


@dataclass(slots=True)
class _Account:
    """What the chunks of a track add up to."""

    cursor: int
    stored: int = 0
    concealed: int = 0
    lost: int = 0
    chunks: int = 0
    head: bytes = NO_HASH
    runs: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    """Stored stretches [first, end), joined."""

    def add(self, placed: PlacedChunk) -> None:
        """One more chunk. Raises RemoteError where it does not stand where it must."""
        chunk = placed.chunk
        if chunk.positions == 0 or chunk.positions % POSITIONS_PER_TICK or chunk.first < self.cursor:
            raise RemoteError("its positions overlap what stands before it, or are none", place=placed.place)
        follows = bool(self.runs) and chunk.first == self.cursor
        if chunk.marker == follows:
            raise RemoteError("its marker contradicts its position", place=placed.place)
        lost = sum(count for _, count in chunk.lost)
        self.stored += chunk.positions - lost
        self.lost += lost
        self.concealed += sum(count for _, count in chunk.concealed)
        self.chunks += 1
        if follows:
            self.runs[-1] = (self.runs[-1][0], chunk.end)
        else:
            self.runs.append((chunk.first, chunk.end))
        self.cursor = chunk.end


class _Examination:
    """One contact under examination; nothing is believed before it is checked."""

    def __init__(self, reader: ObjectReader, directory: str, keys: list[str], public_key: Ed25519PublicKey) -> None:
        self._reader = reader
        self._directory = directory
        self._keys = keys
        self._public_key = public_key
        self._key: ContactKey | None = None
        self._findings: list[Finding] = []
        self._shredded = False
        self._unchecked = ""

    def run(self, level: int, key_service: KeyService | None) -> Verification:
        """Everything, in the order manifest, key, tracks, log, strangers."""
        manifest = self._manifest()
        if manifest is None:
            return Verification(level, tuple(self._findings))
        self._key_object(manifest, key_service)
        entries = {entry.name: entry for entry in manifest.objects}
        if len(entries) != len(manifest.objects):
            self._find(MANIFEST_NAME, "objects", "an object is listed twice")
        tracks = tuple(self._track(manifest, entry, entries) for entry in manifest.tracks)
        log = self._log(manifest, entries)
        self._strangers(manifest, entries)
        return Verification(
            level if self._key is not None or not self._shredded else 1,
            tuple(self._findings),
            tracks,
            manifest.ended.how,
            self._shredded,
            self._unchecked,
            manifest,
            log if self._key is not None else None,
        )

    def _manifest(self) -> Manifest | None:
        body = self._document(MANIFEST_NAME, "the manifest is missing")
        if body is None:
            return None
        try:
            manifest = Manifest.parse(body)
        except RemoteError as error:
            self._find(MANIFEST_NAME, error.place, str(error))
            return None
        if not belongs_to(self._directory, manifest.identity.contact_id):
            self._find(MANIFEST_NAME, "contact_id", "it stands where another contact's manifest belongs")
        return manifest

    def _key_object(self, manifest: Manifest, key_service: KeyService | None) -> None:
        body = self._document(KEY_NAME, "the key object is missing, and no tombstone says why")
        if body is None:
            return
        try:
            if body.get("type") == "tombstone":
                self._tombstone(body, manifest.identity)
                return
            identity, key_id, _ = parse_key_body(body)
            if (identity, key_id.hex()) != (manifest.identity, manifest.key_id):
                raise RemoteError("the key object is of another contact", place="line 1")
            if key_service is not None:
                self._key = unwrap_key(body, manifest, key_service)
        except RemoteError as error:
            self._find(KEY_NAME, error.place, str(error))
        except Unavailable as error:
            self._unchecked = f"level 2: {error}"

    def _tombstone(self, body: dict[str, Json], identity: Identity) -> None:
        link_of(body)
        if body.get("contact_id") != identity.contact_id or body.get("instance_id") != identity.instance_id:
            raise RemoteError("the tombstone is of another contact", place="line 1")
        self._shredded = True

    def _track(self, manifest: Manifest, entry: TrackEntry, entries: dict[str, ObjectEntry]) -> VerifiedTrack:
        account = _Account(entry.first)
        session_id = bytes.fromhex(entry.session_id)
        cipher = self._cipher(manifest, "track", entry.track_id, session_id)
        counter, part = 0, 0
        while part == 0 or segment_name(entry.track_id, session_id, part) in entries:
            name = segment_name(entry.track_id, session_id, part)
            previous = account.head if part else NO_HASH
            reader = self._segment(name, entries, _track_header(manifest, entry, part, counter, previous))
            if reader is None:
                break
            for placed, _ in self._chunks(name, reader, cipher):
                self._account(name, account, placed)
            account.head, counter, part = reader.head, reader.counter, part + 1
        self._reconcile(manifest, entry, account)
        return VerifiedTrack(
            entry.track_id,
            entry.participant_id,
            entry.first,
            entry.expected,
            account.stored,
            account.concealed,
            account.lost + _lost(entry),
            _withheld(entry),
            entry.gaps,
        )

    def _account(self, name: str, account: _Account, placed: PlacedChunk) -> None:
        try:
            account.add(placed)
        except RemoteError as error:
            self._find(name, error.place, str(error))

    def _reconcile(self, manifest: Manifest, entry: TrackEntry, account: _Account) -> None:
        """Hold what the chunks add up to against what the manifest says."""
        place = f"track {entry.track_id}"
        for finding in _holes(entry, account):
            self._find(MANIFEST_NAME, place, finding)
        for gap in entry.gaps:
            if gap.rule is None and gap.reason not in EXPLAINED:
                self._find(
                    MANIFEST_NAME, f"{place}, position {gap.first}", "positions are missing, and nothing says why"
                )
        if entry.end > manifest.ended.position:
            self._find(MANIFEST_NAME, place, "it goes on after the contact's end")
        said = (entry.stored, entry.concealed, entry.lost, dict(entry.withheld), entry.chunks, entry.head)
        lost = account.lost + _lost(entry)
        found = (account.stored, account.concealed, lost, _withheld(entry), account.chunks, account.head.hex())
        names = ("stored", "concealed", "lost", "withheld", "chunks", "head")
        for what, one, other in zip(names, said, found, strict=True):
            if one != other:
                self._find(MANIFEST_NAME, f"{place}, {what}", f"the manifest says {one}, the chunks say {other}")

    def _log(self, manifest: Manifest, entries: dict[str, ObjectEntry]) -> tuple[LogLine, ...]:
        summary = manifest.log
        session_id = bytes.fromhex(summary.session_id)
        name = log_name(session_id)
        reader = self._segment(name, entries, _log_header(manifest))
        if reader is None:
            return ()
        lines: list[LogLine] = []
        position = count = 0
        for placed, plaintext in self._chunks(name, reader, self._cipher(manifest, "log", "", session_id)):
            chunk = placed.chunk
            if chunk.positions or chunk.marker or not position <= chunk.first <= manifest.ended.position:
                self._find(name, placed.place, "its position goes back, or beyond the end")
            position = max(position, chunk.first)
            count += 1
            if plaintext is not None:
                lines.append(LogLine(chunk.first, plaintext))
        if (count, reader.head.hex()) != (summary.entries, summary.head):
            self._find(name, f"after entry {count}", f"the manifest says that {summary.entries} entries end otherwise")
        return tuple(lines)

    def _segment(self, name: str, entries: dict[str, ObjectEntry], expected: SegmentHeader) -> SegmentReader | None:
        """One object, held against the manifest's hash and the header that it must have."""
        data = self._object(name, entries.get(name))
        if data is None:
            return None
        try:
            reader = SegmentReader(data)
        except RemoteError as error:
            self._find(name, error.place, str(error))
            return None
        if reader.header != expected:
            self._find(name, "header", "it is not the header that belongs here by the manifest")
        return reader

    def _chunks(
        self, name: str, reader: SegmentReader, cipher: AESGCM | None
    ) -> Iterator[tuple[PlacedChunk, bytes | None]]:
        """Chunks as far as the chain holds, each opened where there is a key."""
        chunks = reader.chunks()
        while True:
            plaintext = None
            try:
                placed = next(chunks)
            except StopIteration:
                return
            except RemoteError as error:
                self._find(name, error.place, str(error))
                return
            if cipher is not None:
                try:
                    plaintext = reader.open(placed, cipher)
                except RemoteError as error:
                    self._find(name, error.place, str(error))
            yield placed, plaintext

    def _object(self, name: str, entry: ObjectEntry | None) -> bytes | None:
        if entry is None:
            self._find(MANIFEST_NAME, "objects", f"{name} is not listed")
            return None
        if self._directory + name not in self._keys:
            self._find(name, "", "the object is missing")
            return None
        data = self._reader.read(self._directory + name)
        if len(data) != entry.size:
            self._find(name, f"byte {min(len(data), entry.size)}", f"{len(data)} bytes instead of {entry.size}")
        elif hashlib.sha256(data).hexdigest() != entry.sha256:
            self._find(name, "whole object", "its hash is not the one in the manifest")
        return data

    def _strangers(self, manifest: Manifest, entries: dict[str, ObjectEntry]) -> None:
        """Objects that nothing accounts for: under the contact's id, or in the manifest without a track."""
        for key in self._keys:
            name = key.removeprefix(self._directory)
            if name not in entries and name not in (KEY_NAME, MANIFEST_NAME):
                self._findings.append(Finding(key, "", "an object that the manifest does not name"))
        examined = {log_name(bytes.fromhex(manifest.log.session_id))}
        for track in manifest.tracks:
            first = segment_name(track.track_id, bytes.fromhex(track.session_id), 0)
            part = 0
            while (name := f"{first}.{part}" if part else first) in entries:
                examined.add(name)
                part += 1
        for name in entries.keys() - examined:
            self._find(MANIFEST_NAME, "objects", f"{name} belongs to no track")

    def _document(self, name: str, missing: str) -> dict[str, Json] | None:
        if self._directory + name not in self._keys:
            self._find(name, "", missing)
            return None
        try:
            return parse_signed(self._reader.read(self._directory + name), self._public_key)
        except RemoteError as error:
            self._find(name, error.place, str(error))
            return None

    def _cipher(
        self, manifest: Manifest, kind: Literal["track", "log"], track_id: str, session_id: bytes
    ) -> AESGCM | None:
        if self._key is None:
            return None
        return session_cipher(self._key, kind, manifest.identity, track_id, session_id)

    def _find(self, name: str, place: str, what: str) -> None:
        self._findings.append(Finding(self._directory + name, place, what))


def _track_header(manifest: Manifest, entry: TrackEntry, part: int, counter: int, previous: bytes) -> SegmentHeader:
    return SegmentHeader(
        kind="track",
        codec=entry.codec,
        role=entry.role,
        rate=entry.rate,
        first=entry.first,
        session_id=bytes.fromhex(entry.session_id),
        part=part,
        counter=counter,
        previous=previous,
        key_id=bytes.fromhex(manifest.key_id),
        identity=manifest.identity,
        track_id=entry.track_id,
        participant_id=entry.participant_id,
    )


def _log_header(manifest: Manifest) -> SegmentHeader:
    return SegmentHeader(
        kind="log",
        codec="json",
        role="none",
        rate=0,
        first=0,
        session_id=bytes.fromhex(manifest.log.session_id),
        part=0,
        counter=0,
        previous=NO_HASH,
        key_id=bytes.fromhex(manifest.key_id),
        identity=manifest.identity,
        track_id="",
        participant_id="",
    )


def _holes(entry: TrackEntry, account: _Account) -> Iterator[str]:
    """Whether stored runs and gaps together are the track's timeline, each position once."""
    stretches = [*account.runs, *((gap.first, gap.end) for gap in entry.gaps)]
    position = entry.first
    for first, end in sorted(stretches):
        if first > position:
            yield f"nothing accounts for positions {position} to {first}"
        elif first < position or end == first:
            yield f"positions from {first} on are accounted for twice, or not at all"
        position = max(position, end)
    if position != entry.end:
        yield f"the account ends at position {position} instead of {entry.end}"


def _lost(entry: TrackEntry) -> int:
    return sum(gap.positions for gap in entry.gaps if gap.rule is None)


def _withheld(entry: TrackEntry) -> dict[str, int]:
    sums: dict[str, int] = {}
    for gap in entry.gaps:
        if gap.rule is not None:
            sums[gap.rule] = sums.get(gap.rule, 0) + gap.positions
    return sums
