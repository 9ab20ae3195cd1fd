"""The records of the stage's journal: one frame each, numbered, checked by CRC-32, parsed up to a torn tail.

A record says what happened to one contact: its recording was opened, bytes were appended to one of its objects, its
ledger goes on, it was delivered. All audio in it is ciphertext already. Frame: magic (2) ‖ length of the rest (4) ‖
CRC-32 of the rest (4) ‖ number (8) ‖ kind (1) ‖ contact id and object name, each length-prefixed (2) ‖ data.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum

MAGIC = b"KJ"
_HEAD = struct.Struct(">2sII")
_BODY = struct.Struct(">QB")
RECORD_BYTES_MAX = 32 << 20
UNNUMBERED = 0


class RecordKind(IntEnum):
    """What a record says."""

    HEAD = 1
    """The head of the manifest chain; stands first in every file, so that older files can be freed."""
    OPENED = 2
    """A contact's recording begins."""
    APPENDED = 3
    """Bytes of one of a contact's objects."""
    NOTED = 4
    """The ledger goes on: track, gate, loss, end."""
    DELIVERED = 5
    """All objects of the contact were stored and read back: nothing of it is needed here any more."""


@dataclass(frozen=True, slots=True)
class Record:
    """One entry of the journal, not yet numbered."""

    kind: RecordKind
    contact_id: str = ""
    name: str = ""
    data: bytes = field(default=b"", repr=False)

    def encode(self, number: int) -> bytes:
        """The frame of this record."""
        contact_id, name = self.contact_id.encode(), self.name.encode()
        body = b"".join(
            (
                _BODY.pack(number, self.kind),
                len(contact_id).to_bytes(2, "big"),
                contact_id,
                len(name).to_bytes(2, "big"),
                name,
                self.data,
            )
        )
        return _HEAD.pack(MAGIC, len(body), zlib.crc32(body)) + body


@dataclass(frozen=True, slots=True)
class FramedRecord:
    """A record as it stands in a file."""

    record: Record
    number: int
    data_offset: int
    """Where its data begins in the file."""
    end: int


def parse_records(data: bytes) -> Iterator[FramedRecord]:
    """Every whole record from the head of a file; ends silently at the first that is torn or damaged."""
    offset = 0
    while (framed := _parse_record(data, offset)) is not None:
        yield framed
        offset = framed.end


def resumes_after(data: bytes, offset: int) -> bool:
    """Whether a whole record stands behind a damaged one: then it was not a torn tail, and the file must be kept."""
    while (offset := data.find(MAGIC, offset + 1)) >= 0:
        if _parse_record(data, offset) is not None:
            return True
    return False


def _parse_record(data: bytes, offset: int) -> FramedRecord | None:
    start = offset + _HEAD.size
    if len(data) < start:
        return None
    magic, length, checksum = _HEAD.unpack_from(data, offset)
    end = start + length
    if magic != MAGIC or not _BODY.size + 4 <= length <= RECORD_BYTES_MAX or end > len(data):
        return None
    if zlib.crc32(memoryview(data)[start:end]) != checksum:
        return None
    number, kind = _BODY.unpack_from(data, start)
    contact_id, at = _parse_text(data, start + _BODY.size)
    name, at = _parse_text(data, at)
    if not RecordKind.HEAD <= kind <= RecordKind.DELIVERED or at > end:
        return None
    return FramedRecord(Record(RecordKind(kind), contact_id, name, data[at:end]), number, at, end)


def _parse_text(data: bytes, offset: int) -> tuple[str, int]:
    end = offset + 2 + int.from_bytes(data[offset : offset + 2], "big")
    return data[offset + 2 : end].decode("utf-8", "replace"), end
