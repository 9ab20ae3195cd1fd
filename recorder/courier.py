"""The courier: brings finished recordings from the stage to the store, on an event loop of its own thread."""

from __future__ import annotations

import asyncio
import hashlib
import random
import threading
from collections.abc import Callable
from typing import Protocol

from recorder.delivery import Delivered, Delivery, Parked, Put, Wait
from recorder.document import parse_unchecked
from recorder.errors import RecorderError, RemoteError, Unavailable
from recorder.events import RecordingDegraded, RecordingDelivered, RecordingEvent, RecordingFailed
from recorder.manifest import Manifest, ObjectEntry
from recorder.names import MANIFEST_NAME
from recorder.recordings import FinishedRecording
from recorder.settings import DeliverySettings
from recorder.stage import Stage


class Destination(Protocol):
    """Where objects go."""

    async def deliver(self, key: str, data: bytes) -> None:
        """Store for good and read back. Raises Unavailable; RemoteError where other bytes stand."""
        ...


class Courier:
    """Runs one task a recording; `done` is told of each that arrived, on the courier's thread."""

    def __init__(
        self,
        settings: DeliverySettings,
        *,
        stage: Stage,
        destination: Destination,
        rng: random.Random,
        notify: Callable[[RecordingEvent], None],
        done: Callable[[RecordingDelivered], None],
    ) -> None:
        self.failures = 0
        self._settings = settings
        self._stage = stage
        self._destination = destination
        self._rng = rng
        self._notify = notify
        self._done = done
        self._loop = asyncio.new_event_loop()
        self._permits = asyncio.Semaphore(settings.concurrency_max)
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, name="koppel-courier", daemon=True)

    def start(self) -> None:
        """Begin to take recordings."""
        self._thread.start()

    def submit(self, recording: FinishedRecording) -> None:
        """From any thread: bring this one."""
        self._loop.call_soon_threadsafe(self._begin, recording)

    def stop(self) -> None:
        """Leave what is under way where it is: the stage still has it."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            for task in self._tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
        finally:
            self._loop.close()

    def _begin(self, recording: FinishedRecording) -> None:
        task = self._loop.create_task(self._bring(recording))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _bring(self, recording: FinishedRecording) -> None:
        delivery = Delivery(recording, self._settings, self._rng, self._loop.time())
        while True:
            match delivery.next(self._loop.time()):
                case Put(entry):
                    await self._put(delivery, entry)
                case Wait(seconds):
                    await asyncio.sleep(seconds)
                case Delivered(tries):
                    document = await self._read(recording.contact_id, MANIFEST_NAME)
                    manifest = Manifest.parse(parse_unchecked(document))
                    self._done(RecordingDelivered(recording.contact_id, recording.manifest_key, manifest, tries))
                    return
                case Parked(reason):
                    self._notify(RecordingFailed(recording.contact_id, reason))
                    return

    async def _put(self, delivery: Delivery, entry: ObjectEntry) -> None:
        recording = delivery.recording
        key = recording.directory + entry.name
        try:
            async with self._permits:
                data = await self._read(recording.contact_id, entry.name)
                if hashlib.sha256(data).hexdigest() != entry.sha256:
                    raise RemoteError("the journal no longer holds what was written to it", place=entry.name)
                async with asyncio.timeout(self._settings.request_timeout_s):
                    await self._destination.deliver(key, data)
            delivery.stored()
        except RemoteError as error:
            self.failures += 1
            delivery.conflict(f"{error}: {error.place}")
        except (RecorderError, OSError, TimeoutError) as error:
            self._failed(delivery, error)

    def _failed(self, delivery: Delivery, error: Exception) -> None:
        self.failures += 1
        now = self._loop.time()
        refused = isinstance(error, Unavailable) and error.refused
        delivery.failed(now, error.retry_after if isinstance(error, Unavailable) and refused else 0.0)
        age = delivery.alarm(now)
        contact_id, text = delivery.recording.contact_id, str(error) or type(error).__name__
        if age is not None:
            self._notify(RecordingDegraded(contact_id, f"undelivered for {age:.0f} s: {text}"))
        elif delivery.failures == 1:
            self._notify(RecordingDegraded(contact_id, f"delivery is tried again: {text}"))

    async def _read(self, contact_id: str, name: str) -> bytes:
        return await asyncio.to_thread(self._stage.read, contact_id, name)
