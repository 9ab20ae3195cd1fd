"""The tables of the database: every row is keyed by account and instance.

Sensitive columns (`LargeBinary`) hold what `signaling.privacy` sealed. Times are Unix seconds. The tables are made and
changed by `signaling.migrations` alone; a test holds both against each other.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    Float,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

ID = String(64)
NAME = String(128)


def _owner() -> tuple[Column[Any], ...]:
    return (
        Column("account_id", ID, primary_key=True, nullable=False),
        Column("instance_id", ID, primary_key=True, nullable=False),
    )


def _of_an_instance() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["account_id", "instance_id"], ["instances.account_id", "instances.instance_id"])


instances = Table(
    "instances",
    metadata,
    *_owner(),
    Column("created_at", Float, nullable=False),
    Column("audit_length", Integer, nullable=False),
    Column("audit_head", String(64), nullable=False),
)

data_keys = Table(
    "data_keys",
    metadata,
    *_owner(),
    Column("key_id", ID, primary_key=True),
    Column("purpose", String(16), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("wrapped", LargeBinary, nullable=False),
    _of_an_instance(),
)

users = Table(
    "users",
    metadata,
    *_owner(),
    Column("name", NAME, primary_key=True),
    Column("role", String(16), nullable=False),
    Column("token_id", ID, nullable=False),
    Column("token_hash", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    _of_an_instance(),
    UniqueConstraint("account_id", "instance_id", "token_id"),
)

contacts = Table(
    "contacts",
    metadata,
    *_owner(),
    Column("contact_id", ID, primary_key=True),
    Column("closed", Boolean, nullable=False),
    Column("queue", NAME, nullable=False),
    Column("trunk", NAME, nullable=False),
    Column("customer_number", LargeBinary, nullable=False),
    Column("customer_hash", LargeBinary(32), nullable=False),
    Column("system_number", LargeBinary, nullable=False),
    Column("initiated_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("disconnected_at", Float),
    Column("disconnect_reason", String(32)),
    Column("outcome", String(16), nullable=False),
    Column("outcome_detail", Text, nullable=False),
    Column("dequeued_at", Float),
    Column("queue_seconds", Integer, nullable=False),
    Column("agent_attempts", Integer, nullable=False),
    Column("agent", NAME),
    Column("connected_to_agent_at", Float),
    Column("agent_interaction_seconds", Integer, nullable=False),
    Column("customer_hold_seconds", Integer, nullable=False),
    Column("holds", Integer, nullable=False),
    Column("longest_hold_seconds", Integer, nullable=False),
    Column("agent_hold_seconds", Integer, nullable=False),
    Column("work_began_at", Float),
    Column("work_ended_at", Float),
    _of_an_instance(),
    Index(None, "account_id", "instance_id", "initiated_at"),
    Index(None, "account_id", "instance_id", "customer_hash"),
    Index(None, "account_id", "instance_id", "closed"),
)

contact_events = Table(
    "contact_events",
    metadata,
    *_owner(),
    Column("contact_id", ID, primary_key=True),
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("payload", LargeBinary, nullable=False),
    ForeignKeyConstraint(
        ["account_id", "instance_id", "contact_id"],
        ["contacts.account_id", "contacts.instance_id", "contacts.contact_id"],
    ),
)

recordings = Table(
    "recordings",
    metadata,
    *_owner(),
    Column("contact_id", ID, primary_key=True),
    Column("kind", String(32), primary_key=True),
    Column("status", String(16), nullable=False),
    Column("manifest", Text),
    Column("began_at", Float, nullable=False),
    Column("ended_at", Float),
    Column("ended", String(32)),
    _of_an_instance(),
    Index(None, "account_id", "instance_id", "began_at"),
)

audit = Table(
    "audit",
    metadata,
    *_owner(),
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    Column("at", String(32), nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("details", Text, nullable=False),
    Column("previous", String(64), nullable=False),
    Column("digest", String(64), nullable=False),
    _of_an_instance(),
)
