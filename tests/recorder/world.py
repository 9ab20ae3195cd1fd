"""A recorder without threads or clocks for tests: a disk that can lose power or fail, a bucket, and a script of calls."""

from __future__ import annotations

import errno
import hashlib
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from recorder import (
    FileKeyService,
    FileSigner,
    RecorderSettings,
    RecordingEvent,
    RemoteError,
    Unavailable,
)
from recorder.archive import open_contact
from recorder.capture import Captured
from recorder.delivery import Delivered, Delivery, Parked, Put
from recorder.envelope import session_cipher
from recorder.intake import Intake
from recorder.recordings import FinishedRecording, Recordings
from recorder.scribe import Scribe
from recorder.segment import SegmentReader
from recorder.stage import Stage

ACCOUNT = "7a1c3a52-5a34-4b0e-9d52-3a1e6f0b1c01"
INSTANCE = "b0f4d5de-44a3-4c6a-8a43-90b6f1a2c302"
CONTACT = "c0ffee00-0000-4000-8000-000000000001"
OTHER = "c0ffee00-0000-4000-8000-000000000002"
WALL = 1_795_000_000.25


class PowerLoss(BaseException):
    """The machine stops: nothing of this process runs on."""


class MemoryDisk:
    """A disk that knows what is durable. `cut_after` bytes written, the power goes; `failing` makes every write fail."""

    def __init__(self) -> None:
        self.written: dict[str, bytearray] = {}
        self.durable: dict[str, int] = {}
        self.cut_after: int | None = None
        self.failing: OSError | None = None
        self.bytes_written = 0
        self.boundaries: list[int] = []

    def names(self) -> list[str]:
        return sorted(self.written)

    def create(self, name: str) -> None:
        self._check()
        assert name not in self.written
        self.written[name], self.durable[name] = bytearray(), 0

    def append(self, name: str, data: bytes) -> None:
        self._check()
        if self.cut_after is not None and self.bytes_written + len(data) >= self.cut_after:
            self.written[name] += data[: self.cut_after - self.bytes_written]
            raise PowerLoss
        self.written[name] += data
        self.bytes_written += len(data)
        self.boundaries.append(self.bytes_written)

    def sync(self, name: str) -> None:
        self._check()
        self.durable[name] = len(self.written[name])

    def read(self, name: str, offset: int, length: int) -> bytes:
        return bytes(self.written[name][offset : offset + length])

    def size(self, name: str) -> int:
        return len(self.written[name])

    def remove(self, name: str) -> None:
        del self.written[name], self.durable[name]

    def rename(self, name: str, new: str) -> None:
        self.written[new], self.durable[new] = self.written.pop(name), self.durable.pop(name)

    def close(self) -> None:
        pass

    def after_power_loss(self, keep_unsynced: Callable[[int], int] = lambda size: 0) -> MemoryDisk:
        """What the next start finds: everything durable, and of the rest what the disk happened to write."""
        left = MemoryDisk()
        for name, data in self.written.items():
            durable = self.durable[name]
            left.written[name] = data[: durable + keep_unsynced(len(data) - durable)]
            left.durable[name] = len(left.written[name])
        return left

    def _check(self) -> None:
        if self.failing is not None:
            raise self.failing


NO_SPACE = OSError(errno.ENOSPC, "No space left on device")


@dataclass
class Bucket:
    """A store in memory with conditional create; as reader and, by `deliver`, as destination."""

    objects: dict[str, bytes] = field(default_factory=dict)
    puts: list[str] = field(default_factory=list)
    away: bool = False

    def object_keys(self, prefix: str = "") -> Iterable[str]:
        if self.away:
            raise Unavailable("store: away")
        return [key for key in self.objects if key.startswith(prefix)]

    def read(self, key: str) -> bytes:
        if key not in self.objects:
            raise Unavailable(f"store: {key} not found")
        return self.objects[key]

    def put(self, key: str, data: bytes) -> None:
        if self.away:
            raise Unavailable("store: away")
        self.puts.append(key)
        if self.objects.setdefault(key, data) != data:
            raise RemoteError("another object stands there", place=key)

    async def deliver(self, key: str, data: bytes) -> None:
        self.put(key, data)


