"""What the demo says of its recording: verified, its gaps, and a rendered file, from the store and the keys alone."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from recorder.archive import contact_objects, open_contact
from recorder.errors import Unavailable
from recorder.export import export_recording
from recorder.keys import FileKeyService, load_public_key
from recorder.names import MANIFEST_NAME
from recorder.playback import Rendering, StatedGap, recorded_span, stated_gaps
from recorder.store import Store
from recorder.verify import verify_contact
from relay.config import Settings
from relay.data_directory import DataDirectory
from relay.recording_setup import key_files, store_settings

LOOK_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Proof:
    """What was found."""

    manifest: str
    recorded_seconds: float
    gaps: list[StatedGap]
    verified: bool
    findings: tuple[str, ...]
    loss_bound_s: float


class Archive:
    """The store and the keys of a data directory, as an auditor on the same machine has them."""

    def __init__(self, settings: Settings, data: DataDirectory) -> None:
        files = key_files(settings, data)
        self._store = Store.open(store_settings(settings, data))
        self._keys = FileKeyService.open(files.wrapping, create=False)
        self._public_key = load_public_key(files.public)

    async def wait_delivered(self, contact_id: str) -> None:
        """Wait until the contact's manifest, its last object, is in the store."""
        while not self._is_delivered(contact_id):  # noqa: ASYNC110 - another process delivers
            await asyncio.sleep(LOOK_SECONDS)

    def _is_delivered(self, contact_id: str) -> bool:
        try:
            directory, keys = contact_objects(self._store, contact_id)
        except Unavailable:
            return False
        return directory + MANIFEST_NAME in keys

    def prove(self, contact_id: str, wav: Path) -> Proof:
        """Verify at level 2, and render to `wav`."""
        contact = open_contact(self._store, contact_id, self._public_key, self._keys)
        verification = verify_contact(self._store, contact_id, self._public_key, self._keys)
        export_recording(Rendering(self._store, contact), wav)
        manifest = contact.manifest
        bound = manifest.loss_bound
        return Proof(
            manifest=contact.directory + MANIFEST_NAME,
            recorded_seconds=round(recorded_span(manifest).seconds, 3),
            gaps=stated_gaps(manifest),
            verified=verification.verified,
            findings=tuple(f"{each.file}: {each.place}: {each.what}" for each in verification.findings),
            loss_bound_s=(bound.chunk_ms + (bound.durable_ms_max or bound.limit_ms)) / 1000,
        )
