"""One pass of the recorder's worker: seal what the tick offered, make it durable, finish what ended.

It runs on the worker's thread and never raises for what disk, key service or a contact do: it says so, and goes on.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from recorder.capture import Captured, Frames, RecordingOpened
from recorder.envelope import CONTACT_KEY_BYTES, KEY_ID_BYTES, ContactKey, KeyService, wrap_context
from recorder.errors import RecorderError, Unavailable
from recorder.events import RecordingDegraded, RecordingEvent, RecordingFailed, RecordingStarted
from recorder.intake import Intake
from recorder.journal import Record
from recorder.ledger import LossReason
from recorder.manifest import How
from recorder.names import Identity
from recorder.recordings import FinishedRecording, Recordings
from recorder.settings import TICK_MS, RecorderSettings
from recorder.stage import Stage

LATENCIES_MAX = 4_096
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DurableLatency:
    """How long chunks took from their last tick to durable storage, and what a kill would have cost at worst."""

    p50_ms: float
    p99_ms: float
    max_ms: float
    loss_bound_s: float
    """Longest time from a chunk's first tick to durable: what one kill could have cost."""


class Scribe:
    """Seals, commits, finishes; `submit` takes what is ready for delivery."""

    def __init__(  # noqa: PLR0913 - the parts that the shell composes, each named
        self,
        settings: RecorderSettings,
        *,
        intake: Intake,
        recordings: Recordings,
        stage: Stage,
        key_service: KeyService,
        entropy: Callable[[int], bytes],
        clock: Callable[[], float],
        notify: Callable[[RecordingEvent], None],
        give_way: Callable[[], None] = lambda: None,
        submit: Callable[[FinishedRecording], None],
    ) -> None:
        self.recordings = recordings
        self.failing = False
        """The stage's disk does not take what it is given."""
        self.commits = 0
        self._settings = settings
        self._intake = intake
        self._stage = stage
        self._key_service = key_service
        self._entropy = entropy
        self._clock = clock
        self._notify = notify
        self._give_way = give_way
        self._submit = submit
        self._late = False
        self._retry_at = 0.0
        self._ready: list[str] = []
        self._waiting: list[tuple[str, float, int]] = []
        self._latencies: deque[float] = deque(maxlen=LATENCIES_MAX)
        self._latency_max = 0.0
        self._loss_bound = settings.chunk_ticks * TICK_MS / 1000

    def recover(self) -> None:
        """At start: read the journal, finish what a crash left open, and submit all that is not delivered."""
        for record in self._stage.recover():
            self.recordings.restore(record)
        for name in self._stage.recovery.damaged_files:
            self._notify(
                RecordingDegraded(None, f"stage file {name} is damaged within; what it held is stated as lost")
            )
        self._stage.begin(self.recordings.head_record())
        for contact_id in self.recordings.unbegun():
            self._notify(RecordingFailed(contact_id, "the relay was killed before anything of it was durable"))
            self.delivered(contact_id)
        unfinished = self.recordings.unfinished()
        for contact_id in self.recordings.staged:
            if contact_id not in unfinished:
                self._submit(self.recordings.finished(contact_id))
        for contact_id in unfinished:
            closed = self.recordings.staged[contact_id].closed
            self._finish(contact_id, "closed" if closed else "found open after a crash")
        self._commit()

    def step(self) -> None:
        """Take, seal, commit, finish."""
        for at, value in self._intake.take():
            self._give_way()
            self._receive(value, at)
        for contact_id in self._intake.take_abandoned():
            self._give_up(contact_id, "the queue from the tick overflowed beyond accounting")
        self._commit()
        if not self._stage.pending_bytes and (closed := self.recordings.closed()):
            for contact_id in closed:
                self._give_way()
                self._finish(contact_id, "closed")
            self._commit()

    def delivered(self, contact_id: str) -> None:
        """All objects of a contact stand in the store: the stage can forget it."""
        self._stage.add(self.recordings.delivered(contact_id))
        self._commit()
        try:
            self._stage.free(contact_id)
        except OSError as error:
            self._notify(RecordingDegraded(None, f"stage: {error.strerror}: a delivered file could not be freed"))

    def finish_all(self) -> None:
        """At a clean stop: end what still lives."""
        for contact_id in self.recordings.live:
            self._finish(contact_id, "stopped")
        self._retry_at = 0.0
        self._commit()

    def latency(self) -> DurableLatency:
        """Of the last chunks; the maxima since the start."""
        ordered = sorted(self._latencies) or [0.0]
        p50, p99 = (ordered[int((len(ordered) - 1) * part)] * 1000 for part in (0.5, 0.99))
        return DurableLatency(p50, p99, self._latency_max * 1000, self._loss_bound)

    def _receive(self, value: Captured, at: float) -> None:
        full = self._stage.pending_bytes > self._settings.pending_bytes_max
        shed: LossReason | None = "disk" if full else None
        try:
            if isinstance(value, RecordingOpened):
                self._open(value)
                return
            records = self.recordings.receive(value, shed=shed)
        except RecorderError as error:
            self._notify(RecordingDegraded(value.contact_id, str(error)))
            return
        except Exception:  # noqa: BLE001 - a defect in one contact's recording must not end the others
            _log.exception("recording of a contact failed within", extra={"contact_id": value.contact_id})
            self._give_up(value.contact_id, "an internal error")
            return
        self._stage.add(records)
        if isinstance(value, Frames) and records:
            self._waiting.append((value.contact_id, at, value.ticks))

    def _open(self, value: RecordingOpened) -> None:
        settings = self._settings
        try:
            if self._stage.pending_bytes > settings.pending_bytes_max:
                raise Unavailable("the stage's disk takes nothing")
            identity = Identity(settings.account_id, settings.instance_id, value.contact_id)
            key = ContactKey(self._entropy(KEY_ID_BYTES), self._entropy(CONTACT_KEY_BYTES))
            wrapped = self._key_service.wrap(key.key, wrap_context(identity, key.key_id))
            self._stage.add(self.recordings.open(value, key, wrapped))
        except RecorderError as error:
            self._notify(RecordingFailed(value.contact_id, f"not recorded: {error}"))
            return
        self._notify(RecordingStarted(value.contact_id))

    def _give_up(self, contact_id: str, why: str) -> None:
        self._notify(RecordingDegraded(contact_id, f"recording ends early: {why}"))
        if contact_id in self.recordings.live:
            self._finish(contact_id, "stopped")

    def _finish(self, contact_id: str, how: How) -> None:
        try:
            records: list[Record] = self.recordings.finish(contact_id, how)
        except Exception:  # noqa: BLE001 - see _receive: one contact's defect is not the others'
            _log.exception("manifest of a contact failed", extra={"contact_id": contact_id})
            self._notify(RecordingFailed(contact_id, "its manifest could not be made; it stays staged"))
            return
        self._stage.add(records)
        self._ready.append(contact_id)

    def _commit(self) -> None:
        if self.failing and self._clock() < self._retry_at:
            return
        try:
            self.commits += self._stage.commit()
        except OSError as error:
            self._retry_at = self._clock() + self._settings.disk_retry_s
            if not self.failing:
                self._notify(RecordingDegraded(None, f"stage: {error.strerror}: recordings are kept in memory"))
            self.failing = True
            return
        self.failing = False
        self._measure()
        ready, self._ready = self._ready, []
        for contact_id in ready:
            self._submit(self.recordings.finished(contact_id))

    def _measure(self) -> None:
        """How late the group that just became durable is."""
        now = self._clock()
        worst = 0.0
        for contact_id, at, ticks in self._waiting:
            latency = now - at
            self._latencies.append(latency)
            self._latency_max = max(self._latency_max, latency)
            worst = max(worst, latency + ticks * TICK_MS / 1000)
            self.recordings.measured(contact_id, round(latency * 1000))
        self._waiting.clear()
        self._loss_bound = max(self._loss_bound, worst)
        late = worst > self._settings.loss_bound_s
        if late and not self._late:
            bound = self._settings.loss_bound_s
            what = f"a kill could have cost {worst:.1f} s of a track: the bound is {bound:g} s"
            self._notify(RecordingDegraded(None, what))
        self._late = late
