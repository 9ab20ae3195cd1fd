"""The stage: one append-only journal a relay, written in groups with one sync each, freed after delivery.

A group is written whole or again: until it is durable it stays in memory, and after any error the next attempt goes to
a new file, since what a failed fdatasync left behind is unknown. Records carry numbers, so that a group that stands in
two files counts once. Files are freed oldest first: a contact's last record never goes before its first.
"""

from __future__ import annotations

import contextlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

from recorder.disk import Disk
from recorder.errors import RemoteError
from recorder.journal import UNNUMBERED, FramedRecord, Record, RecordKind, parse_records, resumes_after

_PREFIX = "journal-"


@dataclass(slots=True)
class Recovery:
    """What a start found."""

    files: int = 0
    records: int = 0
    torn_bytes: int = 0
    damaged_files: list[str] = field(default_factory=list[str])


class Stage:
    """The journal of one relay. One thread writes; `read` is called from others, for contacts that have ended."""

    def __init__(self, disk: Disk, file_bytes_max: int) -> None:
        self.recovery = Recovery()
        self.pending_bytes = 0
        self.files_abandoned = 0
        self._disk = disk
        self._file_bytes_max = file_bytes_max
        self._head = b""
        self._number = UNNUMBERED
        self._pending: list[tuple[Record, int]] = []
        self._files: dict[int, set[str]] = {}
        self._current: int | None = None
        self._current_size = 0
        self._next_file = 1
        self._extents: dict[str, dict[str, array[int]]] = {}

    def recover(self) -> Iterator[Record]:
        """Every record of the files that are there, once, in order; to be walked to its end before anything else."""
        for file in sorted(self._file_numbers()):
            self._next_file = file + 1
            yield from self._recover_file(file)

    def begin(self, head: Record) -> None:
        """Say what the first new file begins with."""
        self._head = head.data

    def add(self, records: list[Record]) -> None:
        """Put records into the next group."""
        for record in records:
            self._number += 1
            self._pending.append((record, self._number))
            self.pending_bytes += len(record.data)

    def commit(self) -> bool:
        """Write and sync the group; False if there was none. Raises OSError, and then keeps the group for later."""
        if not self._pending:
            return False
        try:
            self._rotate()
            current = self._current
            assert current is not None
            frames = [record.encode(number) for record, number in self._pending]
            self._disk.append(_name(current), b"".join(frames))
            self._disk.sync(_name(current))
        except OSError:
            self._abandon()
            raise
        self._index(current, frames)
        return True

    def read(self, contact_id: str, name: str) -> bytes:
        """The whole of an object, cut from the journal."""
        extents = tuple(self._extents.get(contact_id, {}).get(name, ()))
        parts: list[bytes] = []
        for file, offset, length in zip(extents[::3], extents[1::3], extents[2::3], strict=True):
            part = self._disk.read(_name(file), offset, length)
            if len(part) != length:
                raise RemoteError("the journal is shorter than it was", place=_name(file))
            parts.append(part)
        return b"".join(parts)

    def free(self, contact_id: str) -> None:
        """A contact was delivered: forget it, and free the oldest files as far as nothing else needs them.

        Safe before the record that says so is durable: without its beginning a contact's later records mean nothing.
        The newest file stays, since it holds the head of the manifest chain.
        """
        self._forget(contact_id)
        for file in sorted(self._files)[:-1]:
            if self._files[file] or file == self._current:
                break
            if _name(file) in self.recovery.damaged_files:
                self._disk.rename(_name(file), f"damaged-{file:010d}")
            else:
                self._disk.remove(_name(file))
            del self._files[file]

    @property
    def file_count(self) -> int:
        """Journal files that hold something undelivered, and the current one."""
        return len(self._files)

    def close(self) -> None:
        """Let the disk go; what is pending is lost."""
        self._disk.close()

    def _rotate(self) -> None:
        """Make sure there is a current file with room; it begins with the durable head of the manifest chain."""
        if self._current is not None and self._current_size < self._file_bytes_max:
            return
        file = self._next_file
        self._next_file += 1
        self._disk.create(_name(file))
        head = Record(RecordKind.HEAD, data=self._head).encode(UNNUMBERED)
        self._files[file] = set()
        self._current, self._current_size = file, len(head)
        self._disk.append(_name(file), head)

    def _abandon(self) -> None:
        """Never write to a file again after an error; without durable records it is not needed at all."""
        file, self._current = self._current, None
        if file is None:
            return
        self.files_abandoned += 1
        if not self._files[file]:
            del self._files[file]
            with contextlib.suppress(OSError):
                self._disk.remove(_name(file))

    def _forget(self, contact_id: str) -> None:
        self._extents.pop(contact_id, None)
        for contact_ids in self._files.values():
            contact_ids.discard(contact_id)

    def _index(self, file: int, frames: list[bytes]) -> None:
        for (record, _), frame in zip(self._pending, frames, strict=True):
            self._current_size += len(frame)
            self._place(record, file, self._current_size - len(record.data))
        self._pending.clear()
        self.pending_bytes = 0

    def _place(self, record: Record, file: int, offset: int) -> None:
        if record.kind is RecordKind.HEAD:
            self._head = record.data
        elif record.kind is not RecordKind.DELIVERED:
            self._files[file].add(record.contact_id)
        if record.kind is RecordKind.APPENDED:
            names = self._extents.setdefault(record.contact_id, {})
            names.setdefault(record.name, array("Q")).extend((file, offset, len(record.data)))

    def _recover_file(self, file: int) -> Iterator[Record]:
        data = self._disk.read(_name(file), 0, self._disk.size(_name(file)))
        self._files[file] = set()
        self.recovery.files += 1
        end = 0
        for framed in parse_records(data):
            end = framed.end
            if self._is_new(framed):
                self.recovery.records += 1
                self._place(framed.record, file, framed.data_offset)
                if framed.record.kind is RecordKind.DELIVERED:
                    self._forget(framed.record.contact_id)
                yield framed.record
        self.recovery.torn_bytes += len(data) - end
        if resumes_after(data, end):
            self.recovery.damaged_files.append(_name(file))

    def _is_new(self, framed: FramedRecord) -> bool:
        if framed.number == UNNUMBERED:
            return True
        new = framed.number > self._number
        self._number = max(self._number, framed.number)
        return new

    def _file_numbers(self) -> list[int]:
        names = (name.removeprefix(_PREFIX) for name in self._disk.names() if name.startswith(_PREFIX))
        return [int(name) for name in names if name.isdecimal()]


def _name(file: int) -> str:
    return f"{_PREFIX}{file:010d}"
