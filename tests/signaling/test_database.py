"""A real SQLite file: round trips, separation of instances, privacy of the file, and what a kill leaves."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import event, insert, inspect, text

from signaling import audit, database_engine, schema
from signaling.access import Role
from signaling.contact.record import WallAnchor, contact_record
from signaling.database import Database, Scope, WriteSettings, sqlite_url
from signaling.database_engine import migrate, open_engine, writing
from signaling.errors import Exhausted, LocalError, Unavailable
from signaling.privacy import DATA_KEY_SECONDS
from signaling.records import RecordingRecord
from tests.signaling.contact.stories import CALLER, SITUATIONS, contact_after, hold, leaves, started, work_done

MINE, OTHER = Scope("a-1", "i-1"), Scope("a-1", "i-2")
KEY = bytes(range(32))
WALL = 1_800_000_000.0
ANCHOR = WallAnchor(0.0, WALL)
WHOLE = [*SITUATIONS["talking"], hold(at=5.0), leaves(CALLER, 10.0), work_done(at=20.0)]


def renamed(story, contact_id, at=0.0, number="+4930123456", instance="i-1"):
    beginning = replace(story[0], contact_id=contact_id, at=at, customer_number=number, instance_id=instance)
    return [beginning, *story[1:]]


def record_of(story):
    return contact_record(contact_after(story).log, ANCHOR)


def opened(path, scope=MINE, key=KEY, *, wall=WALL, **options):
    return Database.open(sqlite_url(path), scope, key, wall=wall, **options)


async def write(database, story):
    database.insert_contact(record_of(story[:1]))
    database.append_events(story[0].contact_id, story[:2])
    database.append_events(story[0].contact_id, story[2:])
    if story[-1] == work_done(at=20.0):
        database.close_contact(record_of(story))
    await database.wait_written()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "koppel.sqlite"


@pytest.fixture
async def database(path):
    database = await opened(path)
    yield database
    await database.close()


async def test_a_contact_and_its_log_come_back(database):
    await write(database, WHOLE)
    assert await database.contact("c-1") == record_of(WHOLE)
    assert await database.contacts() == (record_of(WHOLE),)
    assert await database.events("c-1") == tuple(WHOLE)
    assert await database.contact("c-2") is None
    assert await database.events("c-2") == ()
    assert database.writer.waiting == database.writer.failures == database.writer.rejected == 0


async def test_they_come_back_after_a_restart(path):
    first = await opened(path)
    await write(first, WHOLE)
    await first.close()
    again = await opened(path)
    assert await again.contact("c-1") == record_of(WHOLE)
    assert await again.events("c-1") == tuple(WHOLE)
    assert await again.close_left_open() == ()
    await again.close()


async def test_only_closed_contacts_are_listed_latest_first(database):
    for number in range(5):
        await write(database, renamed(WHOLE, f"c-{number}", at=float(number)))
    await write(database, renamed(SITUATIONS["talking"], "open", at=9.0))
    ids = [record.contact_id for record in await database.contacts()]
    assert ids == ["c-4", "c-3", "c-2", "c-1", "c-0"]
    assert [record.contact_id for record in await database.contacts(limit=2, before=WALL + 3.0)] == ["c-2", "c-1"]
    assert (await database.contact("open")).outcome == "indeterminate"


async def test_a_customer_is_found_by_number_however_it_is_written(database):
    await write(database, renamed(WHOLE, "c-1", number="+4930123456"))
    await write(database, renamed(WHOLE, "c-2", number="+4930999999"))
    found = await database.contacts(customer_number="0049 30 123456")
    assert [record.contact_id for record in found] == ["c-1"]
    assert await database.contacts(customer_number="+49301") == ()


async def test_contacts_left_open_are_closed_as_found_open(path):
    first = await opened(path)
    await write(first, renamed(WHOLE, "whole"))
    await write(first, renamed([*SITUATIONS["talking"], hold(at=5.0)], "talking"))
    first.insert_contact(record_of(renamed(WHOLE, "no log")[:1]))
    await first.close()
    again = await opened(path)
    closed = {record.contact_id: record for record in await again.close_left_open()}
    assert set(closed) == {"talking", "no log"}
    assert {record.outcome for record in closed.values()} == {"indeterminate"}
    assert {record.outcome_detail for record in closed.values()} == {"found open after a restart"}
    assert (closed["talking"].agent, closed["talking"].updated_at) == ("anna", WALL + 5.0)
    assert await again.contact("talking") == closed["talking"]
    assert {record.contact_id for record in await again.contacts()} == {"whole", "talking", "no log"}
    assert await again.close_left_open() == ()
    await again.close()


async def test_recordings_are_kept_and_come_further(database):
    began = RecordingRecord("c-1", "agent_interaction", "recording", WALL)
    done = RecordingRecord("c-1", "agent_interaction", "delivered", WALL, WALL + 60, "closed", "i-1/c-1/manifest")
    later = RecordingRecord("c-2", "agent_interaction", "recording", WALL + 5)
    for recording in (began, done, later):
        database.save_recording(recording)
    await database.wait_written()
    assert await database.recordings() == (later, done)
    assert await database.recordings(contact_id="c-1") == (done,)
    assert await database.recordings(before=WALL + 5, limit=1) == (done,)


async def test_users_and_their_tokens(database):
    token = await database.add_user("anna", Role.AGENT, wall=WALL)
    await database.add_user("ben", Role.ADMIN, wall=WALL)
    user = await database.verify_token(token.reveal())
    assert (user.name, user.role, user.created_at) == ("anna", Role.AGENT, WALL)
    assert await database.find_user("anna") == user
    assert await database.find_user("cleo") is None
    assert [each.name for each in await database.users()] == ["anna", "ben"]
    with pytest.raises(LocalError, match="anna already"):
        await database.add_user("anna", Role.ADMIN, wall=WALL)
    assert (await database.find_user("anna")).role is Role.AGENT


async def test_a_token_that_is_not_quite_right_is_nobodys(database):
    token = (await database.add_user("anna", Role.AGENT, wall=WALL)).reveal()
    assert await database.verify_token(token) is not None
    changed = token[:-3] + ("AAA" if token[-3:] != "AAA" else "BBB")
    for wrong in ("", "anna", token[:-1], changed, "kpl_" + "0" * 16 + token[20:], "x" * 10_000):
        assert await database.verify_token(wrong) is None


async def test_a_replaced_token_is_worth_nothing(database):
    old = await database.add_user("anna", Role.AGENT, wall=WALL)
    new = await database.replace_token("anna")
    assert await database.verify_token(old.reveal()) is None
    assert (await database.verify_token(new.reveal())).name == "anna"
    with pytest.raises(LocalError, match="no user ben"):
        await database.replace_token("ben")


async def test_the_audit_log_is_a_chain_also_when_many_write_at_once(database, path):
    second = await opened(path)
    both = (database, second)
    writes = [
        both[n % 2].append_audit("user:ben", "play", f"contact:{n}", wall=WALL, details={"n": str(n)})
        for n in range(20)
    ]
    await asyncio.gather(*writes)
    entries, chain = await database.audit_log(), await database.audit_chain()
    assert chain.length == 20
    assert audit.check(entries, chain) == []
    assert {entry.subject for entry in entries} == {f"contact:{n}" for n in range(20)}
    assert [entry.sequence for entry in await database.audit_log(first=18)] == [18, 19]
    await second.close()


async def test_a_removed_audit_entry_is_missed(database, path):
    for n in range(3):
        await database.append_audit("system", "start", f"instance:{n}", wall=WALL)
    with sqlite3.connect(path) as direct:
        direct.execute("DELETE FROM audit WHERE sequence = 2")
    direct.close()
    found = audit.check(await database.audit_log(), await database.audit_chain())
    assert [finding.what for finding in found] == ["the log ends after 2 entries, not after 3"]


async def test_instances_in_one_file_see_nothing_of_each_other(path):
    mine, other = await opened(path), await opened(path, OTHER, bytes(32))
    await write(mine, WHOLE)
    token = await mine.add_user("anna", Role.AGENT, wall=WALL)
    mine.save_recording(RecordingRecord("c-1", "agent_interaction", "recording", WALL))
    await mine.append_audit("system", "start", "instance:i-1", wall=WALL)
    await mine.wait_written()
    assert await other.contact("c-1") is None
    assert await other.contacts() == await other.contacts(customer_number="+4930123456") == ()
    assert await other.events("c-1") == await other.recordings() == await other.users() == await other.audit_log() == ()
    assert await other.verify_token(token.reveal()) is None
    assert (await other.audit_chain()).length == 0
    assert await other.close_left_open() == ()
    # the same names and ids are free in the other instance, and a change there changes nothing here
    await write(other, renamed(SITUATIONS["talking"], "c-1", instance="i-2"))
    await other.add_user("anna", Role.ADMIN, wall=WALL)
    await other.replace_token("anna")
    await other.close_left_open()
    assert await mine.contact("c-1") == record_of(WHOLE)
    assert (await mine.verify_token(token.reveal())).role is Role.AGENT
    await mine.close()
    await other.close()


async def test_a_contact_of_another_instance_is_refused(database):
    record = replace(record_of(WHOLE), instance_id="i-2")
    with pytest.raises(LocalError, match="another instance"):
        database.insert_contact(record)
    with pytest.raises(LocalError, match="another instance"):
        database.close_contact(record)


async def test_every_statement_names_account_and_instance(path):
    """Whatever a `Database` asks: no query reads or changes a table without both."""
    database = await opened(path)
    seen = []
    event.listen(database._engine.sync_engine, "before_cursor_execute", lambda *args: seen.append(args[2]))
    await write(database, WHOLE)
    database.save_recording(RecordingRecord("c-1", "agent_interaction", "recording", WALL))
    await database.add_user("anna", Role.AGENT, wall=WALL)
    await database.replace_token("anna")
    await database.append_audit("system", "start", "x", wall=WALL)
    await database.close_left_open()
    await asyncio.gather(database.contacts(), database.recordings(), database.users(), database.audit_log())
    await asyncio.gather(database.events("c-1"), database.find_user("x"), database.audit_chain())
    await database.close()
    statements = [s for s in seen if s.split()[0] in {"SELECT", "UPDATE", "DELETE", "INSERT"}]
    assert len(statements) > 20
    for statement in statements:
        kind = statement.split()[0]
        where = statement if kind == "INSERT" else statement.partition("WHERE")[2]
        assert "account_id" in where, statement
        assert "instance_id" in where, statement


async def test_no_number_and_no_token_is_in_the_files(path, tmp_path):
    database = await opened(path)
    await write(database, WHOLE)
    token = (await database.add_user("anna", Role.AGENT, wall=WALL)).reveal()
    files = b"".join(each.read_bytes() for each in tmp_path.iterdir())
    await database.close()
    files += path.read_bytes()
    assert b"c-1" in files
    for secret in (b"30123456", b"89987654", token[-43:].encode(), KEY, b"AgentAccepted"):
        assert secret not in files


async def test_the_files_are_readable_by_their_owner_alone(path, tmp_path):
    path.touch(0o644)
    before = os.umask(0)
    try:
        database = await opened(path)
        await write(database, WHOLE)
    finally:
        os.umask(before)
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()}
    assert modes == dict.fromkeys(("koppel.sqlite", "koppel.sqlite-wal", "koppel.sqlite-shm"), 0o600)
    await database.close()


async def test_sqlite_is_set_to_keep_what_it_committed_and_to_overwrite_what_it_deleted(database):
    async with database._engine.connect() as connection:
        found = {}
        for name in ("journal_mode", "synchronous", "secure_delete", "foreign_keys", "busy_timeout"):
            found[name] = (await connection.execute(text(f"PRAGMA {name}"))).scalar()
    assert found == {
        "journal_mode": "wal",
        "synchronous": 2,
        "secure_delete": 1,
        "foreign_keys": 1,
        "busy_timeout": 5000,
    }


async def test_another_instance_key_is_refused(path):
    await (await opened(path)).close()
    with pytest.raises(LocalError, match="not the instance key"):
        await opened(path, key=bytes(32))


async def test_a_new_data_key_begins_with_its_period_and_is_stored_before_what_it_seals(path):
    database = await opened(path)
    await write(database, WHOLE)
    later = replace(record_of(renamed(WHOLE, "later")), initiated_at=WALL + DATA_KEY_SECONDS)
    database.insert_contact(later)
    database.close_contact(later)
    await database.wait_written()
    await database.close()
    again = await opened(path, wall=WALL + DATA_KEY_SECONDS)
    assert (await again.contact("later")).customer_number == "+4930123456"
    assert (await again.contact("c-1")).customer_number == "+4930123456"
    await again.close()
    with sqlite3.connect(path) as direct:
        purposes = direct.execute("SELECT purpose FROM data_keys ORDER BY created_at, purpose").fetchall()
        direct.execute("DELETE FROM data_keys WHERE purpose = 'data' AND created_at = ?", [WALL])
    direct.close()
    assert purposes == [("data",), ("search",), ("data",)]
    shredded = await opened(path, wall=WALL + DATA_KEY_SECONDS)
    assert (await shredded.contact("c-1")).customer_number is None
    assert await shredded.events("c-1") == ()
    assert (await shredded.contact("later")).customer_number == "+4930123456"
    await shredded.close()


async def test_a_second_process_reads_what_was_sealed_with_a_key_made_after_it_opened(path):
    reader, writer = await opened(path), await opened(path)
    later = replace(record_of(WHOLE), initiated_at=WALL + DATA_KEY_SECONDS)
    writer.insert_contact(later)
    await writer.wait_written()
    assert (await reader.contact("c-1")).customer_number == "+4930123456"
    await reader.close()
    await writer.close()


# --- migrations -------------------------------------------------------------------------------------------------------


async def test_the_migrations_make_exactly_the_tables_of_the_schema(path):
    engine = await open_engine(sqlite_url(path))
    async with engine.connect() as connection:
        found = await connection.run_sync(
            lambda sync: compare_metadata(
                MigrationContext.configure(sync, opts={"compare_type": True}), schema.metadata
            )
        )
    await engine.dispose()
    assert found == []


async def test_a_migration_that_is_cut_off_leaves_nothing_behind(path):
    engine = await open_engine(sqlite_url(path.with_name("other.sqlite")))
    await engine.dispose()
    engine = database_engine._engine(database_engine.make_url(sqlite_url(path)))
    async with writing(engine).connect() as connection:
        transaction = await connection.begin()
        await connection.run_sync(migrate)
        assert await connection.run_sync(lambda sync: len(inspect(sync).get_table_names())) == 8
        await transaction.rollback()
        assert await connection.run_sync(lambda sync: inspect(sync).get_table_names()) == []
    await engine.dispose()
    await (await opened(path)).close()


async def test_migrating_twice_is_migrating_once_also_for_two_at_a_time(path):
    first, second = await asyncio.gather(opened(path), opened(path, OTHER, bytes(32)))
    await first.close()
    await second.close()
    third = await opened(path)
    assert await third.contacts() == ()
    await third.close()


async def test_a_database_of_a_newer_version_is_refused_and_left_alone(path):
    await (await opened(path)).close()
    with sqlite3.connect(path) as direct:
        direct.execute("UPDATE alembic_version SET version_num = 'future'")
    direct.close()
    with pytest.raises(LocalError, match="newer version"):
        await opened(path)


async def test_what_is_no_database_or_cannot_be_opened_is_said_so(path, tmp_path):
    path.write_bytes(b"This is not a database. " * 1000)
    with pytest.raises(Unavailable, match="cannot be opened"):
        await opened(path)
    with pytest.raises(Unavailable, match="No such file"):
        await opened(tmp_path / "missing" / "koppel.sqlite")
    with pytest.raises(LocalError, match="URL"):
        await Database.open("not a url:secret@", MINE, KEY, wall=WALL)


# --- writing behind ---------------------------------------------------------------------------------------------------

FAST = WriteSettings(writes_max=4, retry_seconds=0.01, retry_seconds_max=0.02, close_seconds=0.2)


class Locked:
    """Another process holds the write lock."""

    def __init__(self, path):
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("BEGIN IMMEDIATE")

    def release(self):
        self.connection.execute("ROLLBACK")
        self.connection.close()


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(database_engine, "PRAGMAS", ("busy_timeout = 5", *database_engine.PRAGMAS[1:]))


async def wait_until(condition):
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the writer's counters have no event
            await asyncio.sleep(0.001)


@pytest.mark.usefixtures("impatient")
async def test_a_database_that_fails_is_tried_again_and_nothing_is_lost(path):
    database = await opened(path, settings=FAST)
    lock = Locked(path)
    database.insert_contact(record_of(WHOLE[:1]))
    database.append_events("c-1", WHOLE)
    await wait_until(lambda: database.writer.failures >= 3)
    assert database.writer.waiting == 2
    database.close_contact(record_of(WHOLE))
    lock.release()
    await database.wait_written()
    assert await database.contact("c-1") == record_of(WHOLE)
    assert await database.events("c-1") == tuple(WHOLE)
    await database.close()


@pytest.mark.usefixtures("impatient")
async def test_a_full_queue_refuses_counts_and_does_not_wait(path):
    database = await opened(path, settings=FAST)
    lock = Locked(path)
    database.save_recording(RecordingRecord("c-0", "agent_interaction", "recording", WALL))
    await wait_until(lambda: database.writer.failures >= 1)
    for n in range(1, 5):
        database.save_recording(RecordingRecord(f"c-{n}", "agent_interaction", "recording", WALL))
    with pytest.raises(Exhausted):
        database.save_recording(RecordingRecord("c-5", "agent_interaction", "recording", WALL))
    assert (database.writer.refused, database.writer.waiting) == (1, 5)
    lock.release()
    await database.wait_written()
    assert len(await database.recordings()) == 5
    await database.close()


@pytest.mark.usefixtures("impatient")
async def test_closing_does_not_wait_for_ever_for_a_database_that_is_gone(path):
    database = await opened(path, settings=FAST)
    lock = Locked(path)
    database.save_recording(RecordingRecord("c-0", "agent_interaction", "recording", WALL))
    await database.close()
    assert database.writer.waiting == 1
    lock.release()


async def test_a_change_that_the_database_refuses_does_not_stop_those_behind_it(database):
    nobody = {"account_id": "a-1", "instance_id": "i-1", "contact_id": "nobody", "sequence": 0, "payload": b""}
    database.writer.put("an orphan", insert(schema.contact_events).values(nobody))
    await write(database, WHOLE)
    assert await database.contact("c-1") == record_of(WHOLE)
    assert (database.writer.rejected, database.writer.failures) == (1, 0)


async def test_many_contacts_are_written_in_few_statements(database):
    await write(database, WHOLE)
    stories = [renamed(WHOLE, f"c-{n}") for n in range(2, 22)]
    executed: list[str] = []

    def count(_connection, _cursor, statement, *_rest):
        executed.append(" ".join(statement.split()[:3]))

    event.listen(database._engine.sync_engine, "before_cursor_execute", count)
    for story in stories:
        database.insert_contact(record_of(story[:1]))
        database.append_events(story[0].contact_id, story)
        database.close_contact(record_of(story))
    await database.wait_written()
    event.remove(database._engine.sync_engine, "before_cursor_execute", count)
    inserts = [statement for statement in executed if statement.startswith("INSERT")]
    # At most two batches: one that began with the first change, and one of all others. Contacts come before their logs.
    assert inserts in (
        ["INSERT INTO contacts", "INSERT INTO contact_events"],
        ["INSERT INTO contacts", "INSERT INTO contacts", "INSERT INTO contact_events"],
    )
    assert len([statement for statement in executed if statement.startswith("UPDATE")]) == 20
    for story in stories:
        assert await database.contact(story[0].contact_id) == record_of(story)
        assert await database.events(story[0].contact_id) == tuple(story)
    assert database.writer.written == {"a contact": 21, "events": 21 * len(WHOLE), "a contact's end": 21}


async def test_events_need_an_open_contact(database):
    with pytest.raises(Exhausted, match="was not kept"):
        database.append_events("c-1", [started()])
    await write(database, WHOLE)
    with pytest.raises(Exhausted, match="was not kept"):
        database.append_events("c-1", [hold()])


@pytest.mark.usefixtures("impatient")
async def test_a_log_that_a_full_queue_cut_off_has_no_holes_and_the_record_is_whole(path):
    database = await opened(path, settings=FAST)
    await write(database, WHOLE[:2])
    lock = Locked(path)
    database.append_events("c-1", WHOLE[2:3])
    await wait_until(lambda: database.writer.failures >= 1)
    for n in range(4):
        database.save_recording(RecordingRecord(f"c-{n}", "agent_interaction", "recording", WALL))
    with pytest.raises(Exhausted, match="too many"):
        database.append_events("c-1", WHOLE[3:4])
    lock.release()
    await database.wait_written()
    with pytest.raises(Exhausted, match="was not kept"):
        database.append_events("c-1", WHOLE[4:5])
    database.close_contact(record_of(WHOLE))
    await database.wait_written()
    assert await database.events("c-1") == tuple(WHOLE[:3])
    assert await database.contact("c-1") == record_of(WHOLE)
    await database.close()


# --- a kill -----------------------------------------------------------------------------------------------------------

WRITER = """
import asyncio, sys
from pathlib import Path
from tests.signaling.test_database import KEY, MINE, WALL, WHOLE, Database, record_of, renamed, sqlite_url

