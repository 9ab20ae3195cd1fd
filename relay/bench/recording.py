"""The recorder of a benchmark: the product's, with a folder for a store, and what it delivered in the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

from recorder.capture import Captured
from recorder.events import RecordingDelivered, RecordingEvent, RecordingStarted
from recorder.keys import FileKeyService, FileSigner, load_public_key
from recorder.manifest import Manifest
from recorder.settings import RecorderSettings
from recorder.store import Store
from recorder.verify import verify_contact
from recorder.worker import Recorder
from relay import recording_setup
from relay.config import Settings
from relay.data_directory import DataDirectory

DELIVER_SECONDS_MAX: Final = 300.0
"""How long the end waits for deliveries: they are not what is measured."""
VERIFIED_CONTACTS: Final = 5
POSITIONS_A_SECOND: Final = 48_000
_WHOLE: Final = 0.99


class Delivered:
    """The recordings that arrived in the store."""

    def __init__(self, files: recording_setup.KeyFiles, store: Store) -> None:
        self._files = files
        self._store = store
        self._manifests: list[tuple[str, Manifest]] = []
        self.problems: list[str] = []

    def __len__(self) -> int:
        return len(self._manifests)

    def notified(self, event: RecordingEvent) -> None:
        """The recorder said something; on any thread."""
        if isinstance(event, RecordingDelivered):
            self._manifests.append((event.manifest_key, event.manifest))
        elif not isinstance(event, RecordingStarted):
            self.problems.append(f"recording: {event.reason}")

    def whole_tracks(self, seconds: float) -> int:
        """How many tracks hold at least so many seconds; some recordings are proven."""
        for key, _ in self._manifests[:VERIFIED_CONTACTS]:
            self._verify(key)
        whole = seconds * POSITIONS_A_SECOND * _WHOLE
        return sum(track.stored >= whole for _, manifest in self._manifests for track in manifest.tracks)

    def _verify(self, key: str) -> None:
        public_key = load_public_key(self._files.public)
        keys = FileKeyService.open(self._files.wrapping, create=False)
        answer = verify_contact(self._store, key, public_key, keys)
        if not answer.verified:
            found = [finding.what for finding in answer.findings] or [answer.unchecked]
            self.problems.append(f"a recording does not verify: {found[0]}")


class BenchRecorder:
    """Seals and stages while the benchmark runs; delivers when it is over."""

    def __init__(self, settings: Settings, folder: Path, give_way: Callable[[], None]) -> None:
        data = DataDirectory.open(folder)
        files = recording_setup.key_files(settings, data)
        store = Store.open(recording_setup.store_settings(settings, data))
        self._delivered = Delivered(files, store)
        self._recorder = Recorder(
            _patient(recording_setup.recorder_settings(settings, data)),
            destination=store,
            key_service=FileKeyService.open(files.wrapping),
            signer=FileSigner.open(files.signing),
            notify=self._delivered.notified,
            give_way=give_way,
        )

    @property
    def problems(self) -> list[str]:
        """What went wrong."""
        return self._delivered.problems

    def start(self) -> None:
        """Begin to take."""
        self._recorder.start()

    def offer(self, captured: Iterable[Captured]) -> None:
        """From the tick."""
        self._recorder.offer(captured, time.monotonic())

    def dropped_frames(self) -> int:
        """Frames of 20 ms that were not recorded so far."""
        statistics = self._recorder.statistics()
        return statistics.dropped_frames + statistics.refused_frames

    async def finish(self, seconds: float) -> int:
        """Deliver everything, and prove some of it; how many tracks hold at least so many seconds."""
        await asyncio.to_thread(self._recorder.stop)
        return self._delivered.whole_tracks(seconds)


def _patient(settings: RecorderSettings) -> RecorderSettings:
    return replace(settings, stop_timeout_s=DELIVER_SECONDS_MAX)
