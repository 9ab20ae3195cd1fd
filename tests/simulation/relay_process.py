"""One life of the relay's process: its own parts, composed as `relay.server` does, without sockets, threads or clocks.

What the shells do is done here by the world's schedule: the ticker's calls, the control loop's flush, the passes of the
recorder's worker. A kill drops the object; what it had not made durable is gone with it.
"""

from __future__ import annotations

import functools
import hashlib
import ipaddress
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from recorder.capture import Captured
from recorder.events import RecordingEvent
from recorder.intake import Intake
from recorder.keys import FileKeyService
from recorder.recordings import FinishedRecording, Recordings
from recorder.scribe import Scribe
from recorder.settings import DeliverySettings, RecorderSettings
from recorder.stage import Stage
from relay.calls.effects import (
    CloseMedia,
    ContactFinished,
    ContactLogged,
    ExchangeEffect,
    ExchangeSettings,
    Identity,
    Notify,
    Queue,
    Submit,
)
from relay.calls.exchange import Exchange
from relay.calls.trunk_calls import TrunkCalls
from relay.media import CommandRefused, ControlDatagram, LegId, MediaEvent, OpenLeg
from relay.plane.intake import IntakeSettings
from relay.plane.plane import Plane
from relay.plane.stages import PlaneSettings
from signaling.contact.contact import ContactSettings
from signaling.sip import events as sip
from signaling.sip.trunks import Trunk, Trunks
from signaling.sip.user_agent import UserAgent
from signaling.softphone import messages as m
from tests.recorder.world import ACCOUNT, INSTANCE, SIGNER, PowerLoss
from tests.simulation.caller import CREDENTIALS
from tests.simulation.porter import Porter
from tests.simulation.script import Script
from tests.simulation.wire import RELAY, SimulatedSockets

if TYPE_CHECKING:
    from tests.simulation.world import World

WALL = 1_800_000_000.0
"""Unix seconds of the world's second 0."""


@dataclass(slots=True)
class Kept:
    """What outlives the process beside disk and bucket: the database, and everything that the checkers look at."""

    logged: dict[str, list[ContactLogged]] = field(default_factory=dict)
    finished: dict[str, ContactFinished] = field(default_factory=dict)
    captured: list[tuple[int, Captured]] = field(default_factory=list)
    """What the tick handed to the recorder, with the life in which it did."""
    recorder_events: list[RecordingEvent] = field(default_factory=list)
    refused_commands: list[CommandRefused] = field(default_factory=list)


def _key_service(entropy: Callable[[int], bytes]) -> FileKeyService:
    """The instance's key, the same in all lives and for the checkers; the randomness is this life's own."""
    return FileKeyService("k1", {"k1": hashlib.sha256(b"wrapping key").digest()}, entropy)


