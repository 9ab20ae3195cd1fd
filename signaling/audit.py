"""The audit log's chain: each entry carries the hash of the one before, so that none can be removed or changed unseen.

Sans-IO: `append` makes the entry that follows a head, `check` reads a chain back. An entry names who did what to which
thing by ids; it never holds a phone number or audio. The chain shows tampering by whoever cannot rewrite all that
follows; its head belongs beside the anchor of the recordings to show more.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import MappingProxyType

from signaling.errors import LocalError

__all__ = ["GENESIS", "AuditEntry", "Chain", "Finding", "append", "check"]

GENESIS = "0" * 64
"""What the first entry has for a predecessor."""
DETAILS_MAX = 16
TEXT_MAX = 256


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One act: `actor` (`user:NAME`, `system`) did `action` to `subject` (`contact:ID`, `user:NAME`)."""

    sequence: int
    at: str
    account_id: str
    instance_id: str
    actor: str
    action: str
    subject: str
    details: Mapping[str, str]
    previous: str
    digest: str

    def canonical(self) -> bytes:
        """The bytes under `digest`: all other fields, as canonical JSON (RFC 8785's rules for text and integers)."""
        content = {
            "account_id": self.account_id,
            "action": self.action,
            "actor": self.actor,
            "at": self.at,
            "details": dict(self.details),
            "instance_id": self.instance_id,
            "previous": self.previous,
            "sequence": self.sequence,
            "subject": self.subject,
        }
        return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    def computed(self) -> str:
        """What `digest` must be."""
        return hashlib.sha256(self.canonical()).hexdigest()


@dataclass(frozen=True, slots=True)
class Chain:
    """One instance's log, as far as its next entry needs to know: its length and the digest of its last entry."""

    account_id: str
    instance_id: str
    length: int = 0
    head: str = GENESIS


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong with a chain, and where."""

    sequence: int
    what: str


def append(
    chain: Chain, actor: str, action: str, subject: str, *, wall: float, details: Mapping[str, str] | None = None
) -> tuple[AuditEntry, Chain]:
    """The entry after `chain`'s head, and the chain with it; `wall` is Unix seconds."""
    held = dict(details or {})
    texts = (actor, action, subject, *held, *held.values())
    if len(held) > DETAILS_MAX or any(len(text) > TEXT_MAX for text in texts):
        raise LocalError(f"an audit entry has at most {DETAILS_MAX} details, and texts of {TEXT_MAX} characters")
    at = datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds")
    draft = AuditEntry(
        sequence=chain.length,
        at=at,
        account_id=chain.account_id,
        instance_id=chain.instance_id,
        actor=actor,
        action=action,
        subject=subject,
        details=MappingProxyType(held),
        previous=chain.head,
        digest="",
    )
    entry = replace(draft, digest=draft.computed())
    return entry, replace(chain, length=chain.length + 1, head=entry.digest)


def check(entries: Iterable[AuditEntry], expected: Chain) -> list[Finding]:
    """Everything wrong with a log that ought to lead up to `expected`; empty: it is whole."""
    findings: list[Finding] = []
    head, length = GENESIS, 0
    for entry in entries:
        findings += _check_one(entry, head, length, expected)
        head, length = entry.digest, length + 1
    if length != expected.length:
        findings.append(Finding(length, f"the log ends after {length} entries, not after {expected.length}"))
    elif head != expected.head:
        findings.append(Finding(length, "the log does not end where it must"))
    return findings


def _check_one(entry: AuditEntry, head: str, sequence: int, expected: Chain) -> list[Finding]:
    wrong: list[str] = []
    if entry.sequence != sequence:
        wrong.append(f"entry {sequence} is missing")
    if entry.previous != head:
        wrong.append("does not follow the entry before it")
    if entry.digest != entry.computed():
        wrong.append("its content was changed")
    if (entry.account_id, entry.instance_id) != (expected.account_id, expected.instance_id):
        wrong.append("belongs to another instance")
    return [Finding(entry.sequence, what) for what in wrong]
