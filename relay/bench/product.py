"""The whole product as the relay of a benchmark, with a store that is slow and a log that says everything."""

from __future__ import annotations

import asyncio
import random
import secrets
import sys
import time
from contextlib import AsyncExitStack
from typing import Any, Final

from pydantic import SecretStr

from recorder.courier import Destination
from recorder.events import RecordingEvent
from recorder.store import Store, StoreSettings
from relay import logs, recording_setup
from relay.bench.recording import DELIVER_SECONDS_MAX, Delivered
from relay.bench.work import CONTACT_PREFIX, Work
from relay.config import LogSettings, QueueSettings, Settings, TrunkSettings
from relay.data_directory import DataDirectory
from relay.right_of_way import RightOfWay
from relay.server import Relay, Variation
from signaling import access

AGENTS: Final = 40
"""Softphones that connect and disconnect media in turn."""
GUESSED_USERS: Final = 8
"""Users whose tokens the flood of log-ins knows, or knows half of."""
LEGS_BESIDE: Final = 500
"""Room for the legs of calls that are set up beside those that are measured."""
STORE_SECONDS: Final = (0.2, 2.0)
"""How long the store takes for an object."""
_WATCH_SECONDS: Final = 0.2


class SlowStore:
    """A store that takes its time, until it need not any more."""

    def __init__(self, store: Store, rng: random.Random) -> None:
        self.is_slow = True
        self._store = store
        self._rng = rng

    async def deliver(self, key: str, data: bytes) -> None:
        """Store it, later."""
        if self.is_slow:
            await asyncio.sleep(self._rng.uniform(*STORE_SECONDS))
        await self._store.deliver(key, data)


class ProductRecorder:
    """What the product's recorder delivers of the contacts that are measured."""

    def __init__(self, settings: Settings, data: DataDirectory, work: Work) -> None:
        files = recording_setup.key_files(settings, data)
        self._work = work
        self._store = Store.open(recording_setup.store_settings(settings, data))
        self._slow = SlowStore(self._store, random.Random())  # noqa: S311 - no secret
        self._delivered = Delivered(files, self._store)

    @property
    def problems(self) -> list[str]:
        """What went wrong."""
        return self._delivered.problems

    def open_store(self, _settings: StoreSettings) -> Destination:
        """Where the product delivers to."""
        return self._slow

    def takes(self, event: RecordingEvent) -> bool:
        """The product keeps no records of contacts that never called."""
        if event.contact_id is None or not event.contact_id.startswith(CONTACT_PREFIX):
            return False
        self._delivered.notified(event)
        return True

    async def finish(self, seconds: float) -> int:
        """Wait until all is delivered; how many tracks hold at least so many seconds."""
        self._slow.is_slow = False
        for _ in range(round(DELIVER_SECONDS_MAX / _WATCH_SECONDS)):
            if self._missing() == 0:
                break
            await asyncio.sleep(_WATCH_SECONDS)
        if missing := self._missing():
            self.problems.append(f"{missing} recordings were not delivered in time")
        return self._delivered.whole_tracks(seconds)

    def _missing(self) -> int:
        return len(self._work.conferences) - len(self._delivered)


class Product:
    """A running relay, and what it has done so far."""

    def __init__(self, relay: Relay, recorder: ProductRecorder, password: str, tokens: dict[str, list[str]]) -> None:
        self.relay = relay
        self.recorder = recorder
        self._password = password
        self._tokens = tokens

    @classmethod
    async def start(cls, work: Work, settings: Settings, right_of_way: RightOfWay, stack: AsyncExitStack) -> Product:
        """Start all of it, in the data directory of the settings."""
        password = secrets.token_urlsafe(12)
        settings = _busy(settings, password)
        log = stack.enter_context((settings.data_dir / "relay.log").open("w"))
        logs.configure(settings.log, log)
        stack.callback(logs.configure, LogSettings(), sys.stderr)
        data = DataDirectory.open(settings.data_dir)
        recorder = ProductRecorder(settings, data, work)
        variation = Variation(open_store=recorder.open_store, takes=recorder.takes)
        relay = await Relay.start(settings, data, stack, right_of_way=right_of_way, variation=variation)
        tokens = {
            "agents": [await _user(relay, f"agent-{number}") for number in range(AGENTS)],
            "guessed": [await _user(relay, f"guessed-{number}") for number in range(GUESSED_USERS)],
        }
        return cls(relay, recorder, password, tokens)

    def where(self) -> dict[str, Any]:
        """What its callers must know."""
        ready = self.relay.ready(self._password)
        return {
            "sips_address": ready.sips_address,
            "softphone_url": ready.softphone_url.replace("https://", "wss://") + "softphone",
            "ca_file": ready.ca_file,
            "password": self._password,
            **self._tokens,
        }

    def done(self) -> dict[str, int]:
        """Counted where it is complete: calls confirmed, keys handed over, log-ins answered, rows committed."""
        parts = self.relay.parts
        dtls = parts.transports.counters.legs_ready
        sockets = parts.softphones.counters
        return {
            "setups": parts.exchange.counts["calls confirmed"] + dtls,
            "dtls_setups": dtls,
            "logins": sockets.logged_in + sockets.log_ins_failed,
            "events": parts.writer.written["events"],
        }


async def _user(relay: Relay, name: str) -> str:
    return (await relay.database.add_user(name, access.Role.AGENT, wall=time.time())).reveal()


def _busy(settings: Settings, password: str) -> Settings:
    trunk = TrunkSettings(name="bench", username="bench", password=SecretStr(password))
    limits = settings.limits
    return settings.model_copy(
        update={
            "sip": settings.sip.model_copy(update={"port": 0}),
            "https": settings.https.model_copy(update={"port": 0}),
            "trunks": (trunk,),
            "queues": (QueueSettings(recorded="both", after_work_seconds=0),),
            "recording": settings.recording.model_copy(update={"enabled": True}),
            "limits": limits.model_copy(update={"drain_seconds": 1.0}),
            "log": LogSettings(level="debug", format="json"),
        }
    )


def room_beside(settings: Settings, work: Work) -> Settings:
    """The product's settings with room for what is measured, and for what comes and goes beside it."""
    beside = LEGS_BESIDE if work.busy else 0
    media, limits = settings.media, settings.limits
    return settings.model_copy(
        update={
            "media": media.model_copy(update={"legs_max": max(media.legs_max, work.legs + beside)}),
            "limits": limits.model_copy(
                update={"contacts_max": max(limits.contacts_max, len(work.conferences) + beside)}
            ),
        }
    )
