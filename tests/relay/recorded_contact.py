"""A contact played by the real contact core into the real recorder: each event at a tick, each tick's sound to the taps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from recorder.capture import (
    Captured,
    Frames,
    GateChanged,
    LogEntry,
    RecordingClosed,
    RecordingOpened,
    TrackClosed,
    TrackOpened,
)
from signaling.contact import commands
from signaling.contact.contact import Contact
from signaling.contact.events import ContactEvent, ContactStarted
from tests.recorder.calls import sound
from tests.recorder.world import ACCOUNT, CONTACT, INSTANCE, WALL, Bucket, Relay

FIRST_TICK = 7_000


class RecordedContact:
    """Plays a story of (tick, event); what the plane would hand over goes to `relay`."""

    def __init__(self, relay: Relay | None = None, contact_id: str = CONTACT) -> None:
        self.relay = relay or Relay()
        self.contact_id = contact_id
        self._contact = Contact()
        self._open: dict[str, str | None] = {}
        self._tick = 0
        self.forge: dict[int, bytes] = {}
        """Entries to write into the log instead of the true ones, by number."""
        self._entries = 0

    @property
    def bucket(self) -> Bucket:
        return self.relay.bucket

    def play(self, story: Iterable[tuple[int, ContactEvent]]) -> None:
        for tick, event in story:
            self.sound_until(tick)
            self._handle(event)

    def deliver(self) -> Bucket:
        self.relay.deliver()
        return self.bucket

    def sound_until(self, tick: int) -> None:
        while self._tick < tick:
            ticks = min(20, tick - self._tick)
            self.relay.record(
                Frames(self.contact_id, track, FIRST_TICK + self._tick, ticks, sound(track, self._tick, ticks))
                for track, rule in self._open.items()
                if rule is None
            )
            self._tick += ticks

    def _handle(self, event: ContactEvent) -> None:
        if isinstance(event, ContactStarted):
            event = replace(event, account_id=ACCOUNT, instance_id=INSTANCE, contact_id=self.contact_id)
        found = self._contact.handle(event)
        values = [value for command in found if (value := self._captured(command)) is not None]
        log = [self._entry(data) for data in self._contact.take_entries()]
        first = [value for value in values if isinstance(value, RecordingOpened)]
        self.relay.record([*first, *log, *(value for value in values if value not in first)])

    def _entry(self, data: bytes) -> LogEntry:
        self._entries += 1
        return LogEntry(self.contact_id, FIRST_TICK + self._tick, self.forge.get(self._entries, data))

    def _captured(self, command: commands.ContactCommand) -> Captured | None:
        at, contact = FIRST_TICK + self._tick, self.contact_id
        match command:
            case commands.OpenRecording():
                return RecordingOpened(contact, at, WALL)
            case commands.OpenTrack(who, role, rule, reason):
                self._open[who] = rule
                return TrackOpened(contact, who, who, role, "pcmu", 8_000, at, rule, reason)
            case commands.SetGate(who, rule, reason):
                self._open[who] = rule
                return GateChanged(contact, who, at, rule, reason)
            case commands.CloseTrack(who):
                del self._open[who]
                return TrackClosed(contact, who, at)
            case commands.CloseRecording():
                return RecordingClosed(contact, at)
            case _:
                return None
