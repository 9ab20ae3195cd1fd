"""Keys of a contact: one random key, one derived key a track or log session, one nonce a chunk.

A (key, nonce) pair is never used twice: the derived key hangs on 16 fresh random bytes for each time that a process
opens a track (the recording session id), and the nonce is that session's chunk counter.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from recorder.errors import RemoteError
from recorder.names import Identity

CONTACT_KEY_BYTES = 32
KEY_ID_BYTES = 16
SESSION_ID_BYTES = 16
TAG_BYTES = 16
LABEL = b"koppel recording 1"
WRAP_LABEL = b"koppel contact key 1"

Kind = Literal["track", "log", "rendered"]


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A contact key under a wrapping key of the instance."""

    service: str
    wrapping_key_id: str
    data: bytes = field(repr=False)


class KeyService(Protocol):
    """Wraps and unwraps contact keys: a file, later AWS KMS or OpenBao. Both raise Unavailable; unwrap RemoteError."""

    def wrap(self, key: bytes, context: bytes) -> WrappedKey:
        """Wrap under the active wrapping key, bound to `context`."""
        ...

    def unwrap(self, wrapped: WrappedKey, context: bytes) -> bytes:
        """Unwrap what was wrapped with the same `context`."""
        ...


@dataclass(frozen=True, slots=True)
class ContactKey:
    """The key of one contact; its id says nothing about it."""

    key_id: bytes
    key: bytes = field(repr=False)


def length_prefixed(*parts: str | bytes) -> bytes:
    """Each part after its length in two bytes, big-endian: no two lists of parts encode alike."""
    encoded = (part.encode() if isinstance(part, str) else part for part in parts)
    return b"".join(len(part).to_bytes(2, "big") + part for part in encoded)


def wrap_context(identity: Identity, key_id: bytes) -> bytes:
    """The associated data of a wrapped contact key."""
    return length_prefixed(WRAP_LABEL, identity.account_id, identity.instance_id, identity.contact_id, key_id)


def session_cipher(key: ContactKey, kind: Kind, identity: Identity, track_id: str, session_id: bytes) -> AESGCM:
    """The cipher of one recording session: HKDF-SHA256 (RFC 5869) without salt, since the key is random."""
    ids = (identity.account_id, identity.instance_id, identity.contact_id, track_id)
    info = length_prefixed(LABEL, kind, *ids) + session_id
    return AESGCM(HKDF(hashes.SHA256(), 32, salt=None, info=info).derive(key.key))


def seal(cipher: AESGCM, counter: int, plaintext: bytes, associated_data: bytes) -> bytes:
    """Ciphertext and tag of the chunk `counter` of a session."""
    return cipher.encrypt(counter.to_bytes(12, "big"), plaintext, associated_data)


def unseal(cipher: AESGCM, counter: int, sealed: bytes, associated_data: bytes) -> bytes:
    """The plaintext of a chunk; RemoteError where the tag does not fit."""
    try:
        return cipher.decrypt(counter.to_bytes(12, "big"), sealed, associated_data)
    except InvalidTag:
        raise RemoteError("the tag does not fit: not sealed under this key as it stands here") from None
