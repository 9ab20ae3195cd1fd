"""The bodies of the signed documents of a contact: manifest and key object.

`Manifest.body` writes and `Manifest.parse` reads; whatever `parse` accepts, `body` writes again exactly, so an unknown
or missing member is refused.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

from recorder.document import Json
from recorder.envelope import WrappedKey
from recorder.errors import LocalError, RemoteError
from recorder.ledger import Gap, TrackLedger
from recorder.names import POSITIONS_PER_SECOND, Identity
from recorder.segment import Codec, Role

FORMAT = 1
NO_PREDECESSOR = "0" * 64
How = Literal["closed", "found open after a crash", "stopped"]
HOWS: tuple[How, ...] = ("closed", "found open after a crash", "stopped")


@dataclass(frozen=True, slots=True)
class Link:
    """A document's place in its signer's chain."""

    chain_id: str
    sequence: int
    previous: str


@dataclass(frozen=True, slots=True)
class ObjectEntry:
    """An object of the contact as it was written."""

    name: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class TrackEntry:
    """The account of one track in one recording session; counts in 48 kHz positions."""

    track_id: str
    session_id: str
    participant_id: str
    role: Role
    codec: Codec
    rate: int
    first: int
    expected: int
    stored: int
    concealed: int
    lost: int
    withheld: Mapping[str, int]
    chunks: int
    head: str
    gaps: tuple[Gap, ...]

    @property
    def end(self) -> int:
        """The position after the track's last."""
        return self.first + self.expected

    @classmethod
    def of(cls, ledger: TrackLedger) -> TrackEntry:
        """A ledger, closed."""
        return cls(
            ledger.track_id,
            ledger.session_id.hex(),
            ledger.participant_id,
            ledger.role,
            ledger.codec,
            ledger.rate,
            ledger.first,
            ledger.expected,
            ledger.stored,
            ledger.concealed,
            ledger.lost,
            ledger.withheld,
            ledger.chunks,
            ledger.head.hex(),
            tuple(ledger.gaps),
        )


@dataclass(frozen=True, slots=True)
class LogSummary:
    """The sealed log of the contact."""

    session_id: str
    entries: int
    head: str


@dataclass(frozen=True, slots=True)
class Ending:
    """How the recording ended. After a crash the end is the last durable position, and the time of the kill unknown."""

    how: How
    position: int


@dataclass(frozen=True, slots=True)
class LossBound:
    """What a kill could have cost, in milliseconds; None: not measured, because the process that knew was killed."""

    limit_ms: int
    chunk_ms: int
    durable_ms_max: int | None
    """The longest that a chunk of this contact took from its last tick to durable storage."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything that a contact's recording consists of, and why anything is not there."""

    identity: Identity
    wall: str
    """UTC at position 0."""
    key_id: str
    objects: tuple[ObjectEntry, ...]
    tracks: tuple[TrackEntry, ...]
    log: LogSummary
    ended: Ending
    loss_bound: LossBound
    link: Link

    def body(self) -> dict[str, Json]:
        """What is signed."""
        values = cast("dict[str, Json]", asdict(self))
        link = cast("dict[str, Json]", values.pop("link"))
        identity = cast("dict[str, Json]", values.pop("identity"))
        head: dict[str, Json] = {
            "type": "manifest",
            "format": FORMAT,
            "positions_per_second": POSITIONS_PER_SECOND,
        }
        return {**head, **identity, **values, **link}

    @classmethod
    def parse(cls, body: Mapping[str, Json]) -> Manifest:
        """Read a signed body; RemoteError where `body()` would not have written it."""
        try:
            parsed = _parse_manifest(cast("Mapping[str, Any]", body))
            exact = _lists(parsed.body()) == body
        except (KeyError, TypeError, ValueError, AttributeError, LocalError) as error:
            raise RemoteError(f"not a manifest of format {FORMAT}: {error!r}", place="line 1") from None
        if not exact:
            raise RemoteError(f"not a manifest of format {FORMAT}", place="line 1")
        return parsed


def key_body(identity: Identity, key_id: bytes, wrapped: WrappedKey, version: int = 1) -> dict[str, Json]:
    """The body of a contact's key object."""
    return {
        "type": "key",
        "format": FORMAT,
        "account_id": identity.account_id,
        "instance_id": identity.instance_id,
        "contact_id": identity.contact_id,
        "key_id": key_id.hex(),
        "service": wrapped.service,
        "wrapping_key_id": wrapped.wrapping_key_id,
        "wrapped_key": base64.b64encode(wrapped.data).decode(),
        "version": version,
    }


