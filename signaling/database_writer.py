"""Writes behind the call path: a bounded queue of changes, committed in order and in batches (a shell).

The rows of a batch are inserted table by table, all of a table at once: each statement costs a way to the database's
thread and back, which a busy control loop gives only some hundred times a second.

A database that fails is tried again, without end and in order, with growing pauses. A change that the database refuses
for what it is (a broken reference) is dropped, counted and logged: it must not stop those behind it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import Executable, Table, exc, insert
from sqlalchemy.ext.asyncio import AsyncEngine

from signaling.database_engine import writing
from signaling.errors import Exhausted

_log = structlog.get_logger()
_PASSING = (exc.OperationalError, exc.InterfaceError, exc.InternalError, exc.TimeoutError)
"""Errors of the moment: the disk is full, the file is locked, the server is away."""


@dataclass(frozen=True, slots=True)
class WriteSettings:
    """Limits of the queue."""

    writes_max: int = 10_000
    batch_max: int = 500
    retry_seconds: float = 0.5
    retry_seconds_max: float = 30.0
    close_seconds: float = 10.0
    """How long closing waits for what is queued."""


@dataclass(frozen=True, slots=True)
class Change:
    """Rows or statements that belong together, and what to call them in a log."""

    what: str
    statements: tuple[Executable, ...] = ()
    table: Table | None = None
    rows: tuple[Mapping[str, Any], ...] = ()
    """New rows of the table, with all the columns that other new rows of it have."""


class DatabaseWriter:
    """Commits changes in the order in which they came."""

    def __init__(self, engine: AsyncEngine, settings: WriteSettings) -> None:
        self.settings = settings
        self.refused = 0
        """Changes that did not fit into the queue: lost."""
        self.rejected = 0
        """Changes that the database did not take: lost."""
        self.waiting = 0
        """Changes that are not committed yet."""
        self.failures = 0
        """Attempts that failed and were made again."""
        self.written: Counter[str] = Counter()
        """Rows and statements that were committed, by what they are called."""
        self._engine = engine
        self._queue: asyncio.Queue[Change] = asyncio.Queue(settings.writes_max)
        self._task = asyncio.create_task(self._run(), name="database writer")

    def put(self, what: str, *statements: Executable) -> None:
        """Queue statements; raises `Exhausted` if the queue is full."""
        self._put(Change(what, statements))

    def insert(self, what: str, table: Table, *rows: Mapping[str, Any]) -> None:
        """Queue new rows; raises `Exhausted` if the queue is full. In their batch they come before all statements."""
        self._put(Change(what, (), table, rows))

    def _put(self, change: Change) -> None:
        try:
            self._queue.put_nowait(change)
        except asyncio.QueueFull:
            self.refused += 1
            raise Exhausted("too many records wait for the database") from None
        self.waiting += 1

    async def wait_written(self) -> None:
        """Wait until everything that is queued now is committed."""
        await self._queue.join()

    async def close(self) -> None:
        """Commit what is queued if that is possible in time, and stop."""
        try:
            await asyncio.wait_for(self._queue.join(), self.settings.close_seconds)
        except TimeoutError:
            _log.error("records were not written before the end", count=self.waiting)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            batch = [await self._queue.get()]
            while len(batch) < self.settings.batch_max and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            await self._commit(batch)
            self.waiting -= len(batch)
            for _ in batch:
                self._queue.task_done()

    async def _commit(self, batch: Sequence[Change]) -> None:
        pause = self.settings.retry_seconds
        while True:
            try:
                await self._execute(batch)
            except _PASSING as error:
                self.failures += 1
                _log.warning("the database does not take records, trying again", error=type(error).__name__)
                await asyncio.sleep(pause)
                pause = min(2 * pause, self.settings.retry_seconds_max)
            except exc.SQLAlchemyError as error:
                await self._one_by_one(batch, error)
                return
            else:
                return

    async def _one_by_one(self, batch: Sequence[Change], error: exc.SQLAlchemyError) -> None:
        """One change of the batch is at fault: find it, and let the others through."""
        if len(batch) > 1:
            for change in batch:
                await self._commit([change])
            return
        self.rejected += 1
        _log.error("the database refused a record", what=batch[0].what, error=type(error).__name__)

    async def _execute(self, batch: Sequence[Change]) -> None:
        async with writing(self._engine).begin() as connection:
            for table, rows in _inserts(batch):
                await connection.execute(insert(table), rows)
            for change in batch:
                for statement in change.statements:
                    await connection.execute(statement)
        for change in batch:
            self.written[change.what] += len(change.statements) + len(change.rows)


def _inserts(batch: Sequence[Change]) -> list[tuple[Table, list[Mapping[str, Any]]]]:
    """The rows of each table, those first that others refer to."""
    found: dict[Table, list[Mapping[str, Any]]] = {}
    for change in batch:
        if change.table is not None and change.rows:
            found.setdefault(change.table, []).extend(change.rows)
    if len(found) < 2:
        return list(found.items())
    tables = next(iter(found)).metadata.sorted_tables
    return sorted(found.items(), key=lambda item: tables.index(item[0]))
