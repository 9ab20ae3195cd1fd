"""The way of a recording: tap, segment, envelope, stage, delivery, verification, playback."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from recorder.archive import DeliveredContact, ObjectReader, manifest_keys, open_contact
from recorder.capture import (
    Captured,
    Frames,
    FramesDropped,
    GateChanged,
    LogEntry,
    RecordingClosed,
    RecordingOpened,
    TrackClosed,
    TrackCodec,
    TrackOpened,
)
from recorder.chain import verify_instance
from recorder.document import Signer
from recorder.envelope import KeyService, WrappedKey
from recorder.errors import Exhausted, LocalError, RecorderError, RemoteError, Unavailable
from recorder.events import (
    RecordingDegraded,
    RecordingDelivered,
    RecordingEvent,
    RecordingFailed,
    RecordingStarted,
)
from recorder.keys import FileKeyService, FileSigner, load_public_key
from recorder.ledger import Gap
from recorder.manifest import Manifest, TrackEntry
from recorder.settings import DeliverySettings, RecorderSettings
from recorder.store import Store, StoreSettings
from recorder.verification import ExitCode, Finding, LogLine, Verification, VerifiedTrack
from recorder.verify import verify_contact

if TYPE_CHECKING:
    from recorder.export import ExportFormat, export_recording
    from recorder.playback import Rendering, Span, StatedGap, recorded_span, stated_gaps
    from recorder.tap import TapForm, TapRow, TapTable
    from recorder.worker import Recorder, RecorderStatistics

__all__ = [
    "Captured",
    "DeliveredContact",
    "DeliverySettings",
    "Exhausted",
    "ExitCode",
    "ExportFormat",
    "FileKeyService",
    "FileSigner",
    "Finding",
    "Frames",
    "FramesDropped",
    "Gap",
    "GateChanged",
    "KeyService",
    "LocalError",
    "LogEntry",
    "LogLine",
    "Manifest",
    "ObjectReader",
    "Recorder",
    "RecorderError",
    "RecorderSettings",
    "RecorderStatistics",
    "RecordingClosed",
    "RecordingDegraded",
    "RecordingDelivered",
    "RecordingEvent",
    "RecordingFailed",
    "RecordingOpened",
    "RecordingStarted",
    "RemoteError",
    "Rendering",
    "Signer",
    "Span",
    "StatedGap",
    "Store",
    "StoreSettings",
    "TapForm",
    "TapRow",
    "TapTable",
    "TrackClosed",
    "TrackCodec",
    "TrackEntry",
    "TrackOpened",
    "Unavailable",
    "Verification",
    "VerifiedTrack",
    "WrappedKey",
    "export_recording",
    "load_public_key",
    "manifest_keys",
    "open_contact",
    "recorded_span",
    "stated_gaps",
    "verify_contact",
    "verify_instance",
]

_HEAVY = ("recorder.export", "recorder.playback", "recorder.tap", "recorder.worker")
"""Modules on numpy or asyncio, imported when one of their names is first asked for: `koppel verify` needs neither."""


def __getattr__(name: str) -> object:
    if name in __all__:
        for module in map(import_module, _HEAVY):
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
