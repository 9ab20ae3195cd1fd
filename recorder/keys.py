"""Key files: the instance's wrapping keys and its signing key, each a file of its own, 0600, made at first start."""

from __future__ import annotations

import base64
import binascii
import json
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from recorder.document import signer_id_of
from recorder.envelope import WrappedKey, length_prefixed
from recorder.errors import LocalError, RemoteError, Unavailable

NONCE_BYTES = 12
_SERVICE = "file"


class FileKeyService:
    """Wraps contact keys under the active key of a JSON file `{"active": id, "keys": {id: base64}}`."""

    def __init__(self, active: str, keys: Mapping[str, bytes], entropy: Callable[[int], bytes] = os.urandom) -> None:
        self._active = active
        self._keys = {key_id: AESGCM(key) for key_id, key in keys.items()}
        self._entropy = entropy

    @classmethod
    def open(cls, path: Path, *, create: bool = True, entropy: Callable[[int], bytes] = os.urandom) -> FileKeyService:
        """Read a key file; with `create`, make it where there is none. Raises LocalError, Unavailable."""
        if create and not path.exists():
            key_id = entropy(8).hex()
            made = {"active": key_id, "keys": {key_id: base64.b64encode(entropy(32)).decode()}}
            write_secret(path, json.dumps(made, indent=1).encode() + b"\n")
        try:
            content = cast("dict[str, Any]", json.loads(read_secret(path)))
            keys = {str(key_id): base64.b64decode(key, validate=True) for key_id, key in content["keys"].items()}
            active = str(content["active"])
            if active not in keys:
                raise ValueError("the active key is not among them")
            return cls(active, keys, entropy)
        except (ValueError, KeyError, TypeError, AttributeError, binascii.Error) as error:
            raise LocalError(
                f"key file {path} is damaged ({type(error).__name__}): restore it from its backup"
            ) from None

    def wrap(self, key: bytes, context: bytes) -> WrappedKey:
        """AES-256-GCM under the active key; nonce ‖ ciphertext ‖ tag."""
        nonce = self._entropy(NONCE_BYTES)
        sealed = self._keys[self._active].encrypt(nonce, key, _bound(self._active, context))
        return WrappedKey(_SERVICE, self._active, nonce + sealed)

    def unwrap(self, wrapped: WrappedKey, context: bytes) -> bytes:
        """The contact key; RemoteError where it was wrapped otherwise, Unavailable without the wrapping key."""
        cipher = self._keys.get(wrapped.wrapping_key_id)
        if cipher is None or wrapped.service != _SERVICE:
            raise Unavailable(f"wrapping key {wrapped.service}:{wrapped.wrapping_key_id} is not in the key file")
        nonce, sealed = wrapped.data[:NONCE_BYTES], wrapped.data[NONCE_BYTES:]
        try:
            return cipher.decrypt(nonce, sealed, _bound(wrapped.wrapping_key_id, context))
        except (InvalidTag, ValueError):
            raise RemoteError(
                "the wrapped key does not open: altered, or of another contact", place="wrapped_key"
            ) from None


class FileSigner:
    """The Ed25519 signing key of an instance, PKCS #8 in PEM; its public half stands beside it as `.pub`."""

    def __init__(self, private_key: Ed25519PrivateKey) -> None:
        self._private_key = private_key
        self.public_key = private_key.public_key()
        self.signer_id = signer_id_of(self.public_key)

    @classmethod
    def open(cls, path: Path, *, create: bool = True, entropy: Callable[[int], bytes] = os.urandom) -> FileSigner:
        """Read a signing key; with `create`, make it where there is none. Raises LocalError, Unavailable."""
        if create and not path.exists():
            made = Ed25519PrivateKey.from_private_bytes(entropy(32))
            pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
            write_secret(path, made.private_bytes(pem, pkcs8, serialization.NoEncryption()))
        try:
            private_key = serialization.load_pem_private_key(read_secret(path), None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            private_key = None
        if not isinstance(private_key, Ed25519PrivateKey):
            raise LocalError(f"signing key {path} is not an Ed25519 key in PEM")
        signer = cls(private_key)
        signer._write_public_key(path.with_name(path.name + ".pub"))
        return signer

    def sign(self, data: bytes) -> bytes:
        """An Ed25519 signature (RFC 8032)."""
        return self._private_key.sign(data)

    def _write_public_key(self, path: Path) -> None:
        if not path.exists():
            spki = serialization.PublicFormat.SubjectPublicKeyInfo
            write_secret(path, self.public_key.public_bytes(serialization.Encoding.PEM, spki))


def load_public_key(path: Path) -> Ed25519PublicKey:
    """The public key that recordings are verified against. Raises LocalError, Unavailable."""
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise Unavailable(f"public key {path}: {error.strerror}") from error
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise LocalError(f"{path} is not an Ed25519 public key in PEM")
    return key


def read_secret(path: Path) -> bytes:
    """A file that only its owner may read; refused otherwise."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise LocalError(f"{path} can be read by others (mode {mode:04o}): chmod 600 it, and consider it known")
        return path.read_bytes()
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror}") from error


def write_secret(path: Path, data: bytes) -> None:
    """Make a file 0600, whole and durable or not at all; never replaces one."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(partial, path)
        except FileExistsError:
            pass  # another process was first: its file is the one that both read
        finally:
            partial.unlink()
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(folder)
        os.close(folder)
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror}") from error


def _bound(wrapping_key_id: str, context: bytes) -> bytes:
    return length_prefixed(wrapping_key_id) + context
