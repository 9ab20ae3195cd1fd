"""Walking the chains of manifests of an instance: every number once, each naming the one before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from recorder.archive import ObjectReader
from recorder.document import document_hash, parse_signed
from recorder.errors import RemoteError
from recorder.manifest import NO_PREDECESSOR, link_of
from recorder.names import KEY_NAME, MANIFEST_NAME
from recorder.verification import Finding


@dataclass(frozen=True, slots=True, order=True)
class _Place:
    sequence: int
    previous: str
    digest: str
    key: str


def verify_instance(reader: ObjectReader, public_key: Ed25519PublicKey, prefix: str = "") -> list[Finding]:
    """Findings about the chains below a path. What was cut off at the end only an anchor shows. Raises Unavailable."""
    chains: dict[str, list[_Place]] = {}
    findings: list[Finding] = []
    for key in sorted(reader.object_keys(prefix)):
        if key.rsplit("/", 1)[-1] not in (MANIFEST_NAME, KEY_NAME):
            continue
        document = reader.read(key)
        try:
            body = parse_signed(document, public_key)
            if body.get("type") == "key":
                continue  # not part of the chain; the tombstone that may stand in its place is
            link = link_of(body)
        except RemoteError as error:
            findings.append(Finding(key, error.place, str(error)))
            continue
        place = _Place(link.sequence, link.previous, document_hash(document), key)
        chains.setdefault(link.chain_id, []).append(place)
    for places in chains.values():
        findings.extend(_walk(sorted(places)))
    return findings


def _walk(places: Iterable[_Place]) -> Iterator[Finding]:
    expected, previous = 0, NO_PREDECESSOR
    for each in places:
        where = f"sequence {each.sequence}"
        if each.sequence < expected:
            yield Finding(each.key, where, "this place in the chain is taken twice")
        elif each.sequence > expected:
            missing = f"{expected}" if each.sequence == expected + 1 else f"{expected} to {each.sequence - 1}"
            yield Finding(each.key, where, f"what stood before it in the chain is missing: {missing}")
        elif each.previous != previous:
            yield Finding(each.key, where, "does not name what stands before it in the chain")
        expected, previous = each.sequence + 1, each.digest
