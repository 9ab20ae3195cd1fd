"""Brings finished recordings from the stage to the bucket, as the courier does, in the world's time.

The policy is the product's (`recorder.delivery`); only the thread and its event loop are not here.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass

from recorder.delivery import Delivered, Delivery, Parked, Put, Wait
from recorder.errors import RemoteError, Unavailable
from recorder.recordings import FinishedRecording
from recorder.settings import DeliverySettings
from recorder.stage import Stage
from tests.recorder.world import Bucket
from tests.simulation.schedule import Schedule

_PUT_SECONDS = 0.004


@dataclass(slots=True)
class Porter:
    """All deliveries of one life of the relay."""

    schedule: Schedule
    stage: Stage
    bucket: Bucket
    settings: DeliverySettings
    rng: random.Random
    arrived: Callable[[str], None]
    parked: Callable[[str], None]
    alive: bool = True
    failures: int = 0

    def submit(self, recording: FinishedRecording) -> None:
        delivery = Delivery(recording, self.settings, self.rng, self.schedule.now)
        self.schedule.after(_PUT_SECONDS, lambda: self._go_on(delivery))

    def _go_on(self, delivery: Delivery) -> None:
        if not self.alive:
            return
        match delivery.next(self.schedule.now):
            case Put(entry):
                self._put(delivery, delivery.recording.directory + entry.name, entry.name, entry.sha256)
                self.schedule.after(_PUT_SECONDS, lambda: self._go_on(delivery))
            case Wait(seconds):
                self.schedule.after(seconds, lambda: self._go_on(delivery))
            case Delivered():
                self.arrived(delivery.recording.contact_id)
            case Parked(reason):
                self.parked(reason)

    def _put(self, delivery: Delivery, key: str, name: str, digest: str) -> None:
        data = self.stage.read(delivery.recording.contact_id, name)
        assert hashlib.sha256(data).hexdigest() == digest, "the stage gives back what was written to it"
        try:
            self.bucket.put(key, data)
        except Unavailable:
            self.failures += 1
            delivery.failed(self.schedule.now)
        except RemoteError as error:
            delivery.conflict(str(error))
        else:
            delivery.stored()
