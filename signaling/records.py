"""The values that the database keeps, and their way into rows and back.

A row is a plain mapping from column names. Numbers are sealed on the way in and opened on the way out, bound to their
instance, table, column and contact.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, Literal

from signaling.access import Role
from signaling.audit import AuditEntry
from signaling.contact.codec import decode, encode
from signaling.contact.events import ContactEvent
from signaling.contact.record import ContactRecord
from signaling.privacy import KeyRing, Place, WrappedKey

Row = Mapping[str, Any]

_IDS = ("account_id", "instance_id", "contact_id")
_SEALED = ("customer_number", "system_number")


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who may log in."""

    name: str
    role: Role
    created_at: float


@dataclass(frozen=True, slots=True)
class RecordingRecord:
    """One of a contact's at most two recordings, and how far it has come."""

    contact_id: str
    kind: Literal["agent_interaction", "automated_interaction"]
    status: Literal["recording", "staged", "delivered", "failed"]
    began_at: float
    ended_at: float | None = None
    ended: Literal["closed", "found_open"] | None = None
    manifest: str | None = None
    """The key of its manifest in the store."""


def contact_row(record: ContactRecord, keys: KeyRing) -> Row:
    """A contact record as a row, its numbers sealed and the customer's hashed."""
    sealed = {
        name: keys.seal(getattr(record, name) or "", Place("contacts", name, record.contact_id)) for name in _SEALED
    }
    customer_hash = keys.search_token(record.customer_number or "")
    return {**contact_changes(record), **sealed, "contact_id": record.contact_id, "customer_hash": customer_hash}


def contact_changes(record: ContactRecord) -> Row:
    """The columns of a contact record that change in its course: not whose it is, nor the numbers."""
    return {each.name: getattr(record, each.name) for each in fields(record) if each.name not in (*_IDS, *_SEALED)}


def contact_from_row(row: Row, keys: KeyRing) -> ContactRecord:
    """The record of a row; raises `LocalError` where a sealed number was changed or moved."""
    values: dict[str, Any] = {each.name: row[each.name] for each in fields(ContactRecord)}
    for name in _SEALED:
        values[name] = keys.opened_text(row[name], Place("contacts", name, row["contact_id"]))
    return ContactRecord(**values)


def event_row(contact_id: str, sequence: int, event: ContactEvent, keys: KeyRing) -> Row:
    """An event of a contact's log as a row; the whole event is sealed."""
    payload = keys.seal(encode(event), _event_place(contact_id, sequence))
    return {"contact_id": contact_id, "sequence": sequence, "payload": payload}


def event_from_row(row: Row, keys: KeyRing) -> ContactEvent | None:
    """The event of a row; None if its key was destroyed."""
    payload = keys.opened(row["payload"], _event_place(row["contact_id"], row["sequence"]))
    return None if payload is None else decode(payload)


def _event_place(contact_id: str, sequence: int) -> Place:
    return Place("contact_events", "payload", f"{contact_id}/{sequence}")


def recording_row(recording: RecordingRecord) -> Row:
    """A recording as a row."""
    return {each.name: getattr(recording, each.name) for each in fields(recording)}


def recording_from_row(row: Row) -> RecordingRecord:
    """The recording of a row."""
    return RecordingRecord(**{each.name: row[each.name] for each in fields(RecordingRecord)})


def user_from_row(row: Row) -> User:
    """The user of a row, without the token's hash."""
    return User(row["name"], Role(row["role"]), row["created_at"])


def key_row(key: WrappedKey) -> Row:
    """A wrapped key as a row."""
    return {each.name: getattr(key, each.name) for each in fields(key)}


def key_from_row(row: Row) -> WrappedKey:
    """The wrapped key of a row."""
    return WrappedKey(**{each.name: row[each.name] for each in fields(WrappedKey)})


def audit_row(entry: AuditEntry) -> Row:
    """An audit entry as a row; its details as JSON text."""
    values = {each.name: getattr(entry, each.name) for each in fields(entry)}
    return {**values, "details": json.dumps(dict(entry.details), sort_keys=True, ensure_ascii=False)}


def audit_from_row(row: Row) -> AuditEntry:
    """The audit entry of a row."""
    values: dict[str, Any] = {each.name: row[each.name] for each in fields(AuditEntry)}
    values["details"] = MappingProxyType(json.loads(row["details"]))
    return AuditEntry(**values)
