"""Delivered recordings as they stand in a store: find a contact, read its manifest, get its key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from recorder.document import Json, parse_signed, parse_unchecked
from recorder.envelope import ContactKey, KeyService, wrap_context
from recorder.errors import RemoteError, Unavailable
from recorder.manifest import Manifest, parse_key_body
from recorder.names import KEY_NAME, MANIFEST_NAME, belongs_to


class ObjectReader(Protocol):
    """A store as far as reading goes. Both raise Unavailable."""

    def object_keys(self, prefix: str = "") -> Iterable[str]:
        """Object keys below a path."""
        ...

    def read(self, key: str) -> bytes:
        """A whole object."""
        ...


@dataclass(frozen=True, slots=True)
class DeliveredContact:
    """A contact whose manifest's signature holds; `key` is there where its key was asked for."""

    directory: str
    manifest: Manifest
    key: ContactKey | None = field(default=None, repr=False)


def manifest_keys(reader: ObjectReader, prefix: str = "") -> list[str]:
    """The manifests below a path, in the order of their object keys: that of days, with the default template."""
    return sorted(key for key in reader.object_keys(prefix) if key.rsplit("/", 1)[-1] == MANIFEST_NAME)


def contact_objects(reader: ObjectReader, contact: str) -> tuple[str, list[str]]:
    """A contact's directory and every object key that contains its id; `contact` is an id, or its manifest's key."""
    every = sorted(reader.object_keys())
    directory = ""
    if "/" in contact:
        directory = contact.rsplit("/", 1)[0] + "/"
        contact = _contact_id_of(reader, contact, exists=contact in every)
    keys = [key for key in every if belongs_to(key, contact) or (directory and key.startswith(directory))]
    if not keys:
        raise Unavailable(f"the store holds nothing of contact {contact}", refused=True)
    if not directory:
        manifests = [key for key in keys if key.rsplit("/", 1)[-1] == MANIFEST_NAME]
        directory = (manifests or keys)[0].rsplit("/", 1)[0] + "/"
    return directory, keys


def open_contact(
    reader: ObjectReader, contact: str, public_key: Ed25519PublicKey, key_service: KeyService | None = None
) -> DeliveredContact:
    """A contact for playback. Raises Unavailable; RemoteError where signature or key do not hold."""
    if "/" not in contact:
        contact = contact_objects(reader, contact)[0] + MANIFEST_NAME
    directory = contact.rsplit("/", 1)[0] + "/"
    manifest = Manifest.parse(parse_signed(reader.read(contact), public_key))
    key = None
    if key_service is not None:
        key = unwrap_key(parse_signed(reader.read(directory + KEY_NAME), public_key), manifest, key_service)
    return DeliveredContact(directory, manifest, key)


def unwrap_key(body: Mapping[str, Json], manifest: Manifest, key_service: KeyService) -> ContactKey:
    """The contact key of a key object whose signature was checked. Raises Unavailable, RemoteError."""
    identity, key_id, wrapped = parse_key_body(body)
    if (identity, key_id.hex()) != (manifest.identity, manifest.key_id):
        raise RemoteError("the key object is of another contact", place="line 1")
    return ContactKey(key_id, key_service.unwrap(wrapped, wrap_context(identity, key_id)))


def _contact_id_of(reader: ObjectReader, manifest_key: str, *, exists: bool) -> str:
    """The id that a manifest names, before its signature is known: it only selects what is looked at."""
    try:
        body = parse_unchecked(reader.read(manifest_key)) if exists else {}
    except RemoteError:
        body = {}
    return str(body.get("contact_id") or manifest_key.split("/")[-2])
