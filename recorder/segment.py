"""The segment file: a header, then chunks of ciphertext in a hash chain, in one canonical binary form.

docs/recording-format.md is the description for other implementations. All numbers are big-endian. A chunk's hash
covers header, ciphertext and tag, and its successor's header carries it; the first chunk's predecessor is the hash of
the file header; a later part's header carries the hash of the last chunk before it. So the chain verifies without a
key, and after the key was shredded.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from recorder.envelope import KEY_ID_BYTES, SESSION_ID_BYTES, TAG_BYTES, length_prefixed, seal, unseal
from recorder.errors import LocalError, RemoteError
from recorder.names import Identity, log_name, segment_name

MAGIC = b"KOPPELSG"
VERSION = 1
HASH_BYTES = 32
NO_HASH = bytes(HASH_BYTES)
POSITIONS_MAX = 24_000
"""A chunk holds at most 500 ms."""
LOG_ENTRY_BYTES_MAX = 1 << 20

SegmentKind = Literal["track", "log"]
Codec = Literal["pcmu", "pcma", "s16", "json"]
Role = Literal["agent", "other", "none"]
Ranges = tuple[tuple[int, int], ...]

_KINDS: tuple[SegmentKind, ...] = ("track", "log")
_CODECS: tuple[Codec, ...] = ("pcmu", "pcma", "s16", "json")
_ROLES: tuple[Role, ...] = ("agent", "other", "none")
_SAMPLE_BYTES = {"pcmu": 1, "pcma": 1, "s16": 2}
RATES = {"pcmu": (8_000,), "pcma": (8_000,), "s16": (8_000, 16_000, 48_000), "json": (0,)}
_FIXED = struct.Struct(f">8sHIBBBIQ{SESSION_ID_BYTES}sIQ{HASH_BYTES}s{KEY_ID_BYTES}s")
_CHUNK = struct.Struct(f">IQQIBBB{HASH_BYTES}s")
_RANGE = struct.Struct(">II")
_MARKER = 1


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """What a segment file is: ids, codec, session, and where in its session it begins."""

    kind: SegmentKind
    codec: Codec
    role: Role
    rate: int
    first: int
    """The position at which the track begins (0 for a log)."""
    session_id: bytes
    part: int
    counter: int
    """The counter of the first chunk in this part."""
    previous: bytes
    """The hash of the last chunk of the part before; zeros in part 0."""
    key_id: bytes
    identity: Identity
    track_id: str
    participant_id: str

    def __bytes__(self) -> bytes:
        ids = (self.identity.account_id, self.identity.instance_id, self.identity.contact_id)
        names = length_prefixed(*ids, self.track_id, self.participant_id)
        codes = (_KINDS.index(self.kind), _CODECS.index(self.codec), _ROLES.index(self.role))
        place = (self.rate, self.first, self.session_id, self.part, self.counter, self.previous, self.key_id)
        return _FIXED.pack(MAGIC, VERSION, _FIXED.size + len(names), *codes, *place) + names

    @property
    def name(self) -> str:
        """The object's name under the contact's directory."""
        if self.kind == "log":
            return log_name(self.session_id)
        return segment_name(self.track_id, self.session_id, self.part)

    @property
    def positions_per_byte(self) -> float:
        """How long one byte of plaintext sounds, in positions."""
        return 48_000 / self.rate / _SAMPLE_BYTES[self.codec]

    @classmethod
    def parse(cls, data: bytes) -> tuple[SegmentHeader, int]:
        """The header at the head of `data`, and its length."""
        try:
            fields: tuple[Any, ...] = _FIXED.unpack_from(data)
            magic, version, length, kind, codec, role, *place = fields
            if magic != MAGIC or version != VERSION:
                raise RemoteError(f"not a segment of format version {VERSION}")
            if not _FIXED.size <= length <= len(data):
                raise RemoteError("the header's length is wrong")
            names = _parse_names(data[_FIXED.size : length])
            rate, first, session_id, part, counter, previous, key_id = place
            identity = Identity(*names[:3])
            codes = _KINDS[int(kind)], _CODECS[int(codec)], _ROLES[int(role)]
        except RemoteError as error:
            raise RemoteError(str(error), place="header") from None
        except (struct.error, IndexError, LocalError) as error:
            raise RemoteError("not a segment header", place="header") from error
        header = cls(*codes, rate, first, session_id, part, counter, previous, key_id, identity, names[3], names[4])
        header._check()
        if bytes(header) != data[:length]:
            raise RemoteError("the header is not in canonical form", place="header")
        return header, length

    def _check(self) -> None:
        log = self.kind == "log"
        if log != (self.codec == "json") or log != (self.role == "none") or self.rate not in RATES[self.codec]:
            raise RemoteError("kind, codec, role and rate contradict each other", place="header")
        if log and (self.part or self.first or self.track_id or self.participant_id):
            raise RemoteError("a log has neither track nor parts", place="header")
        if (self.part == 0) != (self.previous == NO_HASH) or (self.part == 0 and self.counter):
            raise RemoteError("part, counter and previous hash contradict each other", place="header")


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk of ciphertext and its header, as parsed or as written."""

    counter: int
    first: int
    positions: int
    marker: bool
    """It does not follow its predecessor in time without a hole."""
    concealed: Ranges
    lost: Ranges
    """Ranges [first, first + positions) counted from the chunk's first position, as (first, positions)."""
    previous: bytes = field(repr=False)
    sealed: bytes = field(repr=False)

    @property
    def header(self) -> bytes:
        """The header's bytes, the latter half of the associated data."""
        fixed = _CHUNK.pack(
            len(self.sealed),
            self.counter,
            self.first,
            self.positions,
            _MARKER if self.marker else 0,
            len(self.concealed),
            len(self.lost),
            self.previous,
        )
        return fixed + b"".join(_RANGE.pack(*each) for each in (*self.concealed, *self.lost))

    def __bytes__(self) -> bytes:
        return self.header + self.sealed

    @property
    def hash(self) -> bytes:
        """What the successor carries."""
        return hashlib.sha256(bytes(self)).digest()

    @property
    def end(self) -> int:
        """The position after its last."""
        return self.first + self.positions

    @classmethod
    def parse(cls, data: bytes, offset: int = 0) -> tuple[Chunk, int]:
        """The chunk at `offset`, and the offset after it; RemoteError without a place where it is not one."""
        if len(data) - offset < _CHUNK.size:
            raise RemoteError("cut within a chunk header")
        length, counter, first, positions, flags, concealed, lost, previous = _CHUNK.unpack_from(data, offset)
        body = offset + _CHUNK.size + _RANGE.size * (concealed + lost)
        if len(data) - body < length:
            raise RemoteError("cut within a chunk")
        if flags not in (0, _MARKER) or length < TAG_BYTES:
            raise RemoteError("flags or length that no chunk has")
        pairs = cast("Ranges", tuple(_RANGE.iter_unpack(data[offset + _CHUNK.size : body])))
        chunk = cls(
            counter,
            first,
            positions,
            bool(flags),
            _checked(pairs[:concealed], positions),
            _checked(pairs[concealed:], positions),
            previous,
            data[body : body + length],
        )
        if positions > POSITIONS_MAX or _overlap(chunk.concealed, chunk.lost):
            raise RemoteError("positions or ranges that no chunk has")
        return chunk, body + length


