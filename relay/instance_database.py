"""Opens the database of an instance, as the operator's settings and the data directory say."""

from __future__ import annotations

from relay.config import Settings
from relay.data_directory import DataDirectory
from signaling.database import Database, Scope, sqlite_url
from signaling.database_writer import WriteSettings

__all__ = ["open_database"]


async def open_database(settings: Settings, data: DataDirectory, *, wall: float) -> Database:
    """SQLite in the data directory, unless `database.url` names another; `wall` is Unix seconds."""
    url = settings.database.url
    return await Database.open(
        url.get_secret_value() if url is not None else sqlite_url(data.database),
        Scope(data.identity.account_id, data.identity.instance_id),
        data.records_key(),
        wall=wall,
        settings=WriteSettings(writes_max=settings.database.writes_max),
    )
