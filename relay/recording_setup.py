"""The recorder's settings, files and store, as the operator's settings and the data directory say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from recorder.settings import DeliverySettings, RecorderSettings
from recorder.store import StoreSettings
from relay.config import LOSS_BOUND_MS, Settings
from relay.data_directory import DataDirectory, Layout

__all__ = ["KeyFiles", "key_files", "recorder_settings", "store_settings"]

TICK_MS = 20


@dataclass(frozen=True, slots=True)
class KeyFiles:
    """Where the instance's keys lie."""

    wrapping: Path
    signing: Path
    public: Path
    """The public half of `signing`: what `koppel verify` rests on unless it is told otherwise."""


def key_files(settings: Settings, data: Layout) -> KeyFiles:
    """Wrapping and signing key; a `recording.key_file` elsewhere keeps the wrapping key apart from everything."""
    signing = data.keys / "signing.pem"
    return KeyFiles(settings.recording.key_file or data.keys / "wrapping.json", signing, Path(f"{signing}.pub"))


def store_settings(settings: Settings, data: Layout) -> StoreSettings:
    """The store, by default a folder of the data directory."""
    s3 = settings.recording.s3
    secret = s3.secret_access_key
    return StoreSettings(
        url=settings.recording.store or data.store.as_uri(),
        endpoint=s3.endpoint or "",
        region=s3.region,
        access_key_id=s3.access_key_id or "",
        secret_access_key=secret.get_secret_value() if secret else "",
        ca_file=s3.ca_file,
        allow_http=s3.allow_http,
        timeout_s=settings.recording.request_seconds,
    )


def recorder_settings(settings: Settings, data: DataDirectory) -> RecorderSettings:
    """Identity, stage and limits of the recorder."""
    recording = settings.recording
    return RecorderSettings(
        account_id=data.identity.account_id,
        instance_id=data.identity.instance_id,
        stage=recording.stage_dir or data.stage,
        object_key_template=recording.object_key_template,
        chunk_ticks=recording.chunk_ms // TICK_MS,
        commit_interval_s=recording.commit_ms / 1000,
        loss_bound_s=LOSS_BOUND_MS / 1000,
        queue_bytes_max=recording.queue_bytes_max,
        queue_values_max=recording.queue_items_max,
        contacts_max=settings.limits.contacts_max,
        tracks_max=recording.tracks_per_contact_max,
        pending_bytes_max=recording.pending_bytes_max,
        stop_timeout_s=settings.limits.drain_seconds,
        delivery=DeliverySettings(
            concurrency_max=recording.deliveries_max,
            delay_s=recording.retry_seconds,
            delay_s_max=recording.retry_seconds_max,
            alarm_age_s=recording.alarm_seconds,
            request_timeout_s=recording.request_seconds,
        ),
    )
