"""What the recorder says about recordings: started, delivered, degraded, failed. Never silent."""

from __future__ import annotations

from dataclasses import dataclass

from recorder.manifest import Manifest


@dataclass(frozen=True, slots=True)
class RecordingStarted:
    """A contact's key was wrapped and its recording began."""

    contact_id: str


@dataclass(frozen=True, slots=True)
class RecordingDelivered:
    """Every object of a contact stands in the store, read back."""

    contact_id: str
    manifest_key: str
    manifest: Manifest
    tries: int
    """Attempts to store an object, all objects together."""


@dataclass(frozen=True, slots=True)
class RecordingDegraded:
    """Something is wrong that may pass, and that no call notices; without a contact it concerns all of them."""

    contact_id: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class RecordingFailed:
    """A contact is not recorded, or its recording cannot be delivered without a person."""

    contact_id: str
    reason: str


RecordingEvent = RecordingStarted | RecordingDelivered | RecordingDegraded | RecordingFailed
