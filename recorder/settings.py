"""What an operator can set about recording, with every limit of this package."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from recorder.errors import LocalError
from recorder.names import DEFAULT_KEY_TEMPLATE, check_template, require_id
from recorder.segment import POSITIONS_MAX

TICK_MS = 20


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """How finished recordings reach the store."""

    concurrency_max: int = 4
    """Contacts delivered at once."""
    delay_s: float = 0.5
    """First pause after a failure; doubles with each, with full jitter."""
    delay_s_max: float = 60.0
    alarm_age_s: float = 900.0
    """A recording that is undelivered for this long is said to be degraded, and again after each such while."""
    request_timeout_s: float = 300.0
    """For storing and reading back one object."""


@dataclass(frozen=True, slots=True)
class RecorderSettings:
    """Identity, places and limits."""

    account_id: str
    instance_id: str
    stage: Path
    """Folder of the journal; on a disk that survives the process."""
    object_key_template: str = DEFAULT_KEY_TEMPLATE
    chunk_ticks: int = 20
    """Frames in a chunk: 20 ticks are 400 ms; the format allows 25."""
    commit_interval_s: float = 0.1
    loss_bound_s: float = 1.0
    """What is promised; measured against, and a line in the manifest."""
    queue_bytes_max: int = 64 << 20
    """Audio on its way from the tick; beyond it frames are dropped, and stated as an overflow gap."""
    queue_values_max: int = 65_536
    contacts_max: int = 4_096
    tracks_max: int = 256
    """Tracks of one contact, re-openings included."""
    journal_file_bytes_max: int = 64 << 20
    pending_bytes_max: int = 64 << 20
    """Records kept in memory while the disk fails; beyond it audio is dropped, and stated as a disk gap."""
    disk_retry_s: float = 1.0
    part_bytes_max: int = 32 << 20
    """A track's segment file is cut into parts of about this size."""
    stop_timeout_s: float = 10.0
    """How long a clean stop waits for deliveries; what is left is delivered after the next start."""
    delivery: DeliverySettings = field(default_factory=DeliverySettings)

    def __post_init__(self) -> None:
        require_id(self.account_id)
        require_id(self.instance_id)
        check_template(self.object_key_template)
        if not 1 <= self.chunk_ticks <= POSITIONS_MAX // 960:
            raise LocalError("chunk_ticks: a chunk holds 1 to 25 ticks of 20 ms")
        if self.chunk_ticks * TICK_MS / 1000 + 2 * self.commit_interval_s > self.loss_bound_s:
            raise LocalError("chunk_ticks and commit_interval_s leave no room under loss_bound_s")
