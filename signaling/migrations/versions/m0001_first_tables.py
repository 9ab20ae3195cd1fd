"""The first tables: instances, keys, users, contacts and their events, recordings, audit."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make all tables."""
    _instances()
    _audit()
    _contacts()
    _data_keys()
    _recordings()
    _users()
    _contact_events()


def _owner() -> tuple[sa.Column[Any], ...]:
    """Every row is keyed by account and instance."""
    return (
        sa.Column("account_id", sa.String(length=64), nullable=False),
        sa.Column("instance_id", sa.String(length=64), nullable=False),
    )


def _instances() -> None:
    op.create_table(
        "instances",
        *_owner(),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("audit_length", sa.Integer(), nullable=False),
        sa.Column("audit_head", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "instance_id", name=op.f("pk_instances")),
    )


def _audit() -> None:
    op.create_table(
        "audit",
        *_owner(),
        sa.Column("sequence", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", sa.String(length=32), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("details", sa.Text(), nullable=False),
        sa.Column("previous", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id", "instance_id"],
            ["instances.account_id", "instances.instance_id"],
            name=op.f("fk_audit_instances"),
        ),
        sa.PrimaryKeyConstraint("account_id", "instance_id", "sequence", name=op.f("pk_audit")),
    )


def _contacts() -> None:
    op.create_table(
        "contacts",
        *_owner(),
        sa.Column("contact_id", sa.String(length=64), nullable=False),
        sa.Column("closed", sa.Boolean(), nullable=False),
        sa.Column("queue", sa.String(length=128), nullable=False),
        sa.Column("trunk", sa.String(length=128), nullable=False),
        sa.Column("customer_number", sa.LargeBinary(), nullable=False),
        sa.Column("customer_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("system_number", sa.LargeBinary(), nullable=False),
        sa.Column("initiated_at", sa.Float(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.Column("disconnected_at", sa.Float(), nullable=True),
        sa.Column("disconnect_reason", sa.String(length=32), nullable=True),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("outcome_detail", sa.Text(), nullable=False),
        sa.Column("dequeued_at", sa.Float(), nullable=True),
        sa.Column("queue_seconds", sa.Integer(), nullable=False),
        sa.Column("agent_attempts", sa.Integer(), nullable=False),
        sa.Column("agent", sa.String(length=128), nullable=True),
        sa.Column("connected_to_agent_at", sa.Float(), nullable=True),
        sa.Column("agent_interaction_seconds", sa.Integer(), nullable=False),
        sa.Column("customer_hold_seconds", sa.Integer(), nullable=False),
        sa.Column("holds", sa.Integer(), nullable=False),
        sa.Column("longest_hold_seconds", sa.Integer(), nullable=False),
        sa.Column("agent_hold_seconds", sa.Integer(), nullable=False),
        sa.Column("work_began_at", sa.Float(), nullable=True),
        sa.Column("work_ended_at", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(
            ["account_id", "instance_id"],
            ["instances.account_id", "instances.instance_id"],
            name=op.f("fk_contacts_instances"),
        ),
        sa.PrimaryKeyConstraint("account_id", "instance_id", "contact_id", name=op.f("pk_contacts")),
    )
    op.create_index(
        op.f("ix_contacts_account_id_instance_id_closed"),
        "contacts",
        ["account_id", "instance_id", "closed"],
        unique=False,
    )
    op.create_index(
        op.f("ix_contacts_account_id_instance_id_customer_hash"),
        "contacts",
        ["account_id", "instance_id", "customer_hash"],
        unique=False,
    )
    op.create_index(
        op.f("ix_contacts_account_id_instance_id_initiated_at"),
        "contacts",
        ["account_id", "instance_id", "initiated_at"],
        unique=False,
    )


def _data_keys() -> None:
    op.create_table(
        "data_keys",
        *_owner(),
        sa.Column("key_id", sa.String(length=64), nullable=False),
        sa.Column("purpose", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id", "instance_id"],
            ["instances.account_id", "instances.instance_id"],
            name=op.f("fk_data_keys_instances"),
        ),
        sa.PrimaryKeyConstraint("account_id", "instance_id", "key_id", name=op.f("pk_data_keys")),
    )


def _recordings() -> None:
    op.create_table(
        "recordings",
        *_owner(),
        sa.Column("contact_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("manifest", sa.Text(), nullable=True),
        sa.Column("began_at", sa.Float(), nullable=False),
        sa.Column("ended_at", sa.Float(), nullable=True),
        sa.Column("ended", sa.String(length=32), nullable=True),
        sa.ForeignKeyConstraint(
            ["account_id", "instance_id"],
            ["instances.account_id", "instances.instance_id"],
            name=op.f("fk_recordings_instances"),
        ),
        sa.PrimaryKeyConstraint("account_id", "instance_id", "contact_id", "kind", name=op.f("pk_recordings")),
    )
    op.create_index(
        op.f("ix_recordings_account_id_instance_id_began_at"),
        "recordings",
        ["account_id", "instance_id", "began_at"],
        unique=False,
    )


def _users() -> None:
    op.create_table(
        "users",
        *_owner(),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("token_id", sa.String(length=64), nullable=False),
        sa.Column("token_hash", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id", "instance_id"],
            ["instances.account_id", "instances.instance_id"],
            name=op.f("fk_users_instances"),
        ),
        sa.PrimaryKeyConstraint("account_id", "instance_id", "name", name=op.f("pk_users")),
        sa.UniqueConstraint(
            "account_id", "instance_id", "token_id", name=op.f("uq_users_account_id_instance_id_token_id")
        ),
    )


def _contact_events() -> None:
    op.create_table(
        "contact_events",
        *_owner(),
        sa.Column("contact_id", sa.String(length=64), nullable=False),
        sa.Column("sequence", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id", "instance_id", "contact_id"],
            ["contacts.account_id", "contacts.instance_id", "contacts.contact_id"],
            name=op.f("fk_contact_events_contacts"),
        ),
        sa.PrimaryKeyConstraint("account_id", "instance_id", "contact_id", "sequence", name=op.f("pk_contact_events")),
    )