@dataclass(frozen=True, slots=True)
class Sealed:
    """Bytes to append to an object, their hash, and for a chunk its description (without its ciphertext)."""

    name: str
    data: bytes = field(repr=False)
    hash: bytes = field(repr=False)
    chunk: Chunk | None


class SegmentWriter:
    """Seals the chunks of one recording session into parts of a bounded size."""

    def __init__(self, header: SegmentHeader, cipher: AESGCM, part_bytes_max: int) -> None:
        self.header = header
        self._cipher = cipher
        self._part_bytes_max = part_bytes_max
        self._counter = 0
        self._end: int = header.first
        self._part_bytes = 0
        self._hash = NO_HASH
        self._header_bytes = b""
        self._name = ""
        self._begin_part(header)

    def opening(self) -> Sealed:
        """The header of the present part, to be written before its first chunk."""
        return Sealed(self.header.name, self._header_bytes, self._hash, None)

    def seal(
        self, first: int, positions: int, plaintext: bytes, concealed: Ranges = (), lost: Ranges = ()
    ) -> list[Sealed]:
        """What is to be appended: the chunk, and before it the header of a new part if one begins."""
        written: list[Sealed] = []
        if self._part_bytes > self._part_bytes_max and self.header.kind == "track":
            part = replace(self.header, part=self.header.part + 1, counter=self._counter, previous=self._hash)
            self._begin_part(part)
            written.append(self.opening())
        marker: bool = self.header.kind == "track" and (self._counter == 0 or first != self._end)
        length = len(plaintext) + TAG_BYTES
        blank = Chunk(self._counter, first, positions, marker, concealed, lost, self._hash, bytes(length))
        chunk_header = blank.header
        data = chunk_header + seal(self._cipher, self._counter, plaintext, self._header_bytes + chunk_header)
        self._hash = hashlib.sha256(data).digest()
        self._counter += 1
        self._end = first + positions
        self._part_bytes += len(data)
        written.append(Sealed(self._name, data, self._hash, blank))
        return written

    def _begin_part(self, header: SegmentHeader) -> None:
        self.header = header
        self._name = header.name
        self._header_bytes = bytes(header)
        self._hash = hashlib.sha256(self._header_bytes).digest()
        self._part_bytes = len(self._header_bytes)


