"""The world of a run: people, wires, one relay at a time, and what the script does to them."""

from __future__ import annotations

import functools
import hashlib
import random
from typing import Any

from relay.media import Address, LegId
from signaling.sip.events import FlowId
from signaling.sip.message import Response, parse
from signaling.sip.sdp import SessionDescription
from signaling.softphone import messages as m
from tests.recorder.world import NO_SPACE, Bucket, MemoryDisk
from tests.simulation import tones
from tests.simulation.caller import Caller, Message
from tests.simulation.phone import Phone
from tests.simulation.relay_process import Kept, RelayProcess
from tests.simulation.schedule import Schedule
from tests.simulation.script import Act, Script
from tests.simulation.softphone import Softphone
from tests.simulation.story import Story
from tests.simulation.wire import Wire
from tests.world.network import Conditions, Datagram

START = 1000.0
SETTLE_SECONDS = 75.0
"""For what waits longest: SIP transactions (32 s), an agent who may come back (30 s), deliveries."""
_STRANGER: Address = ("203.0.113.9", 4321)


class World:
    """One run of a script; `run` leaves everything for the checkers."""

    def __init__(self, script: Script, seed: str) -> None:
        self.script = script
        self.seed = seed
        self.schedule = Schedule(START)
        self.wire = Wire(self.schedule, seed, self._tap)
        self.disk = MemoryDisk()
        self.bucket = Bucket()
        self.kept = Kept()
        self.story = Story(script)
        self.lives: list[RelayProcess] = []
        self.relay: RelayProcess | None = None
        self.life = 0
        self.complaints: list[str] = []
        self.trace: list[str] = []
        self._digest = hashlib.sha256()
        self._random = random.Random(f"{seed} faults")
        voices = list(tones.VOICES_HZ)
        random.Random(f"{seed} voices").shuffle(voices)
        self.callers = {plan.name: Caller(self, plan, i, voices.pop()) for i, plan in enumerate(script.callers)}
        self.agents = {plan.name: Softphone(self, plan, i, voices.pop()) for i, plan in enumerate(script.agents)}
        self.phones: dict[str, Phone] = {
            **{name: each.phone for name, each in self.callers.items()},
            **{name: each.phone for name, each in self.agents.items()},
        }
        for phone in self.phones.values():
            self.wire.join(phone, script.media)

    def run(self) -> None:
        self.start_relay()
        for each in self.script.acts:
            self.schedule.at(START + each.at, functools.partial(self._perform, each))
        self.schedule.run(START + self.script.seconds)
        for agent in self.agents.values():
            agent.close_page()
        self.schedule.run(START + self.script.seconds + 1.0)
        self._settle()

    def _settle(self) -> None:
        """Let timers run out and deliveries arrive; nobody speaks any more, so the ticks may pause."""
        if self.relay is not None:
            self.relay.stall(SETTLE_SECONDS)
        self.schedule.run(self.schedule.now + SETTLE_SECONDS + 1.0)

    # ---- what is kept of the run

    def note(self, who: str, what: str, *values: object) -> None:
        """One line of the trace."""
        line = " ".join([f"{self.schedule.now - START:10.6f}", who, what, *map(str, values)])
        self.trace.append(line)
        self._digest.update(line.encode())

    def complain(self, what: str) -> None:
        self.complaints.append(what)

    @property
    def digest(self) -> str:
        """Of the whole run, every datagram and every delivered byte included."""
        whole = self._digest.copy()
        for key, data in sorted(self.bucket.objects.items()):
            whole.update(key.encode() + data)
        return whole.hexdigest()

    def _tap(self, name: str, datagram: Datagram) -> None:
        assert self.relay is not None, "only a relay sends here"
        self._digest.update(datagram.data)
        self.phones[name].overhear(datagram, self.relay.life, self.relay.tick_number)

    # ---- between people and the relay

    @staticmethod
    def reliable(conditions: Conditions) -> Conditions:
        """What TCP makes of a network."""
        return Conditions(delay_s=conditions.delay_s, jitter_s=conditions.jitter_s)

    def sip_arrives(self, caller: Caller, message: Message) -> None:
        if self.relay is not None:
            self.note(caller.name, "sends", _first_line(message.data))
            self.story.heard(caller.name, message.data, self.schedule.now)
            self.relay.receive_sip(message.data, caller.flow_at_relay(message.connection))

    def sip_leaves(self, flow_id: FlowId, data: bytes) -> None:
        name, _, connection = flow_id.rpartition("/")
        self.note("relay", "sends", name, _first_line(data))
        self._digest.update(data)
        self.story.said(name, data, self.schedule.now)
        caller = self.callers[name]
        message = parse(data)
        if isinstance(message, Response) and message.status == 200 and message.cseq.method == "INVITE":
            caller.answer_leaves(SessionDescription.parse(message.body))
        caller.send_down(int(connection), data)

    def notify(self, session_id: str, notification: m.Notification) -> None:
        name = session_id.rpartition("/")[0]
        if isinstance(notification, m.ContactRinging):
            number = notification.number
            caller = next((each.name for each in self.callers.values() if each.number == number), "nobody")
            self.story.rang(name, notification.contact_id, caller, self.schedule.now)
        self.agents[name].notify(session_id, notification)

    def close_media(self, leg_id: LegId) -> None:
        name = leg_id.split("/")[1]
        self.agents[name].media_closed(leg_id)

    def request(self, agent: Softphone, session_id: str, contact_id: str, action: m.ContactAction) -> None:
        relay = self.relay
        if relay is not None:
            refusal = relay.request(session_id, m.ContactRequest(action, contact_id))
            self.note(agent.name, action, refusal or "")
            self.story.asked(agent.name, contact_id, action, refusal, self.schedule.now)
            relay.flush()

    def page_lost(self, agent: Softphone, session_id: str) -> None:
        if self.relay is not None:
            self.story.page_lost(agent.name, self.schedule.now)
            self.relay.session_closed(session_id)

    def media_lost(self, agent: Softphone, leg_id: LegId) -> None:
        if self.relay is not None:
            self.story.media_lost(agent.name, self.schedule.now)
            self.relay.leg_lost(leg_id)

    # ---- the script's acts

    def _perform(self, each: Act) -> None:
        self.note("script", each.does, each.who)
        values = dict(each.values)
        if each.who in self.callers:
            self._do_to(self.callers[each.who], self.callers[each.who].phone, each, values)
        elif each.who in self.agents:
            agent = self.agents[each.who]
            if each.does in {"accept", "reject", "hold", "resume", "mute", "unmute", "complete", "hang_up"}:
                agent.ask(each.does)
            else:
                self._do_to(agent, agent.phone, each, values)
        else:
            getattr(self, f"_{each.does}")(**values)

    def _do_to(self, person: object, phone: Phone, each: Act, values: dict[str, Any]) -> None:
        match each.does:
            case "impair":
                self._impair(phone, **values)
            case "flood":
                phone.flood(phone.address if values["spoofed"] else _STRANGER, values["count"])
            case "replay":
                phone.replay(_STRANGER)
            case "new_ssrc" | "wrong_key" | "move" | "fall_silent":
                getattr(phone, each.does)(**values)
            case _:
                getattr(person, each.does)(**values)

    def _impair(self, phone: Phone, seconds: float, **changes: Any) -> None:
        """A bad network for a while."""
        path = self.wire.paths[phone.name]
        for pipe in (path.up, path.down):
            pipe.link.change(**changes)
            self.schedule.after(seconds, functools.partial(setattr, pipe.link, "conditions", self.script.media))
        phone.disturb(seconds + 1.0)

    def _stall(self, seconds: float) -> None:
        if self.relay is not None:
            self.relay.stall(seconds)
        for phone in self.phones.values():
            phone.disturb(seconds + 0.5)

    def _store_away(self) -> None:
        self.bucket.away = True

    def _store_back(self) -> None:
        self.bucket.away = False

    def _disk_full(self) -> None:
        self.disk.failing = NO_SPACE

    def _disk_free(self) -> None:
        self.disk.failing = None

    def _kill(self, *, in_write: bool) -> None:
        if in_write:
            self.disk.cut_after = self.disk.bytes_written + self._random.randint(1, 4000)
        else:
            self.killed()

    def killed(self) -> None:
        """The process is gone, now."""
        if self.relay is None:
            return
        self.note("relay", "is killed")
        self.relay.die()
        self.relay = self.wire.sockets = None
        self.story.killed(self.schedule.now)
        self.life += 1
        for caller in self.callers.values():
            caller.connections_broke()
        for agent in self.agents.values():
            agent.relay_died()

    def _restart(self) -> None:
        if self.relay is not None:
            self.disk.cut_after = None  # the kill found no write to interrupt
            self.killed()
        self.disk = self.disk.after_power_loss(lambda size: self._random.randint(0, size))
        self.start_relay()

    def start_relay(self) -> None:
        self.note("relay", "starts")
        self.relay = RelayProcess(self, self.life)
        self.lives.append(self.relay)
        self.wire.sockets = self.relay.sockets
        self.relay.start()


def _first_line(data: bytes) -> str:
    return data.split(b"\r\n", 1)[0].decode("ascii", "replace")
