"""The delivered recordings of an instance: its part of the store, and what `koppel recordings` shows of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from recorder.archive import ObjectReader, manifest_keys, open_contact
from recorder.document import Json
from recorder.errors import RemoteError
from recorder.manifest import Manifest
from recorder.playback import recorded_span

__all__ = ["Entry", "OwnObjects", "entries"]


@dataclass(frozen=True, slots=True)
class OwnObjects:
    """A store as one instance sees it, which may share a bucket with others: every object key names its instance."""

    reader: ObjectReader
    instance_id: str

    def object_keys(self, prefix: str = "") -> Iterable[str]:
        """This instance's object keys below a path. Raises Unavailable."""
        return (key for key in self.reader.object_keys(prefix) if self.instance_id in key)

    def read(self, key: str) -> bytes:
        """A whole object. Raises Unavailable."""
        return self.reader.read(key)


@dataclass(frozen=True, slots=True)
class Entry:
    """One recording."""

    contact_id: str
    manifest: str
    """The key of its manifest in the store."""
    signature: str
    """`good`, or what is wrong with it; then nothing else is told."""
    started_at: str = ""
    """UTC, when the contact began."""
    seconds: float = 0.0
    """From agent joined to agent left."""
    tracks: tuple[str, ...] = ()
    """Participants with a track."""
    ended: str = ""

    def to_json(self) -> dict[str, Json]:
        """As the command prints it."""
        return {**asdict(self), "tracks": list(self.tracks)}


def entries(reader: ObjectReader, public_key: Ed25519PublicKey) -> Iterator[Entry]:
    """Every recording of a store, oldest day first. Raises Unavailable."""
    for key in manifest_keys(reader):
        try:
            yield _entry(key, open_contact(reader, key, public_key).manifest)
        except RemoteError as error:
            yield Entry(key.split("/")[-2] if "/" in key else key, key, str(error))


def _entry(key: str, manifest: Manifest) -> Entry:
    return Entry(
        contact_id=manifest.identity.contact_id,
        manifest=key,
        signature="good",
        started_at=manifest.wall,
        seconds=round(recorded_span(manifest).seconds, 3),
        tracks=tuple(dict.fromkeys(track.participant_id for track in manifest.tracks)),
        ended=manifest.ended.how,
    )