class RelayProcess:
    """Every method that takes something from outside carries out at once what follows from it."""

    def __init__(self, world: World, life: int) -> None:
        self.life = life
        self.alive = True
        self.ticks: list[tuple[float, int]] = []
        """When which tick took place."""
        self._world = world
        self._schedule = world.schedule
        self._kept = world.kept
        rng = random.Random(f"{world.seed} relay {life}")
        self._rng = rng
        script = world.script
        self.sockets = SimulatedSockets(world.wire)
        self.agent = UserAgent(sip.UserAgentSettings(), Trunks([_trunk(script)]), entropy=rng.randbytes, rng=rng)
        self.calls = TrunkCalls(self.agent, (RELAY,), {}, {}, rng.randbytes)
        self.exchange = Exchange(
            Identity(ACCOUNT, INSTANCE), _exchange_settings(script), self.calls, entropy=rng.randbytes
        )
        settings = PlaneSettings(
            legs_max=24,
            tracks_max=24,
            silent_seconds=script.silent_seconds,
            intake=IntakeSettings(packets_max=512),
        )
        self.plane = Plane(settings, self.sockets, self._capture, entropy=rng.randbytes, wall=lambda now: WALL + now)
        self._start_recorder(rng)

    def _start_recorder(self, rng: random.Random) -> None:
        self.settings = RecorderSettings(
            ACCOUNT,
            INSTANCE,
            Path("unused"),
            journal_file_bytes_max=200_000,
            delivery=DeliverySettings(delay_s_max=2.0),
        )
        self.intake = Intake(self.settings.queue_bytes_max, self.settings.queue_values_max)
        self.recordings = Recordings(self.settings, SIGNER, rng.randbytes)
        self.stage = Stage(self._world.disk, self.settings.journal_file_bytes_max)
        self.porter = Porter(
            self._schedule,
            self.stage,
            self._world.bucket,
            self.settings.delivery,
            random.Random(rng.random()),
            arrived=self._arrived,
            parked=self._world.complain,
        )
        self._delivered: list[str] = []
        self.scribe = Scribe(
            self.settings,
            intake=self.intake,
            recordings=self.recordings,
            stage=self.stage,
            key_service=_key_service(rng.randbytes),
            entropy=rng.randbytes,
            clock=lambda: self._schedule.now,
            notify=self._recorder_says,
            submit=self._submit,
        )

    def start(self) -> None:
        """Recover what an earlier life left, and begin to tick and to commit."""
        self._guarded(self.scribe.recover)
        self._origin = self._schedule.now + self._rng.random() * 0.02
        self._stalled_until = 0.0
        self._schedule.at(self._origin, lambda: self._tick(0))
        self._schedule.after(self._rng.random() * self.settings.commit_interval_s, self._commit)

    def die(self) -> None:
        self.alive = self.porter.alive = False

    def stall(self, seconds: float) -> None:
        """The tick's thread does not run for a while."""
        self._stalled_until = self._schedule.now + seconds

    # ---- the tick

    def _tick(self, number: int) -> None:
        if not self.alive:
            return
        now = self._schedule.now
        if now < self._stalled_until:
            self._schedule.at(self._stalled_until, lambda: self._tick(int((self._stalled_until - self._origin) / 0.02)))
            return
        self.ticks.append((now, number))
        events = self.plane.tick(now)
        assert self.plane.tick_number == number, "ticks are numbered by the clock"
        self._schedule.at(self._origin + (number + 1) * 0.02, lambda: self._tick(number + 1))
        if events:
            self._media_events(events)

    @property
    def tick_number(self) -> int:
        return self.ticks[-1][1] if self.ticks else -1

    def _media_events(self, events: list[MediaEvent]) -> None:
        for event in events:
            if isinstance(event, CommandRefused):
                self._kept.refused_commands.append(event)
            if not isinstance(event, ControlDatagram):
                self.exchange.media_event(event, self._schedule.now)
        self.flush()

    # ---- the recorder

    def _capture(self, captured: list[Captured]) -> None:
        self._kept.captured.extend((self.life, value) for value in captured)
        self.intake.offer(captured, self._schedule.now)

    def _commit(self) -> None:
        if not self.alive:
            return
        self._guarded(self.scribe.step)
        delivered, self._delivered = self._delivered, []
        for contact_id in delivered:
            self._guarded(functools.partial(self.scribe.delivered, contact_id))
        interval = self.settings.commit_interval_s
        self._schedule.after(interval * self._rng.uniform(0.9, 1.1), self._commit)

    def _guarded(self, do: Callable[[], None]) -> None:
        """A disk may end the process in the middle of a write."""
        if self.alive:
            try:
                do()
            except PowerLoss:
                self._world.killed()

    def _submit(self, recording: FinishedRecording) -> None:
        self.porter.submit(recording)

    def _arrived(self, contact_id: str) -> None:
        self._world.note("store", "has", contact_id)
        self._delivered.append(contact_id)

    def _recorder_says(self, event: RecordingEvent) -> None:
        self._world.note("recorder", type(event).__name__)
        self._kept.recorder_events.append(event)

    # ---- trunks

    def receive_sip(self, data: bytes, flow: sip.Flow) -> None:
        self.agent.receive(data, flow, self._schedule.now)
        self.flush()

    def flow_closed(self, flow_id: sip.FlowId) -> None:
        self.agent.flow_closed(flow_id, self._schedule.now)
        self.flush()

    # ---- softphones

    def log_in(self, user: str, session_id: str) -> m.LoggedIn:
        try:
            return self.exchange.log_in(user, "agent", session_id, self._schedule.now)
        finally:
            self.flush()

    def request(self, session_id: str, request: m.Request) -> str | None:
        """Serve it, without what follows: `flush` comes when the world has taken note. Returns why it was refused."""
        try:
            self.exchange.request(session_id, request, self._schedule.now)
        except m.RequestError as error:
            return str(error)
        return None

    def set_state(self, session_id: str, state: m.SettableState) -> None:
        self.request(session_id, m.SetState(state))
        self.flush()

    def session_closed(self, session_id: str) -> None:
        self.exchange.session_closed(session_id, self._schedule.now)
        self.flush()

    def leg_connecting(self, session_id: str) -> LegId:
        try:
            return self.exchange.leg_connecting(session_id)
        finally:
            self.flush()

    def leg_ready(self, opened: OpenLeg) -> None:
        self.exchange.leg_ready(opened, self._schedule.now)
        self.flush()

    def leg_lost(self, leg_id: LegId) -> None:
        self.exchange.leg_lost(leg_id, "consent expired", self._schedule.now)
        self.flush()

    # ---- what follows

    def handle_timers(self) -> None:
        if self.alive:
            now = self._schedule.now
            self.agent.handle_timer(now)
            self.exchange.handle_timer(now)
            self.flush()

    def flush(self) -> None:
        """Carry out everything that exchange and user agent ask for."""
        while self.alive and ((effects := self.exchange.effects()) or (messages := self.agent.poll())):
            if effects:
                for effect in effects:
                    self._carry_out(effect)
                continue
            for message in messages:
                self._carry_out_sip(message)
        self._schedule.arm(self.agent, self.handle_timers)
        self._schedule.arm(self.exchange, self.handle_timers)

    def _carry_out(self, effect: ExchangeEffect) -> None:
        match effect:
            case Submit(step):
                self.plane.apply(step)
            case Notify(session_id, notification):
                self._world.notify(session_id, notification)
            case CloseMedia(leg_id):
                self._world.close_media(leg_id)
            case ContactLogged(contact_id=contact_id):
                self._kept.logged.setdefault(contact_id, []).append(effect)
                self._world.note("log", type(effect.event).__name__)
            case ContactFinished(contact_id=contact_id):
                self._kept.finished[contact_id] = effect

    def _carry_out_sip(self, effect: sip.Effect) -> None:
        match effect:
            case sip.SendMessage(flow_id=flow_id, data=data):
                self._world.sip_leaves(flow_id, data)
            case sip.OpenFlow(request_id=request_id):
                self.agent.flow_failed(request_id, self._schedule.now)  # telephones take no connections
            case sip.CloseFlow():
                pass
            case _:
                self.exchange.sip_event(effect, self._schedule.now)


def _trunk(script: Script) -> Trunk:
    addresses = () if script.trunk_proves_itself else (ipaddress.ip_network("10.1.0.0/24"),)
    return Trunk("carrier", addresses, credentials=(CREDENTIALS,), allow_udp=True)


def _exchange_settings(script: Script) -> ExchangeSettings:
    contact = ContactSettings(offer_seconds=script.offer_seconds, after_work_seconds=script.after_work_seconds)
    queue = Queue(
        "main",
        answer=script.answer,
        waiting_source=script.waiting_source,
        recorded=script.recorded,
        contact=contact,
    )
    return ExchangeSettings(queues=(queue,), queue_of_trunk={"carrier": "main"})
