"""All recordings in progress and the chain of their manifests: captured values in, journal records out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from recorder.capture import Captured, RecordingOpened
from recorder.document import Json, Signer, canonical, document_hash, parse_canonical, parse_unchecked, signed
from recorder.envelope import ContactKey, WrappedKey
from recorder.errors import Exhausted, LocalError, RecorderError
from recorder.journal import Record, RecordKind
from recorder.ledger import LossReason
from recorder.manifest import (
    NO_PREDECESSOR,
    Ending,
    How,
    Link,
    LogSummary,
    LossBound,
    Manifest,
    ObjectEntry,
    TrackEntry,
    key_body,
    link_of,
)
from recorder.names import KEY_NAME, MANIFEST_NAME, Identity, directory, wall_text
from recorder.recording import Recording
from recorder.settings import TICK_MS, RecorderSettings
from recorder.staged import StagedRecording

CHAIN_ID_BYTES = 16
_TAIL_REASONS: dict[How, LossReason] = {
    "closed": "missing",
    "found open after a crash": "crash",
    "stopped": "stopped",
}
"""Why open positions at the end of a track are not there."""


@dataclass(frozen=True, slots=True)
class FinishedRecording:
    """A recording whose manifest is signed: what is to be delivered, in this order, the manifest last."""

    contact_id: str
    directory: str
    objects: tuple[ObjectEntry, ...]

    @property
    def manifest_key(self) -> str:
        """The object key of the manifest."""
        return self.directory + MANIFEST_NAME


class Recordings:
    """The state of every staged contact, the live ones among them, and the head of the manifest chain."""

    def __init__(self, settings: RecorderSettings, signer: Signer, entropy: Callable[[int], bytes]) -> None:
        self.staged: dict[str, StagedRecording] = {}
        self.refused_frames = 0
        self.refused_values = 0
        self._live: dict[str, Recording] = {}
        self._settings = settings
        self._signer = signer
        self._entropy = entropy
        self._next = Link(entropy(CHAIN_ID_BYTES).hex(), 0, NO_PREDECESSOR)
        self._restored_head = False

    @property
    def live(self) -> frozenset[str]:
        """Contacts that are being recorded now."""
        return frozenset(self._live)

    def restore(self, record: Record) -> None:
        """Fold in a record that a journal held."""
        if record.kind is RecordKind.HEAD:
            self._advance(_parse_head(record.data))
        elif record.kind is RecordKind.OPENED:
            self.staged.setdefault(record.contact_id, StagedRecording.opened(record))
        elif record.kind is RecordKind.DELIVERED:
            self.staged.pop(record.contact_id, None)
        elif (staged := self.staged.get(record.contact_id)) is not None:
            staged.apply(record)
            if record.kind is RecordKind.APPENDED and record.name == MANIFEST_NAME:
                self._advance(_after(record.data))

    def head_record(self) -> Record:
        """The head of the manifest chain, as every journal file begins with it."""
        link = self._next
        body: dict[str, Json] = {"chain_id": link.chain_id, "sequence": link.sequence, "previous": link.previous}
        return Record(RecordKind.HEAD, data=canonical(body))

    def open(self, opened: RecordingOpened, key: ContactKey, wrapped: WrappedKey) -> list[Record]:
        """Begin a contact's recording. Raises LocalError, Exhausted."""
        if opened.contact_id in self.staged:
            raise LocalError("this contact is staged already: a contact has one recording")
        if len(self.staged) >= self._settings.contacts_max:
            raise Exhausted(f"at most {self._settings.contacts_max} contacts are staged at once")
        identity = Identity(self._settings.account_id, self._settings.instance_id, opened.contact_id)
        staged = StagedRecording(
            identity,
            directory(self._settings.object_key_template, identity, opened.wall),
            wall_text(opened.wall),
            key.key_id.hex(),
        )
        document = signed(key_body(identity, key.key_id, wrapped), self._signer)
        recording = Recording(opened, staged, key, document, settings=self._settings, entropy=self._entropy)
        self._live[opened.contact_id] = recording
        self.staged[opened.contact_id] = staged
        return recording.opening

    def receive(self, value: Captured, *, shed: LossReason | None = None) -> list[Record]:
        """Records of any value but RecordingOpened; what nobody records is counted. Raises LocalError, Exhausted."""
        recording = self._live.get(value.contact_id)
        if recording is None or recording.staged.closed:
            self.refused_values += 1
            return []
        refused = recording.refused
        try:
            return recording.receive(value, shed=shed)
        except RecorderError:
            self.refused_values += 1
            raise
        finally:
            self.refused_frames += recording.refused - refused

    def measured(self, contact_id: str, durable_ms: int) -> None:
        """A commit made a chunk of this contact durable this long after its last tick."""
        if (staged := self.staged.get(contact_id)) is not None:
            staged.durable_ms_max = max(durable_ms, staged.durable_ms_max or 0)

    def closed(self) -> list[str]:
        """Contacts that ended, and whose manifest is to be made now that their records are durable."""
        return [contact_id for contact_id, each in self._live.items() if each.staged.closed]

    def unfinished(self) -> list[str]:
        """Contacts without a manifest, in the order of their beginning: after a start, what a crash left open."""
        return [contact_id for contact_id, each in self.staged.items() if not each.finished]

    def unbegun(self) -> list[str]:
        """After a start, contacts of which a crash left less than a beginning: there is nothing to deliver."""
        return [contact_id for contact_id, each in self.staged.items() if not each.begun]

    def finish(self, contact_id: str, how: How) -> list[Record]:
        """Make a contact's manifest, the next of the chain."""
        staged = self.staged[contact_id]
        self._live.pop(contact_id, None)
        staged.end_tracks(_TAIL_REASONS[how])
        document = signed(self._manifest(staged, how).body(), self._signer)
        record = Record(RecordKind.APPENDED, contact_id, MANIFEST_NAME, document)
        staged.apply(record)
        self._advance(_after(document))
        return [record, self.head_record()]

    def finished(self, contact_id: str) -> FinishedRecording:
        """What is to be delivered of a contact with a manifest."""
        staged = self.staged[contact_id]
        entries = tuple(
            ObjectEntry(name, staged.objects[name].sha256, staged.objects[name].size)
            for name in sorted(staged.objects, key=_delivery_order)
        )
        return FinishedRecording(contact_id, staged.directory, entries)

    def delivered(self, contact_id: str) -> list[Record]:
        """Note that a contact was delivered, or that nothing of it can be, and forget it."""
        del self.staged[contact_id]
        return [Record(RecordKind.DELIVERED, contact_id)]

    def _manifest(self, staged: StagedRecording, how: How) -> Manifest:
        objects = (ObjectEntry(name, each.sha256, each.size) for name, each in sorted(staged.objects.items()))
        settings = self._settings
        return Manifest(
            identity=staged.identity,
            wall=staged.wall,
            key_id=staged.key_id,
            # The key object is mutable (rotation re-wraps it): it is signed by itself and named by its id.
            objects=tuple(each for each in objects if each.name not in (KEY_NAME, MANIFEST_NAME)),
            tracks=tuple(TrackEntry.of(ledger) for ledger in staged.tracks),
            log=LogSummary(staged.log_session_id, staged.log_entries, staged.log_head.hex()),
            ended=Ending(how, staged.position),
            loss_bound=LossBound(
                round(settings.loss_bound_s * 1000), settings.chunk_ticks * TICK_MS, staged.durable_ms_max
            ),
            link=self._next,
        )

    def _advance(self, link: Link) -> None:
        # A rewritten journal file may begin with an older head than the file that it replaces.
        if not self._restored_head or link.sequence > self._next.sequence:
            self._next = link
            self._restored_head = True


def _after(document: bytes) -> Link:
    link = link_of(parse_unchecked(document))
    return Link(link.chain_id, link.sequence + 1, document_hash(document))


def _parse_head(data: bytes) -> Link:
    return link_of(cast("dict[str, Any]", parse_canonical(data)))


def _delivery_order(name: str) -> tuple[int, str]:
    if name == KEY_NAME:
        return 0, name
    if name == MANIFEST_NAME:
        return 3, name
    return (1, name) if name.startswith("track-") else (2, name)
