"""The database of one instance: users, contacts and their logs, recordings and the audit log (a shell).

A `Database` belongs to one account and instance: it puts both into every row and every query, so that nothing of
another instance can be read or written through it. What happens to contacts is queued (`signaling.database_writer`):
the call path never waits for the disk.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from sqlalchemy import ColumnElement, Insert, Select, Table, Update, and_, delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from signaling import access, audit, records, schema
from signaling.contact.events import ContactEvent
from signaling.contact.record import ContactRecord, WallAnchor, contact_record
from signaling.database_engine import open_engine, writing
from signaling.database_writer import DatabaseWriter, WriteSettings
from signaling.errors import Exhausted, LocalError, RemoteError
from signaling.privacy import Entropy, KeyRing, Scope
from signaling.records import RecordingRecord, Row, User

__all__ = ["Database", "Scope", "WriteSettings", "sqlite_url"]

LIST_MAX = 1000
"""Rows that one listing gives at most."""


def sqlite_url(path: Path) -> str:
    """The URL of an embedded database."""
    return f"sqlite+aiosqlite:///{path}"


class Database:
    """Made by `open`. Times are Unix seconds."""

    def __init__(
        self, engine: AsyncEngine, scope: Scope, instance_key: bytes, entropy: Entropy, limits: WriteSettings
    ) -> None:
        self._keys = KeyRing(scope, instance_key, entropy=entropy)
        self.writer = DatabaseWriter(engine, limits)
        """Its counters are for the metrics."""
        self._engine = engine
        self._scope = scope
        self._entropy = entropy
        self._sequences: dict[str, int] = {}

    @classmethod
    async def open(
        cls,
        url: str,
        scope: Scope,
        instance_key: bytes,
        *,
        wall: float,
        entropy: Entropy = os.urandom,
        settings: WriteSettings | None = None,
    ) -> Self:
        """Open, migrate, and make the instance's row and keys where they are missing.

        Raises `LocalError` where the instance key does not fit, `Unavailable` where there is no database to be had.
        """
        database = cls(await open_engine(url), scope, instance_key, entropy, settings or WriteSettings())
        try:
            await database._begin_instance(wall)
        except BaseException:
            await database.close()
            raise
        return database

    async def close(self) -> None:
        """Write what is queued, and close."""
        await self.writer.close()
        await self._engine.dispose()

    async def wait_written(self) -> None:
        """Wait until all that was queued so far is committed."""
        await self.writer.wait_written()

    # ---- contacts, queued

    def insert_contact(self, record: ContactRecord) -> None:
        """A contact began: its record as far as it goes. Raises `Exhausted`."""
        self._check_owner(record)
        for key in self._keys.missing(record.initiated_at):
            self.writer.insert("a data key", schema.data_keys, self._owned(records.key_row(key)))
        row = {**records.contact_row(record, self._keys), "closed": False}
        self.writer.insert("a contact", schema.contacts, self._owned(row))
        self._sequences[record.contact_id] = 0

    def append_events(self, contact_id: str, events: Sequence[ContactEvent]) -> None:
        """The log of an open contact goes on. Raises `Exhausted`.

        After one refusal all later events of the contact are refused: a kept log may end early, but has no holes.
        """
        first = self._sequences.pop(contact_id, None)
        if first is None:
            raise Exhausted("the beginning of this contact's log was not kept")
        rows = [records.event_row(contact_id, first + i, each, self._keys) for i, each in enumerate(events)]
        self.writer.insert("events", schema.contact_events, *map(self._owned, rows))
        self._sequences[contact_id] = first + len(events)

    def close_contact(self, record: ContactRecord) -> None:
        """A contact is over: its record. Raises `Exhausted`."""
        self._check_owner(record)
        self._sequences.pop(record.contact_id, None)
        self.writer.put("a contact's end", self._closing(record))

    def save_recording(self, recording: RecordingRecord) -> None:
        """A recording began, or came further. Raises `Exhausted`."""
        table = schema.recordings
        of = and_(table.c.contact_id == recording.contact_id, table.c.kind == recording.kind)
        row = records.recording_row(recording)
        self.writer.put("a recording", delete(table).where(self._mine(table), of), self._insert(table, row))

    async def close_left_open(self) -> tuple[ContactRecord, ...]:
        """Close what a crash left open, as far as its log tells; for the relay alone, before it takes calls."""
        table = schema.contacts
        async with writing(self._engine).begin() as connection:
            await self._load_keys(connection)
            rows = await _fetch(connection, self._select(table).where(table.c.closed.is_(False)))
            closed = [await self._found_open(connection, row) for row in rows]
            for record in closed:
                await connection.execute(self._closing(record))
        return tuple(closed)

    async def _found_open(self, connection: AsyncConnection, row: Row) -> ContactRecord:
        log = await self._log(connection, row["contact_id"])
        if not log:
            return records.contact_from_row(row, self._keys)
        return contact_record(log, WallAnchor(log[0].at, row["initiated_at"]))

    def _closing(self, record: ContactRecord) -> Update:
        table = schema.contacts
        of = and_(self._mine(table), table.c.contact_id == record.contact_id)
        return update(table).where(of).values(**records.contact_changes(record), closed=True)

    # ---- contacts and recordings, read

    async def contact(self, contact_id: str) -> ContactRecord | None:
        """The record of one contact, open or closed."""
        found = await self._contacts(schema.contacts.c.contact_id == contact_id, limit=1)
        return found[0] if found else None

    async def contacts(
        self, *, limit: int = 100, before: float | None = None, customer_number: str | None = None
    ) -> tuple[ContactRecord, ...]:
        """Closed contacts, latest first; those that began before a time, those of a customer."""
        table = schema.contacts
        wanted: list[ColumnElement[bool]] = [table.c.closed.is_(True)]
        if before is not None:
            wanted.append(table.c.initiated_at < before)
        if customer_number is not None:
            wanted.append(table.c.customer_hash == self._keys.search_token(customer_number))
        return await self._contacts(*wanted, limit=limit)

    async def events(self, contact_id: str) -> tuple[ContactEvent, ...]:
        """The log of a contact, as far as its keys are there."""
        async with self._engine.connect() as connection:
            await self._load_keys(connection)
            return await self._log(connection, contact_id)

    async def recordings(
        self, *, limit: int = 100, before: float | None = None, contact_id: str | None = None
    ) -> tuple[RecordingRecord, ...]:
        """Recordings, latest first; those that began before a time, those of a contact."""
        table = schema.recordings
        query = self._select(table).order_by(table.c.began_at.desc(), table.c.contact_id).limit(min(limit, LIST_MAX))
        if before is not None:
            query = query.where(table.c.began_at < before)
        if contact_id is not None:
            query = query.where(table.c.contact_id == contact_id)
        return tuple(records.recording_from_row(row) for row in await self._rows(query))

    async def _contacts(self, *wanted: ColumnElement[bool], limit: int) -> tuple[ContactRecord, ...]:
        table = schema.contacts
        query = self._select(table).where(*wanted).order_by(table.c.initiated_at.desc(), table.c.contact_id)
        async with self._engine.connect() as connection:
            await self._load_keys(connection)
            rows = await _fetch(connection, query.limit(min(limit, LIST_MAX)))
        return tuple(records.contact_from_row(row, self._keys) for row in rows)

    async def _log(self, connection: AsyncConnection, contact_id: str) -> tuple[ContactEvent, ...]:
        table = schema.contact_events
        query = self._select(table).where(table.c.contact_id == contact_id).order_by(table.c.sequence)
        opened = [records.event_from_row(row, self._keys) for row in await _fetch(connection, query)]
        return tuple(each for each in opened if each is not None)

    # ---- users

    async def add_user(self, name: str, role: access.Role, *, wall: float) -> access.Token:
        """A new user, and the token to show once. Raises `LocalError` if the name is taken."""
        token = access.mint(self._entropy)
        row = {"name": name, "role": role.value, "created_at": wall, **self._token_columns(token)}
        try:
            async with writing(self._engine).begin() as connection:
                await connection.execute(self._insert(schema.users, row))
        except IntegrityError:
            raise LocalError(f"there is a user {name} already") from None
        return token

    async def replace_token(self, name: str) -> access.Token:
        """Another token for a user; the old one is worth nothing from now on. Raises `LocalError` if unknown."""
        token = access.mint(self._entropy)
        of = and_(self._mine(schema.users), schema.users.c.name == name)
        async with writing(self._engine).begin() as connection:
            changed = await connection.execute(update(schema.users).where(of).values(**self._token_columns(token)))
        if changed.rowcount != 1:
            raise LocalError(f"there is no user {name}")
        return token

    def _token_columns(self, token: access.Token) -> Row:
        return {"token_id": token.token_id, "token_hash": access.hash_secret_of(token, self._entropy)}

    async def find_user(self, name: str) -> User | None:
        """A user by name."""
        rows = await self._rows(self._select(schema.users).where(schema.users.c.name == name))
        return records.user_from_row(rows[0]) if rows else None

    async def users(self) -> tuple[User, ...]:
        """All users, by name."""
        rows = await self._rows(self._select(schema.users).order_by(schema.users.c.name).limit(LIST_MAX))
        return tuple(records.user_from_row(row) for row in rows)

    async def verify_token(self, text: str) -> User | None:
        """Whose token this is; None if it is nobody's."""
        try:
            token = access.parse(text)
        except RemoteError:
            return None
        rows = await self._rows(self._select(schema.users).where(schema.users.c.token_id == token.token_id))
        if not rows or not await asyncio.to_thread(token.matches, rows[0]["token_hash"]):
            return None
        return records.user_from_row(rows[0])

    # ---- audit

    async def append_audit(
        self, actor: str, action: str, subject: str, *, wall: float, details: Mapping[str, str] | None = None
    ) -> audit.AuditEntry:
        """Add to the audit log; when this returns, the entry is durable."""
        table, of = schema.instances, self._mine(schema.instances)
        async with writing(self._engine).begin() as connection:
            # The update comes first: it takes the write lock, so that no two entries follow the same head.
            await connection.execute(update(table).where(of).values(audit_length=table.c.audit_length + 1))
            (row,) = await _fetch(connection, self._select(table))
            chain = audit.Chain(**asdict(self._scope), length=row["audit_length"] - 1, head=row["audit_head"])
            entry, chain = audit.append(chain, actor, action, subject, wall=wall, details=details)
            await connection.execute(self._insert(schema.audit, records.audit_row(entry)))
            await connection.execute(update(table).where(of).values(audit_head=chain.head))
        return entry

    async def audit_log(self, *, first: int = 0, limit: int = LIST_MAX) -> tuple[audit.AuditEntry, ...]:
        """Entries in order, from a sequence number on."""
        table = schema.audit
        query = self._select(table).where(table.c.sequence >= first).order_by(table.c.sequence)
        return tuple(records.audit_from_row(row) for row in await self._rows(query.limit(min(limit, LIST_MAX))))

    async def audit_chain(self) -> audit.Chain:
        """What the audit log must lead up to."""
        (row,) = await self._rows(self._select(schema.instances))
        return audit.Chain(**asdict(self._scope), length=row["audit_length"], head=row["audit_head"])

    # ---- the instance's own

    async def _begin_instance(self, wall: float) -> None:
        table = schema.instances
        row = {"created_at": wall, "audit_length": 0, "audit_head": audit.GENESIS}
        if not await self._rows(self._select(table)):
            try:
                async with writing(self._engine).begin() as connection:
                    await connection.execute(self._insert(table, row))
            except IntegrityError:
                pass  # another process has just made it
        async with writing(self._engine).begin() as connection:
            # Takes the write lock, so that two processes at a first start do not make two search keys.
            await connection.execute(update(table).where(self._mine(table)).values(created_at=table.c.created_at))
            await self._load_keys(connection)
            for key in self._keys.missing(wall):
                await connection.execute(self._insert(schema.data_keys, records.key_row(key)))

    async def _load_keys(self, connection: AsyncConnection) -> None:
        """Another process may have made keys since."""
        rows = await _fetch(connection, self._select(schema.data_keys))
        self._keys.load(records.key_from_row(row) for row in rows)

    async def _rows(self, query: Select[Any]) -> list[Row]:
        async with self._engine.connect() as connection:
            return await _fetch(connection, query)

    def _check_owner(self, record: ContactRecord) -> None:
        if Scope(record.account_id, record.instance_id) != self._scope:
            raise LocalError("a contact of another instance")

    def _mine(self, table: Table) -> ColumnElement[bool]:
        mine = self._scope
        return and_(table.c.account_id == mine.account_id, table.c.instance_id == mine.instance_id)

    def _select(self, table: Table) -> Select[Any]:
        return select(table).where(self._mine(table))

    def _insert(self, table: Table, row: Row) -> Insert:
        return insert(table).values(self._owned(row))

    def _owned(self, row: Row) -> Row:
        return {**row, **asdict(self._scope)}


async def _fetch(connection: AsyncConnection, query: Select[Any]) -> list[Row]:
    result = await connection.execute(query)
    names = tuple(result.keys())
    return [dict(zip(names, row, strict=True)) for row in result]