def parse_key_body(body: Mapping[str, Json]) -> tuple[Identity, bytes, WrappedKey]:
    """Whose key it is, its id, and the wrapped key; RemoteError where `key_body` would not have written it."""
    try:
        fields = cast("Mapping[str, Any]", body)
        identity = Identity(fields["account_id"], fields["instance_id"], fields["contact_id"])
        key_id = bytes.fromhex(fields["key_id"])
        wrapped_key = base64.b64decode(fields["wrapped_key"], validate=True)
        wrapped = WrappedKey(_text(fields["service"]), _text(fields["wrapping_key_id"]), wrapped_key)
        exact = key_body(identity, key_id, wrapped, _count(fields["version"])) == body
    except (KeyError, TypeError, ValueError, binascii.Error, LocalError) as error:
        raise RemoteError(f"not a key object of format {FORMAT}: {error!r}", place="line 1") from None
    if not exact:
        raise RemoteError(f"not a key object of format {FORMAT}", place="line 1")
    return identity, key_id, wrapped


def link_of(body: Mapping[str, Json]) -> Link:
    """The place of any chained document (manifest, tombstone, redaction, stub) in its signer's chain."""
    try:
        return _parse_link(cast("Mapping[str, Any]", body))
    except (KeyError, TypeError, ValueError) as error:
        raise RemoteError(f"not a chained document: {error!r}", place="line 1") from None


def _parse_manifest(body: Mapping[str, Any]) -> Manifest:
    return Manifest(
        Identity(body["account_id"], body["instance_id"], body["contact_id"]),
        _text(body["wall"]),
        _hex(body["key_id"], 16),
        tuple(ObjectEntry(_text(o["name"]), _hex(o["sha256"], 32), _count(o["size"])) for o in body["objects"]),
        tuple(_parse_track(track) for track in body["tracks"]),
        LogSummary(_hex(body["log"]["session_id"], 16), _count(body["log"]["entries"]), _hex(body["log"]["head"], 32)),
        Ending(_parse_how(body["ended"]["how"]), _count(body["ended"]["position"])),
        _parse_bound(body["loss_bound"]),
        _parse_link(body),
    )


def _parse_track(track: Mapping[str, Any]) -> TrackEntry:
    counts = {name: _count(track[name]) for name in ("rate", "first", "expected", "stored", "concealed", "lost")}
    return TrackEntry(
        track_id=_text(track["track_id"]),
        session_id=_hex(track["session_id"], 16),
        participant_id=_text(track["participant_id"]),
        role=cast("Role", _text(track["role"])),
        codec=cast("Codec", _text(track["codec"])),
        withheld={_text(rule): _count(count) for rule, count in track["withheld"].items()},
        chunks=_count(track["chunks"]),
        head=_hex(track["head"], 32),
        gaps=tuple(_parse_gap(gap) for gap in track["gaps"]),
        **counts,
    )


def _parse_gap(gap: Mapping[str, Any]) -> Gap:
    rule = None if gap["rule"] is None else _text(gap["rule"])
    return Gap(_count(gap["first"]), _count(gap["positions"]), rule, _text(gap["reason"]))


def _parse_bound(bound: Mapping[str, Any]) -> LossBound:
    measured = bound["durable_ms_max"]
    return LossBound(
        _count(bound["limit_ms"]), _count(bound["chunk_ms"]), None if measured is None else _count(measured)
    )


def _parse_link(body: Mapping[str, Any]) -> Link:
    return Link(_hex(body["chain_id"], 16), _count(body["sequence"]), _hex(body["previous"], 32))


def _parse_how(value: object) -> How:
    if value not in HOWS:
        raise ValueError("ended")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("text expected")
    return value


def _hex(value: object, length: int) -> str:
    text = _text(value)
    if len(text) != 2 * length or bytes.fromhex(text).hex() != text:
        raise ValueError("lower-case hexadecimal expected")
    return text


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError("count expected")
    return value


def _lists(value: Json) -> Json:
    if isinstance(value, Mapping):
        return {key: _lists(member) for key, member in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_lists(member) for member in value]
    return value