async def main():
    database = await Database.open(sqlite_url(Path(sys.argv[1])), MINE, KEY, wall=WALL)
    for n in range(1_000_000):
        story = renamed(WHOLE, f"c-{n}")
        database.insert_contact(record_of(story[:1]))
        database.append_events(f"c-{n}", story)
        if n % 2:
            database.close_contact(record_of(story))
        await database.wait_written()
        print(n, flush=True)

asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("contacts", [1, 2, 7])
async def test_a_kill_loses_nothing_that_was_written(path, contacts):
    root = Path(__file__).parents[2]
    child = subprocess.Popen([sys.executable, "-c", WRITER, path], cwd=root, stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220 - for the test alone
    written = -1
    while written < contacts:
        written = int(await asyncio.to_thread(child.stdout.readline))
    child.send_signal(signal.SIGKILL)
    child.wait()
    written = max([written, *map(int, child.stdout.read().split())])
    child.stdout.close()
    database = await opened(path)
    left_open = {record.contact_id for record in await database.close_left_open()}
    for n in range(written + 1):
        story = renamed(WHOLE, f"c-{n}")
        assert await database.contact(f"c-{n}") == record_of(story)
        assert await database.events(f"c-{n}") == tuple(story)
        assert (f"c-{n}" in left_open) == (n % 2 == 0)
    await database.close()
    with sqlite3.connect(path) as direct:
        assert direct.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    direct.close()
