"""Who may do what: roles as sets of permissions, and the tokens that people and programs log in with.

A token is `kpl_<id>_<secret>`: the id finds its row, the secret is 256 random bits, shown once and kept as an Argon2id
hash (RFC 9106). A random secret of that size cannot be guessed, so the hash is a cheap one: a flood of log-ins must
not cost the relay its processor.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from argon2 import Type
from argon2.exceptions import Argon2Error, InvalidHashError
from argon2.low_level import hash_secret, verify_secret

from signaling.errors import RemoteError

__all__ = ["PERMISSIONS", "Permission", "Role", "Token", "hash_secret_of", "may", "mint", "parse", "parse_user_name"]

ID_BYTES = 8
SECRET_BYTES = 32
SALT_BYTES = 16
TOKEN_LENGTH_MAX = 128
USER_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
TOKEN = re.compile(r"kpl_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")

Entropy = Callable[[int], bytes]


class Permission(StrEnum):
    """One thing that may be allowed."""

    TAKE_CONTACTS = "take_contacts"
    """Log in with a softphone, choose a state, answer and steer one's own contacts."""
    VIEW_CONTACTS = "view_contacts"
    """See contacts and agents of the whole instance as they happen."""
    STEER_CONTACTS = "steer_contacts"
    """Hold, mute, transfer or end the contacts of others."""
    MONITOR_CONTACTS = "monitor_contacts"
    """Listen in, coach and barge."""
    LIST_RECORDINGS = "list_recordings"
    """See which recordings there are, and verify them."""
    PLAY_RECORDINGS = "play_recordings"
    """Hear or export recordings; every time leaves an audit entry."""
    MANAGE_USERS = "manage_users"
    """Add users and change their roles."""
    MANAGE_INSTANCE = "manage_instance"
    """Settings, keys, retention."""
    READ_AUDIT = "read_audit"
    """Read the audit log."""


class Role(StrEnum):
    """What a user is."""

    AGENT = "agent"
    SUPERVISOR = "supervisor"
    ADMIN = "admin"


_AGENT = frozenset({Permission.TAKE_CONTACTS})
_SUPERVISOR = _AGENT | {
    Permission.VIEW_CONTACTS,
    Permission.STEER_CONTACTS,
    Permission.MONITOR_CONTACTS,
    Permission.LIST_RECORDINGS,
    Permission.PLAY_RECORDINGS,
}
PERMISSIONS = MappingProxyType({Role.AGENT: _AGENT, Role.SUPERVISOR: _SUPERVISOR, Role.ADMIN: frozenset(Permission)})
"""The security profiles. An administrator may everything, so that nothing is out of reach of the owner."""


def may(role: Role, permission: Permission) -> bool:
    """Whether `role` has `permission`."""
    return permission in PERMISSIONS[role]


@dataclass(frozen=True, slots=True)
class Token:
    """A token's two halves; only the id may be stored or logged."""

    token_id: str
    secret: bytes = field(repr=False)

    def reveal(self) -> str:
        """What its owner is shown, once, and shows at every log-in."""
        return f"kpl_{self.token_id}_{base64.urlsafe_b64encode(self.secret).rstrip(b'=').decode()}"

    def matches(self, hashed: str) -> bool:
        """Whether this token's secret is the one behind a stored hash; takes a millisecond or two."""
        try:
            return verify_secret(hashed.encode(), self.secret, Type.ID)
        except (Argon2Error, InvalidHashError, UnicodeEncodeError):
            return False


def mint(entropy: Entropy) -> Token:
    """A new token."""
    return Token(entropy(ID_BYTES).hex(), entropy(SECRET_BYTES))


def parse(text: str) -> Token:
    """Read a token that somebody shows; raises `RemoteError` with a text that does not repeat it."""
    found = TOKEN.fullmatch(text) if len(text) <= TOKEN_LENGTH_MAX else None
    if found is None:
        raise RemoteError("this is not a token of Koppel", sip_status=403)
    token = Token(found[1], base64.urlsafe_b64decode(found[2] + "="))
    # The last character holds four bits that no byte needs: only one spelling of a token counts.
    if not hmac.compare_digest(token.reveal(), text):
        raise RemoteError("this is not a token of Koppel", sip_status=403)
    return token


def hash_secret_of(token: Token, entropy: Entropy) -> str:
    """What to store of a token: an Argon2id hash with its salt and parameters."""
    return hash_secret(
        token.secret, entropy(SALT_BYTES), time_cost=1, memory_cost=1024, parallelism=1, hash_len=32, type=Type.ID
    ).decode()


def parse_user_name(text: str) -> str:
    """A name that can stand in targets (`agent:NAME`), logs and metrics."""
    if not USER_NAME.fullmatch(text):
        raise RemoteError("a user name is at most 64 small letters, digits, dots, dashes and underscores")
    return text
