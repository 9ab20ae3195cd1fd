"""Who a recording belongs to, and the names of its objects."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from recorder.errors import LocalError

POSITIONS_PER_TICK = 960
"""Positions of the timeline are counted at 48 kHz; a tick is 20 ms."""
POSITIONS_PER_SECOND = 48_000
KEY_NAME = "key"
MANIFEST_NAME = "manifest"
DEFAULT_KEY_TEMPLATE = "{account_id}/{instance_id}/{year}/{month}/{day}/{contact_id}/"

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", re.ASCII)
_SEGMENT = re.compile(r"track-(?P<track>.+)-(?P<session>[0-9a-f]{32})\.seg(?:\.[1-9][0-9]{0,5})?", re.ASCII)
_LOG = re.compile(r"log-(?P<session>[0-9a-f]{32})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Identity:
    """The three ids that stand in every key, header and associated data."""

    account_id: str
    instance_id: str
    contact_id: str

    def __post_init__(self) -> None:
        for value in (self.account_id, self.instance_id, self.contact_id):
            require_id(value)


def require_id(value: str) -> str:
    """An id that is safe in object keys; else LocalError."""
    if not _ID.fullmatch(value):
        raise LocalError(f"not an id of 1 to 100 letters, digits, '_', '-' or '.': {value[:20]!r}")
    return value


def segment_name(track_id: str, session_id: bytes, part: int) -> str:
    """The object of a track's session; parts after the first are numbered."""
    name = f"track-{track_id}-{session_id.hex()}.seg"
    return f"{name}.{part}" if part else name


def log_name(session_id: bytes) -> str:
    """The object of a contact's sealed log."""
    return f"log-{session_id.hex()}"


def is_segment(name: str) -> bool:
    """Whether this is the name of a track's segment."""
    return _SEGMENT.fullmatch(name) is not None


def is_log(name: str) -> bool:
    """Whether this is the name of a sealed log."""
    return _LOG.fullmatch(name) is not None


def directory(template: str, identity: Identity, wall: float) -> str:
    """What stands before the names of a contact's objects; dates are UTC."""
    at = datetime.fromtimestamp(wall, UTC)
    path = template.format(
        account_id=identity.account_id,
        instance_id=identity.instance_id,
        contact_id=identity.contact_id,
        year=f"{at.year:04d}",
        month=f"{at.month:02d}",
        day=f"{at.day:02d}",
    )
    return path if path.endswith("/") else path + "/"


def check_template(template: str) -> str:
    """A template whose keys name instance and contact; else LocalError."""
    try:
        path = directory(template, Identity("a0", "i0", "c0"), 0.0)
    except (KeyError, IndexError, ValueError) as error:
        raise LocalError(f"object key template {template!r}: {error}") from None
    if not {"a0", "i0", "c0"} <= set(path.strip("/").split("/")) or path.startswith("/") or "//" in path:
        raise LocalError(
            f"object key template {template!r}: account_id, instance_id and contact_id must each be a path segment"
        )
    return template


def belongs_to(key: str, contact_id: str) -> bool:
    """Whether an object key contains this contact's id, as a word of its own."""
    return re.search(rf"(?<![A-Za-z0-9]){re.escape(contact_id)}(?![A-Za-z0-9])", key) is not None


def wall_text(wall: float) -> str:
    """An instant in UTC with milliseconds (RFC 3339)."""
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
