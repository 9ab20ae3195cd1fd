"""Values of the database and their rows."""

from __future__ import annotations

import random
from dataclasses import fields, replace

import pytest

from signaling import schema
from signaling.access import Role
from signaling.audit import Chain, append
from signaling.contact.record import ContactRecord, WallAnchor, contact_record
from signaling.errors import LocalError
from signaling.privacy import KeyRing, Scope
from signaling.records import (
    RecordingRecord,
    audit_from_row,
    audit_row,
    contact_changes,
    contact_from_row,
    contact_row,
    event_from_row,
    event_row,
    key_from_row,
    key_row,
    recording_from_row,
    recording_row,
    user_from_row,
)
from tests.signaling.contact.stories import SITUATIONS, contact_after, hold

SCOPE = Scope("a-1", "i-1")
RECORD = contact_record(contact_after(SITUATIONS["working"]).log, WallAnchor(0.0, 1_800_000_000.0))
MINE = {"account_id": "a-1", "instance_id": "i-1"}
OWNER = set(MINE)


def keys(seed=1):
    ring = KeyRing(SCOPE, bytes(32), entropy=random.Random(seed).randbytes)
    return ring, ring.missing(0.0)


def columns(table):
    return {column.name for column in table.columns}


def test_a_contact_record_survives_its_row():
    ring, _ = keys()
    row = contact_row(RECORD, ring)
    assert contact_from_row({**row, **MINE}, ring) == RECORD
    assert row["customer_hash"] == ring.search_token("+4930123456")


def test_no_number_stands_in_a_row():
    ring, _ = keys()
    row = contact_row(RECORD, ring)
    assert "30123456" not in repr(row)
    assert not {"customer_number", "account_id", "instance_id", "contact_id"} & set(contact_changes(RECORD))
    assert "30123456" not in repr(event_row("c-1", 0, SITUATIONS["working"][0], ring))


def test_a_row_has_exactly_the_columns_of_its_table():
    ring, made = keys()
    assert set(contact_row(RECORD, ring)) | OWNER | {"closed"} == columns(schema.contacts)
    assert set(event_row("c-1", 0, hold(), ring)) | OWNER == columns(schema.contact_events)
    assert set(key_row(made[0])) | OWNER == columns(schema.data_keys)
    recording = RecordingRecord("c-1", "agent_interaction", "recording", 5.0)
    assert set(recording_row(recording)) | OWNER == columns(schema.recordings)
    entry, _ = append(Chain("a-1", "i-1"), "system", "start", "instance:i-1", wall=0.0)
    assert set(audit_row(entry)) == columns(schema.audit)
    assert {each.name for each in fields(ContactRecord)} | {"closed", "customer_hash"} == columns(schema.contacts)


def test_a_number_moved_to_another_contact_does_not_open():
    ring, _ = keys()
    one, other = ({**contact_row(replace(RECORD, contact_id=each), ring), **MINE} for each in ("c-1", "c-2"))
    with pytest.raises(LocalError, match="belongs elsewhere"):
        contact_from_row({**other, "customer_number": one["customer_number"]}, ring)
    with pytest.raises(LocalError, match="belongs elsewhere"):
        contact_from_row({**one, "customer_number": one["system_number"]}, ring)


def test_events_cannot_change_their_place_in_the_log():
    ring, _ = keys()
    row = event_row("c-1", 3, hold(at=2.5), ring)
    assert event_from_row(row, ring) == hold(at=2.5)
    for elsewhere in ({"sequence": 4}, {"contact_id": "c-2"}):
        with pytest.raises(LocalError, match="belongs elsewhere"):
            event_from_row({**row, **elsewhere}, ring)


def test_what_is_left_when_the_key_was_destroyed():
    ring, _ = keys()
    later, _ = keys(seed=2)
    found = contact_from_row({**contact_row(RECORD, ring), **MINE}, later)
    assert (found.customer_number, found.system_number) == (None, None)
    assert found.agent == "anna"
    assert event_from_row(event_row("c-1", 0, hold(), ring), later) is None


def test_recordings_users_keys_and_audit_entries_survive_their_rows():
    _, made = keys()
    assert key_from_row(key_row(made[0])) == made[0]
    recording = RecordingRecord("c-1", "agent_interaction", "delivered", 5.0, 9.5, "closed", "i-1/c-1/manifest")
    assert recording_from_row(recording_row(recording)) == recording
    entry, _ = append(Chain("a-1", "i-1"), "user:ben", "play", "contact:c-1", wall=0.0, details={"why": "Prüfung"})
    assert audit_from_row(audit_row(entry)) == entry
    user = user_from_row({"name": "anna", "role": "agent", "created_at": 1.5, "token_hash": "secret"})
    assert (user.name, user.role, user.created_at) == ("anna", Role.AGENT, 1.5)
