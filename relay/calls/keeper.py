"""Keeps contacts in the database as they happen: log, record, and what became of the recording.

Nothing here waits: the database queues what it is given. A queue that is full costs the record, never the call, and is
counted for the alarm.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime

import structlog

from recorder.events import RecordingDegraded, RecordingDelivered, RecordingEvent, RecordingFailed, RecordingStarted
from relay.calls.effects import ContactFinished, ContactLogged
from signaling.contact.events import ContactStarted
from signaling.contact.record import WallAnchor, contact_record
from signaling.database import Database
from signaling.errors import Exhausted
from signaling.records import RecordingRecord

_log = structlog.get_logger()


class Keeper:
    """Writes what the exchange and the recorder tell."""

    def __init__(self, database: Database, anchor: WallAnchor) -> None:
        self._database = database
        self._anchor = anchor
        self.outcomes: Counter[str] = Counter()
        """Contacts that ended, by outcome."""
        self.lost = 0
        """Writes that found the queue full."""
        self.alarms: Counter[str] = Counter()
        """What went wrong with recordings, by kind."""

    def logged(self, effect: ContactLogged) -> None:
        """A contact's log grew."""
        try:
            if isinstance(effect.event, ContactStarted):
                self._database.insert_contact(contact_record([effect.event], self._anchor))
            self._database.append_events(effect.contact_id, [effect.event])
        except Exhausted:
            self._overflow(effect.contact_id)

    def finished(self, effect: ContactFinished) -> None:
        """A contact is over."""
        record = contact_record(effect.log, self._anchor)
        self.outcomes[record.outcome] += 1
        _log.info("contact ended", contact_id=effect.contact_id, outcome=record.outcome, detail=record.outcome_detail)
        try:
            self._database.close_contact(record)
        except Exhausted:
            self._overflow(effect.contact_id)

    def recording(self, event: RecordingEvent, wall: float) -> None:
        """The recorder said something; `wall` is Unix seconds."""
        match event:
            case RecordingStarted(contact_id=contact_id):
                self._save(RecordingRecord(contact_id, "agent_interaction", "recording", wall))
            case RecordingDelivered():
                _log.info("recording stored", contact_id=event.contact_id, tries=event.tries)
                self._save(_delivered(event, wall))
            case RecordingFailed(contact_id=contact_id, reason=reason):
                self.alarms["recording failed"] += 1
                _log.error("recording failed", contact_id=contact_id, reason=reason)
                self._save(RecordingRecord(contact_id, "agent_interaction", "failed", wall))
            case RecordingDegraded(contact_id=contact_id, reason=reason):
                self.alarms["recording degraded"] += 1
                _log.warning("recording degraded", contact_id=contact_id, reason=reason)

    def _save(self, record: RecordingRecord) -> None:
        try:
            self._database.save_recording(record)
        except Exhausted:
            self._overflow(record.contact_id)

    def _overflow(self, contact_id: str) -> None:
        self.lost += 1
        _log.error("the database is too slow: a write was lost", contact_id=contact_id)


def _delivered(event: RecordingDelivered, wall: float) -> RecordingRecord:
    manifest = event.manifest
    return RecordingRecord(
        contact_id=event.contact_id,
        kind="agent_interaction",
        status="delivered",
        began_at=datetime.fromisoformat(manifest.wall).timestamp(),
        ended_at=wall,
        ended="closed" if manifest.ended.how == "closed" else "found_open",
        manifest=event.manifest_key,
    )
