"""The recorder of a relay: two threads, one that seals and commits, one that delivers."""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from recorder.capture import Captured
from recorder.courier import Courier, Destination
from recorder.disk import Disk, Folder
from recorder.document import Signer
from recorder.envelope import KeyService
from recorder.events import RecordingDegraded, RecordingDelivered, RecordingEvent, RecordingFailed
from recorder.intake import Intake
from recorder.recordings import FinishedRecording, Recordings
from recorder.scribe import DurableLatency, Scribe
from recorder.settings import RecorderSettings
from recorder.stage import Stage

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RecorderStatistics:
    """Gauges and counters of the recorder since it started."""

    live: int
    staged: int
    queued_bytes: int
    queued_values: int
    dropped_frames: int
    """Frames (20 ms) that found the queue full: stated as overflow gaps."""
    refused_frames: int
    """Chunks that came for a closed gate, twice, or malformed: never stored. A defect if not 0."""
    refused_values: int
    pending_bytes: int
    journal_files: int
    commits: int
    stage_failing: bool
    delivered: int
    delivery_failures: int
    latency: DurableLatency


class Recorder:
    """Takes captured values from the tick, and leaves proven recordings in the store.

    `notify` is called on the recorder's threads: hand over to your own. `give_way` is called on the sealing thread
    between two pieces of its work, and may block for a moment. `start` recovers what a crash left in the stage and
    returns when that is durable; its delivery goes on behind.
    """

    def __init__(  # noqa: PLR0913 - what it is made of, all by name
        self,
        settings: RecorderSettings,
        *,
        destination: Destination,
        key_service: KeyService,
        signer: Signer,
        notify: Callable[[RecordingEvent], None],
        give_way: Callable[[], None] = lambda: None,
        disk: Disk | None = None,
        clock: Callable[[], float] = time.monotonic,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._settings = settings
        self._notify = notify
        self._clock = clock
        self._intake = Intake(settings.queue_bytes_max, settings.queue_values_max)
        self._stage = Stage(disk or Folder(settings.stage), settings.journal_file_bytes_max)
        self._arrived: deque[RecordingDelivered] = deque()
        self._delivered = 0
        self._parked: set[str] = set()
        self._courier = Courier(
            settings.delivery,
            stage=self._stage,
            destination=destination,
            rng=random.Random(entropy(16)),  # noqa: S311 - jitter, not a secret
            notify=self._from_courier,
            done=self._arrived.append,
        )
        self._scribe = Scribe(
            settings,
            intake=self._intake,
            recordings=Recordings(settings, signer, entropy),
            stage=self._stage,
            key_service=key_service,
            entropy=entropy,
            clock=clock,
            notify=notify,
            give_way=give_way,
            submit=self._submit,
        )
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="koppel-recorder", daemon=True)

    def start(self) -> None:
        """Recover, then run. Raises Unavailable, OSError where the stage cannot be read."""
        self._courier.start()
        try:
            self._scribe.recover()
        except BaseException:
            self._courier.stop()
            self._stage.close()
            raise
        self._thread.start()

    def offer(self, values: Iterable[Captured], now: float) -> None:
        """From the tick's thread, never blocking: values in the order in which they became true, at clock `now`."""
        self._intake.offer(values, now)

    def stop(self) -> None:
        """Finish and deliver everything, within the stop timeout; what is left is delivered after the next start."""
        self._stopping.set()
        self._thread.join()
        self._courier.stop()
        self._settle()
        self._stage.close()

    def statistics(self) -> RecorderStatistics:
        """A snapshot, from any thread."""
        recordings = self._scribe.recordings
        return RecorderStatistics(
            live=len(recordings.live),
            staged=len(recordings.staged),
            queued_bytes=self._intake.queued_bytes,
            queued_values=self._intake.queued_values,
            dropped_frames=self._intake.dropped_frames,
            refused_frames=recordings.refused_frames,
            refused_values=recordings.refused_values,
            pending_bytes=self._stage.pending_bytes,
            journal_files=self._stage.file_count,
            commits=self._scribe.commits,
            stage_failing=self._scribe.failing,
            delivered=self._delivered,
            delivery_failures=self._courier.failures,
            latency=self._scribe.latency(),
        )

    def _run(self) -> None:
        while not self._stopping.wait(self._settings.commit_interval_s):
            self._step()
        self._step()
        self._scribe.finish_all()
        deadline = self._clock() + self._settings.stop_timeout_s
        while self._undelivered() and self._clock() < deadline:
            self._step()
            time.sleep(self._settings.commit_interval_s / 10)
        for contact_id in self._scribe.recordings.staged:
            self._notify(RecordingDegraded(contact_id, "not delivered before the stop: it is after the next start"))

    def _step(self) -> None:
        try:
            self._scribe.step()
            self._settle()
        except Exception:  # noqa: BLE001 - the worker outlives its defects: without it nothing at all is recorded
            _log.exception("a pass of the recorder failed")
            self._notify(RecordingDegraded(None, "an internal error of the recorder"))

    def _settle(self) -> None:
        while self._arrived:
            event = self._arrived.popleft()
            self._scribe.delivered(event.contact_id)
            self._delivered += 1
            self._notify(event)

    def _undelivered(self) -> bool:
        return any(contact_id not in self._parked for contact_id in self._scribe.recordings.staged)

    def _submit(self, recording: FinishedRecording) -> None:
        self._courier.submit(recording)

    def _from_courier(self, event: RecordingEvent) -> None:
        if isinstance(event, RecordingFailed):
            self._parked.add(event.contact_id)
        self._notify(event)