def entropy_of(seed: int) -> Callable[[int], bytes]:
    return random.Random(seed).randbytes


SIGNER = FileSigner(Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"signer").digest()))
KEY_SERVICE = FileKeyService("k1", {"k1": hashlib.sha256(b"wrapping key").digest()}, entropy_of(99))


def settings_of(**changes: object) -> RecorderSettings:
    return RecorderSettings(ACCOUNT, INSTANCE, Path("unused"), **changes)  # type: ignore[arg-type]


class Relay:
    """One process's recorder, driven by hand: `offer`, `step`, `deliver`; its time is `now`."""

    def __init__(
        self,
        disk: MemoryDisk | None = None,
        bucket: Bucket | None = None,
        *,
        seed: int = 1,
        settings: RecorderSettings | None = None,
    ) -> None:
        self.disk = disk or MemoryDisk()
        self.bucket = Bucket() if bucket is None else bucket
        self.now = 0.0
        self.events: list[RecordingEvent] = []
        self.submitted: list[FinishedRecording] = []
        self.settings = settings or settings_of()
        self.intake = Intake(self.settings.queue_bytes_max, self.settings.queue_values_max)
        self.recordings = Recordings(self.settings, SIGNER, entropy_of(seed))
        self.stage = Stage(self.disk, self.settings.journal_file_bytes_max)
        self.scribe = Scribe(
            self.settings,
            intake=self.intake,
            recordings=self.recordings,
            stage=self.stage,
            key_service=KEY_SERVICE,
            entropy=entropy_of(seed + 1000),
            clock=lambda: self.now,
            notify=self.events.append,
            submit=self._submit,
        )
        self.scribe.recover()

    def _submit(self, recording: FinishedRecording) -> None:
        self.submitted.append(recording)

    def record(self, values: Iterable[Captured]) -> None:
        self.intake.offer(values, self.now)
        self.scribe.step()

    def deliver(self) -> None:
        """Bring what was submitted, as the courier does, and let the stage forget it."""
        pending, self.submitted = self.submitted, []
        for recording in pending:
            if self._bring(recording):
                self.scribe.delivered(recording.contact_id)
            else:
                self.submitted.append(recording)

    def _bring(self, recording: FinishedRecording) -> bool:
        delivery = Delivery(recording, self.settings.delivery, random.Random(0), self.now)
        while True:
            match delivery.next(self.now):
                case Put(entry):
                    data = self.stage.read(recording.contact_id, entry.name)
                    assert hashlib.sha256(data).hexdigest() == entry.sha256
                    try:
                        self.bucket.put(recording.directory + entry.name, data)
                    except Unavailable:
                        return False
                    delivery.stored()
                case Delivered():
                    return True
                case Parked(reason):
                    raise AssertionError(reason)
                case _:
                    return False


def stored_frames(bucket: Bucket, contact_id: str) -> dict[str, dict[int, bytes]]:
    """What a delivered contact holds: payload by track and tick, decrypted; each tick at most once."""
    contact = open_contact(bucket, contact_id, SIGNER.public_key, KEY_SERVICE)
    assert contact.key is not None
    tracks: dict[str, dict[int, bytes]] = {}
    for entry in contact.manifest.objects:
        if not entry.name.startswith("track-"):
            continue
        reader = SegmentReader(bucket.read(contact.directory + entry.name))
        header = reader.header
        cipher = session_cipher(contact.key, "track", header.identity, header.track_id, header.session_id)
        frames = tracks.setdefault(header.track_id, {})
        for placed in reader.chunks():
            plaintext = reader.open(placed, cipher)
            size = len(plaintext) * 960 // placed.chunk.positions
            for n in range(placed.chunk.positions // 960):
                tick = placed.chunk.first // 960 + n
                assert tick not in frames
                frames[tick] = plaintext[n * size : (n + 1) * size]
    return tracks
