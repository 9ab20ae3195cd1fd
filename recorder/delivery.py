"""The policy of delivering one recording: which object next, when to try again, when to raise an alarm."""

from __future__ import annotations

import random
from dataclasses import dataclass

from recorder.manifest import ObjectEntry
from recorder.recordings import FinishedRecording
from recorder.settings import DeliverySettings


@dataclass(frozen=True, slots=True)
class Put:
    """Store this object and read it back, then say `stored` or `failed`."""

    entry: ObjectEntry


@dataclass(frozen=True, slots=True)
class Wait:
    """Ask again after this many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Delivered:
    """Every object stands in the store."""

    tries: int


@dataclass(frozen=True, slots=True)
class Parked:
    """Another object stands where one of ours belongs: nobody but a person can decide."""

    reason: str


class Delivery:
    """One recording on its way: key first, manifest last, so that a manifest in the store means that all is there."""

    def __init__(
        self, recording: FinishedRecording, settings: DeliverySettings, rng: random.Random, now: float
    ) -> None:
        self.recording = recording
        self.tries = 0
        self.failures = 0
        self._settings = settings
        self._rng = rng
        self._began = now
        self._next_alarm = now + settings.alarm_age_s
        self._stored = 0
        self._not_before = now
        self._parked = ""

    def next(self, now: float) -> Put | Wait | Delivered | Parked:
        """What to do now."""
        if self._parked:
            return Parked(self._parked)
        if self._stored == len(self.recording.objects):
            return Delivered(self.tries)
        if now < self._not_before:
            return Wait(self._not_before - now)
        return Put(self.recording.objects[self._stored])

    def stored(self) -> None:
        """The object asked for stands in the store, read back."""
        self.tries += 1
        self.failures = 0
        self._stored += 1

    def failed(self, now: float, retry_after: float = 0.0) -> None:
        """It does not: back off exponentially with full jitter, but never less than the store asked for."""
        self.tries += 1
        self.failures += 1
        settings = self._settings
        ceiling = min(settings.delay_s_max, settings.delay_s * 2 ** min(self.failures - 1, 30))
        delay = self._rng.uniform(settings.delay_s / 2, max(settings.delay_s, ceiling))
        self._not_before = now + min(settings.delay_s_max, max(delay, retry_after))

    def conflict(self, reason: str) -> None:
        """Other bytes stand there."""
        self._parked = reason

    def alarm(self, now: float) -> float | None:
        """The age in seconds, once for each `alarm_age_s` that the recording is undelivered."""
        if now < self._next_alarm:
            return None
        self._next_alarm = now + self._settings.alarm_age_s
        return now - self._began
