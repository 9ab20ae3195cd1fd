"""Opens a database's engine: SQLite made safe and private, migrations applied (a shell).

SQLite is opened with a write-ahead log and a sync at every commit, so that what was committed survives a kill and a
power cut; deleted content is overwritten; the file, and with it the log's files, is readable by its owner alone.
Transactions are begun by us: Python's driver would begin none before a change of tables, and a kill in the middle of a
migration would leave half of it behind.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import URL, Connection, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from signaling.errors import LocalError, Unavailable

PRIVATE = 0o600
BUSY_MS = 5_000
"""How long to wait for another process's write."""
PRAGMAS = (
    f"busy_timeout = {BUSY_MS}",
    "journal_mode = WAL",
    "synchronous = FULL",
    "secure_delete = ON",
    "foreign_keys = ON",
)

_IMMEDIATE = "koppel_immediate"


async def open_engine(url: str) -> AsyncEngine:
    """Open and migrate; raises `LocalError` for a URL or a database that is not ours, `Unavailable` for all else."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise LocalError("the database's URL cannot be read") from None  # it may hold a password: not repeated
    try:
        await asyncio.to_thread(_make_private, parsed)
        engine = _engine(parsed)
    except OSError as error:
        raise Unavailable(f"the database file cannot be opened: {error.strerror}") from None
    try:
        async with writing(engine).begin() as connection:
            await connection.run_sync(migrate)
    except CommandError:
        await engine.dispose()
        raise LocalError("the database was made by a newer version of Koppel") from None
    except SQLAlchemyError as error:
        await engine.dispose()
        raise Unavailable(f"the database cannot be opened ({type(error).__name__})") from error
    return engine


def writing(engine: AsyncEngine) -> AsyncEngine:
    """The engine for transactions that write: SQLite takes the write lock at their begin, and waits for it."""
    return engine.execution_options(**{_IMMEDIATE: True})


def migrate(connection: Connection) -> None:
    """Bring the tables up to this version, inside the caller's transaction."""
    config = Config()
    config.set_main_option("script_location", "signaling:migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _make_private(url: URL) -> None:
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        return
    descriptor = os.open(Path(url.database), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
    try:
        os.fchmod(descriptor, PRIVATE)  # SQLite gives the write-ahead log the same mode
    finally:
        os.close(descriptor)


def _engine(url: URL) -> AsyncEngine:
    engine = create_async_engine(url, hide_parameters=True)  # no numbers in errors and logs
    if engine.dialect.name == "sqlite":
        event.listen(engine.sync_engine, "connect", _configure_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def _configure_sqlite(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself
    cursor = connection.cursor()
    for pragma in PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    immediate = connection.get_execution_options().get(_IMMEDIATE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