@dataclass(frozen=True, slots=True)
class PlacedChunk:
    """A chunk, and where it stands in its file."""

    chunk: Chunk
    offset: int
    hash: bytes

    @property
    def place(self) -> str:
        """For findings."""
        return f"chunk {self.chunk.counter} at byte {self.offset}"


class SegmentReader:
    """Walks one segment file, checking form, chain and counters; `head` is the hash of the last chunk so far."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.header, self._start = SegmentHeader.parse(data)
        self._header_bytes = data[: self._start]
        self.head = hashlib.sha256(self._header_bytes).digest()
        self.counter = self.header.counter

    def chunks(self) -> Iterator[PlacedChunk]:
        """Every chunk, in order; RemoteError with the place at the first that is not as written."""
        offset = self._start
        while offset < len(self._data):
            place = f"chunk {self.counter} at byte {offset}"
            try:
                chunk, end = Chunk.parse(self._data, offset)
            except RemoteError as error:
                raise RemoteError(str(error), place=place) from None
            if chunk.counter != self.counter or chunk.previous != self.head:
                raise RemoteError("not the successor of what stands before it", place=place)
            self.counter += 1
            self.head = hashlib.sha256(self._data[offset:end]).digest()
            yield PlacedChunk(chunk, offset, self.head)
            offset = end

    def open(self, placed: PlacedChunk, cipher: AESGCM) -> bytes:
        """The plaintext of a chunk; RemoteError with the place where tag or sample count do not fit."""
        chunk = placed.chunk
        try:
            plaintext = unseal(cipher, chunk.counter, chunk.sealed, self._header_bytes + chunk.header)
        except RemoteError as error:
            raise RemoteError(str(error), place=placed.place) from None
        if self.header.kind == "track" and len(plaintext) * self.header.positions_per_byte != chunk.positions:
            raise RemoteError("sample count and positions differ", place=placed.place)
        return plaintext


def _parse_names(data: bytes) -> list[str]:
    names: list[str] = []
    offset = 0
    while offset < len(data):
        length = int.from_bytes(data[offset : offset + 2], "big")
        name = data[offset + 2 : offset + 2 + length]
        if len(name) != length or not name.isascii():
            raise RemoteError("ids are cut or not ASCII")
        names.append(name.decode())
        offset += 2 + length
    if len(names) != 5:
        raise RemoteError("a header has five ids")
    return names


def _checked(ranges: Ranges, positions: int) -> Ranges:
    end = -1
    for first, count in ranges:
        # Ranges ascend, and neighbours are joined: there is one spelling.
        if first <= end or not count or first + count > positions:
            raise RemoteError("ranges are not in canonical form")
        end = first + count
    return ranges


def _overlap(one: Ranges, other: Ranges) -> bool:
    return any(a < d + e and d < a + b for a, b in one for d, e in other)
