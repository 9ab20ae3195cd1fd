"""What the database keeps of people is sealed: time-limited data keys, a search key, and the redaction of logs.

Every instance has data keys, each used for one period, and one search key that is not limited in time. All of them are
random, and kept wrapped by the instance key (AES-256-GCM), which the caller brings. Destroying a data key makes what it
sealed unreadable for ever, in backups as well; then `opened` gives None.

A sealed value is

    version (1) ‖ key id (16) ‖ nonce (12) ‖ AES-256-GCM ciphertext ‖ tag (16)

and its associated data names the instance and the place (table, column, row) that it belongs to, so that no value can
be moved to another row or instance. Nonces are random: one key must not seal more than 2³² values (NIST SP 800-38D
§8.3), which at 30 days a key is 1,600 values a second.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from signaling.errors import LocalError

Entropy = Callable[[int], bytes]
Purpose = Literal["data", "search"]

VERSION = b"\x01"
KEY_ID_BYTES = 16
KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
HEADER_BYTES = len(VERSION) + KEY_ID_BYTES + NONCE_BYTES
DATA_KEY_SECONDS = 30 * 86_400.0


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose rows these are: nothing is ever read or written without both."""

    account_id: str
    instance_id: str


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A data key or the search key as it is stored."""

    key_id: str
    purpose: Purpose
    created_at: float
    """Unix seconds; a data key seals what comes within its period from here on."""
    wrapped: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sealed value belongs: it opens nowhere else."""

    table: str
    column: str
    row: str


class KeyRing:
    """The unwrapped keys of one instance."""

    def __init__(
        self,
        scope: Scope,
        instance_key: bytes,
        *,
        entropy: Entropy,
        period_seconds: float = DATA_KEY_SECONDS,
    ) -> None:
        if len(instance_key) != KEY_BYTES:
            raise LocalError(f"an instance key has {KEY_BYTES} bytes")
        self._scope = scope
        self._instance_key = AESGCM(instance_key)
        self._entropy = entropy
        self._period_seconds = period_seconds
        self._data: dict[str, AESGCM] = {}
        self._newest: WrappedKey | None = None
        self._search: bytes | None = None

    def load(self, stored: Iterable[WrappedKey]) -> None:
        """Unwrap stored keys; raises `LocalError` where the instance key is not the one that wrapped them."""
        for key in stored:
            if key.key_id not in self._data:
                self._add(key, self._unwrap(key))

    def missing(self, wall: float) -> tuple[WrappedKey, ...]:
        """Make the keys that sealing at this time needs and the ring has not; to be stored before they are used."""
        made: list[WrappedKey] = []
        if self._search is None:
            made.append(self._make("search", wall))
        # Within a period also backwards: a clock that was set right must not make a key for every contact.
        if self._newest is None or abs(wall - self._newest.created_at) >= self._period_seconds:
            self._newest = self._make("data", wall)
            made.append(self._newest)
        return tuple(made)

    def seal(self, text: str | bytes, place: Place) -> bytes:
        """Seal a value with the newest data key."""
        assert self._newest is not None, "`missing` was asked before anything is sealed"
        key_id, nonce = self._newest.key_id, self._entropy(NONCE_BYTES)
        plain = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
        header = VERSION + bytes.fromhex(key_id) + nonce
        return header + self._data[key_id].encrypt(nonce, plain, self._bound(header, place))

    def opened(self, sealed: bytes, place: Place) -> bytes | None:
        """Open a value; None if its key was destroyed. Raises `LocalError` where it was changed or moved here."""
        header, ciphertext = sealed[:HEADER_BYTES], sealed[HEADER_BYTES:]
        if len(ciphertext) < TAG_BYTES or not header.startswith(VERSION):
            raise LocalError(f"{place.table}.{place.column}: not a sealed value")
        key = self._data.get(header[len(VERSION) : len(VERSION) + KEY_ID_BYTES].hex())
        if key is None:
            return None
        try:
            return key.decrypt(header[-NONCE_BYTES:], ciphertext, self._bound(header, place))
        except InvalidTag:
            raise LocalError(f"{place.table}.{place.column}: a sealed value was changed or belongs elsewhere") from None

    def opened_text(self, sealed: bytes, place: Place) -> str | None:
        """Open a value that was sealed as text."""
        plain = self.opened(sealed, place)
        return None if plain is None else plain.decode("utf-8", "surrogatepass")

    def search_token(self, number: str) -> bytes:
        """What a customer's number is found by: HMAC-SHA256 of its plain form under the search key."""
        assert self._search is not None, "`missing` was asked before anything is sealed"
        return hmac.digest(self._search, plain_number(number).encode("utf-8", "surrogatepass"), hashlib.sha256)

    def _make(self, purpose: Purpose, wall: float) -> WrappedKey:
        secret, key_id = self._entropy(KEY_BYTES), self._entropy(KEY_ID_BYTES).hex()
        nonce = self._entropy(NONCE_BYTES)
        wrapped = nonce + self._instance_key.encrypt(nonce, secret, self._wrapping(purpose, key_id))
        key = WrappedKey(key_id, purpose, wall, wrapped)
        self._add(key, secret)
        return key

    def _unwrap(self, key: WrappedKey) -> bytes:
        nonce, wrapped = key.wrapped[:NONCE_BYTES], key.wrapped[NONCE_BYTES:]
        try:
            return self._instance_key.decrypt(nonce, wrapped, self._wrapping(key.purpose, key.key_id))
        except (InvalidTag, ValueError):
            raise LocalError("the database's keys do not open: this is not the instance key that made them") from None

    def _add(self, key: WrappedKey, secret: bytes) -> None:
        if key.purpose == "search":
            self._search = secret
            return
        self._data[key.key_id] = AESGCM(secret)
        if self._newest is None or key.created_at >= self._newest.created_at:
            self._newest = key

    def _wrapping(self, purpose: Purpose, key_id: str) -> bytes:
        return _joined("koppel key v1", self._scope.account_id, self._scope.instance_id, purpose, key_id)

    def _bound(self, header: bytes, place: Place) -> bytes:
        ids = (self._scope.account_id, self._scope.instance_id, place.table, place.column, place.row)
        return header + _joined("koppel value v1", *ids)


def _joined(*parts: str) -> bytes:
    """Each part with its length in front, so that no two lists of parts are the same bytes."""
    encoded = [part.encode() for part in parts]
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)


_SIP_URI = re.compile(r"(?:sips?|tel):([^@;>]+)", re.IGNORECASE)
_SEPARATORS = re.compile(r"[\s().\-/]")
_DIGITS_SHOWN = 8
"""Of a number with fewer digits nothing is shown: the rest would be easy to guess."""


def plain_number(number: str) -> str:
    """The one form of a number: `sip:` and `tel:` taken off, no separators, `00` as `+`; else lower-case text."""
    uri = _SIP_URI.search(number)
    bare = _SEPARATORS.sub("", uri[1] if uri else number)
    if bare.startswith("00"):
        bare = f"+{bare[2:]}"
    return bare.lower()


def redacted(number: str) -> str:
    """A number as a log may show it: `+4930123456` is `+49…56`; of anything else nothing but the ellipsis."""
    bare = plain_number(number)
    digits = bare.removeprefix("+")
    if not (digits.isascii() and digits.isdigit()) or len(digits) < _DIGITS_SHOWN:
        return "…"
    first = bare[:3] if bare.startswith("+") else ""
    return f"{first}…{bare[-2:]}"
