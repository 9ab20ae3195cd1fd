"""Canonical JSON documents with a detached Ed25519 signature, two lines each.

The first line is the body in canonical JSON (RFC 8785, and stricter: no floating-point numbers); the second is
`{"signature":…,"signer":…}`, likewise canonical. The signature covers the exact bytes of the first line without its
line feed. Nothing may follow. So a reader needs no canonicaliser to check a signature, and every byte is covered.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Protocol, cast

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from recorder.errors import RemoteError

Json = str | int | bool | None | Sequence["Json"] | Mapping[str, "Json"]
DOCUMENT_BYTES_MAX = 16 << 20


class Signer(Protocol):
    """Signs documents for an instance."""

    @property
    def signer_id(self) -> str:
        """`signer_id_of` its public key."""
        ...

    def sign(self, data: bytes) -> bytes:
        """An Ed25519 signature (RFC 8032) over `data`."""
        ...


def signer_id_of(public_key: Ed25519PublicKey) -> str:
    """The first 16 bytes of SHA-256 over the raw public key, in hexadecimal."""
    return hashlib.sha256(public_key.public_bytes_raw()).hexdigest()[:32]


def canonical(value: Json) -> bytes:
    """Write canonical JSON."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def parse_canonical(data: bytes) -> dict[str, Json]:
    """Read a canonical JSON object; anything that `canonical` would not have written raises RemoteError."""
    try:
        value = json.loads(data, parse_float=_no_float, parse_constant=_no_float)
        exact = isinstance(value, dict) and canonical(cast("Json", value)) == data
    except (ValueError, RecursionError) as error:
        raise RemoteError("not JSON as it is written here") from error
    if not exact:
        raise RemoteError("not canonical JSON")
    return cast("dict[str, Json]", value)


def signed(body: Mapping[str, Json], signer: Signer) -> bytes:
    """Write a signed document."""
    line = canonical(body)
    signature = base64.b64encode(signer.sign(line)).decode()
    return line + b"\n" + canonical({"signature": signature, "signer": signer.signer_id}) + b"\n"


def parse_unchecked(document: bytes) -> dict[str, Json]:
    """The body of a document, its form checked but not its signature."""
    return _split(document)[0]


def parse_signed(document: bytes, public_key: Ed25519PublicKey) -> dict[str, Json]:
    """The body of a document that `public_key` signed; else RemoteError with the place."""
    body, signature, signer = _split(document)
    if signer != signer_id_of(public_key):
        raise RemoteError("signed by another key than the one given", place="line 2, signer")
    try:
        public_key.verify(signature, document[: document.index(b"\n")])
    except InvalidSignature:
        raise RemoteError("the signature does not fit the body", place="line 2, signature") from None
    return body


def document_hash(document: bytes) -> str:
    """What the next document of a chain names as its predecessor."""
    return hashlib.sha256(document).hexdigest()


def _split(document: bytes) -> tuple[dict[str, Json], bytes, str]:
    if len(document) > DOCUMENT_BYTES_MAX:
        raise RemoteError("longer than a document may be")
    lines = document.split(b"\n")
    if len(lines) != 3 or lines[2]:
        raise RemoteError("a document is two lines, each ended by a line feed", place=f"byte {len(document)}")
    body = _located(lines[0], "line 1")
    seal = _located(lines[1], "line 2")
    signature, signer = seal.get("signature"), seal.get("signer")
    if seal.keys() != {"signature", "signer"} or not isinstance(signature, str) or not isinstance(signer, str):
        raise RemoteError("not a signature line", place="line 2")
    return body, _base64(signature), signer


def _located(line: bytes, place: str) -> dict[str, Json]:
    try:
        return parse_canonical(line)
    except RemoteError as error:
        raise RemoteError(str(error), place=place) from None


def _base64(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    # base64 has spare bits in its last letter: only the one spelling that we write is accepted.
    if not data or base64.b64encode(data).decode() != text:
        raise RemoteError("not canonical base64", place="line 2, signature")
    return data


def _no_float(text: str) -> float:
    raise ValueError(f"no floating-point numbers here: {text[:20]}")
